"""What every entity store promises of postings, and of what decisions rest on with them."""

from __future__ import annotations

from decimal import Decimal

import pytest

from pdp.authority.order_use import entity_scope
from pdp.errors import InvalidFieldError, SessionMovedError
from pdp.model import (
    Counter,
    CounterKey,
    DecisionStatus,
    EntityName,
    EntityQuery,
    Facts,
    Guard,
    Outcome,
    Posting,
    Reservation,
    Session,
    Terms,
)
from tests.contract.conftest import Store
from tests.contract.test_entries import entry
from tests.support import builders
from tests.support.builders import TENANT

ORDER, OTHER = EntityName(type="po", id="PO-77"), EntityName(type="po", id="PO-78")
PAID, POSTED = CounterKey(entity_scope(ORDER), "paid:"), CounterKey(entity_scope(ORDER), "posted:")
EUROS = Terms("EUR", 120_000)


@pytest.fixture
async def session(store: Store) -> Session:
    await store.control_plane.put_tenant(TENANT, b"{}", by=builders.AUTHOR)
    await store.entities.put_entities(TENANT, {ORDER: {"open": "1200"}, OTHER: {}}, by=builders.AUTHOR)
    now = await store.clock.advance(0)
    return (await store.sessions.open(TENANT, builders.session(now=now))).session


async def facts(store: Store, session: Session) -> Facts:
    query = EntityQuery(name="order", type="po", id="PO-77", measure="")
    request = builders.facts_request(builders.key(session.session_id), entities=(query,))
    return await store.information_point.gather(request)


async def counted(store: Store, session: Session) -> tuple[int, int]:
    """What was paid on the order, and what of it its figures contain."""
    counters = (await facts(store, session)).counters
    return counters.get(PAID, Counter()).total, counters.get(POSTED, Counter()).total


async def pay(store: Store, session: Session, minor: int = 60_000) -> str:
    """Allow a payment on the order; return the decision's id."""
    guard = Guard(key=PAID, add=minor, ceiling=None, window_seconds=None, terms=EUROS)
    recording = builders.recording(
        builders.key(session.session_id),
        epoch=(await facts(store, session)).epoch,
        reservation=Reservation(guards=(guard,)),
        decided_at=await store.clock.now(),
    )
    await store.ledger.record(recording)
    return recording.decision.decision_id


def posting(decision_id: str, amount: str) -> Posting:
    return Posting(decision_id=decision_id, amount=Decimal(amount), field="posted[0]")


async def put(store: Store, *posted: Posting, open: str = "600") -> int:
    return await store.entities.put_entities(
        TENANT, {ORDER: {"open": open}}, by=builders.AUTHOR, posted={ORDER: posted}
    )


async def patch(store: Store, *posted: Posting) -> None:
    await store.entities.patch_entity(
        TENANT, ORDER, set_={}, unset=(), check=lambda _: None, by=builders.AUTHOR, posted=posted
    )


async def status(store: Store, decision_id: str) -> DecisionStatus:
    found = await store.ledger.status(TENANT, decision_id=decision_id)
    assert found is not None
    return found


async def say(store: Store, about: DecisionStatus, outcome: Outcome) -> None:
    """Report, as somebody who can be believed."""
    await store.ledger.record_entry(entry(about, outcome))


async def test_figures_contain_what_the_latest_write_says_of_each_decision(
    store: Store, session: Session
) -> None:
    first, second = await pay(store, session), await pay(store, session)
    await put(store, posting(first, "600"))
    assert await counted(store, session) == (120_000, 60_000)
    # Said twice it is contained once; said otherwise it is amended.
    await put(store, posting(first, "600.00"))
    assert await counted(store, session) == (120_000, 60_000)
    await patch(store, posting(first, "250.50"))
    assert await counted(store, session) == (120_000, 25_050)
    await patch(store, posting(second, "600"))
    assert await counted(store, session) == (120_000, 85_050)
    await patch(store, posting(first, "0"))
    assert await counted(store, session) == (120_000, 60_000)


async def test_more_than_was_paid_counts_as_that(store: Store, session: Session) -> None:
    first = await pay(store, session)
    await patch(store, posting(first, "99999"))
    assert await counted(store, session) == (60_000, 60_000)


async def test_entity_that_is_put_contains_nothing_else(store: Store, session: Session) -> None:
    first, second = await pay(store, session), await pay(store, session)
    await put(store, posting(first, "600"), posting(second, "1"))
    await put(store, posting(second, "600"))
    assert await counted(store, session) == (120_000, 60_000)
    await store.entities.delete_entities(TENANT, [ORDER], by=builders.AUTHOR)
    assert await counted(store, session) == (120_000, 60_000)
    await put(store)
    assert await counted(store, session) == (120_000, 0)


async def test_what_is_given_back_is_no_longer_contained(store: Store, session: Session) -> None:
    first = await pay(store, session)
    await pay(store, session)
    await patch(store, posting(first, "400"))
    await say(store, await status(store, first), Outcome.NOT_EXECUTED)
    assert await counted(store, session) == (60_000, 0)
    # What was given back counts nowhere, whatever the figures contain of it.
    await patch(store, posting(first, "600"))
    assert await counted(store, session) == (60_000, 0)


async def test_what_was_given_back_and_was_done_counts_with_what_is_contained(
    store: Store, session: Session
) -> None:
    first = await pay(store, session)
    await say(store, await status(store, first), Outcome.NOT_EXECUTED)
    await patch(store, posting(first, "400"))
    await say(store, await status(store, first), Outcome.EXECUTED)
    assert await counted(store, session) == (60_000, 40_000)


async def test_report_that_was_judged_before_a_posting_is_judged_again(
    store: Store, session: Session
) -> None:
    about = await status(store, await pay(store, session))
    await patch(store, posting(about.decision_id, "400"))
    with pytest.raises(SessionMovedError):
        await say(store, about, Outcome.FAILED)
    assert await counted(store, session) == (60_000, 40_000)


@pytest.mark.parametrize("named", ["unknown", "elsewhere"])
async def test_decision_that_paid_nothing_on_the_entity_is_refused_and_nothing_is_written(
    store: Store, session: Session, named: str
) -> None:
    first = await pay(store, session)
    before = (await facts(store, session)).data_revisions["entities"]
    name, stated = (ORDER, posting("unknown", "1")) if named == "unknown" else (OTHER, posting(first, "1"))
    with pytest.raises(InvalidFieldError) as refused:
        await store.entities.put_entities(
            TENANT, {name: {"open": "1"}}, by=builders.AUTHOR, posted={name: [stated]}
        )
    assert refused.value.field == "posted[0].decision_id"
    after = await facts(store, session)
    assert after.data_revisions["entities"] == before
    assert after.entities["order"].attributes == {"open": "1200"}


async def test_amount_with_too_many_decimals_is_refused(store: Store, session: Session) -> None:
    first = await pay(store, session)
    with pytest.raises(InvalidFieldError) as refused:
        await patch(store, posting(first, "1.001"))
    assert refused.value.field == "posted[0].amount"


async def test_history_keeps_what_each_write_named(store: Store, session: Session) -> None:
    first = await pay(store, session)
    await put(store, posting(first, "600.00"))
    await patch(store)
    latest, before, *_ = await store.entities.entity_history(TENANT, ORDER, before=None, limit=3)
    assert (dict(latest.posted), dict(before.posted)) == ({}, {first: Decimal("600.00")})
