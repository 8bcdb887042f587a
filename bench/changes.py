"""Calls of a tenant whose operators write meanwhile, as often as a tenant may.

Each write of settings moves the ground of the allows before it, so a redemption after it is judged again.
The writes take turns between two values that judge the calls alike.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

from bench import workload
from bench.drive import Target
from bench.stack import Stack
from pdp.dev.story import story
from placet import (
    Action,
    Agent,
    AsyncClient,
    Boundary,
    Client,
    DevIdentity,
    PlacetError,
    ResourceRule,
    Task,
)
from placet.v1 import decision_service_pb2 as messages

TENANT = "bench-changes"
TOOL = "invoices.get"
AUDIENCE = "https://invoices.bench.example"
OPERATOR = DevIdentity(tenant=TENANT, subject="ops", roles=("operator",))
ISSUER = DevIdentity(tenant=TENANT, subject="svc-tasks", roles=("session_issuer",))
RUNTIME = DevIdentity(tenant=TENANT, subject="svc-ap", roles=("agent",), agents=(workload.AGENT,))
SERVER = DevIdentity(
    tenant=TENANT, subject="svc-invoices", roles=("tool",), tools=(TOOL,), audiences=(AUDIENCE,)
)
REDEEM_METHOD = "/placet.v1.DecisionService/Redeem"
# The server's default of control_writes_per_second, less what two clocks may disagree on.
WRITES_PER_SECOND = 9.5
SESSIONS = 64
ARGUMENTS = {"invoice": "INV-1001"}
_SETTINGS = [workload.SETTINGS | {"large_amount": {"EUR": amount}} for amount in ("5000", "6000")]


def prepare(stack: Stack) -> list[str]:
    """Write what operators of the tenant write, and open sessions; return their ids."""
    tools = [dict(tool) for tool in story().fixture.tools if tool["name"] == TOOL]
    tools[0] |= {"audience": AUDIENCE, "redeem": "required"}

    async def written() -> list[str]:
        async with (
            AsyncClient(stack.grpc, identity=OPERATOR, timeout=workload.DEADLINE) as admin,
            AsyncClient(stack.grpc, identity=ISSUER, timeout=workload.DEADLINE) as tasks,
        ):
            await admin.put_tenant(_SETTINGS[0])
            await admin.put_agents([Agent(agent=workload.AGENT, owner="accounts-payable", trust=0.8)])
            await admin.put_tools(tools)
            opened = [
                await tasks.open_session(
                    task=Task(id=f"changes-{time.time_ns()}-{n}", prompt="Read the invoices of this week."),
                    principal="user:anna",
                    agent=workload.AGENT,
                    boundary=Boundary(
                        tools=(TOOL,), resources=(ResourceRule(type="invoice", id="INV-1001"),)
                    ),
                )
                for n in range(SESSIONS)
            ]
            return [session.session_id for session in opened]

    return asyncio.run(written())


def redemptions(stack: Stack, sessions: Sequence[str], number: int) -> Target:
    """Return a target of so many redemptions, each of an allow of its own that is made here first."""

    async def allowed() -> list[bytes]:
        gate = asyncio.Semaphore(workload.OPENING_AT_ONCE)
        async with AsyncClient(stack.grpc, identity=RUNTIME, timeout=workload.DEADLINE) as agent:

            async def one(n: int) -> bytes:
                action = Action(tool=TOOL, arguments=ARGUMENTS, tool_call_id=f"redeem-{time.time_ns()}-{n}")
                async with gate:
                    decision = await agent.evaluate(action, session=sessions[n % len(sessions)])
                return messages.RedeemRequest(
                    decision_id=decision.decision_id,
                    tool=TOOL,
                    arguments=json.dumps(ARGUMENTS).encode(),
                    audience=AUDIENCE,
                ).SerializeToString()

            return await asyncio.gather(*(one(n) for n in range(number)))

    return Target(
        address=stack.grpc,
        method=REDEEM_METHOD,
        bodies=asyncio.run(allowed()),
        metadata=SERVER.metadata(),
        pids=stack.pids,
    )


def decisions(stack: Stack, sessions: Sequence[str]) -> Target:
    """Return a target of decisions in these sessions."""
    bare = workload.target(stack, ())
    bodies = [workload.body(session, tool=TOOL) for session in sessions]
    return replace(bare, bodies=bodies, metadata=RUNTIME.metadata())


@contextlib.contextmanager
def writing(stack: Stack) -> Iterator[None]:
    """Write settings meanwhile; raises what the last write raised."""
    stop = threading.Event()
    failed: list[PlacetError] = []

    def write() -> None:
        due, n = time.monotonic(), 0
        with Client(stack.grpc, identity=OPERATOR, timeout=workload.DEADLINE) as admin:
            while not stop.wait(max(0.0, due - time.monotonic())):
                n += 1
                due += 1 / WRITES_PER_SECOND
                try:
                    admin.put_tenant(_SETTINGS[n % 2])
                except PlacetError as exc:
                    failed.append(exc)
                    return

    thread = threading.Thread(target=write, name="writer")
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
    if failed:
        raise failed[0]
