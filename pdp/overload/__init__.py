"""More calls than can be answered in time: what is begun, what waits, what is refused."""
