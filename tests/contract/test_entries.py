"""What every ledger promises of what became of decisions."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from pdp.authority.counters import count_used
from pdp.authority.transitions import find_recounts, lapse, redeem, report
from pdp.errors import GroundMovedError, SessionMovedError
from pdp.model import (
    Counter,
    CounterKey,
    DecisionStatus,
    Effect,
    EntityName,
    Entry,
    EntryKind,
    Ground,
    HoldState,
    KeyHashes,
    Outcome,
    Position,
    Recording,
    Reservation,
    Session,
)
from tests.contract.conftest import Store
from tests.contract.test_grant_store import path
from tests.contract.test_limits import KEY, TOTAL, facts, guard
from tests.support import builders
from tests.support.builders import TENANT

DAY = CounterKey(scope='["budget","day"]', unit="EUR")
COUNT = CounterKey(scope='["grant","g"]', unit="actions")
MONEY = (guard(TOTAL, 70, 100), guard(DAY, 70, 100, 3600), guard(COUNT, 1, 9))


@pytest.fixture
async def session(store: Store) -> Session:
    await store.control_plane.put_tenant(TENANT, b"{}", by=builders.AUTHOR)
    return (await store.sessions.open(TENANT, builders.session(now=await store.clock.advance(0)))).session


async def record(
    store: Store, session: Session, kept: Reservation | None, effect: Effect = Effect.ALLOW, **key: str
) -> Recording:
    epoch = (await facts(store, session)).epoch
    recording = builders.recording(
        builders.key(session.session_id, **key),  # type: ignore[arg-type]
        epoch=epoch,
        effect=effect,
        reservation=kept,
        decided_at=await store.clock.now(),
    )
    await store.ledger.record(recording)
    return recording


async def allowed(
    store: Store, session: Session, *, key: KeyHashes | None = KEY, required: bool = False
) -> DecisionStatus:
    kept = Reservation(guards=MONEY, key=key, redeem_required=required)
    return await status_of(store, await record(store, session, kept))


async def status_of(store: Store, of: Recording | DecisionStatus) -> DecisionStatus:
    decision_id = of.decision.decision_id if isinstance(of, Recording) else of.decision_id
    found = await store.ledger.status(TENANT, decision_id=decision_id)
    assert found is not None
    return found


def entry(about: DecisionStatus, outcome: Outcome, *, believed: bool = True) -> Entry:
    change = report(about.hold, outcome, believed=believed)
    assert change is not None
    return Entry(
        entry_id=builders.unique("entry"),
        kind=change.kind,
        token=b"e30.e30.c2ln",
        caller="svc-erp",
        about=about,
        hold=change.hold,
        recounts=find_recounts(about.hold, change.hold),
        deadline=builders.deadline(),
    )


def redemption(about: DecisionStatus) -> Entry:
    after = redeem(about.hold)
    assert after is not None
    return replace(entry(about, Outcome.UNKNOWN), kind=EntryKind.REDEMPTION, hold=after, recounts=())


def lapsing(about: DecisionStatus) -> Entry:
    after = lapse(about.hold, about.now)
    assert after is not None
    return replace(entry(about, Outcome.UNKNOWN), hold=after, recounts=find_recounts(about.hold, after))


async def say(
    store: Store, of: Recording | DecisionStatus, outcome: Outcome, *, believed: bool = True
) -> None:
    await store.ledger.record_entry(entry(await status_of(store, of), outcome, believed=believed))


async def counted(store: Store, session: Session) -> tuple[int, int, int]:
    """Total, what lies in the day's window, and actions."""
    counters = (await facts(store, session, TOTAL, DAY, COUNT)).counters
    now = int((await store.clock.now()).timestamp())
    none = Counter()
    return (
        counters.get(TOTAL, none).total,
        count_used(counters.get(DAY, none), 3600, now),
        counters.get(COUNT, none).total,
    )


async def held(store: Store, session: Session) -> Sequence[HoldState]:
    return [hold.state for hold in (await facts(store, session, key=KEY.normal)).holds]


async def test_new_allow_is_reserved_and_has_no_outcome(store: Store, session: Session) -> None:
    about = await allowed(store, session)
    assert (about.hold.state, about.hold.outcome, about.hold.redeemed) == (HoldState.RESERVED, None, False)
    assert about.session is not None
    assert about.session.session_id == session.session_id
    assert about.effect is Effect.ALLOW
    assert set(about.hold.totals) == {(TOTAL, 70), (DAY, 70)}


@pytest.mark.parametrize("field", ["decision_id", "session_id"])
async def test_unknown_decision_and_call_have_no_status(store: Store, session: Session, field: str) -> None:
    assert await store.ledger.status(TENANT, **{field: "nothing"}) is None
    about = await allowed(store, session)
    assert await store.ledger.status("globex", decision_id=about.decision_id) is None


async def test_call_finds_the_decision_that_holds_something_and_none_of_several(
    store: Store, session: Session
) -> None:
    call = "call-1"
    first = await record(store, session, Reservation(), by="svc-1", tool_call_id=call)
    await record(store, session, None, Effect.BLOCK, by="svc-3", tool_call_id=call)
    found = await store.ledger.status(TENANT, session_id=session.session_id, tool_call_id=call)
    assert found is not None
    assert found.decision_id == first.decision.decision_id
    await record(store, session, Reservation(), by="svc-2", tool_call_id=call)
    assert await store.ledger.status(TENANT, session_id=session.session_id, tool_call_id=call) is None
    own = await store.ledger.status(TENANT, session_id=session.session_id, tool_call_id=call, caller="svc-1")
    assert own is not None
    assert own.decision_id == first.decision.decision_id


async def test_call_finds_an_allow_that_holds_nothing(store: Store, session: Session) -> None:
    """A plain read has nothing to hold, and is voided by its call all the same."""
    of_call: dict[str, Any] = {"session_id": session.session_id, "tool_call_id": "call-1"}
    blocked = await record(store, session, None, Effect.BLOCK, by="svc-2", tool_call_id="call-1")
    allow = await record(store, session, None, by="svc-1", tool_call_id="call-1")
    for caller in ("svc-1", None):
        found = await store.ledger.status(TENANT, caller=caller, **of_call)
        assert found is not None
        assert found.decision_id == allow.decision.decision_id
    assert await store.ledger.status(TENANT, caller="svc-2", **of_call) is None
    assert blocked.decision.decision_id != allow.decision.decision_id
    await say(store, await status_of(store, allow), Outcome.VOIDED, believed=False)
    found = await store.ledger.status(TENANT, caller="svc-1", **of_call)
    assert found is not None
    assert found.hold.outcome is Outcome.VOIDED
    # Another's allow under the same id: only with its caller is it known which one is meant.
    await record(store, session, None, by="svc-3", tool_call_id="call-1")
    assert await store.ledger.status(TENANT, **of_call) is None
    assert await store.ledger.status("globex", **of_call) is None


async def test_call_finds_the_latest_of_a_callers_own(store: Store, session: Session) -> None:
    leaves = ("", *(row.grant_hash for row in await path(store, session)))
    made = [
        await record(store, session, Reservation(), by="svc-1", tool_call_id="call-1", leaf_grant=leaf)
        for leaf in leaves
    ]
    found = await store.ledger.status(
        TENANT, session_id=session.session_id, tool_call_id="call-1", caller="svc-1"
    )
    assert found is not None
    assert found.decision_id == max(each.decision.decision_id for each in made)


async def test_report_is_kept_with_who_can_be_believed(store: Store, session: Session) -> None:
    about = await allowed(store, session)
    await say(store, about, Outcome.FAILED, believed=False)
    hold = (await status_of(store, about)).hold
    assert (hold.state, hold.outcome, hold.believed) == (HoldState.UNRESOLVED, Outcome.FAILED, False)
    recorded = await store.ledger.decision(TENANT, about.decision_id)
    assert recorded is not None
    assert (recorded.outcome, recorded.redeemed) == (Outcome.FAILED, False)
    await say(store, about, Outcome.FAILED)
    hold = (await status_of(store, about)).hold
    assert (hold.state, hold.believed) == (HoldState.RELEASED, True)


async def test_what_held_nothing_gets_an_outcome_too(store: Store, session: Session) -> None:
    about = await status_of(store, await record(store, session, None))
    assert about.hold.version == 0
    await say(store, about, Outcome.EXECUTED)
    assert (await status_of(store, about)).hold.outcome is Outcome.EXECUTED
    with pytest.raises(SessionMovedError):
        await store.ledger.record_entry(entry(about, Outcome.FAILED))


async def test_release_gives_back_key_and_money_but_no_counts(store: Store, session: Session) -> None:
    about = await allowed(store, session)
    assert await counted(store, session) == (70, 70, 1)
    await store.clock.advance(600)
    await say(store, about, Outcome.FAILED)
    assert await counted(store, session) == (0, 0, 1)
    assert await held(store, session) == []


async def test_executed_after_a_release_is_counted_again(store: Store, session: Session) -> None:
    about = await allowed(store, session)
    await say(store, about, Outcome.FAILED)
    await store.clock.advance(600)
    await say(store, about, Outcome.EXECUTED, believed=False)
    assert await counted(store, session) == (70, 70, 1)
    assert await held(store, session) == [HoldState.UNRESOLVED]
    # It counts in the window that it was allowed in.
    await store.clock.advance(3600)
    assert await counted(store, session) == (70, 0, 1)


async def test_conflict_is_kept_once(store: Store, session: Session) -> None:
    about = await allowed(store, session)
    await say(store, about, Outcome.EXECUTED)
    await say(store, about, Outcome.FAILED)
    hold = (await status_of(store, about)).hold
    assert hold.conflicts == ((Outcome.FAILED, True),)
    assert report(hold, Outcome.FAILED, believed=True) is None
    assert await counted(store, session) == (70, 70, 1)


async def test_of_many_reports_at_once_one_is_recorded(store: Store, session: Session) -> None:
    about = await allowed(store, session)
    outcomes = [Outcome.EXECUTED, Outcome.FAILED]
    answers = await asyncio.gather(
        *(store.ledger.record_entry(entry(about, outcomes[n % 2])) for n in range(20)),
        return_exceptions=True,
    )
    assert sum(isinstance(answer, Position) for answer in answers) == 1
    assert sum(isinstance(answer, SessionMovedError) for answer in answers) == 19


async def test_report_moves_the_key_for_decisions_under_way(store: Store, session: Session) -> None:
    about = await allowed(store, session)
    before = (await facts(store, session, key=KEY.normal)).key_version
    await say(store, about, Outcome.FAILED)
    assert (await facts(store, session, key=KEY.normal)).key_version == before + 1
    with pytest.raises(SessionMovedError):
        await record(store, session, Reservation(key=KEY, key_version=before))


async def test_repeat_of_a_call_sees_that_it_has_an_outcome(store: Store, session: Session) -> None:
    recording = await record(store, session, Reservation())
    request = builders.facts_request(recording.key)
    prior = (await store.information_point.gather(request)).prior
    assert prior is not None
    assert not prior.has_outcome
    await say(store, recording, Outcome.UNKNOWN, believed=False)
    prior = (await store.information_point.gather(request)).prior
    assert prior is not None
    assert prior.has_outcome


# --- redemption ---------------------------------------------------------------------


async def test_of_many_redemptions_at_once_one_is_recorded(store: Store, session: Session) -> None:
    about = await allowed(store, session)
    answers = await asyncio.gather(
        *(store.ledger.record_entry(redemption(about)) for _ in range(20)), return_exceptions=True
    )
    assert sum(isinstance(answer, Position) for answer in answers) == 1
    hold = (await status_of(store, about)).hold
    assert (hold.redeemed, hold.state) == (True, HoldState.RESERVED)


async def settings(store: Store, session: Session, about: DecisionStatus) -> None:
    await store.control_plane.put_tenant(TENANT, b'{"allow_ttl_seconds": 30}', by=builders.AUTHOR)


async def close(store: Store, session: Session, about: DecisionStatus) -> None:
    await store.sessions.close(TENANT, session.session_id, "over")


async def complete(store: Store, session: Session, about: DecisionStatus) -> None:
    await store.sessions.complete(TENANT, session.session_id, "done")


async def expiry(store: Store, session: Session, about: DecisionStatus) -> None:
    await store.clock.advance(60)


async def void(store: Store, session: Session, about: DecisionStatus) -> None:
    await say(store, about, Outcome.VOIDED, believed=False)


@pytest.mark.parametrize("meanwhile", [settings, close, complete, expiry, void], ids=lambda f: f.__name__)
async def test_redemption_does_not_commit_on_what_moved(
    store: Store, session: Session, meanwhile: object
) -> None:
    about = await allowed(store, session)
    await meanwhile(store, session, about)  # type: ignore[operator]
    with pytest.raises(SessionMovedError) as caught:
        await store.ledger.record_entry(redemption(about))
    assert isinstance(caught.value, GroundMovedError) is (meanwhile is settings)
    assert not (await status_of(store, about)).hold.redeemed


async def test_redemption_does_not_care_about_other_actions_of_the_session(
    store: Store, session: Session
) -> None:
    about = await allowed(store, session)
    epoch = (await facts(store, session)).epoch
    moved = builders.recording(
        builders.key(session.session_id),
        epoch=epoch,
        moves=session,
        decided_at=await store.clock.now(),
    )
    await store.ledger.record(moved)
    await store.ledger.record_entry(redemption(about))
    assert (await status_of(store, about)).hold.redeemed


# --- silence ------------------------------------------------------------------------


async def test_silence_is_listed_and_counted_from_the_expiry_on(store: Store, session: Session) -> None:
    silent = await allowed(store, session)
    assert await store.ledger.open_decisions(TENANT, after="", limit=9) == []
    assert await store.ledger.count_open(limit=9) == 0
    await store.clock.advance(61)
    (found,) = await store.ledger.open_decisions(TENANT, after="", limit=9)
    assert (found.decision_id, found.state) == (silent.decision_id, HoldState.UNRESOLVED)
    assert await store.ledger.count_open(limit=9) == 1
    assert await store.ledger.open_decisions("globex", after="", limit=9) == []
    assert await store.ledger.open_decisions(TENANT, after=silent.decision_id, limit=9) == []
    await say(store, silent, Outcome.UNKNOWN, believed=False)
    assert await store.ledger.count_open(limit=9) == 0


async def test_count_stops_at_its_limit(store: Store, session: Session) -> None:
    for _ in range(3):
        await record(store, session, Reservation())
    await store.clock.advance(61)
    assert await store.ledger.count_open(limit=2) == 2


async def test_what_had_to_be_redeemed_lapses_once_and_gives_all_back(store: Store, session: Session) -> None:
    about = await allowed(store, session, required=True)
    assert await store.ledger.lapsed(limit=9) == []
    await store.clock.advance(61)
    assert await held(store, session) == []
    assert await counted(store, session) == (70, 70, 1)
    assert await store.ledger.lapsed(limit=9) == [(TENANT, about.decision_id)]
    assert await store.ledger.count_open(limit=9) == 0
    late = await status_of(store, about)
    answers = await asyncio.gather(
        *(store.ledger.record_entry(lapsing(late)) for _ in range(8)), return_exceptions=True
    )
    assert sum(isinstance(answer, Position) for answer in answers) == 1
    assert await counted(store, session) == (0, 0, 1)
    assert await store.ledger.lapsed(limit=9) == []
    assert (await status_of(store, about)).hold.outcome is Outcome.UNREDEEMED


async def test_what_was_redeemed_does_not_lapse(store: Store, session: Session) -> None:
    about = await allowed(store, session, required=True)
    await store.ledger.record_entry(redemption(about))
    await store.clock.advance(61)
    assert await store.ledger.lapsed(limit=9) == []
    assert await held(store, session) == [HoldState.UNRESOLVED]
    assert await store.ledger.count_open(limit=9) == 1


async def test_status_says_that_a_grant_it_rests_on_was_revoked(store: Store, session: Session) -> None:
    rows = await path(store, session)
    on_leaf, on_root = [
        await record(store, session, None, leaf_grant=rows[n].grant_hash, tool_call_id=f"call-{n}")
        for n in (2, 0)
    ]
    without = await record(store, session, None)
    assert not any([(await status_of(store, each)).revoked for each in (on_leaf, on_root, without)])
    await store.grants.revoke_grant(TENANT, rows[1].grant_hash, by="ops", reason="")
    # What rests on a grant below the revoked one is revoked with it, and nothing above it is.
    seen = [(await status_of(store, each)).revoked for each in (on_leaf, on_root, without)]
    assert seen == [True, False, False]


async def test_redemption_that_a_revocation_overtook_is_refused(store: Store, session: Session) -> None:
    rows = await path(store, session)
    recorded = await record(
        store, session, Reservation(guards=(), key=None, redeem_required=True), leaf_grant=rows[2].grant_hash
    )
    about = await status_of(store, recorded)
    await store.grants.revoke_grant(TENANT, rows[1].grant_hash, by="ops", reason="")
    with pytest.raises(SessionMovedError):
        await store.ledger.record_entry(redemption(about))
    assert not (await status_of(store, recorded)).hold.redeemed


async def test_redemption_that_a_revocation_of_proofs_overtook_is_refused(
    store: Store, session: Session
) -> None:
    about = await allowed(store, session, required=True)
    await store.sessions.revoke_proofs(TENANT, session.session_id, by=builders.AUTHOR)
    with pytest.raises(SessionMovedError):
        await store.ledger.record_entry(redemption(about))
    assert not (await status_of(store, about)).hold.redeemed


GROUND = Ground(
    epoch=7,
    settings=2,
    signals=0,
    tool=3,
    agents={"agent:payer": 4},
    entities={EntityName(type="invoice", id="INV-1"): 5},
    counted=((TOTAL, 70), (COUNT, 1)),
)


async def test_ground_of_a_decision_is_kept_as_it_was(store: Store, session: Session) -> None:
    epoch = (await facts(store, session)).epoch
    for ground in (GROUND, None):
        recording = builders.recording(builders.key(session.session_id), epoch=epoch)
        await store.ledger.record(replace(recording, ground=ground))
        assert (await status_of(store, recording)).ground == ground


async def test_decision_voids_an_earlier_allow_with_its_own_recording(store: Store, session: Session) -> None:
    about = await allowed(store, session, required=True)
    epoch = (await facts(store, session)).epoch
    stale = builders.recording(
        builders.key(session.session_id),
        epoch=epoch,
        effect=Effect.BLOCK,
        decided_at=await store.clock.now(),
    )
    voids = entry(about, Outcome.VOIDED, believed=False)
    await store.ledger.record(replace(stale, voids=voids))
    assert (await status_of(store, about)).hold.outcome is Outcome.VOIDED
    assert await counted(store, session) == (0, 0, 1)
    assert await held(store, session) == []
    assert await store.ledger.decision(TENANT, stale.decision.decision_id) is not None


@pytest.mark.parametrize("together", [False, True])
async def test_void_of_a_hold_that_moved_leaves_no_trace(
    store: Store, session: Session, together: bool
) -> None:
    about = await allowed(store, session)
    voids = entry(about, Outcome.VOIDED, believed=False)
    await say(store, about, Outcome.EXECUTED)
    epoch = (await facts(store, session)).epoch
    first, stale = [
        builders.recording(
            builders.key(session.session_id),
            epoch=epoch,
            effect=Effect.BLOCK,
            decided_at=await store.clock.now(),
        )
        for _ in range(2)
    ]
    stale = replace(stale, voids=voids)
    recording = store.ledger.record_together([first, stale]) if together else store.ledger.record(stale)
    with pytest.raises(SessionMovedError):
        await recording
    assert (await status_of(store, about)).hold.outcome is Outcome.EXECUTED
    for each in (first, stale):
        assert await store.ledger.decision(TENANT, each.decision.decision_id) is None


async def test_plan_gets_a_position_for_each_decision_and_none_for_what_is_voided(
    store: Store, session: Session
) -> None:
    about = await allowed(store, session)
    epoch = (await facts(store, session)).epoch
    recordings = [
        builders.recording(
            builders.key(session.session_id),
            epoch=epoch,
            effect=Effect.BLOCK,
            decided_at=await store.clock.now(),
        )
        for _ in range(3)
    ]
    recordings[0] = replace(recordings[0], voids=entry(about, Outcome.VOIDED, believed=False))
    positions = await store.ledger.record_together(recordings)
    assert len(positions) == len(recordings)
    for recording, position in zip(recordings, positions, strict=True):
        found = await store.ledger.decision(TENANT, recording.decision.decision_id)
        assert found is not None
        assert found.position == position


async def test_entity_of_the_ground_that_was_written_since_is_said(store: Store, session: Session) -> None:
    known, new = (EntityName(type="invoice", id=name) for name in ('INV-"1"', "INV-2"))
    at = await store.entities.put_entities(TENANT, {known: {}}, by=builders.AUTHOR)
    epoch = (await facts(store, session)).epoch
    recording = builders.recording(builders.key(session.session_id), epoch=epoch)
    ground = replace(GROUND, entities={known: at, new: 0})
    await store.ledger.record(replace(recording, ground=ground))
    assert not (await status_of(store, recording)).entities_moved
    await store.entities.put_entities(
        TENANT, {EntityName(type="invoice", id="INV-3"): {}}, by=builders.AUTHOR
    )
    assert not (await status_of(store, recording)).entities_moved
    await store.entities.put_entities(TENANT, {new: {}}, by=builders.AUTHOR)
    status = await status_of(store, recording)
    assert status.entities_moved
    assert status.action_fingerprint == recording.action_fingerprint


async def test_redemption_on_an_entity_that_was_written_since_leaves_no_trace(
    store: Store, session: Session
) -> None:
    name = EntityName(type="invoice", id="INV-1")
    at = await store.entities.put_entities(TENANT, {name: {}}, by=builders.AUTHOR)
    about = await allowed(store, session)
    on_entity = replace(redemption(about), entities={name: at})
    await store.entities.put_entities(TENANT, {name: {"blocked": True}}, by=builders.AUTHOR)
    with pytest.raises(SessionMovedError):
        await store.ledger.record_entry(on_entity)
    assert not (await status_of(store, about)).hold.redeemed
    await store.ledger.record_entry(replace(on_entity, entities={name: at + 1}))
    assert (await status_of(store, about)).hold.redeemed
