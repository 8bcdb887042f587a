"""The stores that every suite here is run on."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from pdp.postgres.store import PostgresStore
from tests.fakes.store import FakeStore

Store = FakeStore | PostgresStore


@pytest.fixture(params=["fake", "postgres"])
async def store(request: pytest.FixtureRequest) -> AsyncIterator[Store]:
    """Yield an empty store whose clock can be moved."""
    if request.param == "fake":
        yield FakeStore()
        return
    url = request.getfixturevalue("database_url")
    async with PostgresStore.open(url, replica="test") as store:
        yield store
