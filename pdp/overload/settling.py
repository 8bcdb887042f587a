"""Settling: judging again until nothing that a decision rests on has moved before it is recorded.

Who loses a race is judged again on fresh facts. A write of an operator makes *every* judgement of its tenant
lose that is under way. Where writes follow each other closely, many judgements at once would take longer than
the time between two writes, and none would ever be recorded. So for a while after such a loss few judgements
of that tenant are under way at once; the others wait *before* they read their facts, and lose nothing.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from typing import TypeVar

from pdp.errors import DeadlineExceededError, GroundMovedError, SessionContendedError, SessionMovedError
from pdp.overload.queue_stats import QueueStats

# Against another replica a judgement wins about every second time; 32 losses in a row
# mean that something else is wrong.
MAX_JUDGEMENTS = 32
# So many judgements of a tenant go on at once when its ground begins to move: they cost each other little.
FEW = 8
# Seconds since the last loss to an operator's write, after which the tenant's ground counts as still.
CALM = 1.0
# Seconds: the bounds of the first pause after a lost race, which then doubles, and of any pause.
_BACKOFF = 0.002
_MAX_BACKOFF = 0.1

T = TypeVar("T")


class _Gate:
    """Lets few judgements of a tenant go on at once: fewer after a loss, one more after as many successes.

    (Additive increase and multiplicative decrease, as TCP's congestion window, RFC 5681.)
    """

    def __init__(self, now: float) -> None:
        self.moved_at = now
        self._cut_at = now
        self._limit = float(FEW)
        self._inside = 0
        self._line: deque[asyncio.Future[None]] = deque()

    def is_idle(self) -> bool:
        return not self._inside and not self._line

    async def enter(self) -> None:
        """Wait in order of arrival. Cancelling it gives the place back."""
        if not self._line and self._inside < int(self._limit):
            self._inside += 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._line.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                # The turn had come at the same moment.
                self.leave()
            elif turn in self._line:
                self._line.remove(turn)
            raise

    def leave(self) -> None:
        self._inside -= 1
        while self._line and self._inside < int(self._limit):
            turn = self._line.popleft()
            if not turn.done():
                self._inside += 1
                turn.set_result(None)

    def note_loss(self, began: float, now: float) -> None:
        """Take note that a judgement which began at `began` was lost to an operator's write."""
        self.moved_at = now
        # What began before the last cut says nothing about the width since.
        if began >= self._cut_at:
            self._limit = max(1.0, self._limit / 2)
            self._cut_at = now

    def note_success(self) -> None:
        self._limit = min(float(FEW), self._limit + 1 / self._limit)


class Settling:
    """Judges again, in one process."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._gates: dict[str, _Gate] = {}
        self._waiting = 0
        self._dropped: Counter[str] = Counter()

    def load(self) -> QueueStats:
        """Return how many judgements wait for moving ground, and how many were given up there."""
        return QueueStats(waiting=self._waiting, dropped=dict(self._dropped))

    async def settle(self, judge: Callable[[], Awaitable[T]], *, tenant: str, deadline: float) -> T:
        """Return what `judge` returns, once it does not raise `SessionMovedError`.

        `deadline` is an instant of `time.monotonic()`. Raises `DeadlineExceededError` if that does not happen
        in time, and `SessionContendedError` after too many losses.
        """
        for attempt in range(MAX_JUDGEMENTS):
            gate = self._gate(tenant)
            if gate is not None:
                await self._wait(gate, deadline)
            began = self._clock()
            try:
                answer = await judge()
            except GroundMovedError:
                self._note_loss(tenant, began)
            except SessionMovedError:
                pass
            else:
                if gate is not None:
                    gate.note_success()
                return answer
            finally:
                if gate is not None:
                    gate.leave()
            await _back_off(attempt, deadline)
        raise SessionContendedError(retry_after=1.0)

    def _gate(self, tenant: str) -> _Gate | None:
        """Return the gate of a tenant whose ground moves; None for any other, which has none."""
        gate = self._gates.get(tenant)
        if gate is not None and self._is_calm(gate):
            del self._gates[tenant]
            return None
        return gate

    def _is_calm(self, gate: _Gate) -> bool:
        return gate.is_idle() and self._clock() - gate.moved_at > CALM

    async def _wait(self, gate: _Gate, deadline: float) -> None:
        self._waiting += 1
        try:
            async with asyncio.timeout(deadline - time.monotonic()):
                await gate.enter()
        except TimeoutError as exc:
            self._dropped["late"] += 1
            raise DeadlineExceededError("operators wrote so often that the time was up") from exc
        except asyncio.CancelledError:
            self._dropped["gone"] += 1
            raise
        finally:
            self._waiting -= 1

    def _note_loss(self, tenant: str, began: float) -> None:
        gate = self._gates.get(tenant)
        if gate is None:
            # Tenants whose ground is still again are forgotten, so that only those of now are kept.
            for name in [name for name, other in self._gates.items() if self._is_calm(other)]:
                del self._gates[name]
            gate = self._gates[tenant] = _Gate(self._clock())
        gate.note_loss(began, self._clock())


async def _back_off(attempt: int, deadline: float) -> None:
    """Wait a little, at random, so that replicas that race do not race in step."""
    limit = min(_BACKOFF * 2**attempt, _MAX_BACKOFF)
    pause = random.uniform(0, limit)
    if time.monotonic() + pause >= deadline:
        raise DeadlineExceededError("what it rests on moved under every attempt until the deadline")
    await asyncio.sleep(pause)
