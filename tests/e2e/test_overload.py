"""More work than there is time or room for, on real processes: refused, dropped, and over soon."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
import psycopg
import pytest

from pdp.dev.stack import Replica
from placet import AsyncClient, Decision, DevIdentity
from placet.channel import CALLS_AT_ONCE
from tests.e2e.scene import AGENT, Scene, codes, jwks, measured, new_call, read, until
from tests.e2e.test_faults import database_url, owner_url, replica_with
from tests.proxy import proxied

pytestmark = pytest.mark.asyncio(loop_scope="session")

PLACES = 8
# How an overloaded server may answer; None: its client never got as far as to send the call.
REFUSED = {grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.DEADLINE_EXCEEDED, None}


@asynccontextmanager
async def client_of(scene: Scene, replica: Replica, timeout: float) -> AsyncIterator[AsyncClient]:  # noqa: ASYNC109
    """A client that knows this replica's keys."""
    identity = DevIdentity(tenant=scene.tenant, subject="svc-ap", roles=["agent"], agents=[AGENT])
    keys = await jwks(replica)
    async with AsyncClient(replica.grpc_address, identity=identity, timeout=timeout, jwks=keys) as client:
        yield client


async def test_far_more_calls_than_places_are_all_answered_and_then_all_is_well(scene: Scene) -> None:
    sessions = [await scene.session() for _ in range(25)]
    async with (
        replica_with(scene.stack, "pdp-small", max_in_flight=PLACES) as replica,
        client_of(scene, replica, timeout=3.0) as client,
    ):
        most = 0.0
        calls = [
            asyncio.create_task(client.evaluate(read(), session=session))
            for session in sessions
            for _ in range(20)
        ]
        while not all(call.done() for call in calls):
            most = max(most, await measured(replica, "placet_in_flight"))
        answers: list[Decision] = [call.result() for call in calls]
        allowed = sum(answer.allowed for answer in answers)
        failures = Counter(answer.failure.code for answer in answers if answer.failure is not None)
        assert allowed > 0
        # The rest came too late for policy, and were recorded so.
        others = [answer for answer in answers if answer.failure is None and not answer.allowed]
        assert all(codes(answer) == ["pdp.policy_unavailable"] for answer in others)
        assert set(failures) <= REFUSED, Counter(str(a.failure) for a in answers).most_common(5)
        assert most <= PLACES
        assert await measured(replica, 'placet_dropped_total{reason="full"') > 0

        async def well() -> bool:
            return (await client.evaluate(read(), session=sessions[0], timeout=30.0)).allowed

        await until(well, "a lone call is allowed")
        assert await measured(replica, "placet_in_flight") == 0


async def test_one_client_sends_no_more_calls_than_a_connection_takes_and_all_are_answered(
    scene: Scene,
) -> None:
    sessions = [await scene.session() for _ in range(40)]
    replica = scene.stack.replicas[0]
    async with client_of(scene, replica, timeout=60.0) as client:
        most = 0.0
        calls = [
            asyncio.create_task(client.evaluate(read(), session=session))
            for session in sessions
            for _ in range(5)
        ]
        while not all(call.done() for call in calls):
            most = max(most, await measured(replica, "placet_in_flight"))
        assert all(call.result().allowed for call in calls)
        assert 1 <= most <= CALLS_AT_ONCE


async def test_calls_beyond_what_a_connection_takes_are_reset_and_nothing_is_allowed_by_it(
    scene: Scene,
) -> None:
    session = await scene.session()
    async with (
        proxied(database_url(scene.stack)) as proxy,
        replica_with(
            scene.stack, "pdp-narrow", database_url=proxy.conninfo, calls_per_connection=4
        ) as replica,
        client_of(scene, replica, timeout=60.0) as client,
    ):
        await until(lambda: allowed(client, session), "the replica answers")
        proxy.stall()
        calls = [asyncio.create_task(client.evaluate(read(), session=session)) for _ in range(30)]

        async def full() -> bool:
            return await measured(replica, "placet_in_flight") == 4

        await until(full, "the connection is full")
        proxy.resume()
        answers = await asyncio.gather(*calls)
        failures = [answer.failure for answer in answers if answer.failure is not None]
        assert all(answer.allowed for answer in answers if answer.failure is None)
        assert {failure.code for failure in failures} <= {grpc.StatusCode.UNAVAILABLE}
        assert sum(answer.allowed for answer in answers) >= 4


async def test_calls_that_are_given_up_leave_nothing_behind(scene: Scene) -> None:
    session = await scene.session()
    async with (
        proxied(database_url(scene.stack)) as proxy,
        replica_with(scene.stack, "pdp-stalled", database_url=proxy.conninfo) as replica,
        client_of(scene, replica, timeout=60.0) as client,
    ):
        await until(lambda: allowed(client, session), "the replica answers")
        proxy.stall()
        given_up = [new_call() for _ in range(CALLS_AT_ONCE)]
        calls = [asyncio.create_task(client.evaluate(read(call=call), session=session)) for call in given_up]

        async def arrived() -> bool:
            return await measured(replica, "placet_in_flight") == len(calls)

        await until(arrived, "all calls have arrived")
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)

        async def gone() -> bool:
            return await measured(replica, "placet_in_flight") == 0

        await until(gone, "the server has noticed")
        proxy.resume()
        await until(lambda: allowed(client, session), "a lone call is allowed")
    with psycopg.connect(owner_url(scene.stack)) as database:
        recorded = database.execute(
            "SELECT count(*) FROM placet.ledger WHERE tenant = %s AND tool_call_id = ANY (%s)",
            [scene.tenant, given_up],
        ).fetchone()
    assert recorded == (0,)


async def allowed(client: AsyncClient, session: object) -> bool:
    return (await client.evaluate(read(), session=session)).allowed  # type: ignore[arg-type]


async def test_slow_database_delays_and_denies_nothing_for_good(scene: Scene) -> None:
    """While it hangs there is no allow; calls with time left get theirs when it goes on."""
    session = await scene.session()
    async with (
        proxied(database_url(scene.stack)) as proxy,
        replica_with(scene.stack, "pdp-slow", database_url=proxy.conninfo) as replica,
        client_of(scene, replica, timeout=60.0) as client,
    ):
        await until(lambda: allowed(client, session), "the replica answers")
        proxy.stall()
        hurried = await asyncio.gather(
            *(client.evaluate(read(), session=session, timeout=0.5) for _ in range(20))
        )
        assert not any(decision.allowed for decision in hurried)
        patient = [asyncio.create_task(client.evaluate(read(), session=session)) for _ in range(5)]
        proxy.resume()
        assert all(decision.allowed for decision in await asyncio.gather(*patient))
        await until(lambda: allowed(client, session), "a lone call is allowed")
