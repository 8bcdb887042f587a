"""The store behind the ports, on PostgreSQL 15 to 18. Start at `store.py`."""
