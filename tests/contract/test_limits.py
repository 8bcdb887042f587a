"""What every ledger promises of limits and business keys."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from pdp.authority.counters import count_used
from pdp.errors import SessionMovedError
from pdp.model import (
    Counter,
    CounterKey,
    Facts,
    Guard,
    HoldState,
    KeyHashes,
    Position,
    Reservation,
    Session,
)
from tests.contract.conftest import Store
from tests.support import builders
from tests.support.builders import TENANT

TOTAL = CounterKey(scope='["session","s"]', unit="EUR")
OTHER = CounterKey(scope='["budget","day"]', unit="EUR")
KEY, SPELT_OTHERWISE = KeyHashes(normal="n1", given="g1"), KeyHashes(normal="n1", given="g2")


@pytest.fixture
async def session(store: Store) -> Session:
    await store.control_plane.put_tenant(TENANT, b"{}", by=builders.AUTHOR)
    now = await store.clock.advance(0)
    return (await store.sessions.open(TENANT, builders.session(now=now))).session


async def facts(store: Store, session: Session, *counters: CounterKey, key: str | None = None) -> Facts:
    request = builders.facts_request(builders.key(session.session_id))
    return await store.information_point.gather(replace(request, counters=counters, business_key=key))


def guard(key: CounterKey, add: int, ceiling: int | None, window: int | None = None) -> Guard:
    return Guard(key=key, add=add, ceiling=ceiling, window_seconds=window)


async def allow(store: Store, session: Session, kept: Reservation, **options: object) -> Position:
    epoch = (await facts(store, session)).epoch
    now = await store.clock.now()
    return await store.ledger.record(
        builders.recording(
            builders.key(session.session_id),
            epoch=epoch,
            reservation=kept,
            decided_at=now,
            **options,  # type: ignore[arg-type]
        )
    )


async def test_counter_that_never_moved_is_not_there(store: Store, session: Session) -> None:
    assert (await facts(store, session, TOTAL)).counters == {}


async def test_allow_moves_all_its_counters_together(store: Store, session: Session) -> None:
    kept = Reservation(guards=(guard(TOTAL, 70, 100), guard(OTHER, 70, 100, 60)))
    await allow(store, session, kept)
    with pytest.raises(SessionMovedError):
        await allow(store, session, Reservation(guards=(guard(OTHER, 1, 100, 60), guard(TOTAL, 31, 100))))
    found = (await facts(store, session, TOTAL, OTHER)).counters
    now = int((await store.clock.now()).timestamp())
    assert found[TOTAL] == Counter(total=70)
    assert count_used(found[OTHER], 60, now) == 70


async def test_counter_that_was_read_is_not_made_again(store: Store, session: Session) -> None:
    kept = Reservation(guards=(guard(TOTAL, 70, 100),), existing=frozenset({TOTAL}))
    with pytest.raises(SessionMovedError):
        await allow(store, session, kept)
    assert (await facts(store, session, TOTAL)).counters == {}
    await allow(store, session, Reservation(guards=(guard(TOTAL, 20, 100),)))
    await allow(store, session, kept)
    assert (await facts(store, session, TOTAL)).counters[TOTAL].total == 90


async def test_plan_rests_on_a_counter_that_it_makes_itself(store: Store, session: Session) -> None:
    first = Reservation(guards=(guard(TOTAL, 70, 100),))
    epoch = (await facts(store, session)).epoch
    plan = [
        builders.recording(
            builders.key(session.session_id, tool_call_id=f"call-{number}"), epoch=epoch, reservation=kept
        )
        for number, kept in enumerate(
            [first, replace(first, guards=(guard(TOTAL, 20, 100),), existing=frozenset({TOTAL}))]
        )
    ]
    await store.ledger.record_together(plan)
    assert (await facts(store, session, TOTAL)).counters[TOTAL].total == 90


async def test_window_makes_room_again(store: Store, session: Session) -> None:
    kept = Reservation(guards=(guard(OTHER, 70, 100, 60),))
    await allow(store, session, kept)
    with pytest.raises(SessionMovedError):
        await allow(store, session, kept)
    await store.clock.advance(63)
    await allow(store, session, kept)


async def test_of_100_at_once_those_get_through_that_there_is_room_for(
    store: Store, session: Session
) -> None:
    kept = Reservation(guards=(guard(TOTAL, 5, 100), guard(OTHER, 5, 1000, 60)))
    outcomes = await asyncio.gather(
        *(allow(store, session, kept) for _ in range(100)), return_exceptions=True
    )
    assert sum(isinstance(outcome, Position) for outcome in outcomes) == 20
    assert sum(isinstance(outcome, SessionMovedError) for outcome in outcomes) == 80
    assert (await facts(store, session, TOTAL)).counters[TOTAL].total == 100


async def test_of_100_with_one_business_key_one_gets_through(store: Store, session: Session) -> None:
    spellings = [KEY, SPELT_OTHERWISE]
    outcomes = await asyncio.gather(
        *(allow(store, session, Reservation(key=spellings[n % 2])) for n in range(100)),
        return_exceptions=True,
    )
    assert sum(isinstance(outcome, Position) for outcome in outcomes) == 1
    found = await facts(store, session, key="n1")
    assert (len(found.holds), found.key_version) == (1, 1)


async def test_hold_is_seen_with_its_spelling_and_only_under_its_key(store: Store, session: Session) -> None:
    await allow(store, session, Reservation(key=KEY))
    await allow(store, session, Reservation(key=SPELT_OTHERWISE, key_version=1))
    found = await facts(store, session, key="n1")
    assert {(hold.given, hold.state) for hold in found.holds} == {
        ("g1", HoldState.RESERVED),
        ("g2", HoldState.RESERVED),
    }
    elsewhere = await facts(store, session, key="n2")
    assert (elsewhere.holds, elsewhere.key_version) == ((), 0)


async def test_silence_past_the_expiry_leaves_the_hold_unresolved(store: Store, session: Session) -> None:
    await allow(store, session, Reservation(key=KEY))
    await store.clock.advance(61)
    found = await facts(store, session, key="n1")
    assert [hold.state for hold in found.holds] == [HoldState.UNRESOLVED]


async def test_what_was_never_redeemed_holds_nothing_past_its_expiry(store: Store, session: Session) -> None:
    await allow(store, session, Reservation(key=KEY, redeem_required=True))
    assert len((await facts(store, session, key="n1")).holds) == 1
    await store.clock.advance(61)
    assert (await facts(store, session, key="n1")).holds == ()


async def test_loser_holds_and_counts_nothing(store: Store, session: Session) -> None:
    kept = Reservation(guards=(guard(TOTAL, 5, 100),), key=KEY)
    stale = replace(session, version=session.version + 7)
    with pytest.raises(SessionMovedError):
        await allow(store, session, kept, moves=stale)
    found = await facts(store, session, TOTAL, key="n1")
    assert (found.holds, found.key_version, found.counters.get(TOTAL, Counter())) == ((), 0, Counter())


async def test_other_tenant_has_its_own_counters_and_keys(store: Store, session: Session) -> None:
    await allow(store, session, Reservation(guards=(guard(TOTAL, 5, 100),), key=KEY))
    await store.control_plane.put_tenant("globex", b"{}", by=builders.AUTHOR)
    request = builders.facts_request(builders.key("s", tenant="globex"))
    found = await store.information_point.gather(replace(request, counters=(TOTAL,), business_key="n1"))
    assert (found.counters, found.holds, found.key_version) == ({}, (), 0)


async def test_expired_hold_of_another_kind_is_not_forgotten(store: Store, session: Session) -> None:
    await allow(store, session, Reservation(key=KEY))
    await store.clock.advance(timedelta(days=400).total_seconds())
    assert len((await facts(store, session, key="n1")).holds) == 1
