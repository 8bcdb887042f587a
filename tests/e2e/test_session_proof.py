"""Session proof: who shows neither the session's token nor a grant in it has no part in it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, LiteralString

import psycopg
import pytest

from placet import (
    AsyncClient,
    Hop,
    InvalidRequestError,
    NotFoundError,
    PermissionDeniedError,
    PlacetError,
    PreconditionError,
    Session,
    SessionState,
)
from tests.e2e.scene import (
    AGENT,
    BOUNDARY,
    HELPER,
    PAY,
    PRINCIPAL,
    READ,
    TOOLS,
    Scene,
    codes,
    pay,
    read,
    until,
)
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


def rows_of(scene: Scene, statement: LiteralString, *values: object) -> list[tuple[Any, ...]]:
    with psycopg.connect(database_url(scene.stack), options="-c role=placet_server") as connection:
        return connection.execute(statement, values).fetchall()


async def version_of(scene: Scene, session: Session) -> int:
    return (await (await scene.operator()).get_session(session)).version


# --- Every call, shown nothing, and shown what proves nothing ---


async def test_every_call_of_the_agents_side_takes_the_token_the_root_grant_or_a_chain(scene: Scene) -> None:
    agent = await scene.agent()
    helper = await scene.client("svc-helper", "agent", agents=(HELPER,))
    await (await scene.operator()).put_agents([{"agent": HELPER, "owner": "ap", "trust": 0.8}])
    for way in ("token", "root grant", "chain"):
        session = await scene.session()
        handed = await agent.delegate(session, to_agent=HELPER)
        caller, shown, chain = {
            "token": (agent, session, ()),
            "root grant": (agent, bare(session), (Hop(agent=AGENT, grant=session.grant),)),
            "chain": (helper, bare(session), handed.chain),
        }[way]
        first = await caller.evaluate(read(), session=shown, chain=chain)
        (planned,) = await caller.evaluate_plan([pay(7)], session=shown, chain=chain)
        async with caller.stream() as stream:
            streamed = await stream.evaluate(read(), session=shown, chain=chain)
        assert [each.allowed for each in (first, planned, streamed)] == [True] * 3, way
        assert await caller.list_allowed_tools(shown, chain=chain), way
        recorded = await caller.get_decision(first.decision_id, session=shown, chain=chain)
        assert recorded.receipt == first.receipt, way
        await caller.report_outcome(first.decision_id, "executed", session=shown, chain=chain)
        await caller.report_outcome(
            outcome="voided", session=shown, tool_call_id=planned.tool_call_id, chain=chain
        )
        below = await caller.delegate(session, chain, to_agent="agent:third")
        if way != "chain":
            # To the agents that something was delegated to there is no session to read or close.
            assert (await caller.get_session(shown, chain=chain)).task == session.task, way
            assert (await caller.get_chain(first.decision_id, session=shown, chain=chain)).links, way
        await caller.revoke_grant(shown, below, chain=chain)
        if way != "chain":
            closed = await caller.close_session(shown, chain=chain)
            assert closed.state is SessionState.CLOSED, way


async def test_chain_that_somebody_else_holds_proves_nothing(scene: Scene) -> None:
    session, agent = await scene.session(), await scene.agent()
    handed = await agent.delegate(session, to_agent=HELPER)
    helper = await scene.client("svc-helper", "agent", agents=(HELPER,))
    decision = await helper.evaluate(pay(7), session=bare(session), chain=handed.chain)
    thief = await scene.client("svc-thief", "agent", agents=("agent:thief",))
    before = await version_of(scene, session)
    for chain in (handed.chain, handed.chain[:1]):
        found = await thief.evaluate(read(), session=bare(session), chain=chain)
        assert (found.effect, found.session_version) == ("block", 0)
        assert "session.unproven" not in codes(found)
        assert await thief.list_allowed_tools(bare(session), chain=chain) == ()
        for call in (
            lambda shown: thief.get_decision(decision.decision_id, session=bare(session), chain=shown),
            lambda shown: thief.get_chain(decision.decision_id, session=bare(session), chain=shown),
            lambda shown: thief.report_outcome(
                outcome="voided", session=bare(session), tool_call_id=decision.tool_call_id, chain=shown
            ),
            lambda shown: thief.report_outcome(
                decision.decision_id, "failed", session=bare(session), chain=shown
            ),
            lambda shown: thief.revoke_grant(bare(session), handed, chain=shown),
            lambda shown: thief.delegate(bare(session), shown, to_agent="agent:fourth"),
        ):
            with pytest.raises(NotFoundError):
                await call(chain)
    # The session's token is of no use to an agent that something was delegated to: its chain is its proof.
    with pytest.raises(PermissionDeniedError) as unproven:
        await helper.report_outcome(decision.decision_id, "failed", session=session)
    assert unproven.value.reason == "SESSION_UNPROVEN"
    assert await version_of(scene, session) == before
    assert (await scene.recorded(decision.decision_id)).outcome is None


async def test_unproven_report_learns_nothing_of_the_decision(scene: Scene) -> None:
    session, agent = await scene.session(), await scene.agent()
    blocked = await agent.evaluate({**read(), "tool": "shell.run"}, session=session)
    assert blocked.effect == "block"
    # Neither that it allowed nothing, nor that it answered another attempt.
    for attempt in ("", "another"):
        with pytest.raises(PermissionDeniedError) as refused:
            await agent.report_outcome(blocked.decision_id, "executed", attempt_id=attempt)
        assert refused.value.reason == "SESSION_UNPROVEN"
    # A stranger is told of its own call, in somebody else's session, what everybody would be.
    stranger = await scene.client("svc-else", "agent", agents=("agent:else",))
    own = await stranger.evaluate(read(), session=session)
    with pytest.raises(PreconditionError) as nothing:
        await stranger.report_outcome(own.decision_id, "executed", session=session)
    assert nothing.value.reason == "OUTCOME_REFUSED"


async def test_report_by_call_does_not_tell_which_calls_there_were(scene: Scene) -> None:
    session, agent = await scene.session(), await scene.agent()
    calls = [pay(7), read(), {**read(), "tool": "shell.run"}]
    for call in calls:
        await agent.evaluate(call, session=session)
    for call_id in (*(call["tool_call_id"] for call in calls), "never"):
        with pytest.raises(PermissionDeniedError) as refused:
            await agent.report_outcome(outcome="voided", session=bare(session), tool_call_id=call_id)
        assert refused.value.reason == "SESSION_UNPROVEN", call_id
        stranger = await scene.client("svc-else", "agent", agents=("agent:else",))
        with pytest.raises(NotFoundError):
            await stranger.report_outcome(outcome="voided", session=session, tool_call_id=call_id)
    # With the token it is known that there was none, and of a block that it allowed nothing.
    for call_id in ("never", calls[2]["tool_call_id"]):
        with pytest.raises(NotFoundError):
            await agent.report_outcome(outcome="voided", session=session, tool_call_id=call_id)


async def test_who_proves_nothing_learns_nothing_of_what_was_done(scene: Scene) -> None:
    """Neither duplicates, nor prerequisites, nor what is left of a budget show in the reasons."""
    operator, agent = await scene.operator(), await scene.agent()
    key = {"business_key": {"arguments": ["invoice"]}}
    before = {"prerequisites": [{"tool": READ, "same": ["invoice"]}]}
    await operator.put_tools([next(tool for tool in TOOLS if tool["name"] == PAY) | key | before])
    budget = {"name": "all", "scope": "tenant", "currency": "EUR", "max": "50.00", "on_exceed": "escalate"}
    await operator.put_tenant({"budgets": [budget]})
    session = await scene.session()
    assert (await agent.evaluate(read("INV-1"), session=session)).allowed
    done = await agent.evaluate(pay(7), session=session)
    assert done.effect == "allow", codes(done)
    nowhere = "0199b1f0-0000-7000-8000-000000000001"
    stranger = await scene.client("svc-else", "agent", agents=("agent:else",))
    for client in (agent, stranger):
        said = set()
        for where in (session.session_id, nowhere):
            for invoice, amount in (("INV-1", 7), ("INV-2", 7), ("INV-2", 44), ("INV-1", 40)):
                action = pay(amount)
                action["arguments"] |= {"invoice": invoice}
                found = codes(await client.evaluate(action, session=where))
                assert found[0] in ("session.unknown", "session.unproven")
                said.add(tuple(code for code in found if not code.startswith("session.")))
        assert len(said) == 1, said
        assert not any(code.startswith(("payment.", "limit.", "budget.")) for code in next(iter(said)))


async def test_listing_on_a_chain_that_proves_nothing_is_refused(scene: Scene) -> None:
    session, other, agent = await scene.session(), await scene.session(), await scene.agent()
    grant = await agent.delegate(session, to_agent=HELPER)
    for chain in ((Hop(agent=AGENT, grant=other.grant),), grant.chain):
        with pytest.raises(PermissionDeniedError) as refused:
            await agent.list_allowed_tools(bare(session), chain=chain)
        assert refused.value.reason == "SESSION_UNPROVEN"


async def test_void_of_a_read_by_its_call_holds(scene: Scene) -> None:
    operator, agent, tool = await scene.operator(), await scene.agent(), await scene.tool_server()
    await operator.put_tools([next(tool for tool in TOOLS if tool["name"] == READ) | {"audience": "erp"}])
    session, action = await scene.session(), read()
    decision = await agent.evaluate(action, session=session)
    assert decision.allowed
    await agent.report_outcome(outcome="voided", session=session, tool_call_id=action["tool_call_id"])
    with pytest.raises(PreconditionError, match="voided"):
        await tool.redeem(decision.decision_id, tool=READ, arguments=action["arguments"], audience="erp")
    assert not (await agent.evaluate(action, session=session)).allowed


async def test_agent_is_nobodys_principal(scene: Scene) -> None:
    session = await scene.session(principal="svc-ap")
    agent = await scene.agent()
    with pytest.raises(PermissionDeniedError):
        await agent.get_session(bare(session))
    with pytest.raises(PlacetError):
        await agent.complete_task(bare(session))


async def test_token_is_in_no_log(scene: Scene) -> None:
    session, agent = await scene.session(), await scene.agent()
    await agent.evaluate(read(), session=session)
    later = await open_again(scene, session)
    await agent.evaluate({**read(), "arguments": {}}, session=later)
    # What is refused is logged with its cause.
    with pytest.raises(NotFoundError):
        await agent.get_session(replace(session, session_id="unknown"))
    with pytest.raises(InvalidRequestError):
        await agent.get_session(replace(session, token=f"{session.token}\n"))
    assert (await agent.evaluate(read(call="x" * 300), session=session)).failure is not None
    await (await scene.operator()).revoke_session_proofs(session, reason="over")
    await agent.evaluate(read(), session=later)
    logs = list((scene.stack.directory / "logs").iterdir())
    texts = {log.name: log.read_text(errors="replace") for log in logs}
    assert session.session_id in texts["pdp-1.log"], "the revocation is logged"
    for name, text in texts.items():
        for secret in (session.token, later.token, session.grant, later.grant):
            assert secret not in text, name


# --- Revoking ---


async def test_revocation_ends_tokens_grants_and_chains_until_the_session_is_opened_again(
    scene: Scene,
) -> None:
    session, agent = await scene.session(), await scene.agent()
    helper = await scene.client("svc-helper", "agent", agents=(HELPER,))
    handed = await agent.delegate(session, to_agent=HELPER)
    root = (Hop(agent=AGENT, grant=session.grant),)
    allowed = await agent.evaluate(read(call="c-1"), session=session)
    by_helper = await helper.evaluate(read(), session=bare(session), chain=handed.chain)
    revoked = await (await scene.issuer()).revoke_session_proofs(session, reason="it was in a log")
    assert (revoked.tokens, revoked.grants) == (1, 2)
    version = await version_of(scene, session)

    for replica in (1, 2):
        elsewhere = await scene.agent(replica=replica)
        # A repeat is no exception.
        for action in (read(), read(call="c-1")):
            assert codes(await elsewhere.evaluate(action, session=session)) == ["session.unproven"]
        for chain in (root, handed.chain):
            client = elsewhere if chain is root else helper
            decision = await client.evaluate(read(), session=bare(session), chain=chain)
            assert (decision.effect, decision.session_version) == ("block", 0)
            assert "chain.revoked" in codes(decision)
    for call in (
        lambda: agent.get_session(session),
        lambda: agent.close_session(session),
        lambda: agent.list_allowed_tools(session),
        lambda: agent.get_decision(allowed.decision_id, session=session),
        lambda: agent.report_outcome(allowed.decision_id, "executed", session=session, chain=root),
        lambda: helper.report_outcome(by_helper.decision_id, "executed", chain=handed.chain),
        lambda: agent.revoke_grant(session, handed),
    ):
        with pytest.raises(PermissionDeniedError) as refused:
            await call()
        assert refused.value.reason == "SESSION_UNPROVEN"
    with pytest.raises(PreconditionError):
        await agent.delegate(session, to_agent="agent:third")
    assert await version_of(scene, session) == version
    shown = await (await scene.operator()).get_session(session)
    assert (shown.proofs_ended, shown.proofs_revoked_at) == (True, revoked.revoked_at)

    again = await open_again(scene, session)
    assert (again.session_id, again.proofs_ended) == (session.session_id, False)
    assert (await agent.evaluate(read(), session=again)).allowed
    assert (
        await agent.evaluate(read(), session=bare(again), chain=[Hop(agent=AGENT, grant=again.grant)])
    ).allowed
    # What was allowed before is not brought out again, and the old proofs stay dead.
    assert codes(await agent.evaluate(read(call="c-1"), session=again)) == ["action.replay_stale"]
    assert codes(await agent.evaluate(read(), session=session)) == ["session.unproven"]


async def test_revocation_is_kept_with_its_author(scene: Scene) -> None:
    session = await scene.session()
    for _ in range(8):
        await open_again(scene, session)
    principal = await scene.client(PRINCIPAL)
    await principal.revoke_session_proofs(session, reason="I saw it")
    history = rows_of(
        scene,
        "SELECT what, by_subject, reason, tokens, grants FROM placet.session_proof_history"
        " WHERE session_id = %s ORDER BY number",
        session.session_id,
    )
    assert history == [("gave_way", "svc-tasks", "", 1, 0), ("revoked", PRINCIPAL, "I saw it", 8, 9)]
    log = (scene.stack.directory / "logs" / "pdp-1.log").read_text(errors="replace")
    lines = [json.loads(line) for line in log.splitlines() if session.session_id in line]
    said = {line["event"]: line for line in lines}
    assert said["session_tokens_ended"]["subject"] == "svc-tasks"
    assert (said["session_proofs_revoked"]["subject"], said["session_proofs_revoked"]["reason"]) == (
        PRINCIPAL,
        "I saw it",
    )


async def test_strangers_and_agents_revoke_no_proofs(scene: Scene) -> None:
    session, agent = await scene.session(), await scene.agent()
    others = [
        agent,
        await scene.client("svc-else", "agent", agents=("agent:else",)),
        await scene.client("svc-tasks", "auditor"),
        await scene.client("other-tasks", "session_issuer"),
        await scene.tool_server(),
    ]
    for caller in others:
        with pytest.raises(NotFoundError):
            await caller.revoke_session_proofs(session)
    assert (await agent.evaluate(read(), session=session)).allowed


async def test_revocation_holds_where_the_id_was_proof_enough(scene: Scene) -> None:
    session, agent, operator = await scene.session(), await scene.agent(), await scene.operator()
    await operator.put_tenant({"session_proof": "id"})
    assert (await agent.evaluate(read(), session=session.session_id)).allowed
    await operator.revoke_session_proofs(session)
    assert codes(await agent.evaluate(read(), session=session.session_id)) == ["session.unproven"]
    await open_again(scene, session)
    assert (await agent.evaluate(read(), session=session.session_id)).allowed


async def test_revocation_holds_for_a_session_of_an_earlier_server(scene: Scene) -> None:
    session, agent = await scene.session(), await scene.agent()
    with psycopg.connect(database_url(scene.stack), options="-c role=placet_server") as connection:
        connection.execute(
            "UPDATE placet.sessions SET token_required = DEFAULT WHERE session_id = %s", [session.session_id]
        )
    assert (await agent.evaluate(read(), session=session.session_id)).allowed
    await (await scene.operator()).revoke_session_proofs(session)
    assert codes(await agent.evaluate(read(), session=session.session_id)) == ["session.unproven"]


async def test_what_was_allowed_before_a_revocation_cannot_be_redeemed(scene: Scene) -> None:
    session, agent, tool = await scene.session(), await scene.agent(), await scene.tool_server()
    action = pay(7)
    decision = await agent.evaluate(action, session=session)
    await (await scene.operator()).revoke_session_proofs(session)
    with pytest.raises(PreconditionError, match="proofs were revoked") as refused:
        await tool.redeem(decision.decision_id, tool=PAY, arguments=action["arguments"], audience="erp")
    assert refused.value.reason == "NOT_REDEEMABLE"
    # The tool's word is not an agent's: it needs no proof.
    await tool.report_outcome(decision.decision_id, "not_executed")


async def test_no_allow_commits_after_a_revocation_on_any_replica(scene: Scene) -> None:
    agents = [await scene.agent(replica=number) for number in (1, 2)]
    helpers = [
        await scene.client("svc-helper", "agent", agents=(HELPER,), replica=number) for number in (1, 2)
    ]
    issuer, allowed, blocked = await scene.issuer(), 0, 0
    for _ in range(6):
        session = await scene.session()
        root = (Hop(agent=AGENT, grant=session.grant),)
        handed = await agents[0].delegate(session, to_agent=HELPER)
        revoked = asyncio.Event()

        async def work(
            client: AsyncClient, shown: Session, chain: Sequence[Hop], revoked: asyncio.Event = revoked
        ) -> None:
            """Ask until a while after the revocation."""
            after = 3
            while after:
                after -= revoked.is_set()
                await client.evaluate(read(), session=shown, chain=chain)

        async def revoke(session: Session = session, revoked: asyncio.Event = revoked) -> None:
            async def moved() -> bool:
                return await version_of(scene, session) > 12

            await until(moved, "decisions are recorded")
            await issuer.revoke_session_proofs(session)
            revoked.set()

        await asyncio.gather(
            revoke(),
            *(work(client, session, ()) for client in agents),
            *(work(client, bare(session), root) for client in agents),
            *(work(client, bare(session), handed.chain) for client in helpers),
        )
        (since,) = rows_of(
            scene, "SELECT proofs_revoked_at FROM placet.sessions WHERE session_id = %s", session.session_id
        )
        recorded = rows_of(
            scene,
            "SELECT effect, recorded_at <= %s, session_version FROM placet.ledger WHERE session_id = %s",
            since[0],
            session.session_id,
        )
        assert not [row for row in recorded if row[0] != "block" and not row[1]]
        assert not [row for row in recorded if row[2] and not row[1]]
        allowed += sum(row[0] == "allow" for row in recorded)
        blocked += sum(not row[1] for row in recorded)
    # Both came to pass, or nothing was tried.
    assert allowed > 20
    assert blocked > 20
