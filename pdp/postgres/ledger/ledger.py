"""The ledger: concurrent recordings committed together, durable before anybody is answered."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass

import psycopg

from pdp.errors import (
    InvalidFieldError,
    PdpError,
    StoreUnavailableError,
)
from pdp.model import (
    DecisionStatus,
    Entry,
    LapsedDecision,
    OpenDecision,
    Position,
    RecordedDecision,
    Recording,
)
from pdp.overload.inbox import Inbox, Ticket
from pdp.overload.queue_stats import QueueStats
from pdp.postgres.access.connection import Access, Connection, bounded, connect, unavailable
from pdp.postgres.access.pool import Pool
from pdp.postgres.ledger.reading import read_lapsed, read_open, read_open_count, read_recorded, read_status
from pdp.postgres.ledger.recording import BatchItem, parts
from pdp.postgres.ledger.stream import Recorded, RefusedError, Stream, StreamLostError
from pdp.postgres.rows import check_storable

BATCH = 64
# How many entities a batch may lock, out of room that the server shares (max_locks_per_transaction).
LOCKED_ENTITIES = 1024
# How many streams may have their last batch under way, beside the one that serves.
LINGERING = 3
FIRST_BACKOFF, LAST_BACKOFF = 0.05, 1.0
ATTEMPTS = 5
# These refusals are worth another attempt: what stood in the way passes.
_PASSING = (
    psycopg.errors.SerializationFailure,
    psycopg.errors.DeadlockDetected,
    psycopg.errors.LockNotAvailable,
    psycopg.errors.QueryCanceled,
)
_Ticket = Ticket[BatchItem, tuple[Position, ...]]


@dataclass(slots=True)
class _Flight:
    """A batch under way. `overtaken` is set once the stream must not be waited for any longer."""

    stream: Stream
    tickets: list[_Ticket]
    overtaken: asyncio.Event


def _locked_entities(work: BatchItem) -> int:
    return len({name for part in parts(work) for name in part.entities})


class PostgresLedger:
    """`pdp.ports.Ledger`.

    What gathers while one commit runs is taken by the next; a lone recording never waits.
    A caller whose deadline passes while its commit runs is told `StoreUnavailableError`, and
    the stream is closed: its neighbours finish on it, newcomers use a new one.
    """

    def __init__(self, access: Access, pool: Pool, *, replica: str, capacity: int = 4096) -> None:
        self._access = access
        self._pool = pool
        self._replica = replica
        self._inbox: Inbox[BatchItem, tuple[Position, ...]] = Inbox(
            capacity=capacity, overdue=self._overdue, weigh=_locked_entities
        )
        self._stream: Stream | None = None
        self._flights: dict[asyncio.Task[None], _Flight] = {}
        self._pump: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._pump = asyncio.create_task(self._serve(), name="ledger")

    async def close(self) -> None:
        """Let commits under way finish; whoever waits behind them gets `StoreUnavailableError`."""
        pump, self._pump = self._pump, None
        if pump is not None:
            pump.cancel()
            await asyncio.gather(pump, return_exceptions=True)
        self._inbox.fail_waiting(lambda: StoreUnavailableError("the store is closed"))
        await asyncio.gather(*self._flights, return_exceptions=True)
        if self._stream is not None:
            await self._stream.close()

    def load(self) -> QueueStats:
        """Return how many calls wait to be recorded, and how many were dropped."""
        return self._inbox.load()

    async def record(self, recording: Recording) -> Position:
        check_storable(recording.key)
        position, *_ = await self._ask(recording, recording.deadline)
        return position

    async def record_together(self, recordings: Sequence[Recording]) -> Sequence[Position]:
        for recording in recordings:
            check_storable(recording.key)
        work = tuple(recordings)
        positions = await self._ask(work, recordings[0].deadline)
        return tuple(
            position
            for part, position in zip(parts(work), positions, strict=True)
            if isinstance(part, Recording)
        )

    async def record_entry(self, entry: Entry) -> Position:
        (position,) = await self._ask(entry, entry.deadline)
        return position

    async def _ask(self, work: BatchItem, deadline: float) -> tuple[Position, ...]:
        if self._pump is None or self._pump.done():
            raise StoreUnavailableError("the ledger is closed")
        return await self._inbox.ask(work, deadline)

    async def status(
        self,
        tenant: str,
        *,
        decision_id: str = "",
        session_id: str = "",
        tool_call_id: str = "",
        caller: str | None = None,
        session_token_hash: str = "",
    ) -> DecisionStatus | None:
        if any("\0" in text for text in (decision_id, session_id, tool_call_id)):
            return None
        return await self._pool.run(
            lambda connection: read_status(
                connection, tenant, decision_id, session_id, tool_call_id, caller, session_token_hash
            )
        )

    async def open_decisions(self, tenant: str, *, after: str, limit: int) -> Sequence[OpenDecision]:
        if "\0" in after:
            return []
        return await self._pool.run(lambda connection: read_open(connection, tenant, after, limit))

    async def lapsed(self, *, limit: int) -> Sequence[LapsedDecision]:
        return await self._pool.run(lambda connection: read_lapsed(connection, limit))

    async def count_open(self, *, limit: int) -> int:
        return await self._pool.run(lambda connection: read_open_count(connection, limit))

    async def decision(self, tenant: str, decision_id: str) -> RecordedDecision | None:
        if "\0" in decision_id:
            return None

        return await self._pool.run(lambda connection: read_recorded(connection, tenant, decision_id))

    # --- the pump ---

    async def _serve(self) -> None:
        backoff = FIRST_BACKOFF
        while True:
            await self._inbox.until_any()
            if len(self._flights) > LINGERING:
                await asyncio.wait(self._flights, return_when=asyncio.FIRST_COMPLETED)
                continue
            try:
                stream = await self._usable_stream()
            except StoreUnavailableError as exc:
                message = str(exc)
                self._inbox.fail_waiting(lambda message=message: StoreUnavailableError(message))  # type: ignore[misc]
                await asyncio.sleep(backoff)
                backoff = min(LAST_BACKOFF, 2 * backoff)
                continue
            backoff = FIRST_BACKOFF
            tickets = self._inbox.take(BATCH, LOCKED_ENTITIES)
            if tickets:
                await self._fly(_Flight(stream=stream, tickets=tickets, overtaken=asyncio.Event()))

    async def _usable_stream(self) -> Stream:
        stream = self._stream
        if stream is not None and not stream.usable():
            self._stream = None
            await stream.close()
            stream = None
        if stream is None:
            stream = self._stream = await Stream.open(self._access, self._replica)
        return stream

    async def _fly(self, flight: _Flight) -> None:
        """Return when the batch is done, or when what comes after it needs another stream."""
        task = asyncio.create_task(self._commit(flight), name="ledger commit")
        self._flights[task] = flight
        task.add_done_callback(self._landed)
        overtaken = asyncio.create_task(flight.overtaken.wait())
        try:
            await asyncio.wait({task, overtaken}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            overtaken.cancel()
        if not task.done():
            self._stream = None

    def _landed(self, task: asyncio.Task[None]) -> None:
        del self._flights[task]

    def _overdue(self, ticket: _Ticket) -> PdpError:
        for flight in self._flights.values():
            if ticket in flight.tickets:
                flight.stream.retired = True
                flight.overtaken.set()
        return StoreUnavailableError("the outcome was unknown at the deadline; the stream was closed")

    # --- one batch ---

    async def _commit(self, flight: _Flight) -> None:
        """Answer or fail every ticket."""
        stream, tickets = flight.stream, flight.tickets
        began = time.monotonic()
        try:
            refusal = await self._attempt(flight, tickets)
            if refusal is not None and (len(tickets) > 1 or isinstance(refusal, _PASSING)):
                await self._singly(flight, tickets)
            elif refusal is not None:
                tickets[0].fail(_refused(refusal))
            self._inbox.served(began)
        except BaseException:
            stream.closed = True
            raise
        finally:
            for ticket in tickets:
                ticket.fail(StoreUnavailableError("the recording was given up"))
            if stream.closed or stream.retired:
                await stream.close()

    async def _singly(self, flight: _Flight, tickets: list[_Ticket]) -> None:
        """Try each ticket alone: one of them, or something that passes, stopped the batch.

        Those that something passing stops again are tried after the others, `ATTEMPTS` times at most.
        """
        for attempt in range(1, ATTEMPTS + 1):
            stopped = []
            for ticket in tickets:
                if ticket.done:
                    continue
                if flight.stream.closed:
                    ticket.fail(StoreUnavailableError("the stream was closed before this was recorded"))
                    continue
                refusal = await self._attempt(flight, [ticket])
                if refusal is None:
                    continue
                if attempt < ATTEMPTS and isinstance(refusal, _PASSING):
                    stopped.append(ticket)
                else:
                    ticket.fail(_refused(refusal))
            tickets = stopped

    async def _attempt(self, flight: _Flight, tickets: list[_Ticket]) -> psycopg.Error | None:
        """Try once. Return the server's refusal; otherwise every ticket has its answer."""
        stream = flight.stream
        # The deadline is the whole flight's: to give the connection up earlier would fail tickets that are
        # still to be tried.
        until = max(ticket.deadline for ticket in flight.tickets)
        try:
            positions = await bounded(
                stream.connection,
                stream.record([t.value for t in tickets], lambda index: not tickets[index].done),
                until - time.monotonic(),
            )
        except RefusedError as exc:
            cause = exc.__cause__
            assert isinstance(cause, psycopg.Error)  # raised from it, in one place
            if isinstance(cause, psycopg.errors.ReadOnlySqlTransaction):
                stream.closed = True
            return cause
        except StreamLostError as exc:
            flight.overtaken.set()
            await self._settle(exc, tickets, until)
            return None
        except (TimeoutError, StoreUnavailableError) as exc:
            # Every deadline has passed, or the commit is in doubt.
            stream.closed = True
            flight.overtaken.set()
            for ticket in tickets:
                ticket.fail(StoreUnavailableError(str(exc) or "the outcome was unknown at the deadline"))
            return None
        _answer(tickets, positions)
        return None

    async def _settle(self, lost: StreamLostError, tickets: list[_Ticket], until: float) -> None:
        """Answer the tickets of a batch whose connection was lost."""
        cause = lost.__cause__
        committed: bool | None = False
        if lost.xid is not None:
            written = [
                position
                for recorded in lost.positions
                if isinstance(recorded, tuple)
                for position in recorded
            ]
            committed = await self._outcome(lost.xid, written, until)
        if committed:
            _answer(tickets, lost.positions)
            return
        unknown = "; the outcome is unknown, and the stream was closed" if committed is None else ""
        for ticket in tickets:
            ticket.fail(StoreUnavailableError(f"the connection was lost: {cause}{unknown}"))

    async def _outcome(self, xid: str, seqs: list[Position], until: float) -> bool | None:
        """Return whether transaction `xid`, which wrote `seqs`, committed; None if that stays unknown."""
        backoff = 0.01
        while time.monotonic() < until:
            try:
                connection = await connect(self._access, "pdp ledger outcome")
            except StoreUnavailableError:
                await asyncio.sleep(min(backoff, max(0.0, until - time.monotonic())))
                backoff = min(0.2, 2 * backoff)
                continue
            try:
                while time.monotonic() < until:
                    status, found = await bounded(
                        connection, _status(connection, xid, seqs), until - time.monotonic()
                    )
                    if status == "aborted":
                        return False
                    if status == "committed":
                        # After a failover the id may be another transaction's.
                        return True if found == len(seqs) else None
                    if status is None:
                        return None
                    await asyncio.sleep(0.01)
            except psycopg.errors.InvalidParameterValue:
                # An id that the server has not given out yet: a crash forgot the transaction, which
                # therefore never committed.
                return False
            except (psycopg.Error, TimeoutError):
                await asyncio.sleep(min(backoff, max(0.0, until - time.monotonic())))
                backoff = min(0.2, 2 * backoff)
            finally:
                with contextlib.suppress(psycopg.Error):
                    await connection.close()
        return None


def _answer(tickets: list[_Ticket], positions: Sequence[Recorded]) -> None:
    for ticket, found in zip(tickets, positions, strict=True):
        if isinstance(found, tuple):
            ticket.answer(found)
        else:
            ticket.fail(found)


def _refused(refusal: psycopg.Error) -> PdpError:
    if isinstance(refusal, psycopg.errors.ProgramLimitExceeded):
        error: PdpError = InvalidFieldError("action.tool_call_id", "is too long, with the rest of its key")
    else:
        error = unavailable(refusal)
    error.__cause__ = refusal
    return error


async def _status(connection: Connection, xid: str, seqs: list[Position]) -> tuple[str | None, int]:
    """Return the transaction's status, as the primary knows it, and how many of the positions it holds."""
    cursor = await connection.execute("SELECT pg_is_in_recovery()")
    if await cursor.fetchone() != (False,):
        raise psycopg.OperationalError("a standby knows nothing for certain")
    cursor = await connection.execute("SELECT pg_xact_status(%s::xid8)", [xid])
    row = await cursor.fetchone()
    status = row[0] if row is not None else None
    cursor = await connection.execute(
        "SELECT count(*) FROM placet.ledger WHERE writer = %s AND seq BETWEEN %s AND %s",
        [seqs[0].writer, seqs[0].seq, seqs[-1].seq],
    )
    row = await cursor.fetchone()
    return status, row[0] if row is not None else 0
