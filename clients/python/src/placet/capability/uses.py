"""Which receipts were used, until they expire by themselves."""

from __future__ import annotations

import heapq
from typing import Protocol

from placet._locks import ForkLock
from placet.capability.check import CapabilityError


class Uses(Protocol):
    """Lets each decision be used once. Several processes of one tool server share one."""

    def claim(self, decision_id: str, *, until: float, now: float) -> bool:
        """Return whether this is its first use.

        Implementations MUST decide atomically for all who share them, MUST remember a use until
        `until` (Unix seconds) at least, and MUST raise when they do not know.
        """
        ...


class MemoryUses:
    """`Uses` of one process. It remembers `capacity` unexpired uses; more receipts are refused."""

    def __init__(self, capacity: int = 100_000) -> None:
        self._capacity = capacity
        self._used: set[str] = set()
        self._ends: list[tuple[float, str]] = []
        self._lock = ForkLock()

    def claim(self, decision_id: str, *, until: float, now: float) -> bool:
        """See `Uses.claim`. Raises `CapabilityError` when it is full."""
        with self._lock:
            while self._ends and self._ends[0][0] <= now:
                self._used.discard(heapq.heappop(self._ends)[1])
            if decision_id in self._used:
                return False
            if len(self._used) >= self._capacity:
                raise CapabilityError("capability.unavailable", "too many unexpired receipts were used")
            self._used.add(decision_id)
            heapq.heappush(self._ends, (until, decision_id))
            return True
