"""What became of an allow: reported, redeemed, voided or never said, on real replicas."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import psycopg
import pytest

from placet import (
    AsyncClient,
    HoldState,
    NotFoundError,
    Outcome,
    PlacetError,
    PreconditionError,
    Reported,
    Session,
    UnavailableError,
)
from tests.e2e.scene import AGENT, HELPER, Scene, codes, fetch, until
from tests.e2e.test_faults import owner_url
from tests.e2e.test_limits import SETTINGS, TOOLS, act, ask_both, effects, open_session, prepare

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def tool(scene: Scene, replica: int = 1) -> AsyncClient:
    return await scene.tool_server(replica=replica)


def erp_runs(action: dict[str, Any]) -> dict[str, Any]:
    """What the tool server says that it is about to run."""
    return {"tool": action["tool"], "arguments": action["arguments"], "audience": "erp"}


async def allowed(scene: Scene, session: Session, bill: str = "B-1", **members: Any) -> str:
    decision = await scene.ask(act(bill), session, **members)
    assert decision.effect == "allow", codes(decision)
    return decision.decision_id


async def test_only_whoever_can_be_believed_frees_a_key_and_its_money(scene: Scene) -> None:
    await prepare(scene)
    session = await open_session(scene, total="100")
    first = await allowed(scene, session)
    mine, erp = await scene.agent(), await tool(scene, replica=2)
    assert (await mine.report_outcome(first, Outcome.FAILED, session=session)).hold is HoldState.UNRESOLVED
    again = (await ask_both(scene, [(act("B-1"), session)]))[0]
    # The money is still held, too.
    assert sorted(codes(again)) == ["boundary.total", "payment.unresolved"]
    assert (await erp.report_outcome(first, "failed")).hold is HoldState.RELEASED
    assert effects(await ask_both(scene, [(act("B-1"), session)])) == {"allow": 1}


async def test_tools_word_on_a_call_that_has_two_allows_frees_neither(scene: Scene) -> None:
    """The agent chose the same id twice, by two credentials, for the tool to confuse them."""
    await prepare(scene)
    session, mine, erp = await open_session(scene), await scene.agent(), await tool(scene)
    other = await scene.client("svc-ap-2", "agent", agents=(AGENT,))
    action = act("B-1")
    by_call: dict[str, Any] = {"session": session, "tool_call_id": action["tool_call_id"]}
    first = await other.evaluate(act("B-2") | {"tool_call_id": action["tool_call_id"]}, session=session)
    second = await mine.evaluate(action, session=session)
    assert (first.effect, second.effect) == ("allow", "allow")
    with pytest.raises(NotFoundError, match="decision_id"):
        await erp.report_outcome(outcome="not_executed", **by_call)
    assert codes((await ask_both(scene, [(act("B-1"), session)]))[0]) == ["payment.duplicate"]
    assert (await erp.report_outcome(first.decision_id, "not_executed")).hold is HoldState.RELEASED
    # Whoever asked means the latest of its own.
    assert (await mine.report_outcome(outcome="executed", **by_call)).hold is HoldState.COMMITTED
    assert (await scene.recorded(second.decision_id)).outcome is Outcome.EXECUTED


async def test_executed_commits_and_a_contradiction_frees_nothing(scene: Scene) -> None:
    await prepare(scene)
    session = await open_session(scene)
    first = await allowed(scene, session)
    mine, erp = await scene.agent(), await tool(scene)
    assert (
        await mine.report_outcome(first, "executed", output=b'{"id": 7}', session=session)
    ).hold is HoldState.COMMITTED
    assert await erp.report_outcome(first, "not_executed") == Reported(
        decision_id=first, hold=HoldState.COMMITTED, conflict=True
    )
    again = (await ask_both(scene, [(act("B-1"), session)]))[0]
    assert codes(again)[0] == "payment.duplicate"
    assert effects(await ask_both(scene, [(act("B-2"), session)])) == {"allow": 1}


async def test_repeat_of_a_call_with_an_outcome_is_stale(scene: Scene) -> None:
    await prepare(scene)
    session, action = await open_session(scene), act("B-1")
    first = await scene.ask(action, session)
    assert (await scene.ask(action, session)).replayed
    await (await scene.agent()).report_outcome(first.decision_id, "executed", session=session)
    assert codes(await scene.ask(action, session))[0] == "action.replay_stale"


async def test_of_many_redemptions_on_two_replicas_one_succeeds(scene: Scene) -> None:
    await prepare(scene)
    await _redeem_required(scene)
    session, action = await open_session(scene), act("B-1")
    decision = await scene.ask(action, session, audience="erp")
    assert [obligation.id for obligation in decision.obligations] == ["redeem"]
    clients = [await tool(scene, replica=number) for number in (1, 2)]
    asked = erp_runs(action)
    outcomes = await asyncio.gather(
        *(clients[n % 2].redeem(decision.decision_id, **asked) for n in range(16)), return_exceptions=True
    )
    assert outcomes.count(None) == 1
    refused = [outcome for outcome in outcomes if outcome is not None]
    assert all(isinstance(o, PreconditionError) and o.reason == "NOT_REDEEMABLE" for o in refused), refused


async def test_allow_on_moved_ground_is_redeemed_only_while_it_would_be_given_again(scene: Scene) -> None:
    await prepare(scene)
    await _redeem_required(scene)
    operator, session, erp = await scene.operator(), await open_session(scene), await tool(scene, replica=2)
    action = act("B-1")
    decision = await scene.ask(action, session, audience="erp")
    await operator.patch_entity("vendor:V-1", {"status": "blocked"})
    with pytest.raises(PreconditionError, match=r"counterparty\.not_active") as refused:
        await erp.redeem(decision.decision_id, **erp_runs(action))
    assert refused.value.reason == "NOT_REDEEMABLE"
    assert not (await scene.recorded(decision.decision_id)).redeemed
    await operator.patch_entity("vendor:V-1", {"status": "active"})
    await operator.put_tenant(SETTINGS | {"large_amount": {"EUR": "50"}})
    with pytest.raises(PreconditionError, match=r"payment\.large"):
        await erp.redeem(decision.decision_id, **erp_runs(action))
    await operator.put_tenant(SETTINGS)
    # It alone holds its key, and what it paid is not counted twice.
    await erp.redeem(decision.decision_id, **erp_runs(action))
    recorded = await scene.recorded(decision.decision_id)
    assert (recorded.redeemed, recorded.outcome) == (True, None)


@pytest.mark.parametrize("named", ["", "erp"])
@pytest.mark.parametrize("audience", ["erp2", ""])
async def test_allow_for_an_audience_that_the_tool_no_longer_has_is_used_by_nobody(
    scene: Scene, named: str, audience: str
) -> None:
    await prepare(scene)
    session, action, operator = await open_session(scene), act("B-1"), await scene.operator()
    decision = await scene.ask(action, session, audience=named)
    assert decision.allowed
    approve, pay = TOOLS
    await operator.put_tools([approve, pay | {"audience": audience}])
    for receiver in ("erp", "erp2"):
        side = await scene.tool_server(audiences=("erp", "erp2"), replica=2)
        with pytest.raises(PreconditionError) as refused:
            await side.redeem(decision.decision_id, **(erp_runs(action) | {"audience": receiver}))
        assert refused.value.reason == "NOT_REDEEMABLE"
    # It was not used up.
    await operator.put_tools(TOOLS)
    assert (await scene.ask(action, session, audience=named)).decision_id == decision.decision_id
    await operator.put_tools([approve, pay | {"audience": audience}])
    assert codes(await scene.ask(action, session, audience=named))[0] == "action.replay_stale"
    # And now it is void, whatever is registered.
    await operator.put_tools(TOOLS)
    assert codes(await scene.ask(action, session, audience=named))[0] == "action.replay_stale"


async def test_nothing_is_redeemed_while_nobody_can_judge_it(scene: Scene) -> None:
    await prepare(scene)
    await _redeem_required(scene)
    session, erp, action = await open_session(scene), await tool(scene), act("B-1")
    decision = await scene.ask(action, session, audience="erp")
    async with scene.stack.supervisor.killed("opa"):
        with pytest.raises(UnavailableError):
            await erp.redeem(decision.decision_id, **erp_runs(action))
    await scene.found()
    assert not (await scene.recorded(decision.decision_id)).redeemed
    await erp.redeem(decision.decision_id, **erp_runs(action))


@pytest.mark.parametrize(
    "change",
    [
        {"tool": "bills.approve"},
        {"arguments": {"bill": "B-1", "vendor": "V-1", "amount": 101, "currency": "EUR"}},
        {"audience": "other"},
        {"audience": ""},
    ],
    ids=["another tool", "another amount", "another audience", "no audience"],
)
async def test_allow_of_one_action_redeems_no_other(scene: Scene, change: dict[str, Any]) -> None:
    await prepare(scene)
    session, action = await open_session(scene), act("B-1")
    decision = await scene.ask(action, session, audience="erp")
    asked = erp_runs(action)
    with pytest.raises(PreconditionError):
        await (await tool(scene)).redeem(decision.decision_id, **(asked | change))
    await (await tool(scene)).redeem(decision.decision_id, **asked)


async def test_nothing_is_redeemed_after_expiry_void_or_end(scene: Scene) -> None:
    await prepare(scene)
    session = await open_session(scene)
    erp = await tool(scene)

    async def refused(action: dict[str, Any], decision_id: str) -> None:
        with pytest.raises(PreconditionError):
            await erp.redeem(decision_id, **erp_runs(action))

    voided, expired, ended = act("B-1"), act("B-2"), act("B-3")
    first = await scene.ask(voided, session)
    mine = await scene.agent()
    state = (
        await mine.report_outcome(outcome="voided", session=session, tool_call_id=voided["tool_call_id"])
    ).hold
    assert state is HoldState.UNRESOLVED
    await refused(voided, first.decision_id)
    second = await scene.ask(expired, session)
    await scene.advance(61)
    await refused(expired, second.decision_id)
    third = await scene.ask(ended, session)
    await (await scene.issuer()).close_session(session)
    await refused(ended, third.decision_id)


async def test_what_had_to_be_redeemed_and_was_not_is_free_again(scene: Scene) -> None:
    await prepare(scene)
    await _redeem_required(scene)
    session = await open_session(scene, total="100")
    first = act("B-1")
    await scene.ask(first, session)
    mine = await scene.agent()
    state = (
        await mine.report_outcome(outcome="voided", session=session, tool_call_id=first["tool_call_id"])
    ).hold
    assert state is HoldState.RELEASED
    second = await allowed(scene, session)
    await (await tool(scene)).redeem(second, **erp_runs(act("B-1")))
    # Now it may have been done.
    assert (await mine.report_outcome(second, "not_executed", session=session)).hold is HoldState.UNRESOLVED


async def test_strangers_learn_and_change_nothing(scene: Scene) -> None:
    await prepare(scene)
    session = await open_session(scene)
    first = await allowed(scene, session)
    other = await scene.client("svc-other", "agent", agents=(HELPER,))
    with pytest.raises(NotFoundError):
        await other.report_outcome(first, "failed")
    blocked = await scene.ask(act("B-1"), session)
    with pytest.raises(PreconditionError) as caught:
        await (await scene.agent()).report_outcome(blocked.decision_id, "executed", session=session)
    assert caught.value.reason == "OUTCOME_REFUSED"


async def test_silence_is_listed_until_somebody_says_what_happened(scene: Scene) -> None:
    await prepare(scene)
    session = await open_session(scene)
    silent, told = await allowed(scene, session, "B-1"), await allowed(scene, session, "B-2")
    await (await scene.agent()).report_outcome(told, "unknown", session=session)
    auditor = await scene.auditor()
    assert await auditor.list_open_decisions() == ()
    await scene.advance(61)
    found = await auditor.list_open_decisions()
    assert [(d.decision_id, d.hold, d.redeemed) for d in found] == [(silent, HoldState.UNRESOLVED, False)]
    await (await tool(scene)).report_outcome(silent, "not_executed")
    assert await auditor.list_open_decisions() == ()


async def test_executed_after_a_release_is_counted_again_and_told_once(scene: Scene) -> None:
    await prepare(scene)
    session = await open_session(scene, total="100")
    first = await allowed(scene, session)
    mine, erp = await scene.agent(), await tool(scene, replica=2)
    assert (await erp.report_outcome(first, "failed")).hold is HoldState.RELEASED
    before = await conflicts(scene)
    for _ in range(3):
        assert (await mine.report_outcome(first, "executed", session=session)).hold is HoldState.UNRESOLVED
    assert await conflicts(scene) == before + 1
    again = (await ask_both(scene, [(act("B-1"), session)]))[0]
    assert sorted(codes(again)) == ["boundary.total", "payment.unresolved"]


async def test_what_was_not_redeemed_in_time_gives_its_money_back(scene: Scene) -> None:
    day = {"name": "day", "scope": "tenant", "currency": "EUR", "max": "100", "on_exceed": "block"}
    await prepare(scene, budgets=[day | {"window_seconds": 86_400}])
    await _redeem_required(scene)
    session = await open_session(scene, total="100")
    first = await allowed(scene, session)
    assert codes((await ask_both(scene, [(act("B-2"), session)]))[0]) == ["boundary.total", "limit.budget"]
    await scene.advance(61)

    async def lapsed() -> bool:
        return (await scene.recorded(first)).outcome is Outcome.UNREDEEMED

    # Each replica looks by itself; one of them records it.
    await until(lapsed, "the allow has lapsed")
    assert effects(await ask_both(scene, [(act("B-1"), session)])) == {"allow": 1}
    erp = await tool(scene)
    assert (await erp.report_outcome(first, "not_executed")).hold is HoldState.RELEASED
    assert (await erp.report_outcome(first, "executed")).hold is HoldState.UNRESOLVED


async def test_nothing_is_redeemed_once_its_task_is_completed(scene: Scene) -> None:
    await prepare(scene)
    session, action = await open_session(scene), act("B-1")
    decision = await scene.ask(action, session)
    await (await scene.issuer()).complete_task(session)
    with pytest.raises(PreconditionError, match="its session is over"):
        await (await tool(scene)).redeem(decision.decision_id, **erp_runs(action))


async def test_silence_is_counted_where_operators_look(scene: Scene) -> None:
    await prepare(scene)

    async def known() -> tuple[float] | None:
        value = await metric(scene, "placet_open_decisions")
        return None if math.isnan(value) else (value,)

    (before,) = await until(known, "it was counted once")
    await allowed(scene, await open_session(scene))
    await scene.advance(61)

    async def counted() -> bool:
        return await metric(scene, "placet_open_decisions") > before

    await until(counted, "the silence is counted")


async def test_replica_that_is_killed_in_a_rush_of_reports_gives_back_nothing_twice(scene: Scene) -> None:
    await prepare(scene)
    session = await open_session(scene, total="6000")
    decisions = await ask_both(scene, [(act(f"B-{n}"), session) for n in range(60)])
    assert effects(decisions) == {"allow": 60}
    clients = [await tool(scene, replica=number) for number in (1, 2)]

    async def report(number: int) -> HoldState:
        """Say it to one replica or the other until somebody has heard it."""
        for attempt in range(number, number + 600):
            try:
                client = clients[(attempt + number // 60) % 2]
                return (await client.report_outcome(decisions[number % 60].decision_id, "failed")).hold
            except PlacetError:
                await asyncio.sleep(0.05)
        raise AssertionError(f"nobody heard report {number}")

    # Each is said twice, to both.
    asked = [asyncio.ensure_future(report(n)) for n in range(120)]
    await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
    async with scene.stack.supervisor.killed("pdp-2"):
        assert set(await asyncio.gather(*asked)) == {HoldState.RELEASED}
        assert await _ledger(scene) == (60, 60, 0)
    await scene.found(replica=2)


async def _ledger(scene: Scene) -> tuple[int, int, int]:
    """How many outcomes are recorded, of how many decisions, and what the counters still come to."""
    async with await psycopg.AsyncConnection.connect(owner_url(scene.stack)) as connection:
        cursor = await connection.execute(
            """
            SELECT (SELECT count(*) FROM placet.ledger WHERE tenant = %(tenant)s AND kind = 'outcome'),
                   (SELECT count(DISTINCT about) FROM placet.ledger WHERE tenant = %(tenant)s),
                   (SELECT coalesce(sum(total), 0) FROM placet.counters WHERE tenant = %(tenant)s)
            """,
            {"tenant": scene.tenant},
        )
        row = await cursor.fetchone()
    assert row is not None
    return row[0], row[1], int(row[2])


async def conflicts(scene: Scene) -> float:
    """On both replicas."""
    found = [await metric(scene, 'placet_outcomes_total{conflict="yes"', replica=n) for n in (1, 2)]
    return sum(found)


async def metric(scene: Scene, name: str, replica: int = 1) -> float:
    _, body = await fetch(f"{scene.replica(replica).http_url}/metrics")
    return sum(float(line.rsplit(" ", 1)[1]) for line in body.splitlines() if line.startswith(name))


async def _redeem_required(scene: Scene) -> None:
    approve, pay = TOOLS
    await (await scene.operator()).put_tools([approve, pay | {"redeem": "required"}])
