"""A writer's stream: one connection, one writer id, positions without gaps.

A writer lives as long as its connection. Whatever leaves the outcome of a commit in doubt
closes the stream; the next one starts under a new writer id.
"""

from __future__ import annotations

import contextlib
import uuid
import zlib
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, NamedTuple, TypeAlias

import psycopg
from psycopg import pq
from psycopg.types.numeric import Int8

from pdp.action.prerequisites import update_answer
from pdp.errors import StoreUnavailableError
from pdp.model import (
    Counter,
    CounterKey,
    DecisionKey,
    Effect,
    EntityName,
    Entry,
    EntryKind,
    Position,
    PriorAnswer,
    Recording,
    SessionState,
)
from pdp.postgres.access.arrays import blobs, booleans, instants, integers, texts
from pdp.postgres.access.connection import Access, Connection, bounded, connect, lost, shut, stale
from pdp.postgres.access.locks import control_lock, entity_lock
from pdp.postgres.ledger.recording import (
    BatchItem,
    BatchResult,
    LockedRows,
    SessionRow,
    apply,
    key_order,
    parts,
)
from pdp.postgres.migrate import check_durable
from pdp.postgres.rows import buckets_from, buckets_text, conflicts_text, totals_text

_StepRow: TypeAlias = tuple[str | None, ...]

# Sorted by the caller, so that every batch locks in one order. LATERAL keeps that order and
# looks each row up by its key, whatever the planner believes of the table.
_SHARE = """
    SELECT pg_advisory_xact_lock_shared(c.lock) FROM unnest(%b::bigint[]) AS c(lock)
"""
_SESSIONS = """
    SELECT s.tenant, s.session_id, s.version, s.state, s.expires_at
    FROM unnest(%b::text[], %b::text[]) AS r(tenant, session_id)
    CROSS JOIN LATERAL (
        SELECT x.tenant, x.session_id, x.version, x.state, x.expires_at
        FROM placet.sessions x
        WHERE x.tenant = r.tenant AND x.session_id = r.session_id
        FOR UPDATE
    ) s
"""
# A row that is not there cannot be locked: create it first.
_NEW_KEYS = """
    INSERT INTO placet.decision_keys (tenant, session_id, caller, leaf_grant, tool_call_id, review_id)
    SELECT r.tenant, r.session_id, r.caller, r.leaf_grant, r.tool_call_id, r.review_id
    FROM unnest(%b::text[], %b::text[], %b::text[], %b::text[], %b::text[], %b::text[])
        AS r(tenant, session_id, caller, leaf_grant, tool_call_id, review_id)
    ON CONFLICT DO NOTHING
"""
_KEYS = """
    SELECT k.tenant, k.session_id, k.caller, k.leaf_grant, k.tool_call_id, k.review_id, k.decision_id
    FROM unnest(%b::text[], %b::text[], %b::text[], %b::text[], %b::text[], %b::text[])
        AS r(tenant, session_id, caller, leaf_grant, tool_call_id, review_id)
    CROSS JOIN LATERAL (
        SELECT x.tenant, x.session_id, x.caller, x.leaf_grant, x.tool_call_id, x.review_id, x.decision_id
        FROM placet.decision_keys x
        WHERE x.tenant = r.tenant AND x.session_id = r.session_id AND x.caller = r.caller
            AND x.leaf_grant = r.leaf_grant AND x.tool_call_id = r.tool_call_id
            AND x.review_id IS NOT DISTINCT FROM r.review_id
        FOR UPDATE
    ) k
"""
# Locked, and read as it is then. Most are new; one that is not is written again as it was.
_BUSINESS_KEYS = """
    INSERT INTO placet.business_keys AS k (tenant, key)
    SELECT r.tenant, r.key FROM unnest(%b::text[], %b::text[]) AS r(tenant, key)
    ON CONFLICT (tenant, key) DO UPDATE SET version = k.version
    RETURNING k.tenant, k.key, k.version
"""
# Created first, as above, then locked; after the business keys. A recording whose counter is missing
# all the same, because it had been read, does not hold, and is judged again.
_NEW_COUNTERS = """
    INSERT INTO placet.counters (tenant, scope, unit)
    SELECT r.tenant, r.scope, r.unit
    FROM unnest(%b::text[], %b::text[], %b::text[]) AS r(tenant, scope, unit)
    ON CONFLICT DO NOTHING
"""
_COUNTERS = """
    SELECT c.tenant, c.scope, c.unit, c.total, c.buckets
    FROM unnest(%b::text[], %b::text[], %b::text[]) AS r(tenant, scope, unit)
    CROSS JOIN LATERAL (
        SELECT x.tenant, x.scope, x.unit, x.total, x.buckets
        FROM placet.counters x
        WHERE x.tenant = r.tenant AND x.scope = r.scope AND x.unit = r.unit
        FOR UPDATE
    ) c
"""
# What had nothing to hold gets its row when somebody says what became of it.
_NEW_HOLDS = """
    INSERT INTO placet.holds (
        tenant, decision_id, session_id, tool_call_id, state, redeem_required, expires_at, version)
    SELECT r.tenant, r.decision_id, r.session_id, r.tool_call_id, 'reserved', false, r.expires_at, 0
    FROM unnest(%b::text[], %b::text[], %b::text[], %b::text[], %b::timestamptz[])
        AS r(tenant, decision_id, session_id, tool_call_id, expires_at)
    ON CONFLICT DO NOTHING
"""
_HOLDS = """
    SELECT h.tenant, h.decision_id, h.version
    FROM unnest(%b::text[], %b::text[]) AS r(tenant, decision_id)
    CROSS JOIN LATERAL (
        SELECT x.tenant, x.decision_id, x.version
        FROM placet.holds x
        WHERE x.tenant = r.tenant AND x.decision_id = r.decision_id
        FOR UPDATE
    ) h
"""
# A later statement than the locks: its snapshot sees every change that was made before them.
_GROUND = """
    WITH moment AS MATERIALIZED (SELECT placet.now() AS now, pg_current_xact_id()::text AS xid)
    SELECT m.now, m.xid, t.tenant, t.epoch
    FROM moment m LEFT JOIN placet.tenants t ON t.tenant = ANY (%b::text[])
"""
_ENTITIES = """
    SELECT x.tenant, x.type, x.id, x.revision
    FROM unnest(%b::text[], %b::text[], %b::text[]) AS r(tenant, type, id)
    CROSS JOIN LATERAL (
        SELECT y.tenant, y.type, y.id, y.revision
        FROM placet.entities y
        WHERE y.tenant = r.tenant AND y.type = r.type AND y.id = r.id
        LIMIT 1
    ) x
"""

# Divides by zero, which undoes everything, unless each part wrote what it was given.
_WRITE = """
    WITH moved AS (
        UPDATE placet.sessions s
        SET version = n.version, allowed = n.allowed, blocked = n.blocked, escalated = n.escalated,
            pay = n.pay, last_receipt = n.last_receipt
        FROM unnest(%b::text[], %b::text[], %b::bigint[], %b::bigint[], %b::bigint[], %b::bigint[],
                    %b::text[], %b::bytea[])
            AS n(tenant, session_id, version, allowed, blocked, escalated, pay, last_receipt)
        WHERE s.tenant = n.tenant AND s.session_id = n.session_id
        RETURNING 1
    ), pointed AS (
        UPDATE placet.decision_keys k
        SET decision_id = n.decision_id
        FROM unnest(%b::text[], %b::text[], %b::text[], %b::text[], %b::text[], %b::text[], %b::text[])
            AS n(tenant, session_id, caller, leaf_grant, tool_call_id, review_id, decision_id)
        WHERE k.tenant = n.tenant AND k.session_id = n.session_id AND k.caller = n.caller
            AND k.leaf_grant = n.leaf_grant AND k.tool_call_id = n.tool_call_id
            AND k.review_id IS NOT DISTINCT FROM n.review_id
        RETURNING 1
    ), recorded AS (
        INSERT INTO placet.ledger (
            tenant, writer, seq, decision_id, kind, about, effect, jws, action_fingerprint, session_id,
            caller, leaf_grant, tool_call_id, review_id, session_version, retryable, expires_at,
            recorded_at)
        SELECT n.tenant, %b, n.seq, n.decision_id, n.kind, n.about, n.effect, n.jws, n.action_fingerprint,
               n.session_id, n.caller, n.leaf_grant, n.tool_call_id, n.review_id, n.session_version,
               n.retryable, n.expires_at, %b
        FROM unnest(%b::text[], %b::bigint[], %b::text[], %b::text[], %b::text[], %b::text[], %b::bytea[],
                    %b::bytea[], %b::text[], %b::text[], %b::text[], %b::text[], %b::text[], %b::bigint[],
                    %b::bool[], %b::timestamptz[])
            AS n(tenant, seq, decision_id, kind, about, effect, jws, action_fingerprint, session_id, caller,
                 leaf_grant, tool_call_id, review_id, session_version, retryable, expires_at)
        RETURNING 1
    ), detailed AS (
        INSERT INTO placet.decision_details (tenant, decision_id, disclosures, input_document)
        SELECT n.tenant, n.decision_id, n.disclosures, n.input_document
        FROM unnest(%b::text[], %b::text[], %b::bytea[], %b::bytea[])
            AS n(tenant, decision_id, disclosures, input_document)
        RETURNING 1
    )
    SELECT 1 / (
        (SELECT count(*) FROM moved) = %b AND (SELECT count(*) FROM pointed) = %b
        AND (SELECT count(*) FROM recorded) = %b AND (SELECT count(*) FROM detailed) = %b
    )::int
"""
# The time is the transaction's, once for each kind of entry.
_CHANGE = """
    WITH changed AS (
        UPDATE placet.holds h
        SET state = n.state, outcome = n.outcome, believed = n.believed, conflicts = n.conflicts,
            version = n.version,
            redeemed_at = CASE WHEN n.redeems THEN %b ELSE h.redeemed_at END,
            reported_at = CASE WHEN n.redeems THEN h.reported_at ELSE %b END
        FROM unnest(%b::text[], %b::text[], %b::text[], %b::text[], %b::bool[], %b::text[], %b::bool[],
                    %b::bigint[])
            AS n(tenant, decision_id, state, outcome, believed, conflicts, redeems, version)
        WHERE h.tenant = n.tenant AND h.decision_id = n.decision_id
        RETURNING 1
    )
    SELECT 1 / ((SELECT count(*) FROM changed) = %b)::int
"""
# The rows are there and locked. ON CONFLICT finds each by its key; an UPDATE that joins would be planned
# by what was known of the table's size, and may read all of it for every batch.
_RESERVE = """
    WITH counted AS (
        INSERT INTO placet.counters (tenant, scope, unit, total, buckets)
        SELECT n.tenant, n.scope, n.unit, n.total, n.buckets
        FROM unnest(%b::text[], %b::text[], %b::text[], %b::bigint[], %b::text[])
            AS n(tenant, scope, unit, total, buckets)
        ON CONFLICT (tenant, scope, unit)
        DO UPDATE SET total = EXCLUDED.total, buckets = EXCLUDED.buckets
        RETURNING 1
    ), keyed AS (
        INSERT INTO placet.business_keys (tenant, key, version)
        SELECT n.tenant, n.key, n.version
        FROM unnest(%b::text[], %b::text[], %b::bigint[]) AS n(tenant, key, version)
        ON CONFLICT (tenant, key) DO UPDATE SET version = EXCLUDED.version
        RETURNING 1
    ), held AS (
        INSERT INTO placet.holds (
            tenant, decision_id, session_id, tool_call_id, key, given, state, redeem_required, expires_at,
            totals)
        SELECT n.tenant, n.decision_id, n.session_id, n.tool_call_id, n.key, n.given, 'reserved',
               n.redeem_required, n.expires_at, n.totals
        FROM unnest(%b::text[], %b::text[], %b::text[], %b::text[], %b::text[], %b::text[], %b::bool[],
                    %b::timestamptz[], %b::text[])
            AS n(tenant, decision_id, session_id, tool_call_id, key, given, redeem_required, expires_at,
                 totals)
        RETURNING 1
    )
    SELECT 1 / (
        (SELECT count(*) FROM counted) = %b AND (SELECT count(*) FROM keyed) = %b
        AND (SELECT count(*) FROM held) = %b
    )::int
"""
# Sorted, and each once: later answers of the batch replace earlier ones before they come here.
_STEP = """
    INSERT INTO placet.prerequisites AS p (
        tenant, session_id, tool, arguments, effect, decision_id, waited, minor, currency)
    SELECT n.tenant, n.session_id, n.tool, n.arguments, n.effect, n.decision_id, n.waited = 'true',
           n.minor::bigint, n.currency
    FROM unnest(%b::text[], %b::text[], %b::text[], %b::text[], %b::text[], %b::text[], %b::text[],
                %b::text[], %b::text[])
        AS n(tenant, session_id, tool, arguments, effect, decision_id, waited, minor, currency)
    ON CONFLICT (tenant, session_id, tool, arguments)
    DO UPDATE SET effect = EXCLUDED.effect, decision_id = EXCLUDED.decision_id,
                  waited = p.waited OR EXCLUDED.waited, minor = EXCLUDED.minor, currency = EXCLUDED.currency
"""
# `pdp.action.prerequisites`: a block ends no waiting for a person.
_STEP_BLOCKED = _STEP + " WHERE p.effect <> 'escalate'"
_FORGET_KEYS = """
    DELETE FROM placet.decision_keys k
    USING unnest(%b::text[], %b::text[], %b::text[], %b::text[], %b::text[], %b::text[])
        AS n(tenant, session_id, caller, leaf_grant, tool_call_id, review_id)
    WHERE k.tenant = n.tenant AND k.session_id = n.session_id AND k.caller = n.caller
        AND k.leaf_grant = n.leaf_grant AND k.tool_call_id = n.tool_call_id
        AND k.review_id IS NOT DISTINCT FROM n.review_id AND k.decision_id IS NULL
"""


class RefusedError(Exception):
    """The server refused the batch, and nothing of it was recorded. The cause says why."""


class StreamLostError(Exception):
    """The connection is gone. Nothing was recorded if `xid` is None; else its transaction may
    have committed `positions`."""

    def __init__(self, xid: str | None = None, positions: Sequence[tuple[Position, ...]] = ()) -> None:
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

    async def record(
        self, batch: Sequence[BatchItem], wanted: Callable[[int], bool]
    ) -> list[tuple[Position, ...]]:
        """Record what still holds; return the positions of each, none for what does not.

        1. Lock    what the recordings depend on, in one order; read it in later statements.
        2. Apply   them in order, in process.
        3. Write   one absolute value a row, and commit.

        `wanted` is asked between 1 and 2 whether anybody still waits for an item. Raises
        `RefusedError`, `StreamLostError`.
        """
        # 1
        try:
            locked, xid = await self._lock([part for work in batch for part in parts(work)])
        except psycopg.Error as exc:
            if self._lost(exc):
                raise StreamLostError from exc
            await self._roll_back()
            raise RefusedError from exc
        # 2
        applied = apply(batch, [i for i in range(len(batch)) if wanted(i)], locked)
        positions: list[tuple[Position, ...]] = [()] * len(batch)
        won: list[Recording | Entry] = []
        for index in applied.winners:
            found = parts(batch[index])
            first = self.last_seq + 1 + len(won)
            positions[index] = tuple(
                Position(writer=self.writer, seq=seq) for seq in range(first, first + len(found))
            )
            won += found
        if not applied.winners:
            await self._roll_back()
            return positions
        # 3
        self._warnings.clear()
        try:
            await self._write(won, applied, locked)
        except psycopg.Error as exc:
            if self._lost(exc):
                raise StreamLostError(xid, positions) from exc
            await self._roll_back()
            raise RefusedError from exc
        self.last_seq += len(won)
        if self._warnings:
            # For example a standby that was not waited for: committed here, perhaps not there.
            self.closed = True
            raise StoreUnavailableError(f"the commit is in doubt: {'; '.join(self._warnings)}")
        return positions

    async def _lock(self, batch: Sequence[Recording | Entry]) -> tuple[LockedRows, str]:
        recordings = [r for r in batch if isinstance(r, Recording)]
        entries = [r for r in batch if isinstance(r, Entry)]
        tenants = sorted({r.key.tenant for r in batch})
        moved = {(r.key.tenant, r.move.session_id) for r in recordings if r.move is not None}
        places = sorted(
            moved | {(e.key.tenant, e.key.session_id) for e in entries if e.kind is EntryKind.REDEMPTION}
        )
        keys = sorted({r.key for r in recordings}, key=key_order)
        key_columns = _key_columns(keys)
        entities = {(r.key.tenant, name) for r in recordings for name in r.entities}
        # The control locks come first, and of each kind the smallest.
        locks = sorted({control_lock(t) for t in tenants})
        locks += sorted({entity_lock(tenant, name) for tenant, name in entities})
        connection = self.connection
        async with connection.pipeline():
            await connection.execute("BEGIN")
            await connection.plan_anew()
            await connection.execute(_SHARE, [integers(locks)], prepare=True)
            sessions = connection.cursor(binary=True)
            if places:
                await sessions.execute(
                    _SESSIONS, [texts([p[0] for p in places]), texts([p[1] for p in places])], prepare=True
                )
            await connection.execute(_NEW_KEYS, key_columns, prepare=True)
            key_rows = connection.cursor(binary=True)
            await key_rows.execute(_KEYS, key_columns, prepare=True)
            reserved = [(r.key.tenant, r.reservation) for r in recordings if r.reservation is not None]
            held = sorted(
                {(tenant, kept.key.normal) for tenant, kept in reserved if kept.key is not None}
                | {(e.key.tenant, e.about.hold.key) for e in entries if e.about.hold.key is not None}
            )
            guarded = {
                (tenant, guard.key, guard.key in kept.existing)
                for tenant, kept in reserved
                for guard in kept.guards
            } | {(e.key.tenant, key, False) for e in entries for key, _ in e.recounts}
            counted = sorted({(tenant, *key) for tenant, key, _ in guarded})
            # Whatever one of the batch does not know of: another may rest on what that one makes.
            missing = sorted({(tenant, *key) for tenant, key, existing in guarded if not existing})
            key_versions = connection.cursor(binary=True)
            if held:
                columns = [texts(column) for column in zip(*held, strict=True)]
                await key_versions.execute(_BUSINESS_KEYS, columns, prepare=True)
            counters = connection.cursor(binary=True)
            if counted:
                if missing:
                    columns = [texts(column) for column in zip(*missing, strict=True)]
                    await connection.execute(_NEW_COUNTERS, columns, prepare=True)
                columns = [texts(column) for column in zip(*counted, strict=True)]
                await counters.execute(_COUNTERS, columns, prepare=True)
            hold_versions = connection.cursor(binary=True)
            if entries:
                about = sorted({(e.key.tenant, e.about.decision_id) for e in entries})
                await connection.execute(_NEW_HOLDS, _new_hold_columns(entries), prepare=True)
                await hold_versions.execute(
                    _HOLDS, [texts(column) for column in zip(*about, strict=True)], prepare=True
                )
            ground = connection.cursor(binary=True)
            await ground.execute(_GROUND, [texts(tenants)], prepare=True)
            known = connection.cursor(binary=True)
            if entities:
                named = list(entities)
                await known.execute(
                    _ENTITIES,
                    [
                        texts([e[0] for e in named]),
                        texts([e[1].type for e in named]),
                        texts([e[1].id for e in named]),
                    ],
                    prepare=True,
                )
        rows = await ground.fetchall()
        now, xid = rows[0][:2]
        return (
            LockedRows(
                now=now,
                epochs={tenant: epoch for _, _, tenant, epoch in rows if tenant is not None},
                sessions={
                    (tenant, session_id): SessionRow(
                        version=version, state=SessionState(state), expires_at=expires_at
                    )
                    for tenant, session_id, version, state, expires_at in (
                        await sessions.fetchall() if places else []
                    )
                },
                keys={
                    DecisionKey(
                        tenant=row[0],
                        session_id=row[1],
                        caller=row[2],
                        leaf_grant=row[3],
                        tool_call_id=row[4],
                        review_id=row[5],
                    ): row[6]
                    for row in await key_rows.fetchall()
                },
                entities={
                    (tenant, EntityName(type=kind, id=entity_id)): revision
                    for tenant, kind, entity_id, revision in (await known.fetchall() if entities else [])
                },
                holds={
                    (tenant, decision_id): version
                    for tenant, decision_id, version in (await hold_versions.fetchall() if entries else [])
                },
                business_keys={
                    (tenant, key): version
                    for tenant, key, version in (await key_versions.fetchall() if held else [])
                },
                counters={
                    (tenant, CounterKey(scope, unit)): Counter(total, buckets_from(buckets))
                    for tenant, scope, unit, total, buckets in (await counters.fetchall() if counted else [])
                },
            ),
            xid,
        )

    async def _write(
        self, won: Sequence[Recording | Entry], applied: BatchResult, locked: LockedRows
    ) -> None:
        winners = [r for r in won if isinstance(r, Recording)]
        entries = list(applied.holds.values())
        keys = sorted(applied.keys, key=key_order)
        empty = [key for key, decision in locked.keys.items() if decision is None and key not in applied.keys]
        connection = self.connection
        async with connection.pipeline():
            await connection.execute(
                _WRITE,
                [
                    *_session_columns(applied),
                    *_key_columns(keys),
                    texts([applied.keys[key] for key in keys]),
                    self.writer,
                    locked.now,
                    *_ledger_columns(won, self.last_seq + 1),
                    *_detail_columns(winners),
                    Int8(len(applied.sessions)),
                    Int8(len(keys)),
                    Int8(len(won)),
                    Int8(len(winners)),
                ],
                prepare=True,
            )
            reserved = [r for r in winners if r.reservation is not None]
            if reserved or applied.counters or applied.business_keys:
                await connection.execute(
                    _RESERVE,
                    [
                        *_counter_columns(applied),
                        *_business_key_columns(applied),
                        *_hold_columns(reserved),
                        Int8(len(applied.counters)),
                        Int8(len(applied.business_keys)),
                        Int8(len(reserved)),
                    ],
                    prepare=True,
                )
            if entries:
                await connection.execute(
                    _CHANGE,
                    [locked.now, locked.now, *_change_columns(entries), Int8(len(entries))],
                    prepare=True,
                )
            for statement, steps in zip((_STEP, _STEP_BLOCKED), _step_rows(winners), strict=True):
                if steps:
                    await connection.execute(
                        statement, [texts(column) for column in zip(*steps, strict=True)], prepare=True
                    )
            if empty:
                await connection.execute(_FORGET_KEYS, _key_columns(empty))
            commit = await connection.execute("COMMIT")
        if commit.statusmessage != "COMMIT":
            # The server answers ROLLBACK to the COMMIT of a transaction that had failed.
            raise psycopg.errors.InFailedSqlTransaction("the transaction had failed before its COMMIT")

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


async def _register(connection: Connection, writer: str, replica: str) -> None:
    await check_durable(connection)
    await connection.execute(
        "INSERT INTO placet.writers (writer, replica) VALUES (%s, %s)", [writer, replica]
    )


async def _discard(connection: Connection) -> None:
    with contextlib.suppress(psycopg.Error):
        await connection.close()


def _key_columns(keys: Sequence[DecisionKey]) -> list[Any]:
    return [
        texts([key.tenant for key in keys]),
        texts([key.session_id for key in keys]),
        texts([key.caller for key in keys]),
        texts([key.leaf_grant for key in keys]),
        texts([key.tool_call_id for key in keys]),
        texts([key.review_id for key in keys]),
    ]


def _session_columns(applied: BatchResult) -> list[Any]:
    moved = list(applied.sessions.values())
    return [
        texts([place[0] for place in applied.sessions]),
        texts([place[1] for place in applied.sessions]),
        integers([row.version for row in moved]),
        integers([row.aggregates.allow for row in moved]),
        integers([row.aggregates.block for row in moved]),
        integers([row.aggregates.escalate for row in moved]),
        texts([buckets_text(row.aggregates.pay) for row in moved]),
        blobs([row.last_receipt for row in moved]),
    ]


def _ledger_columns(winners: Sequence[Recording | Entry], first: int) -> list[Any]:
    rows = [_ledger_row(winner) for winner in winners]
    return [
        texts([r.key.tenant for r in winners]),
        integers(range(first, first + len(winners))),
        texts([row.entry_id for row in rows]),
        texts([row.kind for row in rows]),
        texts([row.about for row in rows]),
        texts([row.effect for row in rows]),
        blobs([row.jws for row in rows]),
        blobs([row.action_fingerprint for row in rows]),
        texts([r.key.session_id for r in winners]),
        texts([row.caller for row in rows]),
        texts([r.key.leaf_grant for r in winners]),
        texts([r.key.tool_call_id for r in winners]),
        texts([r.key.review_id for r in winners]),
        integers([row.session_version for row in rows]),
        booleans([row.retryable for row in rows]),
        instants([row.expires_at for row in rows]),
    ]


class _LedgerRow(NamedTuple):
    """What differs between a decision and an entry about one."""

    entry_id: str
    kind: str
    about: str | None
    effect: str | None
    jws: bytes
    action_fingerprint: bytes
    caller: str
    session_version: int
    retryable: bool
    expires_at: datetime


def _ledger_row(winner: Recording | Entry) -> _LedgerRow:
    if isinstance(winner, Entry):
        return _LedgerRow(
            entry_id=winner.entry_id,
            kind=winner.kind.value,
            about=winner.about.decision_id,
            effect=None,
            jws=winner.token,
            action_fingerprint=b"",
            caller=winner.caller,
            session_version=0,
            retryable=False,
            expires_at=winner.hold.expires_at,
        )
    return _LedgerRow(
        entry_id=winner.decision.decision_id,
        kind="decision",
        about=None,
        effect=winner.decision.effect.value,
        jws=winner.receipt.signed,
        action_fingerprint=winner.action_fingerprint,
        caller=winner.key.caller,
        session_version=winner.decision.session_version,
        retryable=winner.decision.retryable,
        expires_at=winner.decision.expires_at,
    )


def _new_hold_columns(entries: Sequence[Entry]) -> list[Any]:
    fresh = sorted(
        {(e.key.tenant, e.about.decision_id): e for e in entries if e.about.hold.version == 0}.items()
    )
    found = [entry for _, entry in fresh]
    return [
        texts([e.key.tenant for e in found]),
        texts([e.about.decision_id for e in found]),
        texts([e.key.session_id for e in found]),
        texts([e.key.tool_call_id for e in found]),
        instants([e.hold.expires_at for e in found]),
    ]


def _change_columns(entries: Sequence[Entry]) -> list[Any]:
    return [
        texts([e.key.tenant for e in entries]),
        texts([e.about.decision_id for e in entries]),
        texts([e.hold.state.value for e in entries]),
        texts([None if e.hold.outcome is None else e.hold.outcome.value for e in entries]),
        booleans([e.hold.believed for e in entries]),
        texts([conflicts_text(e.hold.conflicts) for e in entries]),
        booleans([e.kind is EntryKind.REDEMPTION for e in entries]),
        integers([e.about.hold.version + 1 for e in entries]),
    ]


def _detail_columns(winners: Sequence[Recording]) -> list[Any]:
    return [
        texts([r.key.tenant for r in winners]),
        texts([r.decision.decision_id for r in winners]),
        blobs([r.receipt.token[len(r.receipt.signed) :] for r in winners]),
        blobs([zlib.compress(r.input_document, 1) for r in winners]),
    ]


def _counter_columns(applied: BatchResult) -> list[Any]:
    return [
        texts([tenant for tenant, _ in applied.counters]),
        texts([key.scope for _, key in applied.counters]),
        texts([key.unit for _, key in applied.counters]),
        integers([counter.total for counter in applied.counters.values()]),
        texts([buckets_text(counter.buckets) for counter in applied.counters.values()]),
    ]


def _business_key_columns(applied: BatchResult) -> list[Any]:
    return [
        texts([tenant for tenant, _ in applied.business_keys]),
        texts([key for _, key in applied.business_keys]),
        integers(list(applied.business_keys.values())),
    ]


def _hold_columns(reserved: Sequence[Recording]) -> list[Any]:
    found = [(r, r.reservation) for r in reserved if r.reservation is not None]
    return [
        texts([r.key.tenant for r, _ in found]),
        texts([r.decision.decision_id for r, _ in found]),
        texts([r.key.session_id for r, _ in found]),
        texts([r.key.tool_call_id for r, _ in found]),
        texts([None if kept.key is None else kept.key.normal for _, kept in found]),
        texts([None if kept.key is None else kept.key.given for _, kept in found]),
        booleans([kept.redeem_required for _, kept in found]),
        instants([r.decision.expires_at for r, _ in found]),
        texts([totals_text(kept.totals) for _, kept in found]),
    ]


def _step_rows(winners: Sequence[Recording]) -> tuple[list[_StepRow], list[_StepRow]]:
    """The latest answer to each prerequisite but blocks, and those that were blocked after it.

    In the order of the rows' keys.
    """
    answered: dict[tuple[str, ...], tuple[PriorAnswer, str]] = {}
    blocked: dict[tuple[str, ...], tuple[PriorAnswer, str]] = {}
    for recording in winners:
        effect, decision_id = recording.decision.effect, recording.decision.decision_id
        for step in recording.steps:
            place = (recording.key.tenant, recording.key.session_id, step.tool, step.arguments)
            if effect is Effect.BLOCK:
                blocked[place] = (update_answer(None, effect, step.amount), decision_id)
            else:
                blocked.pop(place, None)
                before = answered[place][0] if place in answered else None
                answered[place] = (update_answer(before, effect, step.amount), decision_id)
    first, then = (
        [(*place, *_answer_columns(*answer)) for place, answer in sorted(rows.items())]
        for rows in (answered, blocked)
    )
    return first, then


def _answer_columns(answer: PriorAnswer, decision_id: str) -> tuple[str | None, ...]:
    amount = answer.amount
    return (
        answer.effect.value,
        decision_id,
        "true" if answer.waited else "false",
        None if amount is None else str(amount.minor),
        None if amount is None else amount.currency,
    )
