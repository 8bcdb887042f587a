"""A whole stack of real processes for tests: PostgreSQL, OPA and PDP replicas, on free ports.

`real_stack` and `real_pdp` are session-wide; tests keep apart by tenants of their own. Tests that
harm a stack start one themselves with `running_stack`.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from pdp.dev import local_postgres
from tests.support.processes import PATIENCE, eventually, is_alive

ROOT = Path(__file__).parents[2]
START_PATIENCE = 180.0
COMMAND = (sys.executable, "-m", "pdp", "dev")
_NUMBERS = count(1)


@dataclass(kw_only=True, slots=True)
class RunningStack:
    """A `pdp dev` in a process of its own."""

    process: subprocess.Popen[str]
    data_dir: Path
    output: Path

    @property
    def log(self) -> str:
        """What it has printed so far."""
        return self.output.read_text(encoding="utf-8", errors="replace")

    def described(self) -> dict[str, Any]:
        """Return its stack.json as it is now; empty while the stack is not up."""
        with contextlib.suppress(FileNotFoundError):
            description: dict[str, Any] = json.loads((self.data_dir / "stack.json").read_text())
            return description
        return {}

    def pids(self) -> dict[str, int]:
        """Return the process ids of what runs now, by name."""
        described = self.described()
        parts = {replica["name"]: replica for replica in described["replicas"]}
        parts |= {name: described[name] for name in ("opa", "postgres") if described[name]}
        return {name: part["pid"] for name, part in parts.items() if part["pid"] is not None}

    def replica(self, number: int = 1) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self.described()["replicas"][number - 1]
        return found

    def until_up(self) -> None:
        def up() -> bool:
            assert self.process.poll() is None, f"pdp dev ended:\n{self.log}"
            return bool(self.described())

        eventually(up, f"the stack is up; so far it said\n{self.log}", within=START_PATIENCE)

    def restarted(self, name: str, before: int) -> int:
        """Wait until the part runs under another process id, and return that."""
        pid = eventually(
            lambda: (new := self.pids().get(name)) not in (None, before) and new, f"{name} is back"
        )
        assert isinstance(pid, int)
        return pid

    def ready(self, number: int = 1) -> bool:
        """Whether a replica answers 200 on /readyz."""
        try:
            with urllib.request.urlopen(f"{self.replica(number)['http']}/readyz", timeout=PATIENCE) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def stop(self, number: signal.Signals = signal.SIGINT) -> int:
        """Stop the stack in order, see that none of its processes is left, and return its exit code."""
        pids = list(self.pids().values()) if self.described() else []
        self.process.send_signal(number)
        code = self.process.wait(PATIENCE)
        left = [pid for pid in pids if is_alive(pid)]
        assert not left, f"left running: {left}"
        return code


def start_stack(data_dir: Path, *options: str, environment: Mapping[str, str] | None = None) -> RunningStack:
    """Start `pdp dev` with `options`, without waiting."""
    data_dir.mkdir(parents=True, exist_ok=True)
    output = data_dir / "output.txt"
    inherited = {name: value for name, value in os.environ.items() if name != "DATABASE_URL"}
    own = {**inherited, "NO_COLOR": "1", "PYTHONUNBUFFERED": "1", **(environment or {})}
    with output.open("w", encoding="utf-8") as stream:
        process = subprocess.Popen(
            [*COMMAND, "--data-dir", str(data_dir), *options],
            cwd=ROOT,
            env=own,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            text=True,
        )
    return RunningStack(process=process, data_dir=data_dir, output=output)


@contextlib.contextmanager
def stack_directory() -> Iterator[Path]:
    """Yield a data directory that the database's user reaches; it is deleted afterwards."""
    with tempfile.TemporaryDirectory(prefix="placet-stack-", ignore_cleanup_errors=True) as name:
        Path(name).chmod(0o755)
        try:
            yield Path(name) / "data"
        finally:
            local_postgres.remove(Path(name) / "data" / "postgres")


@contextlib.contextmanager
def running_stack(
    *options: str, data_dir: Path | None = None, environment: Mapping[str, str] | None = None
) -> Iterator[RunningStack]:
    """Yield a stack that is up, on free ports; it is stopped at the end whatever happened."""
    with contextlib.ExitStack() as stack:
        directory = data_dir or stack.enter_context(stack_directory())
        running = start_stack(directory, "--ports", "auto", *options, environment=environment)
        try:
            running.until_up()
            yield running
        finally:
            if running.process.poll() is None:
                running.process.terminate()
                running.process.wait(PATIENCE)


@dataclass(kw_only=True, slots=True)
class RealPdp:
    """One replica of a running stack, as tests address it."""

    stack: RunningStack
    replica: int = 1
    tenants: list[str] = field(default_factory=list)

    @property
    def target(self) -> str:
        """Where it serves gRPC: `host:port`."""
        address: str = self.stack.replica(self.replica)["grpc"]
        return address

    @property
    def http_url(self) -> str:
        url: str = self.stack.replica(self.replica)["http"]
        return url

    def jwks(self) -> dict[str, Any]:
        """Return the published keys, as an auditor fetches them."""
        with urllib.request.urlopen(f"{self.http_url}/.well-known/jwks.json", timeout=PATIENCE) as answer:
            keys: dict[str, Any] = json.load(answer)
        return keys

    def fresh_tenant(self) -> str:
        """Return a tenant name that no other test uses. The tenant does not exist yet."""
        self.tenants.append(f"tenant-{os.getpid()}-{next(_NUMBERS)}")
        return self.tenants[-1]


@pytest.fixture(scope="session")
def real_stack() -> Iterator[RunningStack]:
    """Yield a stack of two replicas for all tests that do it no harm."""
    with running_stack("--replicas", "2", "--clock", "manual") as stack:
        yield stack


@pytest.fixture(scope="session")
def real_pdp(real_stack: RunningStack) -> RealPdp:
    """Return the first replica of `real_stack`."""
    return RealPdp(stack=real_stack)


@pytest.fixture(scope="session")
def steady_pdp() -> Iterator[RealPdp]:
    """Yield a replica of a stack whose clock nobody moves, for replicas that demand credentials beside it."""
    with running_stack() as stack:
        yield RealPdp(stack=stack)
