"""Plans on two replicas: judged in order, recorded as a whole, exact under any load."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from placet import Decision, OutOfOrder, PreconditionError, Session
from tests.e2e.scene import Scene, codes
from tests.e2e.test_faults import owner_url
from tests.e2e.test_limits import APPROVE, PAY, TOOLS, act, effects, open_session, prepare

pytestmark = pytest.mark.asyncio(loop_scope="session")

BUDGET = {"name": "all", "scope": "tenant", "currency": "EUR", "max": "2000", "on_exceed": "block"}


async def plan_of(
    scene: Scene, session: Session, *items: dict[str, Any], whole: bool = False, replica: int = 1
) -> list[Decision]:
    client = await scene.agent(replica=replica)
    return list(await client.evaluate_plan(items, session=session, all_or_nothing=whole))


async def require_approval(scene: Scene, **members: Any) -> None:
    """Payments need an allowed approval of the same bill."""
    pay = TOOLS[1] | {"prerequisites": [{"tool": APPROVE, "same": ["bill"], "required": True}]} | members
    await (await scene.operator()).put_tools([TOOLS[0], pay])


async def spent(scene: Scene) -> tuple[int, int]:
    """How many payments hold something, and what the tenant's counters of money come to."""
    async with await psycopg.AsyncConnection.connect(owner_url(scene.stack)) as connection:
        cursor = await connection.execute(
            """
            SELECT (SELECT count(*) FROM placet.holds WHERE tenant = %(tenant)s),
                   (SELECT coalesce(sum(total), 0) FROM placet.counters WHERE tenant = %(tenant)s)
            """,
            {"tenant": scene.tenant},
        )
        row = await cursor.fetchone()
    assert row is not None
    return row[0], int(row[1])


async def test_of_whole_plans_at_once_exactly_those_that_fit_are_allowed(scene: Scene) -> None:
    """A budget for 20 payments has room for six plans of three, and nothing is left of the others."""
    await prepare(scene, budgets=[BUDGET])
    sessions = [await open_session(scene) for _ in range(5)]
    plans = [[act(f"B-{n}-{item}") for item in range(3)] for n in range(12)]
    answers = await asyncio.gather(
        *(
            plan_of(scene, sessions[n % 5], *plan, whole=True, replica=n % 2 + 1)
            for n, plan in enumerate(plans)
        )
    )
    seen = Counter(tuple(str(decision.effect) for decision in answer) for answer in answers)
    assert [d.failure for answer in answers for d in answer if d.failure] == []
    assert seen == {("allow",) * 3: 6, ("block",) * 3: 6}
    for answer in answers:
        if answer[0].effect == "block":
            assert {code for d in answer for code in codes(d)} == {"plan.not_whole", "limit.budget"}
    assert await spent(scene) == (18, 180_000)
    # What is left has room for two.
    more = await plan_of(scene, sessions[0], *(act(f"C-{n}") for n in range(3)))
    assert [str(d.effect) for d in more] == ["allow", "allow", "block"]
    assert await spent(scene) == (20, 200_000)


async def test_item_counts_for_those_after_it(scene: Scene) -> None:
    await prepare(scene)
    session = await open_session(scene, total="300.00")
    decisions = await plan_of(
        scene, session, act("B-1", 100), act("b 1", 50), act("B-2", 250), act("B-3", 150), act("B-4", "50.01")
    )
    assert [codes(d)[0] for d in decisions] == [
        "task.within_boundary",
        "payment.probable_duplicate",
        "boundary.total",
        "task.within_boundary",
        "boundary.total",
    ]
    assert await spent(scene) == (2, 25_000)


async def test_payment_comes_after_its_approval_in_the_plan(scene: Scene) -> None:
    await prepare(scene)
    await require_approval(scene)
    session, client = await open_session(scene), await scene.agent()
    approved, paid, other = await client.evaluate_plan(
        [act("B-1", tool=APPROVE), act("b 1"), act("B-2")], session=session
    )
    assert [str(d.effect) for d in (approved, paid, other)] == ["allow", "allow", "block"]
    assert codes(other) == ["review.prerequisite_missing"]
    assert paid.after == (approved.decision_id,)
    assert not paid.allowed
    with pytest.raises(OutOfOrder):
        paid.require_allowed()
    await client.report_outcome(approved.decision_id, "executed", session=session)
    paid.require_allowed()


async def test_approval_that_waits_for_a_person_waits_on_whatever_else_is_asked(scene: Scene) -> None:
    await prepare(scene, large_amount={"EUR": 1000})
    session = await open_session(scene)
    (pending,) = await plan_of(scene, session, act("B-1", 1500, tool=APPROVE))
    assert pending.effect == "escalate"
    # Beyond the boundary, and in a plan that cannot be whole.
    too_much = act("B-1", 9000, tool=APPROVE)
    await plan_of(scene, session, too_much)
    await plan_of(scene, session, act("b 1", tool=APPROVE), too_much, whole=True)
    (blocked,) = await plan_of(scene, session, act("B-1"))
    assert codes(blocked)[0] == "review.prerequisite_pending"


async def test_payment_is_redeemed_after_its_approval_was_executed_or_redeemed(scene: Scene) -> None:
    await prepare(scene)
    await require_approval(scene, redeem="required")
    session, client = await open_session(scene), await scene.agent()
    tool = await scene.tool_server("svc-bank")
    for number, kind in enumerate(("reported", "redeemed")):
        approve, pay = act(f"B-{number}", tool=APPROVE), act(f"B-{number}")
        approved, paid = await client.evaluate_plan([approve, pay], session=session)
        with pytest.raises(PreconditionError, match=approved.decision_id):
            await tool.redeem(paid.decision_id, tool=PAY, arguments=pay["arguments"], audience="erp")
        if kind == "reported":
            await client.report_outcome(approved.decision_id, "executed", session=session)
        else:
            await tool.redeem(
                approved.decision_id, tool=APPROVE, arguments=approve["arguments"], audience="erp"
            )
        await tool.redeem(paid.decision_id, tool=PAY, arguments=pay["arguments"], audience="erp")


async def test_approval_that_failed_lets_nothing_come_after_it(scene: Scene) -> None:
    await prepare(scene)
    await require_approval(scene, redeem="required")
    session, client = await open_session(scene), await scene.agent()
    tool = await scene.tool_server("svc-bank")
    pay = act("B-1")
    approved, paid = await client.evaluate_plan([act("B-1", tool=APPROVE), pay], session=session)
    await client.report_outcome(approved.decision_id, "failed", session=session)
    assert not paid.allowed
    with pytest.raises(PreconditionError, match=approved.decision_id):
        await tool.redeem(paid.decision_id, tool=PAY, arguments=pay["arguments"], audience="erp")


async def test_plans_and_calls_of_one_session_on_both_replicas_all_get_their_turn(scene: Scene) -> None:
    await prepare(scene, budgets=[BUDGET])
    session = await open_session(scene)
    single = [await scene.agent(replica=number) for number in (1, 2)]
    plans = [
        plan_of(scene, session, *(act(f"P-{n}-{i}") for i in range(4)), replica=n % 2 + 1) for n in range(4)
    ]
    calls = [single[n % 2].evaluate(act(f"S-{n}"), session=session) for n in range(8)]
    *answers, alone = await asyncio.gather(*plans, asyncio.gather(*calls))
    decisions = [decision for answer in (*answers, alone) for decision in answer]
    # Room for 20 of 24.
    assert effects(decisions) == {"allow": 20, "block": 4}
    versions = sorted(decision.session_version for decision in decisions)
    assert versions == [session.version + n for n in range(1, 25)]
    for answer in answers:
        # Nothing came between the items of a plan.
        first = answer[0].session_version
        assert [d.session_version for d in answer] == [first + n for n in range(4)]
    assert await spent(scene) == (20, 200_000)


async def test_lost_plan_is_asked_again_by_its_keys_on_the_other_replica(scene: Scene) -> None:
    await prepare(scene)
    session = await open_session(scene, total="1000")
    items = [act(f"B-{n}") for n in range(3)]
    first = await plan_of(scene, session, *items, whole=True)
    again = await plan_of(scene, session, *items, whole=True, replica=2)
    assert [d.receipt for d in again] == [d.receipt for d in first]
    assert await spent(scene) == (3, 30_000)


async def test_entity_that_moves_meanwhile_has_the_plan_judged_again(scene: Scene) -> None:
    """A vendor blocked before the answer is blocked in it; half a plan is never recorded."""
    await prepare(scene)
    session, operator = await open_session(scene), await scene.operator()
    plans = [plan_of(scene, session, *(act(f"B-{n}-{i}") for i in range(4)), whole=True) for n in range(6)]
    asked = [asyncio.ensure_future(plan) for plan in plans]
    await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
    blocked_at = await operator.put_entities(
        [{"type": "vendor", "id": "V-1", "attributes": {"status": "blocked"}}]
    )
    for answer in await asyncio.gather(*asked):
        assert len({str(decision.effect) for decision in answer}) == 1
        if answer[0].data_revisions["entities"] >= blocked_at:
            assert answer[0].effect == "block"
    last = await plan_of(scene, session, act("C-1"), act("C-2", vendor="V-2"))
    assert [codes(d)[0] for d in last] == ["counterparty.not_active", "task.within_boundary"]


BILLS = st.sampled_from(["B-1", "b 1", "B-2", "B-3"])
ITEMS = st.lists(
    st.tuples(
        st.sampled_from([APPROVE, PAY]),
        BILLS,
        st.sampled_from([1, 100, 250, 6000]),
        st.sampled_from(["V-1", "V-2", "V-3"]),
    ),
    min_size=1,
    max_size=8,
)


async def test_plan_decides_as_its_actions_would_be_one_by_one(scene: Scene) -> None:
    """In sessions and with bills of its own each, under limits that some of the items meet."""
    budget = {"name": "task", "scope": "task", "currency": "EUR", "max": "700", "on_exceed": "escalate"}
    velocity = {"payments": {"max": 4, "window_seconds": 3600, "on_exceed": "block"}}
    await prepare(scene, budgets=[budget], velocity=velocity, large_amount={"EUR": 240})
    await require_approval(scene)
    client = await scene.agent()
    loop = asyncio.get_running_loop()
    seen: Counter[str] = Counter()
    runs = iter(range(10_000))

    async def compare(items: list[tuple[str, str, int, str]]) -> None:
        run = next(runs)

        def actions(of: str) -> list[dict[str, Any]]:
            return [
                act(f"{bill}-{of}{run}", amount, tool=tool, vendor=vendor)
                for tool, bill, amount, vendor in items
            ]

        limits = {"total": "600.00", "per_counterparty": "400.00"}
        planned = await client.evaluate_plan(actions("p"), session=await open_session(scene, **limits))
        session = await open_session(scene, **limits)
        alone = [await client.evaluate(action, session=session) for action in actions("s")]
        for one, other in zip(planned, alone, strict=True):
            assert one.failure is None
            assert (one.effect, codes(one)) == (other.effect, codes(other)), items
            assert (one.retryable, one.retry_after is None) == (other.retryable, other.retry_after is None)
        seen.update(code for decision in planned for code in codes(decision))

    @settings(max_examples=40, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(ITEMS)
    @example([(APPROVE, "B-1", 100, "V-1"), *[(PAY, bill, 100, "V-1") for bill in ("B-1", "b 1", "B-1")]])
    def equal(items: list[tuple[str, str, int, str]]) -> None:
        asyncio.run_coroutine_threadsafe(compare(items), loop).result()

    await asyncio.to_thread(equal)
    assert {"task.within_boundary", "review.prerequisite_missing", "payment.duplicate"} <= set(seen), seen


async def test_plan_without_a_usable_name_is_refused_by_its_place(scene: Scene) -> None:
    await prepare(scene)
    session = await open_session(scene)
    decisions = await plan_of(scene, session, act("B-1"), act("B-2") | {"tool_call_id": " x"})
    assert {d.reasons[0].at for d in decisions} == {"items[1].action.tool_call_id"}
    assert (await (await scene.agent()).get_session(session)).version == session.version
