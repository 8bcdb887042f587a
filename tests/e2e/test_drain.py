"""SIGTERM: what is in flight is answered, what comes after is not taken."""

from __future__ import annotations

import asyncio
import os
import signal
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from placet import AsyncClient, Client, Decision, DevIdentity, Session
from tests.e2e.scene import AGENT, BOUNDARY, PRINCIPAL, TOOLS, codes, read
from tests.support.processes import PATIENCE, eventually
from tests.support.stack import RealPdp, RunningStack, running_stack

CALLS = 8


def client(pdp: RealPdp, tenant: str, subject: str, *roles: str, agents: tuple[str, ...] = ()) -> Client:
    identity = DevIdentity(tenant=tenant, subject=subject, roles=roles, agents=agents)
    return Client(pdp.target, identity=identity, timeout=PATIENCE)


def enriched(pdp: RealPdp) -> int:
    """How many actions have got past enrichment."""
    with urllib.request.urlopen(f"{pdp.http_url}/metrics", timeout=PATIENCE) as answer:
        for line in answer.read().decode().splitlines():
            if line.startswith('placet_stage_duration_seconds_count{stage="enrich"}'):
                return int(float(line.split()[-1]))
    return 0


def test_sigterm_answers_what_is_in_flight() -> None:
    with running_stack() as stack:
        pdp = RealPdp(stack=stack)
        tenant = pdp.fresh_tenant()
        with client(pdp, tenant, "ops", "operator") as operator:
            operator.put_tenant({})
            operator.put_tools(TOOLS)
        with client(pdp, tenant, "issuer", "session_issuer") as issuer:
            sessions = [
                issuer.open_session(task=f"T-{n}", principal=PRINCIPAL, agent=AGENT, boundary=BOUNDARY)
                for n in range(CALLS)
            ]
        decisions = asked_while_stopping(stack, pdp, tenant, sessions)
        assert [codes(decision) for decision in decisions] == [["pdp.policy_unavailable"]] * CALLS
        assert all(decision.failure is None for decision in decisions)
        eventually(stack.ready, "the stack has started the replica again")
        with client(pdp, tenant, "auditor", "auditor") as auditor:
            for decision in decisions:
                assert auditor.get_decision(decision.decision_id).receipt == decision.receipt


def asked_while_stopping(
    stack: RunningStack, pdp: RealPdp, tenant: str, sessions: list[Session]
) -> list[Decision]:
    """Ask while the engine hangs, stop the replica meanwhile, and return the answers."""
    replica, opa = stack.replica()["pid"], stack.pids()["opa"]
    os.kill(opa, signal.SIGSTOP)
    try:
        with (
            client(pdp, tenant, "svc", "agent", agents=(AGENT,)) as pep,
            ThreadPoolExecutor(CALLS) as threads,
        ):
            asked = [threads.submit(pep.evaluate, read(), session=session) for session in sessions]
            eventually(lambda: enriched(pdp) == CALLS, "every call waits for the engine")
            os.kill(replica, signal.SIGTERM)
            return [answer.result(PATIENCE) for answer in asked]
    finally:
        os.kill(opa, signal.SIGCONT)


async def test_sigterm_answers_what_a_stream_has_in_flight_and_the_stream_goes_on_with_the_next() -> None:
    with running_stack() as stack:
        pdp = RealPdp(stack=stack)
        tenant = pdp.fresh_tenant()
        with client(pdp, tenant, "ops", "operator") as operator:
            operator.put_tenant({})
            operator.put_tools(TOOLS)
        with client(pdp, tenant, "issuer", "session_issuer") as issuer:
            session = issuer.open_session(task="T-1", principal=PRINCIPAL, agent=AGENT, boundary=BOUNDARY)
        identity = DevIdentity(tenant=tenant, subject="svc", roles=("agent",), agents=(AGENT,))
        async with (
            AsyncClient(pdp.target, identity=identity, timeout=PATIENCE) as pep,
            pep.stream() as stream,
        ):
            replica, opa = stack.replica()["pid"], stack.pids()["opa"]
            os.kill(opa, signal.SIGSTOP)
            try:
                asked = asyncio.create_task(stream.evaluate(read(), session=session))
                await asyncio.to_thread(eventually, lambda: enriched(pdp) == 1, "it waits for the engine")
                os.kill(replica, signal.SIGTERM)
                decision = await asked
            finally:
                os.kill(opa, signal.SIGCONT)
            assert (codes(decision), decision.failure) == (["pdp.policy_unavailable"], None)
            # The idle stream was ended too: the old process did not wait out its drain for it.
            await asyncio.to_thread(stack.restarted, "pdp-1", replica)
            assert "DrainingError" in "".join(
                path.read_text(errors="replace") for path in stack.data_dir.rglob("*.log")
            )
            await asyncio.to_thread(eventually, stack.ready, "the replica is back")
            again = await stream.evaluate(read(), session=session)
            assert codes(again) != []


def test_stack_serves_reflection_and_health(real_pdp: RealPdp) -> None:
    with grpc.insecure_channel(real_pdp.target) as channel:
        database = ProtoReflectionDescriptorDatabase(channel)
        services = set(database.get_services())
        assert {"placet.v1.DecisionService", "grpc.health.v1.Health"} <= services
        pool = DescriptorPool(database)
        evaluate = pool.FindServiceByName("placet.v1.DecisionService").FindMethodByName("Evaluate")
        assert evaluate.input_type.full_name == "placet.v1.EvaluateRequest"


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics", "/.well-known/jwks.json"])
def test_operations_answer_over_http(real_pdp: RealPdp, path: str) -> None:
    with urllib.request.urlopen(f"{real_pdp.http_url}{path}", timeout=PATIENCE) as answer:
        assert answer.status == 200
