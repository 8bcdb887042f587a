"""The columns of a row, listed once, and the statements composed of that list.

What is read: the columns are the parameters of the function that makes a value of them (`Columns`). What
is sent: the columns are the names under which the arrays are given (`RowParameters`). So no column is
read or written as its neighbour, and none is forgotten on one side.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Generic, LiteralString, TypeAlias, TypeVar

from pdp.postgres.access.arrays import SQL_TYPES

T = TypeVar("T")
Array: TypeAlias = Callable[[Any], bytes]


class Columns(Generic[T]):
    """The columns that one kind of value is read from.

    The parameters of `make` are the columns, by name and in order. The first one must be of a column
    that is never NULL: where it is NULL, an outer join found no row.
    """

    def __init__(self, make: Callable[..., T], *, named_by: Callable[..., T] | None = None) -> None:
        """`named_by` has the parameters where `make` takes any."""
        self.make = make
        self.names = tuple(inspect.signature(named_by or make).parameters)

    def select(self, alias: str, **expressions: str) -> LiteralString:
        """Return the columns for a select list, of the table or subquery `alias`.

        `expressions` says in SQL what stands for a column that is not one of that table.
        """
        return _sql(self._expressions(alias, expressions))

    def aggregate(self, alias: str, **expressions: str) -> LiteralString:
        """Return a select list that has each column as an array of all the rows, under its own name.

        `Place.values` reads them. There are none, and each array is NULL, where there are no rows.
        """
        each = zip(self._expressions(alias, expressions), self.names, strict=True)
        return _sql(f"array_agg({expression}) AS {name}" for expression, name in each)

    def _expressions(self, alias: str, given: Mapping[str, str]) -> list[str]:
        unknown = set(given) - set(self.names)
        if unknown:
            raise ValueError(f"no such columns: {', '.join(sorted(unknown))}")
        return [given.get(name, f"{alias}.{name}") for name in self.names]

    def read(self, row: Sequence[Any]) -> T:
        """Return the value of a row that has these columns and no others."""
        return self.make(*row)

    def find(self, row: Sequence[Any]) -> T | None:
        """Like `read`; None where an outer join found no row."""
        return None if row[0] is None else self.make(*row)


class Place(Generic[T]):
    """Where the columns of one value stand in the rows of a statement."""

    __slots__ = ("_first", "_make", "_slice")

    def __init__(self, columns: Columns[T], first: int) -> None:
        self._make = columns.make
        self._first = first
        self._slice = slice(first, first + len(columns.names))

    def read(self, row: Sequence[Any]) -> T:
        """Return the value."""
        return self._make(*row[self._slice])

    def find(self, row: Sequence[Any]) -> T | None:
        """Return the value; None where an outer join found no row."""
        return None if row[self._first] is None else self._make(*row[self._slice])

    def values(self, row: Sequence[Any]) -> Iterable[T]:
        """Return the values of columns that were aggregated, in the order of the arrays.

        The arrays are equally long: they are of the same rows.
        """
        return () if row[self._first] is None else map(self._make, *row[self._slice])


class SelectList:
    """The select list of a statement that reads several kinds of values at once."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._width = 0

    def add(self, columns: Columns[T], alias: str, **expressions: str) -> Place[T]:
        """Select `columns` too, as `Columns.select` does; return where they stand."""
        self._parts.append(columns.select(alias, **expressions))
        place = Place(columns, self._width)
        self._width += len(columns.names)
        return place

    @property
    def sql(self) -> LiteralString:
        """What stands between SELECT and FROM."""
        return _sql(self._parts)


class RowParameters:
    """Rows that a statement is given, as one array for each column.

    `RowParameters(tenant=texts, seq=integers)` names the columns, each with what writes its array.
    """

    def __init__(self, **columns: Array) -> None:
        self._columns = columns
        self.names = tuple(columns)

    def unnest(self, alias: str, *, ordinality: str = "") -> LiteralString:
        """Return the item of a FROM clause that has the rows; `ordinality` names the column that counts
        them, from 1."""
        arrays = ", ".join(f"%b::{SQL_TYPES[array]}" for array in self._columns.values())
        counted = " WITH ORDINALITY" if ordinality else ""
        names = ", ".join([*self.names, ordinality] if ordinality else self.names)
        return f"unnest({arrays}){counted} AS {alias}({names})"

    def select(self, alias: str) -> LiteralString:
        """Return all columns of `unnest(alias)`, for a select list."""
        return _sql(f"{alias}.{name}" for name in self.names)

    @property
    def sql(self) -> LiteralString:
        """The bare names, for the column list of an INSERT."""
        return _sql(self.names)

    def arrays(self, **values: Sequence[Any]) -> list[Any]:
        """Return the parameters of `unnest`. Raises TypeError unless every column is given."""
        if values.keys() != self._columns.keys():
            raise TypeError(f"the columns are {', '.join(self.names)}")
        return [array(values[name]) for name, array in self._columns.items()]

    def arrays_of(self, rows: Sequence[Sequence[Any]]) -> list[Any]:
        """Return the parameters of `unnest` for rows that have the columns in order."""
        if not rows:
            return [array(()) for array in self._columns.values()]
        return [
            array(column)
            for array, column in zip(self._columns.values(), zip(*rows, strict=True), strict=True)
        ]


def _sql(items: Iterable[str]) -> LiteralString:
    """Join names and expressions that were all written in this package: nothing of a caller's."""
    return ", ".join(items)
