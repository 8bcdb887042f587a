"""The ledger: recordings gathered, applied to locked rows, committed together.

`ledger.py` gathers, `stream.py` has the steps of one transaction. A recording that depends on one more table
takes: a file in `tables/` with what is locked and what is written, a line each in `locking.py` and
`writing.py`, and the rule in `recording.py`.
"""
