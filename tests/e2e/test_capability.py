"""From the agent's guard to a tool server and back: the receipt of a real PDP, checked where it matters."""

from __future__ import annotations

import asyncio
import json
import time
from datetime import UTC
from typing import Any

import pytest

from pdp.dev.stack import Stack
from placet import HoldState, NotFoundError, Outcome, current_decision
from placet.capability import CapabilityError, CapabilityMiddleware, Gate, presented
from placet.receipt import parse
from placet.verify import Verifier
from tests.e2e.scene import PAY, Scene, set_scene
from tests.e2e.test_limits import TOOLS, act, open_session, prepare
from tests.unit.client.test_capability import Application, request

pytestmark = pytest.mark.asyncio(loop_scope="session")
# What servers take as one header, by default.
SMALLEST_HEADER = 8 * 1024


async def gate(scene: Scene, replica: int = 1, **options: Any) -> Gate:
    client = await scene.tool_server(replica=replica)
    # The stack's clock is ahead by as much as tests have moved it; asking moves it a little more.
    ahead = (await scene.advance(0.001)).replace(tzinfo=UTC).timestamp() - time.time()
    settings: dict[str, Any] = {
        "audience": "erp",
        "tenant": scene.tenant,
        "verifier": Verifier(scene.jwks),
        "client": client,
        "clock": lambda: time.time() + ahead,
    }
    return Gate(**(settings | options))


async def receipt(scene: Scene, action: dict[str, Any]) -> bytes:
    decision = await scene.ask(action, await open_session(scene), audience="erp")
    assert decision.effect == "allow", decision.reasons
    return presented(decision.receipt).encode()


async def redeem_required(scene: Scene) -> None:
    approve, pay = TOOLS
    await (await scene.operator()).put_tools([approve, pay | {"redeem": "required"}])


async def test_guarded_call_reaches_the_tool_and_is_reported_by_both_sides(scene: Scene) -> None:
    await prepare(scene)
    await redeem_required(scene)
    application = Application()
    app = CapabilityMiddleware(application, gate=await gate(scene), tools={"/payments": "bills.pay"})
    session = await open_session(scene)
    agent = await scene.agent()
    seen: list[str] = []

    @agent.guard(session=session, tool="bills.pay", audience="erp")
    async def pay(bill: str, vendor: str, amount: str, currency: str) -> dict[str, str]:
        decision = current_decision()
        seen.append(decision.decision_id)
        handed = presented(decision.receipt).encode()
        assert len(handed) < SMALLEST_HEADER
        body = json.dumps({"bill": bill, "vendor": vendor, "amount": amount, "currency": currency})
        status, _ = await request(app, handed, body=body.encode())
        assert status == 204
        return {"paid": bill}

    assert await pay("B-1", "V-1", "100.00", "EUR") == {"paid": "B-1"}
    (capability,) = application.capabilities
    assert capability.decision_id == seen[0]
    assert (capability.agent, capability.session_id) == (session.agent, session.session_id)
    erp = await scene.tool_server()
    assert (await erp.report_outcome(capability.decision_id, "executed")).hold is HoldState.COMMITTED
    recorded = await scene.recorded(capability.decision_id)
    assert (recorded.outcome, recorded.redeemed) == (Outcome.EXECUTED, True)


@pytest.mark.parametrize("required", [True, False], ids=["redeemed", "kept in memory"])
async def test_of_many_requests_with_one_receipt_one_runs(scene: Scene, required: bool) -> None:
    await prepare(scene)
    if required:
        await redeem_required(scene)
    action = act("B-1")
    handed, body = await receipt(scene, action), json.dumps(action["arguments"]).encode()
    application = Application()
    # Two servers that share nothing but the PDP; without redemption, one.
    gates = [await gate(scene, replica=number) for number in ((1, 2) if required else (1,))]
    apps = [CapabilityMiddleware(application, gate=each, tools={"/payments": "bills.pay"}) for each in gates]
    answers = await asyncio.gather(*(request(apps[n % len(apps)], handed, body=body) for n in range(16)))
    assert sorted(status for status, _ in answers) == [204] + [403] * 15
    assert len(application.bodies) == 1


async def test_approval_of_one_payment_runs_no_other(scene: Scene) -> None:
    await prepare(scene)
    await redeem_required(scene)
    action = act("B-1")
    handed = await receipt(scene, action)
    door = await gate(scene)
    for arguments in (action["arguments"] | {"amount": 101}, action["arguments"] | {"vendor": "V-2"}):
        with pytest.raises(CapabilityError) as caught:
            await door.admit_async(handed, tool="bills.pay", arguments=arguments)
        assert caught.value.reason == "capability.other_action"
    await door.admit_async(handed, tool="bills.pay", arguments=action["arguments"])


async def test_receipt_of_another_tenant_of_the_same_pdp_is_refused(scene: Scene, stack: Stack) -> None:
    await prepare(scene)
    action = act("B-1")
    handed = await receipt(scene, action)
    async with set_scene(stack) as other:
        with pytest.raises(CapabilityError) as caught:
            await (await gate(other)).admit_async(handed, tool="bills.pay", arguments=action["arguments"])
        assert caught.value.reason == "capability.other_tenant"
        # The PDP would not redeem it there either, whatever the gate believed.
        erp, decision_id = await other.tool_server(), parse(handed).claims["jti"]
        with pytest.raises(NotFoundError):
            await erp.redeem(decision_id, tool="bills.pay", arguments=action["arguments"], audience="erp")


async def test_block_permits_nothing_and_a_secret_is_compared(scene: Scene) -> None:
    """A block permits nothing; what is secret in the ledger is still part of what is compared."""
    session = await scene.session()
    secret = {
        "tool": "payments.transfer",
        "tool_call_id": "call-secret",
        "arguments": {"invoice": "INV-1", "amount": 5, "currency": "EUR", "pin": "1234"},
    }
    allowed = await scene.ask(secret, session, audience="erp")
    door = await gate(scene)
    handed: dict[str, Any] = {"tool": secret["tool"], "secret_salt": allowed.secret_salt}
    receipt = presented(allowed.receipt).encode()
    with pytest.raises(CapabilityError) as caught:
        await door.admit_async(receipt, arguments=secret["arguments"] | {"pin": "1235"}, **handed)
    assert caught.value.reason == "capability.other_action"
    await door.admit_async(receipt, arguments=secret["arguments"], **handed)
    blocked = await scene.ask(
        {"tool": PAY, "tool_call_id": "call-2", "arguments": {"invoice": "X"}}, session, audience="erp"
    )
    with pytest.raises(CapabilityError) as caught:
        await door.admit_async(presented(blocked.receipt).encode(), tool=PAY, arguments={"invoice": "X"})
    assert caught.value.reason == "capability.not_allowed"
