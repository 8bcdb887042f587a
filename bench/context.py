"""A payment with all that a task can have around it, in a tenant of its own, and a database that is full.

Beside the payment of `bench.workload`: a chain of grants, the last one narrower, a template, attribute
rules, entities and what they name, a business key, totals, counts and velocity of every boundary, budgets.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import psycopg

from bench import workload
from bench.drive import MARKER, Target
from bench.stack import Stack
from placet import Agent, AsyncClient, DevIdentity, Hop, Task
from placet.v1 import decision_pb2
from placet.v1 import decision_service_pb2 as messages

TENANT = "bench-context"
AGENTS = ("agent:orchestrator", "agent:clerk", "agent:payer")
OPERATOR = DevIdentity(tenant=TENANT, subject="ops", roles=("operator",))
ISSUER = DevIdentity(tenant=TENANT, subject="svc-tasks", roles=("session_issuer",))
RUNTIME = DevIdentity(tenant=TENANT, subject="svc-ap", roles=("agent",), agents=AGENTS)
# Rows of one INSERT.
CHUNK = 50_000

# The limits are so high that every payment of a run is allowed.
_PLENTY, _MANY = "1000000000.00", 1_000_000
BOUNDARY: dict[str, Any] = {
    "tools": ["payments.create"],
    "resources": [
        {"type": "invoice", "ids": ["INV-1001", "INV-1002"]},
        {"type": "vendor", "attribute": {"of_type": "invoice", "attribute": "vendor"}},
    ],
    "amounts": [
        {"currency": "EUR", "per_action": "5000.00", "total": _PLENTY, "per_counterparty": _PLENTY},
    ],
    "max_actions": _MANY,
    "velocity": [{"effects": ["pay"], "max": _MANY, "window_seconds": 60}],
}
# What the last agent gets: less of an amount, less in all, fewer actions.
NARROWER = BOUNDARY | {
    "amounts": [
        {"currency": "EUR", "per_action": "100.00", "total": "999999999.00", "per_counterparty": _PLENTY},
    ],
    "max_actions": _MANY - 1,
}
SETTINGS = workload.SETTINGS | {
    "boundary_template": BOUNDARY,
    "budgets": [
        {"name": "all", "scope": "tenant", "currency": "EUR", "max": _PLENTY, "on_exceed": "block"},
        {"name": "payee", "scope": "counterparty", "currency": "EUR", "max": _PLENTY, "on_exceed": "block"},
    ],
}
TOOL: dict[str, Any] = {
    "name": "payments.create",
    "effect": "pay",
    "resource": "invoice:{invoice}",
    "arguments_schema": {
        "type": "object",
        "properties": {
            name: {"type": "string", "maxLength": 64}
            for name in ("invoice", "vendor", "reference", "amount", "currency")
        },
        "required": ["invoice", "vendor", "reference", "amount", "currency"],
        "additionalProperties": False,
    },
    "amount": {"argument": "amount", "unit": "major", "currency_argument": "currency"},
    "argument_roles": {"invoice": "selector", "vendor": "destination"},
    "normalise": {"invoice": ["trim", "upper", "hyphenate"]},
    "business_key": {"arguments": ["invoice", "reference"]},
    "entities": [
        {
            "name": "invoice",
            "type": "invoice",
            "id": "{invoice}",
            "role": "record",
            "amount_attribute": "amount",
            "currency_attribute": "currency",
        },
        {
            "name": "vendor",
            "type": "vendor",
            "id": "{vendor}",
            "role": "counterparty",
            "must_match": {"entity": "invoice", "attribute": "vendor"},
        },
        {
            "name": "order",
            "type": "po",
            "via": {"entity": "invoice", "attribute": "po"},
            "role": "order",
            "amount_attribute": "open",
        },
    ],
}
ENTITIES: list[dict[str, Any]] = [
    {"type": "vendor", "id": "V-1", "attributes": {"name": "Nordwind GmbH", "status": "active"}},
    {"type": "po", "id": "PO-77", "attributes": {"vendor": "V-1", "open": _PLENTY}},
    *(
        {
            "type": "invoice",
            "id": invoice,
            "attributes": {"vendor": "V-1", "amount": _PLENTY, "currency": "EUR", "po": "PO-77"},
        }
        for invoice in ("INV-1001", "INV-1002")
    ),
]

# Copies a row and changes the named columns only, whatever other columns the table has.
_MORE_ENTITIES = """
    INSERT INTO placet.entities
    SELECT (jsonb_populate_record(e, jsonb_build_object('id', 'INV-seed-' || n))).*
    FROM placet.entities e, generate_series(%(first)s, %(last)s) n
    WHERE e.tenant = %(tenant)s AND e.type = 'invoice' AND e.id = 'INV-1001'
"""
_MORE_SESSIONS = """
    INSERT INTO placet.sessions
    SELECT (jsonb_populate_record(s, jsonb_build_object(
        'session_id', %(run)s || '-' || n, 'task_id', %(run)s || '-' || n))).*
    FROM placet.sessions s, generate_series(%(first)s, %(last)s) n
    WHERE s.tenant = %(tenant)s AND s.session_id = %(session)s
"""


async def prepare(address: str) -> None:
    """Write what operators of the tenant write. Writing it again harms nothing."""
    async with AsyncClient(address, identity=OPERATOR, timeout=workload.DEADLINE) as admin:
        await admin.put_tenant(SETTINGS)
        await admin.put_agents([Agent(agent=agent, owner="ap", trust=0.8) for agent in AGENTS])
        await admin.put_tools([TOOL])
        await admin.put_entities(ENTITIES)


async def open_sessions(address: str, number: int) -> list[bytes]:
    """Open sessions whose work is handed on twice; return what the last agent asks in each, encoded."""
    run = secrets.token_hex(4)
    gate = asyncio.Semaphore(workload.OPENING_AT_ONCE)
    async with (
        AsyncClient(address, identity=ISSUER, timeout=workload.DEADLINE) as tasks,
        AsyncClient(address, identity=RUNTIME, timeout=workload.DEADLINE) as runtime,
    ):

        async def one(n: int) -> bytes:
            async with gate:
                session = await tasks.open_session(
                    task=Task(id=f"context-{run}-{n}", prompt="Check and pay the invoices of this week."),
                    principal="user:anna",
                    agent=AGENTS[0],
                    boundary=BOUNDARY,
                )
                chain: Sequence[Hop] = ()
                for agent, boundary in ((AGENTS[1], None), (AGENTS[2], NARROWER)):
                    grant = await runtime.delegate(
                        session, chain, to_agent=agent, boundary=boundary, purpose="pay"
                    )
                    chain = grant.chain
                return body(session.session_id, chain)

        return await asyncio.gather(*(one(n) for n in range(number)))


def body(session_id: str, chain: Sequence[Hop]) -> bytes:
    """An encoded EvaluateRequest with the marker where the call's id goes, and the payment's own name."""
    arguments = {
        "invoice": "inv 1001",
        "vendor": "V-1",
        "reference": MARKER,
        "amount": "12.50",
        "currency": "EUR",
    }
    return messages.EvaluateRequest(
        action=decision_pb2.Action(
            tool="payments.create",
            arguments=json.dumps(arguments).encode(),
            tool_call_id=MARKER,
            intent="Pay invoice INV-1001 as Anna asked.",
        ),
        session_id=session_id,
        chain=decision_pb2.DelegationChain(
            hops=[decision_pb2.Hop(agent=hop.agent, grant=hop.grant) for hop in chain]
        ),
        attempt_id=MARKER,
    ).SerializeToString()


def target(stack: Stack, sessions: int) -> Target:
    """Return a target that makes such payments in so many new sessions."""
    asyncio.run(prepare(stack.grpc))
    bare = workload.target(stack, ())
    return replace(bare, bodies=asyncio.run(open_sessions(stack.grpc, sessions)), metadata=RUNTIME.metadata())


def fill(stack: Stack, *, entities: int, sessions: int, say: Callable[[str], None]) -> None:
    """Add so many entities and open sessions to the tenant; `prepare` must have run."""
    asyncio.run(open_sessions(stack.grpc, 1))
    run = f"seed-{secrets.token_hex(4)}"
    # Values go in as literals, whose types PostgreSQL finds by itself.
    with psycopg.connect(
        stack.database_url, autocommit=True, cursor_factory=psycopg.ClientCursor
    ) as connection:
        row = connection.execute(
            "SELECT session_id FROM placet.sessions WHERE tenant = %s LIMIT 1", [TENANT]
        ).fetchone()
        assert row is not None  # opened above
        shared = {"tenant": TENANT, "run": run, "session": row[0]}
        for what, total, statement in (
            ("entities", entities, _MORE_ENTITIES),
            ("open sessions", sessions, _MORE_SESSIONS),
        ):
            for first in range(0, total, CHUNK):
                last = min(first + CHUNK, total) - 1
                connection.execute(statement, {**shared, "first": first, "last": last})
                say(f"  {last + 1:,} of {total:,} {what}")
        connection.execute("ANALYZE")
