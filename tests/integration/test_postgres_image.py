"""The store on PostgreSQL's own container image."""

from __future__ import annotations

import pytest

from pdp.postgres.migrate import migrate
from pdp.postgres.store import PostgresStore
from tests.support import builders
from tests.support.builders import TENANT
from tests.support.postgres import contained


@pytest.mark.docker
async def test_decision_is_recorded_on_the_official_image() -> None:
    with contained() as conninfo:
        await migrate(conninfo)
        async with PostgresStore.open(conninfo, replica="test") as store:
            await store.control_plane.put_tenant(TENANT, b"{}", by=builders.AUTHOR)
            key = builders.key("none")
            facts = await store.information_point.gather(builders.facts_request(key))
            position = await store.ledger.record(builders.recording(key, epoch=facts.epoch))
            assert position.seq == 1
