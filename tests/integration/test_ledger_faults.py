"""The store when connections break, hang or are refused."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace

import psycopg
import pytest
from psycopg import AsyncConnection

from pdp.errors import DeadlineExceededError, SessionMovedError, StoreUnavailableError
from pdp.model import Position, Recording
from pdp.postgres.access.connection import Access
from pdp.postgres.store import PostgresStore
from tests.integration.test_ledger import assert_no_gaps, free_recording, streams
from tests.support import builders
from tests.support.builders import TENANT
from tests.support.proxy import Proxy, proxied

TERMINATE = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
    "WHERE datname = current_database() AND pid <> pg_backend_pid()"
)


@pytest.fixture
async def proxy(database_url: str) -> AsyncIterator[Proxy]:
    async with proxied(database_url) as proxy:
        yield proxy


@pytest.fixture
async def store(proxy: Proxy) -> AsyncIterator[PostgresStore]:
    access = Access(conninfo=proxy.conninfo, connect_timeout=2.0)
    async with PostgresStore.open(proxy.conninfo, replica="one", access=access) as store:
        await store.control_plane.put_tenant(TENANT, b"{}", by=builders.AUTHOR)
        yield store


def execute(url: str, statement: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(statement.encode())


async def recovers(store: PostgresStore) -> Position:
    """Record until it works again; every failure is one that the port names."""
    limit = time.monotonic() + 60
    while True:
        try:
            return await store.ledger.record(await free_recording(store))
        except (StoreUnavailableError, DeadlineExceededError):
            assert time.monotonic() < limit


async def test_lost_answer_to_a_commit_is_found_out(
    proxy: Proxy, store: PostgresStore, database_url: str
) -> None:
    first = await store.ledger.record(await free_recording(store))
    batch = [await free_recording(store) for _ in range(3)]
    batch.append(await free_recording(store, prior_decision_id="never"))
    proxy.cut_after_commit = True
    results = await asyncio.gather(*map(store.ledger.record, batch), return_exceptions=True)
    assert proxy.was_cut.is_set()
    assert results[:3] == [Position(writer=first.writer, seq=seq) for seq in (2, 3, 4)]
    assert isinstance(results[3], SessionMovedError)
    assert (await recovers(store)).writer != first.writer
    assert_no_gaps(database_url)


async def test_lost_answer_to_the_commit_of_a_plan_is_found_out(
    proxy: Proxy, store: PostgresStore, database_url: str
) -> None:
    first = await store.ledger.record(await free_recording(store))
    plan = [await free_recording(store) for _ in range(3)]
    broken = [await free_recording(store), await free_recording(store, prior_decision_id="never")]
    proxy.cut_after_commit = True
    whole, lost, alone = await asyncio.gather(
        store.ledger.record_together(plan),
        store.ledger.record_together(broken),
        store.ledger.record(await free_recording(store)),
        return_exceptions=True,
    )
    assert proxy.was_cut.is_set()
    assert whole == tuple(Position(writer=first.writer, seq=seq) for seq in (2, 3, 4))
    assert isinstance(lost, SessionMovedError)
    assert alone == Position(writer=first.writer, seq=5)
    assert await store.ledger.decision(TENANT, broken[0].decision.decision_id) is None
    await recovers(store)
    assert_no_gaps(database_url)


async def test_commit_that_never_arrived_is_found_out(
    proxy: Proxy, store: PostgresStore, database_url: str
) -> None:
    first = await store.ledger.record(await free_recording(store))
    recording = await free_recording(store)
    proxy.cut_before_commit = True
    with pytest.raises(StoreUnavailableError, match="connection was lost"):
        await store.ledger.record(recording)
    assert proxy.was_cut.is_set()
    assert await store.ledger.decision(TENANT, recording.decision.decision_id) is None
    assert (await recovers(store)).writer != first.writer
    assert_no_gaps(database_url)


async def test_outcome_that_cannot_be_found_out_is_unavailable_in_time(
    proxy: Proxy, store: PostgresStore, database_url: str
) -> None:
    first = await store.ledger.record(await free_recording(store))
    recording = await free_recording(store, seconds=3.0)
    proxy.cut_after_commit = proxy.refuse_after_cut = True
    with pytest.raises(StoreUnavailableError):
        await store.ledger.record(recording)
    assert proxy.was_cut.is_set()
    proxy.refusing = False
    assert (await recovers(store)).writer != first.writer
    assert_no_gaps(database_url)


async def test_hung_database_answers_everybody_in_time_and_recovers(
    proxy: Proxy, store: PostgresStore, database_url: str
) -> None:
    recordings: list[Recording] = [await free_recording(store) for _ in range(10)]
    proxy.stall()
    began = time.monotonic()

    async def fails(work: object) -> None:
        with pytest.raises((StoreUnavailableError, DeadlineExceededError)):
            await work  # type: ignore[misc]

    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        for recording in recordings:
            group.create_task(fails(store.ledger.record(replace(recording, deadline=builders.deadline(1.0)))))
            request = builders.facts_request(builders.key("none"), seconds=1.0)
            group.create_task(fails(store.information_point.gather(request)))
        group.create_task(fails(store.ping_writable(1.0)))
    assert time.monotonic() - began < 15
    proxy.resume()
    await recovers(store)
    await store.ping_writable(30.0)
    assert_no_gaps(database_url)


async def test_terminated_backends_are_replaced_unnoticed(
    proxy: Proxy, store: PostgresStore, database_url: str
) -> None:
    first = await store.ledger.record(await free_recording(store))
    async with await AsyncConnection.connect(database_url, autocommit=True) as connection:
        await connection.execute(TERMINATE)
        limit = time.monotonic() + 60
        while True:
            cursor = await connection.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
            )
            if await cursor.fetchone() == (1,):
                break
            assert time.monotonic() < limit
    second = await recovers(store)
    assert second.writer != first.writer


async def test_backends_terminated_under_load_lose_nothing(
    proxy: Proxy, store: PostgresStore, database_url: str
) -> None:
    succeeded: set[Position] = set()
    stop = asyncio.Event()
    progress = asyncio.Semaphore(0)

    async def work() -> None:
        while not stop.is_set():
            try:
                succeeded.add(await store.ledger.record(await free_recording(store)))
            except (StoreUnavailableError, DeadlineExceededError):
                continue
            progress.release()

    async def havoc() -> None:
        for n in range(6):
            for _ in range(20):
                await progress.acquire()
            if n % 2:
                proxy.cut_after_commit = True
            else:
                await asyncio.to_thread(execute, database_url, TERMINATE)
        stop.set()

    async with asyncio.timeout(180):
        await asyncio.gather(havoc(), *(work() for _ in range(8)))
    held = {Position(writer=w, seq=s) for w, seqs in streams(database_url).items() for s in seqs}
    assert succeeded <= held
    assert_no_gaps(database_url)


async def test_database_that_turned_read_only_is_unavailable_until_it_is_not(
    proxy: Proxy, store: PostgresStore, database_url: str
) -> None:
    name = psycopg.conninfo.conninfo_to_dict(database_url)["dbname"]
    recording = await free_recording(store)
    execute(database_url, f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    execute(database_url, TERMINATE)
    with pytest.raises(StoreUnavailableError, match=r"read-only|lost"):
        await store.ledger.record(recording)
    with psycopg.connect(
        database_url, autocommit=True, options="-c default_transaction_read_only=off"
    ) as connection:
        connection.execute(f"ALTER DATABASE {name} RESET default_transaction_read_only".encode())
        connection.execute(TERMINATE.encode())
    await recovers(store)
    await store.check()


async def test_warning_at_commit_closes_the_stream(
    proxy: Proxy, store: PostgresStore, database_url: str
) -> None:
    """As when a synchronous standby is not waited for."""
    first = await store.ledger.record(await free_recording(store))
    execute(
        database_url,
        """
        CREATE FUNCTION warn() RETURNS trigger LANGUAGE plpgsql
        AS $$ BEGIN RAISE WARNING 'not replicated'; RETURN NULL; END $$;
        CREATE CONSTRAINT TRIGGER warn AFTER INSERT ON placet.ledger DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW EXECUTE FUNCTION warn()
        """,
    )
    with pytest.raises(StoreUnavailableError, match="not replicated"):
        await store.ledger.record(await free_recording(store))
    execute(database_url, "DROP TRIGGER warn ON placet.ledger")
    assert (await recovers(store)).writer != first.writer


async def test_warning_at_the_commit_of_a_key_is_unavailable(store: PostgresStore, database_url: str) -> None:
    execute(
        database_url,
        """
        CREATE FUNCTION warn() RETURNS trigger LANGUAGE plpgsql
        AS $$ BEGIN RAISE WARNING 'not replicated'; RETURN NULL; END $$;
        CREATE CONSTRAINT TRIGGER warn AFTER INSERT ON placet.signing_keys DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW EXECUTE FUNCTION warn()
        """,
    )
    with pytest.raises(StoreUnavailableError, match="not replicated"):
        await store.keys.register({"kid": "k1", "kty": "EC"}, replica="one")
    # Registered again once the standby is back, it is there.
    await store.keys.register({"kid": "k1", "kty": "EC"}, replica="one")
    assert list(await store.keys.jwks()) == [{"kid": "k1", "kty": "EC"}]
