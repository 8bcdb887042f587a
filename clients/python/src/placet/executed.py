"""What this process knows to have been executed: actions of a plan wait for those before them."""

from __future__ import annotations

import threading
from collections import OrderedDict


class Executed:
    """Ids of decisions whose actions were executed; the oldest are forgotten. Safe between threads."""

    def __init__(self, size: int = 4096) -> None:
        self._size = size
        self._lock = threading.Lock()
        self._ids: OrderedDict[str, None] = OrderedDict()

    def add(self, decision_id: str) -> None:
        with self._lock:
            self._ids[decision_id] = None
            self._ids.move_to_end(decision_id)
            while len(self._ids) > self._size:
                self._ids.popitem(last=False)

    def __contains__(self, decision_id: object) -> bool:
        with self._lock:
            return decision_id in self._ids
