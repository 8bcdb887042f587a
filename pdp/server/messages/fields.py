"""Fields that messages of several nouns have: read with their limits, and written."""

from __future__ import annotations

import calendar
from collections.abc import Mapping, Sized
from datetime import UTC, datetime, timedelta

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from pdp.errors import InvalidFieldError
from pdp.model import JSON
from placet.canonical import CanonicalError, parse_object

# Characters of free text: an intent, an explanation, the reason of an end.
MAX_TEXT = 8 * 1024
# Entries of a list that has no smaller limit of its own.
MAX_ITEMS = 1_000


def check_count(items: Sized, path: str, *, least: int) -> None:
    """Refuse a list of fewer than `least` entries, or of more than `MAX_ITEMS`."""
    if not least <= len(items) <= MAX_ITEMS:
        raise InvalidFieldError(path, f"has {len(items)} entries; from {least} to {MAX_ITEMS}")


def revision(number: int, path: str) -> int | None:
    """Return a revision of the past; None for 0, which is now."""
    if number >= 2**63:
        raise InvalidFieldError(path, "is no revision")
    return number or None


def limit(number: int, *, default: int, most: int) -> int:
    """Return how many are asked for; `default` for 0."""
    if number > most:
        raise InvalidFieldError("limit", f"must be at most {most}")
    return number or default


def duration(message: Duration, field: str, *, most: timedelta) -> timedelta:
    """Return a time span of more than nothing and at most `most`."""
    # A message may hold more seconds than a timedelta can.
    seconds = min(message.seconds, most // timedelta(seconds=1) + 1)
    value = timedelta(seconds=max(seconds, -1), microseconds=message.nanos // 1000)
    if not timedelta(0) < value <= most:
        raise InvalidFieldError(field, f"must be more than zero and at most {most}")
    return value


def instant_of(message: Timestamp, path: str) -> datetime:
    """Return the instant in UTC. One that Python cannot hold is refused."""
    try:
        return message.ToDatetime(tzinfo=UTC)
    except (ValueError, OverflowError) as exc:
        raise InvalidFieldError(path, "is no instant that can be stored") from exc


def timestamp(instant: datetime) -> Timestamp:
    """Return the message of an aware instant, exact to the microsecond."""
    # Several times cheaper than FromDatetime.
    seconds = calendar.timegm(instant.utctimetuple())
    return Timestamp(seconds=seconds, nanos=instant.microsecond * 1000)


def json_object(text: bytes, path: str, *, required: bool) -> Mapping[str, JSON]:
    """Return the JSON object that a field of bytes holds; an empty field is an empty object."""
    if not text:
        if required:
            raise InvalidFieldError(path, "is required: a JSON object, {} for none")
        return {}
    try:
        return parse_object(text, field=path)
    except CanonicalError as exc:
        raise InvalidFieldError(exc.field, exc.reason) from exc
