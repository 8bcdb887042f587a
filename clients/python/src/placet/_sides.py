"""What `Client` and `AsyncClient` do differently: how a call is sent, many at a time, and how they close.

Internal, without any promise of stability. Whatever both do the same way stands in `async_client.py`, from
which `tools/sync_client.py` makes `client.py`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Iterator, Mapping
from types import TracebackType
from typing import Any, Self, TypeVar

from placet._calls.action import Hops
from placet._calls.call import Call
from placet._calls.context import CallContext
from placet._calls.many import evaluate_many
from placet._calls.stream import MAX_IN_FLIGHT, DecisionStream
from placet._guard.reports import Reports
from placet._transport.channel import AsyncLink, SyncLink
from placet._transport.patience import pause
from placet.errors import PlacetError
from placet.model import Action, Decision, Session

T = TypeVar("T")


class SyncSide:
    """Sends the calls of a `Client` and waits for their answers."""

    def __init__(self, context: CallContext) -> None:
        self._context = context
        self._link = SyncLink(context.connection)
        self._reports = Reports(context)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Send what guards have to report, for five seconds at most, and close the connection.

        Every later call fails.
        """
        self._reports.close()
        self._link.close()

    def evaluate_many(
        self,
        actions: Iterable[Action | Mapping[str, Any]],
        *,
        session: Session | str,
        chain: Hops = (),
        audience: str = "",
        timeout: float | None = None,
        in_flight: int = MAX_IN_FLIGHT,
    ) -> Iterator[tuple[int, Decision]]:
        """Judge independent actions over one stream; yield each one's number and decision as they come.

        Each is what `evaluate` returns: a failure is a block. `timeout` is each action's own. At most
        `in_flight` are unanswered; the next actions are taken when there is room, and when the next
        decision is asked for. Where the iteration is given up, so are the calls in flight.
        """
        return evaluate_many(
            self._context,
            self._link.overload,
            actions,
            session=session,
            chain=chain,
            audience=audience,
            timeout=timeout,
            in_flight=in_flight,
        )

    def _run(self, call: Call[T], timeout: float | None) -> T:
        """Send a call, once. `timeout` is in seconds; None: the client's own."""
        seconds = self._context.deadline(timeout)
        request = self._context.prove(call).request.SerializeToString()
        return call.read(self._link.send(call.method, request, seconds))

    def _run_admitted(self, call: Call[T], timeout: float | None) -> T:
        """Send a call that an overloaded server turns away before work on it has begun.

        It is sent again when the server said that it may be, within the same deadline.
        """
        end = time.monotonic() + self._context.deadline(timeout)
        request = call.request.SerializeToString()
        while True:
            try:
                left = end - time.monotonic()
                return call.read(self._link.send(call.method, request, left, admitted=True))
            except PlacetError as exc:
                wait = pause(exc, end - time.monotonic())
                if wait is None:
                    raise
            time.sleep(wait)


class AsyncSide:
    """Sends the calls of an `AsyncClient` on its event loop."""

    def __init__(self, context: CallContext) -> None:
        self._context = context
        self._link = AsyncLink(context.connection)
        self._reports = Reports(context)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Send what guards have to report, for five seconds at most, and close the connection.

        Every later call fails.
        """
        if self._reports.busy:
            await asyncio.to_thread(self._reports.close)
        else:
            self._reports.close()
        await self._link.close()

    def stream(self, *, in_flight: int = MAX_IN_FLIGHT) -> DecisionStream:
        """Return a stream for many calls of evaluate at a time, to be used with `async with`.

        At most `in_flight` of its calls are sent and unanswered; the others wait, within their
        own timeouts.
        """
        return DecisionStream(self._context, self._link, in_flight)

    async def _run(self, call: Call[T], timeout: float | None) -> T:
        """See `SyncSide._run`."""
        seconds = self._context.deadline(timeout)
        end = time.monotonic() + seconds
        request = self._context.prove(call).request.SerializeToString()
        data = await self._link.send(call.method, request, seconds)
        return await self._context.read(call, data, end - time.monotonic())

    async def _run_admitted(self, call: Call[T], timeout: float | None) -> T:
        """See `SyncSide._run_admitted`."""
        end = time.monotonic() + self._context.deadline(timeout)
        request = call.request.SerializeToString()
        while True:
            try:
                left = end - time.monotonic()
                data = await self._link.send(call.method, request, left, admitted=True)
                return await self._context.read(call, data, end - time.monotonic())
            except PlacetError as exc:
                wait = pause(exc, end - time.monotonic())
                if wait is None:
                    raise
            await asyncio.sleep(wait)
