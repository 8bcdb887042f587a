"""A tenant on a running stack, and everybody who calls in its name."""

from __future__ import annotations

import asyncio
import json
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, TypeVar
from uuid import uuid4

import grpc.aio
from google.protobuf.duration_pb2 import Duration

from pdp.dev.stack import Replica, Stack
from placet import AsyncClient, Decision, DevIdentity, NotFoundError, Session, UnavailableError
from placet.v1 import dev_service_pb2, dev_service_pb2_grpc
from tests.support.processes import PATIENCE

AGENT, HELPER, PRINCIPAL = "agent:payer", "agent:helper", "user:anna"
READ, PAY, TRANSFER, UNKNOWN = "invoices.get", "payments.create", "payments.transfer", "shell.run"
BOUNDARY = {"tools": [READ, PAY, TRANSFER], "resources": ["invoice:*"], "amounts": {"EUR": "5000.00"}}
_STRING = {"type": "string"}
_AMOUNT = {"argument": "amount", "unit": "major", "currency_argument": "currency"}
_PAYMENT = {"invoice": _STRING, "amount": {"type": ["number", "string"]}, "currency": _STRING}
TOOLS: list[dict[str, Any]] = [
    {
        "name": READ,
        "effect": "read",
        "resource": "invoice:{invoice}",
        "arguments_schema": {"type": "object", "properties": {"invoice": _STRING}, "required": ["invoice"]},
    },
    {
        "name": PAY,
        "effect": "pay",
        "resource": "invoice:{invoice}",
        "arguments_schema": {"type": "object", "properties": _PAYMENT, "required": list(_PAYMENT)},
        "amount": _AMOUNT,
        "audience": "erp",
    },
    {
        "name": TRANSFER,
        "effect": "pay",
        "resource": "invoice:{invoice}",
        "arguments_schema": {"type": "object", "properties": _PAYMENT | {"pin": _STRING}},
        "amount": _AMOUNT,
        "secret_arguments": ["pin"],
        "audience": "erp",
    },
]

T = TypeVar("T")


@dataclass(kw_only=True)
class Scene:
    """A tenant with its registry written, and clients that check signatures."""

    stack: Stack
    tenant: str
    jwks: dict[str, Any]
    _open: AsyncExitStack
    _clients: dict[tuple[Any, ...], AsyncClient] = field(default_factory=dict)

    async def client(
        self,
        subject: str,
        *roles: str,
        agents: Iterable[str] = (),
        tools: Iterable[str] = (),
        audiences: Iterable[str] = (),
        replica: int = 1,
        address: str = "",
    ) -> AsyncClient:
        """The client of this caller; always the same one."""
        address = address or self.replica(replica).grpc_address
        identity = DevIdentity(
            tenant=self.tenant,
            subject=subject,
            roles=roles,
            agents=agents,
            tools=tools,
            audiences=audiences,
        )
        key = (address, identity)
        if key not in self._clients:
            client = AsyncClient(address, identity=identity, timeout=PATIENCE, jwks=self.jwks)
            self._clients[key] = await self._open.enter_async_context(client)
        return self._clients[key]

    def replica(self, number: int = 1) -> Replica:
        return self.stack.replicas[number - 1]

    async def agent(self, subject: str = "svc-ap", *, replica: int = 1, address: str = "") -> AsyncClient:
        return await self.client(subject, "agent", agents=(AGENT,), replica=replica, address=address)

    async def tool_server(
        self,
        subject: str = "svc-erp",
        *,
        tools: Iterable[str] = ("*",),
        audiences: Iterable[str] = ("erp",),
        replica: int = 1,
    ) -> AsyncClient:
        """The side of the tenant's tools, of some of them, or for other receipts."""
        return await self.client(subject, "tool", tools=tools, audiences=audiences, replica=replica)

    async def operator(self) -> AsyncClient:
        return await self.client("ops", "operator")

    async def auditor(self) -> AsyncClient:
        return await self.client("revision", "auditor")

    async def issuer(self) -> AsyncClient:
        return await self.client("svc-tasks", "session_issuer")

    async def session(self, **options: Any) -> Session:
        """A new task's session."""
        settings: dict[str, Any] = {"principal": PRINCIPAL, "agent": AGENT, "boundary": BOUNDARY} | options
        return await (await self.issuer()).open_session(task=f"T-{uuid4().hex}", **settings)

    async def ask(self, action: Mapping[str, Any], session: Session | str, **options: Any) -> Decision:
        return await (await self.agent()).evaluate(action, session=session, **options)

    async def found(self, replica: int = 1) -> None:
        """Wait until calls reach a replica that was away: gRPC looks again after a while only."""
        client = await self.agent(replica=replica)

        async def reached() -> bool:
            try:
                await client.get_session("unknown")
            except NotFoundError:
                return True
            except UnavailableError:
                return False
            return False

        await until(reached, f"replica {replica} is found again")

    async def recorded(self, decision_id: str) -> Decision:
        """The decision as the ledger has it."""
        return await (await self.auditor()).get_decision(decision_id)

    async def advance(self, seconds: float) -> datetime:
        """Move the database's clock forward and return its time."""
        metadata = DevIdentity(tenant=self.tenant, subject="ops", roles=("operator",)).metadata()
        by = Duration()
        by.FromTimedelta(timedelta(seconds=seconds))
        async with grpc.aio.insecure_channel(self.replica().grpc_address) as channel:
            answer = await dev_service_pb2_grpc.DevServiceStub(channel).AdvanceClock(
                dev_service_pb2.AdvanceClockRequest(by=by), metadata=metadata, timeout=PATIENCE
            )
        now: datetime = answer.now.ToDatetime()
        return now


@asynccontextmanager
async def set_scene(stack: Stack) -> AsyncIterator[Scene]:
    tenant = f"t-{uuid4().hex[:12]}"
    async with AsyncExitStack() as opened:
        keys = await jwks(stack.replicas[0])
        scene = Scene(stack=stack, tenant=tenant, jwks=keys, _open=opened)
        operator = await scene.operator()
        await operator.put_tenant({})
        await operator.put_agents([{"agent": AGENT, "owner": "ap", "trust": 0.8, "model": "m-1"}])
        await operator.put_tools(TOOLS)
        yield scene


def new_call() -> str:
    return f"call-{uuid4().hex[:12]}"


def read(invoice: str = "INV-1", call: str = "") -> dict[str, Any]:
    return {"tool": READ, "arguments": {"invoice": invoice}, "tool_call_id": call or new_call()}


def pay(amount: object = 100, call: str = "", **members: Any) -> dict[str, Any]:
    arguments = {"invoice": "INV-1", "amount": amount, "currency": "EUR"}
    return {"tool": PAY, "arguments": arguments, "tool_call_id": call or new_call()} | members


def codes(decision: Decision) -> list[str]:
    return [reason.code for reason in decision.reasons]


async def until(look: Callable[[], Awaitable[T]], what: str) -> T:
    """Look until there is something truthy, and return it."""
    limit = time.monotonic() + PATIENCE
    while not (seen := await look()):
        assert time.monotonic() < limit, f"not within {PATIENCE:.0f} s: {what}"
        await asyncio.sleep(0.05)
    return seen


async def fetch(url: str) -> tuple[int, str]:
    """Status and body of a GET, whatever the status."""

    def get() -> tuple[int, str]:
        try:
            with urllib.request.urlopen(url, timeout=PATIENCE) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as exc:
            with exc:
                return exc.code, exc.read().decode()

    return await asyncio.to_thread(get)


async def jwks(replica: Replica) -> dict[str, Any]:
    """The published keys, as an auditor fetches them."""
    status, body = await fetch(f"{replica.http_url}/.well-known/jwks.json")
    assert status == 200, body
    keys: dict[str, Any] = json.loads(body)
    return keys


async def missing(replica: Replica) -> dict[str, str]:
    """What /readyz says is missing, by name; empty if the replica is ready."""
    status, body = await fetch(f"{replica.http_url}/readyz")
    checks = {name: state for name, state in json.loads(body)["checks"].items() if state != "ok"}
    assert (status == 200) == (not checks), (status, body)
    return checks


async def failed_closed(replica: Replica) -> dict[str, float]:
    """placet_fail_closed_total by cause."""
    _, body = await fetch(f"{replica.http_url}/metrics")
    found = {}
    for line in body.splitlines():
        if line.startswith("placet_fail_closed_total{"):
            labels, value = line.rsplit(" ", 1)
            found[labels.split('cause="')[1].split('"')[0]] = float(value)
    return found


async def measured(replica: Replica, name: str) -> float:
    """The sum of a metric over its labels that `name` does not state."""
    _, body = await fetch(f"{replica.http_url}/metrics")
    return sum(float(line.rsplit(" ", 1)[1]) for line in body.splitlines() if line.startswith(name))
