"""Sliding windows as buckets."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pdp.limits import MAX_WINDOW, count
from pdp.model import Bucket

GAPS = st.lists(st.integers(min_value=0, max_value=8000), min_size=1, max_size=60)


def counted(gaps: list[int]) -> tuple[list[int], tuple[Bucket, ...]]:
    buckets: tuple[Bucket, ...] = ()
    instants, now = [], 1_795_514_400
    for gap in gaps:
        now += gap
        instants.append(now)
        buckets = count(buckets, now)
    return instants, buckets


@given(GAPS, st.integers(min_value=1, max_value=MAX_WINDOW))
def test_no_action_inside_a_window_is_missed(gaps: list[int], window: int) -> None:
    instants, buckets = counted(gaps)
    now = instants[-1]
    true = sum(1 for instant in instants if instant > now - window)
    seen = sum(b.count for b in buckets if b.start + b.width > now - window)
    assert seen >= true


@given(GAPS)
def test_every_recent_action_is_held_and_buckets_are_ordered(gaps: list[int]) -> None:
    instants, buckets = counted(gaps)
    assert [b.start for b in buckets] == sorted(b.start for b in buckets)
    recent = [instant for instant in instants if instant > instants[-1] - MAX_WINDOW]
    assert len(recent) <= sum(b.count for b in buckets) <= len(instants)


def test_number_of_buckets_does_not_grow_with_history() -> None:
    _, buckets = counted([1] * 20_000)
    assert len(buckets) < 250
    assert sum(b.count for b in buckets) == 20_000
