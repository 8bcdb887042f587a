"""One stream of EvaluateStream: actions in, answers out by id, bounded on both sides."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any, Protocol

import grpc
from google.protobuf.message import DecodeError

from pdp.errors import DrainingError, InvalidFieldError, PdpError
from pdp.model import Caller
from pdp.server.grpc.deadline import DEFAULT, LONGEST, too_late
from pdp.server.grpc.rpcs import EVALUATE_STREAM
from pdp.server.grpc.status import Status
from pdp.server.messages import fields
from placet.v1 import decision_pb2 as nouns
from placet.v1 import decision_service_pb2 as messages

# How many actions of one stream may be undecided, or decided and not yet taken by the client.
MAX_UNANSWERED = 256
_MAX_ID = 64
# Answers go out together up to this size; one alone may be larger.
_MAX_ANSWERS_BYTES = 256 * 1024


class StreamEdge(Protocol):
    """What the server's edge does for each message and each action of a stream; see `Edge`."""

    async def admit(self, context: Any, method: str) -> Caller:
        """Return who calls. Raises `UnauthenticatedError` or `PermissionDeniedError`."""
        ...

    def decided(self, decision: nouns.Decision, started: float) -> None:
        """Count and log a decision. `started` is an instant of `time.perf_counter()`, here and below."""
        ...

    def undecided(self, error: Exception, started: float) -> Status:
        """Count and log an action that got no decision; return its status."""
        ...

    def dropped(self, started: float) -> None:
        """Count and log an action whose client did not wait."""
        ...


# Judges an action; the deadline is an instant of `time.monotonic()`.
Judge = Callable[[messages.EvaluateRequest, Caller, float], Awaitable[nouns.Decision]]


class EvaluateStream:
    """Serves one stream, until its client half-closes it or it has to end.

    1. A place is free for each action: else nothing is read, and HTTP/2 holds the client back.
    2. The caller still is who it was, and still may.
    3. The action is judged in a task of its own, within its own deadline.
    4. Its answer is written, with whatever else is ready; only then its place is free.

    When the stream breaks, the handler is cancelled and undecided work with it.
    """

    def __init__(self, context: Any, edge: StreamEdge, judge: Judge, stopping: asyncio.Event) -> None:
        self._context = context
        self._edge = edge
        self._judge = judge
        self._stopping = stopping
        remaining = context.time_remaining()
        self._end = None if remaining is None else time.monotonic() + remaining
        self._places = asyncio.Semaphore(MAX_UNANSWERED)
        self._in_flight: set[str] = set()
        # Answers to write, each with the id that it frees; None for an id that was not taken.
        self._ready: deque[tuple[messages.StreamedAnswer, str | None]] = deque()
        self._something = asyncio.Event()
        self._over = False

    async def serve(self) -> None:
        """Serve until the stream ends.

        Raises the `PdpError` that ends it before its client does, after everything that was taken has
        been answered.
        """
        writing = asyncio.create_task(self._write())
        try:
            async with asyncio.TaskGroup() as answering:
                ending = await self._read_until_end(answering)
            self._over = True
            self._something.set()
            await writing
        finally:
            writing.cancel()
        try:
            if ending is not None:
                raise ending
        finally:
            # No reference cycles on the failure path (docs/decisions/0012-no-cycles-on-failure.md).
            del ending

    async def _read_until_end(self, answering: asyncio.TaskGroup) -> PdpError | None:
        reading = asyncio.create_task(self._read(answering))
        stopping = asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait({reading, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if reading.done():
                return reading.result()
            return DrainingError("this replica is stopping")
        finally:
            reading.cancel()
            stopping.cancel()

    async def _read(self, answering: asyncio.TaskGroup) -> PdpError | None:
        """Take actions; return why no more may be taken, None at the client's own end."""
        while True:
            await self._places.acquire()  # 1
            try:
                message = await self._context.read()
            except DecodeError:
                return InvalidFieldError("message", "cannot be decoded")
            if message is grpc.aio.EOF:
                return None
            started = time.perf_counter()
            try:
                caller = await self._edge.admit(self._context, EVALUATE_STREAM)  # 2
                for number, action in enumerate(message.actions):
                    if number > 0:
                        waits = self._places.locked()
                        await self._places.acquire()
                        if waits:
                            caller = await self._edge.admit(self._context, EVALUATE_STREAM)
                    answering.create_task(self._answer(action, caller, started))
            except PdpError as exc:
                return exc
            if not message.actions:
                self._places.release()

    async def _answer(self, action: messages.StreamedAction, caller: Caller, started: float) -> None:
        answer = messages.StreamedAnswer(id=action.id[:_MAX_ID])
        entered = None
        try:
            self._enter(action.id)
            entered = action.id
            deadline = self._deadline(action)
            # The last line of defence, as it is for a unary call: whatever hangs, the deadline ends it.
            async with asyncio.timeout(deadline - time.monotonic()):
                decision = await self._judge(action.request, caller, deadline)  # 3
        except TimeoutError as exc:
            answer.error.ParseFromString(self._edge.undecided(too_late(exc), started).details)
        except asyncio.CancelledError:
            self._edge.dropped(started)
            raise
        except Exception as exc:  # noqa: BLE001 - the server's edge, for an action; it answers, and goes on
            answer.error.ParseFromString(self._edge.undecided(exc, started).details)
        else:
            self._edge.decided(decision, started)
            answer.decision.CopyFrom(decision)
        self._ready.append((answer, entered))
        self._something.set()

    def _enter(self, action_id: str) -> None:
        if not 0 < len(action_id) <= _MAX_ID:
            raise InvalidFieldError("id", f"must have from 1 to {_MAX_ID} characters")
        if action_id in self._in_flight:
            raise InvalidFieldError("id", "is in flight on this stream already")
        self._in_flight.add(action_id)

    def _deadline(self, action: messages.StreamedAction) -> float:
        seconds = DEFAULT
        if action.HasField("timeout"):
            most = timedelta(seconds=LONGEST)
            seconds = fields.duration(action.timeout, "timeout", most=most).total_seconds()
        deadline = time.monotonic() + seconds
        return deadline if self._end is None else min(deadline, self._end)

    async def _write(self) -> None:
        """Write what is ready, together: what became so while the last write ran."""
        while self._ready or not self._over:
            if not self._ready:
                self._something.clear()
                await self._something.wait()
                continue
            response, size = messages.EvaluateStreamResponse(), 0
            while self._ready and (not response.answers or size < _MAX_ANSWERS_BYTES):
                answer, entered = self._ready.popleft()
                response.answers.append(answer)
                size += answer.ByteSize()
                # The id is freed before the answer is sent: whoever has the answer may use it at once.
                if entered is not None:
                    self._in_flight.discard(entered)
            try:
                await self._context.write(response)  # 4
            except (grpc.aio.BaseError, asyncio.InvalidStateError):
                # The stream broke under this write. gRPC cancels the handler; the ledger has the decisions.
                return
            for _ in response.answers:
                self._places.release()
