"""Idempotency keys: each points at the latest decision that claimed it."""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from typing import Any

from pdp.model import DecisionKey
from pdp.postgres.access.arrays import texts
from pdp.postgres.access.connection import Connection
from pdp.postgres.columns import RowParameters
from pdp.postgres.ledger.recording import key_order
from pdp.postgres.ledger.tables.table import BatchParts, Creation, Row, RowLock, RowWrite, WonBatch
from pdp.postgres.rows import DECISION_KEY

_KEY = RowParameters(**dict.fromkeys(DECISION_KEY.names, texts))
# Returns the values in the order of `_KEY`.
_values: Callable[[DecisionKey], Row] = attrgetter(*DECISION_KEY.names)


def _wanted(batch: BatchParts) -> list[Row]:
    return [_values(key) for key in sorted({r.key for r in batch.recordings}, key=key_order)]


def _locked(*row: Any) -> tuple[DecisionKey, str | None]:
    *key, decision_id = row
    return DECISION_KEY.make(*key), decision_id


LOCK = RowLock(
    wanted=_wanted,
    parameters=_KEY,
    creation=Creation(
        statement=f"""
            INSERT INTO placet.decision_keys ({_KEY.sql})
            SELECT {_KEY.select("r")} FROM {_KEY.unnest("r")}
            ON CONFLICT DO NOTHING
        """,
    ),
    statement=f"""
        SELECT {DECISION_KEY.select("k")}, k.decision_id
        FROM {_KEY.unnest("r")}
        CROSS JOIN LATERAL (
            SELECT {DECISION_KEY.select("x")}, x.decision_id
            FROM placet.decision_keys x
            WHERE x.tenant = r.tenant AND x.session_id = r.session_id AND x.caller = r.caller
                AND x.leaf_grant = r.leaf_grant AND x.tool_call_id = r.tool_call_id
                AND x.review_id IS NOT DISTINCT FROM r.review_id
            FOR UPDATE
        ) k
    """,
    make=_locked,
)


_CLAIMED = RowParameters(**dict.fromkeys((*DECISION_KEY.names, "decision_id"), texts))
_SAME_KEY = """
    k.tenant = n.tenant AND k.session_id = n.session_id AND k.caller = n.caller
    AND k.leaf_grant = n.leaf_grant AND k.tool_call_id = n.tool_call_id
    AND k.review_id IS NOT DISTINCT FROM n.review_id
"""


def _claims(batch: WonBatch) -> list[tuple[Any, ...]]:
    keys = batch.result.keys
    return [(*_values(key), keys[key]) for key in sorted(keys, key=key_order)]


CLAIM = RowWrite(
    name="pointed",
    rows=_claims,
    statement=f"""
        UPDATE placet.decision_keys k
        SET decision_id = n.decision_id
        FROM {_CLAIMED.unnest("n")}
        WHERE {_SAME_KEY}
        RETURNING 1
    """,
    parameters=lambda _, rows: _CLAIMED.arrays_of(rows),
)
_FORGET = f"""
    DELETE FROM placet.decision_keys k
    USING {_KEY.unnest("n")}
    WHERE {_SAME_KEY} AND k.decision_id IS NULL
"""


async def forget_unclaimed(connection: Connection, batch: WonBatch) -> None:
    """Delete the keys that were created only to be locked: no decision of the batch claimed them."""
    claimed = batch.result.keys
    unclaimed = [
        key for key, decision in batch.locked.keys.items() if decision is None and key not in claimed
    ]
    if unclaimed:
        await connection.execute(_FORGET, _KEY.arrays_of([_values(key) for key in unclaimed]))
