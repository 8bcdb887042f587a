"""What callers give, checked: a refusal names the path. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from placet.errors import invalid


def items(value: Any, path: str) -> Iterable[tuple[str, Any]]:
    """The items of a list, each with its path. Raises `InvalidRequestError`."""
    if isinstance(value, str | bytes | Mapping) or not isinstance(value, Iterable):
        raise invalid(path, f"must be a list, not {type(value).__name__}")
    return [(f"{path}[{index}]", item) for index, item in enumerate(value)]


def text(value: Any, path: str) -> str:
    """A string that can be sent. Raises `InvalidRequestError`."""
    if not isinstance(value, str):
        raise invalid(path, f"must be a string, not {type(value).__name__}")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as exc:
        raise invalid(path, "contains a lone surrogate") from exc
    return value
