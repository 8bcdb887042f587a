"""How the rows of a table are locked, and how they are written, for a whole batch at once.

A table that recordings depend on is one `RowLock` in its own file: which rows a batch wants, the statement
that locks and reads them, and what is made of each. A table that they write is one `RowWrite`: which rows,
their columns, and the statement that writes them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import starmap
from typing import Any, Generic, TypeAlias, TypeVar

from psycopg import AsyncCursor
from psycopg.types.numeric import Int8

from pdp.model import Entry, Recording
from pdp.postgres.access.connection import Connection
from pdp.postgres.columns import RowParameters
from pdp.postgres.ledger.recording import BatchResult, LockedRows

K = TypeVar("K")
V = TypeVar("V")
R = TypeVar("R")
# Values in the order of the columns of a `RowParameters`.
Row: TypeAlias = tuple[Any, ...]


class BatchParts:
    """What a batch is made of: what its tables are asked for is derived from these."""

    def __init__(self, batch: Sequence[Recording | Entry]) -> None:
        self.recordings = [part for part in batch if isinstance(part, Recording)]
        self.entries = [part for part in batch if isinstance(part, Entry)]
        self.reservations = [
            (recording.key.tenant, recording.reservation)
            for recording in self.recordings
            if recording.reservation is not None
        ]
        self.tenants = sorted({part.key.tenant for part in batch})
        self.entities = {(part.key.tenant, name) for part in batch for name in part.entities}


@dataclass(frozen=True, kw_only=True, slots=True)
class Creation:
    """Creates rows, since a row that is not there cannot be locked."""

    statement: str
    # Returns the statement's parameters, of rows that are sorted, so that every batch creates in one order;
    # none if no row can be missing. Without it, they are the keys of all rows that are to be locked.
    missing: Callable[[BatchParts], list[Any]] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class RowLock(Generic[K, V]):
    """The rows of one table that batches depend on."""

    # Keys of the rows, sorted, so that every batch locks in one order.
    wanted: Callable[[BatchParts], Sequence[Row]]
    parameters: RowParameters
    # LATERAL keeps that order, and looks each row up by its key, whatever the planner believes of the table.
    statement: str
    # From the columns of a row that was read to its key and what is known of it.
    make: Callable[..., tuple[K, V]]
    creation: Creation | None = None

    async def ask(self, connection: Connection, batch: BatchParts) -> LockAnswer[K, V]:
        """Create, lock and read what the batch wants, in a pipeline. Sends nothing if that is nothing."""
        wanted = self.wanted(batch)
        if not wanted:
            return LockAnswer(None, self.make)
        keys = self.parameters.arrays_of(wanted)
        if self.creation is not None:
            missing = keys if self.creation.missing is None else self.creation.missing(batch)
            if missing:
                await connection.execute(self.creation.statement, missing, prepare=True)
        cursor = connection.cursor(binary=True)
        await cursor.execute(self.statement, keys, prepare=True)
        return LockAnswer(cursor, self.make)


class LockAnswer(Generic[K, V]):
    """Rows that were asked for in a pipeline, and can be read after it."""

    def __init__(self, cursor: AsyncCursor[Row] | None, make: Callable[..., tuple[K, V]]) -> None:
        """`cursor` is None if nothing was asked for."""
        self._cursor = cursor
        self._make = make

    async def rows(self) -> dict[K, V]:
        """Return what is there, by key."""
        if self._cursor is None:
            return {}
        return dict(starmap(self._make, await self._cursor.fetchall()))


class WonBatch:
    """What of a batch holds, and is to be written."""

    def __init__(
        self,
        won: Sequence[Recording | Entry],
        result: BatchResult,
        locked: LockedRows,
        *,
        writer: str,
        first_seq: int,
    ) -> None:
        """`won` gets the positions of `writer` from `first_seq` on, in order."""
        self.won = won
        self.recordings = [part for part in won if isinstance(part, Recording)]
        self.entries = list(result.holds.values())
        self.result = result
        self.locked = locked
        self.writer = writer
        self.first_seq = first_seq


@dataclass(frozen=True, kw_only=True, slots=True)
class RowWrite(Generic[R]):
    """The rows of one table that batches write."""

    # Names the common table expression, for the statement that counts what was written.
    name: str
    rows: Callable[[WonBatch], Sequence[R]]
    # Writes them, and returns a row for each that it wrote.
    statement: str
    # The statement's parameters for these rows.
    parameters: Callable[[WonBatch, Sequence[R]], list[Any]]


class WriteStatement:
    """Writes several tables at once.

    It divides by zero, which undoes the transaction, unless as many rows of each were written as were given.
    """

    def __init__(self, *parts: RowWrite[Any]) -> None:
        self._parts = parts
        written = ", ".join(f"{part.name} AS ({part.statement})" for part in parts)
        counted = " AND ".join(f"(SELECT count(*) FROM {part.name}) = %b" for part in parts)
        self._sql = f"WITH {written} SELECT 1 / ({counted})::int"

    async def execute(self, connection: Connection, batch: WonBatch) -> None:
        """Write what the batch has of these tables. Sends nothing if that is nothing."""
        rows = [part.rows(batch) for part in self._parts]
        if any(rows):
            parameters: list[Any] = []
            for part, its_rows in zip(self._parts, rows, strict=True):
                parameters += part.parameters(batch, its_rows)
            parameters += [Int8(len(its_rows)) for its_rows in rows]
            await connection.execute(self._sql, parameters, prepare=True)
