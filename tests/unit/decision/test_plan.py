"""Plans on fakes: what items see of each other, what is asked and recorded."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pdp.decision.fingerprint import Fingerprints
from pdp.decision.point import DecisionPoint
from pdp.delegation.tokens import GrantTokens
from pdp.errors import DeadlineExceededError, OverloadedError, SessionMovedError, StoreUnavailableError
from pdp.model import (
    AmountLimit,
    Boundary,
    BusinessKeyRule,
    Decision,
    Effect,
    EvaluationRequest,
    Facts,
    FactsRequest,
    Obligation,
    Position,
    Prerequisite,
    Receipt,
    Recording,
    Session,
    Task,
    ToolEffect,
    Verdict,
)
from pdp.overload.admission import Admission
from pdp.proof.receipts import read_decision
from pdp.signing import RotatingSigner
from placet.receipt import b64url_encode, parse
from tests.fakes.engine import ALLOW, BLOCK, ESCALATE, FakePolicyEngine, Judge
from tests.fakes.store import FakeStore
from tests.fakes.store.ledger import FakeLedger
from tests.support import builders
from tests.support.gc_cycles import without_collector

APPROVE, PAY = "bills.approve", "bills.pay"


class Bench:
    """A decision point on fakes, with one open session of a tenant that pays bills."""

    def __init__(self) -> None:
        self.store = FakeStore()
        self.engine = FakePolicyEngine()
        self.signer = RotatingSigner(self.store.keys, replica="test")
        self.session: Session = builders.session()

    def point(self, ledger: FakeLedger | None = None, admission: Admission | None = None) -> DecisionPoint:
        return DecisionPoint(
            information=self.store.information_point,
            engine=self.engine,
            signer=self.signer,
            ledger=ledger or self.store.ledger,
            grants=GrantTokens(self.signer, self.store.keys),
            fingerprints=Fingerprints(b"k" * 32),
            issuer="test",
            admission=admission,
        )

    def act(
        self, tool: str = PAY, bill: str = "B-1", amount: int = 100, call: str | None = None
    ) -> EvaluationRequest:
        arguments = {"invoice": bill, "amount": Decimal(amount), "currency": "EUR"}
        what = builders.action(tool, arguments=arguments, tool_call_id=call)
        return builders.evaluation(self.session.session_id, what=what)

    async def ask(self, *items: EvaluationRequest, whole: bool = False) -> list[tuple[Decision, Receipt]]:
        return await self.point().evaluate_plan(items, all_or_nothing=whole)

    async def now(self) -> Session:
        found = await self.store.sessions.get(builders.TENANT, self.session.session_id)
        assert found is not None
        return found[0]


async def opened() -> Bench:
    bench = Bench()
    await bench.signer.rotate()
    pay = replace(
        builders.tool(PAY, arguments_schema='{"type": "object"}'),
        business_key=BusinessKeyRule(name="bill", arguments=("invoice",)),
        prerequisites=(Prerequisite(tool=APPROVE, same=("invoice",), required=True),),
    )
    await bench.store.control_plane.put_tenant(builders.TENANT, b"{}", by=builders.AUTHOR)
    approve = builders.tool(
        APPROVE, effect=ToolEffect.WRITE, arguments_schema='{"type": "object"}', amount=None
    )
    await bench.store.control_plane.put_tools(builders.TENANT, [pay, approve], by=builders.AUTHOR)
    await bench.store.control_plane.put_agents(builders.TENANT, [builders.agent()], by=builders.AUTHOR)
    limit = AmountLimit(currency="EUR", per_action=Decimal(1000), total=Decimal(1000))
    bounds = Boundary(tools=(APPROVE, PAY), amounts=(limit,), max_actions=9)
    now = await bench.store.clock.now()
    session = builders.session(now=now, bounds=bounds, session_id="s-1", task=Task(id="T-1"))
    bench.session = (await bench.store.sessions.open(builders.TENANT, session)).session
    return bench


@pytest.fixture
async def bench() -> Bench:
    return await opened()


def effects(answers: Sequence[tuple[Decision, Receipt]]) -> list[str]:
    return [str(decision.effect) for decision, _ in answers]


def codes(decision: Decision) -> list[str]:
    return [reason.code for reason in decision.reasons]


def of_bill(name: str, verdict: Verdict) -> Judge:
    """What is about this bill gets the verdict; the rest is allowed."""

    def judge(document: dict[str, Any]) -> Verdict:
        return verdict if document["action"]["arguments"]["invoice"] == name else ALLOW

    return judge


def used(document: dict[str, Any], code: str) -> int:
    (limit,) = [limit for limit in document["limits"] if limit["code"] == code]
    found: int = limit["used"]
    return found


async def test_each_item_is_judged_on_what_those_before_it_leave(bench: Bench) -> None:
    await bench.ask(
        bench.act(APPROVE, "B-1"),
        bench.act(PAY, "B-1", 300),
        bench.act(PAY, "B-2", 50),
        bench.act(PAY, "B-1"),
    )
    documents = bench.engine.documents
    assert len(documents) == 4
    version = bench.session.version
    assert [d["session"]["version"] for d in documents] == [version + n for n in range(4)]
    assert [d["session"]["history"]["decisions"]["allow"] for d in documents] == [0, 1, 2, 3]
    assert [used(d, "boundary.max_actions") for d in documents] == [0, 1, 2, 3]
    assert [used(d, "boundary.total") for d in documents[1:]] == [0, 30_000, 35_000]
    assert [d["action"]["prerequisites"][0]["latest"] for d in documents[1:]] == ["allow", "absent", "allow"]
    assert [len(d["action"]["holds"]) for d in documents[1:]] == [0, 0, 1]
    assert [sum(b["count"] for b in d["session"]["history"]["pay"]) for d in documents[1:]] == [0, 1, 2]
    stored = await bench.now()
    assert (stored.version, stored.aggregates.allow) == (version + 4, 4)


ITEMS = st.lists(
    st.tuples(
        st.sampled_from([APPROVE, PAY]),
        st.sampled_from(["B-1", "B-2", "B-3"]),
        st.integers(1, 900),
        st.sampled_from([ALLOW, ALLOW, ALLOW, BLOCK, ESCALATE]),
    ),
    min_size=1,
    max_size=12,
)


@settings(max_examples=60, deadline=None)
@given(ITEMS)
def test_all_is_recorded_as_if_the_items_had_been_asked_for_one_by_one(
    items: list[tuple[str, str, int, Verdict]],
) -> None:
    async def recorded(*, as_plan: bool) -> list[tuple[object, ...]]:
        bench = await opened()
        verdicts = {f"c-{n}": verdict for n, (*_, verdict) in enumerate(items)}
        bench.engine.judge_by(lambda document: verdicts[document["action"]["tool_call_id"]])
        asked = [bench.act(tool, bill, amount, f"c-{n}") for n, (tool, bill, amount, _) in enumerate(items)]
        if as_plan:
            await bench.ask(*asked)
        else:
            for each in asked:
                await bench.point().evaluate(each)
        return [
            (
                r.input_document,
                r.decision.effect,
                r.decision.session_version,
                r.move,
                r.own_keys,
                r.reservation,
            )
            for r in bench.store.recorded
        ]

    assert asyncio.run(recorded(as_plan=True)) == asyncio.run(recorded(as_plan=False))


async def test_rest_is_judged_again_after_what_is_not_allowed(bench: Bench) -> None:
    bench.engine.judge_by(of_bill("B-3", BLOCK))
    answers = await bench.ask(*(bench.act(APPROVE, f"B-{n}") for n in range(1, 7)))
    assert effects(answers) == ["allow", "allow", "block", "allow", "allow", "allow"]
    # Six at once; then one, then two.
    assert len(bench.engine.documents) == 6 + 1 + 2
    last = bench.engine.documents[-1]
    assert last["session"]["history"]["decisions"] == {"allow": 4, "block": 1, "escalate": 0}


async def test_plan_of_which_nothing_is_allowed_asks_little_more_than_one_by_one(bench: Bench) -> None:
    bench.engine.judge_by(BLOCK)
    answers = await bench.ask(*(bench.act(APPROVE, f"B-{n}") for n in range(32)))
    assert effects(answers) == ["block"] * 32
    assert len(bench.engine.documents) == 32 + 31


async def test_receipts_form_a_chain_and_positions_follow_each_other(bench: Bench) -> None:
    answers = await bench.ask(*(bench.act(APPROVE, f"B-{n}") for n in range(3)))
    parsed = [parse(receipt.token) for _, receipt in answers]
    assert [p.claims["prev"] for p in parsed] == [[], *([b64url_encode(p.hash)] for p in parsed[:-1])]
    assert [receipt.position for _, receipt in answers] == [Position(writer="fake", seq=n) for n in (1, 2, 3)]
    for decision, receipt in answers:
        assert read_decision(receipt.token) == decision


async def test_allow_that_rests_on_an_earlier_item_comes_after_it(bench: Bench) -> None:
    approved, other, paid, free = await bench.ask(
        bench.act(APPROVE, "B-1"), bench.act(APPROVE, "B-2"), bench.act(PAY, "B-1"), bench.act(PAY, "B-9")
    )
    assert paid[0].obligations == (
        Obligation(id="after", properties={"decision_id": approved[0].decision_id}),
    )
    for decision, _ in (approved, other, free):
        assert decision.obligations == ()


async def test_allow_comes_after_an_item_that_was_answered_before(bench: Bench) -> None:
    earlier, _ = await bench.point().evaluate(bench.act(APPROVE, "B-1", call="a"))
    approved, paid = await bench.ask(bench.act(APPROVE, "B-1", call="a"), bench.act(PAY, "B-1"))
    assert approved[0].replayed
    assert [o.properties["decision_id"] for o in paid[0].obligations] == [earlier.decision_id]


async def test_latest_answer_to_a_prerequisite_counts(bench: Bench) -> None:
    """An approval that was allowed and then, asked once more, was not, is nothing to rest on."""
    bench.engine.judge_by(lambda d: BLOCK if d["action"]["tool_call_id"] == "second" else ALLOW)
    answers = await bench.ask(
        bench.act(APPROVE, "B-1"), bench.act(APPROVE, "B-1", call="second"), bench.act(PAY, "B-1")
    )
    assert bench.engine.documents[-1]["action"]["prerequisites"][0]["latest"] == "block"
    assert answers[2][0].obligations == ()


async def test_whole_plan_is_allowed(bench: Bench) -> None:
    answers = await bench.ask(bench.act(APPROVE), bench.act(PAY), whole=True)
    assert effects(answers) == ["allow", "allow"]


@pytest.mark.parametrize("verdict", [BLOCK, ESCALATE], ids=["block", "escalate"])
async def test_plan_that_is_not_whole_is_blocked_and_leaves_nothing(bench: Bench, verdict: Verdict) -> None:
    bench.engine.judge_by(of_bill("B-2", verdict))
    answers = await bench.ask(bench.act(PAY, "B-1"), bench.act(PAY, "B-2"), bench.act(PAY, "B-3"), whole=True)
    assert effects(answers) == ["block"] * 3
    decisions = [decision for decision, _ in answers]
    own = [verdict.reasons[0].code]
    assert codes(decisions[1]) == (own if verdict is BLOCK else ["plan.not_whole", *own])
    for decision in (decisions[0], decisions[2]):
        assert codes(decision) == ["plan.not_whole"]
        assert decision.reasons[0].at == "items[1]"
        assert decision.retryable
        assert decision.obligations == ()
    for recording in bench.store.recorded:
        assert recording.reservation is None
    stored = await bench.now()
    assert (stored.version, stored.aggregates.block, stored.aggregates.pay) == (
        bench.session.version + 3,
        3,
        (),
    )
    for decision, receipt in answers:
        assert read_decision(receipt.token) == decision
    # Asked for alone, what was allowed is still allowed.
    decision, _ = await bench.point().evaluate(bench.act(PAY, "B-1", call=decisions[0].tool_call_id))
    assert decision.effect is Effect.ALLOW


async def test_plan_that_is_not_whole_answers_no_prerequisite(bench: Bench) -> None:
    await bench.point().evaluate(bench.act(APPROVE, "B-1"))
    bench.engine.judge_by(of_bill("B-2", BLOCK))
    await bench.ask(bench.act(APPROVE, "B-1"), bench.act(APPROVE, "B-2"), whole=True)
    await bench.point().evaluate(bench.act(PAY, "B-1"))
    assert bench.engine.documents[-1]["action"]["prerequisites"][0]["latest"] == "allow"


async def test_repeated_plan_gets_the_stored_answers(bench: Bench) -> None:
    items = [bench.act(APPROVE, "B-1", call="a"), bench.act(PAY, "B-1", call="b")]
    first = await bench.ask(*items, whole=True)
    again = await bench.ask(*items, whole=True)
    assert [decision.replayed for decision, _ in again] == [True, True]
    assert [receipt for _, receipt in again] == [receipt for _, receipt in first]
    assert len(bench.store.recorded) == 2
    # With more than before: what was answered is answered, and the rest judged on it.
    longer = await bench.ask(*items, bench.act(PAY, "B-2", call="c"))
    assert [decision.replayed for decision, _ in longer] == [True, True, False]
    assert bench.engine.documents[-1]["session"]["history"]["decisions"]["allow"] == 2


async def test_allow_of_before_is_no_part_of_a_plan_that_is_not_whole(bench: Bench) -> None:
    earlier, _ = await bench.point().evaluate(bench.act(APPROVE, "B-1", call="a"))
    bench.engine.judge_by(of_bill("B-2", BLOCK))
    answers = await bench.ask(
        bench.act(APPROVE, "B-1", call="a"), bench.act(APPROVE, "B-2", call="b"), whole=True
    )
    assert effects(answers) == ["block", "block"]
    assert codes(answers[0][0]) == ["plan.not_whole"]
    assert not answers[0][0].replayed
    versions = [decision.session_version for decision, _ in answers]
    assert versions == [bench.session.version + 2, bench.session.version + 3]
    # The answer of before stands.
    again, _ = await bench.point().evaluate(bench.act(APPROVE, "B-1", call="a"))
    assert (again.decision_id, again.replayed) == (earlier.decision_id, True)


async def test_engine_that_fails_blocks_every_item_and_all_are_recorded(bench: Bench) -> None:
    bench.engine.fail("status")
    answers = await bench.ask(*(bench.act(APPROVE, f"B-{n}") for n in range(4)))
    assert {tuple(codes(decision)) for decision, _ in answers} == {("pdp.policy_unavailable",)}
    assert len(bench.store.recorded) == 4


async def test_engine_that_hangs_blocks_every_item_within_the_deadline(bench: Bench) -> None:
    bench.engine.pause()
    items = [replace(bench.act(APPROVE, f"B-{n}"), deadline=builders.deadline(2)) for n in range(8)]
    answers = await bench.ask(*items)
    assert {tuple(codes(decision)) for decision, _ in answers} == {("pdp.policy_unavailable",)}


async def test_plan_that_loses_against_another_replica_is_judged_again(bench: Bench) -> None:
    class Racing(FakeLedger):
        lost = 0

        async def record_together(self, recordings: Sequence[Recording]) -> Sequence[Position]:
            if self.lost < 3:
                self.lost += 1
                raise SessionMovedError("another replica was first")
            return await super().record_together(recordings)

    point = bench.point(Racing(bench.store.state))
    answers = await point.evaluate_plan(
        [bench.act(APPROVE, "B-1"), bench.act(APPROVE, "B-2")], all_or_nothing=False
    )
    assert effects(answers) == ["allow", "allow"]
    assert len(bench.engine.documents) == 2 * 4
    assert len(bench.store.recorded) == 2


async def test_ledger_that_fails_returns_nothing(bench: Bench) -> None:
    class Failing(FakeLedger):
        async def record_together(self, recordings: Sequence[Recording]) -> Sequence[Position]:
            raise StoreUnavailableError("down")

    with pytest.raises(StoreUnavailableError):
        await bench.point(Failing(bench.store.state)).evaluate_plan([bench.act()], all_or_nothing=False)


async def test_plan_that_failed_is_gone_before_the_collector_comes(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def late(request: FactsRequest) -> Facts:
        raise DeadlineExceededError("the database did not answer in time")

    monkeypatch.setattr(bench.store.information_point, "gather", late)
    async with without_collector("EvaluationRequest") as gone:
        with pytest.raises(DeadlineExceededError):
            await bench.ask(bench.act(APPROVE), bench.act(), bench.act(bill="B-2"))
        await gone()


async def test_strangers_plan_is_recorded_and_moves_nothing(bench: Bench) -> None:
    bench.engine.judge_by(BLOCK)
    stranger = builders.caller(subject="svc-other", agents=frozenset({"agent:other"}))
    answers = await bench.ask(*(replace(bench.act(PAY, f"B-{n}"), caller=stranger) for n in range(2)))
    assert effects(answers) == ["block", "block"]
    assert [decision.session_version for decision, _ in answers] == [0, 0]
    assert await bench.now() == bench.session


async def test_plan_takes_as_many_places_as_it_has_items(bench: Bench) -> None:
    admission = Admission(max_in_flight=16)
    point = bench.point(admission=admission)
    loads: list[int] = []

    def judge(_: dict[str, Any]) -> Verdict:
        loads.append(admission.load().waiting)
        return ALLOW

    bench.engine.judge_by(judge)
    await point.evaluate_plan([bench.act(APPROVE, f"B-{n}") for n in range(3)], all_or_nothing=False)
    # More than one session may have is never needed.
    await point.evaluate_plan([bench.act(APPROVE, f"C-{n}") for n in range(8)], all_or_nothing=False)
    assert loads == [3] * 3 + [4] * 8
    assert admission.load().waiting == 0


async def test_plan_for_which_there_is_no_room_is_turned_away(bench: Bench) -> None:
    admission = Admission(max_in_flight=16)
    with admission.enter(builders.deadline(), 4), admission.enter(builders.deadline(), 4):
        with admission.enter(builders.deadline(), 4), admission.enter(builders.deadline(), 2):
            with pytest.raises(OverloadedError):
                await bench.point(admission=admission).evaluate_plan(
                    [bench.act(APPROVE, f"B-{n}") for n in range(3)], all_or_nothing=False
                )
            assert bench.store.recorded == []
        answers = await bench.point(admission=admission).evaluate_plan(
            [bench.act(APPROVE, f"B-{n}") for n in range(3)], all_or_nothing=False
        )
    assert effects(answers) == ["allow"] * 3
