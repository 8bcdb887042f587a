"""A few connections for calls that are not batched: sessions, registry, keys, look-ups."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import psycopg

from pdp.errors import StoreUnavailableError
from pdp.postgres.access.connection import Access, Connection, bounded, connect, stale, unavailable

T = TypeVar("T")


class Pool:
    """At most `size` connections, opened on demand. Nothing waits longer than `call_timeout`."""

    def __init__(self, access: Access, *, size: int = 4, application: str = "pdp") -> None:
        self._access = access
        self._application = application
        self._free = asyncio.Semaphore(size)
        self._idle: list[Connection] = []
        # What the server warned of on each connection since its last transaction began.
        self._warnings: dict[Connection, list[str]] = {}
        self._closed = False

    async def run(self, work: Callable[[Connection], Awaitable[T]], *, within: float | None = None) -> T:
        """Return `await work(connection)`, run in one transaction that commits at the end.

        Raises what `work` raises, `StoreUnavailableError` for a database error that `work`
        let through or for a call that took too long (`within`, seconds).
        """
        until = time.monotonic() + (self._access.call_timeout if within is None else within)
        try:
            async with asyncio.timeout(until - time.monotonic()):
                await self._free.acquire()
        except TimeoutError as exc:
            raise StoreUnavailableError("every connection is busy") from exc
        try:
            return await self._run(work, until)
        finally:
            self._free.release()

    async def _run(self, work: Callable[[Connection], Awaitable[T]], until: float) -> T:
        connection = await self._connection()
        warnings = self._warnings[connection]
        warnings.clear()
        try:
            result = await bounded(connection, _transaction(connection, work), until - time.monotonic())
        except TimeoutError as exc:
            raise StoreUnavailableError("the database did not answer in time") from exc
        except psycopg.errors.ReadOnlySqlTransaction as exc:
            await connection.close()
            raise unavailable(exc) from exc
        except psycopg.Error as exc:
            raise unavailable(exc) from exc
        finally:
            if self._closed or connection.closed or connection.broken:
                await self._discard(connection)
            else:
                self._idle.append(connection)
        if warnings:
            # PostgreSQL warns, for example, of a standby that was not waited for.
            raise StoreUnavailableError(f"the commit is in doubt: {'; '.join(warnings)}")
        return result

    async def _connection(self) -> Connection:
        if self._closed:
            raise StoreUnavailableError("the store is closed")
        while self._idle:
            connection = self._idle.pop()
            if not stale(connection):
                return connection
            await self._discard(connection)
        connection = await connect(self._access, self._application)
        heard: list[str] = []
        connection.add_notice_handler(lambda notice: _hear(notice, heard))
        self._warnings[connection] = heard
        return connection

    async def _discard(self, connection: Connection) -> None:
        self._warnings.pop(connection, None)
        with contextlib.suppress(psycopg.Error):
            await connection.close()

    async def close(self) -> None:
        self._closed = True
        while self._idle:
            await self._discard(self._idle.pop())


def _hear(notice: psycopg.errors.Diagnostic, heard: list[str]) -> None:
    if notice.severity_nonlocalized == "WARNING":
        heard.append(notice.message_primary or "a warning without words")


async def _transaction(connection: Connection, work: Callable[[Connection], Awaitable[T]]) -> T:
    async with connection.transaction():
        await connection.plan_anew()
        return await work(connection)
