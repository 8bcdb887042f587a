"""How long an allow is good, and for whom: by a clock that only goes forward, for one attempt."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest

from placet import Blocked, ExpiredAllow, ReplayedAllow
from placet.testing import FakePdp
from placet.v1 import decision_service_pb2 as decisions

ACTION = {"tool": "t", "arguments": {}, "tool_call_id": "c"}


class SetClock:
    """A clock that stands until it is told to go on."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_allow_is_good_for_as_long_as_its_receipt_says_counted_from_sending(fake_pdp: FakePdp) -> None:
    fake_pdp.allow()
    clock = SetClock()
    sent: list[float] = []

    def answer_late(answer: decisions.EvaluateResponse) -> None:
        sent.append(clock.now)
        clock.now += 20.0

    fake_pdp.alter = answer_late
    with fake_pdp.client(clock=clock) as pdp:
        decision = pdp.evaluate(ACTION, session=fake_pdp.session())
    assert decision.allowed
    clock.now = sent[0] + 59.9
    assert decision.allowed
    clock.now = sent[0] + 60.0
    assert not decision.allowed
    with pytest.raises(ExpiredAllow) as raised:
        decision.require_allowed()
    assert isinstance(raised.value, Blocked)
    assert "reason_code=client.expired" in raised.value.model_text


@pytest.mark.parametrize("ahead", [timedelta(days=-400), timedelta(days=400)])
def test_wall_clock_has_no_say(fake_pdp: FakePdp, ahead: timedelta) -> None:
    fake_pdp.advance(ahead)
    fake_pdp.allow()
    with fake_pdp.client() as pdp:
        assert pdp.evaluate(ACTION, session=fake_pdp.session()).allowed


def test_allow_that_came_too_late_is_none(fake_pdp: FakePdp) -> None:
    fake_pdp.allow()
    clock = SetClock()

    def answer_late(answer: decisions.EvaluateResponse) -> None:
        clock.now += 61.0

    fake_pdp.alter = answer_late
    with fake_pdp.client(clock=clock) as pdp:
        assert not pdp.evaluate(ACTION, session=fake_pdp.session()).allowed


def test_lifetime_of_an_allow_ends_with_its_session(fake_pdp: FakePdp) -> None:
    fake_pdp.allow()
    clock = SetClock()
    with fake_pdp.client(clock=clock) as pdp:
        session = pdp.open_session(
            task="t", principal="p", agent="agent:test", boundary={}, expires_in=timedelta(seconds=20)
        )
        decision = pdp.evaluate(ACTION, session=session)
        clock.now += 20
        assert not decision.allowed


def test_allow_of_another_attempt_is_shown_and_not_allowed(fake_pdp: FakePdp) -> None:
    fake_pdp.allow()
    session = fake_pdp.session()
    with fake_pdp.client() as pdp:
        first = pdp.evaluate(ACTION, session=session)
        second = pdp.evaluate(ACTION, session=session)
    assert first.allowed
    assert second.effect == "allow"
    assert second.replayed
    assert second.receipt == first.receipt
    assert second.attempt_id == first.attempt_id
    assert not second.allowed
    with pytest.raises(ReplayedAllow) as raised:
        second.require_allowed()
    assert "not executed again" in raised.value.model_text


def test_attempt_may_be_continued_by_the_process_that_began_it(fake_pdp: FakePdp) -> None:
    fake_pdp.allow()
    clock = SetClock()
    session = fake_pdp.session()

    def lose(answer: decisions.EvaluateResponse) -> None:
        answer.decision.effect = 0  # type: ignore[assignment]

    with fake_pdp.client(clock=clock) as pdp:
        fake_pdp.alter = lose
        lost = pdp.evaluate(ACTION, session=session)
        assert lost.failure is not None
        fake_pdp.alter = None
        clock.now += 50
        again = pdp.evaluate(ACTION, session=session, attempt_id=lost.attempt_id)
        assert again.replayed
        assert again.allowed
        # The time counts from the first sending, not from the repeat.
        clock.now += 10
        assert not again.allowed


def test_recorded_decision_is_to_read_and_not_to_act_on(fake_pdp: FakePdp) -> None:
    fake_pdp.allow()
    with fake_pdp.client() as pdp:
        decision = pdp.evaluate(ACTION, session=fake_pdp.session())
        recorded = pdp.get_decision(decision.decision_id)
    assert recorded.receipt == decision.receipt
    assert recorded.effect == "allow"
    assert not recorded.allowed


@pytest.mark.parametrize("effect", ["block", "escalate"])
def test_nothing_but_an_allow_is_ever_allowed(fake_pdp: FakePdp, effect: str) -> None:
    scripts: dict[str, Callable[[], None]] = {"block": fake_pdp.block, "escalate": fake_pdp.escalate}
    scripts[effect]()
    with fake_pdp.client() as pdp:
        decision = pdp.evaluate(ACTION, session=fake_pdp.session())
    assert decision.effect == effect
    assert not decision.allowed
    with pytest.raises(Blocked):
        decision.require_allowed()
