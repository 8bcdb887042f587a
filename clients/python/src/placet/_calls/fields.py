"""What callers give, checked field by field: a refusal is an `InvalidRequestError` that names the path.

Pure. Whatever takes a value also takes a mapping with the same names; an unknown name is refused, since a
misspelt boundary would not be the boundary that was meant.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Any, TypeVar

from google.protobuf.timestamp_pb2 import Timestamp

from placet._spelling import hint
from placet.errors import invalid

E = TypeVar("E", bound=StrEnum)


def items(value: Any, path: str) -> Iterable[tuple[str, Any]]:
    """Return the items of a list, each with its path."""
    if isinstance(value, str | bytes | Mapping) or not isinstance(value, Iterable):
        raise invalid(path, f"must be a list, not {type(value).__name__}")
    return [(f"{path}[{index}]", item) for index, item in enumerate(value)]


def text(value: Any, path: str) -> str:
    """Return a string that can be sent."""
    if not isinstance(value, str):
        raise invalid(path, f"must be a string, not {type(value).__name__}")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as exc:
        raise invalid(path, "contains a lone surrogate") from exc
    return value


def texts(value: Any, path: str) -> list[str]:
    """Return a list of strings that can be sent."""
    return [text(item, place) for place, item in items(value, path)]


def mapping(value: Any, path: str) -> Mapping[str, Any]:
    """Return a mapping."""
    if not isinstance(value, Mapping):
        raise invalid(path, f"must be a mapping, not {type(value).__name__}")
    return value


def members(value: Any, path: str, known: Iterable[str], *, required: Iterable[str] = ()) -> dict[str, Any]:
    """Return a copy of a mapping that has no other names than the known, and all the required."""
    given = dict(mapping(value, path))
    known = frozenset(known)
    for name in given:
        if name not in known:
            known_names = ", ".join(sorted(known))
            raise invalid(path, f"has no member {name!r}{hint(str(name), known)}; known: {known_names}")
    for name in required:
        if name not in given:
            raise invalid(f"{path}.{name}", "is required")
    return given


def one_of(kind: type[E], value: Any, path: str) -> E:
    """Return the member of the enum that the value is."""
    try:
        return kind(value)
    except ValueError as exc:
        raise invalid(path, f"{value!r} is not one of {', '.join(kind)}{hint(str(value), kind)}") from exc


def decimal(value: Any, path: str) -> Decimal:
    """Return a finite decimal number; a float is the decimal that Python prints for it."""
    if isinstance(value, bool) or not isinstance(value, str | int | float | Decimal):
        raise invalid(path, "must be decimal text or a number")
    try:
        number = Decimal(repr(value) if isinstance(value, float) else value)
    except ArithmeticError as exc:
        raise invalid(path, f"{value!r} is no decimal number") from exc
    if not number.is_finite() or abs(number.adjusted()) > 34:
        raise invalid(path, "is out of range")
    return number


def count(value: Any, path: str, *, most: int) -> int:
    """Return a whole number from 0 to `most`."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= most:
        raise invalid(path, f"must be a whole number from 0 to {most}")
    return value


def flag(value: Any, path: str) -> bool:
    """Return true or false, and nothing that merely counts as such."""
    if not isinstance(value, bool):
        raise invalid(path, "must be true or false")
    return value


def revision(value: int, path: str) -> int:
    """Return a revision; 0 is the present one."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**63:
        raise invalid(path, "must be a revision, a whole number")
    return value


def page_limit(value: int) -> int:
    """Return how many items an answer may have; the server has a limit of its own."""
    return min(revision(value, "limit"), 2**32 - 1)


def span(value: timedelta | float, path: str) -> timedelta:
    """Return a timedelta, which may be given in seconds."""
    if isinstance(value, timedelta):
        return value
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise invalid(path, "must be a timedelta or seconds")
    try:
        return timedelta(seconds=value)
    except OverflowError as exc:
        raise invalid(path, "is too long") from exc


def instant(value: Any, path: str) -> Timestamp:
    """Return the timestamp of an aware datetime, or of its ISO 8601 text."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError as exc:
            raise invalid(path, f"{value!r} is not ISO 8601") from exc
    if not isinstance(value, datetime) or value.tzinfo is None:
        raise invalid(path, "must be a datetime with a time zone")
    message = Timestamp()
    message.FromDatetime(value)
    return message
