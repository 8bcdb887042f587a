"""Recorded decisions, and what became of them as far as anybody said."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from pdp.errors import StoreUnavailableError
from pdp.model import (
    DecisionStatus,
    Effect,
    HoldRecord,
    HoldState,
    LapsedDecision,
    OpenDecision,
    Outcome,
    Position,
    RecordedDecision,
)
from pdp.postgres.access.connection import Connection
from pdp.postgres.columns import Columns, SelectList
from pdp.postgres.rows import (
    DECISION_KEY,
    SESSION,
    conflicts_from,
    full_receipt,
    ground_from,
    totals_from,
)


class _DecisionRow(NamedTuple):
    """What the ledger says of a decision, and what became of the grants that it was taken on."""

    decision_id: str
    jws: bytes
    disclosures: bytes | None
    effect: str
    action_fingerprint: bytes
    recorded_at: datetime
    expires_at: datetime
    now: datetime
    epoch: int
    revoked: bool
    ground: str | None
    entities_moved: bool
    token_lives: bool


def _hold(
    state: str,
    expires_at: datetime,
    key: str | None,
    redeem_required: bool,
    redeemed_at: datetime | None,
    outcome: str | None,
    believed: bool,
    totals: str,
    version: int,
    conflicts: str,
) -> HoldRecord:
    return HoldRecord(
        state=HoldState(state),
        expires_at=expires_at,
        key=key,
        redeem_required=redeem_required,
        redeemed=redeemed_at is not None,
        outcome=None if outcome is None else Outcome(outcome),
        believed=believed,
        totals=totals_from(totals),
        version=version,
        conflicts=conflicts_from(conflicts),
    )


# A grant names the hash of its parent: one revoked above it revokes it too.
_REVOKED = """EXISTS (
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
        )"""
# What was never written is at revision 0, and so is what was not there when the decision was taken.
_ENTITIES_MOVED = """EXISTS (
            SELECT 1
            FROM json_array_elements(d.ground::json -> 'entities') AS g(entity)
            LEFT JOIN placet.entities y
                ON y.tenant = l.tenant AND y.type = g.entity ->> 0 AND y.id = g.entity ->> 1
            WHERE coalesce(y.revision, 0) <> (g.entity ->> 2)::bigint
        )"""
_TOKEN_LIVES = """coalesce((
            SELECT true FROM placet.session_tokens x
            WHERE x.tenant = l.tenant AND x.session_id = l.session_id AND x.token_hash = %s::text
                AND x.ended_at IS NULL
            LIMIT 1
        ), false)"""
_LIST = SelectList()
_DECISION_AT = _LIST.add(
    Columns(_DecisionRow),
    "l",
    disclosures="d.disclosures",
    now="placet.now()",
    epoch="t.epoch",
    revoked=_REVOKED,
    ground="d.ground",
    entities_moved=_ENTITIES_MOVED,
    token_lives=_TOKEN_LIVES,
)
_KEY_AT = _LIST.add(DECISION_KEY, "l")
_HOLD_AT = _LIST.add(Columns(_hold), "h", expires_at="l.expires_at")
_SESSION_AT = _LIST.add(SESSION, "s")
_STATUS = f"""
    SELECT {_LIST.sql}
    FROM placet.ledger l
    JOIN placet.tenants t ON t.tenant = l.tenant
    LEFT JOIN placet.decision_details d ON d.tenant = l.tenant AND d.decision_id = l.decision_id
    LEFT JOIN placet.holds h ON h.tenant = l.tenant AND h.decision_id = l.decision_id
    LEFT JOIN placet.sessions s ON s.tenant = l.tenant AND s.session_id = l.session_id
    WHERE l.tenant = %s AND l.kind = 'decision' AND l.decision_id = coalesce(%s::text, (
        -- An allow that reserves nothing has a row in holds only once something was said of it.
        SELECT CASE WHEN %s::text IS NOT NULL OR count(DISTINCT y.decision_id) = 1
                    THEN max(y.decision_id) END
        FROM (
            SELECT x.decision_id FROM placet.holds x
            WHERE x.tenant = %s AND x.session_id = %s AND x.tool_call_id = %s
            UNION ALL
            SELECT x.decision_id FROM placet.decision_keys x
            WHERE x.tenant = %s AND x.session_id = %s AND x.tool_call_id = %s
        ) x
        JOIN placet.ledger y ON y.tenant = %s AND y.decision_id = x.decision_id AND y.effect = 'allow'
        WHERE y.caller = coalesce(%s::text, y.caller)
    ))
"""


def _open_decision(
    decision_id: str,
    session_id: str,
    tool_call_id: str,
    state: str,
    redeemed_at: datetime | None,
    expires_at: datetime,
) -> OpenDecision:
    return OpenDecision(
        decision_id=decision_id,
        session_id=session_id,
        tool_call_id=tool_call_id,
        # Nobody said anything before the allow expired.
        state=HoldState.UNRESOLVED if state == HoldState.RESERVED else HoldState(state),
        redeemed=redeemed_at is not None,
        expires_at=expires_at,
    )


_OPEN_DECISION = Columns(_open_decision)
# Partial index `holds_open`. The clock is asked once, not for each row.
_OPEN = f"""
    SELECT {_OPEN_DECISION.select("h")}
    FROM placet.holds h
    WHERE h.tenant = %s AND h.outcome IS NULL AND h.expires_at <= (SELECT placet.now()) AND h.decision_id > %s
        AND NOT (h.redeem_required AND h.redeemed_at IS NULL)
    ORDER BY h.decision_id
    LIMIT %s
"""


class _RecordedRow(NamedTuple):
    """What is kept of a decision besides its key."""

    jws: bytes
    disclosures: bytes | None
    writer: str
    seq: int
    input_document: bytes | None
    outcome: str | None
    redeemed_at: datetime | None


_RECORDED_LIST = SelectList()
_RECORDED_KEY_AT = _RECORDED_LIST.add(DECISION_KEY, "l")
_RECORDED_AT = _RECORDED_LIST.add(
    Columns(_RecordedRow),
    "l",
    disclosures="d.disclosures",
    input_document="d.input_document",
    outcome="h.outcome",
    redeemed_at="h.redeemed_at",
)
_RECORDED = f"""
    SELECT {_RECORDED_LIST.sql}
    FROM placet.ledger l
    LEFT JOIN placet.holds h ON h.tenant = l.tenant AND h.decision_id = l.decision_id
    LEFT JOIN placet.decision_details d ON d.tenant = l.tenant AND d.decision_id = l.decision_id
    WHERE l.tenant = %s AND l.decision_id = %s AND l.kind = 'decision'
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


async def read_recorded(connection: Connection, tenant: str, decision_id: str) -> RecordedDecision | None:
    """Return a decision as it was recorded; None if there is none.

    Raises `StoreUnavailableError` if its input document is damaged.
    """
    cursor = connection.cursor(binary=True)
    await cursor.execute(_RECORDED, [tenant, decision_id])
    row = await cursor.fetchone()
    if row is None:
        return None
    found = _RECORDED_AT.read(row)
    try:
        document = None if found.input_document is None else zlib.decompress(found.input_document)
    except zlib.error as exc:
        raise StoreUnavailableError("the stored input document is damaged") from exc
    return RecordedDecision(
        key=_RECORDED_KEY_AT.read(row),
        token=full_receipt(found.jws, found.disclosures),
        position=Position(writer=found.writer, seq=found.seq),
        input_document=document,
        outcome=None if found.outcome is None else Outcome(found.outcome),
        redeemed=found.redeemed_at is not None,
    )


async def read_status(
    connection: Connection,
    tenant: str,
    decision_id: str,
    session_id: str,
    tool_call_id: str,
    caller: str | None,
    session_token_hash: str,
) -> DecisionStatus | None:
    cursor = connection.cursor(binary=True)
    await cursor.execute(
        _STATUS,
        [session_token_hash, tenant, decision_id or None, caller]
        + 2 * [tenant, session_id, tool_call_id]
        + [tenant, caller],
    )
    row = await cursor.fetchone()
    if row is None:
        return None
    decision = _DECISION_AT.read(row)
    return DecisionStatus(
        decision_id=decision.decision_id,
        key=_KEY_AT.read(row),
        token=full_receipt(decision.jws, decision.disclosures),
        effect=Effect(decision.effect),
        recorded_at=decision.recorded_at,
        now=decision.now,
        epoch=decision.epoch,
        # Without a row there was nothing to hold.
        hold=_HOLD_AT.find(row) or HoldRecord(state=HoldState.RESERVED, expires_at=decision.expires_at),
        session=_SESSION_AT.find(row),
        revoked=decision.revoked,
        action_fingerprint=decision.action_fingerprint,
        ground=ground_from(decision.ground),
        entities_moved=decision.entities_moved,
        token_lives=decision.token_lives,
    )


async def read_open(connection: Connection, tenant: str, after: str, limit: int) -> Sequence[OpenDecision]:
    cursor = connection.cursor(binary=True)
    await cursor.execute(_OPEN, [tenant, after, limit])
    return [_OPEN_DECISION.read(row) for row in await cursor.fetchall()]


async def read_lapsed(connection: Connection, limit: int) -> Sequence[LapsedDecision]:
    cursor = await connection.execute(_LAPSED, [limit])
    return [LapsedDecision._make(row) for row in await cursor.fetchall()]


async def read_open_count(connection: Connection, limit: int) -> int:
    cursor = await connection.execute(_COUNT_OPEN, [limit])
    row = await cursor.fetchone()
    return 0 if row is None else int(row[0])
