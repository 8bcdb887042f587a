"""Two replicas on one database behave as one."""

from __future__ import annotations

import asyncio
import urllib.request
from collections import Counter
from dataclasses import dataclass, field

import pytest

from placet import AsyncClient, Decision, DevIdentity
from tests.e2e.scene import AGENT, BOUNDARY, PRINCIPAL, TOOLS, codes, new_call, pay, read
from tests.processes import PATIENCE
from tests.stack import RealPdp, RunningStack

CALLS = 64


class Both:
    """Callers of one tenant on both replicas."""

    def __init__(self, stack: RunningStack) -> None:
        self.replicas = [RealPdp(stack=stack, replica=number) for number in (1, 2)]
        self.tenant = self.replicas[0].fresh_tenant()

    def client(self, replica: int, subject: str, *roles: str, agents: tuple[str, ...] = ()) -> AsyncClient:
        identity = DevIdentity(tenant=self.tenant, subject=subject, roles=roles, agents=agents)
        return AsyncClient(self.replicas[replica].target, identity=identity, timeout=PATIENCE)

    async def session(self) -> str:
        return await self.session_of(new_call())

    async def session_of(self, task: str) -> str:
        async with self.client(0, "ops", "operator") as operator:
            await operator.put_tenant({})
            await operator.put_agents([{"agent": AGENT, "trust": 0.9}])
            await operator.put_tools(TOOLS)
        async with self.client(0, "issuer", "session_issuer") as issuer:
            opened = await issuer.open_session(task=task, principal=PRINCIPAL, agent=AGENT, boundary=BOUNDARY)
        return opened.session_id

    def judged(self) -> int:
        """How often policy was asked, on both."""
        return sum(_stage_count(replica.http_url, "decide") for replica in self.replicas)

    async def ask_at_once(self, actions: list[dict[str, object]], session: str) -> list[Decision]:
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


@dataclass(kw_only=True)
class Changes:
    """What was written, by revision, and the latest revision that a call now must rest on."""

    written: dict[int, float] = field(default_factory=dict)
    latest: int = 0


async def test_change_under_load_holds_on_both_replicas_from_its_answer_on(both: Both) -> None:
    """No call that begins after the answer rests on what was before it, whichever replica it meets."""
    sessions = [await both.session_of(f"T-{number}") for number in range(4)]
    changes, answered, done = Changes(), asyncio.Semaphore(0), asyncio.Event()

    async def act(client: AsyncClient, session: str) -> None:
        while not done.is_set():
            since = changes.latest
            decision = await client.evaluate(pay(3000), session=session)
            assert decision.failure is None, decision.failure
            revision = decision.data_revisions["settings"]
            assert revision >= since
            # The answer to a change may still be on its way to the operator.
            threshold = 4000 if revision % 2 else 2000
            assert changes.written.get(revision, threshold) == threshold
            assert decision.effect == ("allow" if threshold == 4000 else "escalate"), codes(decision)
            answered.release()

    async with (
        both.client(0, "svc", "agent", agents=(AGENT,)) as first,
        both.client(1, "svc", "agent", agents=(AGENT,)) as second,
        both.client(0, "ops", "operator") as here,
        both.client(1, "ops", "operator") as there,
        asyncio.TaskGroup() as acting,
    ):
        threshold, most = {0: 2000, 1: 4000}, {"max": 1_000_000, "window_seconds": 60, "on_exceed": "block"}
        revision = 0
        while revision % 2 == 0:
            revision = await here.put_tenant(
                {"large_amount": {"EUR": threshold[1]}, "velocity": {"payments": most}}
            )
        changes.written[revision], changes.latest = threshold[1], revision
        for session in sessions:
            for client in (first, second):
                acting.create_task(act(client, session))
        for change in range(20):
            for _ in range(8):
                await answered.acquire()
            amount = threshold[(revision + 1) % 2]
            operator = (here, there)[change % 2]
            revision = await operator.put_tenant(
                {"large_amount": {"EUR": amount}, "velocity": {"payments": most}}
            )
            changes.written[revision], changes.latest = amount, revision
        done.set()


async def test_client_that_knows_the_keys_address_verifies_every_replica(both: Both) -> None:
    session = await both.session()
    identity = DevIdentity(tenant=both.tenant, subject="svc", roles=["agent"], agents=[AGENT])
    address = f"{both.replicas[0].http_url}/.well-known/jwks.json"
    for replica in both.replicas:
        async with AsyncClient(replica.target, identity=identity, timeout=PATIENCE, jwks=address) as pep:
            decision = await pep.evaluate(read(), session=session)
        assert (decision.allowed, decision.receipt_status) == (True, "verified")
