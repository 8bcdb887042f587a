"""Session proof: who shows neither the session's token nor a grant in it has no part in it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import psycopg
import pytest

from placet import Hop, NotFoundError, PermissionDeniedError, Session, SessionState
from tests.e2e.scene import AGENT, BOUNDARY, HELPER, PRINCIPAL, Scene, codes, pay, read
from tests.e2e.test_faults import database_url

pytestmark = pytest.mark.asyncio(loop_scope="session")


def bare(session: Session) -> Session:
    """The session as somebody knows it who was not given its token."""
    return replace(session, token="", grant="")


async def open_again(scene: Scene, session: Session) -> Session:
    return await (await scene.issuer()).open_session(
        task=session.task, principal=PRINCIPAL, agent=AGENT, boundary=BOUNDARY
    )


async def test_call_without_proof_is_blocked_and_moves_nothing(scene: Scene) -> None:
    session, agent = await scene.session(), await scene.agent()
    assert len(session.token) == 43
    action = pay(7)
    for shown in (bare(session), replace(session, token="x" * 43), await scene.session()):
        asked = replace(session, token=shown.token)
        decision = await agent.evaluate(action, session=asked)
        assert (decision.effect, codes(decision)) == ("block", ["session.unproven"])
        assert decision.session_version == 0
        assert all(
            codes(each) == ["session.unproven"] for each in await agent.evaluate_plan([action], session=asked)
        )
        async with agent.stream() as stream:
            assert codes(await stream.evaluate(action, session=asked)) == ["session.unproven"]
    assert (await (await scene.operator()).get_session(session)).version == session.version
    # It took no key either: with proof the call is a new one.
    first = await agent.evaluate(action, session=session)
    assert (first.allowed, first.replayed) == (True, False)
    # A call that proves nothing reads no key, either.
    assert codes(await agent.evaluate(action, session=bare(session))) == ["session.unproven"]


async def test_token_and_root_grant_prove_the_same(scene: Scene) -> None:
    session, agent = await scene.session(), await scene.agent()
    root = (Hop(agent=AGENT, grant=session.grant),)
    action = pay(7)
    first = await agent.evaluate(action, session=bare(session), chain=root)
    assert first.allowed, codes(first)
    again = await agent.evaluate(action, session=session)
    assert (again.replayed, again.receipt) == (True, first.receipt)
    unproven = await agent.evaluate(action, session=bare(session), chain=(Hop(agent=AGENT),))
    assert codes(unproven) == ["session.unproven"]


async def test_token_is_of_no_use_to_a_stranger(scene: Scene) -> None:
    session = await scene.session()
    stranger = await scene.client("svc-else", "agent", agents=("agent:else",))
    assert codes(await stranger.evaluate(read(), session=session)) == ["session.unknown"]
    with pytest.raises(NotFoundError):
        await stranger.get_session(session)
    assert await stranger.list_allowed_tools(session) == ()


async def test_other_calls_of_an_agent_need_proof_as_well(scene: Scene) -> None:
    session, agent = await scene.session(), await scene.agent()
    decision = await agent.evaluate(pay(7), session=session)
    grant = await agent.delegate(session, to_agent=HELPER)
    unproven, decided = bare(session), decision.decision_id
    calls: dict[str, Any] = {
        "get_session": lambda shown: agent.get_session(shown),
        "list": lambda shown: agent.list_allowed_tools(shown),
        "get_decision": lambda shown: agent.get_decision(decided, session=shown),
        "get_chain": lambda shown: agent.get_chain(decided, session=shown),
        "void": lambda shown: agent.report_outcome(
            outcome="voided", session=shown, tool_call_id=decision.tool_call_id
        ),
        "report": lambda shown: agent.report_outcome(decided, "executed", session=shown),
        "revoke": lambda shown: agent.revoke_grant(shown, grant),
        "close": lambda shown: agent.close_session(shown),
    }
    before = await (await scene.operator()).get_session(session)
    for name, call in calls.items():
        with pytest.raises(PermissionDeniedError) as refused:
            await call(unproven)
        assert refused.value.reason == "SESSION_UNPROVEN", name
    assert await (await scene.operator()).get_session(session) == before
    assert (await scene.recorded(decided)).outcome is None
    for call in calls.values():
        await call(session)
    assert (await (await scene.operator()).get_session(session)).state is SessionState.CLOSED


async def test_chain_proves_the_part_of_whom_it_ends_with(scene: Scene) -> None:
    session, agent = await scene.session(), await scene.agent()
    grant = await agent.delegate(session, to_agent=HELPER)
    helper = await scene.client("svc-helper", "agent", agents=(HELPER,))
    decision = await helper.evaluate(read(), session=bare(session), chain=grant.chain)
    assert decision.allowed, codes(decision)
    with pytest.raises(PermissionDeniedError):
        await helper.report_outcome(decision.decision_id, "executed")
    await helper.report_outcome(decision.decision_id, "executed", chain=grant.chain)
    assert (await helper.get_decision(decision.decision_id, chain=grant.chain)).receipt == decision.receipt


async def test_eight_tokens_live_and_a_ninth_ends_the_oldest(scene: Scene) -> None:
    session, agent = await scene.session(), await scene.agent()
    later = [await open_again(scene, session) for _ in range(7)]
    assert len({each.token for each in (session, *later)}) == 8
    assert (await agent.evaluate(read(), session=session)).allowed
    ninth = await open_again(scene, session)
    assert codes(await agent.evaluate(read(), session=session)) == ["session.unproven"]
    for each in (*later, ninth):
        assert (await agent.evaluate(read(), session=each)).allowed
    with psycopg.connect(database_url(scene.stack), options="-c role=placet_server") as connection:
        rows = connection.execute(
            "SELECT token_hash, ended_at IS NULL FROM placet.session_tokens WHERE session_id = %s",
            [session.session_id],
        ).fetchall()
    assert sorted(lives for _, lives in rows) == [False] + [True] * 8
    # What is kept of a token does not show it.
    assert not {each.token for each in (session, *later, ninth)} & {digest for digest, _ in rows}


async def test_tenant_may_take_the_id_for_proof(scene: Scene) -> None:
    session, agent, operator = await scene.session(), await scene.agent(), await scene.operator()
    await operator.put_tenant({"session_proof": "id"})
    assert (await agent.evaluate(read(), session=session.session_id)).allowed
    assert (await agent.get_session(session.session_id)).session_id == session.session_id
    await operator.put_tenant({})
    assert codes(await agent.evaluate(read(), session=session.session_id)) == ["session.unproven"]


async def test_session_of_an_earlier_server_goes_on_by_its_id(scene: Scene) -> None:
    session, agent = await scene.session(), await scene.agent()
    with psycopg.connect(database_url(scene.stack), options="-c role=placet_server") as connection:
        connection.execute(
            "UPDATE placet.sessions SET token_required = DEFAULT WHERE session_id = %s", [session.session_id]
        )
    assert (await agent.evaluate(read(), session=session.session_id)).allowed


async def test_session_that_is_over_gives_no_token(scene: Scene) -> None:
    session = await scene.session()
    await (await scene.issuer()).close_session(session)
    assert (await open_again(scene, session)).token == ""
