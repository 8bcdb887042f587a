"""The database's clock."""

from __future__ import annotations

import math
import time
from datetime import datetime
from typing import LiteralString

import psycopg

from pdp.errors import InvalidFieldError, PermissionDeniedError
from pdp.model import ClockSample
from pdp.postgres.access.connection import Connection
from pdp.postgres.access.pool import Pool


class PostgresClock:
    """`pdp.ports.Clock`."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def now(self) -> datetime:
        return await self._pool.run(_read)

    async def compare(self, *, with_offset: bool) -> ClockSample:
        statement: LiteralString = "placet.now()" if with_offset else "clock_timestamp()"

        async def work(connection: Connection) -> ClockSample:
            # Whatever else the call waits for is over: what is measured is the question alone.
            began, local = time.monotonic(), time.time()
            cursor = await connection.execute(f"SELECT extract(epoch FROM {statement})::float8")
            row = await cursor.fetchone()
            round_trip = time.monotonic() - began
            assert row is not None  # a SELECT without FROM has one row
            return ClockSample(local=local + round_trip / 2, database=row[0], round_trip=round_trip)

        return await self._pool.run(work)

    async def advance(self, seconds: float) -> datetime:
        if not math.isfinite(seconds) or not 0 <= seconds <= 10 * 366 * 86400:
            raise InvalidFieldError("seconds", "is not between 0 and ten years")

        async def work(connection: Connection) -> datetime:
            try:
                await connection.execute(
                    "UPDATE placet.clock SET shift = shift + make_interval(secs => %s)", [seconds]
                )
            except psycopg.errors.InsufficientPrivilege as exc:
                raise PermissionDeniedError(
                    "this database has no manual clock (`pdp dev --clock=manual`)"
                ) from exc
            return await _read(connection)

        return await self._pool.run(work)


async def _read(connection: Connection) -> datetime:
    cursor = await connection.execute("SELECT placet.now()")
    row = await cursor.fetchone()
    assert row is not None  # a SELECT without FROM has one row
    moment: datetime = row[0]
    return moment
