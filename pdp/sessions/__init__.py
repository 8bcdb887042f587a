"""The run of a task: who may open, see and end it, and which tools are left in it."""
