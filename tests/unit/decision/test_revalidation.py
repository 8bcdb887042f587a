"""Repeats of allows and escalations whose ground has moved: judged again, as if they alone were not there."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from decimal import Decimal
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pdp.errors import PolicyUnavailableError
from pdp.model import (
    JSON,
    AmountLimit,
    Boundary,
    BusinessKeyRule,
    Decision,
    Effect,
    EntityName,
    EntryKind,
    EvaluationRequest,
    HoldState,
    Obligation,
    Outcome,
    PolicyRevision,
    Posting,
    Prerequisite,
    Recording,
    Signal,
    Task,
    ToolEffect,
    VelocityLimit,
)
from placet.receipt import b64url_decode, parse
from tests.fakes.engine import ALLOW, BLOCK, ESCALATE, verdict
from tests.fakes.store.ledger import FakeLedger
from tests.support import builders
from tests.support.builders import TENANT
from tests.unit.decision.test_point import Bench, bench

__all__ = ["bench"]
INVOICE = EntityName(type="invoice", id="INV-1001")
COUNTERPARTY = replace(builders.payment_tool().entities[1], must_match=None)


def codes(decision: Decision) -> list[str]:
    return [reason.code for reason in decision.reasons]


async def move_settings(bench: Bench) -> None:
    await bench.store.control_plane.put_tenant(TENANT, b'{"allow_ttl_seconds": 61}', by=builders.AUTHOR)


async def move_tool(bench: Bench) -> None:
    await bench.store.control_plane.put_tools(TENANT, [pay_tool()], by=builders.AUTHOR)


async def move_agent(bench: Bench) -> None:
    await bench.store.control_plane.put_agents(
        TENANT, [builders.agent(trust=Decimal("0.9"))], by=builders.AUTHOR
    )


async def move_signals(bench: Bench) -> None:
    await bench.store.control_plane.put_signals(
        TENANT, [Signal(name="incident", value=True)], by=builders.AUTHOR
    )


async def move_policy(bench: Bench) -> None:
    bench.engine.serving = PolicyRevision(bundle="placet", revision="fake-2")


async def move_entity(bench: Bench) -> None:
    await bench.store.entities.put_entities(TENANT, {INVOICE: {"amount": 5000}}, by=builders.AUTHOR)


MOVES: list[Callable[[Bench], Awaitable[None]]] = [
    move_settings,
    move_tool,
    move_agent,
    move_signals,
    move_policy,
    move_entity,
]


async def move_another_tool(bench: Bench) -> None:
    await bench.store.control_plane.put_tools(
        TENANT, [builders.tool("orders.read", effect=ToolEffect.READ)], by=builders.AUTHOR
    )


async def move_another_agent(bench: Bench) -> None:
    await bench.store.control_plane.put_agents(TENANT, [builders.agent("agent:another")], by=builders.AUTHOR)


async def move_another_entity(bench: Bench) -> None:
    await bench.store.entities.put_entities(
        TENANT, {EntityName(type="invoice", id="INV-7"): {}}, by=builders.AUTHOR
    )


def pay_tool(**change: Any) -> Any:
    return replace(
        builders.payment_tool(),
        business_key=BusinessKeyRule(name="invoice", arguments=("invoice",)),
        entities=builders.payment_tool().entities[:1],
        **change,
    )


async def asked(bench: Bench, **change: Any) -> EvaluationRequest:
    await bench.store.control_plane.put_tools(TENANT, [pay_tool(**change)], by=builders.AUTHOR)
    return builders.evaluation(bench.session.session_id)


@pytest.mark.parametrize("move", MOVES)
@pytest.mark.parametrize("answer", [ALLOW, ESCALATE])
async def test_answer_stands_on_moved_ground_while_it_would_be_given_again(
    bench: Bench, move: Callable[[Bench], Awaitable[None]], answer: Any
) -> None:
    request, point = await asked(bench), bench.point()
    bench.engine.judge_by(answer)
    first, receipt = await point.evaluate(request)
    await move(bench)
    again, same = await point.evaluate(request)
    assert (again, same) == (first.as_replayed(), receipt)
    assert (len(bench.engine.documents), len(bench.store.recorded), bench.store.entries) == (2, 1, [])


@pytest.mark.parametrize("move", MOVES)
@pytest.mark.parametrize("now", [BLOCK, ESCALATE])
async def test_allow_that_would_not_be_given_again_is_stale_and_void(
    bench: Bench, move: Callable[[Bench], Awaitable[None]], now: Any
) -> None:
    request, point = await asked(bench), bench.point()
    first, _ = await point.evaluate(request)
    await move(bench)
    bench.engine.judge_by(now)
    stale, _ = await point.evaluate(request)
    assert stale.effect is Effect.BLOCK
    assert codes(stale) == ["action.replay_stale", now.reasons[0].code]
    assert stale.reasons[0].at == f"decision:{first.decision_id}"
    (entry,) = bench.store.entries
    assert (entry.kind, entry.about.decision_id) == (EntryKind.OUTCOME, first.decision_id)
    said = orjson.loads(b64url_decode(entry.token.decode().split(".")[1]))
    # It is the server's own finding.
    assert (said["outcome"], said["caller"], said["roles"]) == ("voided", "test", [])
    status = await bench.store.ledger.status(TENANT, decision_id=first.decision_id)
    assert status is not None
    # Nobody knows whether it was executed before.
    assert (status.hold.state, status.hold.outcome) == (HoldState.UNRESOLVED, Outcome.VOIDED)
    # Once it is void, it does not come back.
    bench.engine.judge_by(ALLOW)
    assert (await point.evaluate(request))[0] == stale.as_replayed()


@pytest.mark.parametrize("move", [move_another_tool, move_another_agent, move_another_entity])
async def test_what_the_answer_does_not_rest_on_may_move(
    bench: Bench, move: Callable[[Bench], Awaitable[None]]
) -> None:
    request, point = await asked(bench), bench.point()
    first, receipt = await point.evaluate(request)
    await move(bench)
    bench.engine.judge_by(BLOCK)
    assert await point.evaluate(request) == (first.as_replayed(), receipt)
    assert len(bench.engine.documents) == 1


async def test_stale_allow_that_was_never_redeemed_gives_back_what_it_held(bench: Bench) -> None:
    request, point = await asked(bench, redeem_required=True), bench.point()
    first, _ = await point.evaluate(request)
    await move_signals(bench)
    bench.engine.judge_by(BLOCK)
    await point.evaluate(request)
    status = await bench.store.ledger.status(TENANT, decision_id=first.decision_id)
    assert status is not None
    assert (status.hold.state, status.hold.outcome) == (HoldState.RELEASED, Outcome.VOIDED)


async def test_expired_allow_that_is_asked_for_again_is_void_as_well(bench: Bench) -> None:
    request, point = await asked(bench), bench.point()
    first, _ = await point.evaluate(request)
    await bench.store.clock.advance(61)
    assert codes((await point.evaluate(request))[0]) == ["action.replay_stale"]
    assert [entry.about.decision_id for entry in bench.store.entries] == [first.decision_id]


async def test_escalation_that_would_be_another_answer_now_is_judged_anew(bench: Bench) -> None:
    request, point = await asked(bench), bench.point()
    for now in (ALLOW, BLOCK, verdict(Effect.ESCALATE, "payment.other")):
        request = replace(request, action=replace(request.action, tool_call_id=builders.unique("call")))
        bench.engine.judge_by(ESCALATE)
        first, _ = await point.evaluate(request)
        await move_signals(bench)
        bench.engine.judge_by(now)
        again, _ = await point.evaluate(request)
        assert (again.effect, codes(again)) == (now.effect, [now.reasons[0].code])
        assert again.decision_id != first.decision_id
        assert not again.replayed
    assert bench.store.entries == []


async def test_engine_that_does_not_answer_uses_nothing_up(bench: Bench) -> None:
    request, point = await asked(bench), bench.point()
    first, _ = await point.evaluate(request)
    await move_signals(bench)
    bench.engine.fail("connection")
    with pytest.raises(PolicyUnavailableError):
        await point.evaluate(request)
    # It answers which policy it has, and then nothing more.
    bench.engine.judge_by(lambda _: (_ for _ in ()).throw(PolicyUnavailableError("timeout")))
    with pytest.raises(PolicyUnavailableError):
        await point.evaluate(request)
    assert (len(bench.store.recorded), bench.store.entries) == (1, [])
    bench.engine.judge_by(ALLOW)
    assert (await point.evaluate(request))[0] == first.as_replayed()


@pytest.mark.parametrize(
    "change",
    [
        {"effect": ToolEffect.WRITE},
        {"resource": "bill:{invoice}"},
        {"amount": replace(builders.EUROS, unit="minor")},
        {"business_key": BusinessKeyRule(name="bill", arguments=("invoice",))},
        {"business_key": None},
        {"audience": "erp2"},
        {"audience": ""},
        {"secret_arguments": ("vendor",)},
        {"prerequisites": (Prerequisite(tool="bills.approve", same=("invoice",), consumed=True),)},
        # Another counterparty is counted, or none any more.
        {"entities": builders.payment_tool().entities[:1]},
        {"entities": (replace(COUNTERPARTY, id="{invoice}"),)},
    ],
    ids=lambda change: next(iter(change)),
)
async def test_another_act_is_not_what_was_allowed(bench: Bench, change: dict[str, Any]) -> None:
    registered = replace(
        pay_tool(), audience="erp", entities=(*builders.payment_tool().entities[:1], COUNTERPARTY)
    )
    limit = b'{"counterparty_session_total": {"EUR": {"max": "5000", "on_exceed": "block"}}}'
    await bench.store.control_plane.put_tenant(TENANT, limit, by=builders.AUTHOR)
    await bench.store.control_plane.put_tools(TENANT, [registered], by=builders.AUTHOR)
    arguments: dict[str, JSON] = {**builders.action().arguments, "vendor": "V-1"}
    request, point = (
        builders.evaluation(bench.session.session_id, what=builders.action(arguments=arguments)),
        bench.point(),
    )
    first, _ = await point.evaluate(request)
    # Written once more as it was, it changes nothing.
    again = replace(registered, description="the same")
    await bench.store.control_plane.put_tools(TENANT, [again], by=builders.AUTHOR)
    assert (await point.evaluate(request))[0] == first.as_replayed()
    await bench.store.control_plane.put_tools(TENANT, [replace(registered, **change)], by=builders.AUTHOR)
    assert codes((await point.evaluate(request))[0]) == ["action.replay_stale"]


async def test_allow_that_had_to_be_redeemed_is_not_given_back_on_terms_of_before(bench: Bench) -> None:
    request, point = await asked(bench, redeem_required=True), bench.point()
    await point.evaluate(request)
    await bench.store.control_plane.put_tools(TENANT, [pay_tool()], by=builders.AUTHOR)
    assert codes((await point.evaluate(request))[0]) == ["action.replay_stale"]


async def test_escalation_for_another_audience_is_judged_anew(bench: Bench) -> None:
    request, point = await asked(bench, audience="erp"), bench.point()
    bench.engine.judge_by(ESCALATE)
    first, _ = await point.evaluate(request)
    await bench.store.control_plane.put_tools(TENANT, [pay_tool(audience="erp2")], by=builders.AUTHOR)
    second, receipt = await point.evaluate(request)
    assert second.decision_id != first.decision_id
    assert parse(receipt.token).claims["aud"] == "erp2"


async def test_obligation_that_the_allow_does_not_name_lets_it_not_stand(bench: Bench) -> None:
    request, point = await asked(bench), bench.point()
    await point.evaluate(request)
    await bench.store.control_plane.put_tools(TENANT, [pay_tool(redeem_required=True)], by=builders.AUTHOR)
    assert codes((await point.evaluate(request))[0]) == ["action.replay_stale"]
    obliged = replace(request, action=replace(request.action, tool_call_id="c-2"))
    await point.evaluate(obliged)
    await move_signals(bench)
    bench.engine.judge_by(replace(ALLOW, obligations=(Obligation(id="notify"),)))
    assert codes((await point.evaluate(obliged))[0]) == ["action.replay_stale"]


async def test_erased_document_cannot_be_judged_again(bench: Bench) -> None:
    class Erased(FakeLedger):
        async def decision(self, tenant: str, decision_id: str) -> Any:
            found = await super().decision(tenant, decision_id)
            return None if found is None else replace(found, input_document=None)

    request, point = await asked(bench), bench.point(Erased(bench.store.state))
    first, receipt = await point.evaluate(request)
    # Nothing has moved: nothing has to be judged.
    assert await point.evaluate(request) == (first.as_replayed(), receipt)
    await move_signals(bench)
    assert codes((await point.evaluate(request))[0]) == ["action.replay_stale"]


async def test_decision_of_an_earlier_server_counts_as_moved(bench: Bench) -> None:
    class Earlier(FakeLedger):
        async def record(self, recording: Recording) -> Any:
            return await super().record(replace(recording, ground=None))

    request, point = await asked(bench), bench.point(Earlier(bench.store.state))
    first, receipt = await point.evaluate(request)
    assert await point.evaluate(request) == (first.as_replayed(), receipt)
    assert len(bench.engine.documents) == 2
    bench.engine.judge_by(BLOCK)
    assert codes((await point.evaluate(request))[0]) == ["action.replay_stale", "boundary.tool"]


async def test_caller_and_intent_are_those_that_were_judged_first(bench: Bench) -> None:
    request, point = await asked(bench), bench.point()
    caller = replace(request.caller, claims={"scope": "pay:1.50", "level": Decimal("1.5")})
    request = replace(request, caller=caller, action=replace(request.action, intent="to pay"))
    await point.evaluate(request)
    await move_signals(bench)
    wider = replace(caller, claims={"scope": "everything"})
    await point.evaluate(replace(request, caller=wider, action=replace(request.action, intent="other")))
    first, again = bench.engine.documents
    assert (again["caller"], again["claimed"]) == (first["caller"], first["claimed"])


async def test_report_that_comes_meanwhile_has_it_judged_again(bench: Bench) -> None:
    class Between(FakeLedger):
        async def record(self, recording: Recording) -> Any:
            if recording.voids is not None and not bench.store.entries:
                await self.record_entry(recording.voids)
            return await super().record(recording)

    request, point = await asked(bench), bench.point(Between(bench.store.state))
    await point.evaluate(request)
    await move_signals(bench)
    bench.engine.judge_by(BLOCK)
    assert codes((await point.evaluate(request))[0])[0] == "action.replay_stale"
    # The other one was first, and was not overwritten.
    assert len(bench.store.entries) == 1


async def test_plan_judges_its_items_on_what_a_void_leaves(bench: Bench) -> None:
    request, point = await asked(bench, redeem_required=True), bench.point()
    await point.evaluate(request)
    await move_signals(bench)
    paid_again = replace(request, action=replace(request.action, tool_call_id="c-2"))
    stale_first = lambda document: BLOCK if document["action"]["tool_call_id"] != "c-2" else ALLOW  # noqa: E731
    bench.engine.judge_by(stale_first)
    (stale, _), (fresh, _) = await point.evaluate_plan([request, paid_again], all_or_nothing=False)
    assert codes(stale) == ["action.replay_stale", "boundary.tool"]
    assert fresh.effect is Effect.ALLOW
    assert bench.engine.documents[-1]["action"]["holds"] == []


async def test_plan_gives_what_stands_its_stored_answer(bench: Bench) -> None:
    request, point = await asked(bench), bench.point()
    first, receipt = await point.evaluate(request)
    await move_signals(bench)
    other = replace(request, action=replace(request.action, tool_call_id="c-2"))
    again, _ = await point.evaluate_plan([request, other], all_or_nothing=True)
    assert again == (first.as_replayed(), receipt)
    # What it holds counts once for the item after it, as it does in the ledger.
    assert [hold["state"] for hold in bench.engine.documents[-1]["action"]["holds"]] == ["reserved"]


# --- set aside, against a history that never had it ---


def limited() -> Boundary:
    return Boundary(
        tools=("payments.create",),
        amounts=(AmountLimit(currency="EUR", per_action=Decimal(900), total=Decimal(2000)),),
        max_actions=50,
        velocity=(VelocityLimit(effects=(ToolEffect.PAY,), max=40, window_seconds=120),),
    )


SETTINGS = (
    b'{"budgets": [{"name": "day", "scope": "tenant", "currency": "EUR", "max": "5000",'
    b' "window_seconds": 3600, "on_exceed": "block"}]}'
)
STEPS = st.lists(
    st.tuples(st.integers(0, 30), st.sampled_from(["INV-1", "INV-2", "INV-3"]), st.integers(1, 300)),
    max_size=6,
)


async def lived(
    before: list[tuple[int, str, int]], after: list[tuple[int, str, int]], *, with_own: bool
) -> dict[str, Any]:
    """Return the document on a payment after this history, of which it was part itself or was not."""
    bench = Bench()
    await bench.signer.rotate()
    await bench.store.control_plane.put_tenant(TENANT, SETTINGS, by=builders.AUTHOR)
    await bench.store.control_plane.put_tools(TENANT, [pay_tool()], by=builders.AUTHOR)
    await bench.store.control_plane.put_agents(TENANT, [builders.agent()], by=builders.AUTHOR)
    session = builders.session(
        now=await bench.store.clock.now(), session_id="s-1", task=Task(id="T-1"), bounds=limited()
    )
    await bench.store.sessions.open(TENANT, session)
    # What is paid on a record adds up, too.
    bills = {"INV-1", *(bill for _, bill, _ in before)}
    await bench.store.entities.put_entities(
        TENANT,
        {EntityName(type="invoice", id=bill): {"amount": "700", "currency": "EUR"} for bill in bills},
        by=builders.AUTHOR,
    )
    point = bench.point()

    async def pay(bill: str, amount: int, call: str) -> None:
        arguments = {"invoice": bill, "amount": Decimal(amount), "currency": "EUR"}
        what = builders.action(arguments=arguments, tool_call_id=call)
        await point.evaluate(builders.evaluation("s-1", what=what))

    for number, (seconds, bill, amount) in enumerate(before):
        await bench.store.clock.advance(seconds)
        await pay(bill, amount, f"before-{number}")
    if with_own:
        await pay("INV-1", 250, "own")
    for number, (seconds, bill, amount) in enumerate(after):
        await bench.store.clock.advance(min(seconds, 5))
        await pay(bill, amount, f"after-{number}")
    await move_signals(bench)
    await pay("INV-1", 250, "own")
    return bench.engine.documents[-1]


async def test_own_payment_is_set_aside_with_what_figures_contain_of_it(bench: Bench) -> None:
    tool = pay_tool()
    linked = replace(
        tool.entities[0],
        amount_attribute="",
        total_attribute="total",
        open_attribute="open",
        posted_linked=True,
    )
    await bench.store.control_plane.put_tools(
        TENANT, [replace(tool, business_key=None, entities=(linked,))], by=builders.AUTHOR
    )
    figures = {"total": "5000", "open": "5000", "currency": "EUR"}
    await bench.store.entities.put_entities(TENANT, {INVOICE: figures}, by=builders.AUTHOR)
    point = bench.point()
    await point.evaluate(builders.evaluation(bench.session.session_id))
    request = builders.evaluation(bench.session.session_id)
    own, _ = await point.evaluate(request)
    posted = [Posting(own.decision_id, Decimal(1000))]
    await bench.store.entities.put_entities(
        TENANT, {INVOICE: figures | {"open": "4000"}}, by=builders.AUTHOR, posted={INVOICE: posted}
    )
    first, second = (document["action"]["reference"]["record"]["paid"] for document in bench.engine.documents)
    assert (first["used"], second["used"], second["unposted"]) == (0, 120_000, 120_000)
    await point.evaluate(request)
    again = bench.engine.documents[-1]["action"]["reference"]["record"]["paid"]
    # The other payment is there, and nothing of it is contained.
    assert (again["used"], again["unposted"], again["open"]) == (120_000, 120_000, 400_000)


@given(before=STEPS, after=STEPS)
def test_document_is_what_it_would_be_had_the_allow_alone_not_been_recorded(
    before: list[tuple[int, str, int]], after: list[tuple[int, str, int]]
) -> None:
    again = asyncio.run(lived(before, after, with_own=True))
    never = asyncio.run(lived(before, after, with_own=False))
    # Each recording has moved the session's version, and that is all that tells the two apart.
    assert again["session"].pop("version") == never["session"].pop("version") + 1
    assert again == never
