"""What `fork()` means for gRPC, and what is done about it.

A child hangs or dies inside of `fork()` if another thread of its parent is in a call of gRPC at that moment.
So a fork waits until the calls of other threads have ended, which each does at its deadline, and calls that
begin meanwhile wait for the fork, within their own deadlines. Streams, which have no end to wait for, are
ended, and opened again when somebody asks on them. A call on the event loop that forks cannot end before the
fork: gRPC's own thread goes on waiting for its answer, and most children bear that.

gRPC's support of `fork()` has to be turned on before gRPC is loaded
(https://github.com/grpc/grpc/blob/master/doc/fork_support.md), and there is none for `grpc.aio`. Where a
child cannot use gRPC, its calls are refused at once instead of hanging, deadline or not.
"""

from __future__ import annotations

import asyncio
import math
import os
import sys
import threading
import time
from contextlib import suppress
from typing import Any

from placet.errors import DeadlineError, UnavailableError

_TRUE = frozenset({"1", "true", "yes", "on"})
if "grpc._cython.cygrpc" not in sys.modules:
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "1")
FORK_SUPPORT = os.environ.get("GRPC_ENABLE_FORK_SUPPORT", "0").lower() in _TRUE

# How many seconds a fork waits longer than the deadlines of calls.
_GRACE = 1.0
_UNSUPPORTED = (
    "this process was forked after a client was used, and gRPC was loaded without fork support; import "
    "placet before grpc, or set GRPC_ENABLE_FORK_SUPPORT=1"
)
_LOOPS_UNSUPPORTED = (
    "this process was forked after an AsyncClient, or evaluate_many, was used, and gRPC serves no event loop "
    "in such a child; use a Client here, or start the process with forkserver or spawn"
)


class Forks:
    """Knows of the forks and of the calls of this process; there is one for all clients."""

    def __init__(self) -> None:
        # How often this process is a fork of the one that loaded us.
        self.generation = 0
        self._changed = threading.Condition()
        self._forking = 0
        # How many calls each thread has under way, by the thread's identifier.
        self._calls: dict[int, int] = {}
        # The streams that are open, by the thread and the loop that each belongs to.
        self._streams: dict[Any, tuple[int, asyncio.AbstractEventLoop]] = {}
        # By when all calls that have begun will have ended, by the monotonic clock.
        self._latest = -math.inf
        # Calls on event loops that wait for a fork.
        self._waiting: list[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = []
        self._used = self._loops_used = False
        # Why gRPC, or gRPC on an event loop, cannot be used in this process; empty if it can.
        self._refusal = self._loop_refusal = ""

    def check(self, *, on_loop: bool) -> None:
        """Raise `UnavailableError` if gRPC cannot be used here; else note that it is used."""
        refusal = self._refusal or (self._loop_refusal if on_loop else "")
        if refusal:
            raise UnavailableError(refusal)
        self._used = True
        self._loops_used = self._loops_used or on_loop

    @property
    def stranded(self) -> bool:
        """Whether nothing of gRPC may be touched in this process."""
        return bool(self._refusal)

    def enter(self, timeout: float) -> None:
        """Begin a call of gRPC that ends within `timeout` seconds: no other thread forks until `leave`.

        Raises `DeadlineError` if a fork takes longer than that.
        """
        with self._changed:
            if self._forking and not self._changed.wait_for(lambda: not self._forking, timeout):
                raise _too_long()
            self._begin(timeout)

    async def enter_on_loop(self, within: float) -> None:
        """Begin a call as `enter` does, without holding up the event loop: a fork may wait for its calls."""
        loop = asyncio.get_running_loop()
        while True:
            with self._changed:
                if not self._forking:
                    self._begin(within)
                    return
                over = loop.create_future()
                self._waiting.append((loop, over))
            # Nothing that takes a lock of the standard library helps here: those are held during a fork.
            try:
                async with asyncio.timeout(within):
                    await over
            except TimeoutError as exc:
                raise _too_long() from exc

    def leave(self) -> None:
        """End what `enter` or `enter_on_loop` began, in the same thread."""
        with self._changed:
            self._count(-1)
            if self._forking:
                self._changed.notify_all()

    def enter_stream(self, stream: Any) -> None:
        """Begin a stream (a call of `grpc.aio`) on this thread's event loop, after `enter_on_loop`.

        A fork of another thread cancels it.
        """
        with self._changed:
            self._streams[stream] = threading.get_ident(), asyncio.get_running_loop()
        stream.add_done_callback(self._leave_stream)

    def _leave_stream(self, stream: Any) -> None:
        with self._changed:
            self._streams.pop(stream, None)
            if self._forking:
                self._changed.notify_all()

    def _begin(self, timeout: float) -> None:
        self._latest = max(self._latest, time.monotonic() + timeout)
        self._count(1)

    def _count(self, change: int) -> None:
        thread = threading.get_ident()
        calls = self._calls.get(thread, 0) + change
        if calls > 0:
            self._calls[thread] = calls
        else:
            # Less than none: the call began in the parent, whose thread forked inside of it.
            self._calls.pop(thread, None)

    def before(self) -> None:
        """Let no other thread be in a call while this one forks."""
        thread = threading.get_ident()
        with self._changed:
            self._forking += 1
            if FORK_SUPPORT:  # without it, the child touches nothing of gRPC
                left = max(self._latest - time.monotonic(), 0.0) + _GRACE
                self._changed.wait_for(lambda: not self._calls.keys() - {thread}, left)
                self._cancel_streams(thread)

    def _cancel_streams(self, thread: int) -> None:
        """End all streams: a child that is forked beside an open one dies inside gRPC now and then.

        On those of other threads nothing is asked any more; whoever asks on them after the fork opens them
        anew. What is asked on those of this thread is asked again on a new one, as the same attempt.
        """
        for stream, (owner, loop) in list(self._streams.items()):
            if owner == thread:
                stream.cancel()
                continue
            with suppress(RuntimeError):  # the loop was closed meanwhile
                loop.call_soon_threadsafe(stream.cancel)
        self._changed.wait_for(lambda: all(owner == thread for owner, _ in self._streams.values()), _GRACE)

    def in_parent(self) -> None:
        """Let the calls go on that waited for a fork."""
        with self._changed:
            self._forking -= 1
            self._changed.notify_all()
            waiting, self._waiting = self._waiting, []
        for loop, over in waiting:
            with suppress(RuntimeError):  # the loop was closed meanwhile
                loop.call_soon_threadsafe(_wake, over)

    def in_child(self) -> None:
        """Forget the calls of the parent; note what of gRPC cannot be used here."""
        self.generation += 1
        # Threads of the parent may hold the old one, and are not here to let go of it.
        self._changed = threading.Condition()
        self._forking = 0
        self._calls = {}
        self._streams = {}
        self._waiting = []
        if self._used and not FORK_SUPPORT:
            self._refusal = _UNSUPPORTED
        if self._loops_used:
            self._loop_refusal = _LOOPS_UNSUPPORTED


def _wake(over: asyncio.Future[None]) -> None:
    if not over.done():
        over.set_result(None)


def _too_long() -> DeadlineError:
    return DeadlineError("not sent in time: another thread forks this process")


FORKS = Forks()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=FORKS.before, after_in_parent=FORKS.in_parent, after_in_child=FORKS.in_child)
