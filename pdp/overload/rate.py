"""How often each caller may make a call."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

from pdp.errors import OverloadedError
from pdp.model import Caller

_MAX_CALLERS = 4096


class Rate:
    """A token bucket for each caller: `burst` calls at once, and `per_second` more each second.

    Bounded: beyond 4,096 callers the one that called longest ago is forgotten, and has a full burst.
    """

    def __init__(
        self, *, burst: float, per_second: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._burst = burst
        self._per_second = per_second
        self._clock = clock
        # By tenant and subject: how many calls were left of a caller's burst, and when.
        self._left: OrderedDict[tuple[str, str], tuple[float, float]] = OrderedDict()

    def charge(self, caller: Caller) -> None:
        """Count a call. Raises `OverloadedError` for a caller that has none left."""
        key, now = (caller.tenant, caller.subject), self._clock()
        left, at = self._left.pop(key, (self._burst, now))
        left = min(self._burst, left + (now - at) * self._per_second)
        self._left[key] = (left - 1 if left >= 1 else left, now)
        if len(self._left) > _MAX_CALLERS:
            self._left.popitem(last=False)
        if left < 1:
            raise OverloadedError((1 - left) / self._per_second)
