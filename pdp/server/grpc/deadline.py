"""The caller's deadline as an instant of `time.monotonic()`."""

from __future__ import annotations

import time
from typing import Any

from pdp.errors import DeadlineExceededError

# Seconds: for a caller who sets no deadline, and the longest that anybody may ask for.
DEFAULT = 5.0
LONGEST = 120.0


def deadline_of(context: Any) -> float:
    """Return the call's deadline, no later than `LONGEST` from now."""
    remaining = context.time_remaining()
    return time.monotonic() + (DEFAULT if remaining is None else min(remaining, LONGEST))


def too_late(exc: TimeoutError) -> DeadlineExceededError:
    """Return the failure that a call's time-out is to its caller."""
    failure = DeadlineExceededError("the deadline passed before there was an answer")
    failure.__cause__ = exc
    return failure
