"""Columns are listed once, and read and written by their names."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import NamedTuple

import pytest

import pdp.postgres
from pdp.postgres.access.arrays import integers, texts
from pdp.postgres.columns import Columns, RowParameters, SelectList

ADAPTER = Path(pdp.postgres.__file__).parent


class Point(NamedTuple):
    name: str
    x: int
    y: int


POINT = Columns(Point)
LABEL = Columns(lambda label: f"<{label}>")


def test_columns_are_the_parameters_of_what_makes_the_value() -> None:
    assert POINT.names == ("name", "x", "y")
    assert POINT.select("p") == "p.name, p.x, p.y"
    assert POINT.select("p", y="2 * q.y") == "p.name, p.x, 2 * q.y"
    assert POINT.aggregate("p", x="q.x") == (
        "array_agg(p.name) AS name, array_agg(q.x) AS x, array_agg(p.y) AS y"
    )


def test_expression_for_no_column_is_refused() -> None:
    with pytest.raises(ValueError, match="no such columns: z"):
        POINT.select("p", z="1")
    with pytest.raises(ValueError, match="no such columns: z"):
        POINT.aggregate("p", z="1")


def test_each_value_is_read_where_its_columns_stand() -> None:
    columns = SelectList()
    label, point, points = columns.add(LABEL, "l"), columns.add(POINT, "p", x="7"), columns.add(POINT, "q")
    assert columns.sql == "l.label, p.name, 7, p.y, q.name, q.x, q.y"
    row = ("a", "b", 7, 2, ["c", "d"], [3, 4], [5, 6])
    assert label.read(row) == "<a>"
    assert point.read(row) == point.find(row) == Point("b", 7, 2)
    assert list(points.values(row)) == [Point("c", 3, 5), Point("d", 4, 6)]


def test_outer_join_that_found_nothing_is_nothing() -> None:
    columns = SelectList()
    columns.add(LABEL, "l")
    point = columns.add(POINT, "p")
    assert point.find(("a", None, 1, 2)) is None
    assert list(point.values(("a", None, None, None))) == []
    assert POINT.find((None, None, None)) is None
    assert POINT.find(("b", 0, 0)) == Point("b", 0, 0)


def test_parameters_are_given_by_name_in_any_order() -> None:
    rows = RowParameters(name=texts, x=integers)
    assert rows.unnest("r") == "unnest(%b::text[], %b::bigint[]) AS r(name, x)"
    assert rows.unnest("r", ordinality="n") == (
        "unnest(%b::text[], %b::bigint[]) WITH ORDINALITY AS r(name, x, n)"
    )
    assert (rows.sql, rows.select("r")) == ("name, x", "r.name, r.x")
    assert rows.arrays(x=[1, 2], name=["a", "b"]) == [texts(["a", "b"]), integers([1, 2])]
    assert rows.arrays_of([("a", 1), ("b", 2)]) == rows.arrays(name=["a", "b"], x=[1, 2])
    assert rows.arrays_of([]) == rows.arrays(name=[], x=[])


@pytest.mark.parametrize("given", [{"name": ["a"]}, {"name": ["a"], "x": [1], "y": [2]}])
def test_parameter_left_out_or_unknown_is_refused(given: dict[str, list[object]]) -> None:
    with pytest.raises(TypeError, match="the columns are name, x"):
        RowParameters(name=texts, x=integers).arrays(**given)


# --- the whole adapter -------------------------------------------------------


def test_no_column_is_read_by_its_position() -> None:
    """The first of a row may be: of the only column that a statement returns."""
    found = [
        f"{path.relative_to(ADAPTER)}:{node.lineno}: {ast.unparse(node)}"
        for path in sorted(ADAPTER.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Subscript) and by_position(node)
    ]
    assert found == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("row[3]", True),
        ("rows[0][1]", True),
        ("row[1:]", True),
        ("row[:4]", True),
        ("row[-1]", True),
        ("place[1]", True),
        ("path[-1]", False),
        ("row[0]", False),
        ("row[name]", False),
        ("row[first:end]", False),
        ("digest[:8]", False),
        ("tuple[int, str]", False),
    ],
)
def test_what_counts_as_a_position(text: str, expected: bool) -> None:
    node = ast.parse(text, mode="eval").body
    assert isinstance(node, ast.Subscript)
    assert by_position(node) is expected


def by_position(node: ast.Subscript) -> bool:
    """Whether an item other than the first or last is taken by number, or anything but the first of a row."""
    of_row = "row" in ast.unparse(node.value)
    if isinstance(node.slice, ast.Slice):
        return of_row and any(_number(bound) is not None for bound in (node.slice.lower, node.slice.upper))
    return _number(node.slice) not in ((None, 0) if of_row else (None, 0, -1))


def _number(node: ast.expr | None) -> int | None:
    try:
        value = None if node is None else ast.literal_eval(node)
    except ValueError:
        return None
    return value if isinstance(value, int) else None
