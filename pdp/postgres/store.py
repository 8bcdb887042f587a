"""Everything behind the ports, over one database."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

import psycopg

from pdp.errors import StoreUnavailableError
from pdp.postgres.access.clock import PostgresClock
from pdp.postgres.access.connection import Access, Connection, connect
from pdp.postgres.access.pool import Pool
from pdp.postgres.access.pooling import refuses_settings, session_faults
from pdp.postgres.access.write_quota import WriteQuotas
from pdp.postgres.control_plane import PostgresControlPlane
from pdp.postgres.entities import PostgresEntityStore
from pdp.postgres.facts.point import PostgresInformationPoint
from pdp.postgres.grants import PostgresGrantStore
from pdp.postgres.keys import PostgresKeyDirectory
from pdp.postgres.ledger.ledger import PostgresLedger
from pdp.postgres.migrate import StoreUnfitError, check_server
from pdp.postgres.sessions import PostgresSessionStore


class PostgresStore:
    """The adapters, started. `async with PostgresStore.open(conninfo, replica=…) as store:`"""

    def __init__(self, access: Access, *, replica: str, capacity: int, quotas: WriteQuotas) -> None:
        self._access = access
        self._pool = Pool(access)
        self.information_point = PostgresInformationPoint(access, capacity=capacity)
        self.ledger = PostgresLedger(access, self._pool, replica=replica, capacity=capacity)
        self.sessions = PostgresSessionStore(self._pool)
        self.grants = PostgresGrantStore(self._pool)
        self.control_plane = PostgresControlPlane(self._pool, quota=quotas.control)
        self.entities = PostgresEntityStore(self._pool, quota=quotas.entities)
        self.keys = PostgresKeyDirectory(self._pool)
        self.clock = PostgresClock(self._pool)

    @classmethod
    @contextlib.asynccontextmanager
    async def open(
        cls,
        conninfo: str,
        *,
        replica: str,
        role: str = "placet_server",
        wait: float = 30.0,
        capacity: int = 4096,
        access: Access | None = None,
        ordinary_login: bool = False,
        quotas: WriteQuotas | None = None,
    ) -> AsyncIterator[PostgresStore]:
        """Connect and check, waiting at most `wait` seconds for a database that does not answer.

        Raises `StoreUnfitError` (a `StoreUnavailableError`) at once for one that must not be
        used as it is, and says why. `capacity` bounds each queue, `quotas` how often operators write
        (None: as often as they like). With `ordinary_login`, a login that is a superuser or owns the schema
        is refused too. Once open, a database that goes away and comes back needs no restart.
        """
        access = access or Access(conninfo=conninfo, role=role)
        await _until_fit(access, time.monotonic() + wait, ordinary_login=ordinary_login)
        store = cls(access, replica=replica, capacity=capacity, quotas=quotas or WriteQuotas())
        store.information_point.start()
        store.ledger.start()
        try:
            yield store
        finally:
            await store.ledger.close()
            await store.information_point.close()
            await store._pool.close()

    async def check(self) -> None:
        """Raise `StoreUnfitError` or `StoreUnavailableError` unless the database is fit to be used."""
        await self._pool.run(check_server)

    async def ping_writable(self, within: float = 2.0) -> None:
        """Write something that leaves no row, durably. Raises `StoreUnavailableError`.

        Notices a server that is down, hung, read-only or a standby, and a disk that does not write.
        """
        await self._pool.run(_write_nothing, within=within)


async def _write_nothing(connection: Connection) -> None:
    cursor = await connection.execute(
        """
        SELECT current_setting('transaction_read_only')::bool, pg_current_xact_id()::text,
               pg_logical_emit_message(true, 'placet', 'ping')::text
        """
    )
    row = await cursor.fetchone()
    assert row is not None  # a SELECT without FROM has one row
    read_only, *_ = row
    if read_only:
        raise StoreUnavailableError("the database is read-only")


async def _until_fit(access: Access, until: float, *, ordinary_login: bool) -> None:
    backoff = 0.1
    while True:
        try:
            connection = await connect(access, "pdp start-up")
        except StoreUnavailableError as exc:
            if fault := refuses_settings(exc):
                raise StoreUnfitError([fault]) from exc
            if time.monotonic() + backoff >= until or not _may_pass(exc):
                raise
            await asyncio.sleep(backoff)
            backoff = min(1.0, 2 * backoff)
            continue
        try:
            # What else is wrong could not be told from what a shared session does.
            if faults := await session_faults(access, connection):
                raise StoreUnfitError(faults)
            await check_server(connection, ordinary_login=ordinary_login)
        except TimeoutError as exc:
            raise StoreUnavailableError("the database did not answer the checks in time") from exc
        except psycopg.Error as exc:
            raise StoreUnavailableError(f"cannot check the database: {exc}") from exc
        finally:
            await connection.close()
        return


def _may_pass(exc: StoreUnavailableError) -> bool:
    """False for what waiting does not mend: the role or the database is not there."""
    text = str(exc)
    return 'invalid value for parameter "role"' not in text and "does not exist" not in text
