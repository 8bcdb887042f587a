"""Sliding windows as buckets: bounded in number, whatever the history.

Recent buckets are narrow and old ones wide, so that a window of a minute is judged to the
two seconds and one of a day to the hour. A bucket counts for a window as long as any part
of it lies inside: a limit is never applied too late.
"""

from __future__ import annotations

from collections.abc import Iterable

from pdp.model import Bucket

# (age up to which it applies, width), seconds; each width divides the next one.
_RESOLUTION = ((120, 2), (7_200, 60), (172_800, 3_600))
MAX_WINDOW = _RESOLUTION[-1][0] - _RESOLUTION[-1][1]


def count(buckets: Iterable[Bucket], now: int) -> tuple[Bucket, ...]:
    """Return `buckets` with one more action at `now` (Unix seconds), coarsened by age."""
    totals: dict[tuple[int, int], int] = {}
    narrowest = _RESOLUTION[0][1]
    for bucket in (*buckets, Bucket(start=now - now % narrowest, width=narrowest, count=1)):
        width = _width(bucket, now)
        if width is not None:
            key = (bucket.start - bucket.start % width, width)
            totals[key] = totals.get(key, 0) + bucket.count
    return tuple(Bucket(start=start, width=width, count=n) for (start, width), n in sorted(totals.items()))


def _width(bucket: Bucket, now: int) -> int | None:
    """The width that a bucket of this age has; None when it is too old for any window."""
    age = now - (bucket.start + bucket.width)
    for limit, width in _RESOLUTION:
        if age < limit:
            # Never split: a bucket that is wide already stays so.
            return max(width, bucket.width)
    return None
