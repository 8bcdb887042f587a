"""How often operators may write: one count for all replicas, and nothing that is refused counts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from pdp.errors import OverloadedError, QuotaExceededError, TenantUnknownError
from pdp.model import EntityName
from pdp.postgres.access.write_quota import WriteQuota, WriteQuotas
from pdp.postgres.store import PostgresStore
from tests.support.builders import AUTHOR, TENANT

# So slow that no machine stalls for as long as a write takes to come due.
QUOTAS = WriteQuotas(control=WriteQuota(1 / 3600), entities=WriteQuota(1 / 3600))
NAME = EntityName(type="vendor", id="V-1")
OTHER = replace(AUTHOR, subject="another")


@pytest.fixture
async def replicas(database_url: str) -> AsyncIterator[tuple[PostgresStore, PostgresStore]]:
    async with (
        PostgresStore.open(database_url, replica="one", quotas=QUOTAS) as one,
        PostgresStore.open(database_url, replica="two", quotas=QUOTAS) as two,
    ):
        yield one, two


async def test_writes_of_a_tenant_beyond_its_quota_are_refused_with_a_hint(
    replicas: tuple[PostgresStore, PostgresStore],
) -> None:
    one, two = replicas
    assert await one.control_plane.put_tenant(TENANT, b"{}", by=AUTHOR) == 1
    for refused in (
        lambda: two.control_plane.put_tenant(TENANT, b"{}", by=OTHER),
        lambda: one.control_plane.put_signals(TENANT, [], by=AUTHOR),
        lambda: two.control_plane.put_agents(TENANT, [], by=AUTHOR),
        lambda: two.control_plane.put_tools(TENANT, [], by=AUTHOR),
    ):
        with pytest.raises(QuotaExceededError) as caught:
            await refused()
        # What was refused did not count: the wait gets no longer.
        assert 3000 < caught.value.retry_after <= 3600
        # It says which quota that was, and how much it is.
        assert caught.value.quota == "control_writes_per_second"
        assert f"{1 / 3600:g} writes a second of settings, agents, tools" in str(caught.value)
        assert "put more into one write" in str(caught.value)
    # Others have quotas of their own, and entities move no epoch.
    assert await two.control_plane.put_tenant("globex", b"{}", by=AUTHOR) == 1
    await two.entities.put_entities(TENANT, {NAME: {}}, by=AUTHOR)


async def test_writes_of_entities_are_counted_by_credential(
    replicas: tuple[PostgresStore, PostgresStore],
) -> None:
    one, two = replicas
    await one.control_plane.put_tenant(TENANT, b"{}", by=AUTHOR)
    await one.entities.put_entities(TENANT, {NAME: {}}, by=AUTHOR)
    with pytest.raises(QuotaExceededError, match="of entities, by one credential") as caught:
        await two.entities.delete_entities(TENANT, [NAME], by=AUTHOR)
    assert caught.value.quota == "entity_writes_per_second"
    await two.entities.delete_entities(TENANT, [NAME], by=OTHER)
    await two.entities.put_entities(TENANT, {NAME: {}}, by=replace(AUTHOR, issuer="https://another.example"))


async def test_write_to_nobody_leaves_nothing(replicas: tuple[PostgresStore, PostgresStore]) -> None:
    one, _ = replicas
    for _ in range(2):
        with pytest.raises(TenantUnknownError):
            await one.control_plane.put_signals("nobody", [], by=AUTHOR)
        with pytest.raises(TenantUnknownError):
            await one.entities.put_entities("nobody", {NAME: {}}, by=AUTHOR)


async def test_a_burst_is_one_second_of_writes_even_if_all_come_at_once(database_url: str) -> None:
    quotas = WriteQuotas(control=WriteQuota(10))
    async with PostgresStore.open(database_url, replica="one", quotas=quotas) as store:
        await store.control_plane.put_tenant(TENANT, b"{}", by=AUTHOR)
        began = await store.clock.now()
        answers = await asyncio.gather(
            *(store.control_plane.put_signals(TENANT, [], by=AUTHOR) for _ in range(60)),
            return_exceptions=True,
        )
        seconds = (await store.clock.now() - began).total_seconds()
    passed = [answer for answer in answers if isinstance(answer, int)]
    assert all(isinstance(answer, int | OverloadedError) for answer in answers)
    assert 9 <= len(passed) <= 10 + 10 * seconds
