"""How long to wait before asking an overloaded server again, if at all.

The server's hint is RetryInfo (google.rpc). It is obeyed within the call's own deadline: the same
call is sent again, as the same attempt. Where the hint does not fit, there is no point in waiting.
Where the server says that it turns others away too, the other calls of the client wait as well
instead of asking each for itself.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from datetime import timedelta

from placet.errors import OverloadedError, PlacetError

# Failures that pass: the server says when it makes sense to ask again.
_PASSING = frozenset({"OVERLOADED", "SESSION_CONTENDED"})
# The longest that a refusal holds other calls back, in seconds.
_LONGEST_HOLD = 5.0
# A call that had too little time speaks for those that have up to this many times as much.
_ABOUT = 1.25


def pause(error: PlacetError, left: float) -> float | None:
    """Return how many seconds to wait before sending the call again; None: it has failed.

    `left` is how many seconds the call still has. Never sooner than the hint, and up to half as
    long again, so that those who were turned away together do not come back together.
    """
    if error.reason not in _PASSING or error.retry_after is None:
        return None
    wait = max(error.retry_after.total_seconds(), 0.01) * random.uniform(1.0, 1.5)
    return wait if wait < left else None


class OverloadNotice:
    """What a client's calls have heard of its server's overload: one for all of them.

    Safe to share between threads: what is heard replaces what was heard before, as a whole.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        # Until when calls are held back, for how long that was, and which: calls that have at most so much
        # time left. All in seconds.
        self._held = (-float("inf"), 0.0, 0.0)

    def note(self, error: PlacetError, left: float) -> None:
        """Note that a call that had `left` seconds when it was sent has failed."""
        if error.reason != "OVERLOADED" or error.retry_after is None:
            return
        if error.others not in ("all", "hurried"):
            return
        for_up_to = float("inf") if error.others == "all" else left * _ABOUT
        span = min(max(error.retry_after.total_seconds(), 0.0), _LONGEST_HOLD)
        self._held = (self._clock() + span, span, for_up_to)

    def seconds(self, left: float) -> float:
        """Return how many seconds a call that has `left` must wait before it makes sense to send it.

        0 for one that may be sent now. Up to half as long again as the server asked for, so that
        the first ones hear how the server is before the others ask.
        """
        until, span, for_up_to = self._held
        held = until - self._clock()
        if held <= 0 or left > for_up_to:
            return 0.0
        return held + random.uniform(0.0, span / 2)

    def check(self, left: float) -> None:
        """Raise `OverloadedError` for a call that must wait: the one that the server would answer with."""
        wait = self.seconds(left)
        if wait:
            raise OverloadedError(
                "the server turned others away, and would this call",
                reason="OVERLOADED",
                retry_after=timedelta(seconds=wait),
            )
