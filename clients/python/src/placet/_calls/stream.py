"""`DecisionStream`: many calls of evaluate over one stream, answered by id, in any order.

    async with client.stream() as stream:
        decisions = await asyncio.gather(*(stream.evaluate(a, session=session) for a in actions))

A stream that breaks is opened again by the next call.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping
from datetime import timedelta
from itertools import count
from types import TracebackType
from typing import Any, Self

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from placet._calls.action import Hops
from placet._calls.context import CallContext
from placet._calls.evaluation import EvaluateCall, evaluate
from placet._transport.channel import AsyncLink
from placet._transport.failures import call_error
from placet._transport.forks import FORKS
from placet._transport.methods import method_of
from placet._transport.patience import pause
from placet.errors import (
    AnswerError,
    DeadlineError,
    PlacetError,
    UnauthenticatedError,
    UnavailableError,
    invalid,
)
from placet.model import Action, Decision, Session
from placet.v1 import decision_service_pb2 as decisions

# A server takes as many calls of one stream at a time; further ones would wait in its transport.
MAX_IN_FLIGHT = 256
# A call is sent again when the server was not there, under the same attempt id, as a call of its own is.
_MAX_ATTEMPTS = 3
_BACKOFF = 0.05
# The longest timeout that a server accepts, in seconds.
_LONGEST = 120.0
# The largest message that a server accepts; a larger one would end the stream for all its calls.
_MAX_BYTES = 1024 * 1024


class DecisionStream:
    """Made by `AsyncClient.stream()`. Belongs to one event loop."""

    def __init__(self, context: CallContext, link: AsyncLink, in_flight: int) -> None:
        if isinstance(in_flight, bool) or not 1 <= in_flight <= MAX_IN_FLIGHT:
            raise ValueError(f"in_flight must be from 1 to {MAX_IN_FLIGHT}")
        self._context = context
        self._link = link
        self._places = asyncio.Semaphore(in_flight)
        self._ids = count(1)
        self._open: _OpenStream | None = None
        self._closed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End the stream. Calls in flight, and every later call, become blocks."""
        self._closed = True
        if self._open is not None:
            await self._open.close()

    async def evaluate(
        self,
        action: Action | Mapping[str, Any],
        *,
        session: Session | str,
        chain: Hops = (),
        review_id: str | None = None,
        attempt_id: str | None = None,
        audience: str = "",
        timeout: float | None = None,
    ) -> Decision:
        """Return the decision on an action, as `Client.evaluate` does, with the same promises."""
        asked = evaluate(
            self._context,
            action,
            session=session,
            chain=chain,
            review_id=review_id,
            attempt_id=attempt_id,
            audience=audience,
            timeout=timeout,
        )
        if isinstance(asked, Decision):
            return asked
        try:
            try:
                async with asyncio.timeout(asked.timeout), self._places:
                    data = await self._answer(asked)
                    return await self._context.read(asked.call, data, asked.timeout)
            except TimeoutError as exc:
                raise DeadlineError("no answer in time") from exc
        except PlacetError as exc:
            return asked.block_for(exc)

    async def _answer(self, asked: EvaluateCall) -> bytes:
        """Return an EvaluateResponse. Raises a `PlacetError`."""
        end = asyncio.get_running_loop().time() + asked.timeout
        attempt = 1
        while True:
            left = end - asyncio.get_running_loop().time()
            fresh = self._open is None or self._open.over is not None
            try:
                self._link.overload.check(left)
                return await self._send(asked, left)
            except UnavailableError:
                if attempt == _MAX_ATTEMPTS or self._closed:
                    raise
                await asyncio.sleep(random.uniform(0.5, 1) * _BACKOFF * 2 ** (attempt - 1))
                attempt += 1
            except UnauthenticatedError:
                # The token of an older stream has expired; a new stream asks for a new one.
                if fresh or attempt == _MAX_ATTEMPTS:
                    raise
                attempt += 1
            except PlacetError as exc:
                self._link.overload.note(exc, left)
                wait = pause(exc, end - asyncio.get_running_loop().time())
                if wait is None:
                    raise
                await asyncio.sleep(wait)

    async def _send(self, asked: EvaluateCall, left: float) -> bytes:
        if self._closed:
            raise UnavailableError("the stream is closed")
        message = decisions.StreamedAction(id=str(next(self._ids)), request=asked.question.request)
        message.timeout.FromTimedelta(timedelta(seconds=min(max(left, 0.001), _LONGEST)))
        if message.ByteSize() > _MAX_BYTES:
            raise invalid("request", f"is {message.ByteSize()} bytes long; at most {_MAX_BYTES} are sent")
        await FORKS.enter_on_loop(left)
        try:
            if self._open is None or self._open.over is not None:
                self._open = _OpenStream(
                    self._link.stream(method_of(decisions.EvaluateStreamRequest)), self._link.failure
                )
            answer = await self._open.ask(message)
        finally:
            FORKS.leave()
        match answer.WhichOneof("outcome"):
            case "decision":
                return decisions.EvaluateResponse(decision=answer.decision).SerializeToString()
            case "error":
                raise call_error(answer.error)
        raise AnswerError("the answer has neither a decision nor an error")


class _OpenStream:
    """One open stream, until it breaks.

    Reading and writing are tasks of their own: gRPC cancels the whole stream with a call of
    either that is cancelled, and a deadline of one message must not end the others.
    """

    def __init__(self, call: Any, failure: Callable[[Any], PlacetError]) -> None:
        self._call = call
        self._failure = failure
        self._waiting: dict[str, asyncio.Future[decisions.StreamedAnswer]] = {}
        self._outgoing: asyncio.Queue[decisions.StreamedAction] = asyncio.Queue()
        # Why nothing can be asked on this stream any more; None while it is open.
        self.over: PlacetError | None = None
        self._tasks = [asyncio.create_task(self._read()), asyncio.create_task(self._write())]

    async def ask(self, message: decisions.StreamedAction) -> decisions.StreamedAnswer:
        """Send a message and return its answer. Raises a `PlacetError` if the stream breaks."""
        answer: asyncio.Future[decisions.StreamedAnswer] = asyncio.get_running_loop().create_future()
        self._waiting[message.id] = answer
        self._outgoing.put_nowait(message)
        try:
            return await answer
        finally:
            self._waiting.pop(message.id, None)

    async def close(self) -> None:
        self._end(UnavailableError("the stream is closed"))
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _read(self) -> None:
        try:
            while (data := await self._call.read()) is not grpc.aio.EOF:
                for answer in decisions.EvaluateStreamResponse.FromString(data).answers:
                    waiting = self._waiting.get(answer.id)
                    # An answer that nobody waits for came too late.
                    if waiting is not None and not waiting.done():
                        waiting.set_result(answer)
        except grpc.RpcError as exc:
            error = self._failure(exc)
            # A server that stops at once cancels its streams, or gRPC itself finds the stream broken
            # under a write. The server's own words would carry a reason.
            if not error.reason and exc.code() in (grpc.StatusCode.CANCELLED, grpc.StatusCode.INTERNAL):
                error = UnavailableError("the stream broke")
            self._end(error)
        except (grpc.aio.BaseError, asyncio.InvalidStateError, DecodeError) as exc:
            self._end(AnswerError(f"the stream cannot be read: {type(exc).__name__}"))
        finally:
            self._end(UnavailableError("the server ended the stream"))

    async def _write(self) -> None:
        try:
            while True:
                first = await self._outgoing.get()
                await self._call.write(self._gather(first).SerializeToString())
        except (grpc.RpcError, grpc.aio.BaseError, asyncio.InvalidStateError):
            # The reader learns why.
            return

    def _gather(self, first: decisions.StreamedAction) -> decisions.EvaluateStreamRequest:
        """Return a message of everything that waits to be sent, as far as it fits into one."""
        message, size, action = decisions.EvaluateStreamRequest(), 0, first
        while True:
            if action.id in self._waiting:
                message.actions.append(action)
                size += action.ByteSize()
            if self._outgoing.empty() or size > _MAX_BYTES // 2:
                return message
            action = self._outgoing.get_nowait()

    def _end(self, error: PlacetError) -> None:
        if self.over is not None:
            return
        self.over = error
        self._call.cancel()
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(error)
        self._tasks[1].cancel()
