"""When a replica's clock counts as wrong."""

from __future__ import annotations

import math

import pytest

from pdp.skew import MAX_ROUND_TRIP, SAMPLES, ClockSkew


def sampled(skew: ClockSkew, *aheads: float, round_trip: float = 0.01) -> list[bool]:
    return [skew.add(local=1000.0 + ahead, database=1000.0, round_trip=round_trip) for ahead in aheads]


@pytest.mark.parametrize("ahead", [2.1, -2.1, 3600.0])
def test_clock_is_off_once_several_samples_in_a_row_say_so(ahead: float) -> None:
    skew = ClockSkew()
    assert math.isnan(skew.ahead)
    assert sampled(skew, *[ahead] * (SAMPLES - 1)) == [False] * (SAMPLES - 1)
    assert not skew.is_off
    assert sampled(skew, ahead) == [True]
    assert (skew.is_off, skew.ahead) == (True, pytest.approx(ahead))
    # It is said once.
    assert sampled(skew, ahead) == [False]
    assert skew.is_off


def test_clock_within_the_bound_is_not_off() -> None:
    skew = ClockSkew()
    sampled(skew, *[1.9, -1.9, 0.0] * SAMPLES)
    assert not skew.is_off
    assert skew.is_settled


def test_one_odd_sample_neither_stops_a_replica_nor_starts_it_again() -> None:
    skew = ClockSkew()
    sampled(skew, *[9.0, 9.0, 9.0, 9.0, 0.0] * 3)
    assert not skew.is_off
    assert not skew.is_settled
    sampled(skew, *[9.0] * SAMPLES)
    assert skew.is_off
    sampled(skew, *[0.0, 0.0, 0.0, 0.0, 9.0] * 3)
    assert skew.is_off
    assert sampled(skew, *[0.0] * SAMPLES)[-1]
    assert not skew.is_off


def test_slow_answer_says_nothing() -> None:
    skew = ClockSkew()
    sampled(skew, *[9.0] * 20, round_trip=MAX_ROUND_TRIP + 0.01)
    assert not skew.is_off
    assert not skew.is_settled
    # What the way may have taken is in the clock's favour.
    sampled(skew, *[2.1] * 20, round_trip=0.4)
    assert not skew.is_off
    sampled(skew, *[2.3] * 20, round_trip=0.4)
    assert skew.is_off
