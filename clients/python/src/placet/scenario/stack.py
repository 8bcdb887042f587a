"""What the runner can do to a stack of its own."""

from __future__ import annotations

from typing import Annotated, Protocol

from pydantic import StringConstraints

Component = Annotated[str, StringConstraints(pattern=r"^(opa|postgres|pdp|pdp-[1-9][0-9]?)$")]


class StackError(Exception):
    """There is no stack, or it did not do what was asked."""


class Stack(Protocol):
    async def kill(self, component: str) -> None:
        """Kill the component with SIGKILL, and keep it down. Raises `StackError`."""

    async def restart(self, component: str) -> None:
        """Start the component again, after killing it if it is up. Return when every replica is ready.

        Raises `StackError`.
        """
