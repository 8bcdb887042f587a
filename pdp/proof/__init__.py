"""What is signed of decisions, and of what became of them. Formats are the client's (`placet.receipt`)."""
