"""The policy engine: gathers concurrent calls into batches, and trusts no answer's shape.

Batches form by themselves: what has queued while the requests under way were out goes with the
next. There is no timer, and a lone call leaves at once. A batch that fails as a whole goes again
as single calls, so that the document that broke it hurts nobody else; the tenant whose document
it was is judged singly and beside the others for a while, so that it breaks no more batches.

What is taken from the queue with less time left than a batch takes is not asked, unless nothing
else is left to ask: then somebody must find out how long it takes now.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import orjson

from pdp.errors import OverloadedError, PolicyUnavailableError
from pdp.model import Verdict
from pdp.opa.transport import OpaTransport
from pdp.opa.verdict import batch_verdicts, single_verdict
from pdp.overload.latency import LatencyEstimate
from pdp.overload.queue_stats import QueueStats

_QUERY = "?strict-builtin-errors=true&provenance=true"
# Callers hear of a time-out this much before their deadline, so that they hear of it in time.
_MARGIN_SECONDS = 0.005
# A batch gets half of what its most hurried document has left, but no less than this, before its
# documents go again one by one.
_MIN_BATCH_SECONDS = 0.05
# What is queued is shared out among free requests only in parts of at least this many: smaller
# batches cost OPA and us more than running side by side gains (measured on two cores).
_LEAST_SHARE = 8
# How long a tenant whose document broke a batch is judged singly, and by how many calls at a time.
_APART_SECONDS = 30.0
_APART_IN_FLIGHT = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineCall:
    """One request to OPA, for metrics. `cause` is that of `PolicyUnavailableError`; empty: none."""

    # How many documents it carried.
    documents: int
    seconds: float
    cause: str = ""
    # True for a single call that a failed batch left behind.
    after_batch: bool = False


@dataclass(kw_only=True, slots=True, eq=False)
class _Item:
    id: str
    tenant: str
    document: bytes
    # Instant of `time.monotonic()`; `_MARGIN_SECONDS` before the caller's.
    deadline: float
    verdict: asyncio.Future[Verdict] = field(repr=False)
    # Taken from the queue.
    begun: bool = False

    def settle(self, outcome: Verdict | PolicyUnavailableError) -> None:
        if self.verdict.done():
            return
        if isinstance(outcome, PolicyUnavailableError):
            self.fail(outcome.cause, str(outcome).removeprefix(outcome.cause).removeprefix(": "))
        else:
            self.verdict.set_result(outcome)

    def fail(self, cause: str, detail: str = "") -> None:
        if not self.verdict.done():
            self.verdict.set_exception(PolicyUnavailableError(cause, detail))


class OpaPolicyEngine:
    """`PolicyEngine` over an OPA sidecar's unix socket. Belongs to one event loop.

    OPA may come, go and come back: each call that meets it gone fails by itself.
    """

    def __init__(
        self,
        socket_path: Path | str,
        *,
        token: str = "",
        bundle: str = "placet",
        max_batch: int = 32,
        max_batch_bytes: int = 512 * 1024,
        in_flight: int = 2,
        max_answer_bytes: int = 1024 * 1024,
        capacity: int = 4096,
        observe: Callable[[EngineCall], None] | None = None,
    ) -> None:
        """`capacity` is how many calls may wait; further ones are turned away."""
        self._bundle = bundle
        self._max_batch = max_batch
        self._max_batch_bytes = max_batch_bytes
        self._in_flight = in_flight
        self._observe = observe
        self._transport = OpaTransport(
            str(socket_path), token=token, max_answer_bytes=max_answer_bytes, max_idle=2 * in_flight
        )
        self._single_head = self._transport.head(f"/v1/data/{bundle}/decision/decision{_QUERY}")
        self._batch_head = self._transport.head(f"/v1/data/{bundle}/decision/batch{_QUERY}")
        # Unique while the engine lives, so that no answer fits another batch.
        self._ids = itertools.count()
        self._queue: deque[_Item] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        # The same for tenants that are judged singly, and until when each of them is.
        self._queue_apart: deque[_Item] = deque()
        self._tasks_apart: set[asyncio.Task[None]] = set()
        self._apart: dict[str, float] = {}
        self._capacity = capacity
        self._waiting = 0
        self._dropped: Counter[str] = Counter()
        self._pace = LatencyEstimate()
        # Single calls after failed batches: few at a time, beside the requests under way.
        self._again = asyncio.Semaphore(in_flight)
        self._pump_due = False
        self._closed = False

    def load(self) -> QueueStats:
        """What waits to be asked."""
        return QueueStats(waiting=self._waiting, dropped=dict(self._dropped))

    def tenants_apart(self) -> int:
        """How many tenants are judged singly now, because a document of theirs broke a batch."""
        now = time.monotonic()
        self._apart = {tenant: until for tenant, until in self._apart.items() if until > now}
        return len(self._apart)

    async def decide(self, document: bytes, *, deadline: float, tenant: str = "") -> Verdict:
        """See `PolicyEngine.decide`."""
        _require_object(document)
        loop = asyncio.get_running_loop()
        ends = deadline - _MARGIN_SECONDS
        left = ends - time.monotonic()
        if left <= 0:
            raise PolicyUnavailableError("timeout", "no time left to ask")
        if self._closed:
            raise PolicyUnavailableError("connection", "the engine is closed")
        if self._waiting >= self._capacity:
            self._dropped["full"] += 1
            raise OverloadedError(
                max(0.05, self._pace.seconds() * self._waiting / self._max_batch), others="all"
            )
        item = _Item(
            id=str(next(self._ids)),
            tenant=tenant,
            document=document,
            deadline=ends,
            verdict=loop.create_future(),
        )
        timer = loop.call_later(left, self._expire, item)
        queue = self._queue_apart if self._apart and self._is_apart(tenant) else self._queue
        queue.append(item)
        self._waiting += 1
        if not self._pump_due:
            # Once the calls that are ready now have queued too.
            self._pump_due = True
            loop.call_soon(self._pump)
        try:
            return await item.verdict
        except asyncio.CancelledError:
            self._dropped["gone"] += not item.begun
            raise
        finally:
            timer.cancel()
            if not item.begun:
                self._begin(item)
                self._trim()
            # It holds the failure, whose traceback holds this frame.
            del item

    async def aclose(self) -> None:
        """Close the connections; calls under way fail."""
        self._closed = True
        tasks = (*self._tasks, *self._tasks_apart)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for item in (*self._queue, *self._queue_apart):
            item.fail("connection", "the engine is closed")
        self._transport.close()

    def _pump(self) -> None:
        """Send what is queued, as far as requests may be under way."""
        self._pump_due = False
        while not self._closed and (free := self._in_flight - len(self._tasks)) > 0:
            batch = self._take_from(
                self._queue, min(max(_LEAST_SHARE, math.ceil(len(self._queue) / free)), self._max_batch)
            )
            if not batch:
                break
            self._start(batch, self._tasks)
        while not self._closed and len(self._tasks_apart) < _APART_IN_FLIGHT:
            batch = self._take_from(self._queue_apart, 1)
            if not batch:
                return
            self._start(batch, self._tasks_apart)

    def _start(self, batch: list[_Item], tasks: set[asyncio.Task[None]]) -> None:
        task = asyncio.get_running_loop().create_task(self._judge(batch))
        tasks.add(task)
        task.add_done_callback(self._done)

    def _take_from(self, queue: deque[_Item], most: int) -> list[_Item]:
        """Take a batch off the queue, leaving out what nobody waits for any more."""
        batch: list[_Item] = []
        late: list[_Item] = []
        size = 0
        soonest = time.monotonic() + self._pace.seconds()
        while queue and len(batch) < most:
            item = queue[0]
            if item.verdict.done():
                queue.popleft()
                continue
            if item.deadline <= soonest:
                late.append(queue.popleft())
                continue
            size += len(item.document)
            if batch and size > self._max_batch_bytes:
                break
            batch.append(queue.popleft())
        if late and not batch:
            batch.append(max(late, key=lambda item: item.deadline))
        for item in batch:
            self._begin(item)
        for item in late:
            if not item.begun:
                self._expire(item)
        return batch

    def _begin(self, item: _Item) -> None:
        item.begun = True
        self._waiting -= 1

    def _expire(self, item: _Item) -> None:
        if item.verdict.done():
            return
        self._dropped["late"] += not item.begun
        item.fail("timeout", "no answer within the deadline" if item.begun else "too little time to ask")

    def _trim(self) -> None:
        """Forget calls that were given up, once they outnumber the others."""
        if len(self._queue) + len(self._queue_apart) > 2 * self._waiting + 64:
            self._queue = deque(item for item in self._queue if not item.begun)
            self._queue_apart = deque(item for item in self._queue_apart if not item.begun)

    def _is_apart(self, tenant: str) -> bool:
        until = self._apart.get(tenant)
        return until is not None and until > time.monotonic()

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._tasks_apart.discard(task)
        if not self._pump_due:
            self._pump()

    async def _judge(self, batch: Sequence[_Item]) -> None:
        """Settle every item of the batch, whatever happens."""
        try:
            if len(batch) == 1:
                await self._judge_one(batch[0])
            else:
                await self._judge_many(batch)
        finally:
            for item in batch:
                item.fail("connection", "the request was given up")

    async def _judge_many(self, batch: Sequence[_Item]) -> None:
        by_id = {item.id: item for item in batch}
        now = time.monotonic()
        hurried = min(item.deadline for item in batch) - now
        body = b'{"input":{"items":{%b}}}' % b",".join(
            b'"%b":%b' % (item.id.encode("ascii"), item.document) for item in batch
        )
        try:
            answer = await self._transport.post(
                self._batch_head, body, deadline=now + max(hurried / 2, _MIN_BATCH_SECONDS)
            )
            verdicts = batch_verdicts(answer, bundle=self._bundle, ids=by_id.keys())
        except PolicyUnavailableError as exc:
            self._report(len(batch), now, exc.cause)
            if exc.cause == "connection":
                # Nobody is there; single calls would not find anybody either.
                for item in batch:
                    item.settle(exc)
            else:
                await self._judge_each(batch)
            return
        self._report(len(batch), now)
        for key, outcome in verdicts.items():
            by_id[key].settle(outcome)

    async def _judge_each(self, batch: Sequence[_Item]) -> None:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._judge_again(item)) for item in batch]
        judged = [task.result() for task in tasks]
        if judged.count(True) <= len(batch) / 2:
            # Not one document's fault: the engine is slow, or down.
            return
        until = time.monotonic() + _APART_SECONDS
        for item, found in zip(batch, judged, strict=True):
            if found is False and item.tenant:
                self._apart[item.tenant] = until

    async def _judge_again(self, item: _Item) -> bool | None:
        """Ask alone; return whether there was a verdict, None if nobody waited for it any more."""
        async with self._again:
            if item.verdict.done():
                return None
            return await self._judge_one(item, after_batch=True)

    async def _judge_one(self, item: _Item, *, after_batch: bool = False) -> bool:
        started = time.monotonic()
        cause = ""
        try:
            answer = await self._transport.post(
                self._single_head, b'{"input":%b}' % item.document, deadline=item.deadline
            )
            item.settle(single_verdict(answer, bundle=self._bundle))
        except PolicyUnavailableError as exc:
            cause = exc.cause
            item.settle(exc)
        self._report(1, started, cause, after_batch=after_batch)
        return not cause

    def _report(self, documents: int, started: float, cause: str = "", *, after_batch: bool = False) -> None:
        if not cause:
            self._pace.took(time.monotonic() - started)
        elif cause == "timeout":
            self._pace.took_longer_than(time.monotonic() - started)
        if self._observe is not None:
            self._observe(
                EngineCall(
                    documents=documents,
                    seconds=time.monotonic() - started,
                    cause=cause,
                    after_batch=after_batch,
                )
            )


def _require_object(document: bytes) -> None:
    """A document is spliced into a batch as it is: what is not one whole object must not be."""
    try:
        parsed = orjson.loads(document)
    except orjson.JSONDecodeError as exc:
        raise PolicyUnavailableError("malformed", f"the document is not JSON: {exc}") from exc
    if not isinstance(parsed, dict):
        raise PolicyUnavailableError("malformed", "the document is not an object")
