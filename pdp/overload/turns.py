"""Turns: one undecided action of a caller's session at a time, in order of arrival.

Whoever has the turn is spared a judgement that the session's version would refuse at recording.
Correctness never rests on turns, only on versions.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from pdp.errors import DeadlineExceededError, OverloadedError
from pdp.model import EvaluationRequest
from pdp.overload.admission import Admission
from pdp.overload.queue_stats import QueueStats

# Tenant, session and caller.
_Key = tuple[str, str, str]


class SessionTurns:
    """The turns of one process."""

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        # For each line the lock that is the turn, and how many places in the line are taken.
        self._locks: dict[_Key, tuple[asyncio.Lock, int]] = {}
        self._waiting = 0
        self._dropped: Counter[str] = Counter()

    def load(self) -> QueueStats:
        """Return how many calls wait for their turn, and how many were turned away."""
        return QueueStats(waiting=self._waiting, dropped=dict(self._dropped))

    @asynccontextmanager
    async def take(self, request: EvaluationRequest, places: int = 1) -> AsyncIterator[None]:
        """Hold the turn, for so many actions, from the wait for it to their answer.

        1. Enter    the process: a place is held, if there is one and time enough.
        2. Wait     for the caller's earlier actions in the session.
        3. Measure  how long judging takes, if there is still time enough for it.

        Raises `DeadlineExceededError` when the turn does not come in time, `OverloadedError` when too
        many wait for it, and both as `Admission` does. The caller is part of a turn's key: a stranger
        who names a session must not queue before its owner.
        """
        with self._admission.enter(request.deadline, places):  # 1
            key = (request.caller.tenant, request.session_id, request.caller.subject)
            places = min(places, self._admission.of_a_session)
            lock, first = self._line_up(key, places)  # 2
            try:
                if first:
                    await lock.acquire()
                else:
                    await self._wait(lock, request.deadline)
                try:
                    with self._admission.judging(request.deadline, places):  # 3
                        yield
                finally:
                    lock.release()
            finally:
                self._leave(key, places)

    def _line_up(self, key: _Key, places: int) -> tuple[asyncio.Lock, bool]:
        """Take places in the line of a session; return its lock, and whether nobody was there before."""
        lock, taken = self._locks.get(key) or (asyncio.Lock(), 0)
        if taken + places > self._admission.of_a_session:
            self._dropped["full"] += 1
            raise OverloadedError(
                self._admission.hint(),
                message=f"too many actions of this caller wait in the session: "
                f"{self._admission.of_a_session} at most (a quarter of max_in_flight)",
            )
        self._locks[key] = (lock, taken + places)
        return lock, not taken

    def _leave(self, key: _Key, places: int) -> None:
        lock, taken = self._locks[key]
        if taken == places:
            del self._locks[key]
        else:
            self._locks[key] = (lock, taken - places)

    async def _wait(self, lock: asyncio.Lock, deadline: float) -> None:
        self._waiting += 1
        try:
            async with asyncio.timeout(deadline - time.monotonic()):
                await lock.acquire()
        except TimeoutError as exc:
            self._dropped["late"] += 1
            raise DeadlineExceededError("earlier actions of this session took all the time") from exc
        except asyncio.CancelledError:
            self._dropped["gone"] += 1
            raise
        finally:
            self._waiting -= 1
