"""Counters of limits: what was allowed so far."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pdp.model import Counter, CounterKey
from pdp.postgres.access.arrays import integers, texts
from pdp.postgres.columns import Columns, RowParameters
from pdp.postgres.ledger.tables.table import BatchParts, Creation, Row, RowLock, RowWrite, WonBatch
from pdp.postgres.rows import buckets_text, counter_from, terms_text

_KEY = RowParameters(tenant=texts, scope=texts, unit=texts)


def _wanted(batch: BatchParts) -> list[Row]:
    guarded = {(tenant, *guard.key) for tenant, kept in batch.reservations for guard in kept.guards}
    return sorted(guarded | _recounted(batch))


def _missing(batch: BatchParts) -> list[Any]:
    """Return the keys of whatever one of the batch does not know of: another may rest on what that one makes.

    A recording whose counter is missing all the same, because it had been read and is gone, does not hold,
    and is judged again.
    """
    unknown = {
        (tenant, *guard.key)
        for tenant, kept in batch.reservations
        for guard in kept.guards
        if guard.key not in kept.existing
    }
    missing = sorted(unknown | _recounted(batch))
    return _KEY.arrays_of(missing) if missing else []


def _recounted(batch: BatchParts) -> set[Row]:
    return {(e.key.tenant, *key) for e in batch.entries for key, _ in e.recounts}


def _locked(
    tenant: str, scope: str, unit: str, total: int, buckets: str, terms: str | None
) -> tuple[tuple[str, CounterKey], Counter]:
    key, counter = counter_from(scope, unit, total, buckets, terms)
    return (tenant, key), counter


_LOCKED = Columns(_locked)


LOCK = RowLock(
    wanted=_wanted,
    parameters=_KEY,
    creation=Creation(
        missing=_missing,
        statement=f"""
            INSERT INTO placet.counters (tenant, scope, unit)
            SELECT r.tenant, r.scope, r.unit FROM {_KEY.unnest("r")}
            ON CONFLICT DO NOTHING
        """,
    ),
    statement=f"""
        SELECT {_LOCKED.select("c")}
        FROM {_KEY.unnest("r")}
        CROSS JOIN LATERAL (
            SELECT {_LOCKED.select("x")}
            FROM placet.counters x
            WHERE x.tenant = r.tenant AND x.scope = r.scope AND x.unit = r.unit
            FOR UPDATE
        ) c
    """,
    make=_LOCKED.make,
)


# The rows are there and locked, as those of business keys are. ON CONFLICT finds each by its key; an UPDATE
# that joins would be planned by what was known of the table's size, and may read all of it for every batch.
_UPDATED = RowParameters(tenant=texts, scope=texts, unit=texts, total=integers, buckets=texts, terms=texts)


def _arrays(_: WonBatch, rows: Sequence[tuple[tuple[str, CounterKey], Counter]]) -> list[Any]:
    return _UPDATED.arrays(
        tenant=[tenant for (tenant, _), _ in rows],
        scope=[key.scope for (_, key), _ in rows],
        unit=[key.unit for (_, key), _ in rows],
        total=[counter.total for _, counter in rows],
        buckets=[buckets_text(counter.buckets) for _, counter in rows],
        terms=[terms_text(counter.terms) for _, counter in rows],
    )


UPDATE = RowWrite(
    name="counted",
    rows=lambda batch: list(batch.result.counters.items()),
    statement=f"""
        INSERT INTO placet.counters ({_UPDATED.sql})
        SELECT {_UPDATED.select("n")}
        FROM {_UPDATED.unnest("n")}
        ON CONFLICT (tenant, scope, unit)
        DO UPDATE SET total = EXCLUDED.total, buckets = EXCLUDED.buckets, terms = EXCLUDED.terms
        RETURNING 1
    """,
    parameters=_arrays,
)
