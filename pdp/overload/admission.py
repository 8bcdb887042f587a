"""Admission: which calls are begun when there are more than can be answered in time.

A call is turned away at once, before any work on it, when

1. as many decisions are in flight as the process may hold (memory is bounded), or
2. what is left of its deadline is less than a decision needs now.

*What a decision needs now* is one number: the seconds that recent decisions took, while no more
were in flight than go together in one batch; beyond a batch they queue, and the time grows with
their number (Little's law). While no decision is being judged a call is always begun: the estimate
must not be the reason why there is nothing to measure.

A call is looked at three times, since time passes in between: at the server's edge (`check`), before
anything else is done for it; when it takes its place among those in flight (`enter`), once it is
known who asks and for how many decisions; and when its session's turn has come (`judging`), which may
have taken most of its time.

Queues are served in order of arrival: a session's actions have an order, and since nothing is
admitted that cannot be answered, the oldest call in a queue is still worth its work. (Last in,
first out would decide the newest and let the others expire; it helps only where queues outgrow
deadlines.) A call that turns out to be too late all the same is dropped when its turn comes, or
when a batch is made up.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pdp.errors import DeadlineExceededError, OverloadedError
from pdp.overload.latency import LatencyEstimate
from pdp.overload.queue_stats import QueueStats

# So many decisions go through a stage together and cost each other little; more wait in line.
TOGETHER = 32
MAX_IN_FLIGHT = 1024
# Bounds of the hint when to come back, seconds.
_SOONEST, _LATEST = 0.05, 2.0


class Admission:
    """Counts and measures the decisions in flight in this process."""

    def __init__(
        self, *, max_in_flight: int = MAX_IN_FLIGHT, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._max_in_flight = max_in_flight
        self._clock = clock
        self._pace = LatencyEstimate(clock)
        self._in_flight = 0
        # How many of the decisions in flight have their session's turn, and so are worked on.
        self._judging = 0
        self._dropped: Counter[str] = Counter()

    @property
    def of_a_session(self) -> int:
        """How many decisions that one caller asks for in a session may be in flight: not all places."""
        return max(1, self._max_in_flight // 4)

    def load(self) -> QueueStats:
        """Return how many decisions are in flight, and how many calls were turned away."""
        return QueueStats(waiting=self._in_flight, dropped=dict(self._dropped))

    def need(self) -> float:
        """Return how many seconds a decision takes that begins now."""
        return self._pace.seconds() * max(1.0, (self._judging + 1) / TOGETHER)

    def hint(self) -> float:
        """Return after how many seconds it makes sense to ask again."""
        return min(max(self.need(), _SOONEST), _LATEST)

    def check(self, deadline: float, places: int = 1) -> None:
        """Raise `OverloadedError` or `DeadlineExceededError` for a call that must not be begun.

        `deadline` is an instant of the clock; `places` how many decisions it asks for.
        """
        if self._in_flight + self._taken(places) > self._max_in_flight:
            self._dropped["full"] += 1
            full = self._in_flight >= self._max_in_flight
            raise OverloadedError(self.hint(), others="all" if full else "")
        self._check_time(deadline)

    def _taken(self, places: int) -> int:
        """Return how many places a call takes: no more than one session may have, or a long plan
        would never find enough of them free."""
        return min(places, self.of_a_session)

    @contextmanager
    def enter(self, deadline: float, places: int = 1) -> Iterator[None]:
        """Hold the places of a call. Raises as `check` does."""
        self.check(deadline, places)
        self._in_flight += self._taken(places)
        try:
            yield
        finally:
            self._in_flight -= self._taken(places)

    @contextmanager
    def judging(self, deadline: float, places: int = 1) -> Iterator[None]:
        """Measure decisions that are judged together, from their turn to their answer.

        Raises `OverloadedError` or `DeadlineExceededError` if the turn came too late for them.
        """
        self._check_time(deadline)
        self._judging += places
        beside, began = self._judging, self._clock()
        try:
            yield
        except BaseException:
            # It failed, was late or was given up: it would have taken longer, or tells nothing.
            self._pace.took_longer_than(self._in_a_batch(began, beside))
            raise
        else:
            self._pace.took(self._in_a_batch(began, beside))
        finally:
            self._judging -= places

    def _check_time(self, deadline: float) -> None:
        left = deadline - self._clock()
        if left <= 0:
            self._dropped["late"] += 1
            raise DeadlineExceededError("the deadline passed before the call was begun")
        if self._judging and left < self.need():
            self._dropped["late"] += 1
            raise OverloadedError(self.hint(), others="hurried")

    def _in_a_batch(self, began: float, beside: int) -> float:
        """Return the seconds since `began`, without what waiting in line beyond one batch cost."""
        return (self._clock() - began) * TOGETHER / max(beside, self._judging, TOGETHER)
