"""Limits and duplicates on two replicas: what is counted holds, whoever asks how often at once."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from placet import Decision, Session
from tests.e2e.scene import AGENT, PRINCIPAL, Scene, codes, new_call
from tests.e2e.test_faults import owner_url

pytestmark = pytest.mark.asyncio(loop_scope="session")

APPROVE, PAY = "bills.approve", "bills.pay"
_STRING = {"type": "string"}
_ARGUMENTS = {
    "type": "object",
    "properties": {
        "bill": _STRING,
        "vendor": _STRING,
        "amount": {"type": ["number", "string"]},
        "currency": _STRING,
    },
    "required": ["bill", "vendor", "amount", "currency"],
}
_FIXED = {"argument": "amount", "unit": "major", "currency_code": "EUR"}
_COMMON: dict[str, Any] = {
    "resource": "bill:{bill}",
    "arguments_schema": _ARGUMENTS,
    "amount": {"argument": "amount", "unit": "major", "currency_argument": "currency"},
    "normalise": {"bill": ["trim", "upper", "hyphenate"]},
    "audience": "erp",
}
TOOLS = [
    {"name": APPROVE, "effect": "write", **_COMMON},
    {
        "name": PAY,
        "effect": "pay",
        **_COMMON,
        "entities": [{"name": "vendor", "type": "vendor", "id": "{vendor}", "role": "counterparty"}],
        "business_key": {"arguments": ["bill", "vendor"]},
        "prerequisites": [{"tool": APPROVE, "same": ["bill"]}],
    },
]
SETTINGS = {
    "velocity": {"payments": {"max": 1000, "window_seconds": 60, "on_exceed": "escalate"}},
    "trust_floor": {"pay": 0.5},
}


def boundary(**limits: Any) -> dict[str, Any]:
    amounts = [{"currency": "EUR", "per_action": "5000", **limits}]
    return {"tools": [APPROVE, PAY], "resources": ["bill:*"], "amounts": amounts}


def act(bill: str, amount: object = 100, *, tool: str = PAY, vendor: str = "V-1") -> dict[str, Any]:
    arguments = {"bill": bill, "vendor": vendor, "amount": amount, "currency": "EUR"}
    return {"tool": tool, "arguments": arguments, "tool_call_id": new_call()}


async def prepare(scene: Scene, **settings: Any) -> None:
    operator = await scene.operator()
    await operator.put_tenant(SETTINGS | settings)
    await operator.put_tools(TOOLS)
    await operator.put_entities(
        [{"type": "vendor", "id": f"V-{n}", "attributes": {"status": "active"}} for n in (1, 2)]
    )


async def open_session(scene: Scene, **limits: Any) -> Session:
    issuer = await scene.issuer()
    return await issuer.open_session(
        task=f"T-{uuid4().hex}", principal=PRINCIPAL, agent=AGENT, boundary=boundary(**limits)
    )


async def ask_both(scene: Scene, asked: list[tuple[dict[str, Any], Session]]) -> list[Decision]:
    """Ask both replicas in turn, all at once."""
    clients = [await scene.agent(replica=number) for number in (1, 2)]
    return await asyncio.gather(
        *(
            clients[index % 2].evaluate(action, session=session)
            for index, (action, session) in enumerate(asked)
        )
    )


def effects(decisions: list[Decision]) -> Counter[str]:
    assert [d.failure for d in decisions if d.failure] == []
    return Counter(str(decision.effect) for decision in decisions)


async def test_zero_is_an_amount_where_the_registration_permits_it(scene: Scene) -> None:
    await prepare(scene)
    session = await open_session(scene)
    assert codes(await scene.ask(act("B-1", 0), session)) == ["amount.zero"]
    tools = [tool | {"amount": tool["amount"] | {"allow_zero": True}} for tool in TOOLS]
    await (await scene.operator()).put_tools(tools)
    decision = await scene.ask(act("B-1", 0), session)
    assert decision.effect == "allow", codes(decision)


async def test_of_100_identical_payments_in_several_spellings_one_is_allowed(scene: Scene) -> None:
    await prepare(scene)
    sessions = [await open_session(scene) for _ in range(4)]
    spellings = ["B-1", "b 1", " b_1 ", "B  1", "b-1"]
    asked = [(act(spellings[n % 5]), sessions[n % 4]) for n in range(100)]
    decisions = await ask_both(scene, asked)
    seen = effects(decisions)
    assert seen["allow"] == 1
    for decision in decisions:
        if decision.effect == "block":
            assert codes(decision)[0] == "payment.duplicate"
        elif decision.effect == "escalate":
            assert codes(decision) == ["payment.probable_duplicate"]
    assert seen["escalate"] > 0 < seen["block"]


async def test_of_100_different_payments_a_budget_for_20_allows_20(scene: Scene) -> None:
    budget = {"name": "day", "scope": "tenant", "currency": "EUR", "max": "2000", "on_exceed": "block"}
    await prepare(scene, budgets=[budget | {"window_seconds": 86_400}])
    sessions = [await open_session(scene) for _ in range(10)]
    decisions = await ask_both(scene, [(act(f"B-{n}"), sessions[n % 10]) for n in range(100)])
    assert effects(decisions) == {"allow": 20, "block": 80}
    refused = [d for d in decisions if d.effect == "block"]
    assert {code for d in refused for code in codes(d)} == {"limit.budget"}
    assert all(d.retryable and d.retry_after is not None for d in refused)


async def test_total_of_a_task_is_exact_to_the_cent(scene: Scene) -> None:
    await prepare(scene)
    session = await open_session(scene, total="300.01")
    first = await ask_both(scene, [(act(f"B-{n}", "100.00"), session) for n in range(3)])
    assert effects(first) == {"allow": 3}
    over, fits = act("B-4", "0.02"), act("B-5", "0.01")
    assert codes((await ask_both(scene, [(over, session)]))[0]) == ["boundary.total"]
    assert effects(await ask_both(scene, [(fits, session)])) == {"allow": 1}


async def test_counterpartys_total_escalates_where_the_tenant_says_so(scene: Scene) -> None:
    await prepare(scene, counterparty_session_total={"EUR": {"max": 150, "on_exceed": "escalate"}})
    session = await open_session(scene)
    decisions = await ask_both(scene, [(act("B-1"), session)])
    decisions += await ask_both(scene, [(act("B-2"), session)])
    decisions += await ask_both(scene, [(act("B-3", vendor="V-2"), session)])
    assert [str(d.effect) for d in decisions] == ["allow", "escalate", "allow"]
    assert codes(decisions[1]) == ["payment.counterparty_total"]


async def test_paid_in_another_session_is_a_duplicate_and_another_bill_is_none(scene: Scene) -> None:
    await prepare(scene)
    first, second = await open_session(scene), await open_session(scene)
    assert effects(await ask_both(scene, [(act("B-1"), first)])) == {"allow": 1}
    again = (await ask_both(scene, [(act("B-1"), second)]))[0]
    assert codes(again)[0] == "payment.duplicate"
    assert effects(await ask_both(scene, [(act("B-2"), second)])) == {"allow": 1}


async def test_silence_past_the_expiry_gets_no_second_payment(scene: Scene) -> None:
    await prepare(scene)
    session = await open_session(scene)
    assert effects(await ask_both(scene, [(act("B-1"), session)])) == {"allow": 1}
    await scene.advance(61)
    again = (await ask_both(scene, [(act("B-1"), session)]))[0]
    assert (str(again.effect), codes(again)) == ("escalate", ["payment.unresolved"])


async def test_replica_that_is_killed_in_the_rush_loses_and_doubles_nothing(scene: Scene) -> None:
    budget = {"name": "all", "scope": "tenant", "currency": "EUR", "max": "2000", "on_exceed": "block"}
    await prepare(scene, budgets=[budget])
    sessions = [await open_session(scene) for _ in range(10)]
    clients = [await scene.agent(replica=number) for number in (1, 2)]
    asked = [
        asyncio.ensure_future(clients[n % 2].evaluate(act(f"B-{n % 50}"), session=sessions[n % 10]))
        for n in range(100)
    ]
    await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
    async with scene.stack.supervisor.killed("pdp-2"):
        decisions = await asyncio.gather(*asked)
        allowed = [d for d in decisions if d.effect == "allow"]
        # What is left goes through the replica that lives, and no more than that.
        more = [await clients[0].evaluate(act(f"C-{n}"), session=sessions[0]) for n in range(21)]
        allowed += [d for d in more if d.effect == "allow"]
        assert len(allowed) <= 20
        assert codes(more[-1]) == ["limit.budget"]
        reserved, spent, keys = await _reserved(scene)
        # An allow that was recorded and never answered counts too.
        assert (reserved, spent, keys) == (20, 200_000, 20)
    await scene.found(replica=2)


async def _reserved(scene: Scene) -> tuple[int, int, int]:
    """How many holds there are, what they come to, and of how many business keys."""
    async with await psycopg.AsyncConnection.connect(owner_url(scene.stack)) as connection:
        cursor = await connection.execute(
            """
            SELECT (SELECT count(*) FROM placet.holds WHERE tenant = %(tenant)s),
                   (SELECT sum(total) FROM placet.counters WHERE tenant = %(tenant)s),
                   (SELECT count(DISTINCT key) FROM placet.holds WHERE tenant = %(tenant)s)
            """,
            {"tenant": scene.tenant},
        )
        row = await cursor.fetchone()
    assert row is not None
    return row[0], int(row[1]), row[2]


async def test_payment_waits_for_a_prerequisite_that_waits_for_a_person(scene: Scene) -> None:
    await prepare(scene, large_amount={"EUR": 1000})
    session = await open_session(scene)
    pending = (await ask_both(scene, [(act("B-1", 1500, tool=APPROVE), session)]))[0]
    assert pending.effect == "escalate"
    blocked = (await ask_both(scene, [(act("b 1"), session)]))[0]
    assert codes(blocked)[0] == "review.prerequisite_pending"
    assert effects(await ask_both(scene, [(act("B-2"), session)])) == {"allow": 1}
    # An approval of less ends the waiting for no more than that.
    assert effects(await ask_both(scene, [(act("B-1", 1, tool=APPROVE), session)])) == {"allow": 1}
    more = (await ask_both(scene, [(act("b 1"), session)]))[0]
    assert (more.effect, codes(more)[0]) == ("block", "review.prerequisite_pending")
    assert effects(await ask_both(scene, [(act("B-1", tool=APPROVE), session)])) == {"allow": 1}
    assert effects(await ask_both(scene, [(act("b 1"), session)])) == {"allow": 1}


async def test_same_payment_in_other_forms_of_json_is_allowed_once(scene: Scene) -> None:
    """A number or its text, more or fewer zeros: one invoice, one amount, on both replicas at once."""
    await prepare(scene)
    any_form = {"type": ["string", "number"]}
    arguments = {"type": "object", "properties": dict.fromkeys(("bill", "amount"), any_form)}
    common = {"resource": "bill:{bill}", "arguments_schema": arguments, "amount": _FIXED}
    approve = {"name": APPROVE, "effect": "write", **common}
    paying = {
        "name": PAY,
        "effect": "pay",
        **common,
        "business_key": {"arguments": ["bill", "amount"]},
        "prerequisites": [{"tool": APPROVE, "same": ["bill", "amount"]}],
    }
    await (await scene.operator()).put_tools([approve, paying])
    sessions = [await open_session(scene) for _ in range(3)]

    def call(tool: str, bill: object, amount: object) -> dict[str, Any]:
        return {"tool": tool, "arguments": {"bill": bill, "amount": amount}, "tool_call_id": new_call()}

    forms = [(bill, amount) for bill in (55, "55") for amount in (100, "100", "100.0", "100.00", "0100")]
    asked = [(call(PAY, *form), sessions[n % 3]) for n, form in enumerate(forms * 2)]
    seen = effects(await ask_both(scene, asked))
    assert seen["allow"] == 1
    assert seen["allow"] + seen["escalate"] + seen["block"] == len(asked)

    agent, session = await scene.agent(), sessions[0]
    waiting = await agent.evaluate(call(APPROVE, 77, 3000), session=session)
    assert waiting.effect == "escalate"
    paid = await agent.evaluate(call(PAY, "77", "3000.00"), session=session)
    assert (paid.effect, codes(paid)[0]) == ("block", "review.prerequisite_pending")
