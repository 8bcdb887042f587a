"""What a batch depends on: locked in one order, and read by statements that come after the locks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from pdp.model import Entry, Recording
from pdp.postgres.access.arrays import integers, texts
from pdp.postgres.access.connection import Connection
from pdp.postgres.access.locks import control_lock, entity_lock
from pdp.postgres.ledger.recording import LockedRows
from pdp.postgres.ledger.tables import (
    business_keys,
    counters,
    decision_keys,
    entities,
    holds,
    prerequisites,
    sessions,
)
from pdp.postgres.ledger.tables.table import BatchParts


class Locked(NamedTuple):
    """A transaction that holds the locks of a batch."""

    rows: LockedRows
    # The transaction's id, by which its outcome can be asked for.
    xid: str


_SHARE = "SELECT pg_advisory_xact_lock_shared(c.lock) FROM unnest(%b::bigint[]) AS c(lock)"
_GROUND = """
    WITH moment AS MATERIALIZED (SELECT placet.now() AS now, pg_current_xact_id()::text AS xid)
    SELECT m.now, m.xid, t.tenant, t.epoch
    FROM moment m LEFT JOIN placet.tenants t ON t.tenant = ANY (%b::text[])
"""


async def lock_rows(connection: Connection, batch: Sequence[Recording | Entry]) -> Locked:
    """Begin a transaction, lock what the batch depends on, and return it as it stands.

    1. Share   the control locks of the tenants, then the locks of the entities, of each kind the smallest
               first.
    2. Lock    rows, table by table in one order; those of a table in the order of their keys.
    3. Read    epochs, entities, uses of prerequisites and the time, in later statements: their snapshots see
               every change that was made before the locks were had.

    Raises psycopg.Error.
    """
    parts = BatchParts(batch)
    locks = sorted({control_lock(tenant) for tenant in parts.tenants})
    locks += sorted({entity_lock(tenant, name) for tenant, name in parts.entities})
    async with connection.pipeline():
        await connection.execute("BEGIN")
        await connection.plan_anew()
        # 1
        await connection.execute(_SHARE, [integers(locks)], prepare=True)
        # 2
        session_rows = await sessions.LOCK.ask(connection, parts)
        key_rows = await decision_keys.LOCK.ask(connection, parts)
        business_key_rows = await business_keys.LOCK.ask(connection, parts)
        counter_rows = await counters.LOCK.ask(connection, parts)
        hold_rows = await holds.LOCK.ask(connection, parts)
        # 3
        ground = connection.cursor(binary=True)
        await ground.execute(_GROUND, [texts(parts.tenants)], prepare=True)
        entity_rows = await entities.READ.ask(connection, parts)
        use_rows = await prerequisites.READ_USES.ask(connection, parts)
    found = await ground.fetchall()
    now, xid, *_ = found[0]
    rows = LockedRows(
        now=now,
        epochs={tenant: epoch for _, _, tenant, epoch in found if tenant is not None},
        sessions=await session_rows.rows(),
        keys=await key_rows.rows(),
        entities=await entity_rows.rows(),
        holds=await hold_rows.rows(),
        business_keys=await business_key_rows.rows(),
        counters=await counter_rows.rows(),
        uses=await use_rows.rows(),
    )
    return Locked(rows, xid)
