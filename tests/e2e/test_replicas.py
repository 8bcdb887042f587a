"""Two replicas on one database behave as one."""

from __future__ import annotations

import asyncio
import urllib.request
from collections import Counter

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
        async with self.client(0, "ops", "operator") as operator:
            await operator.put_tenant({})
            await operator.put_agents([{"agent": AGENT, "trust": 0.9}])
            await operator.put_tools(TOOLS)
        async with self.client(0, "issuer", "session_issuer") as issuer:
            opened = await issuer.open_session(
                task=new_call(), principal=PRINCIPAL, agent=AGENT, boundary=BOUNDARY
            )
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


async def test_client_that_knows_the_keys_address_verifies_every_replica(both: Both) -> None:
    session = await both.session()
    identity = DevIdentity(tenant=both.tenant, subject="svc", roles=["agent"], agents=[AGENT])
    address = f"{both.replicas[0].http_url}/.well-known/jwks.json"
    for replica in both.replicas:
        async with AsyncClient(replica.target, identity=identity, timeout=PATIENCE, jwks=address) as pep:
            decision = await pep.evaluate(read(), session=session)
        assert (decision.allowed, decision.receipt_status) == (True, "verified")
