"""Whose a session is: its principal's, its issuer's, its agent's, and operators'."""

from __future__ import annotations

import pytest

from placet import NotFoundError, SessionState
from tests.e2e.scene import AGENT, PRINCIPAL, Scene, codes, pay, read

pytestmark = pytest.mark.asyncio(loop_scope="session")

# Subject, roles, agents. `svc-tasks` opens the scene's sessions.
OWNERS = {
    "principal without a role": (PRINCIPAL, (), ()),
    "issuer": ("svc-tasks", ("session_issuer",), ()),
    "agent": ("svc-ap", ("agent",), (AGENT,)),
    "another credential of the agent": ("svc-ap-2", ("agent",), (AGENT,)),
    "operator": ("ops", ("operator",), ()),
}
STRANGERS = {
    "another person": ("user:ben", (), ()),
    "another issuer": ("svc-tasks-2", ("session_issuer",), ()),
    "issuer without its role": ("svc-tasks", (), ()),
    "runtime of another agent": ("svc-else", ("agent",), ("agent:else",)),
    "agent without its role": ("svc-ap", (), (AGENT,)),
    "issuer with the agent's name": ("svc-tasks-2", ("session_issuer",), (AGENT,)),
    "caller named like the agent": (AGENT, ("agent",), ()),
    "reviewer": ("user:rita", ("reviewer",), ()),
    "tool": ("svc-erp", ("tool",), ()),
    "policy author": ("user:pol", ("policy_author",), ()),
}


@pytest.mark.parametrize("who", OWNERS.values(), ids=list(OWNERS))
async def test_owner_sees_and_closes_the_session(
    scene: Scene, who: tuple[str, tuple[str, ...], tuple[str, ...]]
) -> None:
    subject, roles, agents = who
    session, owner = await scene.session(), await scene.client(subject, *roles, agents=agents)
    assert (await owner.get_session(session)).principal == PRINCIPAL
    assert (await owner.close_session(session)).state is SessionState.CLOSED
    assert codes(await scene.ask(read(), session)) == ["session.closed"]


@pytest.mark.parametrize("who", STRANGERS.values(), ids=list(STRANGERS))
async def test_to_a_stranger_there_is_no_session(
    scene: Scene, who: tuple[str, tuple[str, ...], tuple[str, ...]]
) -> None:
    subject, roles, agents = who
    session, stranger = await scene.session(), await scene.client(subject, *roles, agents=agents)
    for call in (stranger.get_session, stranger.close_session):
        with pytest.raises(NotFoundError) as known:
            await call(session.session_id)
        with pytest.raises(NotFoundError) as unknown:
            await call("no-such-session")
        # It cannot even tell that there is one.
        assert str(known.value).replace(session.session_id, "no-such-session") == str(unknown.value)
    seen = await (await scene.operator()).get_session(session.session_id)
    assert (seen.state, seen.version) == (SessionState.OPEN, session.version)


async def test_auditor_reads_the_session_and_ends_nothing(scene: Scene) -> None:
    session, auditor = await scene.session(), await scene.client("revision", "auditor")
    shown = await auditor.get_session(session.session_id, limits=True)
    assert (shown.state, shown.decisions["allow"]) == (SessionState.OPEN, 0)
    assert shown.limits
    for call in (auditor.close_session, auditor.complete_task):
        with pytest.raises(NotFoundError):
            await call(session.session_id)
    assert (await auditor.get_session(session.session_id)).state is SessionState.OPEN


async def test_call_of_a_stranger_is_on_record_as_the_strangers(scene: Scene) -> None:
    session = await scene.session()
    assert (await scene.ask(pay(), session)).allowed
    before = await (await scene.operator()).get_session(session.session_id)
    stranger = await scene.client("svc-else", "agent", agents=("agent:else",))
    for action in (read(), pay()):
        decision = await stranger.evaluate(action, session=session)
        assert (decision.allowed, codes(decision)) == (False, ["session.unknown"])
        assert (await stranger.get_decision(decision.decision_id)).receipt == decision.receipt
        assert (await scene.recorded(decision.decision_id)).receipt == decision.receipt
        # Not even the session's own agent is shown what a stranger asked.
        with pytest.raises(NotFoundError):
            await (await scene.agent()).get_decision(decision.decision_id)
    assert await (await scene.operator()).get_session(session.session_id) == before


async def test_agent_sees_its_own_decisions_only(scene: Scene) -> None:
    session = await scene.session()
    decision = await scene.ask(read(), session)
    assert (
        await (await scene.agent()).get_decision(decision.decision_id, session=session)
    ).receipt == decision.receipt
    for subject, agents in (("svc-ap-2", (AGENT,)), ("svc-else", ("agent:else",))):
        other = await scene.client(subject, "agent", agents=agents)
        with pytest.raises(NotFoundError):
            await other.get_decision(decision.decision_id)
