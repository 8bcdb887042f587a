"""Spans of time as scenarios write them: `90s`, `1h30m`, `+30m`."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated, Any

from pydantic import BeforeValidator, WithJsonSchema

_UNITS = {"d": "days", "h": "hours", "m": "minutes", "s": "seconds", "ms": "milliseconds"}
_PART = r"(\d+(?:\.\d+)?)(ms|[dhms])"
PATTERN = rf"^\+?(?:{_PART})+$"


def parse_span(value: Any) -> timedelta:
    """Return the span. Raises ValueError."""
    if isinstance(value, timedelta):
        return value
    if not isinstance(value, str) or not re.fullmatch(PATTERN[1:-1], value):
        raise ValueError("is no span of time: write 90s, 30m, 1h30m or 2d")
    try:
        return sum(
            (timedelta(**{_UNITS[unit]: float(number)}) for number, unit in re.findall(_PART, value)),
            start=timedelta(),
        )
    except OverflowError as exc:
        raise ValueError("is too long") from exc


Span = Annotated[
    timedelta,
    BeforeValidator(parse_span),
    WithJsonSchema({"type": "string", "pattern": PATTERN, "examples": ["90s", "1h30m"]}),
]
