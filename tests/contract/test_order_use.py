"""What every store promises of what is paid on records and orders."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from pdp.authority.order_use import entity_scope
from pdp.errors import SessionMovedError
from pdp.model import (
    Counter,
    CounterKey,
    EntityName,
    EntityQuery,
    Facts,
    Guard,
    Position,
    Reservation,
    Session,
    Terms,
)
from tests.contract.conftest import Store
from tests.support import builders
from tests.support.builders import TENANT

ORDER, INVOICE = EntityName(type="po", id="PO ü:77"), EntityName(type="invoice", id="INV-1001")
PAID = CounterKey(entity_scope(ORDER), "paid:")
FREIGHT = CounterKey(entity_scope(ORDER), "paid:freight")
POSTED = CounterKey(entity_scope(ORDER), "posted:")
ON_INVOICE = CounterKey(entity_scope(INVOICE), "paid:")
EUROS, DOLLARS = Terms("EUR", 120_000), Terms("USD", None)
BY_INVOICE = (
    EntityQuery(name="invoice", type="invoice", id="INV-1001", measure=""),
    EntityQuery(name="order", type="po", id="INV-1001", of="invoice", via="po", measure=""),
)


@pytest.fixture
async def session(store: Store) -> Session:
    await store.control_plane.put_tenant(TENANT, b"{}", by=builders.AUTHOR)
    await store.entities.put_entities(
        TENANT, {INVOICE: {"po": ORDER.id}, ORDER: {"open": "1200"}}, by=builders.AUTHOR
    )
    now = await store.clock.advance(0)
    return (await store.sessions.open(TENANT, builders.session(now=now))).session


async def facts(store: Store, session: Session, *queries: EntityQuery) -> Facts:
    request = builders.facts_request(builders.key(session.session_id), entities=queries)
    return await store.information_point.gather(request)


def guard(add: int, ceiling: int | None, terms: Terms = EUROS, key: CounterKey = PAID) -> Guard:
    return Guard(key=key, add=add, ceiling=ceiling, window_seconds=None, terms=terms)


async def allow(store: Store, session: Session, *guards: Guard) -> Position:
    epoch = (await facts(store, session)).epoch
    return await store.ledger.record(
        builders.recording(
            builders.key(session.session_id),
            epoch=epoch,
            reservation=Reservation(guards=guards),
            decided_at=await store.clock.now(),
        )
    )


async def test_what_was_paid_on_an_order_is_read_with_it_however_it_is_named(
    store: Store, session: Session
) -> None:
    assert (await facts(store, session, *BY_INVOICE)).counters == {}
    await allow(store, session, guard(60_000, 120_000), guard(60_000, None, key=ON_INVOICE))
    await allow(store, session, guard(500, None, key=FREIGHT))
    found = await facts(store, session, *BY_INVOICE)
    paid = Counter(60_000, (), EUROS)
    assert found.counters == {PAID: paid, ON_INVOICE: paid}
    named = EntityQuery(name="order", type="po", id=ORDER.id, measure="freight")
    assert (await facts(store, session, named)).counters == {FREIGHT: Counter(500, (), EUROS)}


async def test_what_is_no_payment_reads_nothing_of_it(store: Store, session: Session) -> None:
    await allow(store, session, guard(60_000, 120_000), guard(60_000, None, key=ON_INVOICE))
    unmeasured = [replace(query, measure=None) for query in BY_INVOICE]
    assert (await facts(store, session, *unmeasured)).counters == {}
    mixed = await facts(store, session, unmeasured[0], BY_INVOICE[1])
    assert set(mixed.counters) == {PAID}


async def test_limits_are_read_beside_what_was_paid(store: Store, session: Session) -> None:
    total = CounterKey(scope='["session","s"]', unit="EUR")
    await allow(store, session, guard(60_000, 120_000), Guard(total, 60_000, None, None))
    request = builders.facts_request(builders.key(session.session_id), entities=BY_INVOICE)
    found = await store.information_point.gather(replace(request, counters=(total,)))
    assert found.counters == {total: Counter(60_000), PAID: Counter(60_000, (), EUROS)}


async def test_of_100_payments_at_once_an_order_has_room_for_20(store: Store, session: Session) -> None:
    outcomes = await asyncio.gather(
        *(allow(store, session, guard(6_000, 120_000)) for _ in range(100)), return_exceptions=True
    )
    assert sum(isinstance(outcome, Position) for outcome in outcomes) == 20
    assert sum(isinstance(outcome, SessionMovedError) for outcome in outcomes) == 80
    assert (await facts(store, session, *BY_INVOICE)).counters == {PAID: Counter(120_000, (), EUROS)}


async def test_of_first_payments_in_two_currencies_one_gets_through(store: Store, session: Session) -> None:
    outcomes = await asyncio.gather(
        *(allow(store, session, guard(100, None, terms)) for terms in (EUROS, DOLLARS)),
        return_exceptions=True,
    )
    assert sum(isinstance(outcome, Position) for outcome in outcomes) == 1
    (counter,) = (await facts(store, session, *BY_INVOICE)).counters.values()
    assert counter.total == 100
    assert counter.terms in (EUROS, DOLLARS)


async def test_allow_that_rests_on_what_figures_contain_needs_it_there(
    store: Store, session: Session
) -> None:
    kept = Guard(key=POSTED, add=0, ceiling=None, window_seconds=None, least=1)
    with pytest.raises(SessionMovedError):
        await allow(store, session, guard(1, None), kept)
    assert PAID not in (await facts(store, session, *BY_INVOICE)).counters


async def test_deleting_and_putting_an_order_anew_resets_nothing(store: Store, session: Session) -> None:
    await allow(store, session, guard(60_000, 120_000))
    await store.entities.delete_entities(TENANT, [ORDER], by=builders.AUTHOR)
    await store.entities.put_entities(TENANT, {ORDER: {"open": "1200"}}, by=builders.AUTHOR)
    assert (await facts(store, session, *BY_INVOICE)).counters == {PAID: Counter(60_000, (), EUROS)}


async def test_other_tenants_have_orders_of_their_own(store: Store, session: Session) -> None:
    await allow(store, session, guard(60_000, 120_000))
    await store.control_plane.put_tenant("other", b"{}", by=builders.AUTHOR)
    await store.entities.put_entities("other", {ORDER: {}}, by=builders.AUTHOR)
    query = EntityQuery(name="order", type="po", id=ORDER.id, measure="")
    request = builders.facts_request(builders.key("s", tenant="other"), entities=(query,))
    assert (await store.information_point.gather(request)).counters == {}
