"""Payments on one order add up: on two replicas, in sessions, plans and repeats, and whatever is reported."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest

from placet import Decision, InvalidRequestError, Session
from tests.e2e.invoices import APPROVE, BOUNDARY, TOOLS, entity
from tests.e2e.scene import Scene, codes, new_call

pytestmark = pytest.mark.asyncio(loop_scope="session")

PAY, FREIGHT = "payments.create", "freight.pay"
_PARTS = {name: value for name, value in TOOLS[1].items() if name not in ("name", "effect", "entities")}
_RECORD, _VENDOR, _ORDER = TOOLS[1]["entities"]
BOUND = BOUNDARY | {
    "tools": [APPROVE, PAY, FREIGHT],
    "amounts": {"EUR": "20000.00", "USD": "20000.00"},
}
SETTINGS = {
    "velocity": {"payments": {"max": 1000, "window_seconds": 60, "on_exceed": "escalate"}},
    "trust_floor": {"pay": 0.5},
    "po_tolerance": 0,
}


def tools(**order: Any) -> list[dict[str, Any]]:
    """A tool that approves, one that pays and one that pays the freight, by these words on their order."""
    ordered = {name: value for name, value in _ORDER.items() if name != "amount_attribute"} | order
    entities = [_RECORD, _VENDOR, ordered]
    return [
        {"name": APPROVE, "effect": "write", **_PARTS, "entities": entities},
        {"name": PAY, "effect": "pay", **_PARTS, "entities": entities, "audience": "erp"},
        {
            "name": FREIGHT,
            "effect": "pay",
            **_PARTS,
            "entities": [r | {"measure": "freight"} if r["role"] != "counterparty" else r for r in entities],
        },
    ]


BOTH = tools(total_attribute="total", open_attribute="open")


async def prepare(scene: Scene, registered: list[dict[str, Any]], **order: Any) -> None:
    """An order of 1,200 and twenty invoices of 600 each on it."""
    operator = await scene.operator()
    await operator.put_tenant(SETTINGS)
    await operator.put_tools(registered)
    await operator.put_entities(
        [
            entity("vendor:V-1", status="active"),
            entity("po:PO-1", vendor="V-1", **({"total": "1200", "open": "1200"} | order)),
            *(
                entity(f"invoice:INV-{n}", vendor="V-1", amount="600", currency="EUR", po="PO-1")
                for n in range(20)
            ),
        ]
    )


def act(
    number: int, amount: object = 600, *, tool: str = PAY, currency: str = "EUR", call: str = ""
) -> dict[str, Any]:
    arguments = {"invoice": f"inv {number}", "vendor": "V-1", "amount": amount, "currency": currency}
    return {"tool": tool, "tool_call_id": call or new_call(), "arguments": arguments}


async def session(scene: Scene) -> Session:
    return await scene.session(boundary=BOUND)


async def pay(scene: Scene, number: int, amount: object = 600, **said: Any) -> Decision:
    """Ask in a session of its own, on the other replica each time."""
    agent = await scene.agent(replica=1 + number % 2)
    return await agent.evaluate(act(number, amount, **said), session=await session(scene))


async def test_three_payments_of_600_on_an_order_of_1200_are_two(scene: Scene) -> None:
    await prepare(scene, BOTH)
    paid = [await pay(scene, number) for number in range(3)]
    assert [str(decision.effect) for decision in paid] == ["allow", "allow", "escalate"]
    assert codes(paid[2]) == ["payment.order_used"]
    (reason,) = paid[2].reasons
    (figures,) = reason.figures
    assert (figures.of, figures.unit) == ("order", "EUR")
    assert (figures.used, figures.added, figures.limit, figures.open) == (
        "1200.00",
        "600.00",
        "1200.00",
        "1200.00",
    )


async def test_attribute_of_old_registrations_counts_too(scene: Scene) -> None:
    await prepare(scene, [TOOLS[0], TOOLS[1] | {"audience": "erp"}])
    paid = [await pay(scene, number) for number in range(3)]
    assert [str(decision.effect) for decision in paid] == ["allow", "allow", "escalate"]
    # The system that pays has booked both, late.
    await (await scene.operator()).patch_entity("po:PO-1", {"open": "0"})
    assert "payment.order_used" in codes(await pay(scene, 3, "0.01"))
    # A record has its total: two halves of an invoice are the invoice.
    await (await scene.operator()).put_entities(
        [entity("invoice:INV-30", vendor="V-1", amount="500", currency="EUR")]
    )
    halves = [await pay(scene, 30, 250) for _ in range(3)]
    assert [str(half.effect) for half in halves] == ["allow", "allow", "escalate"]
    assert codes(halves[2]) == ["payment.order_used"]


async def test_of_payments_at_once_on_two_replicas_the_order_gets_what_it_comes_to(scene: Scene) -> None:
    await prepare(scene, BOTH)
    sessions = [await session(scene) for _ in range(10)]
    clients = [await scene.agent(replica=number) for number in (1, 2)]
    decisions = await asyncio.gather(
        *(clients[n % 2].evaluate(act(n % 20, "97.50"), session=sessions[n % 10]) for n in range(40))
    )
    assert [decision.failure for decision in decisions if decision.failure] == []
    assert Counter(str(decision.effect) for decision in decisions) == {"allow": 12, "escalate": 28}
    refused = {code for decision in decisions if not decision.allowed for code in codes(decision)}
    assert refused == {"payment.order_used"}


async def test_tenant_may_have_it_blocked(scene: Scene) -> None:
    await prepare(scene, BOTH)
    await (await scene.operator()).put_tenant(SETTINGS | {"order_used": {"on_exceed": "block"}})
    paid = [await pay(scene, number) for number in range(3)]
    assert (str(paid[2].effect), codes(paid[2])) == ("block", ["payment.order_used"])


async def test_tolerance_is_granted_once_on_the_sum(scene: Scene) -> None:
    await prepare(scene, BOTH)
    await (await scene.operator()).put_tenant(SETTINGS | {"po_tolerance": 0.05})
    assert (await pay(scene, 0, 630)).allowed
    assert codes(await pay(scene, 1, "630.01")) == ["payment.order_used", "payment.price_variance"]
    assert (await pay(scene, 1, 630)).allowed
    assert codes(await pay(scene, 2, "0.01")) == ["payment.order_used"]


async def test_approvals_never_count_and_are_not_counted_against(scene: Scene) -> None:
    await prepare(scene, BOTH)
    for number in range(3):
        assert (await pay(scene, number, tool=APPROVE)).allowed
    assert (await pay(scene, 0)).allowed
    assert (await pay(scene, 1)).allowed
    assert (await pay(scene, 2, tool=APPROVE)).allowed


async def test_other_measures_of_an_order_add_up_apart(scene: Scene) -> None:
    await prepare(scene, BOTH)
    assert (await pay(scene, 0)).allowed
    assert (await pay(scene, 1)).allowed
    assert (await pay(scene, 2, tool=FREIGHT)).allowed
    assert (await pay(scene, 3, tool=FREIGHT)).allowed
    assert codes(await pay(scene, 4, tool=FREIGHT)) == ["payment.order_used"]


@pytest.mark.parametrize(
    ("reporter", "outcome", "free"),
    [("tool", "not_executed", True), ("tool", "unknown", False), ("agent", "failed", False)],
)
async def test_only_what_can_be_believed_gives_back(
    scene: Scene, reporter: str, outcome: str, free: bool
) -> None:
    await prepare(scene, BOTH)
    opened = await session(scene)
    agent = await scene.agent()
    paid = [await agent.evaluate(act(number), session=opened) for number in range(2)]
    assert all(decision.allowed for decision in paid)
    by = await scene.tool_server() if reporter == "tool" else agent
    said = {} if reporter == "tool" else {"session": opened}
    await by.report_outcome(paid[0].decision_id, outcome, **said)
    again = await agent.evaluate(act(2), session=opened)
    assert again.allowed is free
    if free:
        # It was done after all, and counts again.
        await by.report_outcome(paid[0].decision_id, "executed")
        assert codes(await agent.evaluate(act(3, "0.01"), session=opened)) == ["payment.order_used"]


async def test_amending_deleting_and_putting_anew_reset_nothing(scene: Scene) -> None:
    await prepare(scene, BOTH)
    operator = await scene.operator()
    assert (await pay(scene, 0, 600)).allowed
    await operator.delete_entities(["po:PO-1"])
    assert codes(await pay(scene, 1)) == ["payment.order_unknown"]
    await operator.put_entities([entity("po:PO-1", total="1200", open="1200")])
    assert (await pay(scene, 1, 600)).allowed
    assert codes(await pay(scene, 2, "0.01")) == ["payment.order_used"]
    await operator.patch_entity("po:PO-1", {"total": "1500", "open": "300"})
    assert codes(await pay(scene, 2, "300.01")) == ["payment.order_used", "payment.price_variance"]
    assert (await pay(scene, 2, 300)).allowed


async def test_another_currency_than_before_is_blocked(scene: Scene) -> None:
    await prepare(scene, BOTH)
    assert (await pay(scene, 0)).allowed
    await (await scene.operator()).put_entities(
        [entity("invoice:INV-40", vendor="V-1", amount="600", currency="USD", po="PO-1")]
    )
    decision = await pay(scene, 40, 1, currency="USD")
    assert (str(decision.effect), codes(decision)) == ("block", ["payment.currency_mismatch"])


async def test_items_of_a_plan_add_up(scene: Scene) -> None:
    await prepare(scene, BOTH)
    agent = await scene.agent()
    plan = await agent.evaluate_plan([act(number) for number in range(3)], session=await session(scene))
    assert [str(decision.effect) for decision in plan] == ["allow", "allow", "escalate"]
    assert codes(plan[2]) == ["payment.order_used"]


async def test_repeat_and_redemption_set_their_own_payment_aside(scene: Scene) -> None:
    await prepare(scene, BOTH)
    opened = await session(scene)
    agent, tool_server, operator = await scene.agent(), await scene.tool_server(), await scene.operator()
    calls = [act(0), act(1)]
    paid = [await agent.evaluate(call, session=opened, attempt_id="one") for call in calls]
    assert all(decision.allowed for decision in paid)
    # The ground moves: the first payment is booked.
    await operator.patch_entity("po:PO-1", {"open": "600"})
    again = await agent.evaluate(calls[1], session=opened, attempt_id="one")
    assert (again.allowed, again.decision_id) == (True, paid[1].decision_id)
    await tool_server.redeem(paid[1].decision_id, tool=PAY, arguments=calls[1]["arguments"], audience="erp")
    # Less was ordered than is paid: what was allowed would not be now.
    await operator.patch_entity("po:PO-1", {"total": "1100"})
    stale = await agent.evaluate(calls[0], session=opened, attempt_id="one")
    assert (str(stale.effect), codes(stale)[0]) == ("block", "action.replay_stale")
    assert "payment.order_used" in codes(stale)


async def test_linked_order_counts_what_its_figures_do_not_contain(scene: Scene) -> None:
    """Others pay too: the open amount is lower by more than ours, and ours are booked late."""
    linked = tools(total_attribute="total", open_attribute="open", posted="linked")
    await prepare(scene, linked, total="3000", open="2400")
    operator = await scene.operator()
    first, second = await pay(scene, 0), await pay(scene, 1)
    assert first.allowed
    assert second.allowed
    # Others paid 1,200 meanwhile; of ours nothing is booked.
    await operator.patch_entity("po:PO-1", {"open": "1200"})
    refused = await pay(scene, 2, "0.01")
    assert codes(refused) == ["payment.order_used"]
    (figures,) = refused.reasons[0].figures
    assert (figures.used, figures.open, figures.unposted) == ("1200.00", "1200.00", "1200.00")
    # The first is booked, half of it; twice said is once booked.
    for _ in range(2):
        await operator.patch_entity("po:PO-1", {"open": "900"}, posted={first.decision_id: "300"})
    assert codes(await pay(scene, 2, "0.01")) == ["payment.order_used"]
    await operator.patch_entity("po:PO-1", {"open": "2000"}, posted={first.decision_id: 600})
    assert codes(await pay(scene, 2, "600.01")) == ["payment.price_variance"]
    assert (await pay(scene, 2, 600)).allowed
    history = await operator.entity_history("po:PO-1", limit=2)
    assert [dict(version.posted) for version in history] == [
        {first.decision_id: "600"},
        {first.decision_id: "300"},
    ]
    # Put anew without naming it, the order no longer contains it.
    await operator.put_entities([entity("po:PO-1", total="3000", open="1800")])
    assert codes(await pay(scene, 3, "0.01")) == ["payment.order_used"]
    await operator.put_entities(
        [entity("po:PO-1", total="3000", open="1800") | {"posted": {first.decision_id: "600"}}]
    )
    assert (await pay(scene, 3, 600)).allowed


async def test_record_whose_amount_is_lost_is_no_free_one_beside_an_order_with_room(scene: Scene) -> None:
    await prepare(scene, BOTH, total="50000", open="50000")
    operator = await scene.operator()
    assert (await pay(scene, 0)).allowed
    for amount in ("1,000.00", "-1000", "n/a", "100.005", None):
        await operator.patch_entity("invoice:INV-0", {"amount": amount})
        await operator.patch_entity("invoice:INV-1", {"amount": amount})
        assert "payment.record_unknown" in codes(await pay(scene, 0, 600))
        assert codes(await pay(scene, 1, 600)) == ["payment.record_unknown"]
    # Where it holds none, what its first payment fixed binds; where nothing was paid, its order does.
    await operator.patch_entity("invoice:INV-0", {}, unset=["amount"])
    await operator.patch_entity("invoice:INV-1", {}, unset=["amount"])
    assert codes(await pay(scene, 0, "0.01")) == ["payment.order_used"]
    assert (await pay(scene, 1, 700)).allowed
    assert (await pay(scene, 1, 700)).allowed


async def test_record_that_was_overpaid_is_paid_for_good(scene: Scene) -> None:
    """Within the tolerance, so that its open amount is less than nothing once that is booked."""
    registered = tools(total_attribute="total", open_attribute="open")
    linked = {name: value for name, value in _RECORD.items() if name != "amount_attribute"}
    linked |= {"open_attribute": "open", "posted": "linked"}
    for tool in registered:
        tool["entities"] = [linked, *tool["entities"][1:]]
    await prepare(scene, registered[:2], total="50000", open="50000")
    operator = await scene.operator()
    await operator.put_tenant(SETTINGS | {"po_tolerance": 0.05})
    await operator.patch_entity("invoice:INV-0", {"open": "1000"})
    paid = await pay(scene, 0, 1050)
    assert paid.allowed
    assert codes(await pay(scene, 0, 1)) == ["payment.order_used"]
    await operator.patch_entity("invoice:INV-0", {"open": "-50"}, posted={paid.decision_id: "1050"})
    for amount in ("0.01", 1000, 9000):
        found = await pay(scene, 0, amount)
        assert str(found.effect) == "block"
        assert set(codes(found)) >= {"payment.amount_over_order", "payment.order_used"}
    await operator.patch_entity("invoice:INV-0", {}, unset=["open"], posted={paid.decision_id: "1050"})
    assert "payment.order_used" in codes(await pay(scene, 0, 1))


async def test_posting_of_what_paid_nothing_there_is_refused_by_its_field(scene: Scene) -> None:
    await prepare(scene, BOTH)
    operator = await scene.operator()
    paid = await pay(scene, 0)
    approved = await pay(scene, 1, tool=APPROVE)
    for decision, amount, field in (
        (approved.decision_id, "600", "posted[0].decision_id"),
        ("unknown", "600", "posted[0].decision_id"),
        (paid.decision_id, "6.001", "posted[0].amount"),
        (paid.decision_id, "-1", "posted[0].amount"),
    ):
        with pytest.raises(InvalidRequestError) as refused:
            await operator.patch_entity("po:PO-1", {"open": "1"}, posted={decision: amount})
        assert [violation.field for violation in refused.value.violations] == [field]
    assert (await operator.get_entity("po:PO-1")).attributes["open"] == "1200"
    with pytest.raises(InvalidRequestError) as refused:
        await operator.put_entities(
            [entity("vendor:V-1", status="active") | {"posted": {paid.decision_id: "600"}}]
        )
    assert [v.field for v in refused.value.violations] == ["entities[0].posted[0].decision_id"]


async def test_what_had_to_be_redeemed_and_was_not_is_given_back(scene: Scene) -> None:
    redeemed = [tool | ({"redeem": "required"} if tool["name"] == PAY else {}) for tool in BOTH]
    await prepare(scene, redeemed)
    agent, tool_server = await scene.agent(), await scene.tool_server()
    opened = await session(scene)
    calls = [act(number) for number in range(4)]
    first, second, third = [await agent.evaluate(call, session=opened) for call in calls[:3]]
    assert [first.allowed, second.allowed, third.allowed] == [True, True, False]
    await tool_server.redeem(first.decision_id, tool=PAY, arguments=calls[0]["arguments"], audience="erp")
    # The first was used, and the agent's word frees nothing; the second can never be.
    await agent.report_outcome(first.decision_id, "voided", session=opened)
    assert not (await agent.evaluate(act(5), session=opened)).allowed
    await agent.report_outcome(second.decision_id, "voided", session=opened)
    assert (await agent.evaluate(calls[3], session=opened)).allowed
    assert codes(await agent.evaluate(act(6, "0.01"), session=opened)) == ["payment.order_used"]
