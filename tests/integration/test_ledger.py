"""The ledger on a real database: concurrency, batches, deadlines."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import psycopg
import pytest
from psycopg import AsyncConnection

from pdp.errors import (
    DeadlineExceededError,
    InvalidFieldError,
    OverloadedError,
    SessionMovedError,
    StoreUnavailableError,
)
from pdp.model import Position, Recording, Session, Signal
from pdp.postgres.access.connection import Access
from pdp.postgres.access.locks import control_lock
from pdp.postgres.store import PostgresStore
from tests.support import builders
from tests.support.builders import TENANT


@pytest.fixture
async def store(database_url: str) -> AsyncIterator[PostgresStore]:
    async with PostgresStore.open(database_url, replica="one") as store:
        await store.control_plane.put_tenant(TENANT, b"{}", by=builders.AUTHOR)
        yield store


async def opened(store: PostgresStore) -> Session:
    now = await store.clock.advance(0)
    return (await store.sessions.open(TENANT, builders.session(now=now))).session


async def epoch(store: PostgresStore) -> int:
    return (await store.information_point.gather(builders.facts_request(builders.key("none")))).epoch


async def free_recording(store: PostgresStore, **options: object) -> Recording:
    """A recording that depends on nothing but its own key."""
    return builders.recording(builders.key("none"), epoch=await epoch(store), **options)  # type: ignore[arg-type]


@asynccontextmanager
async def holding(url: str, statement: str) -> AsyncIterator[AsyncConnection[tuple[object, ...]]]:
    """A transaction that has run `statement`; commits at the end."""
    async with await AsyncConnection.connect(url) as connection:
        await connection.execute(statement.encode())
        yield connection


async def until_waiting(url: str, count: int = 1) -> None:
    """Return when `count` backends of this database wait for a lock."""
    async with await AsyncConnection.connect(url, autocommit=True) as connection:
        limit = time.monotonic() + 60
        while time.monotonic() < limit:
            cursor = await connection.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
                "AND wait_event_type = 'Lock'"
            )
            row = await cursor.fetchone()
            if row is not None and row[0] >= count:
                return
            await asyncio.sleep(0.01)
    raise AssertionError("nobody waits")


def streams(url: str) -> dict[str, list[int]]:
    """Positions in the ledger, by writer."""
    found: dict[str, list[int]] = {}
    with psycopg.connect(url) as connection:
        for writer, seq in connection.execute("SELECT writer, seq FROM placet.ledger ORDER BY writer, seq"):
            found.setdefault(writer, []).append(seq)
    return found


def assert_no_gaps(url: str) -> None:
    for seqs in streams(url).values():
        assert seqs == list(range(1, len(seqs) + 1))


async def test_two_replicas_and_a_hot_session(database_url: str, store: PostgresStore) -> None:
    session = await opened(store)
    async with PostgresStore.open(database_url, replica="two") as other:
        recorded: list[Position] = []

        async def work(on: PostgresStore) -> None:
            mine = 0
            while mine < 5:
                key = builders.key(session.session_id)
                facts = await on.information_point.gather(builders.facts_request(key))
                try:
                    recorded.append(
                        await on.ledger.record(
                            builders.recording(key, epoch=facts.epoch, moves=facts.session)
                        )
                    )
                except SessionMovedError:
                    continue
                mine += 1

        async with asyncio.timeout(120), asyncio.TaskGroup() as group:
            for on in (store, other) * 4:
                group.create_task(work(on))
    found = await store.sessions.get(TENANT, session.session_id)
    assert found is not None
    assert len(recorded) == len(set(recorded)) == 40
    assert found.session.version == session.version + 40
    assert found.session.aggregates.allow == 40
    assert_no_gaps(database_url)
    assert len(streams(database_url)) == 2


async def test_crossing_batches_do_not_deadlock(database_url: str, store: PostgresStore) -> None:
    await store.control_plane.put_tenant("globex", b"{}", by=builders.AUTHOR)
    sessions = [await opened(store) for _ in range(10)]
    async with PostgresStore.open(database_url, replica="two") as other:
        versions = {one.session_id: one for one in sessions}

        async def work(on: PostgresStore, n: int) -> None:
            for step in range(8):
                one = versions[sessions[(n * 7 + step * 3) % 10].session_id]
                key = builders.key(
                    one.session_id,
                    tenant=TENANT if n % 3 else "globex",
                    tool_call_id=f"shared-{(n * 5 + step) % 12}",
                )
                facts = await on.information_point.gather(builders.facts_request(key))
                recording = builders.recording(
                    key,
                    epoch=facts.epoch,
                    moves=facts.session,
                    prior_decision_id=facts.prior.decision_id if facts.prior else None,
                )
                try:
                    await on.ledger.record(recording)
                except SessionMovedError:
                    continue

        async with asyncio.timeout(120), asyncio.TaskGroup() as group:
            for n in range(24):
                group.create_task(work((store, other)[n % 2], n))
    assert_no_gaps(database_url)


async def test_change_that_waits_to_commit_overtakes_the_recording(
    database_url: str, store: PostgresStore
) -> None:
    recording = await free_recording(store)
    change = (
        f"SELECT pg_advisory_xact_lock({control_lock(TENANT)}); UPDATE placet.tenants SET epoch = epoch + 1"
    )
    async with holding(database_url, change):
        task = asyncio.create_task(store.ledger.record(recording))
        await until_waiting(database_url)
    with pytest.raises(SessionMovedError):
        await task
    assert streams(database_url) == {}


async def test_change_waits_for_recordings_under_way(database_url: str, store: PostgresStore) -> None:
    before = await epoch(store)
    async with holding(database_url, f"SELECT pg_advisory_xact_lock_shared({control_lock(TENANT)})"):
        task = asyncio.create_task(
            store.control_plane.put_signals(TENANT, [Signal(name="incident", value=True)], by=builders.AUTHOR)
        )
        await until_waiting(database_url)
        assert await epoch(store) == before
    assert await task == 1
    assert await epoch(store) == before + 1


async def test_epoch_races_lose_nothing(store: PostgresStore) -> None:
    """No recording taken on an epoch commits after the change that ended it has returned."""
    ended: list[int] = []
    stop = asyncio.Event()
    progress = asyncio.Semaphore(0)

    async def change() -> None:
        for _ in range(20):
            at = await epoch(store)
            await store.control_plane.put_signals(TENANT, [], by=builders.AUTHOR)
            ended.append(at)
            await progress.acquire()
        stop.set()

    async def record() -> int:
        wins = 0
        while not stop.is_set():
            recording = await free_recording(store)
            over = recording.epoch in ended
            try:
                await store.ledger.record(recording)
            except SessionMovedError:
                continue
            assert not over
            wins += 1
            progress.release()
        return wins

    async with asyncio.timeout(120):
        results = await asyncio.gather(change(), *(record() for _ in range(6)))
    assert sum(wins or 0 for wins in results) > 0


async def test_poisoned_recording_hurts_no_neighbour(database_url: str, store: PostgresStore) -> None:
    first = await free_recording(store)
    await store.ledger.record(first)
    batch = [await free_recording(store) for _ in range(10)]
    # Its decision is in the ledger already.
    batch[4] = replace(batch[4], decision=first.decision)
    batch[7] = replace(batch[7], key=replace(batch[7].key, tool_call_id="x" * 9000 + str(time.time_ns())))
    results = await asyncio.gather(*map(store.ledger.record, batch), return_exceptions=True)
    assert isinstance(results[4], StoreUnavailableError)
    assert sum(isinstance(result, Position) for result in results) >= 8
    assert_no_gaps(database_url)


async def test_text_that_cannot_be_stored_is_refused_at_the_door(store: PostgresStore) -> None:
    for text in ("a\0b", "\ud800"):
        recording = await free_recording(store)
        with pytest.raises(InvalidFieldError):
            await store.ledger.record(replace(recording, key=replace(recording.key, tool_call_id=text)))
        with pytest.raises(InvalidFieldError):
            await store.information_point.gather(builders.facts_request(builders.key(text)))


async def test_lock_that_is_not_had_fails_only_who_needs_it(database_url: str) -> None:
    access = Access(conninfo=database_url, lock_timeout=0.2)
    async with PostgresStore.open(database_url, replica="one", access=access) as store:
        await store.control_plane.put_tenant(TENANT, b"{}", by=builders.AUTHOR)
        session = await opened(store)
        blocked = builders.recording(
            builders.key(session.session_id), epoch=await epoch(store), moves=session
        )
        free = [await free_recording(store) for _ in range(5)]
        async with holding(database_url, "SELECT 1 FROM placet.sessions FOR UPDATE"):
            results = await asyncio.gather(
                *map(store.ledger.record, [*free[:2], blocked, *free[2:]]), return_exceptions=True
            )
        assert [isinstance(result, Position) for result in results] == [True, True, False, True, True, True]
        assert isinstance(results[2], StoreUnavailableError)
        await store.ledger.record(replace(blocked, deadline=builders.deadline()))
    assert_no_gaps(database_url)


async def test_passing_obstacle_is_tried_again(database_url: str) -> None:
    access = Access(conninfo=database_url, lock_timeout=0.5)
    async with PostgresStore.open(database_url, replica="one", access=access) as store:
        await store.control_plane.put_tenant(TENANT, b"{}", by=builders.AUTHOR)
        session = await opened(store)
        recording = builders.recording(
            builders.key(session.session_id), epoch=await epoch(store), moves=session
        )
        async with holding(database_url, "SELECT 1 FROM placet.sessions FOR UPDATE"):
            task = asyncio.create_task(store.ledger.record(recording))
            await until_waiting(database_url)
        assert isinstance(await task, Position)


async def test_deadline_during_a_commit_closes_the_stream_for_newcomers_only(
    database_url: str, store: PostgresStore
) -> None:
    session = await opened(store)
    hurried = builders.recording(
        builders.key(session.session_id), epoch=await epoch(store), moves=session, seconds=1.0
    )
    patient, newcomer = await free_recording(store), await free_recording(store)
    async with holding(database_url, "SELECT 1 FROM placet.sessions FOR UPDATE"):
        hurry = asyncio.create_task(store.ledger.record(hurried))
        patience = asyncio.create_task(store.ledger.record(patient))
        with pytest.raises(StoreUnavailableError):
            await hurry
        assert not patience.done()
        new = await store.ledger.record(newcomer)
    old = await patience
    assert old.writer != new.writer
    # Nobody waited for it any more, so it was not recorded.
    assert await store.ledger.decision(TENANT, hurried.decision.decision_id) is None
    assert_no_gaps(database_url)


async def test_cancelled_before_it_began_is_not_recorded(database_url: str, store: PostgresStore) -> None:
    first, second = await free_recording(store), await free_recording(store)
    async with holding(database_url, f"SELECT pg_advisory_xact_lock({control_lock(TENANT)})"):
        going = asyncio.create_task(store.ledger.record(first))
        await until_waiting(database_url)
        queued = asyncio.create_task(store.ledger.record(second))
        await asyncio.sleep(0)
        queued.cancel()
        with pytest.raises(asyncio.CancelledError):
            await queued
    await going
    assert await store.ledger.decision(TENANT, second.decision.decision_id) is None


async def test_full_queue_turns_away_with_a_hint(database_url: str) -> None:
    async with PostgresStore.open(database_url, replica="one", capacity=4) as store:
        await store.control_plane.put_tenant(TENANT, b"{}", by=builders.AUTHOR)
        recordings = [await free_recording(store) for _ in range(10)]
        async with holding(database_url, f"SELECT pg_advisory_xact_lock({control_lock(TENANT)})"):
            tasks = [asyncio.create_task(store.ledger.record(recordings[0]))]
            await until_waiting(database_url)
            tasks += [asyncio.create_task(store.ledger.record(one)) for one in recordings[1:]]
            await asyncio.sleep(0)
        results = await asyncio.gather(*tasks, return_exceptions=True)
    assert sum(isinstance(result, Position) for result in results) == 5
    turned_away = [result for result in results if isinstance(result, OverloadedError)]
    assert len(turned_away) == 5
    assert all(error.retry_after > 0 for error in turned_away)


async def test_deadline_in_the_queue_is_work_never_begun(database_url: str, store: PostgresStore) -> None:
    first, second = await free_recording(store), await free_recording(store, seconds=0.5)
    async with holding(database_url, f"SELECT pg_advisory_xact_lock({control_lock(TENANT)})"):
        going = asyncio.create_task(store.ledger.record(first))
        await until_waiting(database_url)
        with pytest.raises(DeadlineExceededError):
            await store.ledger.record(replace(second, deadline=builders.deadline(0.2)))
    await going
    assert await store.ledger.decision(TENANT, second.decision.decision_id) is None


async def test_closing_the_store_answers_everybody(database_url: str) -> None:
    async with PostgresStore.open(database_url, replica="one") as store:
        await store.control_plane.put_tenant(TENANT, b"{}", by=builders.AUTHOR)
        recordings = [await free_recording(store) for _ in range(200)]
        tasks = [asyncio.create_task(store.ledger.record(one)) for one in recordings]
        await tasks[0]
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(result, Position | StoreUnavailableError) for result in results)
    done = sum(isinstance(result, Position) for result in results)
    assert sum(map(len, streams(database_url).values())) == done


async def test_losers_leave_no_key_rows(database_url: str, store: PostgresStore) -> None:
    batch = [
        await free_recording(store, prior_decision_id="never" if n % 2 else None, claims_key=n % 3 > 0)
        for n in range(12)
    ]
    await asyncio.gather(*map(store.ledger.record, batch), return_exceptions=True)
    with psycopg.connect(database_url) as connection:
        rows = connection.execute("SELECT tool_call_id, decision_id FROM placet.decision_keys").fetchall()
    assert {decision for _, decision in rows} == {
        one.decision.decision_id for n, one in enumerate(batch) if n % 2 == 0 and n % 3 > 0
    }


async def test_transaction_id_of_another_after_a_failover_proves_nothing(
    database_url: str, store: PostgresStore
) -> None:
    """A new primary that lost our commit may have given its transaction id to another."""
    async with await AsyncConnection.connect(database_url) as connection:
        row = await (await connection.execute("SELECT pg_current_xact_id()::text")).fetchone()
    assert row is not None
    lost = [Position(writer="lost", seq=1)]
    assert await store.ledger._outcome(row[0], lost, builders.deadline()) is None


async def test_transaction_that_a_crash_forgot_never_committed(store: PostgresStore) -> None:
    lost = [Position(writer="lost", seq=1)]
    assert await store.ledger._outcome(str(2**40 + 1000), lost, builders.deadline()) is False
