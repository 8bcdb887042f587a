"""What became of recorded decisions, as far as anybody said."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pdp.model import (
    DecisionKey,
    DecisionStatus,
    Effect,
    HoldRecord,
    HoldState,
    LapsedDecision,
    OpenDecision,
    Outcome,
)
from pdp.postgres.access.connection import Connection
from pdp.postgres.rows import conflicts_from, session_from_row, totals_from

_STANDING = """
    SELECT
        l.decision_id, l.session_id, l.caller, l.leaf_grant, l.tool_call_id, l.review_id, l.jws,
        d.disclosures, l.effect, l.recorded_at, l.expires_at, placet.now(), t.epoch,
        h.state, h.key, h.redeem_required, h.redeemed_at, h.outcome, h.believed, h.totals, h.version,
        h.conflicts,
        s.session_id, s.task_id, s.task_description, s.task_prompt, s.principal, s.agent, s.issuer,
        s.boundary, s.state, s.version, s.opened_at, s.expires_at, s.closed_at, s.allowed, s.blocked,
        s.escalated, s.pay, s.last_receipt, s.completed_at, s.template,
        EXISTS (
            WITH RECURSIVE path AS (
                SELECT x.parent_hash, x.revoked_at
                FROM placet.grants x
                WHERE x.tenant = l.tenant AND x.grant_hash = l.leaf_grant
                UNION ALL
                SELECT x.parent_hash, x.revoked_at
                FROM path p
                JOIN placet.grants x ON x.tenant = l.tenant AND x.grant_hash = p.parent_hash
            )
            SELECT 1 FROM path p WHERE p.revoked_at IS NOT NULL
        )
    FROM placet.ledger l
    JOIN placet.tenants t ON t.tenant = l.tenant
    LEFT JOIN placet.decision_details d ON d.tenant = l.tenant AND d.decision_id = l.decision_id
    LEFT JOIN placet.holds h ON h.tenant = l.tenant AND h.decision_id = l.decision_id
    LEFT JOIN placet.sessions s ON s.tenant = l.tenant AND s.session_id = l.session_id
    WHERE l.tenant = %s AND l.kind = 'decision' AND l.decision_id = coalesce(%s::text, (
        SELECT CASE WHEN %s::text IS NOT NULL OR count(*) = 1 THEN max(x.decision_id) END
        FROM placet.holds x
        JOIN placet.ledger y ON y.tenant = x.tenant AND y.decision_id = x.decision_id
        WHERE x.tenant = %s AND x.session_id = %s AND x.tool_call_id = %s
            AND y.caller = coalesce(%s::text, y.caller)
    ))
"""
# Partial index `holds_open`. The clock is asked once, not for each row.
_OPEN = """
    SELECT h.decision_id, h.session_id, h.tool_call_id, h.state, h.redeemed_at, h.expires_at
    FROM placet.holds h
    WHERE h.tenant = %s AND h.outcome IS NULL AND h.expires_at <= (SELECT placet.now()) AND h.decision_id > %s
        AND NOT (h.redeem_required AND h.redeemed_at IS NULL)
    ORDER BY h.decision_id
    LIMIT %s
"""
# Partial index `holds_lapsing`.
_LAPSED = """
    SELECT h.tenant, h.decision_id
    FROM placet.holds h
    WHERE h.redeem_required AND h.redeemed_at IS NULL AND h.outcome IS NULL
        AND h.expires_at <= (SELECT placet.now())
    ORDER BY h.expires_at
    LIMIT %s
"""
# Partial index `holds_open`.
_COUNT_OPEN = """
    SELECT count(*) FROM (
        SELECT 1
        FROM placet.holds h
        WHERE h.outcome IS NULL AND h.expires_at <= (SELECT placet.now())
            AND NOT (h.redeem_required AND h.redeemed_at IS NULL)
        LIMIT %s
    ) found
"""


async def read_standing(
    connection: Connection,
    tenant: str,
    decision_id: str,
    session_id: str,
    tool_call_id: str,
    caller: str | None,
) -> DecisionStatus | None:
    cursor = connection.cursor(binary=True)
    await cursor.execute(
        _STANDING, [tenant, decision_id or None, caller, tenant, session_id, tool_call_id, caller]
    )
    row = await cursor.fetchone()
    if row is None:
        return None
    return DecisionStatus(
        decision_id=row[0],
        key=DecisionKey(
            tenant=tenant,
            session_id=row[1],
            caller=row[2],
            leaf_grant=row[3],
            tool_call_id=row[4],
            review_id=row[5],
        ),
        token=row[6] + (row[7] if row[7] is not None else b"~"),
        effect=Effect(row[8]),
        recorded_at=row[9],
        now=row[11],
        epoch=row[12],
        hold=_hold(row),
        session=None if row[22] is None else session_from_row(row[22:]),
        revoked=row[-1],
    )


async def read_open(connection: Connection, tenant: str, after: str, limit: int) -> Sequence[OpenDecision]:
    cursor = connection.cursor(binary=True)
    await cursor.execute(_OPEN, [tenant, after, limit])
    return [
        OpenDecision(
            decision_id=row[0],
            session_id=row[1],
            tool_call_id=row[2],
            # Silence past the expiry.
            state=HoldState.UNRESOLVED if row[3] == HoldState.RESERVED else HoldState(row[3]),
            redeemed=row[4] is not None,
            expires_at=row[5],
        )
        for row in await cursor.fetchall()
    ]


async def read_lapsed(connection: Connection, limit: int) -> Sequence[LapsedDecision]:
    cursor = await connection.execute(_LAPSED, [limit])
    return [LapsedDecision._make(row) for row in await cursor.fetchall()]


async def read_open_count(connection: Connection, limit: int) -> int:
    cursor = await connection.execute(_COUNT_OPEN, [limit])
    row = await cursor.fetchone()
    return 0 if row is None else int(row[0])


def _hold(row: Sequence[Any]) -> HoldRecord:
    if row[13] is None:
        return HoldRecord(state=HoldState.RESERVED, expires_at=row[10])
    return HoldRecord(
        state=HoldState(row[13]),
        expires_at=row[10],
        key=row[14],
        redeem_required=row[15],
        redeemed=row[16] is not None,
        outcome=None if row[17] is None else Outcome(row[17]),
        believed=row[18],
        totals=totals_from(row[19]),
        version=row[20],
        conflicts=conflicts_from(row[21]),
    )
