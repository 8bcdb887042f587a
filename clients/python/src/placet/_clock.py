"""A clock that only goes forward.

Internal, without any promise of stability.
"""

from __future__ import annotations

import time
from collections.abc import Callable

# Seconds since some instant; the same for all processes of a machine.
SteadyClock = Callable[[], float]


def steady() -> float:
    """Return the seconds of a clock that nobody sets, and that goes on while the machine sleeps.

    `time.monotonic()` stands still during suspend on Linux: an allow would outlive it.
    """
    if hasattr(time, "CLOCK_BOOTTIME"):
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()
