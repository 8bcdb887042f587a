"""What a batch writes: each row once, with the values that it has after the whole batch."""

from __future__ import annotations

import psycopg

from pdp.postgres.access.connection import Connection
from pdp.postgres.ledger.tables import (
    business_keys,
    counters,
    decision_keys,
    decisions,
    holds,
    prerequisites,
    sessions,
)
from pdp.postgres.ledger.tables.table import WonBatch, WriteStatement

# What one statement has is written at once; only what a batch has is sent.
_STATEMENTS = (
    WriteStatement(sessions.UPDATE, decision_keys.CLAIM, decisions.INSERT, decisions.INSERT_DETAILS),
    WriteStatement(counters.UPDATE, business_keys.UPDATE, holds.INSERT),
    WriteStatement(holds.UPDATE),
    WriteStatement(prerequisites.INSERT_USES),
)


async def write_batch(connection: Connection, batch: WonBatch) -> None:
    """Write the batch in the transaction that holds its locks, and commit. Raises psycopg.Error."""
    async with connection.pipeline():
        for statement in _STATEMENTS:
            await statement.execute(connection, batch)
        await prerequisites.put_answers(connection, batch)
        await decision_keys.forget_unclaimed(connection, batch)
        commit = await connection.execute("COMMIT")
    if commit.statusmessage != "COMMIT":
        # The server answers ROLLBACK to the COMMIT of a transaction that had failed.
        raise psycopg.errors.InFailedSqlTransaction("the transaction had failed before its COMMIT")
