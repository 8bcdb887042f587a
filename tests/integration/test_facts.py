"""The information point on a real database."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import psycopg
import pytest
from psycopg import AsyncConnection

from pdp.errors import DeadlineExceededError, StoreUnavailableError
from pdp.model import EntityQuery, Facts, FactsRequest
from pdp.postgres.access import arrays
from pdp.postgres.access.connection import Access, Connection, connect
from pdp.postgres.facts.statement import ENTITIES_AT, GATHER, parameters
from pdp.postgres.store import PostgresStore
from tests.support import builders
from tests.support.builders import TENANT
from tests.support.gc_cycles import without_collector

_SESSION = "SELECT version FROM placet.sessions WHERE tenant = %s AND session_id = %s"


@pytest.fixture
async def store(database_url: str) -> AsyncIterator[PostgresStore]:
    async with PostgresStore.open(database_url, replica="one") as store:
        await store.control_plane.put_tenant(TENANT, b"{}", by=builders.AUTHOR)
        yield store


async def gather(store: PostgresStore, tenant: str = TENANT, seconds: float = 30.0) -> Facts:
    request = builders.facts_request(builders.key("none", tenant=tenant), seconds=seconds)
    return await store.information_point.gather(request)


def asks_for_entities(invoice: str) -> FactsRequest:
    """A request for an entity by its id, and for the one that its attribute `po` names."""
    by_id = EntityQuery(name="invoice", type="invoice", id=invoice)
    by_attribute = EntityQuery(name="po", type="invoice", id=invoice, of="invoice", via="po")
    return builders.facts_request(builders.key("none"), entities=(by_id, by_attribute))


async def test_damaged_fact_fails_only_who_needs_it(database_url: str, store: PostgresStore) -> None:
    await store.control_plane.put_tenant("globex", b"{}", by=builders.AUTHOR)
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("UPDATE placet.tenants SET settings = '{' WHERE tenant = 'globex'")
    results = await asyncio.gather(
        *(gather(store, "globex" if n % 4 == 0 else TENANT) for n in range(40)), return_exceptions=True
    )
    for n, result in enumerate(results):
        assert isinstance(result, StoreUnavailableError if n % 4 == 0 else Facts)


@pytest.mark.parametrize("mode", ["force_custom_plan", "force_generic_plan"])
async def test_entities_are_looked_up_by_key_however_many_there_are(
    database_url: str, store: PostgresStore, mode: str
) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(
            """
            INSERT INTO placet.entities (tenant, type, id, attributes, revision, deleted)
            SELECT %s, 'invoice', 'INV-' || n, json_build_object('po', 'INV-' || (n + 1))::text, 1, false
            FROM generate_series(1, 50000) AS n
            """,
            [TENANT],
        )
        connection.execute("VACUUM ANALYZE placet.entities")
        options = f"-c plan_cache_mode={mode}"
        with psycopg.connect(database_url, options=options, autocommit=True) as reader:
            arrays.register(reader)
            reader.execute("SELECT pg_stat_reset_single_table_counters('placet.entities'::regclass)")
            asked = parameters([asks_for_entities("INV-1"), asks_for_entities("INV-2")])
            for _ in range(3):
                cursor = reader.cursor(binary=True)
                found = cursor.execute(GATHER, asked, prepare=True).fetchall()
            assert [[row.id for row in ENTITIES_AT.values(each)] for each in found] == [
                ["INV-1", "INV-2"],
                ["INV-2", "INV-3"],
            ]
            reader.execute("SELECT pg_stat_force_next_flush()")
        scans = connection.execute(
            "SELECT seq_scan, idx_scan > 0 FROM pg_stat_user_tables WHERE relid = 'placet.entities'::regclass"
        ).fetchone()
    assert scans == (0, True)


async def test_plan_made_on_an_empty_table_does_not_stay(database_url: str, store: PostgresStore) -> None:
    async with await connect(Access(conninfo=database_url), "test") as connection:
        # Planned here, while there are no sessions.
        await connection.execute(_SESSION, [TENANT, "s-1"], prepare=True)
        with psycopg.connect(database_url, autocommit=True) as admin:
            admin.execute(
                """
                INSERT INTO placet.sessions (
                    tenant, session_id, task_id, task_description, task_prompt, principal, agent, issuer,
                    boundary, state, version, opened_at, expires_at)
                SELECT %s, 's-' || n, 't-' || n, '', '', '', '', '', '{}', 'open', 1, now(), now()
                FROM generate_series(1, 5000) n
                """,
                [TENANT],
            )
        # So long after it was opened, every statement is planned anew.
        await asyncio.sleep(max(0.0, connection.plan_anew_at - time.monotonic()))
        await connection.plan_anew()
        plan = await connection.execute(
            """
            SELECT format('EXPLAIN EXECUTE %%I (%%L, %%L)', name, %s::text, 's-1')
            FROM pg_prepared_statements WHERE statement LIKE '%%placet.sessions%%'
            """,
            [TENANT],
        )
        (explain,) = await plan.fetchone() or ("",)
        plan = await connection.execute(explain)
        lines = [line.strip() for (line,) in await plan.fetchall()]
    assert "Index Cond: ((tenant = $1) AND (session_id = $2))" in lines


async def test_work_that_failed_is_gone_before_the_collector_comes(store: PostgresStore) -> None:
    class Held:
        """Something of a call."""

    async def work(connection: Connection) -> None:
        held = Held()
        raise StoreUnavailableError(f"{held} is refused")

    async with without_collector("Held") as gone:
        with pytest.raises(StoreUnavailableError):
            await store._pool.run(work)
        await gone()


async def test_key_without_its_decision_is_an_error_not_a_new_call(
    database_url: str, store: PostgresStore
) -> None:
    key = builders.key("none")
    await store.ledger.record(builders.recording(key, epoch=(await gather(store)).epoch))
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("DELETE FROM placet.ledger")
    with pytest.raises(StoreUnavailableError):
        await store.information_point.gather(builders.facts_request(key))


async def test_erased_disclosures_leave_the_signed_part(database_url: str, store: PostgresStore) -> None:
    key = builders.key("none")
    recording = builders.recording(key, epoch=(await gather(store)).epoch)
    await store.ledger.record(recording)
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("DELETE FROM placet.decision_details")
    facts = await store.information_point.gather(builders.facts_request(key))
    assert facts.prior is not None
    assert facts.prior.token == recording.receipt.signed + b"~"
    found = await store.ledger.decision(TENANT, recording.decision.decision_id)
    assert found is not None
    assert (found.token, found.input_document) == (recording.receipt.signed + b"~", None)


async def test_blocked_read_fails_by_its_deadline_and_the_next_works(
    database_url: str, store: PostgresStore
) -> None:
    await gather(store)
    async with await AsyncConnection.connect(database_url) as connection:
        await connection.execute("LOCK TABLE placet.tenants")
        results = await asyncio.gather(
            *(gather(store, seconds=0.3) for _ in range(10)), return_exceptions=True
        )
        assert all(isinstance(result, DeadlineExceededError) for result in results)
    assert (await gather(store)).epoch == 1


async def test_facts_of_a_request_are_of_one_instant(store: PostgresStore) -> None:
    """The epoch moves with the settings that it stands for, never before or after."""
    stop = asyncio.Event()

    async def change() -> None:
        for n in range(30):
            await store.control_plane.put_tenant(TENANT, b'{"n": %d}' % n, by=builders.AUTHOR)
        stop.set()

    async def look() -> None:
        while not stop.is_set():
            facts = await gather(store)
            if facts.epoch > 1:
                assert facts.settings == {"n": facts.epoch - 2}
                assert facts.data_revisions["settings"] == facts.epoch

    async with asyncio.timeout(120):
        await asyncio.gather(change(), *(look() for _ in range(4)))
