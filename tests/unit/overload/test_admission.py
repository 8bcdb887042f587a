"""What is begun under load, by a clock that the test moves."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

import pytest

from pdp.errors import DeadlineExceededError, OverloadedError
from pdp.overload.admission import TOGETHER, Admission
from pdp.overload.latency import LatencyEstimate
from tests.support.clock import ManualClock


@contextmanager
def judged(admission: Admission, clock: ManualClock, *, within: float = 1000.0) -> Iterator[None]:
    with admission.enter(clock() + within), admission.judging(clock() + within):
        yield


def decided(admission: Admission, clock: ManualClock, count: int, seconds: float) -> None:
    """So many decisions were taken at the same time, in so many seconds; first come, first done."""
    going = [judged(admission, clock) for _ in range(count)]
    for each in going:
        each.__enter__()
    clock.advance(seconds)
    for each in going:
        each.__exit__(None, None, None)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


def test_everything_is_begun_while_nothing_is_known(clock: ManualClock) -> None:
    admission = Admission(clock=clock)
    with ExitStack() as stack:
        for _ in range(500):
            stack.enter_context(judged(admission, clock, within=0.001))
        assert admission.load().waiting == 500
    assert admission.load().waiting == 0


def test_call_with_less_time_than_a_decision_needs_is_turned_away_with_a_hint(clock: ManualClock) -> None:
    admission = Admission(clock=clock)
    for _ in range(100):
        decided(admission, clock, 2, 0.5)
    with judged(admission, clock):
        with pytest.raises(OverloadedError) as refused:
            admission.check(clock() + 0.2)
        admission.check(clock() + 1.0)
    assert 0.2 < refused.value.retry_after < 1.0
    assert admission.load().dropped == {"late": 1}


def test_need_grows_with_what_waits_in_line_beyond_a_batch(clock: ManualClock) -> None:
    admission = Admission(clock=clock)
    decided(admission, clock, TOGETHER, 0.1)
    alone = admission.need()
    with ExitStack() as stack:
        for _ in range(TOGETHER - 1):
            stack.enter_context(judged(admission, clock))
        assert admission.need() == alone
        for _ in range(9 * TOGETHER):
            stack.enter_context(judged(admission, clock))
        assert admission.need() == pytest.approx(10 * alone)


def test_decisions_of_a_long_line_do_not_make_a_short_one_look_slow(clock: ManualClock) -> None:
    admission = Admission(clock=clock)
    for _ in range(20):
        decided(admission, clock, 10 * TOGETHER, 1.0)
    assert admission.need() == pytest.approx(0.1, rel=0.1)


def test_call_that_nothing_is_before_is_begun_whatever_was_slow(clock: ManualClock) -> None:
    admission = Admission(clock=clock)
    for _ in range(100):
        decided(admission, clock, 1, 10.0)
    with judged(admission, clock, within=0.1), pytest.raises(OverloadedError):
        admission.check(clock() + 0.1)


def test_what_was_slow_is_forgotten_within_seconds(clock: ManualClock) -> None:
    admission = Admission(clock=clock)
    decided(admission, clock, TOGETHER, 5.0)
    with judged(admission, clock):
        with pytest.raises(OverloadedError):
            admission.check(clock() + 1.0)
        clock.advance(4.0)
        admission.check(clock() + 1.0)


def test_decisions_that_failed_late_count_as_slow_and_quick_failures_do_not_as_fast(
    clock: ManualClock,
) -> None:
    admission = Admission(clock=clock)

    def fails(seconds: float) -> None:
        with suppress(DeadlineExceededError), judged(admission, clock):
            clock.advance(seconds)
            raise DeadlineExceededError("late")

    for _ in range(100):
        fails(1.0)
    slow = admission.need()
    assert slow > 0.5
    fails(0.0)
    assert admission.need() == slow


def test_full_process_turns_away_until_there_is_room(clock: ManualClock) -> None:
    admission = Admission(max_in_flight=2, clock=clock)
    with judged(admission, clock):
        with judged(admission, clock), pytest.raises(OverloadedError) as refused:
            admission.check(clock() + 100)
        admission.check(clock() + 100)
    assert refused.value.retry_after > 0
    assert admission.load().dropped == {"full": 1}


def test_deadline_that_has_passed_is_no_overload(clock: ManualClock) -> None:
    admission = Admission(clock=clock)
    with pytest.raises(DeadlineExceededError):
        admission.check(clock())


def test_turn_that_comes_too_late_is_not_begun(clock: ManualClock) -> None:
    admission = Admission(clock=clock)
    for _ in range(100):
        decided(admission, clock, 2, 0.5)
    deadline = clock() + 1.0
    with judged(admission, clock), admission.enter(deadline):
        clock.advance(0.9)
        with pytest.raises(OverloadedError), admission.judging(deadline):
            pytest.fail("begun")


def test_pace_believes_a_fall_sooner_than_a_rise(clock: ManualClock) -> None:
    rising, falling = LatencyEstimate(clock), LatencyEstimate(clock)
    for _ in range(100):
        falling.took(1.0)
    rising.took(1.0)
    falling.took(0.0)
    assert rising.seconds() < 1.0 - falling.seconds()
    assert LatencyEstimate(clock).seconds() == 0.0
