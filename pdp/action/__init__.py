"""What a call means: derived from its arguments by the registry, never taken from the caller."""
