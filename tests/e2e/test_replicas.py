"""Two replicas on one database behave as one."""

from __future__ import annotations

import asyncio
import urllib.request
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import psycopg
import pytest
import yaml

from pdp.dev.local_postgres import LOGIN, SUPERUSER
from placet import AsyncClient, Decision, DevIdentity, OverloadedError, Session
from placet.receipt import parse
from tests.e2e.scene import AGENT, BOUNDARY, PAY, PRINCIPAL, TOOLS, codes, new_call, pay, read
from tests.support.processes import PATIENCE
from tests.support.stack import RealPdp, RunningStack

CALLS = 64


class Both:
    """Callers of one tenant on both replicas."""

    def __init__(self, stack: RunningStack) -> None:
        self._stack = stack
        self.replicas = [RealPdp(stack=stack, replica=number) for number in (1, 2)]
        self.tenant = self.replicas[0].fresh_tenant()

    def client(self, replica: int, subject: str, *roles: str, agents: tuple[str, ...] = ()) -> AsyncClient:
        identity = DevIdentity(tenant=self.tenant, subject=subject, roles=roles, agents=agents)
        return AsyncClient(self.replicas[replica].target, identity=identity, timeout=PATIENCE)

    async def session(self) -> Session:
        (session,) = await self.sessions(1)
        return session

    async def sessions(self, number: int) -> list[Session]:
        async with self.client(0, "ops", "operator") as operator:
            await operator.put_tenant({})
            await operator.put_agents([{"agent": AGENT, "trust": 0.9}])
            await operator.put_tools(TOOLS)
        async with self.client(0, "issuer", "session_issuer") as issuer:
            return [
                await issuer.open_session(
                    task=new_call(), principal=PRINCIPAL, agent=AGENT, boundary=BOUNDARY
                )
                for _ in range(number)
            ]

    async def ledger(self) -> list[tuple[str, dict[str, Any]]]:
        """Every decision of the tenant that the ledger holds: its id, and what its receipt says."""
        config = yaml.safe_load((self._stack.data_dir / "pdp-1.yaml").read_text())
        url = config["database_url"].replace(LOGIN, SUPERUSER)
        async with await psycopg.AsyncConnection.connect(url) as database:
            rows = await database.execute(
                "SELECT decision_id, jws FROM placet.ledger WHERE tenant = %s AND kind = 'decision'",
                [self.tenant],
            )
            return [(row[0], parse(row[1] + b"~").claims) async for row in rows]

    def judged(self) -> int:
        """How often policy was asked, on both."""
        return sum(_stage_count(replica.http_url, "decide") for replica in self.replicas)

    async def ask_at_once(self, actions: list[dict[str, object]], session: Session) -> list[Decision]:
        """Send the actions to the replicas in turn, all at once."""
        async with (
            self.client(0, "svc", "agent", agents=(AGENT,)) as first,
            self.client(1, "svc", "agent", agents=(AGENT,)) as second,
        ):
            return await asyncio.gather(
                *(
                    (first, second)[index % 2].evaluate(action, session=session)
                    for index, action in enumerate(actions)
                )
            )


def _stage_count(url: str, stage: str) -> int:
    with urllib.request.urlopen(f"{url}/metrics", timeout=PATIENCE) as answer:
        for line in answer.read().decode().splitlines():
            if line.startswith(f'placet_stage_duration_seconds_count{{stage="{stage}"}}'):
                return int(float(line.split()[-1]))
    return 0


@pytest.fixture
def both(real_stack: RunningStack) -> Both:
    return Both(real_stack)


async def test_hot_session_decides_every_call_with_few_judgements(both: Both) -> None:
    session, before = await both.session(), both.judged()
    decisions = await both.ask_at_once([read() for _ in range(CALLS)], session)
    assert [decision.failure for decision in decisions if decision.failure] == []
    assert Counter(str(decision.effect) for decision in decisions) == {"allow": CALLS}
    versions = sorted(decision.session_version for decision in decisions)
    assert versions == list(range(2, CALLS + 2))
    # At most two judgements more for each decision, on average.
    assert both.judged() - before <= 3 * CALLS


async def test_window_of_payments_holds_across_replicas(both: Both) -> None:
    decisions = await both.ask_at_once([pay(1) for _ in range(20)], await both.session())
    found = Counter(code for decision in decisions for code in codes(decision))
    assert found == {"task.within_boundary": 5, "velocity.payments": 15}


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """Something that operators write, in two versions: one that allows a payment, and one that does not."""

    # Its revision in a decision's `data_revisions`.
    revision: str
    write: Callable[[AsyncClient, bool], Awaitable[int]]
    otherwise: str


def _settings(client: AsyncClient, allows: bool) -> Awaitable[int]:
    return client.put_tenant(
        {"large_amount": {"EUR": 4000 if allows else 2000}, "velocity": {"payments": _ANY_NUMBER}}
    )


def _trust(client: AsyncClient, allows: bool) -> Awaitable[int]:
    return client.put_agents([{"agent": AGENT, "trust": 0.9 if allows else 0.1}])


def _tool(client: AsyncClient, allows: bool) -> Awaitable[int]:
    (tool,) = (tool for tool in TOOLS if tool["name"] == PAY)
    schema = tool["arguments_schema"] | {"required": ["invoice"] if allows else ["invoice", "reference"]}
    return client.put_tools([tool | {"arguments_schema": schema}])


_ANY_NUMBER = {"max": 1_000_000, "window_seconds": 60, "on_exceed": "block"}
CHANGES = [
    Change(revision="settings", write=_settings, otherwise="payment.large"),
    Change(revision="agents", write=_trust, otherwise="trust.below_floor"),
    Change(revision="tools", write=_tool, otherwise="registry.arguments_invalid"),
]


async def as_often_as_permitted(write: Callable[[], Awaitable[int]]) -> int:
    """Write, and wait as the server says where a tenant's writes have come too fast."""
    while True:
        try:
            return await write()
        except OverloadedError as exc:
            if exc.retry_after is None:
                raise
            await asyncio.sleep(exc.retry_after.total_seconds())


@dataclass(kw_only=True)
class Written:
    """What was written under which revision, the latest that a call now must rest on, and what
    the ledger held when each was acknowledged."""

    allows: dict[int, bool] = field(default_factory=dict)
    latest: int = 0
    recorded: dict[int, set[str]] = field(default_factory=dict)


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.revision)
async def test_change_under_load_holds_on_both_replicas_from_its_answer_on(
    both: Both, change: Change
) -> None:
    """No call that begins after the answer rests on what was before it, whichever replica it meets;
    and nothing that rests on it is recorded after the answer, whenever its call began."""
    sessions = await both.sessions(4)
    written, answered, done = Written(), asyncio.Semaphore(0), asyncio.Event()

    async def act(client: AsyncClient, session: Session) -> None:
        while not done.is_set():
            since = written.latest
            decision = await client.evaluate(pay(3000), session=session)
            assert decision.failure is None, decision.failure
            revision = decision.data_revisions[change.revision]
            assert revision >= since
            # The answer to a change may still be on its way to the operator.
            if revision in written.allows:
                assert decision.allowed == written.allows[revision], codes(decision)
            assert decision.allowed or change.otherwise in codes(decision)
            answered.release()

    async def write(operator: AsyncClient, allows: bool) -> None:
        revision = await as_often_as_permitted(lambda: change.write(operator, allows))
        written.allows[revision], written.latest = allows, revision
        written.recorded[revision] = {decision_id for decision_id, _ in await both.ledger()}

    async with (
        both.client(0, "svc", "agent", agents=(AGENT,)) as first,
        both.client(1, "svc", "agent", agents=(AGENT,)) as second,
        both.client(0, "ops", "operator") as here,
        both.client(1, "ops", "operator") as there,
        asyncio.TaskGroup() as acting,
    ):
        await here.put_tenant({"large_amount": {"EUR": 4000}, "velocity": {"payments": _ANY_NUMBER}})
        await write(here, True)
        for session in sessions:
            for client in (first, second):
                acting.create_task(act(client, session))
        for number in range(20):
            for _ in range(8):
                await answered.acquire()
            await write((here, there)[number % 2], number % 2 == 1)
        done.set()
    decided: Counter[bool] = Counter()
    for decision_id, claims in await both.ledger():
        if claims["act"]["tool"] != PAY:
            continue
        revision = claims["data"][change.revision]
        allowed = claims["effect"] == "allow"
        assert allowed == written.allows[revision], claims
        decided[allowed] += 1
        for acknowledged, before in written.recorded.items():
            assert revision >= acknowledged or decision_id in before, "recorded after the change"
    assert decided[True] > 10 < decided[False]


async def test_client_that_knows_the_keys_address_verifies_every_replica(both: Both) -> None:
    session = await both.session()
    identity = DevIdentity(tenant=both.tenant, subject="svc", roles=["agent"], agents=[AGENT])
    address = f"{both.replicas[0].http_url}/.well-known/jwks.json"
    for replica in both.replicas:
        async with AsyncClient(replica.target, identity=identity, timeout=PATIENCE, jwks=address) as pep:
            decision = await pep.evaluate(read(), session=session)
        assert (decision.allowed, decision.receipt_status) == (True, "verified")
