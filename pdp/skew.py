"""How far this machine's clock is from the database's. Pure.

The database's clock orders expiries and windows; this machine's judges tokens and certificates. A replica on
which the two disagree would believe credentials that have ended, or refuse such as are good.
"""

from __future__ import annotations

import math
from collections import deque

# Seconds by which the clocks may differ.
MAX_SKEW = 2.0
# A sample whose answer took longer (seconds) says nothing: who knows when the database looked at its clock.
MAX_ROUND_TRIP = 0.5
# So many samples in a row have to agree, lest one that was odd stops a replica.
SAMPLES = 5


class ClockSkew:
    """Judges samples of the two clocks: `is_off` once the latest all say that they are too far apart.

    It is so until the latest all say that they are not. Without a sample nothing is known, and it is not.
    """

    def __init__(self) -> None:
        self.is_off = False
        # Seconds by which this machine's clock was ahead of the database's in the latest sample that
        # counts; NaN before there was one.
        self.ahead = math.nan
        self._latest: deque[bool] = deque(maxlen=SAMPLES)

    def add(self, *, local: float, database: float, round_trip: float) -> bool:
        """Take a sample; return whether `is_off` has changed.

        `local` and `database` are the two clocks (Unix seconds) at the middle of a question to the database
        that took `round_trip` seconds; the database may have looked at its own at any time of it.
        """
        if round_trip > MAX_ROUND_TRIP:
            return False
        self.ahead = local - database
        self._latest.append(abs(self.ahead) - round_trip / 2 > MAX_SKEW)
        if len(self._latest) < SAMPLES or len(set(self._latest)) > 1 or self._latest[0] is self.is_off:
            return False
        self.is_off = self._latest[0]
        return True

    @property
    def is_settled(self) -> bool:
        """Whether the latest samples say what `is_off` does, and there are enough of them."""
        return len(self._latest) == SAMPLES and set(self._latest) == {self.is_off}
