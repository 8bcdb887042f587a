"""The supervisor on real processes."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from pdp.dev.supervise import Change, Child, ChildError, Supervisor
from tests.support.processes import PATIENCE, eventually, is_alive, running_with

# Serves by the existence of a file; ends on SIGTERM.
SERVES = "import pathlib, signal, sys; pathlib.Path(sys.argv[1]).touch(); signal.pause()"
DEAF = (
    "import pathlib, signal, sys; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
    " pathlib.Path(sys.argv[1]).touch(); [signal.pause() for _ in iter(int, 1)]"
)


class Changes:
    """What a supervisor reported."""

    def __init__(self) -> None:
        self.seen: list[Change] = []
        self._news = asyncio.Event()

    def __call__(self, change: Change) -> None:
        self.seen.append(change)
        self._news.set()

    async def count(self, what: str, times: int) -> list[Change]:
        """Wait until `what` was reported so often."""
        async with asyncio.timeout(PATIENCE):
            while len(found := [change for change in self.seen if change.what == what]) < times:
                self._news.clear()
                await self._news.wait()
        return found


@pytest.fixture
async def changes() -> Changes:
    return Changes()


@pytest.fixture
async def supervisor(changes: Changes) -> AsyncIterator[Supervisor]:
    supervisor = Supervisor(changes)
    yield supervisor
    await supervisor.stop()


def child(
    folder: Path,
    code: str,
    name: str = "child",
    *,
    ready_within: float = PATIENCE,
    fatal_codes: frozenset[int] = frozenset(),
    stop_signals: Sequence[tuple[signal.Signals, float]] = ((signal.SIGTERM, PATIENCE),),
) -> Child:
    """A Python program that is ready when it has created its file; a start removes the old one."""
    up = folder / f"{name}.up"

    async def ready() -> bool:
        return up.exists()

    async def prepare() -> None:
        up.unlink(missing_ok=True)

    return Child(
        name=name,
        argv=(sys.executable, "-c", code, str(up)),
        log=folder / "logs" / f"{name}.log",
        ready=ready,
        prepare=prepare,
        ready_within=ready_within,
        fatal_codes=fatal_codes,
        stop_signals=tuple(stop_signals),
    )


async def test_start_returns_when_the_child_is_ready(supervisor: Supervisor, tmp_path: Path) -> None:
    await supervisor.start(child(tmp_path, SERVES))
    pid = supervisor.pid("child")
    assert pid is not None
    assert is_alive(pid)
    assert (tmp_path / "child.up").exists()


async def test_child_that_dies_is_started_again(
    supervisor: Supervisor, changes: Changes, tmp_path: Path
) -> None:
    await supervisor.start(child(tmp_path, SERVES))
    first = supervisor.pid("child")
    assert first is not None
    os.kill(first, signal.SIGKILL)
    await changes.count("ready", 2)
    second = supervisor.pid("child")
    assert second not in (None, first)
    assert [change.what for change in changes.seen] == ["started", "ready", "died", "started", "ready"]


async def test_child_that_cannot_start_is_an_error_that_shows_its_log(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    with pytest.raises(ChildError, match=r"(?s)child ended at start-up with exit code 3.*no luck today"):
        await supervisor.start(
            child(tmp_path, "import sys; print('no luck today', file=sys.stderr); sys.exit(3)")
        )


async def test_child_that_never_becomes_ready_is_stopped(supervisor: Supervisor, tmp_path: Path) -> None:
    with pytest.raises(ChildError, match="was not ready after 1 s"):
        await supervisor.start(child(tmp_path, "import signal; signal.pause()", ready_within=1.0))
    assert not running_with(str(tmp_path))


async def test_fatal_exit_code_is_not_tried_again(
    supervisor: Supervisor, changes: Changes, tmp_path: Path
) -> None:
    code = (
        "import pathlib, signal, sys; signal.signal(signal.SIGUSR1, lambda *_: sys.exit(78));"
        "pathlib.Path(sys.argv[1]).touch(); signal.pause()"
    )
    await supervisor.start(child(tmp_path, code, fatal_codes=frozenset({78})))
    pid = supervisor.pid("child")
    assert pid is not None
    os.kill(pid, signal.SIGUSR1)
    await changes.count("failed", 1)
    with pytest.raises(ChildError, match="gave up"):
        await supervisor.until_ready("child")


async def test_killed_child_stays_down_within_the_context_and_serves_after_it(
    supervisor: Supervisor, changes: Changes, tmp_path: Path
) -> None:
    await supervisor.start(child(tmp_path, SERVES))
    async with supervisor.killed("child"):
        await changes.count("died", 1)
        assert supervisor.pid("child") is None
    assert supervisor.is_ready("child")
    assert supervisor.pid("child") is not None


async def test_children_stop_in_reverse_order(changes: Changes, tmp_path: Path) -> None:
    supervisor = Supervisor(changes)
    order = tmp_path / "order"
    code = (
        "import pathlib, signal, sys\n"
        "def stop(*_):\n"
        f"    with open({str(order)!r}, 'a') as file: print(pathlib.Path(sys.argv[1]).stem, file=file)\n"
        "    sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, stop); pathlib.Path(sys.argv[1]).touch(); signal.pause()"
    )
    for name in ("first", "second", "third"):
        await supervisor.start(child(tmp_path, code, name))
    await supervisor.stop()
    assert order.read_text().split() == ["third", "second", "first"]
    assert not running_with(str(tmp_path))


async def test_child_that_ignores_the_signal_is_killed(changes: Changes, tmp_path: Path) -> None:
    supervisor = Supervisor(changes)
    await supervisor.start(child(tmp_path, DEAF, stop_signals=[(signal.SIGTERM, 0.2)]))
    async with asyncio.timeout(PATIENCE):
        await supervisor.stop()
    assert not running_with(str(tmp_path))


def test_children_end_when_the_supervisor_is_killed(tmp_path: Path) -> None:
    script = (
        "import asyncio, sys\n"
        "from pathlib import Path\n"
        "from pdp.dev.supervise import Supervisor\n"
        "from tests.integration.test_supervise import DEAF, child\n"
        "async def main():\n"
        "    await Supervisor().start(child(Path(sys.argv[1]), DEAF))\n"
        "    print('up', flush=True)\n"
        "    await asyncio.Event().wait()\n"
        "asyncio.run(main())\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]
    ) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"up\n"
        assert len(running_with(str(tmp_path / "child.up"))) == 1
        parent.kill()
    eventually(lambda: not running_with(str(tmp_path)), "the child is gone")
