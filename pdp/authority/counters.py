"""Counters and sliding windows: bounded in number, whatever the history.

Windows are kept as buckets. Recent buckets are narrow and old ones may be wide, so that a window of a
minute is judged to the two seconds and one of a day to the hour. A bucket counts for a window as
long as any part of it lies inside: a limit is never applied too late, and waiting never ends too
early.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise

from pdp.model import Bucket, Counter, CounterKey, Guard, Terms

# (age up to which it applies, width of a bucket), in seconds; each width divides the next one.
_RESOLUTION = ((120, 2), (7_200, 60), (172_800, 3_600))
_NARROWEST = _RESOLUTION[0][1]
MAX_WINDOW = _RESOLUTION[-1][0] - _RESOLUTION[-1][1]
# Beyond this many, buckets are made as wide as their age permits; then there are fewer.
MOST_BUCKETS = 256
# No counter passes this: the tables hold 64 bits.
MAX_TOTAL = 2**62


def add_to_buckets(buckets: tuple[Bucket, ...], now: int, amount: int = 1) -> tuple[Bucket, ...]:
    """Return `buckets` with `amount` more at `now` (Unix seconds), made wider by age once there are many."""
    new = Bucket(now - now % _NARROWEST, _NARROWEST, amount)
    # Its place need not be the last: a wide bucket of the same start comes after it, and so does one
    # that another replica counted later.
    place = len(buckets)
    while place and buckets[place - 1][:2] > new[:2]:
        place -= 1
    if place and buckets[place - 1][:2] == new[:2]:
        place -= 1
        new = new._replace(number=buckets[place].number + amount)
        return (*buckets[:place], new, *buckets[place + 1 :])
    counted = (*buckets[:place], new, *buckets[place:])
    return counted if len(counted) <= MOST_BUCKETS else _coarsen(counted, now)


def room_for_buckets(buckets: tuple[Bucket, ...]) -> int:
    """Return how many more buckets there can be before any is made wider."""
    return max(0, MOST_BUCKETS - len(buckets))


def _coarsen(buckets: Iterable[Bucket], now: int) -> tuple[Bucket, ...]:
    totals: dict[tuple[int, int], int] = {}
    for bucket in buckets:
        width = _width(bucket, now)
        if width is not None:
            key = (bucket.start - bucket.start % width, width)
            totals[key] = totals.get(key, 0) + bucket.number
    return tuple(Bucket(start, width, n) for (start, width), n in sorted(totals.items()))


def count_used(counter: Counter, window_seconds: int | None, now: int) -> int:
    """Return what counts at `now` (Unix seconds): the sum of all buckets that reach into the window.

    Without a window (None) it is the counter's total.
    """
    if window_seconds is None:
        return counter.total
    return sum(b.number for b in counter.buckets if b.start + b.width > now - window_seconds)


def known_since(window_seconds: int, now: int) -> int:
    """Return since when (Unix seconds) buckets must be known, to judge a window and the wait for it."""
    return now - window_seconds - _final_width(window_seconds)


def retry_after(
    counter: Counter, window_seconds: int, now: int, room: int, most: int | None = None
) -> int | None:
    """Return after how many seconds the window holds `room` or less; None if waiting never helps.

    It is never too early: a bucket that may be made wider by then counts to the end that it would have.
    `most`: how many actions such a window can come to hold; None: any number.
    """
    if room < 0:
        return None
    # How many buckets there may come to be before what counts now has left the window for good.
    coming = window_seconds // _NARROWEST + 2
    if most is not None:
        # That takes less than two windows, and each can come to hold `most`.
        coming = min(coming, 2 * most)
    width = _NARROWEST if coming <= room_for_buckets(counter.buckets) else _final_width(window_seconds)
    ends = sorted((_align_end(b.start + b.width, width), b.number) for b in counter.buckets)
    left = sum(n for end, n in ends if end > now - window_seconds)
    for end, n in ends:
        if left <= room:
            break
        if end > now - window_seconds:
            left -= n
            delay = end + window_seconds - now
            if left <= room:
                return max(1, delay)
    return 1


def fits(guard: Guard, counter: Counter, now: int) -> bool:
    """Return whether the counter has room for what an allow adds, under its guard.

    Terms that a payment in force has fixed must be those that the allow was judged on.
    """
    if counter.total + guard.add > MAX_TOTAL or counter.total < guard.least:
        return False
    if guard.terms is not None and terms_in_force(counter) not in (None, guard.terms):
        return False
    return (
        guard.ceiling is None or count_used(counter, guard.window_seconds, now) + guard.add <= guard.ceiling
    )


def group_by_counter(guards: Iterable[Guard]) -> dict[CounterKey, list[Guard]]:
    """Return an allow's guards by the counter that they are on: each counter counts the allow once."""
    result: dict[CounterKey, list[Guard]] = {}
    for guard in guards:
        result.setdefault(guard.key, []).append(guard)
    return result


def add_to_counter(counter: Counter, guards: Sequence[Guard], now: int) -> Counter:
    """Return the counter after an allow, which counts once however many guards it has on the counter.

    `guards` are these guards, at least one.
    """
    add = guards[0].add
    windowed = any(guard.window_seconds is not None for guard in guards)
    return Counter(
        total=counter.total + add,
        buckets=add_to_buckets(counter.buckets, now, add) if windowed else counter.buckets,
        terms=terms_in_force(counter) or guards[0].terms,
    )


def terms_in_force(counter: Counter) -> Terms | None:
    """Return the terms that a payment fixed which still counts; None if none does."""
    return counter.terms if counter.total > 0 else None


def apply_recount(counter: Counter, add: int, at: int) -> Counter:
    """Return the counter with `add` more counted at `at` (Unix seconds), in the bucket of that instant.

    `add` is less than 0 for what turned out not to have happened. If the bucket is gone, it has left
    every window, and only the total changes.
    """
    buckets = list(counter.buckets)
    for place, bucket in enumerate(buckets):
        if bucket.start <= at < bucket.start + bucket.width:
            buckets[place] = bucket._replace(number=max(0, bucket.number + add))
            break
    return counter._replace(total=min(max(0, counter.total + add), MAX_TOTAL), buckets=tuple(buckets))


def _width(bucket: Bucket, now: int) -> int | None:
    """Return the width that a bucket of this age has; None if it is too old for any window."""
    age = now - (bucket.start + bucket.width)
    for limit, width in _RESOLUTION:
        if age < limit:
            # A bucket that is wide already stays so: nobody knows how to split it.
            return max(width, bucket.width)
    return None


def _final_width(window_seconds: int) -> int:
    """Return how wide a bucket may be by the time it has left the window for good.

    One that has left comes back if it is made so much wider that it reaches in again.
    """
    for (limit, width), (_, wider) in pairwise(_RESOLUTION):
        if window_seconds <= limit - wider:
            return width
    return _RESOLUTION[-1][1]


def _align_end(end: int, width: int) -> int:
    """Return the end of the bucket of this width that holds all up to `end`."""
    return end + -end % width
