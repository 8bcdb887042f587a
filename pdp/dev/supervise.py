"""Child processes that stay up while we do, and never outlive us.

Each child runs in a process group of its own, so that a Ctrl-C at the terminal reaches us alone and
the order of stopping is ours; the kernel ends it if we are killed (`pdp.dev.launch`).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from signal import Signals

LAUNCHER = Path(__file__).with_name("launch.py")
FIRST_BACKOFF, LAST_BACKOFF = 0.1, 5.0
# A child that stayed up this long starts again without delay when it dies.
STEADY_AFTER = 10.0
POLL = 0.05


class ChildError(Exception):
    """A child did not become ready. The message names its log and ends with its last lines."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Account:
    """The user that a child runs as."""

    uid: int
    gid: int
    name: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Child:
    """What to run, and how to tell that it is well. Times are in seconds."""

    name: str
    argv: tuple[str, ...]
    log: Path
    # Answers whether the child serves. Polled while it starts; exceptions are not caught.
    ready: Callable[[], Awaitable[bool]]
    environment: Mapping[str, str] | None = None
    directory: Path | None = None
    account: Account | None = None
    ready_within: float = 60.0
    # Sent in this order, each with its time; SIGKILL to the whole group follows.
    stop_signals: tuple[tuple[Signals, float], ...] = ((signal.SIGTERM, 15.0),)
    # What the kernel sends when we die without stopping anything.
    orphan_signal: Signals = signal.SIGKILL
    # Called before every start, the first included; may raise ChildError to give up.
    prepare: Callable[[], Awaitable[None]] | None = None
    # Exit codes that starting again would only repeat.
    fatal_codes: frozenset[int] = frozenset()


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """Something happened to a child: `started`, `ready`, `died`, `failed` (and is given up)."""

    child: str
    what: str
    pid: int | None = None
    detail: str = ""


@dataclass(slots=True)
class _Running:
    child: Child
    process: asyncio.subprocess.Process | None = None
    keeper: asyncio.Task[None] | None = None
    is_ready: asyncio.Event = field(default_factory=asyncio.Event)
    may_run: asyncio.Event = field(default_factory=asyncio.Event)
    stopping: bool = False
    failure: ChildError | None = None
    # Where in the log this start begins.
    log_start: int = 0


class Supervisor:
    """Starts children, starts again what dies, and stops everything in reverse order."""

    def __init__(self, report: Callable[[Change], None] = lambda change: None) -> None:
        self._report = report
        self._running: dict[str, _Running] = {}

    async def start(self, child: Child) -> None:
        """Run `child` and return when it is ready. Raises `ChildError`; the child is then gone."""
        if child.name in self._running:
            raise ValueError(f"{child.name} runs already")
        running = _Running(child=child)
        running.may_run.set()
        self._running[child.name] = running
        try:
            await self._launch(running)
            await self._until_ready(running)
        except BaseException:
            del self._running[child.name]
            await asyncio.shield(self._end(running))
            raise
        running.keeper = asyncio.create_task(self._keep(running), name=f"keep {child.name}")

    def pid(self, name: str) -> int | None:
        """Return the process id now; None while the child is down."""
        process = self._running[name].process
        return process.pid if process is not None and process.returncode is None else None

    def runs(self, name: str) -> bool:
        """Return whether there is such a child, up or down."""
        return name in self._running

    def is_ready(self, name: str) -> bool:
        return self._running[name].is_ready.is_set()

    async def until_ready(self, name: str) -> None:
        """Wait until the child serves (again). Raises `ChildError` if it was given up."""
        running = self._running[name]
        await running.is_ready.wait()
        if running.failure is not None:
            raise running.failure

    @contextlib.asynccontextmanager
    async def killed(self, name: str) -> AsyncIterator[None]:
        """Send SIGKILL to the child and keep it down within the context; afterwards it serves again."""
        running = self._running[name]
        running.may_run.clear()
        running.is_ready.clear()
        try:
            if running.process is not None and running.process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    running.process.kill()
                await running.process.wait()
            yield
        finally:
            running.may_run.set()
        await self.until_ready(name)

    async def stop(self) -> None:
        """Stop every child, the last one started first. Bounded by the children's own times."""
        for running in self._running.values():
            running.stopping = True
        for running in reversed(list(self._running.values())):
            await self._end(running)
        self._running.clear()

    # --- one child -----------------------------------------------------------

    async def _launch(self, running: _Running) -> None:
        child = running.child
        if child.prepare is not None:
            await child.prepare()
        child.log.parent.mkdir(parents=True, exist_ok=True)
        account = child.account
        launch = [sys.executable, "-I", "-S", str(LAUNCHER), str(os.getpid()), str(int(child.orphan_signal))]
        launch += [str(account.uid), str(account.gid)] if account is not None else ["-1", "-1"]
        with child.log.open("ab") as log:
            running.log_start = log.tell()
            running.process = await asyncio.create_subprocess_exec(
                *launch,
                *child.argv,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=child.directory,
                env=dict(child.environment) if child.environment is not None else None,
                start_new_session=True,
            )
        self._report(Change(child=child.name, what="started", pid=running.process.pid))

    async def _until_ready(self, running: _Running) -> None:
        """Wait until the child is ready. Raises `ChildError` if it exits first or takes too long."""
        child, process = running.child, running.process
        assert process is not None
        limit = time.monotonic() + child.ready_within
        while not await child.ready():
            if process.returncode is not None:
                ended = describe_exit(process.returncode)
                raise ChildError(
                    f"{child.name} ended at start-up with {ended}{tail(child.log, running.log_start)}"
                )
            if time.monotonic() > limit:
                late = f"was not ready after {child.ready_within:.0f} s"
                raise ChildError(f"{child.name} {late}{tail(child.log, running.log_start)}")
            await asyncio.sleep(POLL)
        running.is_ready.set()
        self._report(Change(child=child.name, what="ready", pid=process.pid))

    async def _keep(self, running: _Running) -> None:
        """Wait for the child's end and start it again, for ever."""
        child = running.child
        backoff = 0.0
        began = time.monotonic()
        while True:
            assert running.process is not None
            code = await running.process.wait()
            running.is_ready.clear()
            if running.stopping:
                return
            self._report(Change(child=child.name, what="died", detail=describe_exit(code)))
            if code in child.fatal_codes:
                self._give_up(
                    running, ChildError(f"{child.name} gave up{tail(child.log, running.log_start)}")
                )
                return
            steady = time.monotonic() - began > STEADY_AFTER
            backoff = 0.0 if steady else min(max(FIRST_BACKOFF, backoff * 2), LAST_BACKOFF)
            await asyncio.sleep(backoff)
            await running.may_run.wait()
            began = time.monotonic()
            try:
                await self._launch(running)
            except ChildError as exc:
                self._give_up(running, exc)
                return
            try:
                await self._until_ready(running)
            except ChildError as exc:
                self._report(Change(child=child.name, what="not ready", detail=str(exc)))
                await self._signal_until_dead(running)

    def _give_up(self, running: _Running, failure: ChildError) -> None:
        running.failure = failure
        running.is_ready.set()
        self._report(Change(child=running.child.name, what="failed", detail=str(failure)))

    async def _end(self, running: _Running) -> None:
        running.stopping = True
        if running.keeper is not None:
            running.keeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await running.keeper
        await self._signal_until_dead(running)

    async def _signal_until_dead(self, running: _Running) -> None:
        process = running.process
        if process is None:
            return
        for number, seconds in running.child.stop_signals:
            if process.returncode is not None:
                break
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(number)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), seconds)
        # This ends what is left of the group, also a child that ignored all signals so far.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


def describe_exit(code: int) -> str:
    if code < 0:
        return f"signal {Signals(-code).name}"
    return f"exit code {code}"


def tail(log: Path, start: int = 0, *, lines: int = 15) -> str:
    """Return the end of a log, from byte `start` at the earliest, worded as the end of an error message."""
    try:
        with log.open("rb") as file:
            file.seek(start)
            last = file.read().decode(errors="replace").splitlines()[-lines:]
    except OSError:
        last = []
    text = "".join(f"\n  | {line}" for line in last)
    return f"; the end of {log}:{text}" if text else f" (its log, {log}, is empty)"
