"""The store: PostgreSQL 15 to 18 behind the ports of `pdp.ports`. Start at `store.py`."""
