"""How long to wait before asking an overloaded server again, if at all.

The server's hint is RetryInfo (google.rpc). It is obeyed within the call's own deadline: the same
call is sent again, as the same attempt. Where the hint does not fit, there is no point in waiting.
"""

from __future__ import annotations

import random

from placet.errors import PlacetError

# Failures that pass: the server says when it makes sense to ask again.
_PASSING = frozenset({"OVERLOADED", "SESSION_CONTENDED"})


def pause(error: PlacetError, left: float) -> float | None:
    """Seconds to wait before sending the call again; None: it has failed.

    `left` is how many seconds the call still has. Never sooner than the hint, and up to half as
    long again, so that those who were turned away together do not come back together.
    """
    if error.reason not in _PASSING or error.retry_after is None:
        return None
    wait = max(error.retry_after.total_seconds(), 0.01) * random.uniform(1.0, 1.5)
    return wait if wait < left else None
