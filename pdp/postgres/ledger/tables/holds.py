"""Holds: what an allow reserves, and what became of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pdp.model import Entry, EntryKind, Recording, Reservation
from pdp.postgres.access.arrays import booleans, instants, integers, texts
from pdp.postgres.columns import Columns, RowParameters
from pdp.postgres.ledger.tables.table import BatchParts, Creation, Row, RowLock, RowWrite, WonBatch
from pdp.postgres.rows import conflicts_text, totals_text

_NEW = RowParameters(
    tenant=texts, decision_id=texts, session_id=texts, tool_call_id=texts, expires_at=instants
)


def _wanted(batch: BatchParts) -> list[Row]:
    """Holds that entries are about, and those whose release made free what an allow consumes."""
    reported = {(e.key.tenant, e.about.decision_id) for e in batch.entries}
    released = {
        (tenant, use.decision_id)
        for tenant, kept in batch.reservations
        for allow in kept.consumes
        for use in allow.uses
    }
    return sorted(reported | released)


def _missing(batch: BatchParts) -> list[Any]:
    """Holds of decisions that had nothing to hold: each gets its row when somebody says what became of it."""
    new = {(e.key.tenant, e.about.decision_id): e for e in batch.entries if e.about.hold.version == 0}
    rows = [
        (*place, entry.key.session_id, entry.key.tool_call_id, entry.hold.expires_at)
        for place, entry in sorted(new.items())
    ]
    return _NEW.arrays_of(rows) if rows else []


def _locked(tenant: str, decision_id: str, version: int) -> tuple[tuple[str, str], int]:
    return (tenant, decision_id), version


_LOCKED = Columns(_locked)
_KEY = RowParameters(tenant=texts, decision_id=texts)
LOCK = RowLock(
    wanted=_wanted,
    parameters=_KEY,
    creation=Creation(
        missing=_missing,
        statement=f"""
            INSERT INTO placet.holds ({_NEW.sql}, state, redeem_required, version)
            SELECT {_NEW.select("r")}, 'reserved', false, 0 FROM {_NEW.unnest("r")}
            ON CONFLICT DO NOTHING
        """,
    ),
    statement=f"""
        SELECT {_LOCKED.select("h")}
        FROM {_KEY.unnest("r")}
        CROSS JOIN LATERAL (
            SELECT {_LOCKED.select("x")}
            FROM placet.holds x
            WHERE x.tenant = r.tenant AND x.decision_id = r.decision_id
            FOR UPDATE
        ) h
    """,
    make=_LOCKED.make,
)


_RESERVED = RowParameters(
    tenant=texts,
    decision_id=texts,
    session_id=texts,
    tool_call_id=texts,
    key=texts,
    given=texts,
    redeem_required=booleans,
    expires_at=instants,
    totals=texts,
)


def _reserved_arrays(_: WonBatch, rows: Sequence[tuple[Recording, Reservation]]) -> list[Any]:
    return _RESERVED.arrays(
        tenant=[r.key.tenant for r, _ in rows],
        decision_id=[r.decision.decision_id for r, _ in rows],
        session_id=[r.key.session_id for r, _ in rows],
        tool_call_id=[r.key.tool_call_id for r, _ in rows],
        key=[None if kept.key is None else kept.key.normal for _, kept in rows],
        given=[None if kept.key is None else kept.key.given for _, kept in rows],
        redeem_required=[kept.redeem_required for _, kept in rows],
        expires_at=[r.decision.expires_at for r, _ in rows],
        totals=[totals_text(kept.totals) for _, kept in rows],
    )


INSERT = RowWrite(
    name="held",
    rows=lambda batch: [(r, r.reservation) for r in batch.recordings if r.reservation is not None],
    statement=f"""
        INSERT INTO placet.holds (state, {_RESERVED.sql})
        SELECT 'reserved', {_RESERVED.select("n")}
        FROM {_RESERVED.unnest("n")}
        RETURNING 1
    """,
    parameters=_reserved_arrays,
)


_CHANGED = RowParameters(
    tenant=texts,
    decision_id=texts,
    state=texts,
    outcome=texts,
    believed=booleans,
    conflicts=texts,
    redeems=booleans,
    version=integers,
)


def _changed_arrays(batch: WonBatch, entries: Sequence[Entry]) -> list[Any]:
    # The time is the transaction's, for a redemption as for a report.
    return [
        batch.locked.now,
        batch.locked.now,
        *_CHANGED.arrays(
            tenant=[e.key.tenant for e in entries],
            decision_id=[e.about.decision_id for e in entries],
            state=[e.hold.state.value for e in entries],
            outcome=[None if e.hold.outcome is None else e.hold.outcome.value for e in entries],
            believed=[e.hold.believed for e in entries],
            conflicts=[conflicts_text(e.hold.conflicts) for e in entries],
            redeems=[e.kind is EntryKind.REDEMPTION for e in entries],
            version=[e.about.hold.version + 1 for e in entries],
        ),
    ]


UPDATE = RowWrite(
    name="changed",
    rows=lambda batch: batch.entries,
    statement=f"""
        UPDATE placet.holds h
        SET state = n.state, outcome = n.outcome, believed = n.believed, conflicts = n.conflicts,
            version = n.version,
            redeemed_at = CASE WHEN n.redeems THEN %b ELSE h.redeemed_at END,
            reported_at = CASE WHEN n.redeems THEN h.reported_at ELSE %b END
        FROM {_CHANGED.unnest("n")}
        WHERE h.tenant = n.tenant AND h.decision_id = n.decision_id
        RETURNING 1
    """,
    parameters=_changed_arrays,
)
