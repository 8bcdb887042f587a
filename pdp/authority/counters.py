"""Counters and sliding windows: bounded in number, whatever the history.

Windows are kept as buckets. Recent buckets are narrow and old ones may be wide, so that a window of a
minute is judged to the two seconds and one of a day to the hour. A bucket counts for a window as
long as any part of it lies inside: a limit is never applied too late, and waiting never ends too
early.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise

from pdp.model import Bucket, Counter, Guard

# (age up to which it applies, width), seconds; each width divides the next one.
_RESOLUTION = ((120, 2), (7_200, 60), (172_800, 3_600))
_NARROWEST = _RESOLUTION[0][1]
MAX_WINDOW = _RESOLUTION[-1][0] - _RESOLUTION[-1][1]
# More than there can be of those that are as wide as their age permits.
MOST_BUCKETS = 256
# What a counter never passes: the tables hold 64 bits.
MAX_TOTAL = 2**62


def add_to_buckets(buckets: tuple[Bucket, ...], now: int, amount: int = 1) -> tuple[Bucket, ...]:
    """Return `buckets` with `amount` more at `now` (Unix seconds), coarsened by age once there are many."""
    new = Bucket(now - now % _NARROWEST, _NARROWEST, amount)
    # Behind by a wide bucket, or by another replica's later one, it is not the last.
    place = len(buckets)
    while place and buckets[place - 1][:2] > new[:2]:
        place -= 1
    if place and buckets[place - 1][:2] == new[:2]:
        place -= 1
        new = new._replace(number=buckets[place].number + amount)
        return (*buckets[:place], new, *buckets[place + 1 :])
    counted = (*buckets[:place], new, *buckets[place:])
    return counted if len(counted) <= MOST_BUCKETS else _coarsened(counted, now)


def room_for_buckets(buckets: tuple[Bucket, ...]) -> int:
    """Return how many more there can be before any is made wider."""
    return max(0, MOST_BUCKETS - len(buckets))


def _coarsened(buckets: Iterable[Bucket], now: int) -> tuple[Bucket, ...]:
    totals: dict[tuple[int, int], int] = {}
    for bucket in buckets:
        width = _width(bucket, now)
        if width is not None:
            key = (bucket.start - bucket.start % width, width)
            totals[key] = totals.get(key, 0) + bucket.number
    return tuple(Bucket(start, width, n) for (start, width), n in sorted(totals.items()))


def count_used(counter: Counter, window_seconds: int | None, now: int) -> int:
    """Return what counts at `now`: the total, or what lies at least partly in the window."""
    if window_seconds is None:
        return counter.total
    return sum(b.number for b in counter.buckets if b.start + b.width > now - window_seconds)


def known_since(window_seconds: int, now: int) -> int:
    """Return since when (Unix seconds) buckets must be known to judge a window, and how long to wait."""
    return now - window_seconds - _final_width(window_seconds)


def retry_after(
    counter: Counter, window_seconds: int, now: int, room: int, most: int | None = None
) -> int | None:
    """Return after how many seconds the window holds `room` or less; None if waiting never helps.

    Never early: buckets that may have been made coarser by then count to their new end.
    `most`: the actions that can be counted in such a window; None: any number.
    """
    if room < 0:
        return None
    # How many buckets there may come to be before what counts now has left the window for good.
    coming = window_seconds // _NARROWEST + 2
    if most is not None:
        # It takes longer than one window, and less than two.
        coming = min(coming, 2 * most)
    width = _NARROWEST if coming <= room_for_buckets(counter.buckets) else _final_width(window_seconds)
    ends = sorted((_aligned(b.start + b.width, width), b.number) for b in counter.buckets)
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
    """Whether what was allowed may still be added to the counter."""
    if counter.total + guard.add > MAX_TOTAL:
        return False
    return (
        guard.ceiling is None or count_used(counter, guard.window_seconds, now) + guard.add <= guard.ceiling
    )


def add_to_counter(counter: Counter, guards: Sequence[Guard], now: int) -> Counter:
    """Return the counter after an allow. `guards` are the allow's own on this counter: it counts once."""
    add = guards[0].add
    windowed = any(guard.window_seconds is not None for guard in guards)
    return Counter(
        total=counter.total + add,
        buckets=add_to_buckets(counter.buckets, now, add) if windowed else counter.buckets,
    )


def apply_recount(counter: Counter, add: int, at: int) -> Counter:
    """Return the counter with `add` more of what was counted at `at` (Unix seconds).

    Less than 0: it turned out not to have happened. What has left every window stays out.
    """
    buckets = list(counter.buckets)
    for place, bucket in enumerate(buckets):
        if bucket.start <= at < bucket.start + bucket.width:
            buckets[place] = bucket._replace(number=max(0, bucket.number + add))
            break
    return Counter(total=min(max(0, counter.total + add), MAX_TOTAL), buckets=tuple(buckets))


def _width(bucket: Bucket, now: int) -> int | None:
    """The width that a bucket of this age has; None when it is too old for any window."""
    age = now - (bucket.start + bucket.width)
    for limit, width in _RESOLUTION:
        if age < limit:
            # Never split: a bucket that is wide already stays so.
            return max(width, bucket.width)
    return None


def _final_width(window_seconds: int) -> int:
    """How wide a bucket may be when it has left the window for good.

    One that has left comes back if it is made so much wider that it reaches in again.
    """
    for (limit, width), (_, wider) in pairwise(_RESOLUTION):
        if window_seconds <= limit - wider:
            return width
    return _RESOLUTION[-1][1]


def _aligned(end: int, width: int) -> int:
    return end + -end % width
