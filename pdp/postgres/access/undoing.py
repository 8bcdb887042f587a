"""Writes that are made and undone, to learn what they would change."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeVar

from pdp.postgres.access.connection import Connection

T = TypeVar("T")


class Runner(Protocol):
    """Runs work in a transaction, as `Pool` does."""

    async def run(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        """Return `await work(connection)`; raises what it raises."""
        ...


class UndoneError(Exception):
    """Ends a transaction so that nothing of it stays. `before` and `after` are what was read in it."""

    def __init__(self, before: Any, after: Any) -> None:
        super().__init__("undone")
        self.before = before
        self.after = after


class Undoing:
    """Runs a write in a transaction, reads what is there before and after it, and undoes it.

    `run` raises `UndoneError` where the write has written, returns None where it found nothing to write, and
    raises what the write raises.
    """

    def __init__(self, pool: Runner, read: Callable[[Connection], Awaitable[Any]]) -> None:
        self._pool = pool
        self._read = read

    async def run(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        async def undone(connection: Connection) -> T:
            before = await self._read(connection)
            result = await work(connection)
            if result is None:
                return result
            raise UndoneError(before, await self._read(connection))

        return await self._pool.run(undone)
