"""How often each caller may make a call."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

from pdp.errors import QuotaExceededError
from pdp.model import Caller

_MAX_CALLERS = 4096


class Rate:
    """A token bucket for each caller: `burst` calls at once, and `per_second` more each second.

    Bounded: beyond 4,096 callers the one that called longest ago is forgotten, and has a full burst.
    """

    def __init__(
        self,
        *,
        name: str,
        what: str,
        burst: float,
        per_second: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`name` is what callers know the limit by, `what` says in the plural what it counts."""
        self._name = name
        self._what = what
        self._burst = burst
        self._per_second = per_second
        self._clock = clock
        # By tenant and subject: how many calls were left of a caller's burst, and when.
        self._left: OrderedDict[tuple[str, str], tuple[float, float]] = OrderedDict()

    def charge(self, caller: Caller) -> None:
        """Count a call. Raises `QuotaExceededError` for a caller that has none left."""
        key, now = (caller.tenant, caller.subject), self._clock()
        left, at = self._left.pop(key, (self._burst, now))
        left = min(self._burst, left + (now - at) * self._per_second)
        self._left[key] = (left - 1 if left >= 1 else left, now)
        if len(self._left) > _MAX_CALLERS:
            self._left.popitem(last=False)
        if left < 1:
            raise QuotaExceededError(
                (1 - left) / self._per_second,
                quota=self._name,
                size=f"{self._per_second:g} {self._what} a second by one caller on one replica, "
                f"{self._burst:g} at once",
                advice="wait as long as the hint says",
            )
