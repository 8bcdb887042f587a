"""Facts: what an action must be judged on, read for a whole batch in one statement."""
