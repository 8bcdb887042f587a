"""Admission: which calls are begun when there are more than can be answered in time.

A call is turned away at once, before any work on it, when

1. as many decisions are in flight as the process may hold (memory is bounded), or
2. what is left of its deadline is less than a decision needs now.

*What a decision needs now* is one number: the seconds that recent decisions took, while no more
were in flight than go together in one batch; beyond a batch they queue, and the time grows with
their number (Little's law). A call that nothing is before is always begun: the estimate is never
the reason why there is nothing to measure.

Queues are served in order of arrival: a session's actions have an order, and since nothing is
admitted that cannot be answered, the oldest call in a queue is still worth its work. (Last in,
first out would decide the newest and let the others expire; it helps only where queues outgrow
deadlines.) What turns out too late all the same is dropped when its turn comes, or a batch is
made up.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pdp.errors import DeadlineExceededError, OverloadedError
from pdp.overload.latency import LatencyEstimate
from pdp.overload.queue_stats import QueueStats

# Decisions that go through a stage together cost each other little; beyond, they wait in line.
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
        # Those of them that have their session's turn, and so are worked on.
        self._judging = 0
        self._dropped: Counter[str] = Counter()

    @property
    def of_a_session(self) -> int:
        """How many calls of one session may be in flight: one session must not fill all places."""
        return max(1, self._max_in_flight // 4)

    def load(self) -> QueueStats:
        """How many decisions are in flight, and how many calls were turned away."""
        return QueueStats(waiting=self._in_flight, dropped=dict(self._dropped))

    def need(self) -> float:
        """Seconds that a decision which begins now will take."""
        return self._pace.seconds() * max(1.0, (self._judging + 1) / TOGETHER)

    def hint(self) -> float:
        """Seconds after which it makes sense to ask again."""
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
        """A plan takes no more than one session may, so that there is always room for it some time."""
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
        """Measure decisions that go together, from their turn to their answer. Raises if the turn
        came too late."""
        self._check_time(deadline)
        self._judging += places
        beside, began = self._judging, self._clock()
        try:
            yield
        except BaseException:
            # Failed, late or given up: it would have taken longer, or says nothing.
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
        """Seconds since `began`, less what the line beyond one batch cost."""
        return (self._clock() - began) * TOGETHER / max(beside, self._judging, TOGETHER)
