"""What a guard says of its calls, in the background: bounded, and never in the way of a result.

Reports wait in a queue of `MAX_WAITING`; one more is dropped. A few threads of the process send them,
and try again for a few seconds where the server is away. `close()`, and the end of the process, wait
`FLUSH_SECONDS` at most for what is left. What was not reported is counted, and logged under
`placet.reports`; an allow about which nobody reports stays visible at the server (`ListOpenDecisions`).
"""

from __future__ import annotations

import logging
import multiprocessing
import threading
import weakref
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from multiprocessing.util import Finalize
from typing import Any

from placet._calls.action import Hops
from placet._calls.call import Call
from placet._calls.context import CallContext
from placet._calls.jsontext import json_text
from placet._calls.outcomes import report_outcome
from placet._transport.channel import SyncLink
from placet._transport.forks import FORKS
from placet.errors import (
    ContendedError,
    DeadlineError,
    InvalidRequestError,
    NotFoundError,
    OverloadedError,
    PlacetError,
    PreconditionError,
    UnavailableError,
)
from placet.model import Outcome, Reported, Session

MAX_WAITING = 1024
FLUSH_SECONDS = 5.0
# The most bytes of output that a server takes.
MAX_OUTPUT = 256 * 1024
_SENDERS = 16
_TIMEOUT = 5.0
# How many seconds pass before each further try.
_PAUSES = (0.1, 0.5, 2.0, 5.0)
# A thread that has nothing to do for so many seconds ends, so that a client that nobody closes keeps none.
_IDLE = 5.0
_PASSING = (ContendedError, DeadlineError, OverloadedError, UnavailableError)
_LOG = logging.getLogger("placet.reports")


@dataclass(frozen=True, kw_only=True, slots=True)
class _Report:
    call: Call[Reported]
    # What the log says if the report is lost.
    about: str
    voids: bool = False


@dataclass(slots=True)
class _Outbox:
    """What one process still has to send. Threads do not survive `fork()`, so each has its own."""

    changed: threading.Condition = field(default_factory=threading.Condition)
    waiting: deque[_Report] = field(default_factory=deque)
    senders: int = 0
    under_way: int = 0
    unreported: int = 0
    closing: threading.Event = field(default_factory=threading.Event)


class Reports:
    """Sends the reports of one client. Safe to use from any thread; nothing here raises."""

    def __init__(self, context: CallContext) -> None:
        self._context = context
        self._executed = context.checks.executed
        self._link = SyncLink(context.connection)
        self._outboxes: dict[int, _Outbox] = {}
        self._closed = False
        # Scripts end without closing their clients, so what is left is sent when the process ends.
        weakref.finalize(self, _flush, self._outboxes, FLUSH_SECONDS)

    @property
    def unreported(self) -> int:
        """How many reports of this process were dropped, or failed for good."""
        outbox = self._outboxes.get(FORKS.generation)
        return 0 if outbox is None else outbox.unreported

    @property
    def busy(self) -> bool:
        """Whether `close()` may have to wait."""
        return FORKS.generation in self._outboxes

    def outcome(
        self, decision_id: str, outcome: Outcome, output: bytes = b"", *, session: Session | str, chain: Hops
    ) -> None:
        """Report what became of an allow in a session."""
        self._put(
            lambda: _Report(
                call=report_outcome(
                    decision_id,
                    outcome,
                    session=session,
                    chain=chain,
                    tool_call_id="",
                    output=output,
                    attempt_id="",
                    executed=self._executed,
                ),
                about=f"decision {decision_id}: {outcome}",
            )
        )

    def void(self, session: Session | str, chain: Hops, tool_call_id: str, attempt_id: str) -> None:
        """Say that whatever was allowed to this attempt, if anything, will not be acted on."""
        self._put(
            lambda: _Report(
                call=report_outcome(
                    "",
                    Outcome.VOIDED,
                    session=session,
                    chain=chain,
                    tool_call_id=tool_call_id,
                    output=b"",
                    attempt_id=attempt_id,
                    executed=self._executed,
                ),
                about=f"call {tool_call_id}: voided",
                voids=True,
            )
        )

    def close(self, seconds: float = FLUSH_SECONDS) -> None:
        """Wait until all is sent, `seconds` at most; then give the rest up."""
        self._closed = True
        _flush(self._outboxes, seconds)
        self._link.close()

    def _put(self, make: Callable[[], _Report]) -> None:
        outbox = self._outbox()
        try:
            report = make()
        except PlacetError as exc:
            _count_lost(outbox, 1, "a report was not made: %s", exc)
            return
        with outbox.changed:
            taken = not self._closed and len(outbox.waiting) < MAX_WAITING and self._ensure_sender(outbox)
            if taken:
                outbox.waiting.append(report)
                outbox.changed.notify()
        if not taken:
            said = "%s was not reported: too many reports wait, or the client is closed"
            _count_lost(outbox, 1, said, report.about)

    def _outbox(self) -> _Outbox:
        """Return this process's outbox. A new one is flushed at the end of the process."""
        generation = FORKS.generation
        if generation not in self._outboxes:
            outbox = self._outboxes.setdefault(generation, _Outbox())
            if multiprocessing.parent_process() is not None:
                # Such a child ends without the exit handlers of the interpreter, and runs these.
                Finalize(None, _flush, (self._outboxes, FLUSH_SECONDS), exitpriority=0)
            return outbox
        return self._outboxes[generation]

    def _ensure_sender(self, outbox: _Outbox) -> bool:
        """Return whether there is a thread to send one report more; called under the outbox's lock."""
        if outbox.senders <= len(outbox.waiting) + outbox.under_way and outbox.senders < _SENDERS:
            # The thread is a daemon, so that no process waits at its end for a server that is away.
            sender = threading.Thread(target=self._serve, args=(outbox,), name="placet reports", daemon=True)
            try:
                sender.start()
            except RuntimeError:  # no more threads, or the interpreter is ending
                return outbox.senders > 0
            outbox.senders += 1
        return True

    def _serve(self, outbox: _Outbox) -> None:
        while True:
            with outbox.changed:
                outbox.changed.wait_for(lambda: outbox.waiting or outbox.closing.is_set(), _IDLE)
                if not outbox.waiting:
                    outbox.senders -= 1
                    return
                report = outbox.waiting.popleft()
                outbox.under_way += 1
            try:
                self._send(report, outbox)
            finally:
                with outbox.changed:
                    outbox.under_way -= 1
                    outbox.changed.notify_all()

    def _send(self, report: _Report, outbox: _Outbox) -> None:
        for pause in (*_PAUSES, None):
            try:
                call = self._context.prove(report.call)
                call.read(self._link.send(call.method, call.request.SerializeToString(), _TIMEOUT))
                return
            except PlacetError as exc:
                # The answer may still be recorded; but if it never is, there is nothing to void.
                missing = report.voids and isinstance(exc, NotFoundError)
                if pause is None or not (missing or isinstance(exc, _PASSING)):
                    if not missing and not (report.voids and isinstance(exc, PreconditionError)):
                        _count_lost(outbox, 1, "%s was not reported: %s", report.about, exc)
                    return
            outbox.closing.wait(pause)


def _flush(outboxes: dict[int, _Outbox], seconds: float) -> None:
    """Wait until this process has sent everything, `seconds` at most; then give the rest up."""
    outbox = outboxes.get(FORKS.generation)
    if outbox is None:
        return
    outbox.closing.set()
    with outbox.changed:
        outbox.changed.notify_all()
        outbox.changed.wait_for(lambda: not outbox.waiting and not outbox.under_way, seconds)
        left = len(outbox.waiting)
        outbox.waiting.clear()
    if left:
        _count_lost(outbox, left, "%d reports were given up at the end", left)


def _count_lost(outbox: _Outbox, number: int, message: str, *details: object) -> None:
    with outbox.changed:
        outbox.unreported += number
    _LOG.warning(message, *details)


def output_text(value: Any) -> bytes:
    """Return what a function returned as JSON text; empty where it has none of at most `MAX_OUTPUT` bytes.

    Only plain values are looked at, and no more of them than fit: it runs before the result is returned.
    """
    try:
        if _size(value, MAX_OUTPUT) < 0:
            return b""
        text = json_text(value, "output")
    except (InvalidRequestError, RuntimeError):  # too deep; or somebody changes it meanwhile
        return b""
    return text if len(text) <= MAX_OUTPUT else b""


def _size(value: Any, room: int) -> int:
    """Return the room that is left after at least `value`; less than 0: it does not fit, or is not plain."""
    kind = type(value)
    if kind is str:
        return room - len(value)
    if value is None or kind in (bool, int, float, Decimal):
        return room - 1
    if kind is dict:
        for key, item in value.items():
            room = _size(item, room - len(key) if type(key) is str else -1)
            if room < 0:
                return -1
        return room
    if kind is list or kind is tuple:
        for item in value:
            room = _size(item, room - 1)
            if room < 0:
                return -1
        return room
    return -1
