"""What is known of vendors, invoices and orders decides, as it is now, on every replica."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from placet import AsyncClient, Decision, DevIdentity, Session
from tests.e2e.invoices import APPROVE, BOUNDARY, ENTITIES, PAY, TOOLS, act
from tests.e2e.scene import AGENT, PRINCIPAL, codes, new_call
from tests.support.processes import PATIENCE
from tests.support.stack import RealPdp, RunningStack

SESSIONS = 4


class Payables:
    """A tenant whose payments are measured, and its callers on two replicas."""

    def __init__(self, stack: RunningStack, opened: AsyncExitStack) -> None:
        self._replicas = [RealPdp(stack=stack, replica=number) for number in (1, 2)]
        self._tenant = self._replicas[0].fresh_tenant()
        self._opened = opened
        self.agents: list[AsyncClient] = []
        self.operators: list[AsyncClient] = []

    async def open(self) -> None:
        for replica in (0, 1):
            self.agents.append(await self._client(replica, "svc", "agent", agents=(AGENT,)))
            self.operators.append(await self._client(replica, "ops", "operator"))
        operator = self.operators[0]
        await operator.put_tenant({})
        await operator.put_agents([{"agent": AGENT, "trust": 0.9}])
        await operator.put_tools(TOOLS)
        await operator.put_entities(ENTITIES)

    async def _client(
        self, replica: int, subject: str, *roles: str, agents: tuple[str, ...] = ()
    ) -> AsyncClient:
        identity = DevIdentity(tenant=self._tenant, subject=subject, roles=roles, agents=agents)
        client = AsyncClient(self._replicas[replica].target, identity=identity, timeout=PATIENCE)
        return await self._opened.enter_async_context(client)

    async def session(self) -> Session:
        issuer = await self._client(0, "issuer", "session_issuer")
        return await issuer.open_session(task=new_call(), principal=PRINCIPAL, agent=AGENT, boundary=BOUNDARY)

    async def ask(
        self,
        tool: str,
        invoice: str,
        vendor: str,
        amount: object,
        *,
        session: Session | None = None,
        replica: int = 0,
    ) -> Decision:
        action = act(tool, invoice, vendor, amount)
        return await self.agents[replica].evaluate(action, session=session or await self.session())


@pytest.fixture
async def payables(real_stack: RunningStack) -> AsyncIterator[Payables]:
    async with AsyncExitStack() as opened:
        payables = Payables(real_stack, opened)
        await payables.open()
        yield payables


@pytest.mark.parametrize(
    ("invoice", "vendor", "amount", "answer"),
    [
        ("INV-1001", "V-1", 1200, ["task.within_boundary"]),
        ("inv 1001 ", "V-1", 1200, ["task.within_boundary"]),
        ("INV-1001", "V-1", 1224, ["task.within_boundary"]),
        ("INV-1001", "V-1", 1320, ["payment.price_variance"]),
        ("INV-1001", "V-1", 12000, ["payment.amount_over_order"]),
        ("INV-1007", "V-1", 12000, ["payment.dual_control", "payment.large"]),
        ("INV-1008", "V-1", 100, ["payment.order_unknown"]),
        ("INV-9999", "V-1", 100, ["counterparty.mismatch", "payment.record_unknown"]),
        ("INV-1001", "V-3", 1200, ["counterparty.mismatch"]),
    ],
)
async def test_payment_is_measured(
    payables: Payables, invoice: str, vendor: str, amount: int, answer: list[str]
) -> None:
    decision = await payables.ask(PAY, invoice, vendor, amount)
    # A block's reasons may be joined by those that would have escalated.
    assert set(answer) <= set(codes(decision))
    assert decision.allowed == (answer == ["task.within_boundary"])


async def test_vendor_who_is_blocked_between_two_calls_is_blocked(payables: Payables) -> None:
    session = await payables.session()
    before = await payables.ask(APPROVE, "INV-1003", "V-3", 300, session=session)
    blocked = await payables.operators[1].patch_entity("vendor:V-3", {"status": "blocked"})
    after = await payables.ask(APPROVE, "INV-1003", "V-3", 300, session=session)
    assert (before.allowed, codes(after)) == (True, ["counterparty.not_active"])
    assert before.data_revisions["entities"] < after.data_revisions["entities"] == blocked.revision
    # Another one with a name like it.
    assert (await payables.ask(APPROVE, "INV-1005", "V-4", 300)).allowed


async def test_history_says_what_a_decision_knew(payables: Payables) -> None:
    operator = payables.operators[0]
    before = await payables.ask(APPROVE, "INV-1003", "V-3", 300)
    await operator.patch_entity("vendor:V-3", {"status": "blocked"}, unset=["name"])
    known = await operator.get_entity("vendor:V-3", at_revision=before.data_revisions["entities"])
    assert known.attributes == {"name": "Fjord Ltd", "status": "active"}
    history = await operator.entity_history("vendor:V-3")
    assert [(version.attributes, version.written_by) for version in history] == [
        ({"status": "blocked"}, "ops"),
        ({"name": "Fjord Ltd", "status": "active"}, "ops"),
    ]


async def test_block_holds_on_every_replica_at_once_under_load(payables: Payables) -> None:
    """No allow is recorded after the block has been; no later call is allowed, wherever it is asked."""
    sessions = [await payables.session() for _ in range(SESSIONS)]
    asked: list[Decision] = []
    stop, busy = asyncio.Event(), asyncio.Event()

    async def keep_asking(number: int) -> None:
        while not stop.is_set():
            decision = await payables.ask(
                APPROVE, "INV-1003", "V-3", 300, session=sessions[number], replica=number % 2
            )
            asked.append(decision)
            if len(asked) >= 4 * SESSIONS:
                busy.set()

    async with asyncio.TaskGroup() as group:
        for number in range(SESSIONS):
            group.create_task(keep_asking(number))
        await busy.wait()
        blocked = await payables.operators[0].patch_entity("vendor:V-3", {"status": "blocked"})
        later = await asyncio.gather(
            *(payables.ask(APPROVE, "INV-1003", "V-3", 300, replica=number % 2) for number in range(8))
        )
        stop.set()
    assert [decision.failure for decision in (*asked, *later) if decision.failure] == []
    assert {code for decision in later for code in codes(decision)} == {"counterparty.not_active"}
    assert asked[0].allowed
    for decision in (*asked, *later):
        knew = decision.data_revisions["entities"] >= blocked.revision
        assert decision.allowed != knew, decision
