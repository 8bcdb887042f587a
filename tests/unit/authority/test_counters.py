"""Sliding windows as buckets."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from pdp.authority.counters import (
    MAX_TOTAL,
    MAX_WINDOW,
    MOST_BUCKETS,
    _coarsen,
    add_to_buckets,
    add_to_counter,
    apply_recount,
    count_used,
    fits,
    group_by_counter,
    retry_after,
)
from pdp.model import Bucket, Counter, CounterKey, Guard

GAPS = st.lists(st.integers(min_value=0, max_value=8000), min_size=1, max_size=60)


def counted(gaps: list[int]) -> tuple[list[int], tuple[Bucket, ...]]:
    buckets: tuple[Bucket, ...] = ()
    instants, now = [], 1_795_514_400
    for gap in gaps:
        now += gap
        instants.append(now)
        buckets = add_to_buckets(buckets, now)
    return instants, buckets


@given(GAPS, st.integers(min_value=1, max_value=MAX_WINDOW))
def test_no_action_inside_a_window_is_missed(gaps: list[int], window: int) -> None:
    instants, buckets = counted(gaps)
    now = instants[-1]
    true = sum(1 for instant in instants if instant > now - window)
    seen = sum(b.number for b in buckets if b.start + b.width > now - window)
    assert seen >= true


@given(GAPS)
def test_every_recent_action_is_held_and_buckets_are_ordered(gaps: list[int]) -> None:
    instants, buckets = counted(gaps)
    assert [b.start for b in buckets] == sorted(b.start for b in buckets)
    recent = [instant for instant in instants if instant > instants[-1] - MAX_WINDOW]
    assert len(recent) <= sum(b.number for b in buckets) <= len(instants)


def test_number_of_buckets_does_not_grow_with_history() -> None:
    _, buckets = counted([1] * 20_000)
    assert len(buckets) <= MOST_BUCKETS
    assert sum(b.number for b in buckets) == 20_000


KEY = CounterKey(scope="s", unit="EUR")


def guard(add: int, ceiling: int | None, window: int | None = None) -> Guard:
    return Guard(key=KEY, add=add, ceiling=ceiling, window_seconds=window)


@given(st.lists(st.integers(0, 50), max_size=30), st.integers(0, 300), st.none() | st.integers(1, MAX_WINDOW))
def test_guarded_moves_never_pass_the_ceiling(amounts: list[int], ceiling: int, window: int | None) -> None:
    counter, let_through = Counter(), 0
    for amount in amounts:
        asked = guard(amount, ceiling, window)
        if fits(asked, counter, 1000):
            counter, let_through = add_to_counter(counter, [asked], 1000), let_through + amount
    assert let_through == count_used(counter, window, 1000) <= ceiling


@given(GAPS, st.integers(1, MAX_WINDOW), st.integers(0, 30), st.none() | st.integers(0, 60))
def test_waiting_as_long_as_told_makes_room(
    gaps: list[int], window: int, room: int, most: int | None
) -> None:
    instants, buckets = counted(gaps)
    counter, now = Counter(buckets=buckets), instants[-1]
    delay = retry_after(counter, window, now, room, most)
    assert delay is not None
    assert delay >= 1
    # However much coarser the buckets have become by then, of as many as there may come.
    coming = min(window // 2 + 2, 2 * (10_000 if most is None else most))
    if len(buckets) + coming > MOST_BUCKETS:
        later = Counter(buckets=_coarsen(buckets, now + delay))
        assert count_used(later, window, now + delay) <= room
    assert count_used(counter, window, now + delay) <= room


@given(GAPS, st.integers(1, MAX_WINDOW), st.integers(0, 30))
def test_waiting_is_late_by_a_bucket_at_most(gaps: list[int], window: int, room: int) -> None:
    instants, buckets = counted(gaps)
    now = instants[-1]
    if count_used(Counter(buckets=buckets), window, now) <= room:
        return
    delay = retry_after(Counter(buckets=buckets), window, now, room)
    assert delay is not None
    width = max(b.width for b in buckets)
    coarsest = 2 if window <= 60 else 60 if window <= 3600 else 3600
    # Before the last bucket began to leave there was no room: `count` only ever rounds up.
    true = sum(1 for instant in instants if instant > now + delay - window - width - coarsest - 2)
    assert true > room


@given(
    st.lists(st.integers(0, 8000), min_size=1, max_size=100), st.integers(1, MAX_WINDOW), st.integers(0, 9)
)
def test_waiting_is_exact_while_there_is_room_for_buckets(gaps: list[int], window: int, room: int) -> None:
    instants, buckets = counted(gaps)
    now, counter = instants[-1], Counter(buckets=buckets)
    if count_used(counter, window, now) <= room:
        return
    delay = retry_after(counter, window, now, room, 50)
    assert delay is not None
    # Two seconds before, or one, the last one that had to leave was still in it.
    true = sum(1 for instant in instants if instant > now + delay - window - 3)
    assert true > room


@given(GAPS, st.lists(st.integers(-5000, 5000), max_size=30))
def test_what_is_counted_behind_widens_nothing(gaps: list[int], late: list[int]) -> None:
    instants, buckets = counted(gaps)
    for shift in late:
        buckets = add_to_buckets(buckets, instants[-1] + shift)
    assert {b.width for b in buckets} == {2}
    assert [b.start for b in buckets] == sorted({b.start for b in buckets})
    assert sum(b.number for b in buckets) == len(instants) + len(late)


def test_waiting_never_helps_what_is_more_than_the_limit() -> None:
    assert retry_after(Counter(), 60, 1000, -1) is None


def test_limit_that_was_exceeded_with_an_approval_only_moves() -> None:
    assert fits(guard(10, None), Counter(total=1000), 0)
    assert add_to_counter(Counter(total=1000), [guard(10, None)], 0).total == 1010


def test_counter_counts_an_allow_once_however_many_limits_share_it() -> None:
    shared = [guard(10, 100), guard(10, 50, 60)]
    after = add_to_counter(Counter(), shared, 1000)
    assert (after.total, count_used(after, 60, 1000)) == (10, 10)


def test_window_that_is_not_limited_is_not_kept() -> None:
    assert add_to_counter(Counter(), [guard(10, 100)], 1000).buckets == ()


def test_counter_never_overflows_the_tables() -> None:
    assert not fits(guard(1, None), Counter(total=MAX_TOTAL), 0)


def test_giving_back_lowers_total_and_window_of_the_instant_that_was_counted() -> None:
    counter = add_to_counter(add_to_counter(Counter(), [guard(10, 100, 60)], 1000), [guard(7, 100, 60)], 1030)
    after = apply_recount(counter, -10, 1000)
    assert (after.total, count_used(after, 60, 1030)) == (7, 7)
    assert count_used(after, 10, 1030) == 7
    assert apply_recount(after, 10, 1000) == counter


@given(GAPS, st.data())
def test_whatever_is_given_back_and_counted_again_leaves_all_as_it_was(gaps: list[int], data: Any) -> None:
    instants, buckets = counted(gaps)
    at = data.draw(st.sampled_from(instants))
    counter = Counter(total=len(instants), buckets=buckets)
    back = apply_recount(counter, -1, at)
    assert back.total == len(instants) - 1
    left = sum(b.number for b in buckets) - sum(b.number for b in back.buckets)
    # What has left every window is in no bucket any more.
    assert left == (1 if at > instants[-1] - MAX_WINDOW or any(_covers(b, at) for b in buckets) else 0)
    assert apply_recount(back, 1, at) == counter


def _covers(bucket: Bucket, at: int) -> bool:
    return bucket.start <= at < bucket.start + bucket.width


def test_counter_never_falls_below_nothing_nor_grows_past_the_tables() -> None:
    assert apply_recount(Counter(total=5), -9, 1000).total == 0
    assert apply_recount(Counter(total=MAX_TOTAL), 9, 1000).total == MAX_TOTAL


def test_guards_are_grouped_by_their_counter_in_order() -> None:
    a, b = CounterKey("s", "EUR"), CounterKey("s", "actions")
    guards = [
        Guard(key=key, add=1, ceiling=ceiling, window_seconds=None)
        for key, ceiling in ((a, 1), (b, 2), (a, 3))
    ]
    assert group_by_counter(guards) == {a: [guards[0], guards[2]], b: [guards[1]]}
