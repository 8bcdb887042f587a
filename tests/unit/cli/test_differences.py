"""What differs is named by its place, and what does not is left out."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from placet.cli.differences import find_differences


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ({}, {}, []),
        ({"a": 1}, {"a": 1}, []),
        ({"a": 1}, {"a": True}, ["~ a: 1 -> true"]),
        ({"a": {"b": 1, "c": 2}}, {"a": {"b": 3, "c": 2}}, ["~ a.b: 1 -> 3"]),
        ({"a": 1}, {"b": None}, ["- a: 1", "+ b: null"]),
        ({"a": [1, {"x": 1}]}, {"a": [1, {"x": 2}, 3]}, ["~ a[1].x: 1 -> 2", "+ a[2]: 3"]),
        ({"a": [1]}, {"a": {"b": 1}}, ['~ a: [1] -> {"b":1}']),
        ({"a": Decimal("0.50")}, {"a": Decimal("0.51")}, ["~ a: 0.50 -> 0.51"]),
        ({"a": {}}, {"a": {"b": "x"}}, ['+ a.b: "x"']),
    ],
)
def test_differences_by_place(before: Any, after: Any, said: list[str]) -> None:
    assert [str(item) for item in find_differences(before, after)] == said


def test_side_that_is_absent_is_left_out_in_json() -> None:
    [item] = find_differences({}, {"a": None})
    assert item.plain() == {"path": "a", "after": None}
