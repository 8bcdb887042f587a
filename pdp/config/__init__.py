"""What the server is started with: its own settings, and who may call."""
