"""The ledger: decisions, entries about them, and what of a decision can be erased."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

from pdp.model import Entry, Recording
from pdp.postgres.access.arrays import blobs, booleans, instants, integers, texts
from pdp.postgres.columns import RowParameters
from pdp.postgres.ledger.tables.table import RowWrite, WonBatch
from pdp.postgres.rows import ground_text

_ENTRY = RowParameters(
    tenant=texts,
    seq=integers,
    decision_id=texts,
    kind=texts,
    about=texts,
    effect=texts,
    jws=blobs,
    action_fingerprint=blobs,
    session_id=texts,
    caller=texts,
    leaf_grant=texts,
    tool_call_id=texts,
    review_id=texts,
    session_version=integers,
    retryable=booleans,
    expires_at=instants,
)


class _LedgerRow(NamedTuple):
    """What differs between a decision and an entry about one."""

    entry_id: str
    kind: str
    about: str | None
    effect: str | None
    jws: bytes
    action_fingerprint: bytes
    caller: str
    # The grant that the caller acted on. In the key of a call a root grant is not told from none.
    leaf_grant: str
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
            leaf_grant=winner.key.leaf_grant,
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
        leaf_grant=winner.acted_on,
        session_version=winner.decision.session_version,
        retryable=winner.decision.retryable,
        expires_at=winner.decision.expires_at,
    )


def _ledger_arrays(batch: WonBatch, won: Sequence[Recording | Entry]) -> list[Any]:
    rows = [_ledger_row(part) for part in won]
    return [
        batch.writer,
        batch.locked.now,
        *_ENTRY.arrays(
            tenant=[part.key.tenant for part in won],
            seq=range(batch.first_seq, batch.first_seq + len(won)),
            decision_id=[row.entry_id for row in rows],
            kind=[row.kind for row in rows],
            about=[row.about for row in rows],
            effect=[row.effect for row in rows],
            jws=[row.jws for row in rows],
            action_fingerprint=[row.action_fingerprint for row in rows],
            session_id=[part.key.session_id for part in won],
            caller=[row.caller for row in rows],
            leaf_grant=[row.leaf_grant for row in rows],
            tool_call_id=[part.key.tool_call_id for part in won],
            review_id=[part.key.review_id for part in won],
            session_version=[row.session_version for row in rows],
            retryable=[row.retryable for row in rows],
            expires_at=[row.expires_at for row in rows],
        ),
    ]


INSERT = RowWrite(
    name="recorded",
    rows=lambda batch: batch.won,
    statement=f"""
        INSERT INTO placet.ledger (writer, recorded_at, {_ENTRY.sql})
        SELECT %b, %b, {_ENTRY.select("n")}
        FROM {_ENTRY.unnest("n")}
        RETURNING 1
    """,
    parameters=_ledger_arrays,
)
_DETAIL = RowParameters(
    tenant=texts, decision_id=texts, disclosures=blobs, input_document=blobs, ground=texts
)
INSERT_DETAILS = RowWrite(
    name="detailed",
    rows=lambda batch: batch.recordings,
    statement=f"""
        INSERT INTO placet.decision_details ({_DETAIL.sql})
        SELECT {_DETAIL.select("n")}
        FROM {_DETAIL.unnest("n")}
        RETURNING 1
    """,
    parameters=lambda _, recordings: _DETAIL.arrays(
        tenant=[r.key.tenant for r in recordings],
        decision_id=[r.decision.decision_id for r in recordings],
        disclosures=[r.receipt.token[len(r.receipt.signed) :] for r in recordings],
        input_document=[zlib.compress(r.input_document, 1) for r in recordings],
        ground=[ground_text(r.ground) for r in recordings],
    ),
)
