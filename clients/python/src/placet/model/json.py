"""JSON values: what arguments, signals and attributes are made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal

# What an argument may be. A float is sent as the decimal text that Python prints for it.
JSON = None | bool | int | float | Decimal | str | Sequence["JSON"] | Mapping[str, "JSON"]
