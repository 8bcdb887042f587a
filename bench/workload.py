"""What callers ask for in the bench: payments that policy allows, in many sessions or one, each a new call.

A payment is the dearest of the ordinary actions: resource, amount and currency are derived, and every
rule has something to look at.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from bench.drive import MARKER, Target
from bench.stack import Stack
from pdp.dev.story import story
from placet import Agent, AmountLimit, AsyncClient, Boundary, DevIdentity, ResourceRule, Task
from placet.v1 import decision_pb2
from placet.v1 import decision_service_pb2 as messages

TENANT = "bench"
AGENT = "agent:payer"
DEADLINE = 60.0
OPERATOR = DevIdentity(tenant=TENANT, subject="ops", roles=("operator",))
ISSUER = DevIdentity(tenant=TENANT, subject="svc-tasks", roles=("session_issuer",))
RUNTIME = DevIdentity(tenant=TENANT, subject="svc-ap", roles=("agent",), agents=(AGENT,))
# The bundle's default would escalate as many payments as the bench makes, and the bench measures allows.
SETTINGS: dict[str, Any] = {
    "velocity": {"payments": {"max": 1_000_000, "window_seconds": 60, "on_exceed": "escalate"}},
    # The sessions that the bench seeds are rows, and have no tokens.
    "session_proof": "id",
}
METHOD = "/placet.v1.DecisionService/Evaluate"
STREAM_METHOD = "/placet.v1.DecisionService/EvaluateStream"
# The reason that stands in the answer to an allowed action.
ALLOWED = "task.within_boundary"
OPENING_AT_ONCE = 32


async def prepare(address: str) -> None:
    """Write what operators of the bench's tenant write. Writing it again harms nothing."""
    async with AsyncClient(address, identity=OPERATOR, timeout=DEADLINE) as admin:
        await admin.put_tenant(SETTINGS)
        await admin.put_agents([Agent(agent=AGENT, owner="accounts-payable", trust=0.8)])
        await admin.put_tools(story().fixture.tools)


async def open_sessions(address: str, number: int) -> list[str]:
    """Open new sessions in which the agent may pay; return their ids."""
    run = secrets.token_hex(4)
    gate = asyncio.Semaphore(OPENING_AT_ONCE)
    async with AsyncClient(address, identity=ISSUER, timeout=DEADLINE) as tasks:

        async def one(n: int) -> str:
            async with gate:
                session = await tasks.open_session(
                    task=Task(id=f"bench-{run}-{n}", prompt="Check and pay the invoices of this week."),
                    principal="user:anna",
                    agent=AGENT,
                    boundary=Boundary(
                        tools=("invoices.get", "invoices.approve", "payments.create"),
                        resources=(
                            ResourceRule(type="invoice", id="INV-1001"),
                            ResourceRule(type="invoice", id="INV-1002"),
                        ),
                        amounts=(AmountLimit(currency="EUR", per_action=Decimal(5000)),),
                    ),
                )
                return session.session_id

        return await asyncio.gather(*(one(n) for n in range(number)))


def body(session_id: str, *, tool: str = "payments.create") -> bytes:
    """An encoded EvaluateRequest with the marker where the call's id goes."""
    arguments = {"invoice": "INV-1001"}
    if tool == "payments.create":
        arguments |= {"amount": "12.50", "currency": "EUR"}
    request = messages.EvaluateRequest(
        action=decision_pb2.Action(
            tool=tool,
            arguments=json.dumps(arguments).encode(),
            tool_call_id=MARKER,
            intent="Pay invoice INV-1001 as Anna asked.",
        ),
        session_id=session_id,
        attempt_id=MARKER,
    )
    return request.SerializeToString()


def stream_body(unary: bytes) -> bytes:
    """An encoded EvaluateStreamRequest around an encoded EvaluateRequest."""
    request = messages.EvaluateRequest.FromString(unary)
    action = messages.StreamedAction(id=MARKER, request=request)
    return messages.EvaluateStreamRequest(actions=[action]).SerializeToString()


def target(stack: Stack, sessions: Sequence[str]) -> Target:
    """Payments spread evenly over the sessions, by unary calls to the stack's PDP."""
    return Target(
        address=stack.grpc,
        method=METHOD,
        bodies=[body(session) for session in sessions],
        metadata=RUNTIME.metadata(),
        expect=(MARKER, ALLOWED),
        pids=stack.pids,
    )
