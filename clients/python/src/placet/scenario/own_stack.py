"""A stack of the runner's own: a `pdp dev` in another process, told what to do on its standard input.

The server need not be importable here: it is a distribution beside this one, started as a program.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from placet.scenario.stack import StackError

SERVER = "placet-pdp"
# Seconds. A first start makes a database; a restart waits for every replica.
STARTS_WITHIN, ANSWERS_WITHIN, STOPS_WITHIN = 180.0, 120.0, 60.0


@dataclass(frozen=True, kw_only=True, slots=True)
class OwnStack:
    """A running stack. It takes one command at a time."""

    process: asyncio.subprocess.Process
    log: Path
    targets: tuple[str, ...]
    jwks_url: str

    async def kill(self, component: str) -> None:
        await self._tell({"kill": component})

    async def restart(self, component: str) -> None:
        await self._tell({"restart": component})

    async def _tell(self, command: dict[str, str]) -> None:
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps(command).encode() + b"\n")
            await self.process.stdin.drain()
        except ConnectionError as exc:
            raise StackError(f"the stack has ended{_tail(self.log)}") from exc
        answer = await _read_line(self.process, self.log, ANSWERS_WITHIN)
        if answer.get("error"):
            raise StackError(str(answer["error"]))


@asynccontextmanager
async def own_stack(replicas: int) -> AsyncIterator[OwnStack]:
    """Run a fresh stack, of which nothing remains afterwards. Raises `StackError`."""
    try:
        distribution(SERVER)
    except PackageNotFoundError as exc:
        raise StackError(f"--stack needs the server: install {SERVER} beside this command") from exc
    with tempfile.TemporaryDirectory(prefix="placet-scenario-", ignore_cleanup_errors=True) as name:
        # PostgreSQL runs as another user where the runner is root, and has to reach its folder.
        os.chmod(name, 0o755)
        log = Path(name) / "output.txt"
        with log.open("wb") as output:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "pdp", "dev", "--control", "--clock", "manual", "--ports", "auto"),
                *("--replicas", str(replicas), "--data-dir", str(Path(name) / "data")),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=output,
                # It has a database of its own. A Ctrl-C goes to the runner alone, which then ends the stack.
                env={key: value for key, value in os.environ.items() if key != "DATABASE_URL"},
                start_new_session=True,
            )
        try:
            described = await _read_line(process, log, STARTS_WITHIN)
            yield OwnStack(
                process=process,
                log=log,
                targets=tuple(replica["grpc"] for replica in described["replicas"]),
                jwks_url=described["replicas"][0]["jwks"],
            )
        finally:
            await asyncio.shield(_end(process))


async def _end(process: asyncio.subprocess.Process) -> None:
    assert process.stdin is not None
    process.stdin.close()
    try:
        await asyncio.wait_for(process.wait(), STOPS_WITHIN)
    except TimeoutError:
        process.kill()
        await process.wait()


async def _read_line(process: asyncio.subprocess.Process, log: Path, within: float) -> dict[str, Any]:
    assert process.stdout is not None
    try:
        line = await asyncio.wait_for(process.stdout.readline(), within)
    except TimeoutError as exc:
        raise StackError(f"the stack did not answer within {within:.0f} s{_tail(log)}") from exc
    if not line:
        raise StackError(f"the stack has ended{_tail(log)}")
    answer: dict[str, Any] = json.loads(line)
    return answer


def _tail(log: Path) -> str:
    last = log.read_text(encoding="utf-8", errors="replace").splitlines()[-15:]
    return "; it said:" + "".join(f"\n  | {line}" for line in last) if last else ""
