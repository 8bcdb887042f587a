"""What this process knows of actions that were executed, since those of a plan wait for the ones before them.

Internal, without any promise of stability.
"""

from __future__ import annotations

from collections import OrderedDict

from placet._locks import ForkLock


class Executed:
    """Ids of decisions that were acted on, or executed; the oldest are forgotten. Safe between threads."""

    def __init__(self, size: int = 4096) -> None:
        self._size = size
        self._lock = ForkLock()
        # By decision id: True once the action was executed, False while it is only acted on.
        self._ids: OrderedDict[str, bool] = OrderedDict()

    def begin(self, decision_id: str) -> bool:
        """Note that the decision is acted on; False if it was before."""
        with self._lock:
            if decision_id in self._ids:
                return False
            self._put(decision_id, executed=False)
            return True

    def add(self, decision_id: str) -> None:
        """Note that the decision's action was executed."""
        with self._lock:
            self._put(decision_id, executed=True)

    def __contains__(self, decision_id: object) -> bool:
        """Return whether the decision's action was executed."""
        with self._lock:
            return isinstance(decision_id, str) and self._ids.get(decision_id, False)

    def _put(self, decision_id: str, *, executed: bool) -> None:
        self._ids[decision_id] = executed
        self._ids.move_to_end(decision_id)
        while len(self._ids) > self._size:
            self._ids.popitem(last=False)
