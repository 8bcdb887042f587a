"""A writer's stream: one connection, one writer id, positions without gaps.

A writer lives as long as its connection. Whatever leaves the outcome of a commit in doubt
closes the stream; the next one starts under a new writer id.
"""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Callable, Sequence
from typing import TypeAlias

import psycopg
from psycopg import pq

from pdp.errors import GroundMovedError, SessionMovedError, StoreUnavailableError
from pdp.model import Entry, Position, Recording
from pdp.postgres.access.connection import Access, Connection, bounded, connect, lost, shut, stale
from pdp.postgres.ledger.locking import lock_rows
from pdp.postgres.ledger.recording import BatchItem, LockedRows, apply, parts, was_overtaken
from pdp.postgres.ledger.tables.table import WonBatch
from pdp.postgres.ledger.writing import write_batch
from pdp.postgres.migrate import check_durable

# What became of an item: the positions of its parts, or why it was left out.
Recorded: TypeAlias = tuple[Position, ...] | SessionMovedError


class RefusedError(Exception):
    """The server refused the batch, and nothing of it was recorded. The cause says why."""


class StreamLostError(Exception):
    """The connection is gone. Nothing was recorded if `xid` is None; else its transaction may
    have committed `positions`."""

    def __init__(self, xid: str | None = None, positions: Sequence[Recorded] = ()) -> None:
        super().__init__("the connection was lost")
        self.xid = xid
        self.positions = tuple(positions)


class Stream:
    """One batch at a time; the caller sees to it."""

    def __init__(self, connection: Connection, writer: str) -> None:
        self.connection = connection
        self.writer = writer
        self.last_seq = 0
        # Nothing may be sent on it any more.
        self.closed = False
        # The batch under way is its last.
        self.retired = False
        self._warnings: list[str] = []
        connection.add_notice_handler(self._noticed)

    @classmethod
    async def open(cls, access: Access, replica: str) -> Stream:
        """Connect and register a new writer. Raises `StoreUnavailableError`."""
        connection = await connect(access, "pdp ledger")
        writer = uuid.uuid4().hex
        try:
            await bounded(connection, _register(connection, writer, replica), access.connect_timeout)
        except (psycopg.Error, TimeoutError) as exc:
            await _discard(connection)
            raise StoreUnavailableError(f"cannot start a writer: {exc or 'no answer in time'}") from exc
        except BaseException:
            await _discard(connection)
            raise
        return cls(connection, writer)

    def usable(self) -> bool:
        """False when the next batch needs a new stream. Costs no round trip."""
        return not self.closed and not self.retired and not stale(self.connection)

    def shut(self) -> None:
        """Give the connection up, whatever runs on it."""
        self.closed = True
        shut(self.connection)

    async def close(self) -> None:
        self.closed = True
        await _discard(self.connection)

    async def record(self, batch: Sequence[BatchItem], wanted: Callable[[int], bool]) -> list[Recorded]:
        """Record what still holds; return what became of each item.

        1. Lock    what the recordings depend on, in one order; read it in later statements.
        2. Apply   them in order, in process.
        3. Write   one absolute value a row, and commit.

        `wanted` is asked between 1 and 2 whether anybody still waits for an item. Raises
        `RefusedError`, `StreamLostError`.
        """
        # 1
        try:
            locked = await lock_rows(self.connection, [part for work in batch for part in parts(work)])
        except psycopg.Error as exc:
            if self._lost(exc):
                raise StreamLostError from exc
            await self._roll_back()
            raise RefusedError from exc
        # 2
        applied = apply(batch, [i for i in range(len(batch)) if wanted(i)], locked.rows)
        positions: list[Recorded] = [()] * len(batch)
        won: list[Recording | Entry] = []
        for index in applied.winners:
            found = parts(batch[index])
            first = self.last_seq + 1 + len(won)
            positions[index] = tuple(
                Position(writer=self.writer, seq=seq) for seq in range(first, first + len(found))
            )
            won += found
        if len(applied.winners) < len(batch):
            for index in set(range(len(batch))).difference(applied.winners):
                positions[index] = _reason_to_leave_out(batch[index], locked.rows)
        if not applied.winners:
            await self._roll_back()
            return positions
        # 3
        self._warnings.clear()
        try:
            await write_batch(
                self.connection,
                WonBatch(won, applied, locked.rows, writer=self.writer, first_seq=self.last_seq + 1),
            )
        except psycopg.Error as exc:
            if self._lost(exc):
                raise StreamLostError(locked.xid, positions) from exc
            await self._roll_back()
            raise RefusedError from exc
        self.last_seq += len(won)
        if self._warnings:
            # For example a standby that was not waited for: committed here, perhaps not there.
            self.closed = True
            raise StoreUnavailableError(f"the commit is in doubt: {'; '.join(self._warnings)}")
        return positions

    async def _roll_back(self) -> None:
        """End the transaction, or the stream."""
        try:
            if self.connection.info.transaction_status != pq.TransactionStatus.IDLE:
                await self.connection.execute("ROLLBACK")
        except psycopg.Error:
            self.closed = True

    def _lost(self, exc: psycopg.Error) -> bool:
        if lost(self.connection, exc):
            self.closed = True
            return True
        return False

    def _noticed(self, notice: psycopg.errors.Diagnostic) -> None:
        if notice.severity_nonlocalized == "WARNING":
            self._warnings.append(notice.message_primary or "a warning without words")


def _reason_to_leave_out(work: BatchItem, rows: LockedRows) -> SessionMovedError:
    if was_overtaken(work, rows):
        return GroundMovedError("an operator wrote meanwhile")
    return SessionMovedError("what the decision was taken on no longer holds")


async def _register(connection: Connection, writer: str, replica: str) -> None:
    await check_durable(connection)
    await connection.execute(
        "INSERT INTO placet.writers (writer, replica) VALUES (%s, %s)", [writer, replica]
    )


async def _discard(connection: Connection) -> None:
    with contextlib.suppress(psycopg.Error):
        await connection.close()
