"""More work than there is time or room for, on real processes: refused, dropped, and over soon."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import grpc
import psycopg
import pytest

from pdp.dev.stack import Replica
from placet import AsyncClient, Decision, DevIdentity
from placet._transport.channel import CALLS_AT_ONCE
from placet.v1 import decision_service_pb2, decision_service_pb2_grpc
from tests.e2e.scene import AGENT, READ, Scene, codes, jwks, measured, new_call, read, until
from tests.e2e.test_faults import database_url, owner_url, replica_with
from tests.support.processes import running_with
from tests.support.proxy import proxied

pytestmark = pytest.mark.asyncio(loop_scope="session")

PLACES = 8
# A flood: so many connections with as many calls as a client has under way, so often, of so many bytes.
CONNECTIONS, WAVES, LARGE = 8, 16, 60_000
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


async def test_flood_of_large_calls_over_many_connections_takes_no_more_memory_than_there_are_places(
    scene: Scene,
) -> None:
    """The database hangs, so that nothing that was begun ends; what comes after is refused and let go."""
    session = await scene.session()
    async with (
        proxied(database_url(scene.stack)) as proxy,
        replica_with(
            scene.stack, "pdp-flooded", database_url=proxy.conninfo, max_in_flight=PLACES
        ) as replica,
        client_of(scene, replica, timeout=60.0) as client,
        AsyncExitStack() as opened,
    ):
        await until(lambda: allowed(client, session), "the replica answers")
        proxy.stall()
        begun = [
            asyncio.create_task(client.evaluate(read(), session=await scene.session())) for _ in range(PLACES)
        ]

        async def full() -> bool:
            return await measured(replica, "placet_in_flight") == PLACES

        await until(full, "every place is taken")
        channels = [
            await opened.enter_async_context(
                grpc.aio.insecure_channel(
                    replica.grpc_address, options=[("grpc.use_local_subchannel_pool", 1)]
                )
            )
            for _ in range(CONNECTIONS)
        ]
        large = decision_service_pb2.EvaluateRequest(session_id=session.session_id)
        large.action.tool, large.action.arguments = READ, b'{"invoice":"%b"}' % (b"x" * LARGE)
        metadata = DevIdentity(
            tenant=scene.tenant, subject="svc-ap", roles=["agent"], agents=[AGENT]
        ).metadata()
        before = most = resident(replica)
        for wave in range(WAVES):
            large.action.tool_call_id = f"c-{wave}"
            answers = await asyncio.gather(
                *(
                    decision_service_pb2_grpc.DecisionServiceStub(channel).Evaluate(
                        large, metadata=metadata, timeout=60.0
                    )
                    for channel in channels
                    for _ in range(CALLS_AT_ONCE)
                ),
                return_exceptions=True,
            )
            assert {answer.code() for answer in answers if isinstance(answer, grpc.aio.AioRpcError)} == {
                grpc.StatusCode.RESOURCE_EXHAUSTED
            }
            assert all(isinstance(answer, grpc.aio.AioRpcError) for answer in answers)
            most = max(most, resident(replica))
        sent = WAVES * CONNECTIONS * CALLS_AT_ONCE * LARGE
        assert most - before < sent // 4, f"{(most - before) >> 20} of {sent >> 20} MiB that were sent"
        proxy.resume()
        assert all(answer.allowed for answer in await asyncio.gather(*begun))
        await until(lambda: allowed(client, session), "a lone call is allowed")


def resident(replica: Replica) -> int:
    """Bytes of memory that the replica's process holds."""
    (pid,) = (pid for pid, line in running_with(f"{replica.name}.yaml") if "pdp serve" in line)
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    (size,) = (line.split()[1] for line in status.splitlines() if line.startswith("VmRSS"))
    return int(size) * 1024


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
