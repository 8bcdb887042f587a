"""Postings: written with the entity whose figures contain them, under its lock."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import NamedTuple

from pdp.authority.postings import Payment, find_payment, not_paid, post, posted_minor
from pdp.model import CounterKey, EntityName, HoldState, Posting, Terms
from pdp.postgres.access.connection import Connection
from pdp.postgres.rows import terms_from, totals_from, totals_text

_NAMED = """
    SELECT x.type, x.id, x.decision_id
    FROM unnest(%s::text[], %s::text[]) AS r(type, id)
    CROSS JOIN LATERAL (
        SELECT y.type, y.id, y.decision_id FROM placet.postings y
        WHERE y.tenant = %s AND y.type = r.type AND y.id = r.id AND y.amount > 0
    ) x
"""
_PAID = "SELECT decision_id, totals FROM placet.holds WHERE tenant = %s AND decision_id = ANY(%s)"
_CREATE = """
    INSERT INTO placet.counters (tenant, scope, unit)
    SELECT %s, r.scope, r.unit FROM unnest(%s::text[], %s::text[]) AS r(scope, unit)
    ON CONFLICT DO NOTHING
"""
# Each lock in the order of recordings: counters by their keys, then holds by theirs.
_COUNTERS = """
    SELECT c.scope, c.unit, c.terms
    FROM unnest(%s::text[], %s::text[]) AS r(scope, unit)
    CROSS JOIN LATERAL (
        SELECT x.scope, x.unit, x.terms FROM placet.counters x
        WHERE x.tenant = %s AND x.scope = r.scope AND x.unit = r.unit
        FOR UPDATE
    ) c
"""
_HOLDS = """
    SELECT h.decision_id, h.state, h.totals
    FROM unnest(%s::text[]) AS r(decision_id)
    CROSS JOIN LATERAL (
        SELECT x.decision_id, x.state, x.totals FROM placet.holds x
        WHERE x.tenant = %s AND x.decision_id = r.decision_id
        FOR UPDATE
    ) h
"""
_MOVE = """
    UPDATE placet.counters SET total = greatest(0, total + %s) WHERE tenant = %s AND scope = %s AND unit = %s
"""
# The version moves: a report that was taken on the totals before is judged again.
_KEEP = "UPDATE placet.holds SET totals = %s, version = version + 1 WHERE tenant = %s AND decision_id = %s"
_WRITE = """
    INSERT INTO placet.postings (tenant, type, id, decision_id, amount, revision)
    VALUES (%s, %s, %s, %s, %s, %s)
    ON CONFLICT (tenant, type, id, decision_id)
    DO UPDATE SET amount = EXCLUDED.amount, revision = EXCLUDED.revision
"""


class _Stated(NamedTuple):
    """A posting of an entity, with what the decision paid there."""

    name: EntityName
    posting: Posting
    payment: Payment


async def write_postings(
    connection: Connection,
    tenant: str,
    posted: Mapping[EntityName, Sequence[Posting]],
    revision: int,
    *,
    whole: bool,
) -> None:
    """Write what the entities' figures contain. Their locks are held exclusively.

    `whole`: they contain nothing else, so that what an earlier write named and this one does not is no longer
    contained. Raises `InvalidFieldError`.
    """
    wanted = [(name, posting) for name, postings in posted.items() for posting in postings]
    if whole:
        wanted += await _no_longer(connection, tenant, posted)
    if not wanted:
        return
    stated = await _with_payments(connection, tenant, wanted)
    terms = await _lock_counters(connection, tenant, [each.payment for each in stated])
    holds = await _lock_holds(connection, tenant, {each.posting.decision_id for each in stated})
    moved: dict[CounterKey, int] = {}
    rows = []
    for name, posting, payment in stated:
        state, totals = holds[posting.decision_id]
        minor = posted_minor(posting, terms.get(payment.paid)) if posting.amount else 0
        change = post(totals, payment, minor, state)
        holds[posting.decision_id] = (state, change.totals)
        moved[payment.posted] = moved.get(payment.posted, 0) + change.add
        contained = dict(change.totals).get(payment.posted, 0)
        rows.append([tenant, name.type, name.id, posting.decision_id, contained, revision])
    cursor = connection.cursor()
    await cursor.executemany(_WRITE, rows)
    await cursor.executemany(_MOVE, [[add, tenant, *key] for key, add in moved.items()])
    await cursor.executemany(
        _KEEP, [[totals_text(totals), tenant, decision_id] for decision_id, (_, totals) in holds.items()]
    )


async def _no_longer(
    connection: Connection, tenant: str, posted: Mapping[EntityName, Sequence[Posting]]
) -> list[tuple[EntityName, Posting]]:
    """Return as postings of nothing what earlier writes named and this one does not."""
    cursor = await connection.execute(
        _NAMED, [[name.type for name in posted], [name.id for name in posted], tenant]
    )
    said = {(name, posting.decision_id) for name, postings in posted.items() for posting in postings}
    found = [
        (EntityName(type=kind, id=entity_id), decision_id)
        for kind, entity_id, decision_id in await cursor.fetchall()
    ]
    return [
        (name, Posting(decision_id=decision_id, amount=Decimal(0)))
        for name, decision_id in found
        if (name, decision_id) not in said
    ]


async def _with_payments(
    connection: Connection, tenant: str, wanted: Sequence[tuple[EntityName, Posting]]
) -> list[_Stated]:
    ids = sorted({posting.decision_id for _, posting in wanted})
    cursor = await connection.execute(_PAID, [tenant, ids])
    # What a decision paid on which entity never changes; what of it is posted is read again under the lock.
    totals = {decision_id: totals_from(text) for decision_id, text in await cursor.fetchall()}
    stated = []
    for name, posting in wanted:
        payment = find_payment(name, totals.get(posting.decision_id, ()))
        if payment is None:
            raise not_paid(posting)
        stated.append(_Stated(name, posting, payment))
    return stated


async def _lock_counters(
    connection: Connection, tenant: str, payments: Sequence[Payment]
) -> dict[CounterKey, Terms | None]:
    """Lock what was paid and what is posted, which is created; return the terms of what was paid."""
    posted = sorted({payment.posted for payment in payments})
    await connection.execute(_CREATE, [tenant, [key.scope for key in posted], [key.unit for key in posted]])
    keys = sorted({*posted, *(payment.paid for payment in payments)})
    cursor = await connection.execute(
        _COUNTERS, [[key.scope for key in keys], [key.unit for key in keys], tenant]
    )
    return {CounterKey(scope, unit): terms_from(text) for scope, unit, text in await cursor.fetchall()}


async def _lock_holds(
    connection: Connection, tenant: str, ids: set[str]
) -> dict[str, tuple[HoldState, tuple[tuple[CounterKey, int], ...]]]:
    cursor = await connection.execute(_HOLDS, [sorted(ids), tenant])
    return {
        decision_id: (HoldState(state), totals_from(text))
        for decision_id, state, text in await cursor.fetchall()
    }
