"""What a tenant demands of chains beyond that they are proven, on real processes."""

from __future__ import annotations

from typing import Any

import pytest

from placet import PreconditionError
from tests.e2e.scene import AGENT, HELPER, Scene, codes, new_call, pay, read

pytestmark = pytest.mark.asyncio(loop_scope="session")

CLERK = "agent:clerk"
VENDORS = {"type": "vendor", "attribute": {"of_type": "invoice", "attribute": "vendor"}}


async def trusted(scene: Scene) -> None:
    await (await scene.operator()).put_agents(
        [{"agent": agent, "owner": "ap", "trust": 0.8} for agent in (AGENT, HELPER, CLERK)]
    )


async def test_tenant_may_demand_a_runtime_of_its_own_for_each_agent(scene: Scene) -> None:
    await trusted(scene)
    session = await scene.session()
    both = await scene.client("svc-ap", "agent", agents=(AGENT, HELPER))
    own = await scene.client("svc-helper", "agent", agents=(HELPER,))
    grant = await both.delegate(session, to_agent=HELPER)
    shared = await both.evaluate(pay(1), session=session, chain=grant.chain)
    assert (shared.allowed, [hop.same_runtime for hop in shared.chain]) == (True, [False, True])
    await (await scene.operator()).put_tenant({"distinct_runtimes": True})
    refused = await both.evaluate(pay(1), session=session, chain=grant.chain)
    assert (refused.effect, codes(refused)) == ("block", ["chain.same_runtime"])
    assert (await own.evaluate(pay(1), session=session, chain=grant.chain)).allowed
    # Handed on and back: the last of three acts by the credential of the first.
    onward = await own.delegate(session, grant.chain, to_agent=CLERK)
    back = await scene.client("svc-ap", "agent", agents=(CLERK,))
    returned = await back.evaluate(pay(1), session=session, chain=onward.chain)
    assert (returned.effect, codes(returned)) == ("block", ["chain.same_runtime"])
    assert [hop.same_runtime for hop in returned.chain] == [False, False, False]
    # Alone there is nobody to share with.
    assert (await both.evaluate(pay(1), session=session)).allowed


async def test_shorter_chains_are_demanded_from_the_next_decision_on(scene: Scene) -> None:
    await trusted(scene)
    session = await scene.session()
    payer = await scene.agent()
    helper = await scene.client("svc-helper", "agent", agents=(HELPER,))
    clerk = await scene.client("svc-clerk", "agent", agents=(CLERK,), replica=2)
    first = await payer.delegate(session, to_agent=HELPER)
    second = await helper.delegate(session, first.chain, to_agent=CLERK)
    assert (await clerk.evaluate(read(), session=session, chain=second.chain)).allowed
    await (await scene.operator()).put_tenant({"max_chain_depth": 1})
    blocked = await clerk.evaluate(read(), session=session, chain=second.chain)
    assert [(reason.code, reason.at) for reason in blocked.reasons if reason.code.startswith("chain.")] == [
        ("chain.too_deep", "chain[2]")
    ]
    assert (await helper.evaluate(read(), session=session, chain=first.chain)).allowed


async def test_grant_lists_fewer_entities_and_gets_fewer_of_what_they_name(scene: Scene) -> None:
    await trusted(scene)
    operator = await scene.operator()
    await operator.put_tools(
        [
            {
                "name": "vendors.get",
                "effect": "read",
                "resource": "vendor:{vendor}",
                "arguments_schema": {"type": "object", "properties": {"vendor": {"type": "string"}}},
            }
        ]
    )
    await operator.put_entities(
        [
            {"type": "invoice", "id": f"INV-{number}", "attributes": {"vendor": f"V-{number}"}}
            for number in (1, 2, 3)
        ]
    )
    session = await scene.session(
        boundary={"effects": ["read"], "resources": ["invoice:INV-1", "invoice:INV-2", VENDORS]}
    )
    payer = await scene.agent()
    helper = await scene.client("svc-helper", "agent", agents=(HELPER,))

    def vendor(name: str) -> dict[str, Any]:
        return {"tool": "vendors.get", "arguments": {"vendor": name}, "tool_call_id": new_call()}

    for wider in (["invoice:INV-3", VENDORS], ["vendor:V-1"], ["invoice:*", VENDORS]):
        with pytest.raises(PreconditionError) as refused:
            await payer.delegate(
                session,
                to_agent=HELPER,
                boundary={"effects": ["read"], "resources": wider},
            )
        assert refused.value.reason == "GRANT_EXCEEDS_PARENT"
    grant = await payer.delegate(
        session,
        to_agent=HELPER,
        boundary={"effects": ["read"], "resources": ["invoice:INV-1", VENDORS]},
    )
    assert (await helper.evaluate(vendor("V-1"), session=session, chain=grant.chain)).allowed
    outside = await helper.evaluate(vendor("V-2"), session=session, chain=grant.chain)
    assert codes(outside) == ["boundary.resource"]
    assert (await payer.evaluate(vendor("V-2"), session=session)).allowed
    # What the listed invoice names is read anew with every decision.
    await operator.put_entities([{"type": "invoice", "id": "INV-1", "attributes": {"vendor": "V-9"}}])
    assert codes(await helper.evaluate(vendor("V-1"), session=session, chain=grant.chain)) == [
        "boundary.resource"
    ]
    assert (await helper.evaluate(vendor("V-9"), session=session, chain=grant.chain)).allowed
    assert (await helper.evaluate(read("INV-1"), session=session, chain=grant.chain)).allowed
