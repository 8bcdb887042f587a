"""What a stack of the runner's own can do besides answering."""

from __future__ import annotations

from typing import Annotated, Protocol

from pydantic import StringConstraints

Component = Annotated[str, StringConstraints(pattern=r"^(opa|postgres|pdp|pdp-[1-9][0-9]?)$")]


class StackError(Exception):
    """The stack cannot be had, or cannot do what was asked."""


class Stack(Protocol):
    async def kill(self, component: str) -> None:
        """SIGKILL it, and keep it down. Raises `StackError`."""

    async def restart(self, component: str) -> None:
        """Start it again, after killing it if it is up. Return when every replica is ready.

        Raises `StackError`.
        """
