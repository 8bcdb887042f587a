"""A monotonic clock that tests move."""

from __future__ import annotations


class ManualClock:
    """Counts seconds, and stands still until it is moved."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds
