"""The ledger: recordings gathered, applied to locked rows, committed together."""
