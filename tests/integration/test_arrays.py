"""Arrays that we write ourselves: PostgreSQL must read what was meant."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from pdp.postgres.access.arrays import blobs, booleans, instants, integers, texts
from pdp.postgres.access.connection import Access, connect

MOMENT = datetime(2026, 7, 1, 12, 30, 15, 123456, UTC)


@pytest.mark.parametrize(
    ("kind", "write", "values"),
    [
        ("text", texts, ["", "a", 'with "quotes", {braces} and \\', "žluťoučký 🐎", None, "NULL"]),
        ("text", texts, [None]),
        ("bigint", integers, [0, 1, -1, 2**63 - 1, -(2**63)]),
        ("boolean", booleans, [True, False]),
        ("bytea", blobs, [b"", b"\0\xff\\", b"x" * 100_000]),
        (
            "timestamptz",
            instants,
            [MOMENT, MOMENT - timedelta(days=40_000), datetime(2000, 1, 1, tzinfo=UTC)],
        ),
    ],
)
@pytest.mark.parametrize("empty", [False, True])
async def test_array_arrives_as_it_was(
    database_url: str, kind: str, write: Any, values: list[Any], *, empty: bool
) -> None:
    meant = [] if empty else values
    async with await connect(Access(conninfo=database_url), "test") as connection:
        cursor = await connection.execute(
            f"SELECT x FROM unnest(%b::{kind}[]) WITH ORDINALITY AS r(x, n) ORDER BY n",  # type: ignore[arg-type]
            [write(meant)],
            prepare=True,
        )
        assert [row[0] for row in await cursor.fetchall()] == meant
