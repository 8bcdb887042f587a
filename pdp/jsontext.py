"""JSON text with numbers as exact as they came."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import orjson

from pdp.model import JSON


def arguments_json(arguments: Mapping[str, JSON]) -> bytes:
    """Return parsed arguments as JSON text, numbers as exact as they came."""
    return orjson.dumps(arguments, default=exact_number)


def exact_number(value: object) -> Any:
    """Write an exact decimal as number text, which orjson does not."""
    if isinstance(value, Decimal):
        return orjson.Fragment(format(value, "f"))
    raise TypeError(f"{type(value).__name__} is no JSON value")
