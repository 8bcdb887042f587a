"""A real stack (PDP, OPA, PostgreSQL with fsync) in processes of its own, for the time of a run."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pdp.dev import local_postgres

ROOT = Path(__file__).resolve().parent.parent
START_PATIENCE = 300.0
STOP_PATIENCE = 60.0


class StackError(Exception):
    """The stack did not come up; the message ends with what it said."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Stack:
    """A running `pdp dev` of one replica."""

    directory: Path
    grpc: str
    http: str
    opa_socket: str
    pdp_pid: int
    opa_pid: int
    # None: the database is not a child of the stack (DATABASE_URL), and its CPU is not seen.
    postgres_pid: int | None
    database_url: str

    @property
    def pids(self) -> dict[str, int]:
        pids = {"pdp": self.pdp_pid, "opa": self.opa_pid}
        return pids if self.postgres_pid is None else {**pids, "postgres": self.postgres_pid}


def attached(directory: Path) -> Stack:
    """The stack that runs in a data directory. Raises `StackError` if there is none."""
    try:
        described: dict[str, Any] = json.loads((directory / "stack.json").read_text(encoding="utf-8"))
    except FileNotFoundError as exc:
        raise StackError(f"no stack runs in {directory}: {exc.filename} is missing") from exc
    replica, opa, database = described["replicas"][0], described["opa"], described["postgres"]
    return Stack(
        directory=directory,
        grpc=replica["grpc"],
        http=replica["http"],
        opa_socket=opa["socket"],
        pdp_pid=replica["pid"],
        opa_pid=opa["pid"],
        postgres_pid=None if database is None else database["pid"],
        database_url=os.environ.get("DATABASE_URL")
        or f"postgresql:///{local_postgres.DATABASE}?host={database['sockets']}&user={local_postgres.SUPERUSER}",
    )


@contextlib.contextmanager
def running() -> Iterator[Stack]:
    """Start a stack on free ports and an empty database; stop it and delete its data at the end."""
    with tempfile.TemporaryDirectory(prefix="placet-bench-", ignore_cleanup_errors=True) as name:
        # The database may run as another user, who has to get in.
        Path(name).chmod(0o755)
        directory = Path(name) / "data"
        directory.mkdir()
        output = directory / "output.txt"
        argv = [sys.executable, "-m", "pdp", "dev", "--ports", "auto", "--data-dir", str(directory)]
        with output.open("w", encoding="utf-8") as stream:
            process = subprocess.Popen(
                argv,
                cwd=ROOT,
                env={**os.environ, "NO_COLOR": "1"},
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                # A Ctrl-C is ours; the order of stopping follows below.
                start_new_session=True,
            )
        try:
            until_up(process, directory, output)
            yield attached(directory)
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(STOP_PATIENCE)
            local_postgres.remove(directory / "postgres")


def until_up(process: subprocess.Popen[bytes], directory: Path, output: Path) -> None:
    deadline = time.monotonic() + START_PATIENCE
    while not (directory / "stack.json").exists():
        if process.poll() is not None or time.monotonic() > deadline:
            raise StackError("the stack did not come up:\n" + output.read_text(encoding="utf-8"))
        time.sleep(0.05)
