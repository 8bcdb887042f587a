"""Parsed JSON values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal

# A parsed JSON value: numbers are int or Decimal, never float (docs/architecture.md, Numbers).
JSON = None | bool | int | Decimal | str | Sequence["JSON"] | Mapping[str, "JSON"]
