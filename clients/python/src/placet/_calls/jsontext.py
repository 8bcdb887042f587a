"""Python values to JSON text, without a binary float on the way."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from placet.canonical import MAX_DEPTH, CanonicalError, parse_object
from placet.errors import invalid


def object_text(value: Mapping[str, Any] | bytes, field: str) -> bytes:
    """Return the JSON text of an object: bytes as they are, a mapping as `json_text` writes it.

    Raises `InvalidRequestError`, which names the place, for what is no object.
    """
    if isinstance(value, bytes | bytearray):
        return bytes(value)
    if not isinstance(value, Mapping):
        raise invalid(field, f"must be a mapping or JSON text as bytes, not {type(value).__name__}")
    return json_text(value, field)


def json_text(value: Any, field: str) -> bytes:
    """Return the JSON text of a value: None, bool, int, Decimal, float, str, list, tuple, mapping.

    A float is written as `repr` writes it (`0.1` as 0.1), which is what its author meant.
    Raises `InvalidRequestError` for NaN, infinities, other types, and what is nested too deeply.
    """
    try:
        return _write(value, field, MAX_DEPTH).encode("utf-8")
    except UnicodeEncodeError as exc:
        raise invalid(field, "contains a lone surrogate") from exc


def parsed_object(text: bytes, field: str) -> dict[str, Any]:
    """Parse an object as the PDP will; numbers are int or Decimal. Raises `InvalidRequestError`."""
    try:
        return parse_object(text, field=field)
    except CanonicalError as exc:
        raise invalid(exc.field, exc.reason) from exc


def _write(value: Any, field: str, depth: int) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, str):
        return json.dumps(str(value), ensure_ascii=False)
    if isinstance(value, int):
        return _whole(value, field)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise invalid(field, "is NaN or infinite")
        return float.__repr__(value)
    if isinstance(value, Decimal):
        if not value.is_finite():
            raise invalid(field, "is NaN or infinite")
        return str(value)
    if depth == 0:
        raise invalid(field, f"is nested deeper than {MAX_DEPTH} levels")
    if isinstance(value, Mapping):
        return "{" + ",".join(_member(key, item, field, depth) for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        items = (_write(item, f"{field}[{index}]", depth - 1) for index, item in enumerate(value))
        return "[" + ",".join(items) + "]"
    raise invalid(field, f"a {type(value).__name__} is no JSON value")


def _member(key: Any, value: Any, field: str, depth: int) -> str:
    if not isinstance(key, str):
        raise invalid(field, f"has a key of type {type(key).__name__}; keys are strings")
    return f"{json.dumps(str(key), ensure_ascii=False)}:{_write(value, f'{field}.{key}', depth - 1)}"


def _whole(value: int, field: str) -> str:
    try:
        return int.__repr__(value)
    except ValueError as exc:  # Python refuses to print integers of more than 4,300 digits
        raise invalid(field, "is an integer that is too long") from exc
