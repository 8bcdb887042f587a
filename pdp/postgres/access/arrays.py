"""Arrays as parameters, written in PostgreSQL's binary form at once.

psycopg's own dumper looks at every element several times, in Python, to find out what the list
holds: more CPU than everything else that a batch costs us. Here the caller says it.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from psycopg import pq
from psycopg.abc import AdaptContext
from psycopg.adapt import Dumper

# Ids of element types, as pg_type has them.
_TEXT, _INT8, _BOOL, _BYTEA, _TIMESTAMPTZ = 25, 20, 16, 17, 1184
_HEADER = struct.Struct("!iiIii")
_LENGTH = struct.Struct("!i")
_NULL = _LENGTH.pack(-1)
_INT8_ITEM = struct.Struct("!iq")
_TRUE, _FALSE = b"\0\0\0\x01\x01", b"\0\0\0\x01\0"
_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class Texts(bytes):
    """text[]"""


class Integers(bytes):
    """bigint[]"""


class Booleans(bytes):
    """boolean[]"""


class Blobs(bytes):
    """bytea[]"""


class Instants(bytes):
    """timestamptz[]"""


# Ids of the array types.
_OIDS = {Texts: 1009, Integers: 1016, Booleans: 1000, Blobs: 1001, Instants: 1185}


def texts(values: Sequence[str | None]) -> Texts:
    items = []
    nulls = False
    for value in values:
        if value is None:
            nulls = True
            items.append(_NULL)
        else:
            data = value.encode()
            items.append(_LENGTH.pack(len(data)) + data)
    return Texts(_array(_TEXT, items, nulls=nulls))


def integers(values: Sequence[int]) -> Integers:
    return Integers(_array(_INT8, [_INT8_ITEM.pack(8, value) for value in values]))


def booleans(values: Sequence[bool]) -> Booleans:
    return Booleans(_array(_BOOL, [_TRUE if value else _FALSE for value in values]))


def blobs(values: Sequence[bytes]) -> Blobs:
    return Blobs(_array(_BYTEA, [_LENGTH.pack(len(value)) + value for value in values]))


def instants(values: Sequence[datetime]) -> Instants:
    items = [_INT8_ITEM.pack(8, (value - _EPOCH) // _MICROSECOND) for value in values]
    return Instants(_array(_TIMESTAMPTZ, items))


# What a statement calls the arrays that each function writes.
SQL_TYPES = {
    texts: "text[]",
    integers: "bigint[]",
    booleans: "boolean[]",
    blobs: "bytea[]",
    instants: "timestamptz[]",
}


def _array(element: int, items: Sequence[bytes], *, nulls: bool = False) -> bytes:
    """As array_send() of PostgreSQL: dimensions, whether there are nulls, type, length, lower bound."""
    return _HEADER.pack(1, nulls, element, len(items), 1) + b"".join(items)


class _AsItIs(Dumper):
    format = pq.Format.BINARY

    def dump(self, obj: bytes) -> bytes:
        return obj


_DUMPERS = {kind: type(f"_{kind.__name__}", (_AsItIs,), {"oid": oid}) for kind, oid in _OIDS.items()}


def register(context: AdaptContext) -> None:
    """Let a connection send these arrays."""
    for kind, dumper in _DUMPERS.items():
        context.adapters.register_dumper(kind, dumper)
