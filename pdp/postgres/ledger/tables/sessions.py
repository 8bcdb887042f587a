"""Sessions: decisions move them, and what is redeemed must be in one that is live."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from pdp.model import EntryKind, SessionState
from pdp.postgres.access.arrays import blobs, integers, texts
from pdp.postgres.columns import Columns, RowParameters
from pdp.postgres.ledger.recording import SessionRow, SessionUpdate
from pdp.postgres.ledger.tables.table import BatchParts, Row, RowLock, RowWrite, WonBatch
from pdp.postgres.rows import buckets_text


def _wanted(batch: BatchParts) -> list[Row]:
    """Sessions that recordings move, and those that must be live for a redemption."""
    moved = {(r.key.tenant, r.move.session_id) for r in batch.recordings if r.move is not None}
    redeemed = {(e.key.tenant, e.key.session_id) for e in batch.entries if e.kind is EntryKind.REDEMPTION}
    return sorted(moved | redeemed)


def _locked(
    tenant: str,
    session_id: str,
    version: int,
    state: str,
    expires_at: datetime,
    proofs_revoked_at: datetime | None,
) -> tuple[tuple[str, str], SessionRow]:
    row = SessionRow(
        version=version,
        state=SessionState(state),
        expires_at=expires_at,
        proofs_revoked_at=proofs_revoked_at,
    )
    return (tenant, session_id), row


_LOCKED = Columns(_locked)
_KEY = RowParameters(tenant=texts, session_id=texts)
LOCK = RowLock(
    wanted=_wanted,
    parameters=_KEY,
    statement=f"""
        SELECT {_LOCKED.select("s")}
        FROM {_KEY.unnest("r")}
        CROSS JOIN LATERAL (
            SELECT {_LOCKED.select("x")}
            FROM placet.sessions x
            WHERE x.tenant = r.tenant AND x.session_id = r.session_id
            FOR UPDATE
        ) s
    """,
    make=_LOCKED.make,
)


_UPDATED = RowParameters(
    tenant=texts,
    session_id=texts,
    version=integers,
    allowed=integers,
    blocked=integers,
    escalated=integers,
    pay=texts,
    last_receipt=blobs,
)


def _arrays(_: WonBatch, rows: Sequence[tuple[tuple[str, str], SessionUpdate]]) -> list[Any]:
    return _UPDATED.arrays(
        tenant=[tenant for (tenant, _), _ in rows],
        session_id=[session_id for (_, session_id), _ in rows],
        version=[row.version for _, row in rows],
        allowed=[row.aggregates.allow for _, row in rows],
        blocked=[row.aggregates.block for _, row in rows],
        escalated=[row.aggregates.escalate for _, row in rows],
        pay=[buckets_text(row.aggregates.pay) for _, row in rows],
        last_receipt=[row.last_receipt for _, row in rows],
    )


UPDATE = RowWrite(
    name="moved",
    rows=lambda batch: list(batch.result.sessions.items()),
    statement=f"""
        UPDATE placet.sessions s
        SET version = n.version, allowed = n.allowed, blocked = n.blocked, escalated = n.escalated,
            pay = n.pay, last_receipt = n.last_receipt
        FROM {_UPDATED.unnest("n")}
        WHERE s.tenant = n.tenant AND s.session_id = n.session_id
        RETURNING 1
    """,
    parameters=_arrays,
)
