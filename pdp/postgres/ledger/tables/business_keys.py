"""Business keys: the version of each moves with every hold on it."""

from __future__ import annotations

from pdp.postgres.access.arrays import integers, texts
from pdp.postgres.columns import Columns, RowParameters
from pdp.postgres.ledger.tables.table import BatchParts, Row, RowLock, RowWrite


def _wanted(batch: BatchParts) -> list[Row]:
    reserved = {(tenant, kept.key.normal) for tenant, kept in batch.reservations if kept.key is not None}
    held = {(e.key.tenant, e.about.hold.key) for e in batch.entries if e.about.hold.key is not None}
    return sorted(reserved | held)


def _locked(tenant: str, key: str, version: int) -> tuple[tuple[str, str], int]:
    return (tenant, key), version


_LOCKED = Columns(_locked)
_KEY = RowParameters(tenant=texts, key=texts)
LOCK = RowLock(
    wanted=_wanted,
    parameters=_KEY,
    # Created or locked, and read as it is then. Most are new; one that is not is written again as it was.
    statement=f"""
        INSERT INTO placet.business_keys AS k (tenant, key)
        SELECT r.tenant, r.key FROM {_KEY.unnest("r")}
        ON CONFLICT (tenant, key) DO UPDATE SET version = k.version
        RETURNING {_LOCKED.select("k")}
    """,
    make=_LOCKED.make,
)


_UPDATED = RowParameters(tenant=texts, key=texts, version=integers)
UPDATE = RowWrite(
    name="keyed",
    rows=lambda batch: [(*key, version) for key, version in batch.result.business_keys.items()],
    statement=f"""
        INSERT INTO placet.business_keys ({_UPDATED.sql})
        SELECT {_UPDATED.select("n")}
        FROM {_UPDATED.unnest("n")}
        ON CONFLICT (tenant, key) DO UPDATE SET version = EXCLUDED.version
        RETURNING 1
    """,
    parameters=lambda _, rows: _UPDATED.arrays_of(rows),
)
