"""What a refusal says, so that somebody can act on it, and what it never tells."""

from __future__ import annotations

import json
from typing import Any

import pytest

from placet import Agent, Blocked, Decision, Figures, Reason, Remedy, Session
from placet.cli.decisions import record_of
from placet.receipt import parse
from tests.e2e.scene import AGENT, HELPER, PAY, PRINCIPAL, READ, TRANSFER, Scene, codes, pay, read

pytestmark = pytest.mark.asyncio(loop_scope="session")

LIMITED = {
    "tools": [READ, PAY],
    "resources": ["invoice:*"],
    "amounts": [{"currency": "EUR", "per_action": "5000", "total": "250"}],
}


def reason(decision: Decision, code: str) -> Reason:
    return next(item for item in decision.reasons if item.code == code)


def broken() -> dict[str, Any]:
    """A payment with a value in the wrong place, a member that nobody knows, and no currency."""
    return pay() | {"arguments": {"invoice": 4711_0815, "amount": 100, "memo": "canary"}}


async def test_arguments_that_do_not_fit_are_named_wherever_the_reason_is_read(scene: Scene) -> None:
    session = await scene.session()
    decision = await scene.ask(broken(), session)
    found = reason(decision, "registry.arguments_invalid")
    said = {(item.at, item.rule, item.demanded) for item in found.violations}
    assert ("arguments.currency", "required", "") in said
    assert ("arguments.invoice", "type", "string") in said
    assert found.remedy is Remedy.CHANGE_CALL
    assert "arguments.currency is missing: send it" in decision.model_text
    assert "The call is wrong. Correct it" in decision.model_text
    with pytest.raises(Blocked, match=r"arguments\.currency is missing: send it"):
        decision.require_allowed()

    recorded = await scene.recorded(decision.decision_id)
    assert recorded.reasons == decision.reasons
    assert recorded.model_text == decision.model_text
    claims = parse(decision.receipt).claims
    signed = json.dumps(claims["details"])
    assert "arguments.currency" in signed
    for text in (signed, decision.model_text, repr(decision.reasons)):
        assert "canary" not in text
        assert "47110815" not in text

    author = await scene.client("author", "policy_author")
    simulated = await author.simulate(broken(), session=session, subject="svc-ap", agents=(AGENT,), claims={})
    assert reason_of(simulated.reasons, found.code).violations == found.violations


def reason_of(reasons: tuple[Reason, ...], code: str) -> Reason:
    return next(item for item in reasons if item.code == code)


async def test_repeat_gets_the_same_words(scene: Scene) -> None:
    session, action = await scene.session(), broken()
    first = await scene.ask(action, session)
    again = await scene.ask(action, session)
    assert again.replayed
    assert (again.reasons, again.model_text) == (first.reasons, first.model_text)


async def test_secret_is_told_by_its_name_alone(scene: Scene) -> None:
    session = await scene.session()
    action = pay() | {"tool": TRANSFER}
    action["arguments"] |= {"pin": 8150}
    decision = await scene.ask(action, session)
    assert [
        (item.at, item.demanded) for item in reason(decision, "registry.arguments_invalid").violations
    ] == [("arguments.pin", "")]
    assert "8150" not in repr(parse(decision.receipt).claims["details"])


async def test_stranger_learns_nothing_of_tool_and_session(scene: Scene) -> None:
    session = await scene.session(boundary=LIMITED)
    stranger = await scene.client("svc-other", "agent", agents=("agent:other",))
    for action in (broken(), pay(4000)):
        decision = await stranger.evaluate(action, session=session.session_id)
        assert "session.unknown" in codes(decision)
        assert all(item.figures == () and item.violations == () for item in decision.reasons)
    # Neither does one that speaks for the session's agent and proves nothing.
    impostor = await scene.client("svc-impostor", "agent", agents=(AGENT,))
    decision = await impostor.evaluate(broken(), session=session.session_id)
    assert "session.unproven" in codes(decision)
    assert all(item.figures == () and item.violations == () for item in decision.reasons)


async def test_limit_says_what_was_measured_against_what(scene: Scene) -> None:
    session = await scene.session(boundary=LIMITED)
    assert (await scene.ask(pay(200), session)).allowed
    decision = await scene.ask(pay("75.50"), session)
    found = reason(decision, "boundary.total")
    assert found.figures == (Figures(of="session", unit="EUR", used="200.00", added="75.50", limit="250.00"),)
    assert found.at == "session"
    assert found.message == "Everything paid so far and this payment are more than a boundary permits in all."
    above = reason(await scene.ask(pay(6000), session), "boundary.amount")
    assert above.figures == (Figures(of="session", unit="EUR", added="6000.00", limit="5000.00"),)


async def test_budget_tells_nobody_what_others_used_of_it(scene: Scene) -> None:
    operator = await scene.operator()
    await operator.put_tenant(
        {
            "trust_floor": {},
            "budgets": [
                {"name": "monthly", "scope": "tenant", "currency": "EUR", "max": "300", "on_exceed": "block"}
            ],
        }
    )
    anna, bert = await scene.session(), await scene.session(principal="user:bert")
    assert (await scene.ask(pay(250), anna)).allowed
    found = reason(await scene.ask(pay(100), bert), "limit.budget")
    assert found.figures == (Figures(of="budget:monthly", unit="EUR", added="100.00", limit="300.00"),)
    assert found.at == "budget:monthly"


async def test_delegate_sees_the_figures_of_its_own_grant_alone(scene: Scene) -> None:
    session = await scene.session(boundary=LIMITED)
    agent = await scene.agent()
    grant = await agent.delegate(
        session,
        [{"agent": AGENT, "grant": session.grant}],
        to_agent=HELPER,
        boundary=LIMITED | {"amounts": [{"currency": "EUR", "per_action": "150", "total": "100"}]},
    )
    helper = await scene.client("svc-helper", "agent", agents=(HELPER,))
    assert (await scene.ask(pay(200), session)).allowed
    decision = await helper.evaluate(pay(160), session=session, chain=grant.chain)
    total = reason(decision, "boundary.total")
    assert {(item.of, item.at, item.used, item.added, item.limit) for item in total.figures} == {
        ("session", "", "", "160.00", ""),
        ("grant", "chain[1]", "0.00", "160.00", "100.00"),
    }
    amount = reason(decision, "boundary.amount")
    assert (amount.at, amount.figures[0].limit) == ("chain[1]", "150.00")
    outside = await helper.evaluate(read() | {"tool": TRANSFER}, session=session, chain=grant.chain)
    assert reason(outside, "boundary.tool").at == "session"


async def test_every_reason_that_is_about_an_argument_points_at_it(scene: Scene) -> None:
    session = await scene.session()
    places = {
        "amount.missing": pay() | {"arguments": {"invoice": "INV-1", "currency": "EUR"}},
        "amount.zero": pay(0),
        "amount.precision": pay("1.005"),
        "amount.currency_invalid": pay() | {"arguments": {"invoice": "INV-1", "amount": 1, "currency": "E"}},
        "registry.resource_underivable": pay() | {"arguments": {"amount": 1, "currency": "EUR"}},
        "registry.unknown_tool": pay() | {"tool": "no.such"},
        "action.resource_mismatch": pay(resource="invoice:INV-2"),
    }
    expected = {
        "amount.missing": "arguments.amount",
        "amount.zero": "arguments.amount",
        "amount.precision": "arguments.amount",
        "amount.currency_invalid": "arguments.currency",
        "registry.resource_underivable": "arguments.invoice",
        "registry.unknown_tool": "action.tool",
        "action.resource_mismatch": "action.resource",
    }
    for code, action in places.items():
        assert reason(await scene.ask(action, session), code).at == expected[code]


async def test_author_of_a_rule_is_heard(scene: Scene) -> None:
    session = await scene.session(boundary=LIMITED)
    decision = await scene.ask(read() | {"tool": TRANSFER}, session)
    found = reason(decision, "boundary.tool")
    assert found.remedy is Remedy.ASK
    assert found.remediation.startswith("Use a tool that the task needs")
    assert found.remediation in decision.model_text
    assert "Changing the call does not help. Do not retry this call; tell the user." in decision.model_text


async def test_recorded_decision_tells_the_whole(scene: Scene) -> None:
    session = await scene.session(boundary=LIMITED)
    assert (await scene.ask(pay(200), session)).allowed
    decision = await scene.ask(pay("75.50"), session)
    seen = [
        await scene.recorded(decision.decision_id),
        await (await scene.agent()).get_decision(decision.decision_id, session=session),
    ]
    for recorded in seen:
        assert (recorded.amount, recorded.currency) == ("75.50", "EUR")
        total = next(limit for limit in recorded.limits if limit.code == "boundary.total")
        assert (total.figures.used, total.figures.limit, total.left) == ("200.00", "250.00", "-25.50")
    record = record_of(seen[0])
    assert record["caller"] == "svc-ap"
    assert record["agent"] == AGENT
    assert record["principal"] == PRINCIPAL
    assert record["tool"] == PAY
    assert record["resource"] == "invoice:INV-1"
    assert record["arguments"]["amount"] == "75.50"


async def test_limits_of_a_recorded_decision_are_shown_to_whom_they_concern(scene: Scene) -> None:
    operator = await scene.operator()
    await operator.put_tenant(
        {
            "trust_floor": {},
            "budgets": [
                {"name": "monthly", "scope": "tenant", "currency": "EUR", "max": "300", "on_exceed": "block"}
            ],
        }
    )
    anna, bert = await scene.session(), await scene.session(principal="user:bert", boundary=LIMITED)
    assert (await scene.ask(pay(250), anna)).allowed
    decision = await scene.ask(pay(100), bert)
    agent = await scene.agent()
    own = {
        limit.code: limit for limit in (await agent.get_decision(decision.decision_id, session=bert)).limits
    }
    assert (own["limit.budget"].figures.used, own["limit.budget"].left) == ("", "")
    assert own["boundary.total"].left == "150.00"
    whole = {limit.code: limit for limit in (await scene.recorded(decision.decision_id)).limits}
    assert (whole["limit.budget"].figures.used, whole["limit.budget"].left) == ("250.00", "-50.00")


async def test_session_shows_what_is_used_and_left_of_every_limit(scene: Scene) -> None:
    operator = await scene.operator()
    await operator.put_tenant(
        {
            "trust_floor": {},
            "velocity": {"payments": {"max": 7, "window_seconds": 60, "on_exceed": "escalate"}},
            "boundary_template": LIMITED
            | {"resources": [{"type": "invoice", "prefix": ""}], "max_actions": 40},
            "budgets": [
                {"name": "monthly", "scope": "tenant", "currency": "EUR", "max": "300", "on_exceed": "block"}
            ],
        }
    )
    await operator.put_agents([Agent(agent=name, owner="ap", trust=0.9) for name in (AGENT, HELPER)])
    boundary = LIMITED | {"velocity": [{"max": 5, "window_seconds": 3600, "effects": ["read"]}]}
    session = await scene.session(boundary=boundary)
    agent = await scene.agent()
    chain = [{"agent": AGENT, "grant": session.grant}]
    narrow = boundary | {"amounts": [{"currency": "EUR", "per_action": "50", "total": "100"}]}
    grant = await agent.delegate(session, chain, to_agent=HELPER, boundary=narrow)
    helper = await scene.client("svc-helper", "agent", agents=(HELPER,))
    assert (await helper.evaluate(pay(40), session=session, chain=grant.chain)).allowed
    assert (await scene.ask(pay(110), session)).allowed

    total = {"counterparty_session_total": {"EUR": {"max": "900", "on_exceed": "escalate"}}}
    await operator.patch_tenant(total)

    def told(shown: Session) -> dict[tuple[str, str, str], tuple[str, str, str]]:
        return {
            (limit.code, limit.figures.of, limit.figures.at): (
                limit.figures.used,
                limit.figures.limit,
                limit.left,
            )
            for limit in shown.limits
        }

    assert (await agent.get_session(session)).limits == ()
    own = told(await agent.get_session(session, limits=True))
    assert own["boundary.amount", "session", ""] == ("", "5000.00", "")
    assert own["boundary.total", "session", ""] == ("150.00", "250.00", "100.00")
    assert own["boundary.velocity", "session", ""] == ("0", "5", "5")
    assert own["boundary.max_actions", "template", ""] == ("2", "40", "38")
    assert own["boundary.total", "grant", grant.grant_hash] == ("40.00", "100.00", "60.00")
    assert own["boundary.amount", "grant", grant.grant_hash] == ("", "50.00", "")
    assert own["payment.counterparty_total", "session", ""] == ("", "900.00", "")
    assert own["velocity.payments", "settings", ""] == ("2", "7", "5")
    assert own["limit.budget", "budget:monthly", ""] == ("", "300.00", "")
    other = await agent.delegate(session, chain, to_agent="agent:clerk", boundary=narrow)
    held = told(await helper.get_session(session, chain=grant.chain, limits=True))
    assert held["boundary.total", "grant", grant.grant_hash] == ("40.00", "100.00", "60.00")
    assert held["boundary.amount", "grant", grant.grant_hash] == ("", "50.00", "")
    assert held["boundary.total", "session", ""] == ("", "", "")
    assert held["boundary.max_actions", "template", ""] == ("", "", "")
    assert held["velocity.payments", "settings", ""] == ("2", "7", "5")
    assert held["limit.budget", "budget:monthly", ""] == ("", "300.00", "")
    assert {at for _, _, at in held} == {"", grant.grant_hash}
    assert any(at == other.grant_hash for _, _, at in told(await agent.get_session(session, limits=True)))
    await agent.revoke_grant(session, other.grant_hash, reason="done")
    whole = told(await operator.get_session(session.session_id, limits=True))
    assert whole["limit.budget", "budget:monthly", ""] == ("150.00", "300.00", "150.00")
    await agent.revoke_grant(session, grant.grant_hash, reason="done")
    assert not any(of == "grant" for _, of, _ in told(await agent.get_session(session, limits=True)))
