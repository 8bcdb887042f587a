"""The policy engine: gathers concurrent calls into batches, and trusts no answer's shape.

Batches form by themselves: what has queued while the requests under way were out goes with the
next. There is no timer, and a lone call leaves at once. A batch that fails as a whole goes again
as single calls, so that the document that broke it hurts nobody else; the tenant whose document
it was is judged singly and beside the others for a while, so that it breaks no more batches.

Calls wait in an `Inbox`, which drops those that would come too late.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import orjson

from pdp.errors import PolicyUnavailableError
from pdp.model import PolicyRevision, Verdict
from pdp.opa.transport import OpaTransport
from pdp.opa.verdict import batch_verdicts, serving_policy, single_verdict
from pdp.overload.inbox import Inbox, Ticket
from pdp.overload.latency import LatencyEstimate
from pdp.overload.queue_stats import QueueStats

_QUERY = "?strict-builtin-errors=true&provenance=true"
# A call times out so long before its deadline, so that its caller hears of it in time.
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


class _Question(NamedTuple):
    document: bytes
    tenant: str


_Ticket = Ticket[_Question, Verdict]


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
        """`capacity` is how many calls may wait, and again as many of tenants that are judged singly.

        `observe` is told of every request to OPA.
        """
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
        self._pace = LatencyEstimate()
        self._queue = self._inbox(capacity)
        # Tenants that are judged singly wait apart, so that they take nobody else's turn or place.
        self._queue_apart = self._inbox(capacity)
        self._tasks: set[asyncio.Task[None]] = set()
        self._tasks_apart: set[asyncio.Task[None]] = set()
        # Until when each of these tenants is judged singly.
        self._apart: dict[str, float] = {}
        # Single calls after failed batches: few at a time, beside the requests under way.
        self._again = asyncio.Semaphore(in_flight)
        self._pump_due = False
        self._closed = False

    def _inbox(self, capacity: int) -> Inbox[_Question, Verdict]:
        return Inbox(
            capacity=capacity,
            overdue=lambda ticket: PolicyUnavailableError("timeout", "no answer within the deadline"),
            late=partial(PolicyUnavailableError, "timeout"),
            weigh=lambda question: len(question.document),
            batch=self._max_batch,
            pace=self._pace,
        )

    def load(self) -> QueueStats:
        """Return how many calls wait to be asked, and how many were dropped."""
        queues = (self._queue.load(), self._queue_apart.load())
        dropped = sum((Counter(queue.dropped) for queue in queues), Counter[str]())
        return QueueStats(waiting=sum(queue.waiting for queue in queues), dropped=dropped)

    def tenants_apart(self) -> int:
        """Return how many tenants are judged singly now, because a document of theirs broke a batch."""
        now = time.monotonic()
        self._apart = {tenant: until for tenant, until in self._apart.items() if until > now}
        return len(self._apart)

    async def decide(self, document: bytes, *, deadline: float, tenant: str = "") -> Verdict:
        """See `PolicyEngine.decide`."""
        _require_object(document)
        if self._closed:
            raise PolicyUnavailableError("connection", "the engine is closed")
        if not self._pump_due:
            # Once this call has queued, and those that are ready now have too.
            self._pump_due = True
            asyncio.get_running_loop().call_soon(self._pump)
        queue = self._queue_apart if self._apart and self._is_apart(tenant) else self._queue
        return await queue.ask(_Question(document, tenant), deadline - _MARGIN_SECONDS)

    async def policy(self, *, deadline: float) -> PolicyRevision:
        """See `PolicyEngine.policy`. It waits behind no document."""
        if self._closed:
            raise PolicyUnavailableError("connection", "the engine is closed")
        answer = await self._transport.post(
            self._batch_head, b'{"input":{"items":{}}}', deadline=deadline - _MARGIN_SECONDS
        )
        return serving_policy(answer, bundle=self._bundle)

    async def aclose(self) -> None:
        """Close the connections; calls under way fail."""
        self._closed = True
        tasks = (*self._tasks, *self._tasks_apart)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for queue in (self._queue, self._queue_apart):
            queue.fail_waiting(lambda: PolicyUnavailableError("connection", "the engine is closed"))
        self._transport.close()

    def _pump(self) -> None:
        """Send what is queued, as far as requests may be under way."""
        self._pump_due = False
        while not self._closed and (free := self._in_flight - len(self._tasks)) > 0:
            share = max(_LEAST_SHARE, math.ceil(len(self._queue) / free))
            batch = self._queue.take(min(share, self._max_batch), self._max_batch_bytes)
            if not batch:
                break
            self._start(batch, self._tasks)
        while not self._closed and len(self._tasks_apart) < _APART_IN_FLIGHT:
            batch = self._queue_apart.take(1)
            if not batch:
                return
            self._start(batch, self._tasks_apart)

    def _start(self, batch: Sequence[_Ticket], tasks: set[asyncio.Task[None]]) -> None:
        task = asyncio.get_running_loop().create_task(self._judge(batch))
        tasks.add(task)
        task.add_done_callback(self._end)

    def _end(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._tasks_apart.discard(task)
        if not self._pump_due:
            self._pump()

    def _is_apart(self, tenant: str) -> bool:
        until = self._apart.get(tenant)
        return until is not None and until > time.monotonic()

    async def _judge(self, batch: Sequence[_Ticket]) -> None:
        """Answer or fail every call of the batch, whatever happens."""
        try:
            if len(batch) == 1:
                await self._judge_one(batch[0])
            else:
                await self._judge_many(batch)
        finally:
            for ticket in batch:
                if not ticket.done:
                    ticket.fail(PolicyUnavailableError("connection", "the request was given up"))

    async def _judge_many(self, batch: Sequence[_Ticket]) -> None:
        by_id = {str(next(self._ids)): ticket for ticket in batch}
        now = time.monotonic()
        hurried = min(ticket.deadline for ticket in batch) - now
        body = b'{"input":{"items":{%b}}}' % b",".join(
            b'"%b":%b' % (key.encode("ascii"), ticket.value.document) for key, ticket in by_id.items()
        )
        try:
            answer = await self._transport.post(
                self._batch_head, body, deadline=now + max(hurried / 2, _MIN_BATCH_SECONDS)
            )
            verdicts = batch_verdicts(answer, bundle=self._bundle, ids=by_id.keys())
        except PolicyUnavailableError as exc:
            self._report(len(batch), now, exc.cause)
            if exc.cause == "connection":
                # OPA is not there; single calls would not find it either.
                for ticket in batch:
                    _settle(ticket, exc)
            else:
                await self._judge_each(batch)
            return
        self._report(len(batch), now)
        for key, outcome in verdicts.items():
            _settle(by_id[key], outcome)

    async def _judge_each(self, batch: Sequence[_Ticket]) -> None:
        """Ask about each document of a failed batch alone, and set apart the tenants whose fault it was."""
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._judge_again(ticket)) for ticket in batch]
        judged = [task.result() for task in tasks]
        if judged.count(True) <= len(batch) / 2:
            # It is not one document's fault: the engine is slow, or down.
            return
        until = time.monotonic() + _APART_SECONDS
        for ticket, found in zip(batch, judged, strict=True):
            if found is False and ticket.value.tenant:
                self._apart[ticket.value.tenant] = until

    async def _judge_again(self, ticket: _Ticket) -> bool | None:
        """Ask alone; return whether there was a verdict, None if nobody waited for it any more."""
        async with self._again:
            if ticket.done:
                return None
            return await self._judge_one(ticket, after_batch=True)

    async def _judge_one(self, ticket: _Ticket, *, after_batch: bool = False) -> bool:
        """Ask alone; return whether there was a verdict."""
        started = time.monotonic()
        cause = ""
        try:
            answer = await self._transport.post(
                self._single_head, b'{"input":%b}' % ticket.value.document, deadline=ticket.deadline
            )
            ticket.answer(single_verdict(answer, bundle=self._bundle))
        except PolicyUnavailableError as exc:
            cause = exc.cause
            _settle(ticket, exc)
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


def _settle(ticket: _Ticket, outcome: Verdict | PolicyUnavailableError) -> None:
    """Answer the call, or fail it with a failure of its own."""
    if isinstance(outcome, PolicyUnavailableError):
        detail = str(outcome).removeprefix(outcome.cause).removeprefix(": ")
        ticket.fail(PolicyUnavailableError(outcome.cause, detail))
    else:
        ticket.answer(outcome)


def _require_object(document: bytes) -> None:
    """Raise `PolicyUnavailableError` unless the document is one whole JSON object.

    It is spliced into a batch as it is. It was made by this process, and yet is parsed again: a
    type would promise the same only to who checks types, and what is at stake are the verdicts on
    other tenants' documents.
    """
    try:
        parsed = orjson.loads(document)
    except orjson.JSONDecodeError as exc:
        raise PolicyUnavailableError("malformed", f"the document is not JSON: {exc}") from exc
    if not isinstance(parsed, dict):
        raise PolicyUnavailableError("malformed", "the document is not an object")
