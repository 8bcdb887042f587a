"""The pipeline: enrich, decide, sign, record. Start at `point.py`."""
