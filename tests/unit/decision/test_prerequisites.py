"""Prerequisites through the decision point, on fakes: what an allow rests on, consumes and comes after."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pdp.authority.transitions import find_recounts, report
from pdp.model import (
    Decision,
    Effect,
    Entry,
    EvaluationRequest,
    Outcome,
    Prerequisite,
    SignedDecision,
    ToolEffect,
    Verdict,
)
from tests.fakes.engine import ALLOW, BLOCK, ESCALATE, verdict
from tests.support import builders
from tests.unit.decision.test_plan import APPROVE, PAY, Bench, opened

READ = "bills.read"


def judge(document: dict[str, Any]) -> Verdict:
    """Judge as the shipped rules do what has to come before, and nothing else."""
    latest = [each["latest"] for each in document["action"].get("prerequisites", ())]
    required = [each["required"] for each in document["action"].get("prerequisites", ())]
    if all(
        each == "allow" or (each == "absent" and not must)
        for each, must in zip(latest, required, strict=True)
    ):
        return ALLOW
    return verdict(Effect.BLOCK, f"review.prerequisite_{latest[0]}")


async def bench_with(*tools: str, effect: ToolEffect = ToolEffect.PAY, **rule: Any) -> Bench:
    """Payments, and other such tools, consume an approval of the same bill; nothing else restricts them."""
    bench = await opened()
    asks = Prerequisite(tool=APPROVE, same=("invoice",), **({"required": True, "consumed": True} | rule))
    consuming = [
        replace(
            builders.tool(name, effect=effect, arguments_schema='{"type": "object"}'),
            prerequisites=(asks,),
        )
        for name in (PAY, *tools)
    ]
    await bench.store.control_plane.put_tools(builders.TENANT, consuming, by=builders.AUTHOR)
    bench.engine.judge_by(judge)
    return bench


async def ask(bench: Bench, request: EvaluationRequest) -> Decision:
    decision, _ = await bench.point().evaluate(request)
    return decision


def told(answers: Sequence[SignedDecision]) -> list[str]:
    return [
        str(decision.effect) if decision.effect is not Effect.BLOCK else decision.reasons[0].code
        for decision, _ in answers
    ]


def after(decision: Decision) -> list[object]:
    return [o.properties["decision_id"] for o in decision.obligations if o.id == "after"]


async def say(bench: Bench, decision: Decision, outcome: Outcome, *, believed: bool = True) -> None:
    about = await bench.store.ledger.status(builders.TENANT, decision_id=decision.decision_id)
    assert about is not None
    change = report(about.hold, outcome, believed=believed)
    assert change is not None
    await bench.store.ledger.record_entry(
        Entry(
            entry_id=builders.unique("entry"),
            kind=change.kind,
            token=b"e30.e30.c2ln",
            caller="svc-erp",
            about=about,
            hold=change.hold,
            recounts=find_recounts(about.hold, change.hold),
            deadline=builders.deadline(),
        )
    )


CONSUMED = "review.prerequisite_consumed"


async def test_plan_takes_each_approval_once_whatever_was_approved_before() -> None:
    bench = await bench_with()
    await ask(bench, bench.act(APPROVE, "B-1"))
    answers = await bench.ask(
        bench.act(PAY, "B-1"),
        bench.act(PAY, "B-1"),
        bench.act(APPROVE, "B-1"),
        bench.act(APPROVE, "B-1"),
        bench.act(PAY, "B-1"),
        bench.act(PAY, "B-1"),
        bench.act(PAY, "B-1"),
    )
    assert told(answers) == ["allow", CONSUMED, "allow", "allow", "allow", "allow", CONSUMED]
    # Each comes after the approval that carries it, and no two after the same.
    named = [after(decision) for decision, _ in answers if decision.effect is Effect.ALLOW]
    assert named[1:3] == [[], []]
    carriers = [named[0][0], *named[3], *named[4]]
    assert len(set(carriers)) == 3
    assert set(carriers[1:]) == {answers[2][0].decision_id, answers[3][0].decision_id}


@pytest.mark.parametrize("first", ["alone", "in a plan"])
async def test_item_that_repeats_an_approval_makes_it_carry_no_more(first: str) -> None:
    bench = await bench_with()
    approve = bench.act(APPROVE, "B-1", call="a")
    before = await ask(bench, approve) if first == "alone" else (await bench.ask(approve))[0][0]
    answers = await bench.ask(approve, bench.act(PAY, "B-1", call="p"), bench.act(PAY, "B-1"))
    assert told(answers) == ["allow", "allow", CONSUMED]
    assert answers[0][0].replayed
    assert after(answers[1][0]) == [before.decision_id]
    # The whole plan again: what was allowed is the stored answer, and consumes nothing.
    again = await bench.ask(approve, bench.act(PAY, "B-1", call="p"), bench.act(PAY, "B-1"))
    assert told(again) == ["allow", "allow", CONSUMED]
    assert [decision.replayed for decision, _ in again] == [True, True, False]


async def test_plan_that_is_not_whole_consumes_nothing() -> None:
    bench = await bench_with()
    await ask(bench, bench.act(APPROVE, "B-1"))
    answers = await bench.ask(bench.act(PAY, "B-1"), bench.act(PAY, "B-1"), whole=True)
    assert told(answers) == ["plan.not_whole", CONSUMED]
    assert told(await bench.ask(bench.act(PAY, "B-1"), whole=True)) == ["allow"]


@pytest.mark.parametrize("verdict_on_approval", [BLOCK, ESCALATE])
async def test_item_rests_on_no_approval_that_was_not_given(verdict_on_approval: Verdict) -> None:
    bench = await bench_with()

    def without_approval(document: dict[str, Any]) -> Verdict:
        return verdict_on_approval if document["action"]["tool"]["name"] == APPROVE else judge(document)

    bench.engine.judge_by(without_approval)
    answers = await bench.ask(bench.act(APPROVE, "B-1"), bench.act(PAY, "B-1"))
    assert [str(decision.effect) for decision, _ in answers] == [
        str(verdict_on_approval.effect),
        "block",
    ]


async def test_stale_payment_in_a_plan_gives_back_what_it_consumed_if_that_is_released() -> None:
    bench = await bench_with()
    redeemed = [
        replace(tool, redeem_required=True, audience="erp")
        for tool in (bench.store.state.tenants[builders.TENANT].tools[PAY],)
    ]
    await bench.store.control_plane.put_tools(builders.TENANT, redeemed, by=builders.AUTHOR)
    await ask(bench, bench.act(APPROVE, "B-1"))
    pay = bench.act(PAY, "B-1", call="p")
    first = await ask(bench, pay)
    assert first.effect is Effect.ALLOW

    def stale(document: dict[str, Any]) -> Verdict:
        repeated = document["action"]["tool_call_id"] == "p"
        return verdict(Effect.BLOCK, "counterparty.not_active") if repeated else judge(document)

    bench.engine.judge_by(stale)
    await bench.store.control_plane.put_tenant(
        builders.TENANT, b'{"allow_ttl_seconds": 59}', by=builders.AUTHOR
    )
    answers = await bench.ask(pay, bench.act(PAY, "B-1"), bench.act(PAY, "B-1"))
    assert told(answers) == ["action.replay_stale", "allow", CONSUMED]


async def test_payment_stands_on_moved_ground_though_its_approval_is_consumed_by_itself() -> None:
    bench = await bench_with()
    await ask(bench, bench.act(APPROVE, "B-1"))
    pay = bench.act(PAY, "B-1", call="p")
    first = await ask(bench, pay)
    await bench.store.control_plane.put_tenant(
        builders.TENANT, b'{"allow_ttl_seconds": 59}', by=builders.AUTHOR
    )
    again = await ask(bench, pay)
    assert (again.decision_id, again.replayed) == (first.decision_id, True)
    assert bench.engine.documents[-1]["action"]["prerequisites"][0]["latest"] == "allow"
    assert told(await bench.ask(bench.act(PAY, "B-1"))) == [CONSUMED]


async def test_approval_that_two_payments_hold_is_free_for_nobody() -> None:
    bench = await bench_with()
    await ask(bench, bench.act(APPROVE, "B-1"))
    first = await ask(bench, bench.act(PAY, "B-1", call="p"))
    await say(bench, first, Outcome.FAILED)
    second = await ask(bench, bench.act(PAY, "B-1"))
    assert second.effect is Effect.ALLOW
    await say(bench, first, Outcome.EXECUTED)
    # Both hold it now: nobody else gets it.
    assert told(await bench.ask(bench.act(PAY, "B-1"))) == [CONSUMED]


@pytest.mark.parametrize(
    ("now", "then"),
    [
        (verdict(Effect.BLOCK, "counterparty.not_active"), "review.prerequisite_block"),
        # That it would wait for a person now says nothing against it; but nobody can execute it any more.
        (ESCALATE, "allow"),
    ],
)
async def test_approval_that_would_not_be_given_again_is_what_it_would_be_now(
    now: Verdict, then: str
) -> None:
    bench = await bench_with(consumed=False)
    approve = bench.act(APPROVE, "B-1", call="a")
    approved = await ask(bench, approve)
    await bench.store.control_plane.put_tenant(
        builders.TENANT, b'{"allow_ttl_seconds": 59}', by=builders.AUTHOR
    )

    def stale(document: dict[str, Any]) -> Verdict:
        return now if document["action"]["tool"]["name"] == APPROVE else judge(document)

    bench.engine.judge_by(stale)
    assert told(await bench.ask(approve, bench.act(PAY, "B-1"))) == ["action.replay_stale", then]
    (paid,) = await bench.ask(bench.act(PAY, "B-1"))
    assert told([paid]) == [then]
    if then == "allow":
        assert after(paid[0]) == [approved.decision_id]


async def test_what_only_reads_consumes_too() -> None:
    bench = await bench_with(effect=ToolEffect.READ)
    await ask(bench, bench.act(APPROVE, "B-1"))
    first = await ask(bench, bench.act(PAY, "B-1"))
    assert first.effect is Effect.ALLOW
    assert told(await bench.ask(bench.act(PAY, "B-1"))) == [CONSUMED]
    await say(bench, first, Outcome.FAILED)
    assert told(await bench.ask(bench.act(PAY, "B-1"))) == ["allow"]


async def test_tools_that_name_one_approval_share_what_it_carries() -> None:
    bench = await bench_with("bills.settle")
    session = replace(
        bench.session, boundary=replace(bench.session.boundary, tools=(APPROVE, PAY, "bills.settle"))
    )
    bench.store.state.sessions[builders.TENANT, bench.session.session_id] = session
    answers = await bench.ask(
        bench.act(APPROVE, "B-1"), bench.act("bills.settle", "B-1"), bench.act(PAY, "B-1")
    )
    assert told(answers) == ["allow", "allow", CONSUMED]


async def test_stranger_is_told_of_no_answer() -> None:
    bench = await bench_with(required=False)
    await ask(bench, bench.act(APPROVE, "B-1"))
    request = bench.act(PAY, "B-1")
    await ask(bench, replace(request, caller=replace(request.caller, subject="else", agents=frozenset())))
    assert bench.engine.documents[-1]["action"]["prerequisites"][0]["latest"] == "absent"


async def test_allow_comes_after_what_it_rests_on_until_that_was_executed() -> None:
    bench = await bench_with(consumed=False)
    approved = await ask(bench, bench.act(APPROVE, "B-1"))
    assert after(await ask(bench, bench.act(PAY, "B-1"))) == [approved.decision_id]
    await say(bench, approved, Outcome.EXECUTED, believed=False)
    assert after(await ask(bench, bench.act(PAY, "B-1"))) == []
    assert after((await bench.ask(bench.act(PAY, "B-1")))[0][0]) == []
    # An approval that is asked for once more and left undone is not the one to wait for.
    await ask(bench, bench.act(APPROVE, "B-1"))
    assert after(await ask(bench, bench.act(PAY, "B-1"))) == []
    await say(bench, approved, Outcome.FAILED)
    assert after(await ask(bench, bench.act(PAY, "B-1"))) != []


OPERATIONS = st.lists(
    st.tuples(
        st.sampled_from(
            ["approve", "approve", "pay", "pay", "pay", "reject", "escalate", "odd", "fail", "say"]
        ),
        st.integers(0, 5),
    ),
    min_size=1,
    max_size=14,
)


class Book:
    """An independent account of which approval carries which payment."""

    def __init__(self) -> None:
        self.latest = "absent"
        # Approvals since any other answer, and the payment that holds each.
        self.run: list[int] = []
        self.holder: dict[int, int] = {}

    def answer(self, kind: str, number: int) -> str:
        """Return the effect of the call with this number, and note what it changes."""
        if kind == "approve":
            self.run, self.latest = [*(self.run if self.latest == "allow" else []), number], "allow"
            return "allow"
        if kind == "reject":
            if self.latest != "escalate":
                self.latest = "block"
            return "block"
        if kind == "escalate":
            self.latest = "escalate"
            return "escalate"
        if kind == "odd":
            return "block"
        free = [each for each in self.run if each not in self.holder] if self.latest == "allow" else []
        if not free:
            return "block"
        self.holder[free[-1]] = number
        return "allow"

    def release(self, number: int) -> None:
        self.holder = {each: by for each, by in self.holder.items() if by != number}


@settings(max_examples=150, deadline=None)
@given(OPERATIONS, st.booleans())
def test_payments_are_allowed_as_an_independent_account_says(
    operations: list[tuple[str, int]], as_plan: bool
) -> None:
    """Alone, or as plans between the reports."""
    verdicts = {
        "reject": BLOCK,
        "escalate": ESCALATE,
        "odd": verdict(Effect.BLOCK, "amount.zero"),
    }

    async def run() -> None:
        bench, book = await bench_with(), Book()
        made: dict[str, str] = {}
        payments: list[tuple[int, Decision]] = []

        def judge_all(document: dict[str, Any]) -> Verdict:
            return verdicts.get(made[document["action"]["tool_call_id"]]) or judge(document)

        bench.engine.judge_by(judge_all)
        waiting: list[tuple[int, str, EvaluationRequest]] = []

        async def flush() -> None:
            if not waiting:
                return
            if as_plan:
                answers = await bench.ask(*(request for _, _, request in waiting))
            else:
                answers = [await bench.point().evaluate(request) for _, _, request in waiting]
            for (number, kind, _), (decision, _) in zip(waiting, answers, strict=True):
                assert str(decision.effect) == book.answer(kind, number), (operations, number)
                if kind == "pay" and decision.effect is Effect.ALLOW:
                    payments.append((number, decision))
            waiting.clear()

        for number, (kind, which) in enumerate(operations):
            if kind not in ("fail", "say"):
                call = f"c-{number}"
                made[call] = kind
                waiting.append((number, kind, bench.act(PAY if kind == "pay" else APPROVE, "B-1", call=call)))
                continue
            await flush()
            if payments:
                # A payment is reported on once: believed, it is released; otherwise nothing is given back.
                paid, decision = payments.pop(which % len(payments))
                await say(bench, decision, Outcome.FAILED, believed=kind == "fail")
                if kind == "fail":
                    book.release(paid)
        await flush()

    asyncio.run(run())


ITEMS = st.lists(
    st.tuples(st.sampled_from(["approve", "pay", "pay", "reject", "odd"]), st.sampled_from(["B-1", "B-2"])),
    min_size=1,
    max_size=10,
)


@settings(max_examples=80, deadline=None)
@given(ITEMS, st.booleans())
def test_plan_rests_on_the_same_approvals_as_its_items_one_by_one(
    items: list[tuple[str, str]], consumed: bool
) -> None:
    verdicts = {"reject": BLOCK, "odd": verdict(Effect.BLOCK, "amount.zero")}

    async def found(*, as_plan: bool) -> list[tuple[str, list[int]]]:
        bench = await bench_with(consumed=consumed)

        def judge_all(document: dict[str, Any]) -> Verdict:
            kind, _ = items[int(document["action"]["tool_call_id"])]
            return verdicts.get(kind) or judge(document)

        bench.engine.judge_by(judge_all)
        asked = [
            bench.act(PAY if kind == "pay" else APPROVE, bill, call=str(number))
            for number, (kind, bill) in enumerate(items)
        ]
        if as_plan:
            answers = await bench.ask(*asked)
        else:
            answers = [await bench.point().evaluate(each) for each in asked]
        ids = [decision.decision_id for decision, _ in answers]
        return [
            (code, [ids.index(str(named)) for named in after(decision)])
            for code, (decision, _) in zip(told(answers), answers, strict=True)
        ]

    assert asyncio.run(found(as_plan=True)) == asyncio.run(found(as_plan=False))
