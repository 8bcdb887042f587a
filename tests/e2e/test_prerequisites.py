"""What has to come before: which answers count, what one allow of it carries, and in which order to act."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import uuid4

import pytest

from placet import Decision, Hop, OutOfOrder, PreconditionError, Session, decided
from tests.e2e.scene import AGENT, HELPER, PRINCIPAL, Scene, codes
from tests.e2e.test_limits import APPROVE, PAY, SETTINGS, TOOLS, boundary, effects, open_session
from tests.e2e.test_limits import act as any_act

pytestmark = pytest.mark.asyncio(loop_scope="session")


def act(bill: str = "B-1", amount: object = 100, *, tool: str = PAY, **change: Any) -> dict[str, Any]:
    made = any_act(bill, amount, tool=tool)
    return made | change


def approve(bill: str = "B-1", amount: object = 100, **change: Any) -> dict[str, Any]:
    return act(bill, amount, tool=APPROVE, **change)


async def prepare(scene: Scene, rule: dict[str, Any], settings: dict[str, Any] | None = None) -> None:
    """Payments have this rule about the approval of the same bill, and none about paying one bill twice."""
    pay = {name: value for name, value in TOOLS[1].items() if name not in ("business_key", "entities")}
    redeem = rule.pop("redeem", "")
    pay["prerequisites"] = [{"tool": APPROVE, "same": ["bill"], **rule}]
    operator = await scene.operator()
    await operator.put_tenant(SETTINGS | (settings or {}))
    await operator.put_tools([TOOLS[0], pay | ({"redeem": redeem} if redeem else {})])


async def ask(
    scene: Scene, session: Session, *actions: dict[str, Any], replica: int = 1
) -> tuple[Decision, ...]:
    client = await scene.agent(replica=replica)
    return tuple([await client.evaluate(action, session=session) for action in actions])


async def outcome(scene: Scene, session: Session, action: dict[str, Any]) -> str:
    """Ask, and return the first code of what it is blocked for, or the effect."""
    (decision,) = await ask(scene, session, action)
    assert decision.failure is None
    return codes(decision)[0] if decision.effect == "block" else str(decision.effect)


# --- which blocks are answers ---


@pytest.mark.parametrize("required", [True, False])
async def test_block_of_substance_rejects_what_comes_after_until_it_is_allowed(
    scene: Scene, required: bool
) -> None:
    await prepare(scene, {"required": required})
    session = await open_session(scene)
    assert await outcome(scene, session, approve()) == "allow"
    assert await outcome(scene, session, act()) == "allow"
    assert await outcome(scene, session, approve(amount=9000)) == "boundary.amount"
    blocked = (await ask(scene, session, act("b 1")))[0]
    assert blocked.effect == "block"
    assert "review.prerequisite_rejected" in codes(blocked)
    assert not blocked.retryable
    # Nobody said anything of another bill.
    other = await outcome(scene, session, act("B-2"))
    assert other == ("review.prerequisite_missing" if required else "allow")
    assert await outcome(scene, session, approve()) == "allow"
    assert await outcome(scene, session, act()) == "allow"


async def test_block_that_is_no_answer_changes_nothing_of_an_earlier_one(scene: Scene) -> None:
    await prepare(scene, {"required": True})
    issuer = await scene.issuer()
    window = {"effects": ["write"], "max": 2, "window_seconds": 3600, "on_exceed": "block"}
    session = await issuer.open_session(
        task=f"T-{uuid4().hex}",
        principal=PRINCIPAL,
        agent=AGENT,
        boundary=boundary() | {"velocity": [window]},
    )
    first = approve()
    assert await outcome(scene, session, first) == "allow"
    asked_badly = {
        "action.key_reused": approve(amount=101, tool_call_id=first["tool_call_id"]),
        "action.resource_mismatch": approve(resource="bill:B-9"),
        "amount.zero": approve(amount=0),
        "amount.precision": approve(amount="1.001"),
    }
    for code, action in asked_badly.items():
        assert await outcome(scene, session, action) == code
    odd = approve()
    odd["arguments"] = odd["arguments"] | {"vendor": 7}
    assert await outcome(scene, session, odd) == "registry.arguments_invalid"
    client = await scene.agent()
    answers = await client.evaluate_plan([approve(), act("B-9", 9000)], session=session, all_or_nothing=True)
    assert codes(answers[0]) == ["plan.not_whole"]
    stranger = await scene.client("svc-else", "agent", agents=(HELPER,))
    assert (await stranger.evaluate(approve(), session=session.session_id)).effect == "block"
    assert await outcome(scene, session, act()) == "allow"
    assert await outcome(scene, session, approve()) == "allow"
    assert await outcome(scene, session, approve()) == "boundary.velocity"
    assert await outcome(scene, session, act()) == "allow"


async def test_block_that_is_no_answer_is_none_where_nobody_had_asked(scene: Scene) -> None:
    await prepare(scene, {"required": False})
    session = await open_session(scene)
    assert await outcome(scene, session, approve(amount=0)) == "amount.zero"
    assert await outcome(scene, session, act()) == "allow"


async def test_what_waits_or_was_rejected_stays_so_whatever_is_asked_badly(scene: Scene) -> None:
    await prepare(scene, {"required": False}, {"large_amount": {"EUR": 1000}})
    session = await open_session(scene)
    assert await outcome(scene, session, approve(amount=1500)) == "escalate"
    assert await outcome(scene, session, approve(amount=0)) == "amount.zero"
    waiting = (await ask(scene, session, act()))[0]
    assert codes(waiting)[0] == "review.prerequisite_pending"
    assert waiting.retryable
    assert await outcome(scene, session, approve("B-2", 9000)) == "boundary.amount"
    assert await outcome(scene, session, approve("B-2", 0)) == "amount.zero"
    assert await outcome(scene, session, act("B-2")) == "review.prerequisite_rejected"
    # The same call, once it waits no more.
    assert await outcome(scene, session, approve()) == "allow"
    retried = waiting.tool_call_id
    assert await outcome(scene, session, act(tool_call_id=retried)) == "allow"


async def test_approvals_of_another_session_or_of_a_stranger_are_none(scene: Scene) -> None:
    await prepare(scene, {"required": True})
    session, elsewhere = await open_session(scene), await open_session(scene)
    assert await outcome(scene, elsewhere, approve()) == "allow"
    stranger = await scene.client("svc-else", "agent", agents=(HELPER,))
    await stranger.evaluate(approve(), session=session.session_id)
    # A stranger learns nothing of what was answered in a session.
    blocked = await stranger.evaluate(act(), session=elsewhere.session_id)
    assert "review.prerequisite_missing" in codes(blocked)
    assert await outcome(scene, session, act()) == "review.prerequisite_missing"


async def test_whoever_of_the_session_was_allowed_it_counts(scene: Scene) -> None:
    await prepare(scene, {"required": True, "consumed": True})
    await (await scene.operator()).put_agents([{"agent": HELPER, "owner": "ap", "trust": 0.8}])
    session, client = await open_session(scene), await scene.agent()
    grant = await client.delegate(
        session,
        (Hop(agent=AGENT, grant=session.grant),),
        to_agent=HELPER,
        boundary={"tools": [APPROVE], "resources": ["bill:*"], "amounts": {"EUR": "500"}},
    )
    helper = await scene.client("svc-helper", "agent", agents=(HELPER,))
    allowed = await helper.evaluate(approve(), session=session, chain=grant.chain)
    assert allowed.effect == "allow", codes(allowed)
    assert await outcome(scene, session, act()) == "allow"
    assert await outcome(scene, session, act()) == "review.prerequisite_consumed"


# --- one action for each approval ---

CONSUMED = {"required": True, "consumed": True}


async def test_one_approval_carries_one_payment(scene: Scene) -> None:
    await prepare(scene, dict(CONSUMED))
    session = await open_session(scene)
    assert await outcome(scene, session, act()) == "review.prerequisite_missing"
    assert await outcome(scene, session, approve("b_1")) == "allow"
    first = act("b 1")
    assert await outcome(scene, session, first) == "allow"
    assert await outcome(scene, session, act("B-1")) == "review.prerequisite_consumed"
    # A repeat is the stored answer, and consumes nothing.
    again = (await ask(scene, session, first, replica=2))[0]
    assert (again.effect, again.replayed) == ("allow", True)
    assert await outcome(scene, session, approve()) == "allow"
    assert await outcome(scene, session, approve()) == "allow"
    assert await outcome(scene, session, act()) == "allow"
    assert await outcome(scene, session, act()) == "allow"
    assert await outcome(scene, session, act()) == "review.prerequisite_consumed"


async def test_without_required_a_consumed_approval_carries_no_more_either(scene: Scene) -> None:
    await prepare(scene, {"consumed": True})
    session = await open_session(scene)
    assert await outcome(scene, session, act()) == "allow"
    assert await outcome(scene, session, approve()) == "allow"
    assert await outcome(scene, session, act()) == "allow"
    assert await outcome(scene, session, act()) == "review.prerequisite_consumed"


async def test_of_16_payments_at_once_on_one_approval_one_is_allowed(scene: Scene) -> None:
    await prepare(scene, dict(CONSUMED))
    session = await open_session(scene)
    for bill, approvals in (("B-1", 1), ("B-2", 3)):
        for _ in range(approvals):
            assert await outcome(scene, session, approve(bill)) == "allow"
        clients = [await scene.agent(replica=number) for number in (1, 2)]
        spellings = [bill, bill.lower(), bill.replace("-", " "), f" {bill} "]
        decisions = await asyncio.gather(
            *(clients[n % 2].evaluate(act(spellings[n % 4]), session=session) for n in range(16))
        )
        assert effects(list(decisions)) == {"allow": approvals, "block": 16 - approvals}
        refused = {code for d in decisions if d.effect == "block" for code in codes(d)}
        assert refused == {"review.prerequisite_consumed"}


async def test_blocks_escalations_and_simulation_consume_nothing(scene: Scene) -> None:
    await prepare(scene, dict(CONSUMED), {"large_amount": {"EUR": 1000}})
    session = await open_session(scene)
    assert await outcome(scene, session, approve()) == "allow"
    assert await outcome(scene, session, act(amount=9000)) == "boundary.amount"
    assert await outcome(scene, session, act(amount=1500)) == "escalate"
    author = await scene.client("svc-policy", "policy_author")
    for _ in range(2):
        simulated = await author.simulate(act(), session=session, subject="svc-ap", agents=[AGENT])
        assert simulated.would_be == "allow"
    client = await scene.agent()
    whole = await client.evaluate_plan([act(), act("B-9")], session=session, all_or_nothing=True)
    assert [str(d.effect) for d in whole] == ["block", "block"]
    assert await outcome(scene, session, act()) == "allow"
    simulated = await author.simulate(act(), session=session, subject="svc-ap", agents=[AGENT])
    assert (simulated.would_be, [r.code for r in simulated.reasons]) == (
        "block",
        ["review.prerequisite_consumed"],
    )


async def test_only_a_believed_report_gives_an_approval_back(scene: Scene) -> None:
    await prepare(scene, dict(CONSUMED))
    session, client = await open_session(scene), await scene.agent()
    erp = await scene.tool_server()
    await ask(scene, session, approve())
    for said, by, then in (
        ("failed", client, "review.prerequisite_consumed"),
        ("voided", client, "review.prerequisite_consumed"),
        ("unknown", erp, "review.prerequisite_consumed"),
        ("failed", erp, "allow"),
        ("not_executed", erp, "allow"),
        ("executed", erp, "review.prerequisite_consumed"),
    ):
        (paid,) = await ask(scene, session, act())
        if paid.effect == "block":
            await ask(scene, session, approve())
            (paid,) = await ask(scene, session, act())
        assert paid.effect == "allow", (said, codes(paid))
        if by is client:
            await client.report_outcome(paid.decision_id, said, session=session)
        else:
            await erp.report_outcome(paid.decision_id, said)
        simulated = await (await scene.client("svc-policy", "policy_author")).simulate(
            act(), session=session, subject="svc-ap", agents=[AGENT]
        )
        now = "allow" if simulated.would_be == "allow" else simulated.reasons[0].code
        assert now == then, said


async def test_what_had_to_be_redeemed_and_was_not_gives_an_approval_back(scene: Scene) -> None:
    await prepare(scene, CONSUMED | {"redeem": "required"})
    session, client = await open_session(scene), await scene.agent()
    (approved,) = await ask(scene, session, approve())
    await client.report_outcome(approved.decision_id, "executed", session=session)
    (paid,) = await ask(scene, session, act())
    await client.report_outcome(paid.decision_id, "voided", session=session)
    (paid,) = await ask(scene, session, act())
    assert paid.effect == "allow"
    await scene.advance(61)
    wanted = act()
    (paid,) = await ask(scene, session, wanted)
    assert paid.effect == "allow"
    await (await scene.tool_server()).redeem(
        paid.decision_id, tool=PAY, arguments=wanted["arguments"], audience="erp"
    )
    await scene.advance(61)
    assert await outcome(scene, session, act()) == "review.prerequisite_consumed"


@pytest.mark.parametrize("whole", [False, True])
async def test_plan_consumes_an_approval_once(scene: Scene, whole: bool) -> None:
    await prepare(scene, dict(CONSUMED))
    session, client = await open_session(scene), await scene.agent()
    decisions = await client.evaluate_plan(
        [approve(), act(), act("b 1"), approve("B-2"), act("B-2")], session=session, all_or_nothing=whole
    )
    found = [str(d.effect) for d in decisions]
    if whole:
        assert found == ["block"] * 5
        assert codes(decisions[2]) == ["review.prerequisite_consumed"]
        assert await outcome(scene, session, act()) == "review.prerequisite_missing"
        decisions = await client.evaluate_plan([approve(), act()], session=session, all_or_nothing=True)
        assert [str(d.effect) for d in decisions] == ["allow", "allow"]
    else:
        assert found == ["allow", "allow", "block", "allow", "allow"]
        assert codes(decisions[2]) == ["review.prerequisite_consumed"]
        assert decisions[4].after == (decisions[3].decision_id,)
    assert decisions[1].after == (decisions[0].decision_id,)
    assert await outcome(scene, session, act()) == "review.prerequisite_consumed"


async def test_plans_at_once_on_both_replicas_consume_each_approval_once(scene: Scene) -> None:
    await prepare(scene, dict(CONSUMED))
    session = await open_session(scene)
    for _ in range(4):
        await ask(scene, session, approve())
    clients = [await scene.agent(replica=number) for number in (1, 2)]
    answers = await asyncio.gather(
        *(
            clients[n % 2].evaluate_plan([act(), act()], session=session, all_or_nothing=True)
            for n in range(8)
        )
    )
    found = [[str(d.effect) for d in answer] for answer in answers]
    assert sorted(found) == [["allow", "allow"]] * 2 + [["block", "block"]] * 6


async def test_payment_that_consumed_its_approval_stands_on_moved_ground(scene: Scene) -> None:
    await prepare(scene, CONSUMED | {"redeem": "required"})
    session, client = await open_session(scene), await scene.agent()
    (approved,) = await ask(scene, session, approve())
    await client.report_outcome(approved.decision_id, "executed", session=session)
    wanted = act()
    (paid,) = await ask(scene, session, wanted)
    # The epoch moves: it is judged again as if it alone had not been recorded.
    await prepare(scene, CONSUMED | {"redeem": "required"}, {"allow_ttl_seconds": 59})
    (again,) = await ask(scene, session, wanted, replica=2)
    assert (again.effect, again.decision_id) == ("allow", paid.decision_id)
    assert await outcome(scene, session, act()) == "review.prerequisite_consumed"
    await (await scene.tool_server()).redeem(
        paid.decision_id, tool=PAY, arguments=wanted["arguments"], audience="erp"
    )


async def test_two_tools_share_what_one_approval_carries(scene: Scene) -> None:
    await prepare(scene, dict(CONSUMED))
    refund = {name: value for name, value in TOOLS[0].items() if name != "name"} | {
        "name": PAY,
        # By other arguments than the payment names it.
        "prerequisites": [{"tool": APPROVE, "same": ["bill", "vendor"], "consumed": True}],
    }
    operator = await scene.operator()
    other = "bills.archive"
    await operator.put_tools([refund | {"name": other}])
    issuer = await scene.issuer()
    session = await issuer.open_session(
        task=f"T-{uuid4().hex}",
        principal=PRINCIPAL,
        agent=AGENT,
        boundary={"tools": [APPROVE, PAY, other], "resources": ["bill:*"], "amounts": {"EUR": "500"}},
    )
    assert await outcome(scene, session, approve()) == "allow"
    assert await outcome(scene, session, act(tool=other)) == "allow"
    assert await outcome(scene, session, act()) == "review.prerequisite_consumed"


# --- in which order ---


async def test_payment_asked_for_alone_comes_after_its_approval_too(scene: Scene) -> None:
    await prepare(scene, {"required": True})
    session, client = await open_session(scene), await scene.agent()
    erp = await scene.tool_server()
    (approved,) = await ask(scene, session, approve())
    wanted = act()
    (paid,) = await ask(scene, session, wanted)
    assert paid.after == (approved.decision_id,)
    assert not paid.allowed
    with pytest.raises(OutOfOrder):
        paid.require_allowed()
    with pytest.raises(PreconditionError, match=approved.decision_id):
        await erp.redeem(paid.decision_id, tool=PAY, arguments=wanted["arguments"], audience="erp")
    await client.report_outcome(approved.decision_id, "executed", session=session)
    paid.require_allowed()
    await erp.redeem(paid.decision_id, tool=PAY, arguments=wanted["arguments"], audience="erp")
    # Known to be executed, it needs no more waiting for.
    (later,) = await ask(scene, session, act())
    assert later.after == ()
    later.require_allowed()


@pytest.mark.parametrize("way", ["call", "stream", "plan", "simulation"])
async def test_whichever_way_a_payment_is_asked_for_it_comes_after_its_approval(
    scene: Scene, way: str
) -> None:
    await prepare(scene, dict(CONSUMED))
    session, client = await open_session(scene), await scene.agent()
    (approved,) = await client.evaluate_plan([approve()], session=session)
    if way == "call":
        (paid,) = await ask(scene, session, act())
    elif way == "stream":
        async with client.stream() as stream:
            paid = await stream.evaluate(act(), session=session)
    elif way == "plan":
        (paid,) = await client.evaluate_plan([act()], session=session)
    else:
        author = await scene.client("svc-policy", "policy_author")
        simulated = await author.simulate(act(), session=session, subject="svc-ap", agents=[AGENT])
        (named,) = [o.properties["decision_id"] for o in simulated.obligations if o.id == "after"]
        assert named == approved.decision_id
        return
    assert paid.effect == "allow"
    assert paid.after == (approved.decision_id,)
    assert not paid.allowed


@pytest.mark.parametrize("way", ["call", "stream", "plan", "smaller plan", "other replica", "read"])
@pytest.mark.parametrize("moved", [False, True], ids=["same ground", "moved ground"])
async def test_repeat_of_an_item_alone_keeps_its_obligation(scene: Scene, way: str, moved: bool) -> None:
    await prepare(scene, dict(CONSUMED))
    session, client = await open_session(scene), await scene.agent()
    items = [approve(), act(), approve("B-2"), act("B-2")]
    planned = await client.evaluate_plan(items, session=session)
    assert [str(d.effect) for d in planned] == ["allow"] * 4
    if moved:
        await prepare(scene, dict(CONSUMED), {"allow_ttl_seconds": 59})
    attempt = planned[1].attempt_id
    if way == "call":
        again = await client.evaluate(items[1], session=session, attempt_id=attempt)
    elif way == "other replica":
        (again,) = await ask(scene, session, items[1], replica=2)
    elif way == "stream":
        async with client.stream() as stream:
            again = await stream.evaluate(items[1], session=session)
    elif way == "plan":
        again = (await client.evaluate_plan(items, session=session))[1]
    elif way == "smaller plan":
        again = (await client.evaluate_plan(items[1:2], session=session))[0]
    else:
        again = await client.get_decision(planned[1].decision_id, session=session)
    assert again.decision_id == planned[1].decision_id
    assert again.after == (planned[0].decision_id,)
    assert not again.allowed
    erp = await scene.tool_server()
    with pytest.raises(PreconditionError, match=planned[0].decision_id):
        await erp.redeem(again.decision_id, tool=PAY, arguments=items[1]["arguments"], audience="erp")


async def test_approval_that_failed_lets_nothing_come_after_it_however_it_is_asked_for(scene: Scene) -> None:
    await prepare(scene, {"required": True})
    session, client = await open_session(scene), await scene.agent()
    erp = await scene.tool_server()
    (approved,) = await ask(scene, session, approve())
    await client.report_outcome(approved.decision_id, "failed", session=session)
    wanted = act()
    (paid,) = await ask(scene, session, wanted)
    assert paid.after == (approved.decision_id,)
    assert not paid.allowed
    with pytest.raises(PreconditionError, match=approved.decision_id):
        await erp.redeem(paid.decision_id, tool=PAY, arguments=wanted["arguments"], audience="erp")
    # Approved once more, and done.
    (approved,) = await ask(scene, session, approve())
    await client.report_outcome(approved.decision_id, "executed", session=session)
    (paid,) = await ask(scene, session, act())
    paid.require_allowed()


async def test_guarded_payment_runs_after_its_guarded_approval_only(scene: Scene) -> None:
    await prepare(scene, dict(CONSUMED))
    session, client = await open_session(scene), await scene.agent()
    ran: list[str] = []

    @client.guard(session=session, tool=PAY)
    async def pay(bill: str, vendor: str, amount: int, currency: str) -> None:
        ran.append("paid")

    @client.guard(session=session, tool=APPROVE)
    async def approve_bill(bill: str, vendor: str, amount: int, currency: str) -> None:
        ran.append("approved")

    await ask(scene, session, approve())
    with pytest.raises(OutOfOrder):
        await pay("B-1", "V-1", 100, "EUR")
    assert ran == []
    await approve_bill("B-2", "V-1", 100, "EUR")
    await pay("B-2", "V-1", 100, "EUR")
    assert ran == ["approved", "paid"]


async def test_guard_learns_of_an_approval_that_another_process_executed(scene: Scene) -> None:
    await prepare(scene, dict(CONSUMED))
    session = await open_session(scene)
    one, other = await scene.agent(), await scene.agent(replica=2)
    (approved,) = await ask(scene, session, approve())
    paid = await other.evaluate(act(), session=session)
    assert paid.after == (approved.decision_id,)
    ran: list[str] = []

    @other.guard(session=session, tool=PAY)
    async def pay(bill: str, vendor: str, amount: int, currency: str) -> None:
        ran.append(bill)

    with decided(paid), pytest.raises(OutOfOrder):
        await pay("B-1", "V-1", 100, "EUR")
    await one.report_outcome(approved.decision_id, "executed", session=session)
    assert not paid.allowed
    with decided(paid):
        await pay("B-1", "V-1", 100, "EUR")
    assert ran == ["B-1"]
