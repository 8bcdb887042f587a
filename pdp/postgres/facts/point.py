"""The information point: calls that come in together are read together."""

from __future__ import annotations

import asyncio
import contextlib
import time

import psycopg

from pdp.errors import DeadlineExceededError, PdpError, StoreUnavailableError, TenantUnknownError
from pdp.model import Facts, FactsRequest
from pdp.overload.inbox import Inbox, Ticket
from pdp.overload.queue_stats import QueueStats
from pdp.postgres.access.connection import (
    Access,
    Connection,
    bounded,
    connect,
    lost,
    stale,
    storable,
    unavailable,
)
from pdp.postgres.facts.decode import TenantFacts, read_facts, read_scalars
from pdp.postgres.facts.statement import query_facts
from pdp.postgres.rows import check_storable

BATCH = 64
READERS = 2
# How many entities that boundaries point to a batch may read: each has 16 KiB of attributes at most.
LISTED = 1024
FIRST_BACKOFF, LAST_BACKOFF = 0.05, 1.0

_Ticket = Ticket[FactsRequest, Facts]


class PostgresInformationPoint:
    """`pdp.ports.InformationPoint`.

    Calls that come in together are read together, at most `batch` at once; a lone call is read at once.
    """

    def __init__(
        self, access: Access, *, capacity: int = 4096, readers: int = READERS, batch: int = BATCH
    ) -> None:
        self._access = access
        self._number = readers
        self._batch = batch
        self._inbox: Inbox[FactsRequest, Facts] = Inbox(
            capacity=capacity, overdue=_overdue, weigh=lambda request: len(request.listed)
        )
        self._readers: list[asyncio.Task[None]] = []

    def start(self) -> None:
        self._readers = [asyncio.create_task(self._read(), name=f"facts {n}") for n in range(self._number)]

    async def close(self) -> None:
        """Stop reading; whoever waits gets `StoreUnavailableError`."""
        for reader in self._readers:
            reader.cancel()
        await asyncio.gather(*self._readers, return_exceptions=True)
        self._inbox.fail_waiting(lambda: StoreUnavailableError("the store is closed"))

    def load(self) -> QueueStats:
        """Return how many calls wait to be read, and how many were dropped."""
        return self._inbox.load()

    async def gather(self, request: FactsRequest) -> Facts:
        if not self._readers or any(reader.done() for reader in self._readers):
            raise StoreUnavailableError("the store is closed")
        check_storable(request.key)
        for field, text in (
            ("action.tool", request.tool),
            *(("chain", agent) for agent in request.agents),
            *(("action.arguments", query.id) for query in request.entities),
            *(("boundary", name.id) for name in request.listed),
            *(("chain", counter.scope) for counter in request.counters),
        ):
            storable(field, text)
        return await self._inbox.ask(request, request.deadline)

    async def _read(self) -> None:
        """Serve batches over one connection for as long as we live."""
        connection: Connection | None = None
        backoff = FIRST_BACKOFF
        try:
            while True:
                await self._inbox.until_gathered(self._batch)
                if connection is None or stale(connection):
                    if connection is not None:
                        await connection.close()
                        connection = None
                    try:
                        connection = await connect(self._access, "pdp facts")
                    except StoreUnavailableError as exc:
                        self._fail_waiting(str(exc))
                        await asyncio.sleep(backoff)
                        backoff = min(LAST_BACKOFF, 2 * backoff)
                        continue
                    backoff = FIRST_BACKOFF
                batch = self._inbox.take(self._batch, LISTED)
                if batch:
                    try:
                        await self._serve(connection, batch)
                    finally:
                        for ticket in batch:
                            ticket.fail(StoreUnavailableError("the read was given up"))
        finally:
            if connection is not None:
                with contextlib.suppress(psycopg.Error):
                    await connection.close()

    def _fail_waiting(self, message: str) -> None:
        self._inbox.fail_waiting(lambda: StoreUnavailableError(message))

    async def _serve(self, connection: Connection, batch: list[_Ticket]) -> None:
        """Answer or fail every ticket. Does not raise, except when cancelled."""
        began = time.monotonic()
        error = await _answer(connection, batch)
        self._inbox.served(began)
        if error is None:
            return
        if lost(connection, error) or len(batch) == 1:
            for ticket in batch:
                ticket.fail(unavailable(error))
            return
        # One of the requests breaks the statement, so each is read alone.
        for ticket in batch:
            if ticket.done:
                continue
            error = await _answer(connection, [ticket])
            if error is not None:
                ticket.fail(unavailable(error))


def _overdue(ticket: _Ticket) -> PdpError:
    return DeadlineExceededError("the database did not answer in time")


async def _answer(connection: Connection, batch: list[_Ticket]) -> psycopg.Error | None:
    """Read for all of them and answer each; return the database's error if there was one."""
    requests = [ticket.value for ticket in batch]
    left = max(ticket.deadline for ticket in batch) - time.monotonic()
    try:
        rows = await bounded(connection, query_facts(connection, requests), left)
    except TimeoutError:
        for ticket in batch:
            ticket.fail(DeadlineExceededError("the database did not answer in time"))
        return None
    except psycopg.Error as exc:
        return exc
    tenants: dict[str, TenantFacts] = {}
    for ticket, row in zip(batch, rows, strict=True):
        tenant = ticket.value.key.tenant
        scalars = read_scalars(row)
        if scalars is None:
            ticket.fail(TenantUnknownError(f"there is no tenant {tenant}"))
            continue
        try:
            if tenant not in tenants:
                tenants[tenant] = TenantFacts(scalars, row)
            ticket.answer(read_facts(row, scalars, ticket.value, tenants[tenant]))
        except (ValueError, TypeError, KeyError) as exc:
            # What the tables hold cannot be understood: nobody may act on it.
            error = StoreUnavailableError("a stored fact cannot be read")
            error.__cause__ = exc
            ticket.fail(error)
    return None
