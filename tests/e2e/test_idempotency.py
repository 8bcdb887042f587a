"""What a repeat of a call gets, across replicas, restarts and time, on real processes."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from placet import Decision, Effect, Outcome, Session, SessionState
from placet.receipt import parse
from tests.e2e.scene import (
    AGENT,
    HELPER,
    UNKNOWN,
    Scene,
    codes,
    new_call,
    pay,
    read,
    set_scene,
    until,
)

pytestmark = pytest.mark.asyncio(loop_scope="session")

# Seconds for which an allow stands where a tenant says nothing else.
ALLOW_TTL = 60


def same(repeat: Decision, first: Decision) -> bool:
    """Whether the repeat is the first answer, byte for byte, and says that it is a repeat."""
    assert repeat.failure is None, repeat.failure
    return (
        repeat.replayed
        and (repeat.decision_id, repeat.effect, repeat.reasons, repeat.receipt, repeat.position)
        == (first.decision_id, first.effect, first.reasons, first.receipt, first.position)
        and not repeat.allowed
    )


def points_at(decision: Decision, code: str) -> str:
    """The decision that the reason with this code names."""
    return next(reason.at for reason in decision.reasons if reason.code == code).removeprefix("decision:")


async def moved(scene: Scene, session: Session) -> int:
    """The session's version now."""
    return (await (await scene.issuer()).get_session(session)).version


# --- the same call -------------------------------------------------------------


@pytest.mark.parametrize(
    ("action", "effect"),
    [
        pytest.param(read(), Effect.ALLOW, id="allow"),
        pytest.param(pay(3000), Effect.ESCALATE, id="escalate"),
        pytest.param(pay(7000), Effect.BLOCK, id="block"),
        pytest.param(read() | {"tool": UNKNOWN}, Effect.BLOCK, id="unknown tool"),
    ],
)
async def test_repeat_is_the_same_answer(scene: Scene, action: dict[str, Any], effect: Effect) -> None:
    session = await scene.session()
    first = await scene.ask(action, session)
    assert (first.effect, first.replayed, first.failure) == (effect, False, None)
    version = await moved(scene, session)
    assert same(await scene.ask(action, session), first)
    other_replica = await scene.agent(replica=2)
    assert same(await other_replica.evaluate(action, session=session), first)
    assert await moved(scene, session) == version == first.session_version
    assert (await scene.recorded(first.decision_id)).receipt == first.receipt


async def test_block_is_replayed_whatever_changed_since(scene: Scene) -> None:
    session, action = await scene.session(), read() | {"tool": "invoices.list"}
    first = await scene.ask(action, session)
    assert codes(first)[0] == "registry.unknown_tool"
    tool = {"name": "invoices.list", "effect": "read", "resource": "invoice:{invoice}"}
    schema = {"type": "object", "properties": {"invoice": {"type": "string"}}}
    await (await scene.operator()).put_tools([tool | {"arguments_schema": schema}])
    assert same(await scene.ask(action, session), first)
    await (await scene.issuer()).close_session(session)
    assert same(await scene.ask(action, session), first)


@pytest.mark.parametrize("other", [b"1200.0", b"1.2e3", b"12E+2", b"1200.00000", b"0.12e4"])
async def test_number_in_another_spelling_is_the_same_action(scene: Scene, other: bytes) -> None:
    def spelled(number: bytes) -> bytes:
        return b'{"invoice": "INV-1", "currency": "EUR", "amount": ' + number + b"}"

    session, action = await scene.session(), pay()
    first = await scene.ask(action | {"arguments": spelled(b"1200")}, session)
    assert first.effect is Effect.ALLOW
    assert same(await scene.ask(action | {"arguments": spelled(other)}, session), first)
    reordered = b'{"currency":"EUR",\n"amount":' + other + b',"invoice":"INV-\\u0031"}'
    assert same(await scene.ask(action | {"arguments": reordered}, session), first)
    near = await scene.ask(action | {"arguments": spelled(b"1200.01")}, session)
    assert "action.key_reused" in codes(near)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"arguments": {"invoice": "INV-2", "amount": 100, "currency": "EUR"}}, id="argument"),
        pytest.param({"arguments": {"invoice": "INV-1", "amount": "100", "currency": "EUR"}}, id="type"),
        pytest.param({"tool": "invoices.get", "arguments": {"invoice": "INV-1"}}, id="tool"),
        pytest.param({"resource": "invoice:INV-1"}, id="claim"),
    ],
)
async def test_id_of_another_action_is_blocked(scene: Scene, change: dict[str, Any]) -> None:
    session, action = await scene.session(), pay()
    first = await scene.ask(action, session)
    assert first.allowed
    reused = await scene.ask(action | change, session)
    assert (reused.failure, reused.effect, reused.replayed) == (None, Effect.BLOCK, False)
    assert codes(reused) == ["action.key_reused"]
    assert points_at(reused, "action.key_reused") == first.decision_id
    assert (await scene.recorded(reused.decision_id)).receipt == reused.receipt
    assert same(await scene.ask(action, session), first), "the key stays with the first action"
    assert codes(await scene.ask(action | change, session)) == ["action.key_reused"]


async def test_same_id_of_another_caller_or_session_is_another_call(scene: Scene) -> None:
    session, action = await scene.session(), read()
    first = await scene.ask(action, session)
    others = [
        await (await scene.agent("svc-other")).evaluate(action, session=session),
        await scene.ask(action, await scene.session()),
    ]
    assert all(each.allowed and not each.replayed for each in others)
    assert len({first.decision_id, *(each.decision_id for each in others)}) == 3
    assert same(await scene.ask(action, session), first)


# --- answers that no longer stand -------------------------------------------------


async def test_expired_allow_is_stale(scene: Scene) -> None:
    session, action = await scene.session(), read()
    first = await scene.ask(action, session)
    await scene.advance(ALLOW_TTL + 1)
    stale = await scene.ask(action, session)
    assert (stale.failure, stale.effect) == (None, Effect.BLOCK)
    assert codes(stale) == ["action.replay_stale"]
    assert points_at(stale, "action.replay_stale") == first.decision_id
    assert not stale.retryable
    assert same(await scene.ask(action, session), stale), "the stale block is the answer from now on"
    recorded = await scene.recorded(first.decision_id)
    assert (recorded.effect, recorded.receipt) == (Effect.ALLOW, first.receipt)
    assert (await scene.ask(read(), session)).allowed


async def test_expired_escalation_is_judged_anew(scene: Scene) -> None:
    session, action = await scene.session(), pay(3000)
    first = await scene.ask(action, session)
    await scene.advance(ALLOW_TTL + 1)
    second = await scene.ask(action, session)
    assert (second.effect, codes(second), second.replayed) == (Effect.ESCALATE, ["payment.large"], False)
    assert second.decision_id != first.decision_id


async def test_closed_session_leaves_no_allow(scene: Scene) -> None:
    session, action = await scene.session(), read()
    first = await scene.ask(action, session)
    assert first.allowed
    await (await scene.issuer()).close_session(session)
    stale = await scene.ask(action, session)
    assert stale.effect is Effect.BLOCK
    assert set(codes(stale)) == {"action.replay_stale", "session.closed"}
    assert points_at(stale, "action.replay_stale") == first.decision_id
    assert codes(await scene.ask(read(), session)) == ["session.closed"]
    assert (await scene.recorded(first.decision_id)).receipt == first.receipt


async def test_expired_session_leaves_no_allow(scene: Scene) -> None:
    now = (await scene.advance(0.001)).replace(tzinfo=UTC)
    session, action = await scene.session(expires_at=now + timedelta(seconds=40)), read()
    first = await scene.ask(action, session)
    assert first.effect is Effect.ALLOW
    assert first.expires_at is not None
    assert first.expires_at <= session.expires_at, "an answer does not outlive its session"
    await scene.advance(41)
    stale = await scene.ask(action, session)
    assert set(codes(stale)) == {"action.replay_stale", "session.expired"}
    assert points_at(stale, "action.replay_stale") == first.decision_id
    assert codes(await scene.ask(read(), session)) == ["session.expired"]
    assert (await (await scene.issuer()).get_session(session)).state is SessionState.EXPIRED


async def test_allow_on_moved_ground_stands_only_while_it_would_be_given_again(scene: Scene) -> None:
    operator, session, other_replica = (
        await scene.operator(),
        await scene.session(),
        await scene.agent(replica=2),
    )
    action = pay(100)
    first = await scene.ask(action, session)
    assert first.allowed
    # What moved does not matter to it, or lets it stand.
    await operator.put_tools([{"name": "clock.get", "effect": "read", "resource": "clock:utc"}])
    assert same(await scene.ask(action, session), first)
    await operator.put_tenant({"large_amount": {"EUR": "150"}})
    assert same(await other_replica.evaluate(action, session=session), first)
    await operator.put_tenant({"large_amount": {"EUR": "50"}})
    stale = await other_replica.evaluate(action, session=session)
    assert (stale.effect, codes(stale)) == (Effect.BLOCK, ["action.replay_stale", "payment.large"])
    assert points_at(stale, "action.replay_stale") == first.decision_id
    assert (await scene.recorded(first.decision_id)).outcome is Outcome.VOIDED
    # Void is void, whatever is set back.
    await operator.put_tenant({})
    assert same(await scene.ask(action, session), stale)


async def test_escalation_on_moved_ground_is_judged_anew_when_the_answer_is_another(scene: Scene) -> None:
    operator, session, action = await scene.operator(), await scene.session(), pay(3000)
    first = await scene.ask(action, session)
    assert codes(first) == ["payment.large"]
    await operator.put_signals([{"name": "incident", "value": False}])
    assert same(await scene.ask(action, session), first)
    await operator.put_tenant({"large_amount": {"EUR": "4000"}})
    second = await scene.ask(action, session)
    assert (second.allowed, second.replayed) == (True, False)


async def test_nobody_judges_a_repeat_while_the_engine_is_away(scene: Scene) -> None:
    operator, session, action = await scene.operator(), await scene.session(), read()
    first = await scene.ask(action, session)
    await operator.put_signals([{"name": "incident", "value": False}])
    async with scene.stack.supervisor.killed("opa"):
        failed = await scene.ask(action, session)
        assert failed.failure is not None
        assert failed.failure.reason == "POLICY_UNAVAILABLE"
    await scene.found()
    assert same(await scene.ask(action, session), first)
    assert (await scene.recorded(first.decision_id)).outcome is None


async def test_retryable_block_is_judged_anew(scene: Scene) -> None:
    session, action, wrong = await scene.session(), read(), pay(7000)
    lasting = await scene.ask(wrong, session)
    async with scene.stack.supervisor.killed("opa"):
        first = await scene.ask(action, session)
        second = await scene.ask(action, session)
        assert codes(first) == codes(second) == ["pdp.policy_unavailable"]
        assert first.retryable
        assert first.decision_id != second.decision_id
        assert not second.replayed
        assert same(await scene.ask(wrong, session), lasting), "a lasting block needs no engine"
    third = await scene.ask(action, session)
    assert third.allowed
    assert same(await scene.ask(action, session), third)
    assert (await scene.recorded(first.decision_id)).receipt == first.receipt


async def test_answer_outlives_restarts(scene: Scene) -> None:
    session, action = await scene.session(), pay()
    first = await scene.ask(action, session)

    async def asked_again() -> bool:
        """Both replicas answer, once they are found again, and answer the same."""
        repeats = [await (await scene.agent(replica=n)).evaluate(action, session=session) for n in (1, 2)]
        return all(each.failure is None and same(each, first) for each in repeats)

    async with scene.stack.supervisor.killed("pdp-1"), scene.stack.supervisor.killed("pdp-2"):
        pass
    assert await until(asked_again, "the replicas are back")
    async with scene.stack.supervisor.killed("postgres"):
        pass
    assert await until(asked_again, "the database is back")


# --- replicas ----------------------------------------------------------------------


@pytest.mark.parametrize("action", [read(), pay(), pay(3000), pay(7000)], ids=["read", "pay", "large", "bad"])
async def test_equal_calls_on_two_replicas_get_one_decision(scene: Scene, action: dict[str, Any]) -> None:
    session = await scene.session()
    replicas = [await scene.agent(replica=1), await scene.agent(replica=2)]
    answers = await asyncio.gather(
        *(replicas[number % 2].evaluate(action, session=session) for number in range(32))
    )
    assert [each.failure for each in answers] == [None] * 32
    assert len({each.decision_id for each in answers}) == 1
    assert len({each.receipt for each in answers}) == 1
    assert sum(not each.replayed for each in answers) == 1
    assert sum(each.allowed for each in answers) <= 1, "one attempt at most may act"
    found = await (await scene.issuer()).get_session(session)
    assert (found.version, sum(found.decisions.values())) == (session.version + 1, 1)


async def test_different_actions_under_one_id_on_two_replicas(scene: Scene) -> None:
    session, call = await scene.session(), new_call()
    replicas = [await scene.agent(replica=1), await scene.agent(replica=2)]
    answers = await asyncio.gather(
        *(replicas[n % 2].evaluate(pay(100 + n, call=call), session=session) for n in range(8))
    )
    allowed = [each for each in answers if each.effect is Effect.ALLOW]
    assert len(allowed) == 1
    reused = [each for each in answers if each is not allowed[0]]
    assert {tuple(codes(each)) for each in reused} == {("action.key_reused",)}
    assert {points_at(each, "action.key_reused") for each in reused} == {allowed[0].decision_id}


# --- limits and settings --------------------------------------------------------------


def velocity(most: int, window: int, on_exceed: str) -> dict[str, Any]:
    return {"velocity": {"payments": {"max": most, "window_seconds": window, "on_exceed": on_exceed}}}


async def test_velocity_escalates_past_its_limit_on_all_replicas_together(scene: Scene) -> None:
    await (await scene.operator()).put_tenant(velocity(5, 600, "escalate"))
    session = await scene.session()
    replicas = [await scene.agent(replica=1), await scene.agent(replica=2)]
    answers = await asyncio.gather(*(replicas[n % 2].evaluate(pay(), session=session) for n in range(16)))
    assert [each.failure for each in answers] == [None] * 16
    assert sum(each.effect is Effect.ALLOW for each in answers) == 5
    others = [each for each in answers if each.effect is not Effect.ALLOW]
    assert {(each.effect, *codes(each)) for each in others} == {(Effect.ESCALATE, "velocity.payments")}
    assert (await scene.ask(read(), session)).allowed, "only payments count"


@pytest.mark.parametrize("window", [30, 600])
async def test_retry_after_is_never_early_and_hardly_late(scene: Scene, window: int) -> None:
    await (await scene.operator()).put_tenant(velocity(2, window, "block"))
    for _ in range(10):
        session, action = await scene.session(), pay()
        paid = [await scene.ask(pay(), session) for _ in range(2)]
        assert all(each.allowed for each in paid)
        first = await scene.ask(action, session)
        assert codes(first) == ["velocity.payments"]
        assert (first.effect, first.retryable) == (Effect.BLOCK, True)
        due = when(first) + waits(first)
        # The slots free when the first payment leaves the window; a bucket is 2 s wide.
        freed = when(paid[0]) + timedelta(seconds=window)
        assert freed <= due <= freed + timedelta(seconds=2)
        await scene.advance(waits(first).total_seconds() - 1)
        early = await scene.ask(action, session)
        if when(early) >= due:
            continue  # the machine stalled for a second between the two calls
        assert (codes(early), early.replayed) == (["velocity.payments"], False)
        assert when(early) + waits(early) == due
        await scene.advance(waits(early).total_seconds())
        assert (await scene.ask(action, session)).allowed
        return
    pytest.fail("the machine stalled every time")


def when(decision: Decision) -> datetime:
    assert decision.decided_at is not None
    return decision.decided_at


def waits(decision: Decision) -> timedelta:
    assert decision.retry_after is not None
    return decision.retry_after


async def test_settings_hold_from_the_next_decision_on(scene: Scene) -> None:
    operator, session = await scene.operator(), await scene.session()
    other_replica = await scene.agent(replica=2)
    before = await scene.ask(pay(100), session)
    assert before.allowed
    revision = await operator.put_tenant({"large_amount": {"EUR": "50"}})
    for after in (
        await scene.ask(pay(100), session),
        await other_replica.evaluate(pay(100), session=session),
    ):
        assert (after.effect, codes(after)) == (Effect.ESCALATE, ["payment.large"])
        assert after.data_revisions["settings"] == revision > before.data_revisions["settings"]
        assert parse(after.receipt).claims["data"] == dict(after.data_revisions)
    agents = await operator.put_agents([{"agent": AGENT, "owner": "ap", "trust": 0.2}])
    distrusted = await scene.ask(pay(10), session)
    assert codes(distrusted) == ["trust.below_floor"]
    assert distrusted.data_revisions["agents"] == agents
    assert parse(distrusted.receipt).claims["trust"]["score"] == "0.2"
    assert (await scene.recorded(before.decision_id)).data_revisions == before.data_revisions


async def test_signals_and_tools_have_revisions_too(scene: Scene) -> None:
    operator, session = await scene.operator(), await scene.session()
    signals = await operator.put_signals([{"name": "incident", "value": True}])
    tools = await operator.put_tools([{"name": "clock.get", "effect": "read", "resource": "clock:utc"}])
    decision = await scene.ask(read(), session)
    assert decision.data_revisions["signals"] == signals
    assert decision.data_revisions["tools"] == tools
    assert b'"incident":true' in (await scene.recorded(decision.decision_id)).input_document


# --- strangers and chains ---------------------------------------------------------------


async def test_stranger_learns_and_moves_nothing(scene: Scene) -> None:
    session = await scene.session()
    await scene.ask(read(), session)
    before = await (await scene.issuer()).get_session(session)
    stranger = await scene.client("svc-else", "agent", agents=("agent:else",))
    async with set_scene(scene.stack) as elsewhere:
        for client in (stranger, await elsewhere.agent()):
            for named in (session.session_id, new_call()):
                decision = await client.evaluate(read(), session=named)
                assert (decision.failure, decision.effect) == (None, Effect.BLOCK)
                assert codes(decision) == ["session.unknown"]
                assert decision.session_version == 0
                claims = parse(decision.receipt).claims
                assert (claims["task"], claims["prev"], claims.get("principal")) == ("", [], None)
                assert claims["sub"] != AGENT
        elsewhere_recorded = await elsewhere.recorded(decision.decision_id)
        assert elsewhere_recorded.receipt == decision.receipt
    assert await (await scene.issuer()).get_session(session) == before


async def test_stranger_does_not_take_the_call_id(scene: Scene) -> None:
    session, action = await scene.session(), read()
    stranger = await scene.client("svc-else", "agent", agents=("agent:else",))
    assert codes(await stranger.evaluate(action, session=session)) == ["session.unknown"]
    assert (await scene.ask(action, session)).allowed


@pytest.mark.parametrize("chain", [(AGENT, HELPER), (HELPER,), (HELPER, AGENT)])
async def test_chain_without_grants_is_blocked(scene: Scene, chain: tuple[str, ...]) -> None:
    await (await scene.operator()).put_agents([{"agent": HELPER, "owner": "ap", "trust": 0.9}])
    session, action = await scene.session(), read()
    decision = await scene.ask(action, session, chain=chain)
    assert (decision.failure, decision.effect) == (None, Effect.BLOCK)
    assert "chain.invalid" in codes(decision)
    assert (await scene.recorded(decision.decision_id)).receipt == decision.receipt
    hops = parse(decision.receipt).claims["chain"]
    assert len(hops) == len(chain)
    assert [set(hop) for hop in hops] == [{"unverified"}] * len(chain)
    assert HELPER not in str(hops)
    assert (await scene.ask(read(), session, chain=(AGENT,))).allowed
