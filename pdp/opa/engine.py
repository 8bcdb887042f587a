"""The policy engine: gathers concurrent calls into batches, and trusts no answer's shape.

Batches form by themselves: what has queued while the requests under way were out goes with the
next. There is no timer, and a lone call leaves at once. A batch that fails as a whole goes again
as single calls, so that the document that broke it hurts nobody else.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import orjson

from pdp.errors import PolicyUnavailableError
from pdp.model import Verdict
from pdp.opa.transport import OpaTransport
from pdp.opa.verdict import batch_verdicts, single_verdict

_QUERY = "?strict-builtin-errors=true&provenance=true"
# Callers hear of a time-out this much before their deadline, so that they hear of it in time.
_MARGIN_SECONDS = 0.005
# A batch gets half of what its most hurried document has left, but no less than this, before its
# documents go again one by one.
_MIN_BATCH_SECONDS = 0.05
# What is queued is shared out among free requests only in parts of at least this many: smaller
# batches cost OPA and us more than running side by side gains (measured on two cores).
_LEAST_SHARE = 8


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
    document: bytes
    # Instant of `time.monotonic()`; `_MARGIN_SECONDS` before the caller's.
    deadline: float
    verdict: asyncio.Future[Verdict] = field(repr=False)

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
        observe: Callable[[EngineCall], None] | None = None,
    ) -> None:
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
        # Single calls after failed batches: few at a time, beside the requests under way.
        self._again = asyncio.Semaphore(in_flight)
        self._pump_due = False
        self._closed = False

    async def decide(self, document: bytes, *, deadline: float) -> Verdict:
        """See `PolicyEngine.decide`."""
        _require_object(document)
        loop = asyncio.get_running_loop()
        ends = deadline - _MARGIN_SECONDS
        left = ends - time.monotonic()
        if left <= 0:
            raise PolicyUnavailableError("timeout", "no time left to ask")
        if self._closed:
            raise PolicyUnavailableError("connection", "the engine is closed")
        item = _Item(id=str(next(self._ids)), document=document, deadline=ends, verdict=loop.create_future())
        timer = loop.call_later(left, item.fail, "timeout", "no answer within the deadline")
        self._queue.append(item)
        if not self._pump_due:
            # Once the calls that are ready now have queued too.
            self._pump_due = True
            loop.call_soon(self._pump)
        try:
            return await item.verdict
        finally:
            timer.cancel()

    async def aclose(self) -> None:
        """Close the connections; calls under way fail."""
        self._closed = True
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        while self._queue:
            self._queue.popleft().fail("connection", "the engine is closed")
        self._transport.close()

    def _pump(self) -> None:
        """Send what is queued, as far as requests may be under way."""
        self._pump_due = False
        while not self._closed and (free := self._in_flight - len(self._tasks)) > 0:
            batch = self._take(max(_LEAST_SHARE, math.ceil(len(self._queue) / free)))
            if not batch:
                return
            task = asyncio.get_running_loop().create_task(self._judge(batch))
            self._tasks.add(task)
            task.add_done_callback(self._done)

    def _take(self, share: int) -> list[_Item]:
        """Take a batch off the queue, leaving out what nobody waits for any more."""
        batch: list[_Item] = []
        size = 0
        while self._queue and len(batch) < min(share, self._max_batch):
            item = self._queue[0]
            if item.verdict.done():
                self._queue.popleft()
                continue
            size += len(item.document)
            if batch and size > self._max_batch_bytes:
                break
            batch.append(self._queue.popleft())
        return batch

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
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
            for item in batch:
                group.create_task(self._judge_again(item))

    async def _judge_again(self, item: _Item) -> None:
        async with self._again:
            if not item.verdict.done():
                await self._judge_one(item, after_batch=True)

    async def _judge_one(self, item: _Item, *, after_batch: bool = False) -> None:
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

    def _report(self, documents: int, started: float, cause: str = "", *, after_batch: bool = False) -> None:
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
