"""The tables that recordings lock, read and write: one file a table, which says all of it."""
