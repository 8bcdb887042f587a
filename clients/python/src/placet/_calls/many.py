"""Many calls of evaluate over one stream, for callers without an event loop.

The stream runs on a loop of its own, in a thread that lives as long as the iteration.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from contextvars import copy_context
from queue import SimpleQueue
from typing import Any

from placet._calls.action import Hops
from placet._calls.context import CallContext
from placet._calls.stream import DecisionStream
from placet._transport.channel import AsyncLink
from placet._transport.patience import OverloadNotice
from placet.model import Action, Decision, Session


def evaluate_many(
    context: CallContext,
    overload: OverloadNotice,
    actions: Iterable[Action | Mapping[str, Any]],
    *,
    session: Session | str,
    chain: Hops,
    audience: str,
    timeout: float | None,
    in_flight: int,
) -> Iterator[tuple[int, Decision]]:
    """Yield each action's number and decision as they come. See `Client.evaluate_many`."""
    link = AsyncLink(context.connection)
    link.overload = overload
    stream = DecisionStream(context, link, in_flight)
    answered: SimpleQueue[tuple[int, Future[Decision]]] = SimpleQueue()
    asked = 0
    with _loop() as loop:
        try:
            for number, action in enumerate(actions):
                asking = asyncio.run_coroutine_threadsafe(
                    stream.evaluate(action, session=session, chain=chain, audience=audience, timeout=timeout),
                    loop,
                )
                asking.add_done_callback(lambda done, number=number: answered.put((number, done)))  # type: ignore[misc]
                asked += 1
                # Answers that have come are handed on at once. The others are waited for only when
                # the stream takes no more calls.
                while asked and (asked == in_flight or not answered.empty()):
                    answer = answered.get()
                    asked -= 1
                    yield answer[0], answer[1].result()
            while asked:
                answer = answered.get()
                asked -= 1
                yield answer[0], answer[1].result()
        finally:
            asyncio.run_coroutine_threadsafe(_close(stream, link), loop).result()


async def _close(stream: DecisionStream, link: AsyncLink) -> None:
    await stream.close()
    await link.close()


@contextmanager
def _loop() -> Iterator[asyncio.AbstractEventLoop]:
    """Run an event loop in a thread. At the end it stops, with everything that still runs on it."""
    begun: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = Future()

    async def live() -> None:
        over = asyncio.Event()
        begun.set_result((asyncio.get_running_loop(), over))
        await over.wait()

    # A verifier, and what fetches a token, know where the iteration was begun.
    # An iterator that somebody drops half-way must not keep the process alive.
    thread = threading.Thread(
        target=copy_context().run, args=(asyncio.run, live()), name="placet evaluate_many", daemon=True
    )
    thread.start()
    loop, over = begun.result()
    try:
        yield loop
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join()
