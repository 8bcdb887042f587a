"""What operators write: by whom and why, in the histories and in the log."""
