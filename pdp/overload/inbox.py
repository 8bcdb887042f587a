"""Calls that wait to be served together."""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter, deque
from collections.abc import Callable
from typing import Generic, TypeVar

from pdp.errors import DeadlineExceededError, OverloadedError, PdpError
from pdp.overload.latency import LatencyEstimate
from pdp.overload.queue_stats import QueueStats

# A batch is complete after so many turns of the event loop without an arrival. gRPC hands new calls
# over one by one, a few turns apart; a turn in which nothing else is to be done takes microseconds.
QUIET_TURNS = 16

Value = TypeVar("Value")
Result = TypeVar("Result")


class Ticket(Generic[Value, Result]):
    """One call. `deadline` is an instant of `time.monotonic()`."""

    __slots__ = ("begun", "deadline", "future", "value")

    def __init__(self, value: Value, deadline: float, future: asyncio.Future[Result]) -> None:
        self.value = value
        self.deadline = deadline
        self.future = future
        # Work on it has started, so its effect may be seen.
        self.begun = False

    @property
    def done(self) -> bool:
        """Answered, or given up by its caller."""
        return self.future.done()

    def answer(self, result: Result) -> None:
        """Give the answer. Without effect on a call that is done."""
        if not self.future.done():
            self.future.set_result(result)

    def fail(self, error: PdpError) -> None:
        """Fail the call. Without effect on one that is done. `error` must be no other call's as well."""
        if not self.future.done():
            self.future.set_exception(error)


class Inbox(Generic[Value, Result]):
    """A bounded queue of calls, each answered or failed by its deadline.

    Served in order of arrival. A call that has less time left than serving a batch takes is dropped
    when it would be taken, unless nobody else is left: somebody must find out how long it takes now.
    """

    def __init__(
        self,
        *,
        capacity: int,
        overdue: Callable[[Ticket[Value, Result]], PdpError],
        late: Callable[[str], PdpError] = DeadlineExceededError,
        weigh: Callable[[Value], int] = lambda value: 0,
        batch: int = 64,
        pace: LatencyEstimate | None = None,
    ) -> None:
        """`capacity` is how many calls may wait; further ones are turned away.

        `overdue` makes the failure of a call whose deadline passes after work on it has begun; `late`
        makes that of one on which none has, of a text that says why. `weigh` says how much of a batch's
        room a call takes. `batch` is how many calls are usually served together, and `pace` how long
        that takes, if whoever serves them measures it by itself.
        """
        self._capacity = capacity
        self._overdue = overdue
        self._late = late
        self._weigh = weigh
        self._batch = batch
        self._tickets: deque[Ticket[Value, Result]] = deque()
        self._waiting = 0
        # How many calls are begun and not answered yet.
        self._serving = 0
        self._arrivals = 0
        self._last_batch = 0
        self._arrived = asyncio.Event()
        self._pace = LatencyEstimate() if pace is None else pace
        self._dropped: Counter[str] = Counter()

    def __len__(self) -> int:
        """How many calls wait."""
        return self._waiting

    def load(self) -> QueueStats:
        """Return how many calls wait, and how many were dropped."""
        return QueueStats(waiting=self._waiting, dropped=dict(self._dropped))

    def served(self, began: float) -> None:
        """Take note that a batch is done which was begun at this instant of `time.monotonic()`."""
        self._pace.took(time.monotonic() - began)

    async def ask(self, value: Value, deadline: float) -> Result:
        """Wait for the answer. Raises `OverloadedError`, what `late` makes, or the failure."""
        loop = asyncio.get_running_loop()
        left = deadline - time.monotonic()
        if left <= 0:
            raise self._late("the deadline had passed before the call")
        if self._waiting >= self._capacity:
            self._dropped["full"] += 1
            raise OverloadedError(max(0.05, self._pace.seconds() * self._waiting / self._batch), others="all")
        ticket: Ticket[Value, Result] = Ticket(value, deadline, loop.create_future())
        timer = loop.call_later(left, self._expire, ticket)
        self._tickets.append(ticket)
        self._waiting += 1
        self._arrivals += 1
        self._arrived.set()
        try:
            return await ticket.future
        except asyncio.CancelledError:
            if not ticket.begun:
                self._dropped["gone"] += 1
            raise
        finally:
            timer.cancel()
            if ticket.begun:
                self._serving -= 1
            else:
                ticket.begun = True
                self._waiting -= 1
                self._trim()
            # No reference cycles on the failure path (docs/decisions/0012-no-cycles-on-failure.md).
            del ticket

    async def until_any(self) -> None:
        """Return when somebody waits."""
        while not self._waiting:
            self._arrived.clear()
            await self._arrived.wait()

    async def until_gathered(self, most: int) -> None:
        """Return when somebody waits, and whoever else is just coming in waits too.

        There is no timer: it lets the event loop go round until no call has come in for a few turns, or
        `most` wait. A call that comes alone, after a batch of one, is not held up.
        """
        await self.until_any()
        if self._waiting == 1 and not self._serving and self._last_batch <= 1:
            return
        seen, quiet = self._arrivals, 0
        while quiet < QUIET_TURNS and self._waiting < most:
            await asyncio.sleep(0)
            quiet = quiet + 1 if self._arrivals == seen else 0
            seen = self._arrivals

    def take(self, most: int, room: float = math.inf) -> list[Ticket[Value, Result]]:
        """Begin up to `most` calls, in order of arrival, as long as there is room for them.

        The first one always has room.
        """
        taken: list[Ticket[Value, Result]] = []
        late: list[Ticket[Value, Result]] = []
        soonest = time.monotonic() + self._pace.seconds()
        while len(taken) < most and (ticket := self._next()) is not None:
            if ticket.deadline <= soonest:
                late.append(ticket)
                continue
            room -= self._weigh(ticket.value)
            if room < 0 and taken:
                self._put_back(ticket)
                break
            taken.append(ticket)
        if late and not taken:
            taken.append(max(late, key=lambda ticket: ticket.deadline))
        for ticket in late:
            if ticket not in taken:
                self._dropped["late"] += 1
                ticket.fail(self._late("too little time was left to begin"))
        if taken:
            self._last_batch = len(taken)
        return taken

    def _next(self) -> Ticket[Value, Result] | None:
        """Take the first call that somebody waits for."""
        while self._tickets:
            ticket = self._tickets.popleft()
            if ticket.begun:
                continue
            ticket.begun = True
            self._waiting -= 1
            self._serving += 1
            # A call that is done already is counted off here as well. Its caller may not have run yet
            # to do so, and whoever serves would see somebody waiting and find nobody to take, for ever.
            if not ticket.done:
                return ticket
            self._dropped["gone"] += ticket.future.cancelled()
        return None

    def _put_back(self, ticket: Ticket[Value, Result]) -> None:
        """Put back what `_next` took: it waits again, before all others."""
        ticket.begun = False
        self._waiting += 1
        self._serving -= 1
        self._tickets.appendleft(ticket)

    def fail_waiting(self, error: Callable[[], PdpError]) -> None:
        """Fail everybody who waits now."""
        while (ticket := self._next()) is not None:
            ticket.fail(error())

    def _expire(self, ticket: Ticket[Value, Result]) -> None:
        if ticket.done:
            return
        if ticket.begun:
            ticket.fail(self._overdue(ticket))
        else:
            self._dropped["late"] += 1
            ticket.fail(self._late("the deadline passed in the queue"))

    def _trim(self) -> None:
        """Drop calls that were given up, once they outnumber the others."""
        if len(self._tickets) > 2 * self._waiting + 64:
            self._tickets = deque(t for t in self._tickets if not t.begun)
