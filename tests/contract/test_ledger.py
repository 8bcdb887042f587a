"""What every ledger promises."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import replace
from datetime import timedelta

import pytest

from pdp.errors import DeadlineExceededError, GroundMovedError, SessionMovedError
from pdp.model import Aggregates, Bucket, DecisionKey, Effect, Facts, Position, Recording, Session
from tests.contract.conftest import Store
from tests.support import builders
from tests.support.builders import TENANT


@pytest.fixture
async def session(store: Store) -> Session:
    await store.control_plane.put_tenant(TENANT, b"{}", by=builders.AUTHOR)
    now = await store.clock.advance(0)
    return (await store.sessions.open(TENANT, builders.session(now=now))).session


async def facts(store: Store, key: DecisionKey) -> Facts:
    return await store.information_point.gather(builders.facts_request(key))


async def known(store: Store, session: Session) -> Session:
    found = await store.sessions.get(TENANT, session.session_id)
    assert found is not None
    return found.session


async def leaves_no_trace(store: Store, recording: Recording) -> None:
    """Recording is refused, and afterwards everything is as it was."""
    before = await facts(store, recording.key)
    with pytest.raises(SessionMovedError):
        await store.ledger.record(recording)
    after = await facts(store, recording.key)
    assert (after.session, after.prior, after.epoch) == (before.session, before.prior, before.epoch)
    assert await store.ledger.decision(TENANT, recording.decision.decision_id) is None


async def test_recorded_decision_is_found_as_it_was(store: Store, session: Session) -> None:
    key = builders.key(session.session_id, leaf_grant="ab" * 32, review_id="r-1")
    recording = builders.recording(
        key, epoch=(await facts(store, key)).epoch, moves=session, input_document=b'{"x": "\xc3\xa4"}' * 500
    )
    position = await store.ledger.record(recording)
    found = await store.ledger.decision(TENANT, recording.decision.decision_id)
    assert found is not None
    assert found.key == key
    assert found.token == recording.receipt.token
    assert found.position == position
    assert found.input_document == recording.input_document


async def test_unknown_decision_is_none(store: Store, session: Session) -> None:
    assert await store.ledger.decision(TENANT, "nothing") is None
    key = builders.key(session.session_id)
    recording = builders.recording(key, epoch=(await facts(store, key)).epoch)
    await store.ledger.record(recording)
    assert await store.ledger.decision("globex", recording.decision.decision_id) is None


async def test_session_moves_to_what_the_recording_says(store: Store, session: Session) -> None:
    key = builders.key(session.session_id)
    aggregates = Aggregates(
        allow=3,
        block=2,
        escalate=1,
        pay=(Bucket(start=1795514340, width=2, number=1), Bucket(start=1795514342, width=2, number=7)),
    )
    recording = builders.recording(
        key, epoch=(await facts(store, key)).epoch, moves=session, aggregates=aggregates
    )
    await store.ledger.record(recording)
    moved = await known(store, session)
    assert moved == replace(
        session,
        version=session.version + 1,
        aggregates=aggregates,
        last_receipt=hashlib.sha256(recording.receipt.signed).digest(),
    )


async def test_decision_without_a_move_moves_nothing(store: Store, session: Session) -> None:
    for session_id in (session.session_id, "unknown"):
        key = builders.key(session_id, by="stranger")
        epoch = (await facts(store, key)).epoch
        await store.ledger.record(builders.recording(key, epoch=epoch, effect=Effect.BLOCK))
        assert (await facts(store, key)).prior is not None
    assert await known(store, session) == session


async def test_moved_version_is_refused(store: Store, session: Session) -> None:
    key = builders.key(session.session_id)
    epoch = (await facts(store, key)).epoch
    await store.ledger.record(builders.recording(key, epoch=epoch, moves=session))
    for stale in (session, replace(session, version=session.version + 2)):
        another = builders.key(session.session_id)
        await leaves_no_trace(store, builders.recording(another, epoch=epoch, moves=stale))


async def test_moved_epoch_is_refused(store: Store, session: Session) -> None:
    key = builders.key(session.session_id)
    epoch = (await facts(store, key)).epoch
    await store.control_plane.put_signals(TENANT, [], by=builders.AUTHOR)
    for moves in (session, None):
        recording = builders.recording(key, epoch=epoch, moves=moves)
        await leaves_no_trace(store, recording)
        with pytest.raises(GroundMovedError):
            await store.ledger.record(recording)


async def test_what_moved_is_told_from_an_operators_write(store: Store, session: Session) -> None:
    key = builders.key(session.session_id)
    recording = builders.recording(key, epoch=(await facts(store, key)).epoch, prior_decision_id="never")
    with pytest.raises(SessionMovedError) as caught:
        await store.ledger.record(recording)
    assert not isinstance(caught.value, GroundMovedError)
    await store.control_plane.put_signals(TENANT, [], by=builders.AUTHOR)
    with pytest.raises(GroundMovedError):
        await store.ledger.record(recording)


async def test_unknown_session_cannot_move(store: Store, session: Session) -> None:
    key = builders.key("nothing")
    epoch = (await facts(store, key)).epoch
    await leaves_no_trace(
        store, builders.recording(key, epoch=epoch, moves=builders.session(session_id="nothing"))
    )


async def test_moved_key_is_refused(store: Store, session: Session) -> None:
    key = builders.key(session.session_id)
    epoch = (await facts(store, key)).epoch
    await leaves_no_trace(store, builders.recording(key, epoch=epoch, prior_decision_id="never"))
    first = builders.recording(key, epoch=epoch)
    await store.ledger.record(first)
    await leaves_no_trace(store, builders.recording(key, epoch=epoch))
    await store.ledger.record(
        builders.recording(key, epoch=epoch, prior_decision_id=first.decision.decision_id)
    )
    await leaves_no_trace(
        store, builders.recording(key, epoch=epoch, prior_decision_id=first.decision.decision_id)
    )


async def test_recording_may_leave_its_key_alone(store: Store, session: Session) -> None:
    key = builders.key(session.session_id)
    epoch = (await facts(store, key)).epoch
    first = builders.recording(key, epoch=epoch)
    await store.ledger.record(first)
    reuse = builders.recording(
        key,
        epoch=epoch,
        effect=Effect.BLOCK,
        prior_decision_id=first.decision.decision_id,
        claims_key=False,
    )
    await store.ledger.record(reuse)
    prior = (await facts(store, key)).prior
    assert prior is not None
    assert prior.decision_id == first.decision.decision_id
    assert await store.ledger.decision(TENANT, reuse.decision.decision_id) is not None


async def test_key_that_nobody_claims_stays_free(store: Store, session: Session) -> None:
    key = builders.key(session.session_id)
    epoch = (await facts(store, key)).epoch
    await store.ledger.record(builders.recording(key, epoch=epoch, claims_key=False))
    assert (await facts(store, key)).prior is None
    await store.ledger.record(builders.recording(key, epoch=epoch))
    assert (await facts(store, key)).prior is not None


async def test_allow_is_refused_once_the_session_has_expired(store: Store, session: Session) -> None:
    key = builders.key(session.session_id)
    epoch = (await facts(store, key)).epoch
    await store.clock.advance(timedelta(hours=1).total_seconds())
    await leaves_no_trace(store, builders.recording(key, epoch=epoch, moves=session))
    await store.ledger.record(builders.recording(key, epoch=epoch, moves=session, effect=Effect.BLOCK))
    assert (await known(store, session)).aggregates.block == 1


async def test_close_overtakes_an_allow(store: Store, session: Session) -> None:
    key = builders.key(session.session_id)
    epoch = (await facts(store, key)).epoch
    closed = await store.sessions.close(TENANT, session.session_id, "done")
    assert closed is not None
    await leaves_no_trace(store, builders.recording(key, epoch=epoch, moves=session))
    # This is so even for a decision that was taken on the closed session.
    await leaves_no_trace(store, builders.recording(key, epoch=epoch, moves=closed))
    await store.ledger.record(builders.recording(key, epoch=epoch, moves=closed, effect=Effect.BLOCK))


async def test_one_of_64_wins_a_version(store: Store, session: Session) -> None:
    epoch = (await facts(store, builders.key(session.session_id))).epoch
    recordings = [
        builders.recording(builders.key(session.session_id), epoch=epoch, moves=session) for _ in range(64)
    ]
    results = await asyncio.gather(*map(store.ledger.record, recordings), return_exceptions=True)
    assert sum(isinstance(result, Position) for result in results) == 1
    assert sum(isinstance(result, SessionMovedError) for result in results) == 63
    moved = await known(store, session)
    assert (moved.version, moved.aggregates.allow) == (session.version + 1, 1)
    for recording, result in zip(recordings, results, strict=True):
        found = await store.ledger.decision(TENANT, recording.decision.decision_id)
        assert (found is not None) == isinstance(result, Position)
        assert ((await facts(store, recording.key)).prior is not None) == isinstance(result, Position)


async def test_one_of_many_wins_a_key(store: Store, session: Session) -> None:
    key = builders.key("unknown")
    epoch = (await facts(store, key)).epoch
    results = await asyncio.gather(
        *(store.ledger.record(builders.recording(key, epoch=epoch)) for _ in range(16)),
        return_exceptions=True,
    )
    assert sum(isinstance(result, Position) for result in results) == 1
    assert sum(isinstance(result, SessionMovedError) for result in results) == 15


async def test_successors_may_be_recorded_behind_each_other(store: Store, session: Session) -> None:
    epoch = (await facts(store, builders.key(session.session_id))).epoch
    recordings = []
    at = session
    for _ in range(10):
        recording = builders.recording(builders.key(session.session_id), epoch=epoch, moves=at)
        assert recording.move is not None
        at = replace(at, version=at.version + 1, aggregates=recording.move.aggregates)
        recordings.append(recording)
    await asyncio.gather(*map(store.ledger.record, recordings))
    moved = await known(store, session)
    assert (moved.version, moved.aggregates) == (at.version, Aggregates(allow=10))
    last = recordings[-1].receipt.signed
    assert moved.last_receipt == hashlib.sha256(last).digest()


async def test_what_rests_on_a_loser_loses(store: Store, session: Session) -> None:
    epoch = (await facts(store, builders.key(session.session_id))).epoch
    loser = builders.recording(
        builders.key(session.session_id), epoch=epoch, moves=session, prior_decision_id="never"
    )
    follower = builders.recording(
        builders.key(session.session_id), epoch=epoch, moves=replace(session, version=session.version + 1)
    )
    innocent = builders.recording(builders.key("unknown"), epoch=epoch)
    results = await asyncio.gather(
        *map(store.ledger.record, (loser, follower, innocent)), return_exceptions=True
    )
    assert isinstance(results[0], SessionMovedError)
    assert isinstance(results[1], SessionMovedError)
    assert isinstance(results[2], Position)
    assert await known(store, session) == session


async def test_positions_have_no_gaps(store: Store, session: Session) -> None:
    epoch = (await facts(store, builders.key("unknown"))).epoch
    recordings = [
        builders.recording(
            builders.key("unknown"), epoch=epoch, prior_decision_id="never" if n % 3 == 0 else None
        )
        for n in range(150)
    ]
    results = await asyncio.gather(*map(store.ledger.record, recordings), return_exceptions=True)
    positions = [result for result in results if isinstance(result, Position)]
    assert len(positions) == 100
    assert {position.writer for position in positions} == {positions[0].writer}
    assert sorted(position.seq for position in positions) == list(range(1, 101))


async def test_past_deadline_is_never_begun(store: Store, session: Session) -> None:
    key = builders.key(session.session_id)
    epoch = (await facts(store, key)).epoch
    with pytest.raises(DeadlineExceededError):
        await store.ledger.record(builders.recording(key, epoch=epoch, moves=session, seconds=-0.001))
    assert await known(store, session) == session


async def test_recorded_together_each_rests_on_the_one_before(store: Store, session: Session) -> None:
    keys = [builders.key(session.session_id) for _ in range(3)]
    epoch = (await facts(store, keys[0])).epoch
    plan, moves = [], session
    for key in keys:
        plan.append(builders.recording(key, epoch=epoch, moves=moves, decided_at=moves.opened_at))
        move = plan[-1].move
        assert move is not None
        moves = replace(moves, version=moves.version + 1, aggregates=move.aggregates)
    positions = await store.ledger.record_together(plan)
    assert [position.seq - positions[0].seq for position in positions] == [0, 1, 2]
    assert len({position.writer for position in positions}) == 1
    for recording, position in zip(plan, positions, strict=True):
        found = await store.ledger.decision(TENANT, recording.decision.decision_id)
        assert found is not None
        assert (found.token, found.position) == (recording.receipt.token, position)
    moved = await known(store, session)
    assert (moved.version, moved.aggregates.allow) == (session.version + 3, 3)
    assert moved.last_receipt == hashlib.sha256(plan[-1].receipt.signed).digest()


async def test_recorded_together_holds_as_a_whole_or_leaves_no_trace(store: Store, session: Session) -> None:
    keys = [builders.key(session.session_id) for _ in range(2)]
    epoch = (await facts(store, keys[0])).epoch
    # The second was taken on another history than the first leaves.
    plan = [builders.recording(key, epoch=epoch, moves=session) for key in keys]
    with pytest.raises(SessionMovedError):
        await store.ledger.record_together(plan)
    assert await known(store, session) == session
    for recording in plan:
        assert await store.ledger.decision(TENANT, recording.decision.decision_id) is None
        assert (await facts(store, recording.key)).prior is None
    # The position that it would have had is the next one's.
    await store.ledger.record_together([plan[0]])
    assert (await known(store, session)).version == session.version + 1


async def test_plans_and_single_decisions_at_once_win_or_lose_each_as_a_whole(
    store: Store, session: Session
) -> None:
    """All rest on one version: one wins, of whichever kind."""
    epoch = (await facts(store, builders.key(session.session_id))).epoch

    def plan() -> list[Recording]:
        first = builders.recording(builders.key(session.session_id), epoch=epoch, moves=session)
        after = replace(session, version=session.version + 1)
        return [first, builders.recording(builders.key(session.session_id), epoch=epoch, moves=after)]

    singles = [plan()[:1] for _ in range(4)]
    plans = [plan() for _ in range(4)]
    mixed = [one for pair in zip(singles, plans, strict=True) for one in pair]
    results = await asyncio.gather(
        *(store.ledger.record_together(one) for one in mixed), return_exceptions=True
    )
    won = [work for work, result in zip(mixed, results, strict=True) if not isinstance(result, Exception)]
    assert len(won) == 1
    assert (await known(store, session)).version == session.version + len(won[0])
