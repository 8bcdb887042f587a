"""On whose behalf: grants, what lies within what, and what a chain of them proves."""
