"""How long work takes now, as far as that is known."""

from __future__ import annotations

import time
from collections.abc import Callable

# A shorter time is believed sooner than a longer one: too low an estimate wastes some work, too
# high a one turns away what could have been done.
_FALL, _RISE = 1 / 4, 1 / 8
# An estimate that nothing confirms stands for a second, and then halves every second. Otherwise work
# that was slow once would turn everybody away for good: nobody would get far enough to find it fast.
_STANDS = 1.0
_HALF_LIFE = 1.0


class LatencyEstimate:
    """A moving average of seconds, 0 while nothing is known; it fades when nothing is measured."""

    __slots__ = ("_at", "_clock", "_seconds")

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seconds = 0.0
        self._at = clock()

    def seconds(self) -> float:
        """Return the estimate for work that begins now; 0 while nothing is known."""
        if not self._seconds:
            return 0.0
        unconfirmed = self._clock() - self._at - _STANDS
        if unconfirmed <= 0:
            return self._seconds
        return float(self._seconds * 0.5 ** (unconfirmed / _HALF_LIFE))

    def took(self, seconds: float) -> None:
        """Take note that work was done in so many seconds."""
        now = self.seconds()
        self._move(now, seconds, _FALL if seconds < now else _RISE)

    def took_longer_than(self, seconds: float) -> None:
        """Take note that work was given up after so many seconds: it would have taken longer."""
        now = self.seconds()
        if seconds > now:
            self._move(now, seconds, _RISE)

    def _move(self, now: float, seconds: float, weight: float) -> None:
        self._seconds = now + weight * (seconds - now)
        self._at = self._clock()
