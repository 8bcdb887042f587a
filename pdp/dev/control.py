"""Kill and restart parts of a stack on request: for scenarios, and for programs that own a stack.

`pdp dev --control` takes commands on standard input and answers on standard output, one JSON object
a line. The first line out describes the stack (it is what stack.json holds). `{"kill": "opa"}` kills
a part and keeps it down, `{"restart": "opa"}` starts it (again); both are answered by
`{"ok": true}` or `{"error": "…"}`. The end of standard input stops everything.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

from pdp.dev.stack import Stack, answers_ok
from pdp.dev.supervise import ChildError
from placet.scenario.stack import StackError

POLL = 0.05
# Seconds that replicas may take to be ready after a restart.
READY_WITHIN = 90.0
# What replicas cannot start without.
NEEDED = ("opa", "postgres")


@dataclass(slots=True)
class Control:
    """Keeps down what was killed until it is restarted. Names: opa, postgres, pdp-1 …, pdp (all)."""

    stack: Stack
    _down: dict[str, AsyncExitStack] = field(default_factory=dict)

    async def kill(self, component: str) -> None:
        """Send SIGKILL to the component and keep it down. Raises `StackError`."""
        for name in self._names(component):
            if name not in self._down:
                held = AsyncExitStack()
                await held.enter_async_context(self.stack.supervisor.killed(name))
                self._down[name] = held

    async def restart(self, component: str) -> None:
        """Start the component, after killing it if it is up; return when replicas are ready.

        Raises `StackError`.
        """
        names = self._names(component)
        needed = [name for name in NEEDED if name in self._down and name not in names]
        if needed and component.startswith("pdp"):
            raise StackError(f"a replica does not start without {needed[0]}: restart that first")
        await self.kill(component)
        try:
            for name in names:
                await self._down.pop(name).aclose()
        except ChildError as exc:
            raise StackError(str(exc)) from exc
        if not any(name in self._down for name in NEEDED):
            await self._until_ready()

    def _names(self, component: str) -> list[str]:
        replicas = [replica.name for replica in self.stack.replicas]
        if component == "pdp":
            return replicas
        known = [name for name in NEEDED if self.stack.supervisor.runs(name)] + replicas
        if component not in known:
            raise StackError(f"this stack has no {component}; it has {', '.join(known)}")
        return [component]

    async def _until_ready(self) -> None:
        limit = time.monotonic() + READY_WITHIN
        for replica in self.stack.replicas:
            while replica.name not in self._down and not await answers_ok(replica.http_address, "/readyz"):
                if time.monotonic() > limit:
                    raise StackError(f"{replica.name} was not ready after {READY_WITHIN:.0f} s")
                await asyncio.sleep(POLL)


async def serve(stack: Stack) -> None:
    """Do what standard input says until its end."""
    control = Control(stack)
    commands = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(commands), sys.stdin
    )
    _say(json.loads(await asyncio.to_thread(stack.description.read_text, encoding="utf-8")))
    while line := await commands.readline():
        _say(await _answer(control, line))


async def _answer(control: Control, line: bytes) -> dict[str, Any]:
    try:
        command = json.loads(line)
        match command:
            case {"kill": str(component)}:
                await control.kill(component)
            case {"restart": str(component)}:
                await control.restart(component)
            case _:
                return {"error": 'commands are {"kill": "…"} and {"restart": "…"}'}
    except (StackError, ValueError) as exc:
        return {"error": str(exc)}
    return {"ok": True}


def _say(value: dict[str, Any]) -> None:
    print(json.dumps(value), flush=True)
