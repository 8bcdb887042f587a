"""Histories of one order on the real stack, beside a judge that knows nothing of the server.

Payments on two replicas, alone and in a rush; postings that are late, partial, doubled and amended; figures
that are amended, and an order that is put anew; reports that can be believed, and some that cannot.
"""

from __future__ import annotations

import asyncio
import random
from fractions import Fraction
from typing import Any

import pytest

from placet import AsyncClient, Decision, Session
from tests.e2e.invoices import entity
from tests.e2e.scene import Scene, codes
from tests.e2e.test_order_use import BOUND, SETTINGS, act, tools
from tests.support.orders import Judge

pytestmark = pytest.mark.asyncio(loop_scope="session")

STEPS = 30
ORDER = "po:PO-1"
KINDS = ["pay"] * 5 + ["rush", "release", "agent", "post", "post", "amend", "amend", "anew"]


class History:
    """One order, as the server and as the judge know it. Amounts are whole euros."""

    def __init__(self, scene: Scene, seed: int) -> None:
        self.random = random.Random(seed)
        self.scene = scene
        self.linked = seed % 2 == 0
        self.judge = Judge(
            linked=self.linked,
            tolerance=Fraction(self.random.choice([0, 5, 20]), 100),
            open=self.random.randint(0, 1500),
            total=self.random.choice([None, self.random.randint(0, 1500)]),
        )
        # The decision of each allow, in the judge's order.
        self.allowed: list[Decision] = []
        self.invoices = 0

    async def begin(self) -> None:
        operator = await self.scene.operator()
        await operator.put_tenant(SETTINGS | {"po_tolerance": float(self.judge.tolerance)})
        words = {"total_attribute": "total", "open_attribute": "open"}
        await operator.put_tools(tools(**words | ({"posted": "linked"} if self.linked else {})))
        await operator.put_entities(
            [
                entity("vendor:V-1", status="active"),
                # Each invoice is large enough, so that the order alone decides.
                *(
                    entity(f"invoice:INV-{n}", vendor="V-1", amount="9999", currency="EUR", po="PO-1")
                    for n in range(8 * STEPS)
                ),
            ]
        )
        await self.put_anew({})

    def figures(self) -> dict[str, Any]:
        told = {"open": str(self.judge.open)}
        return told if self.judge.total is None else told | {"total": str(self.judge.total)}

    async def put_anew(self, posted: dict[str, str]) -> None:
        operator = await self.scene.operator()
        await operator.put_entities([entity(ORDER, **self.figures()) | {"posted": posted}])

    async def ask(self, client: AsyncClient, session: Session, amount: int) -> Decision:
        self.invoices += 1
        return await client.evaluate(act(self.invoices, amount), session=session)

    async def step(self, kind: str) -> None:
        await getattr(self, f"_{kind}")()

    async def _pay(self) -> None:
        amount = self.random.randint(1, 700)
        client = await self.scene.agent(replica=1 + self.invoices % 2)
        decision = await self.ask(client, await self.scene.session(boundary=BOUND), amount)
        self.compare(decision, amount)

    async def _rush(self) -> None:
        """The same amount four times at once: whoever comes first, as many get through."""
        amount = self.random.randint(1, 400)
        clients = [await self.scene.agent(replica=1 + n % 2) for n in range(4)]
        sessions = [await self.scene.session(boundary=BOUND) for _ in clients]
        decisions = await asyncio.gather(
            *(self.ask(client, session, amount) for client, session in zip(clients, sessions, strict=True))
        )
        for decision in sorted(decisions, key=lambda decision: not decision.allowed):
            self.compare(decision, amount)

    def compare(self, decision: Decision, amount: int) -> None:
        assert decision.failure is None
        assert decision.allowed is self.judge.permits(amount), (self.judge, amount, codes(decision))
        in_force = any(not allow.released for allow in self.judge.allows)
        if decision.allowed:
            self.judge.allow(amount)
            self.allowed.append(decision)
        else:
            # The first payment is for the rules on one amount.
            assert ("payment.order_used" in codes(decision)) is in_force, codes(decision)

    def _any(self) -> int | None:
        return self.random.randrange(len(self.allowed)) if self.allowed else None

    async def _release(self) -> None:
        number = self._any()
        if number is not None and not self.judge.allows[number].released:
            tool = await self.scene.tool_server()
            await tool.report_outcome(self.allowed[number].decision_id, "not_executed")
            self.judge.allows[number].released = True

    async def _agent(self) -> None:
        """What the agent's side says frees nothing."""
        number = self._any()
        if number is not None:
            decision = self.allowed[number]
            operator = await self.scene.client("user:anna")
            await operator.report_outcome(decision.decision_id, "unknown")

    async def _post(self) -> None:
        number = self._any()
        if number is None:
            return
        allow, amount = self.judge.allows[number], self.random.randint(0, 800)
        operator = await self.scene.operator()
        for _ in range(self.random.choice([1, 2])):
            await operator.patch_entity(ORDER, posted={self.allowed[number].decision_id: amount})
        allow.posted = min(amount, allow.amount)

    async def _amend(self) -> None:
        self.judge.open = self.random.randint(0, 1800)
        self.judge.total = self.random.choice([self.judge.total, None, self.random.randint(0, 1800)])
        operator = await self.scene.operator()
        unset = ["total"] if self.judge.total is None else []
        await operator.patch_entity(ORDER, self.figures(), unset=unset)

    async def _anew(self) -> None:
        """Deleted and put anew with some of the postings: nothing else is contained."""
        operator = await self.scene.operator()
        await operator.delete_entities([ORDER])
        posted = {}
        for allow, decision in zip(self.judge.allows, self.allowed, strict=True):
            if allow.posted and self.random.random() < 0.5:
                posted[decision.decision_id] = str(allow.posted)
            else:
                allow.posted = 0
        await self.put_anew(posted)


@pytest.mark.parametrize("seed", range(6))
async def test_history_comes_out_as_the_judge_says(scene: Scene, seed: int) -> None:
    history = History(scene, seed)
    await history.begin()
    for _ in range(STEPS):
        await history.step(history.random.choice(KINDS))
    assert 0 < len(history.allowed) < history.invoices
