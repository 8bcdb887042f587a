"""Turns: one undecided action of a caller's session at a time, in order of arrival.

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


class SessionTurns:
    """The turns of one process."""

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self._locks: dict[tuple[str, str, str], tuple[asyncio.Lock, int]] = {}
        self._waiting = 0
        self._dropped: Counter[str] = Counter()

    def load(self) -> QueueStats:
        return QueueStats(waiting=self._waiting, dropped=dict(self._dropped))

    @asynccontextmanager
    async def take(self, request: EvaluationRequest, places: int = 1) -> AsyncIterator[None]:
        """Hold the turn, for so many actions. Raises `DeadlineExceededError` when it does not come in
        time, and `OverloadedError` when too many wait for it.

        The caller is part of the key: a stranger who names a session must not queue
        before its owner.
        """
        key = (request.caller.tenant, request.session_id, request.caller.subject)
        lock, users = self._locks.get(key, (asyncio.Lock(), 0))
        places = min(places, self._admission.of_a_session)
        if users + places > self._admission.of_a_session:
            self._dropped["full"] += 1
            raise OverloadedError(self._admission.hint())
        self._locks[key] = (lock, users + places)
        try:
            if users:
                await self._wait(lock, request.deadline)
            else:
                await lock.acquire()
            try:
                yield
            finally:
                lock.release()
        finally:
            lock, users = self._locks[key]
            if users == places:
                del self._locks[key]
            else:
                self._locks[key] = (lock, users - places)

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
