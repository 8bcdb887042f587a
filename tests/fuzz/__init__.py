"""Requests that no client of ours would send: refused by field or blocked, never allowed, never a fault."""
