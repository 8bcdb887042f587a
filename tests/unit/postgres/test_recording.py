"""Grouping recordings into a batch changes nothing about who wins."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from pdp.model import DecisionKey, Effect, Recording, Session, SessionState
from pdp.postgres.ledger.recording import LockedRows, SessionRow, apply
from tests.support import builders
from tests.support.builders import NOW, TENANT

SESSIONS = {
    name: builders.session(session_id=name, state=state, lifetime=lifetime)
    for name, state, lifetime in (
        ("live", SessionState.OPEN, timedelta(hours=1)),
        ("over", SessionState.OPEN, timedelta(seconds=-1)),
        ("closed", SessionState.CLOSED, timedelta(hours=1)),
        ("other", SessionState.COMPLETED, timedelta(hours=1)),
    )
}


@st.composite
def recordings(draw: st.DrawFn) -> Recording:
    session: Session | None = draw(st.sampled_from([None, *SESSIONS.values()]))
    if session is not None:
        session = replace(session, version=session.version + draw(st.integers(0, 3)))
    key = builders.key(draw(st.sampled_from("ab")), tool_call_id=draw(st.sampled_from("xyz")))
    return builders.recording(
        key,
        effect=draw(st.sampled_from(list(Effect))),
        epoch=draw(st.sampled_from([1, 1, 1, 2])),
        moves=session,
        prior_decision_id=draw(st.sampled_from([None, None, "first"])),
        claims_key=draw(st.booleans()),
    )


def locked(keys: dict[DecisionKey, str | None]) -> LockedRows:
    return LockedRows(
        now=NOW,
        epochs={TENANT: 1},
        sessions={
            (TENANT, name): SessionRow(version=one.version, state=one.state, expires_at=one.expires_at)
            for name, one in SESSIONS.items()
        },
        keys=keys,
    )


@given(st.lists(recordings(), max_size=12))
def test_batch_gives_what_one_by_one_gives(batch: list[Recording]) -> None:
    before = locked({recording.key: None for recording in batch})
    together = apply(batch, range(len(batch)), before)
    winners, now = [], before
    for index in range(len(batch)):
        alone = apply(batch, [index], now)
        winners += alone.winners
        now = replace(
            now,
            keys={**now.keys, **alone.keys},
            sessions={
                **now.sessions,
                **{
                    place: replace(now.sessions[place], version=moved.version)
                    for place, moved in alone.sessions.items()
                },
            },
        )
    assert together.winners == winners
    assert {**before.keys, **together.keys} == now.keys
    for place, row in before.sessions.items():
        wins = sum(1 for n in winners if (move := batch[n].move) and (TENANT, move.session_id) == place)
        assert now.sessions[place].version == row.version + wins
        if wins:
            assert together.sessions[place].version == row.version + wins


@given(st.lists(recordings(), max_size=12))
def test_no_allow_moves_a_session_that_is_over(batch: list[Recording]) -> None:
    applied = apply(batch, range(len(batch)), locked({recording.key: None for recording in batch}))
    for index in applied.winners:
        move = batch[index].move
        if batch[index].decision.effect is Effect.ALLOW and move is not None:
            assert move.session_id in ("live", "other")
        assert batch[index].epoch == 1


def test_key_that_could_not_be_locked_loses() -> None:
    recording = builders.recording(builders.key("a"), epoch=1)
    assert apply([recording], [0], locked({})).winners == []


@given(st.lists(st.lists(recordings(), min_size=1, max_size=4), max_size=6))
def test_plan_is_applied_as_a_whole_or_not_at_all(batch: list[list[Recording]]) -> None:
    before = locked({recording.key: None for plan in batch for recording in plan})
    applied = apply([tuple(plan) for plan in batch], range(len(batch)), before)
    # What won, one after the other, and nothing else.
    won = [recording for index in applied.winners for recording in batch[index]]
    alone = apply(won, range(len(won)), before)
    assert alone.winners == list(range(len(won)))
    assert (applied.keys, applied.sessions) == (alone.keys, alone.sessions)
