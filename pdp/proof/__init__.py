"""What is signed of decisions and of what became of them, in the formats of the client's wheel."""
