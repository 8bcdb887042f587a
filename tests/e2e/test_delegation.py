"""Delegation on two replicas: what an agent could not do, none that it delegates to can."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from pdp.authority.boundary import parse_boundary
from pdp.delegation.tokens import GrantTokens
from pdp.postgres.store import PostgresStore
from pdp.signing import RotatingSigner
from placet import (
    AsyncClient,
    Blocked,
    Chain,
    Decision,
    Grant,
    Hop,
    InvalidRequestError,
    NotFoundError,
    OverloadedError,
    PermissionDeniedError,
    PreconditionError,
    Session,
    SessionState,
)
from placet.receipt import b64url_decode, b64url_encode, parse
from tests.e2e.scene import (
    AGENT,
    BOUNDARY,
    HELPER,
    PAY,
    PRINCIPAL,
    READ,
    TOOLS,
    TRANSFER,
    Scene,
    codes,
    pay,
    read,
)
from tests.e2e.test_faults import database_url
from tests.fakes.store import FakeStore

pytestmark = pytest.mark.asyncio(loop_scope="session")

CLERK = "agent:clerk"
# Each agent runs under a credential of its own.
RUNTIMES = {AGENT: "svc-ap", HELPER: "svc-helper", CLERK: "svc-clerk"}
READS = {"tools": [READ], "resources": ["invoice:*"]}


@dataclass(kw_only=True)
class Cast:
    """A session, and the runtimes of everybody who may come to act in it."""

    scene: Scene
    session: Session

    async def runtime(self, agent: str, *, replica: int = 1) -> AsyncClient:
        return await self.scene.client(RUNTIMES[agent], "agent", agents=(agent,), replica=replica)

    @property
    def root(self) -> tuple[Hop, ...]:
        return (Hop(agent=AGENT, grant=self.session.grant),)

    async def delegate(self, chain: Iterable[Hop], to_agent: str, **options: Any) -> Grant:
        """Ask by the runtime of the chain's last agent."""
        hops = tuple(chain)
        delegating = await self.runtime(hops[-1].agent)
        return await delegating.delegate(self.session, hops, to_agent=to_agent, **options)

    async def ask(
        self, chain: Sequence[Hop], action: dict[str, Any], *, by: str = "", replica: int = 1
    ) -> Decision:
        """Ask by the runtime of the chain's last agent, or by that of `by`."""
        asking = await self.runtime(by or chain[-1].agent, replica=replica)
        return await asking.evaluate(action, session=self.session, chain=chain)

    async def version(self) -> int:
        return (await (await self.scene.operator()).get_session(self.session.session_id)).version


async def cast(scene: Scene, boundary: dict[str, Any] | None = None, **settings: Any) -> Cast:
    operator = await scene.operator()
    await operator.put_tenant(settings)
    await operator.put_agents([{"agent": agent, "owner": "ap", "trust": 0.8} for agent in RUNTIMES])
    return Cast(scene=scene, session=await scene.session(boundary=boundary or BOUNDARY))


def places(decision: Decision, code: str) -> list[str]:
    return [reason.at for reason in decision.reasons if reason.code == code]


# --- what a chain permits --------------------------------------------------------------------


async def test_leaf_of_a_chain_acts_and_its_receipt_names_every_hop(scene: Scene) -> None:
    stage = await cast(scene)
    helper = await stage.delegate(stage.root, HELPER, purpose="look the invoice up")
    clerk = await stage.delegate(helper.chain, CLERK, boundary=READS)
    decision = await stage.ask(clerk.chain, read())
    assert (decision.allowed, codes(decision)) == (True, ["task.within_boundary"])
    assert [(hop.agent, hop.depth, hop.effect, hop.verified) for hop in decision.chain] == [
        (AGENT, 0, None, True),
        (HELPER, 1, None, True),
        (CLERK, 2, "allow", True),
    ]
    assert [hop.delegated_by for hop in decision.chain] == ["svc-tasks", "svc-ap", "svc-helper"]
    assert [hop.grant_hash for hop in decision.chain][1:] == [helper.grant_hash, clerk.grant_hash]
    assert not any(hop.same_runtime for hop in decision.chain)
    claims = parse(decision.receipt).claims
    assert claims["sub"] == CLERK
    assert [hop["agent"] for hop in claims["chain"]] == [AGENT, HELPER, CLERK]
    assert claims["session_version"] == stage.session.version + 1
    assert await stage.version() == stage.session.version + 1
    # The chain is the one that was returned, also when the decision is read or asked for again.
    assert (await scene.recorded(decision.decision_id)).chain == decision.chain
    runtime = await stage.runtime(CLERK, replica=2)
    again = await runtime.evaluate(read(call=decision.tool_call_id), session=stage.session, chain=clerk.chain)
    assert (again.replayed, again.chain, again.receipt) == (True, decision.chain, decision.receipt)


async def test_root_grant_and_no_grant_at_all_are_the_sessions_own_agent(scene: Scene) -> None:
    stage = await cast(scene)
    for chain in ((), (Hop(agent=AGENT),), stage.root):
        decision = await stage.ask(chain, read(), by=AGENT)
        assert decision.allowed, codes(decision)
        assert [hop.agent for hop in decision.chain] == [AGENT]


async def test_authority_of_the_root_is_one_however_it_is_presented(scene: Scene) -> None:
    stage = await cast(scene)
    again = await (await scene.issuer()).open_session(
        task=stage.session.task, principal=PRINCIPAL, agent=AGENT, boundary=BOUNDARY
    )
    second = (Hop(agent=AGENT, grant=again.grant),)
    ways = ((), (Hop(agent=AGENT),), stage.root, second)
    for first_way in ways:
        action = pay(7)
        first = await stage.ask(first_way, action, by=AGENT)
        assert first.allowed, codes(first)
        for way in ways:
            repeated = await stage.ask(way, action, by=AGENT, replica=2)
            assert (repeated.replayed, repeated.receipt) == (True, first.receipt)
        other = await stage.ask(stage.root, action | {"arguments": pay(8)["arguments"]}, by=AGENT)
        assert codes(other)[0] == "action.key_reused"


async def test_allow_on_a_root_grant_that_was_revoked_since_is_not_given_again(scene: Scene) -> None:
    stage = await cast(scene)
    action = pay(7)
    first = await stage.ask(stage.root, action)
    assert first.allowed
    await (await scene.operator()).revoke_grant(stage.session, stage.session.grant)
    again = await stage.ask((), action, by=AGENT)
    assert (again.effect, places(again, "action.replay_stale")) == (
        "block",
        [f"decision:{first.decision_id}"],
    )


async def test_call_that_proves_nothing_takes_no_key(scene: Scene) -> None:
    stage = await cast(scene)
    action = pay(7)
    forged = await stage.ask((Hop(agent=AGENT, grant=flipped(stage.session.grant, 1, 9)),), action)
    assert "chain.invalid" in codes(forged)
    first = await stage.ask(stage.root, action)
    assert (first.allowed, first.replayed) == (True, False)


async def test_narrower_boundary_blocks_what_the_session_permits(scene: Scene) -> None:
    stage = await cast(scene)
    helper = await stage.delegate(
        stage.root, HELPER, boundary=READS | {"tools": [READ, PAY], "amounts": {"EUR": "200.00"}}
    )
    assert (await stage.ask(helper.chain, pay(200))).allowed
    assert codes(await stage.ask(helper.chain, pay(201))) == ["boundary.amount"]
    assert "boundary.tool" in codes(await stage.ask(helper.chain, pay(1) | {"tool": TRANSFER}))
    # The agent above is not narrowed by what it handed on.
    assert (await stage.ask(stage.root, pay(201))).allowed


async def test_what_the_session_does_not_permit_nobody_below_is_permitted(scene: Scene) -> None:
    stage = await cast(scene, READS)
    helper = await stage.delegate(stage.root, HELPER)
    clerk = await stage.delegate(helper.chain, CLERK)
    assert (await stage.ask(clerk.chain, read())).allowed
    for grant in (helper, clerk):
        blocked = await stage.ask(grant.chain, pay(1))
        assert (blocked.effect, set(codes(blocked))) == ("block", {"boundary.tool", "boundary.amount"})


@pytest.mark.parametrize(
    ("wider", "field"),
    [
        ({"tools": [READ, "shell.run"]}, "boundary.tools[1]"),
        ({"effects": ["pay"]}, "boundary.effects[0]"),
        ({"resources": ["invoice:*", "vendor:*"]}, "boundary.resources[1]"),
        ({"amounts": {"EUR": "5000.01"}}, "boundary.amounts[EUR].per_action"),
        ({"amounts": {"USD": "1.00"}}, "boundary.amounts[USD]"),
        ({"after_completion": [READ]}, "boundary.after_completion"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_more_than_is_held_cannot_be_handed_on(scene: Scene, wider: dict[str, Any], field: str) -> None:
    stage = await cast(scene)
    with pytest.raises(PreconditionError) as refused:
        await stage.delegate(stage.root, HELPER, boundary=READS | wider)
    assert refused.value.reason == "GRANT_EXCEEDS_PARENT"
    assert [violation.field for violation in refused.value.violations] == [field]


async def test_grant_ends_with_the_one_before_it(scene: Scene) -> None:
    stage = await cast(scene)
    until = stage.session.expires_at.replace(microsecond=0)
    with pytest.raises(PreconditionError) as refused:
        await stage.delegate(stage.root, HELPER, expires_at=until + timedelta(seconds=1))
    assert refused.value.reason == "GRANT_EXCEEDS_PARENT"
    with pytest.raises(InvalidRequestError):
        await stage.delegate(stage.root, HELPER, expires_at=stage.session.opened_at)
    soon = stage.session.opened_at + timedelta(minutes=10)
    helper = await stage.delegate(stage.root, HELPER, expires_at=soon)
    clerk = await stage.delegate(helper.chain, CLERK)
    action = read()
    first = await stage.ask(clerk.chain, action)
    assert first.allowed
    await scene.advance(601)
    again = await stage.ask(clerk.chain, action, replica=2)
    assert (again.effect, again.replayed) == ("block", False)
    assert "chain.expired" in codes(again)
    for grant in (helper, clerk):
        blocked = await stage.ask(grant.chain, read(), replica=2)
        assert places(blocked, "chain.expired")[0] == "chain[1]", codes(blocked)
    assert (await stage.ask((), read(), by=AGENT)).allowed


async def test_answer_does_not_outlive_a_grant_that_it_rests_on(scene: Scene) -> None:
    stage = await cast(scene, allow_ttl_seconds=3600)
    soon = stage.session.opened_at.replace(microsecond=0) + timedelta(minutes=10)
    helper = await stage.delegate(stage.root, HELPER, expires_at=soon)
    assert (await stage.ask(helper.chain, read())).expires_at == soon


# --- who may delegate --------------------------------------------------------------------------


async def test_only_who_holds_the_last_grant_delegates_from_it(scene: Scene) -> None:
    stage = await cast(scene)
    helper = await stage.delegate(stage.root, HELPER)
    # The agent above also holds the bytes of this grant, and a grant of its own before it.
    with pytest.raises(PreconditionError) as refused:
        await (await stage.runtime(AGENT)).delegate(stage.session, helper.chain, to_agent=CLERK)
    assert refused.value.reason == "CHAIN_REFUSED"
    assert "chain.not_holder" in str(refused.value)
    # For an agent to which nothing was delegated there is no such session.
    for chain in (stage.root, helper.chain):
        with pytest.raises(NotFoundError):
            await (await stage.runtime(CLERK)).delegate(stage.session, chain, to_agent=CLERK)
    # Without the agent's role, a grant of the chain itself does not help either.
    with pytest.raises(PermissionDeniedError):
        await (await scene.client("svc-helper", agents=(HELPER,))).delegate(
            stage.session, helper.chain, to_agent=CLERK
        )


async def test_agent_does_not_get_a_grant_from_itself_nor_from_one_below(scene: Scene) -> None:
    stage = await cast(scene)
    helper = await stage.delegate(stage.root, HELPER)
    for chain, to_agent in ((stage.root, AGENT), (helper.chain, HELPER), (helper.chain, AGENT)):
        with pytest.raises(PreconditionError) as refused:
            await stage.delegate(chain, to_agent)
        assert "chain.cycle" in str(refused.value)


async def test_chain_is_no_deeper_than_the_tenant_says(scene: Scene) -> None:
    stage = await cast(scene, max_chain_depth=1)
    helper = await stage.delegate(stage.root, HELPER)
    with pytest.raises(PreconditionError) as refused:
        await stage.delegate(helper.chain, CLERK)
    assert "chain.too_deep" in str(refused.value)
    # What was delegated before counts, too, once the tenant says less.
    await (await scene.operator()).put_tenant({"max_chain_depth": 2})
    clerk = await stage.delegate(helper.chain, CLERK)
    assert (await stage.ask(clerk.chain, read())).allowed
    await (await scene.operator()).put_tenant({"max_chain_depth": 1})
    assert places(await stage.ask(clerk.chain, read()), "chain.too_deep") == ["chain[2]"]


async def test_nothing_is_delegated_in_a_session_that_is_over(scene: Scene) -> None:
    stage = await cast(scene, BOUNDARY | {"after_completion": [READ]})
    helper = await stage.delegate(stage.root, HELPER)
    await (await scene.issuer()).complete_task(stage.session)
    with pytest.raises(PreconditionError) as refused:
        await stage.delegate(stage.root, HELPER)
    assert refused.value.reason == "SESSION_OVER"
    # What was delegated before may still do what is left.
    assert (await stage.ask(helper.chain, read())).allowed
    assert "session.completed" in codes(await stage.ask(helper.chain, pay()))
    await (await scene.issuer()).close_session(stage.session)
    assert "session.closed" in codes(await stage.ask(helper.chain, read()))


async def test_every_opening_of_a_task_gives_a_root_grant_of_its_own(scene: Scene) -> None:
    stage = await cast(scene)
    again = await (await scene.issuer()).open_session(
        task=stage.session.task, principal=PRINCIPAL, agent=AGENT, boundary=BOUNDARY
    )
    assert again.session_id == stage.session.session_id
    assert again.grant
    assert again.grant != stage.session.grant
    helper = await (await stage.runtime(AGENT)).delegate(again, to_agent=HELPER)
    assert (await stage.ask(helper.chain, read())).allowed
    closed = await (await scene.issuer()).close_session(again)
    assert closed.state is SessionState.CLOSED
    over = await (await scene.issuer()).open_session(
        task=stage.session.task, principal=PRINCIPAL, agent=AGENT, boundary=BOUNDARY
    )
    assert (over.state, over.grant) == (SessionState.CLOSED, "")


# --- what proves nothing -----------------------------------------------------------------------


def flipped(grant: str, part: int, bit: int) -> str:
    """The grant with one bit of a part's bytes flipped: header, claims, signature."""
    parts = grant.split(".")
    data = bytearray(b64url_decode(parts[part]))
    data[bit // 8 % len(data)] ^= 1 << bit % 8
    parts[part] = b64url_encode(bytes(data))
    return ".".join(parts)


@pytest.mark.parametrize("part", [0, 1, 2], ids=["header", "claims", "signature"])
async def test_flipped_bit_is_blocked(scene: Scene, part: int) -> None:
    stage = await cast(scene)
    helper = await stage.delegate(stage.root, HELPER)
    for bit in (0, 101, 203):
        broken = replace(helper.chain[1], grant=flipped(helper.token, part, bit))
        decision = await stage.ask((helper.chain[0], broken), read())
        assert places(decision, "chain.invalid") == ["chain[1]"], codes(decision)
        assert [(hop.verified, bool(hop.unverified)) for hop in decision.chain] == [
            (True, False),
            (False, True),
        ]


async def test_chain_with_a_hop_left_out_or_in_another_order_is_blocked(scene: Scene) -> None:
    stage = await cast(scene)
    helper = await stage.delegate(stage.root, HELPER)
    clerk = await stage.delegate(helper.chain, CLERK)
    root, second, third = clerk.chain
    other = await stage.delegate(stage.root, HELPER)
    renamed = replace(third, grant=second.grant)
    for chain in (
        (second, third),
        (third,),
        (root, third),
        (second, root, third),
        (root, second, second, third),
        # A grant of the same agent, and not the one that was delegated from.
        (root, other.chain[1], third),
        (root, second, renamed),
        (root, second, replace(third, grant="")),
        (root, replace(second, grant=""), third),
    ):
        decision = await stage.ask(chain, read(), by=CLERK)
        assert decision.effect == "block"
        assert "chain.invalid" in codes(decision), (chain, codes(decision))
        # A call on a chain that is not proven counts as a stranger's.
        assert decision.session_version == 0
    assert (await stage.ask(clerk.chain, read())).allowed
    assert await stage.version() == stage.session.version + 1


async def test_grant_of_another_session_or_tenant_is_foreign(scene: Scene) -> None:
    stage = await cast(scene)
    helper = await stage.delegate(stage.root, HELPER)
    other = await cast(scene)
    theirs = await other.delegate(other.root, HELPER)
    for chain in (theirs.chain, (helper.chain[0], theirs.chain[1])):
        decision = await stage.ask(chain, read())
        assert "chain.foreign" in codes(decision), codes(decision)
        assert decision.effect == "block"


async def test_grant_that_was_shown_to_somebody_else_is_of_no_use(scene: Scene) -> None:
    stage = await cast(scene)
    helper = await stage.delegate(stage.root, HELPER)
    for by in (CLERK, AGENT):
        decision = await stage.ask(helper.chain, read(), by=by)
        assert places(decision, "chain.not_holder") == ["chain[1]"], codes(decision)
        assert decision.effect == "block"


async def test_holder_of_a_grant_is_no_owner_of_the_session(scene: Scene) -> None:
    stage = await cast(scene)
    helper = await stage.delegate(stage.root, HELPER)
    decision = await stage.ask(helper.chain, read())
    runtime = await stage.runtime(HELPER)
    assert (await runtime.get_decision(decision.decision_id, chain=helper.chain)).receipt == decision.receipt
    # It reads the session by its chain, and by nothing else.
    shown = await runtime.get_session(stage.session, chain=helper.chain)
    assert (shown.state, shown.task, shown.decisions) == (stage.session.state, stage.session.task, {})
    for call in (runtime.get_session, runtime.close_session, runtime.complete_task):
        with pytest.raises(NotFoundError):
            await call(stage.session)
    with pytest.raises(NotFoundError):
        await runtime.close_session(stage.session, chain=helper.chain)
    clerk = await stage.runtime(CLERK)
    for chain in (helper.chain, helper.chain[:1]):
        with pytest.raises(NotFoundError) as known:
            await clerk.get_session(stage.session.session_id, chain=chain)
        with pytest.raises(NotFoundError) as unknown:
            await clerk.get_session("no-such-session", chain=chain)
        assert str(known.value).replace(stage.session.session_id, "no-such-session") == str(unknown.value)
    await (await scene.agent()).revoke_grant(stage.session, helper.grant_hash)
    with pytest.raises(PermissionDeniedError) as unproven:
        await runtime.get_session(stage.session, chain=helper.chain)
    assert unproven.value.reason == "SESSION_UNPROVEN"
    # A second grant for what it says next.
    helper = await stage.delegate(stage.root, HELPER)
    decision = await stage.ask(helper.chain, read("c-again"))
    with pytest.raises(NotFoundError):
        await runtime.get_chain(decision.decision_id, chain=helper.chain)
    # Without the chain it may not say anything either.
    assert codes(await stage.ask((), read(), by=HELPER))[0] == "session.unknown"


async def test_holder_of_a_refused_chain_is_told_of_the_chain_alone(scene: Scene) -> None:
    stage = await cast(scene)
    helper = await stage.delegate(stage.root, HELPER)
    elsewhere = await scene.session()
    await (await scene.agent()).revoke_grant(stage.session, helper)
    revoked = await stage.ask(helper.chain, read())
    assert (revoked.effect, codes(revoked), revoked.session_version) == ("block", ["chain.revoked"], 0)
    assert "chain.revoked:" in revoked.model_text
    assert "session" not in revoked.model_text.replace("session_id", "")
    # The session's own agent is none either, whatever is wrong with what it sends.
    for chain, code in (
        ((Hop(agent=AGENT, grant="not.a.grant"),), "chain.invalid"),
        ((Hop(agent=AGENT, grant=elsewhere.grant),), "chain.foreign"),
    ):
        shown = await (await scene.agent()).evaluate(read(), session=stage.session.session_id, chain=chain)
        assert (shown.effect, codes(shown)) == ("block", [code])


async def test_strangers_chain_reads_alike_whether_or_not_there_is_the_session(scene: Scene) -> None:
    stage = await cast(scene)
    other = await cast(scene)
    foreign = await other.delegate(other.root, CLERK)
    clerk = await stage.runtime(CLERK)
    for chain in (
        (Hop(agent=AGENT, grant="not.a.grant"),),
        (Hop(agent=AGENT, grant="not.a.grant"), Hop(agent=CLERK, grant="nor.is.this")),
        (Hop(agent=AGENT),),
        (Hop(agent=CLERK),),
        foreign.chain,
    ):
        told = []
        for named in (stage.session.session_id, str(uuid4())):
            decision = await clerk.evaluate(read(), session=named, chain=chain)
            assert (decision.effect, decision.session_version) == ("block", 0)
            assert "session.unknown" in codes(decision)
            text = decision.model_text.replace(decision.decision_id, "")
            told.append((decision.reasons, decision.retryable, text, decision.chain))
        assert told[0] == told[1]


# --- revocation --------------------------------------------------------------------------------


async def test_revoked_grant_ends_all_below_it_on_both_replicas(scene: Scene) -> None:
    stage = await cast(scene)
    helper = await stage.delegate(stage.root, HELPER)
    clerk = await stage.delegate(helper.chain, CLERK)
    for replica in (1, 2):
        assert (await stage.ask(clerk.chain, read(), replica=replica)).allowed
    since = await (await stage.runtime(AGENT)).revoke_grant(stage.session, helper, reason="done")
    for replica in (2, 1):
        for grant in (helper, clerk):
            decision = await stage.ask(grant.chain, read(), replica=replica)
            assert (decision.effect, places(decision, "chain.revoked")) == ("block", ["chain[1]"])
        assert (await stage.ask((), read(), by=AGENT, replica=replica)).allowed
    # Once is enough, and nothing can be delegated from it.
    assert await (await scene.operator()).revoke_grant(stage.session, helper.grant_hash) == since
    with pytest.raises(PreconditionError) as refused:
        await stage.delegate(helper.chain, CLERK)
    assert "chain.revoked" in str(refused.value)
    # A new grant of the same agent is another.
    anew = await stage.delegate(stage.root, HELPER)
    assert (await stage.ask(anew.chain, read(), replica=2)).allowed


async def test_allow_of_a_chain_that_was_revoked_since_is_not_given_again(scene: Scene) -> None:
    stage = await cast(scene)
    helper = await stage.delegate(stage.root, HELPER)
    action = pay(10)
    first = await stage.ask(helper.chain, action, replica=1)
    assert first.allowed
    await (await scene.operator()).revoke_grant(stage.session, helper)
    for replica in (2, 1):
        again = await stage.ask(helper.chain, action, replica=replica)
        # Who proves nothing reads no key: it learns nothing of the earlier answer.
        assert (again.effect, again.replayed) == ("block", False)
        assert "chain.revoked" in codes(again)
        assert "action.replay_stale" not in codes(again)


async def test_who_may_revoke_a_grant(scene: Scene) -> None:
    stage = await cast(scene)
    revokers = {
        "principal": await scene.client(PRINCIPAL),
        "issuer": await scene.issuer(),
        "operator": await scene.operator(),
        "who delegated": await stage.runtime(AGENT),
        "who holds it": await stage.runtime(HELPER),
    }
    strangers = {
        "another agent": await stage.runtime(CLERK),
        "auditor": await scene.auditor(),
        "issuer without its role": await scene.client("svc-tasks"),
        "agent without its role": await scene.client("svc-ap", agents=(AGENT,)),
    }
    for who, revoker in revokers.items():
        helper = await stage.delegate(stage.root, HELPER)
        for name, stranger in strangers.items():
            with pytest.raises(NotFoundError) as known:
                await stranger.revoke_grant(stage.session, helper)
            with pytest.raises(NotFoundError) as unknown:
                await stranger.revoke_grant(stage.session, "0" * 64)
            assert str(known.value) == str(unknown.value), name
        assert (await stage.ask(helper.chain, read())).allowed
        await revoker.revoke_grant(stage.session, helper.token, chain=helper.chain)
        assert places(await stage.ask(helper.chain, read()), "chain.revoked") == ["chain[1]"], who
    # A grant below another's is not its to end.
    helper = await stage.delegate(stage.root, HELPER)
    aside = await stage.delegate(stage.root, CLERK)
    with pytest.raises(NotFoundError):
        await (await stage.runtime(CLERK)).revoke_grant(stage.session, helper)
    other = await scene.session()
    with pytest.raises(NotFoundError):
        await (await scene.operator()).revoke_grant(other, aside)


# --- limits ------------------------------------------------------------------------------------


async def test_total_of_a_grant_holds_over_all_that_is_done_below_it(scene: Scene) -> None:
    """Two leaves on two replicas at once: as many are allowed as fit, and not one more."""
    most = {"max": 1_000, "window_seconds": 60, "on_exceed": "block"}
    stage = await cast(scene, velocity={"payments": most}, large_amount={"EUR": 5000})
    limited = {**BOUNDARY, "amounts": [{"currency": "EUR", "per_action": "5000.00", "total": "1000.00"}]}
    helper = await stage.delegate(stage.root, HELPER, boundary=limited)
    await (await scene.operator()).put_agents([{"agent": "agent:clerk-2", "trust": 0.8}])
    leaves = [await stage.delegate(helper.chain, agent) for agent in (CLERK, "agent:clerk-2")]
    runtimes = [
        await scene.client("svc-clerk", "agent", agents=(CLERK,), replica=1),
        await scene.client("svc-clerk-2", "agent", agents=("agent:clerk-2",), replica=2),
    ]
    decisions = await asyncio.gather(
        *(
            runtimes[n % 2].evaluate(pay(90), session=stage.session, chain=leaves[n % 2].chain)
            for n in range(24)
        )
    )
    assert [d.failure for d in decisions if d.failure] == []
    assert Counter(str(d.effect) for d in decisions) == {"allow": 11, "block": 13}
    assert {code for d in decisions if d.effect == "block" for code in codes(d)} == {"boundary.total"}
    # What is left of it, the middle may spend itself; what it hands on counts against it.
    assert codes(await stage.ask(helper.chain, pay(11))) == ["boundary.total"]
    assert (await stage.ask(helper.chain, pay(10))).allowed
    assert (await stage.ask(stage.root, pay(2000))).allowed


async def test_counts_of_each_grant_on_the_path_are_kept(scene: Scene) -> None:
    stage = await cast(scene)
    helper = await stage.delegate(stage.root, HELPER, boundary={**BOUNDARY, "max_actions": 3})
    clerk = await stage.delegate(helper.chain, CLERK, boundary={**BOUNDARY, "max_actions": 1})
    assert (await stage.ask(clerk.chain, read())).allowed
    assert codes(await stage.ask(clerk.chain, read())) == ["boundary.max_actions"]
    # A call that was not allowed counts for nothing.
    for _ in range(2):
        assert (await stage.ask(helper.chain, read(), replica=2)).allowed
    assert codes(await stage.ask(helper.chain, read())) == ["boundary.max_actions"]
    another = await stage.delegate(helper.chain, CLERK, boundary={**BOUNDARY, "max_actions": 1})
    assert codes(await stage.ask(another.chain, read())) == ["boundary.max_actions"]


async def test_trust_floor_is_of_every_hop(scene: Scene) -> None:
    stage = await cast(scene)
    helper = await stage.delegate(stage.root, HELPER)
    clerk = await stage.delegate(helper.chain, CLERK)
    assert (await stage.ask(clerk.chain, pay(1))).allowed
    await (await scene.operator()).put_agents([{"agent": HELPER, "trust": 0.1}])
    assert codes(await stage.ask(clerk.chain, pay(1))) == ["trust.below_floor"]


# --- other questions on the same chain -----------------------------------------------------------


async def test_simulation_stream_and_list_of_tools_know_the_chain(scene: Scene) -> None:
    stage = await cast(scene)
    helper = await stage.delegate(stage.root, HELPER, boundary=READS)
    author = await scene.client("user:pol", "policy_author")
    seen = [
        await author.simulate(
            action, session=stage.session, subject="svc-helper", agents=(HELPER,), chain=helper.chain
        )
        for action in (read(), pay())
    ]
    assert [str(each.would_be) for each in seen] == ["allow", "block"]
    runtime = await stage.runtime(HELPER)
    assert [tool.name for tool in await runtime.list_allowed_tools(stage.session, chain=helper.chain)] == [
        READ
    ]
    assert await runtime.list_allowed_tools(stage.session) == ()
    owner = await stage.runtime(AGENT)
    assert len(await owner.list_allowed_tools(stage.session)) == 3
    assert await owner.list_allowed_tools(stage.session, chain=helper.chain) == ()
    async with runtime.stream() as stream:
        answers = [
            await stream.evaluate(action, session=stage.session, chain=helper.chain)
            for action in (read(), pay())
        ]
    assert [str(answer.effect) for answer in answers] == ["allow", "block"]
    await owner.revoke_grant(stage.session, helper)
    # A chain that was revoked proves no part in the session any more.
    with pytest.raises(PermissionDeniedError) as unproven:
        await runtime.list_allowed_tools(stage.session, chain=helper.chain)
    assert unproven.value.reason == "SESSION_UNPROVEN"


async def test_chain_of_a_decision_is_shown_with_what_each_hop_was_answered(scene: Scene) -> None:
    stage = await cast(scene)
    own = await stage.ask((), read(), by=AGENT)
    helper = await stage.delegate(stage.root, HELPER, purpose="look it up")
    looked = await stage.ask(helper.chain, read())
    clerk = await stage.delegate(helper.chain, CLERK, boundary=READS)
    blocked = await stage.ask(clerk.chain, pay())
    allowed = await stage.ask(clerk.chain, read())
    await (await stage.runtime(AGENT)).revoke_grant(stage.session, helper, reason="enough")
    for viewer in (await stage.runtime(AGENT), await scene.client(PRINCIPAL), await scene.auditor()):
        chain: Chain = await viewer.get_chain(allowed.decision_id, session=stage.session)
        assert (chain.session_id, chain.principal) == (stage.session.session_id, PRINCIPAL)
        assert [link.hop for link in chain.links] == list(allowed.chain)
        assert [link.purpose for link in chain.links] == ["", "look it up", ""]
        assert [[decision for decision, _ in link.decisions] for link in chain.links] == [
            [own.decision_id],
            [looked.decision_id],
            [allowed.decision_id, blocked.decision_id],
        ]
        assert [effect for _, effect in chain.links[2].decisions] == ["allow", "block"]
        assert [(link.revoked_by, link.revoke_reason) for link in chain.links] == [
            ("", ""),
            ("svc-ap", "enough"),
            ("", ""),
        ]
    with pytest.raises(NotFoundError):
        await (await stage.runtime(CLERK)).get_chain(allowed.decision_id)


# --- forged grants -------------------------------------------------------------------------------


async def test_forged_grant_is_blocked_whoever_signed_it(scene: Scene) -> None:
    """Not even a key of ours makes a grant: what was never issued is none."""
    stage = await cast(scene)
    helper = await stage.delegate(stage.root, HELPER, boundary=READS)
    async with PostgresStore.open(database_url(scene.stack), replica="forger") as store:
        ours = RotatingSigner(store.keys, replica="forger")
        theirs = RotatingSigner(FakeStore().keys, replica="x")
        for signer in (ours, theirs):
            await signer.rotate()
        seen = await GrantTokens(ours, store.keys).read(helper.token)
        assert seen is not None
        # What the helper holds, wider; and what nobody delegated to the clerk.
        wider = replace(seen, boundary=parse_boundary({"tools": [PAY], "resources": []}, "boundary"))
        given = replace(
            seen,
            agent=CLERK,
            depth=2,
            parent=helper.grant_hash,
            actors=(HELPER, AGENT),
            delegated_by="svc-helper",
        )
        for signer in (ours, theirs):
            forger = GrantTokens(signer, store.keys)
            for chain, by in (
                ((helper.chain[0], Hop(agent=HELPER, grant=await forger.issue(wider))), HELPER),
                ((helper.chain[0], Hop(agent=HELPER, grant=await forger.issue(seen))), HELPER),
                ((*helper.chain, Hop(agent=CLERK, grant=await forger.issue(given))), CLERK),
            ):
                for replica in (1, 2):
                    decision = await stage.ask(chain, read(), by=by, replica=replica)
                    at = f"chain[{len(chain) - 1}]"
                    assert (decision.effect, places(decision, "chain.invalid")) == ("block", [at])
    assert (await stage.ask(helper.chain, read())).allowed


# --- what else rests on a chain ------------------------------------------------------------------


async def test_allow_of_a_chain_is_judged_again_on_moved_ground_without_its_grants_at_hand(
    scene: Scene,
) -> None:
    stage = await cast(scene)
    operator, erp = await scene.operator(), await scene.tool_server()
    await operator.put_tools([tool | {"redeem": "required"} for tool in TOOLS if tool["name"] == PAY])
    helper = await stage.delegate(stage.root, HELPER)
    clerk = await stage.delegate(helper.chain, CLERK)
    action = pay(10)
    asked = {"tool": PAY, "arguments": action["arguments"], "audience": "erp"}
    decision = await stage.ask(clerk.chain, action)
    assert decision.effect == "allow"
    await operator.put_tenant({"max_chain_depth": 1})
    with pytest.raises(PreconditionError, match=r"chain\.too_deep"):
        await erp.redeem(decision.decision_id, **asked)
    await operator.put_tenant({})
    await erp.redeem(decision.decision_id, **asked)


async def test_allow_of_a_chain_that_was_revoked_since_is_not_redeemed(scene: Scene) -> None:
    stage = await cast(scene)
    operator = await scene.operator()
    await operator.put_tools([tool | {"redeem": "required"} for tool in TOOLS if tool["name"] == PAY])
    helper = await stage.delegate(stage.root, HELPER)
    clerk = await stage.delegate(helper.chain, CLERK)
    erp = await scene.tool_server()
    spent, left = pay(10), pay(20)
    decisions = [await stage.ask(clerk.chain, action) for action in (spent, left)]
    assert [decision.effect for decision in decisions] == ["allow", "allow"]

    async def redeem(action: dict[str, Any], decision: Decision) -> None:
        await erp.redeem(decision.decision_id, tool=PAY, arguments=action["arguments"], audience="erp")

    await redeem(spent, decisions[0])
    await operator.revoke_grant(stage.session, helper)
    with pytest.raises(PreconditionError) as refused:
        await redeem(left, decisions[1])
    assert refused.value.reason == "NOT_REDEEMABLE"
    assert "revoked" in str(refused.value)
    # What became of the first is still the leaf's to say.
    runtime = await stage.runtime(CLERK)
    assert (
        await runtime.report_outcome(decisions[0].decision_id, "executed", chain=clerk.chain)
    ).hold == "committed"


async def test_plan_is_judged_on_its_chain(scene: Scene) -> None:
    stage = await cast(scene)
    helper = await stage.delegate(stage.root, HELPER, boundary={**BOUNDARY, "max_actions": 2})
    runtime = await stage.runtime(HELPER)
    plan = await runtime.evaluate_plan([read(), pay(10), read()], session=stage.session, chain=helper.chain)
    assert [str(decision.effect) for decision in plan] == ["allow", "allow", "block"]
    assert codes(plan[2]) == ["boundary.max_actions"]
    for decision in plan:
        assert [hop.agent for hop in decision.chain] == [AGENT, HELPER]
        assert decision.chain[-1].effect == decision.effect
    await (await scene.operator()).revoke_grant(stage.session, helper)
    plan = await runtime.evaluate_plan([read(), read()], session=stage.session, chain=helper.chain)
    for decision in plan:
        assert places(decision, "chain.revoked") == ["chain[1]"]


async def test_revocation_under_load_lets_no_later_allow_through(scene: Scene) -> None:
    """No call that begins after the answer to a revocation is allowed, whichever replica it meets."""
    stage = await cast(scene)
    helper = await stage.delegate(stage.root, HELPER)
    clerk = await stage.delegate(helper.chain, CLERK)
    runtimes = [await stage.runtime(CLERK, replica=number) for number in (1, 2)]
    revoked, seen = asyncio.Event(), asyncio.Semaphore(0)
    after = Counter[str]()

    async def act(runtime: AsyncClient) -> None:
        while after.total() < 12:
            begun_after = revoked.is_set()
            decision = await runtime.evaluate(read(), session=stage.session, chain=clerk.chain)
            assert decision.failure is None, decision.failure
            if begun_after:
                after[str(decision.effect)] += 1
                assert "chain.revoked" in codes(decision)
            seen.release()

    async with asyncio.TaskGroup() as acting:
        for runtime in runtimes * 2:
            acting.create_task(act(runtime))
        for _ in range(12):
            await seen.acquire()
        await (await scene.operator()).revoke_grant(stage.session, helper)
        revoked.set()
    assert set(after) == {"block"}


async def test_boundary_that_no_grant_can_hold_is_its_own_agents_alone(scene: Scene) -> None:
    ids = [f"INV-{number:06d}-{'x' * 40}" for number in range(1000)]
    wide = {"tools": [READ], "resources": [{"type": "invoice", "ids": ids}]}
    stage = await cast(scene, wide)
    assert stage.session.grant == ""
    assert (await stage.ask((), read(ids[7]), by=AGENT)).allowed
    stage = await cast(scene, {"tools": [READ], "resources": ["invoice:*"]})
    with pytest.raises(InvalidRequestError) as refused:
        await stage.delegate(stage.root, HELPER, boundary=wide)
    assert refused.value.field == "boundary"
    # A thousand ids as they usually are can be handed on.
    usual = {
        "tools": [READ],
        "resources": [{"type": "invoice", "ids": [f"INV-{n:05d}" for n in range(1000)]}],
    }
    helper = await stage.delegate(stage.root, HELPER, boundary=usual)
    assert (await stage.ask(helper.chain, read("INV-00999"))).allowed


async def test_who_revokes_all_the_time_is_turned_away_and_operators_are_not(scene: Scene) -> None:
    stage = await cast(scene)
    owner, operator = await stage.runtime(AGENT), await scene.operator()

    async def too_often() -> None:
        for _ in range(500):
            helper = await stage.delegate(stage.root, HELPER)
            await owner.revoke_grant(stage.session, helper)
            # Saying it again costs nobody anything.
            await owner.revoke_grant(stage.session, helper)

    with pytest.raises(OverloadedError) as refused:
        await too_often()
    assert refused.value.retry_after is not None
    for _ in range(60):
        await operator.revoke_grant(stage.session, await stage.delegate(stage.root, HELPER))


async def test_guard_runs_on_the_chain_that_it_was_given(scene: Scene) -> None:
    stage = await cast(scene)
    helper = await stage.delegate(stage.root, HELPER, boundary=READS)
    ran: list[str] = []

    @(await stage.runtime(HELPER)).guard(session=stage.session, tool=READ, chain=helper.chain)
    async def look_up(invoice: str) -> None:
        ran.append(invoice)

    await look_up("INV-1")
    await (await stage.runtime(AGENT)).revoke_grant(stage.session, helper)
    with pytest.raises(Blocked) as refused:
        await look_up("INV-2")
    assert ran == ["INV-1"]
    assert "chain.revoked" in codes(refused.value.decision)
