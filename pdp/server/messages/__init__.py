"""Messages to values and back, one file a noun."""
