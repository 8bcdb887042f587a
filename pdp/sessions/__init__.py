"""The run of a task: who may open it, whose it is, and which tools are left in it."""
