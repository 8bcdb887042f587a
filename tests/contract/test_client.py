"""What a caller can rely on, on the fake that the wheel ships and on a real PDP.

Everything here goes through the public client. What policy says is arranged by each target:
scripts for the fake; tools, agents and a boundary for the real one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from placet import (
    AlreadyExistsError,
    AsyncClient,
    Blocked,
    Boundary,
    Client,
    Decision,
    DevIdentity,
    Effect,
    Escalated,
    HoldState,
    Hop,
    InvalidRequestError,
    NotFoundError,
    Outcome,
    PermissionDeniedError,
    PlacetError,
    PreconditionError,
    ReplayedAllow,
    Session,
    SessionState,
    UnauthenticatedError,
    current_decision,
    tool_call,
)
from placet.receipt import parse
from placet.task_token import public_jwk, sign
from placet.testing import FakePdp, Verdict
from placet.testing.script import Received
from tests.support.stack import RealPdp

AGENT, STRANGER, PRINCIPAL = "agent:payer", "agent:stranger", "user:anna"
HELPER = "agent:helper"
# Generous: the disk stalls for seconds now and then.
TIMEOUT = 60.0
READ, PAY, UNKNOWN = "invoices.get", "payments.create", "vendors.steal"
BOUNDARY = {"tools": [READ, PAY], "resources": ["invoice:*"], "amounts": {"EUR": "5000.00"}}
STRING = {"type": "string"}
TOOLS = [
    {
        "name": READ,
        "effect": "read",
        "resource": "invoice:{invoice}",
        "arguments_schema": {"type": "object", "properties": {"invoice": STRING}, "required": ["invoice"]},
        "audience": "erp",
    },
    {
        "name": PAY,
        "effect": "pay",
        "resource": "invoice:{invoice}",
        "arguments_schema": {
            "type": "object",
            "properties": {"invoice": STRING, "amount": {"type": ["number", "string"]}, "currency": STRING},
            "required": ["invoice", "amount", "currency"],
        },
        "amount": {"argument": "amount", "unit": "major", "currency_argument": "currency"},
        "audience": "erp",
    },
]


@dataclass(kw_only=True)
class Target:
    """A PDP with a tenant of this test's own, that allows reads and escalates large payments."""

    address: str
    tenant: str
    jwks: dict[str, Any]
    clients: list[Client] = field(default_factory=list)

    def identity(
        self,
        subject: str,
        *roles: str,
        agents: tuple[str, ...] = (),
        tools: tuple[str, ...] = (),
        audiences: tuple[str, ...] = (),
    ) -> DevIdentity:
        return DevIdentity(
            tenant=self.tenant,
            subject=subject,
            roles=roles,
            agents=agents,
            tools=tools,
            audiences=audiences,
        )

    def client(self, identity: DevIdentity, **options: Any) -> Client:
        """A client that checks signatures."""
        settings: dict[str, Any] = {"timeout": TIMEOUT, "jwks": self.jwks} | options
        self.clients.append(Client(self.address, identity=identity, **settings))
        return self.clients[-1]

    def agent(self, **options: Any) -> Client:
        return self.client(self.identity("svc-payer", "agent", agents=(AGENT,)), **options)

    def issuer(self, subject: str = "svc-issuer") -> Client:
        return self.client(self.identity(subject, "session_issuer"))

    def operator(self) -> Client:
        return self.client(self.identity("ops", "operator"))

    def session(self, *, agent: str = AGENT, **options: Any) -> Session:
        return self.issuer().open_session(
            task=f"T-{uuid4().hex}", principal=PRINCIPAL, agent=agent, boundary=BOUNDARY, **options
        )


def _judge(received: Received) -> Verdict:
    """The fake's script: what the real rules say of these actions."""
    arguments: Any = received.action.arguments
    resource = f"invoice:{arguments['invoice']}"
    if received.action.tool == PAY and Decimal(str(arguments["amount"])) > 2000:
        return Verdict(effect=Effect.ESCALATE, code="payment.large", resource=resource)
    return Verdict(effect=Effect.ALLOW, code="task.within_boundary", resource=resource)


@pytest.fixture(params=["fake", "real"])
def pdp(request: pytest.FixtureRequest) -> Iterator[Target]:
    if request.param == "fake":
        with FakePdp(signed=True) as fake:
            fake.script(READ, _judge)
            fake.script(PAY, _judge)
            fake.block(code="registry.unknown_tool")
            yield from _arranged(Target(address=fake.target, tenant=f"t-{uuid4().hex}", jwks=fake.jwks()))
        return
    real: RealPdp = request.getfixturevalue("real_pdp")
    yield from _arranged(Target(address=real.target, tenant=real.fresh_tenant(), jwks=real.jwks()))


def _arranged(target: Target) -> Iterator[Target]:
    operator = target.operator()
    assert operator.put_tenant({}) >= 1
    assert operator.put_agents([{"agent": agent, "trust": 0.9} for agent in (AGENT, HELPER, STRANGER)]) >= 1
    assert operator.put_tools(TOOLS) >= 1
    yield target
    for client in target.clients:
        client.close()


def read(call: str = "c-1", invoice: str = "INV-1", **members: Any) -> dict[str, Any]:
    return {"tool": READ, "arguments": {"invoice": invoice}, "tool_call_id": call} | members


def pay(amount: object, call: str = "c-1") -> dict[str, Any]:
    arguments = {"invoice": "INV-1", "amount": amount, "currency": "EUR"}
    return {"tool": PAY, "arguments": arguments, "tool_call_id": call}


# --- decisions ----------------------------------------------------------------------


def test_allow_is_whole_signed_and_good_for_a_while(pdp: Target) -> None:
    session = pdp.session()
    decision = pdp.agent().evaluate(read(), session=session, audience="erp")
    assert decision.failure is None
    assert decision.allowed
    decision.require_allowed()
    assert decision.effect is Effect.ALLOW
    assert [reason.code for reason in decision.reasons] == ["task.within_boundary"]
    assert decision.receipt_status == "verified"
    assert (decision.session_id, decision.tool_call_id) == (session.session_id, "c-1")
    assert decision.decided_at is not None
    assert decision.expires_at is not None
    assert timedelta(0) < decision.expires_at - decision.decided_at <= timedelta(hours=1)
    assert decision.policy.bundle
    assert decision.policy.revision
    assert set(decision.data_revisions) == {"settings", "tools", "agents", "signals", "entities"}
    assert decision.session_version == session.version + 1
    assert decision.position is not None
    assert decision.position.seq >= 1
    assert decision.attempt_id
    assert not decision.replayed
    assert decision.model_text.startswith("POLICY_ALLOWED")
    claims = parse(decision.receipt).claims
    assert claims["aud"] == "erp"
    assert claims["act"]["resource"] == "invoice:INV-1"
    assert claims["tenant"] == pdp.tenant


def test_without_keys_the_receipt_is_compared_and_unverified(pdp: Target) -> None:
    decision = pdp.agent(jwks=None).evaluate(read(), session=pdp.session())
    assert decision.allowed
    assert decision.receipt_status == "unverified"


def test_signature_of_other_keys_blocks(pdp: Target) -> None:
    with FakePdp(signed=True) as other:
        decision = pdp.agent(jwks=other.jwks()).evaluate(read(), session=pdp.session())
    assert not decision.allowed
    assert decision.reasons[0].code == "client.receipt_mismatch"


def test_escalation_raises_and_says_that_nobody_can_resolve_it_yet(pdp: Target) -> None:
    decision = pdp.agent().evaluate(pay(3000), session=pdp.session())
    assert decision.effect is Effect.ESCALATE
    assert [reason.code for reason in decision.reasons] == ["payment.large"]
    assert "nobody can resolve it yet" in decision.model_text
    with pytest.raises(Escalated):
        decision.require_allowed()


def test_tool_that_nobody_registered_is_blocked(pdp: Target) -> None:
    decision = pdp.agent().evaluate(read(tool=UNKNOWN), session=pdp.session())
    assert decision.effect is Effect.BLOCK
    assert decision.failure is None
    assert "registry.unknown_tool" in [reason.code for reason in decision.reasons]
    assert decision.model_text.startswith("POLICY_BLOCKED")
    with pytest.raises(Blocked):
        decision.require_allowed()


@pytest.mark.parametrize("amount", [1200, 1200.5, Decimal("1200.50"), "1200.50", Decimal("1200.00"), 0.1])
def test_amount_in_any_spelling_comes_back_in_a_receipt_for_it(pdp: Target, amount: object) -> None:
    decision = pdp.agent().evaluate(pay(amount), session=pdp.session())
    assert decision.failure is None
    assert decision.allowed


@pytest.mark.parametrize(
    "text",
    [
        b'{"invoice": "INV-1", "note": "\xc3\xa9\xf0\x9f\x98\x80 \\u0000 \\"\\\\"}',
        b' {"invoice"\n:\t"INV-1"} ',
        b'{"invoice": "INV-1", "n": [1e2, 1.50, -0.0, 12345678901234567890, null, true, {"z": [], "a": {}}]}',
    ],
)
def test_arguments_as_text_come_back_in_a_receipt_for_them(pdp: Target, text: bytes) -> None:
    decision = pdp.agent().evaluate(read(arguments=text), session=pdp.session())
    assert decision.failure is None
    assert decision.receipt_status == "verified"


def test_stranger_is_answered_about_no_session(pdp: Target) -> None:
    session = pdp.session()
    stranger = pdp.client(pdp.identity("svc-stranger", "agent", agents=(STRANGER,)))
    for named in (session.session_id, str(uuid4())):
        decision = stranger.evaluate(read(call=f"c-{named}"), session=named)
        assert decision.effect is Effect.BLOCK
        assert [reason.code for reason in decision.reasons] == ["session.unknown"]
        assert decision.session_version == 0
    assert pdp.issuer().get_session(session).version == session.version


# --- repeats --------------------------------------------------------------------------


def test_repeat_gets_the_same_receipt_and_is_not_allowed_to_another_attempt(pdp: Target) -> None:
    session, agent = pdp.session(), pdp.agent()
    first = agent.evaluate(read(), session=session)
    second = agent.evaluate(read(), session=session)
    assert second.replayed
    assert (second.decision_id, second.receipt) == (first.decision_id, first.receipt)
    assert second.attempt_id == first.attempt_id
    assert not second.allowed
    with pytest.raises(ReplayedAllow):
        second.require_allowed()
    assert agent.evaluate(read(), session=session, attempt_id=first.attempt_id).allowed


def test_call_of_the_sessions_own_agent_is_one_with_and_without_a_root_grant(pdp: Target) -> None:
    agent, session = pdp.agent(), pdp.session()
    root = [{"agent": AGENT, "grant": session.grant}]
    first = agent.evaluate(read("once"), session=session)
    assert first.allowed
    for chain in ([AGENT], root):
        again = agent.evaluate(read("once"), session=session, chain=chain)
        assert (again.replayed, again.receipt) == (True, first.receipt)


def test_repeat_in_another_spelling_is_the_same_call(pdp: Target) -> None:
    session, agent = pdp.session(), pdp.agent()
    first = agent.evaluate(pay(1200), session=session)
    second = agent.evaluate(pay(Decimal("1200.00")), session=session)
    assert second.failure is None
    assert (second.replayed, second.decision_id) == (True, first.decision_id)


def test_repeat_of_a_block_and_of_an_escalation_is_the_stored_one(pdp: Target) -> None:
    session, agent = pdp.session(), pdp.agent()
    for action in (read(tool=UNKNOWN), pay(3000, call="c-2")):
        first = agent.evaluate(action, session=session)
        second = agent.evaluate(action, session=session)
        assert (second.replayed, second.receipt) == (True, first.receipt)


def test_id_of_another_action_is_blocked_and_the_first_keeps_it(pdp: Target) -> None:
    session, agent = pdp.session(), pdp.agent()
    first = agent.evaluate(read(), session=session)
    reused = agent.evaluate(read(invoice="INV-2"), session=session)
    assert reused.effect is Effect.BLOCK
    assert "action.key_reused" in [reason.code for reason in reused.reasons]
    assert agent.evaluate(read(), session=session).decision_id == first.decision_id


def test_allow_does_not_outlive_its_session(pdp: Target) -> None:
    session, agent = pdp.session(), pdp.agent()
    assert agent.evaluate(read(), session=session).allowed
    pdp.issuer().close_session(session, reason="done")
    stale = agent.evaluate(read(), session=session)
    assert stale.effect is Effect.BLOCK
    assert not stale.replayed
    assert "action.replay_stale" in [reason.code for reason in stale.reasons]
    later = agent.evaluate(read(call="c-2"), session=session)
    assert [reason.code for reason in later.reasons] == ["session.closed"]


def test_guard_executes_once(pdp: Target) -> None:
    ran: list[str] = []
    guarded = pdp.agent().guard(session=pdp.session(), tool=READ)(lambda invoice: ran.append(invoice))
    with tool_call("call-1"):
        guarded("INV-1")
        with pytest.raises(ReplayedAllow):
            guarded("INV-1")
        with pytest.raises(Blocked, match=r"action\.key_reused"):
            guarded("INV-2")
    assert ran == ["INV-1"]


def test_recorded_decision_is_the_same_bytes(pdp: Target) -> None:
    agent, session = pdp.agent(), pdp.session()
    decision = agent.evaluate(read(), session=session)
    own = agent.get_decision(decision.decision_id, session=session)
    assert own.receipt == decision.receipt
    assert own.receipt_status == "verified"
    assert (own.effect, own.position, own.input_document) == (decision.effect, decision.position, b"")
    assert not own.allowed
    assert pdp.operator().get_decision(decision.decision_id).input_document
    other = pdp.client(pdp.identity("svc-other", "agent", agents=(AGENT,)))
    for client, decision_id in ((other, decision.decision_id), (agent, str(uuid4()))):
        with pytest.raises(NotFoundError):
            client.get_decision(decision_id, session=session)


# --- plans ----------------------------------------------------------------------------


def reasons(decisions: tuple[Decision, ...]) -> list[list[str]]:
    return [[reason.code for reason in decision.reasons] for decision in decisions]


def test_plan_is_answered_item_by_item_each_with_its_receipt(pdp: Target) -> None:
    session, agent = pdp.session(), pdp.agent()
    plan = [read("a"), pay(3000, "b"), read("c", tool=UNKNOWN), pay(100, "d")]
    decisions = agent.evaluate_plan(plan, session=session, audience="erp")
    assert [decision.failure for decision in decisions] == [None] * 4
    assert [str(decision.effect) for decision in decisions] == ["allow", "escalate", "block", "allow"]
    assert [decision.allowed for decision in decisions] == [True, False, False, True]
    assert [decision.tool_call_id for decision in decisions] == ["a", "b", "c", "d"]
    assert {decision.receipt_status for decision in decisions} == {"verified"}
    versions = [decision.session_version for decision in decisions]
    assert versions == [session.version + n for n in range(1, 5)]
    for decision in decisions:
        assert agent.get_decision(decision.decision_id, session=session).receipt == decision.receipt
        assert parse(decision.receipt).claims["aud"] == "erp"
    assert pdp.issuer().get_session(session).decisions == {"allow": 2, "block": 1, "escalate": 1}


def test_plan_that_is_not_whole_is_blocked(pdp: Target) -> None:
    session, agent = pdp.session(), pdp.agent()
    plan = [read("a"), pay(3000, "b"), read("c", tool=UNKNOWN)]
    decisions = agent.evaluate_plan(plan, session=session, all_or_nothing=True)
    assert [decision.failure for decision in decisions] == [None] * 3
    assert {str(decision.effect) for decision in decisions} == {"block"}
    first, second, third = reasons(decisions)
    assert first == ["plan.not_whole"]
    assert decisions[0].reasons[0].at == "items[1]"
    assert "plan.not_whole" in second
    assert "registry.unknown_tool" in third
    assert [decision.retryable for decision in decisions] == [True, True, False]
    # Asked for alone, what was allowed is still allowed.
    assert agent.evaluate(read("a"), session=session).allowed


def test_whole_plan_is_allowed_and_a_repeat_is_the_stored_answers(pdp: Target) -> None:
    session, agent = pdp.session(), pdp.agent()
    plan = [read("a"), pay(100, "b")]
    first = agent.evaluate_plan(plan, session=session, all_or_nothing=True)
    assert all(decision.allowed for decision in first)
    again = agent.evaluate_plan(plan, session=session, all_or_nothing=True)
    assert [decision.replayed for decision in again] == [True, True]
    assert [decision.receipt for decision in again] == [decision.receipt for decision in first]
    assert not any(decision.allowed for decision in again)
    attempt = first[0].attempt_id
    mine = agent.evaluate_plan(plan, session=session, all_or_nothing=True, attempt_id=attempt)
    assert all(decision.allowed for decision in mine)
    # An item alone is the same call, and a longer plan has an answer for it.
    assert agent.evaluate(read("a"), session=session).decision_id == first[0].decision_id
    longer = agent.evaluate_plan([*plan, read("c")], session=session)
    assert [decision.replayed for decision in longer] == [True, True, False]


def test_earlier_allow_is_no_part_of_a_plan_that_is_not_whole(pdp: Target) -> None:
    session, agent = pdp.session(), pdp.agent()
    earlier = agent.evaluate(read("a"), session=session)
    decisions = agent.evaluate_plan([read("a"), pay(3000, "b")], session=session, all_or_nothing=True)
    assert [decision.failure for decision in decisions] == [None, None]
    assert reasons(decisions)[0] == ["plan.not_whole"]
    assert agent.evaluate(read("a"), session=session).decision_id == earlier.decision_id


def test_plan_that_cannot_be_asked_is_blocks(pdp: Target) -> None:
    session, agent = pdp.session(), pdp.agent()
    too_many = agent.evaluate_plan([read(f"c-{n}") for n in range(33)], session=session)
    twice = agent.evaluate_plan([read("a"), read("a")], session=session)
    odd = agent.evaluate_plan([read("a"), read("")], session=session)
    for decisions, at in (
        (too_many, "items"),
        (twice, "items[1].action.tool_call_id"),
        (odd, "items[1].action.tool_call_id"),
    ):
        assert {(d.reasons[0].code, d.reasons[0].at) for d in decisions} == {("client.refused", at)}
        assert not any(decision.allowed for decision in decisions)
    assert len(too_many) == 33
    assert agent.evaluate_plan([], session=session) == ()
    assert pdp.issuer().get_session(session).version == session.version


def test_strangers_plan_moves_nothing(pdp: Target) -> None:
    session = pdp.session()
    stranger = pdp.client(pdp.identity("svc-stranger", "agent", agents=(STRANGER,)))
    decisions = stranger.evaluate_plan([read("a"), read("b")], session=session)
    assert reasons(decisions) == [["session.unknown"]] * 2
    assert pdp.issuer().get_session(session).version == session.version


# --- delegation -----------------------------------------------------------------------


def helper_of(pdp: Target, agent: str = HELPER) -> Client:
    return pdp.client(pdp.identity(f"svc-{agent}", "agent", agents=(agent,)))


def test_delegated_agent_acts_on_its_chain(pdp: Target) -> None:
    session = pdp.session()
    assert session.grant
    assert pdp.issuer().get_session(session).grant == ""
    grant = pdp.agent().delegate(session, to_agent=HELPER, purpose="look it up")
    assert [hop.agent for hop in grant.chain] == [AGENT, HELPER]
    assert [hop.grant for hop in grant.chain] == [session.grant, grant.token]
    helper = helper_of(pdp)
    decision = helper.evaluate(read(), session=session, chain=grant.chain)
    assert (decision.allowed, decision.receipt_status) == (True, "verified")
    assert [(hop.agent, hop.depth, hop.verified) for hop in decision.chain] == [
        (AGENT, 0, True),
        (HELPER, 1, True),
    ]
    assert [hop.delegated_by for hop in decision.chain] == ["svc-issuer", "svc-payer"]
    assert [hop.effect for hop in decision.chain] == [None, "allow"]
    assert decision.chain[1].grant_hash == grant.grant_hash
    assert helper.evaluate(read(), session=session, chain=grant.chain).chain == decision.chain
    assert [tool.name for tool in helper.list_allowed_tools(session, chain=grant.chain)]
    assert helper.get_decision(decision.decision_id, chain=grant.chain).chain == decision.chain
    # The session's own agent needs no grant, and is named like any hop.
    own = pdp.agent().evaluate(read("c-2"), session=session)
    assert [(hop.agent, hop.grant_hash, hop.effect) for hop in own.chain] == [(AGENT, "", "allow")]


def test_without_its_chain_a_helper_is_a_stranger(pdp: Target) -> None:
    session = pdp.session()
    grant = pdp.agent().delegate(session, to_agent=HELPER)
    helper, version = helper_of(pdp), session.version
    assert helper.evaluate(read(), session=session).reasons[0].code == "session.unknown"
    for code, chain in (
        ("chain.invalid", grant.chain[1:]),
        ("chain.invalid", [grant.chain[0], {"agent": HELPER, "grant": "not.a.grant"}]),
        ("chain.foreign", pdp.agent().delegate(pdp.session(), to_agent=HELPER).chain),
    ):
        decision = helper.evaluate(read(f"c-{len(chain)}-{code}"), session=session, chain=chain)
        assert (decision.effect, decision.session_version) == ("block", 0)
        assert code in {reason.code for reason in decision.reasons}
        assert any(hop.unverified for hop in decision.chain)
    stranger = pdp.client(pdp.identity("svc-stranger", "agent", agents=(STRANGER,)))
    decision = stranger.evaluate(read(), session=session, chain=grant.chain)
    assert ("chain.not_holder", "chain[1]") in {(reason.code, reason.at) for reason in decision.reasons}
    assert pdp.issuer().get_session(session).version == version
    for call in (helper.get_session, helper.close_session):
        with pytest.raises(NotFoundError):
            call(session)


def test_helper_reads_the_session_by_its_chain_and_auditors_read_it(pdp: Target) -> None:
    session = pdp.session()
    grant = pdp.agent().delegate(session, to_agent=HELPER)
    helper = helper_of(pdp)
    stranger = pdp.client(pdp.identity("svc-stranger", "agent", agents=(STRANGER,)))
    auditor = pdp.client(pdp.identity("svc-audit", "auditor"))
    shown = helper.get_session(session, chain=grant.chain)
    assert (shown.session_id, shown.state, shown.decisions) == (session.session_id, session.state, {})
    assert auditor.get_session(session.session_id) == pdp.operator().get_session(session.session_id)
    for call in (auditor.close_session, auditor.complete_task):
        with pytest.raises(NotFoundError):
            call(session.session_id)
    with pytest.raises(NotFoundError):
        helper.close_session(session, chain=grant.chain)
    for client, chain in ((helper, grant.chain[:1]), (stranger, grant.chain), (stranger, grant.chain[:1])):
        with pytest.raises(NotFoundError):
            client.get_session(session, chain=chain)
    pdp.agent().revoke_grant(session, grant)
    with pytest.raises(PermissionDeniedError) as unproven:
        helper.get_session(session, chain=grant.chain)
    assert unproven.value.reason == "SESSION_UNPROVEN"


def test_what_cannot_be_delegated_is_refused_by_name(pdp: Target) -> None:
    session = pdp.session()
    grant = pdp.agent().delegate(session, to_agent=HELPER, boundary={"tools": [READ], "resources": []})
    late = session.expires_at + timedelta(seconds=1)
    for options, named in (
        ({"boundary": {"tools": [READ, PAY]}}, "boundary.tools[1]"),
        ({"boundary": {"effects": ["pay"]}}, "boundary.effects[0]"),
        ({"expires_at": late}, "expires_at"),
    ):
        with pytest.raises(PreconditionError) as wider:
            helper_of(pdp).delegate(session, grant.chain, to_agent=STRANGER, **options)
        assert (wider.value.reason, wider.value.violations[0].field) == ("GRANT_EXCEEDS_PARENT", named)
    for client, chain, to_agent in (
        (pdp.agent(), grant.chain, STRANGER),
        (helper_of(pdp), grant.chain, AGENT),
    ):
        with pytest.raises(PreconditionError) as refused:
            client.delegate(session, chain, to_agent=to_agent)
        assert refused.value.reason == "CHAIN_REFUSED"
    for chain in ((), [AGENT]):
        with pytest.raises(InvalidRequestError) as missing:
            pdp.agent().delegate(session.session_id, chain, to_agent=HELPER)
        assert missing.value.field.startswith("chain.hops")
    with pytest.raises(NotFoundError):
        helper_of(pdp, STRANGER).delegate(session, grant.chain, to_agent="agent:new")
    pdp.issuer().close_session(session)
    with pytest.raises(PreconditionError) as over:
        pdp.agent().delegate(session, to_agent=HELPER)
    assert over.value.reason == "SESSION_OVER"


def test_revoked_grant_ends_what_is_below_it(pdp: Target) -> None:
    session = pdp.session()
    grant = pdp.agent().delegate(session, to_agent=HELPER)
    below = helper_of(pdp).delegate(session, grant.chain, to_agent=STRANGER)
    leaf = helper_of(pdp, STRANGER)
    assert leaf.evaluate(read(), session=session, chain=below.chain).allowed
    with pytest.raises(NotFoundError):
        leaf.revoke_grant(session, grant)
    since = pdp.agent().revoke_grant(session, grant, reason="done")
    assert pdp.operator().revoke_grant(session, grant.token) == since
    again = leaf.evaluate(read("c-2"), session=session, chain=below.chain)
    assert (again.effect, again.allowed) == ("block", False)
    assert ("chain.revoked", "chain[1]") in {(reason.code, reason.at) for reason in again.reasons}
    # The allow from before is not given again either, and nothing is told of it.
    repeated = leaf.evaluate(read(), session=session, chain=below.chain)
    assert (repeated.effect, repeated.replayed) == ("block", False)
    assert pdp.agent().evaluate(read("c-3"), session=session).allowed


def test_revoked_proofs_prove_nothing_until_the_session_is_opened_again(pdp: Target) -> None:
    session = pdp.session()
    root = (Hop(agent=AGENT, grant=session.grant),)
    grant = pdp.agent().delegate(session, to_agent=HELPER)
    helper = helper_of(pdp)
    allowed = helper.evaluate(read(), session=session, chain=grant.chain)
    assert allowed.allowed
    for client in (pdp.agent(), helper):
        with pytest.raises(NotFoundError):
            client.revoke_session_proofs(session)
    revoked = pdp.issuer().revoke_session_proofs(session, reason="it leaked")
    assert (revoked.tokens, revoked.grants) == (1, 2)
    for client, shown, chain, code in (
        (pdp.agent(), session, (), "session.unproven"),
        (pdp.agent(), replace(session, token=""), root, "chain.revoked"),
        (helper, session, grant.chain, "chain.revoked"),
    ):
        decision = client.evaluate(read(f"c-{code}"), session=shown, chain=chain)
        assert (decision.effect, decision.session_version) == ("block", 0)
        assert code in {reason.code for reason in decision.reasons}
    with pytest.raises(PermissionDeniedError) as unproven:
        helper.report_outcome(allowed.decision_id, "executed", chain=grant.chain)
    assert unproven.value.reason == "SESSION_UNPROVEN"
    shown = pdp.operator().get_session(session)
    assert (shown.proofs_ended, shown.proofs_revoked_at) == (True, revoked.revoked_at)
    again = pdp.issuer().open_session(task=session.task, principal=PRINCIPAL, agent=AGENT, boundary=BOUNDARY)
    assert (again.session_id, again.proofs_ended) == (session.session_id, False)
    assert again.proofs_revoked_at == revoked.revoked_at
    assert pdp.agent().evaluate(read("c-2"), session=again).allowed
    for by in (pdp.operator(), pdp.client(pdp.identity(PRINCIPAL))):
        assert by.revoke_session_proofs(session).revoked_at >= revoked.revoked_at


def test_chain_of_a_decision_is_shown_to_who_the_session_is(pdp: Target) -> None:
    session = pdp.session()
    own = pdp.agent().evaluate(read("c-0"), session=session)
    grant = pdp.agent().delegate(session, to_agent=HELPER, purpose="look it up")
    helper = helper_of(pdp)
    decision = helper.evaluate(read(), session=session, chain=grant.chain)
    pdp.agent().revoke_grant(session, grant, reason="done")
    for viewer in (pdp.agent(), pdp.issuer(), pdp.operator(), pdp.client(pdp.identity(PRINCIPAL))):
        chain = viewer.get_chain(decision.decision_id, session=session)
        assert (chain.session_id, chain.task_id) == (session.session_id, session.task.id)
        assert tuple(link.hop for link in chain.links) == decision.chain
        assert [link.decisions for link in chain.links] == [
            ((own.decision_id, "allow"),),
            ((decision.decision_id, "allow"),),
        ]
        root, leaf = chain.links
        assert (leaf.purpose, leaf.revoked_by, leaf.revoke_reason) == ("look it up", "svc-payer", "done")
        assert leaf.revoked_at is not None
        assert root.revoked_at is None
    for client, wanted in ((helper, decision.decision_id), (pdp.operator(), "nothing")):
        with pytest.raises(NotFoundError):
            client.get_chain(wanted)


# --- sessions -------------------------------------------------------------------------


@pytest.fixture
def signed(pdp: Target) -> Callable[..., str]:
    """Signs tasks of the target's tenant, as a registered issuer does."""
    key = ec.generate_private_key(ec.SECP256R1())
    assert pdp.operator().put_issuer_keys("erp", {"keys": [public_jwk(key)]}) == 1
    at = pdp.session().opened_at.timestamp()

    def token(**options: Any) -> str:
        said = {"task": "T-1", "principal": PRINCIPAL, "agent": AGENT, "boundary": BOUNDARY}
        return sign(key, **({"issuer": "erp", "tenant": pdp.tenant, "issued_at": at} | said | options))

    return token


def test_agent_opens_what_an_issuer_has_signed(pdp: Target, signed: Callable[..., str]) -> None:
    velocity = [{"max": 5, "window": 60, "effects": ["read"]}]
    token = signed(boundary=BOUNDARY | {"velocity": velocity})
    session = pdp.agent().open_session(task_token=token)
    assert (session.task.id, session.principal, session.agent) == ("T-1", PRINCIPAL, AGENT)
    assert session.issuer == "task:erp"
    assert session.boundary.velocity[0].window == timedelta(seconds=60)
    assert pdp.agent().open_session(task_token=token, principal=PRINCIPAL) == session
    assert pdp.agent().evaluate(read(), session=session).allowed


def test_agent_opens_nothing_else(pdp: Target, signed: Callable[..., str]) -> None:
    asked: dict[str, Any] = {"task": "T-2", "principal": PRINCIPAL, "agent": AGENT, "boundary": BOUNDARY}
    for options in (
        asked,
        {"task_token": signed(agent=STRANGER)},
        {"task_token": signed(tenant="another")},
        {"task_token": "no.to.ken"},
    ):
        with pytest.raises(PermissionDeniedError):
            pdp.agent().open_session(**options)
    for name, other in (("task", "T-9"), ("principal", "user:bob"), ("boundary", {}), ("expires_in", 60)):
        with pytest.raises(InvalidRequestError) as refused:
            pdp.agent().open_session(task_token=signed(), **{name: other})
        assert refused.value.field == ("expires_at" if name == "expires_in" else name)
    with pytest.raises(InvalidRequestError) as refused:
        pdp.issuer().open_session(**asked, principal_token="no.to.ken")
    assert refused.value.field == "principal_token"


def test_session_is_opened_with_what_was_asked(pdp: Target) -> None:
    boundary = {
        "tools": [PAY],
        "effects": ["read", "send"],
        "resources": [
            "invoice:INV-1",
            "vendor:ACME-*",
            "order:*",
            {"type": "vendor", "attribute": {"of_type": "invoice", "attribute": "vendor"}},
        ],
        "amounts": {"EUR": Decimal("5000.00"), "JPY": 10000},
    }
    # The time is that of the PDP's clock, which a test may have moved.
    expires_at = (pdp.session().opened_at + timedelta(minutes=10)).replace(microsecond=0)
    session = pdp.issuer().open_session(
        task={"id": "T-1", "description": "Pay", "prompt": "pay it"},
        principal=PRINCIPAL,
        agent=AGENT,
        boundary=boundary,
        expires_at=expires_at,
    )
    assert (session.task.id, session.task.description, session.task.prompt) == ("T-1", "Pay", "pay it")
    assert (session.principal, session.agent, session.issuer) == (PRINCIPAL, AGENT, "svc-issuer")
    assert session.state is SessionState.OPEN
    assert session.expires_at == expires_at
    assert session.boundary.tools == (PAY,)
    assert set(session.boundary.effects) == {"read", "send"}
    assert {(rule.type, rule.id, rule.prefix) for rule in session.boundary.resources} == {
        ("invoice", "INV-1", None),
        ("vendor", None, "ACME-"),
        ("order", None, ""),
        ("vendor", None, None),
    }
    (of,) = [rule.attribute for rule in session.boundary.resources if rule.attribute is not None]
    assert (of.of_type, of.attribute) == ("invoice", "vendor")
    assert {limit.currency: limit.per_action for limit in session.boundary.amounts} == {
        "EUR": Decimal(5000),
        "JPY": Decimal(10000),
    }
    assert pdp.issuer().get_session(session) == session


def test_task_has_one_session(pdp: Target) -> None:
    issuer = pdp.issuer()
    asked: dict[str, Any] = {"task": "T-1", "principal": PRINCIPAL, "agent": AGENT, "boundary": BOUNDARY}
    session = issuer.open_session(**asked)
    assert issuer.open_session(**asked).session_id == session.session_id
    for other in ({"principal": "user:bob"}, {"agent": STRANGER}, {"boundary": Boundary()}):
        with pytest.raises(AlreadyExistsError) as raised:
            issuer.open_session(**(asked | other))
        assert raised.value.reason == "TASK_EXISTS"
    with pytest.raises(AlreadyExistsError):
        pdp.issuer("svc-other").open_session(**asked)


def test_simulation_says_what_would_be_and_leaves_no_trace(pdp: Target) -> None:
    session, author = pdp.session(), pdp.client(pdp.identity("author", "policy_author"))
    asked: dict[str, Any] = {"session": session, "subject": "svc-ap", "agents": [AGENT]}
    allowed = author.simulate(read(), **asked)
    assert (allowed.would_be, [reason.effect for reason in allowed.reasons]) == (Effect.ALLOW, [Effect.ALLOW])
    assert author.simulate(pay(3000), **asked).would_be is Effect.ESCALATE
    blocked = author.simulate(read(tool=UNKNOWN), **asked)
    assert blocked.would_be is Effect.BLOCK
    stranger = author.simulate(read(), session=session, subject="svc-ap", agents=[STRANGER])
    assert stranger.would_be is Effect.BLOCK
    assert pdp.agent().get_session(session) == session
    # The same call is still a new one.
    assert pdp.agent().evaluate(read(), session=session).allowed


def test_simulation_needs_its_role(pdp: Target) -> None:
    session = pdp.session()
    for client in (pdp.agent(), pdp.operator(), pdp.issuer()):
        with pytest.raises(PermissionDeniedError):
            client.simulate(read(), session=session, subject="svc-ap", agents=[AGENT])


def test_session_counts_its_decisions(pdp: Target) -> None:
    session, agent = pdp.session(), pdp.agent()
    agent.evaluate(read(), session=session)
    agent.evaluate(read(call="c-2", tool=UNKNOWN), session=session)
    agent.evaluate(pay(3000, call="c-3"), session=session)
    agent.evaluate(read(), session=session)
    seen = agent.get_session(session)
    assert dict(seen.decisions) == {"allow": 1, "block": 1, "escalate": 1}
    assert seen.version == session.version + 3


def test_session_is_closed_once(pdp: Target) -> None:
    session, issuer = pdp.session(), pdp.issuer()
    closed = issuer.close_session(session, reason="done")
    assert closed.state is SessionState.CLOSED
    assert closed.closed_at is not None
    assert issuer.close_session(session) == closed


def test_task_is_completed_once_by_its_principal_or_issuer(pdp: Target) -> None:
    session = pdp.session()
    for other in (pdp.agent(), pdp.operator()):
        with pytest.raises(NotFoundError):
            other.complete_task(session)
    completed = pdp.client(pdp.identity(PRINCIPAL)).complete_task(session, reason="paid")
    assert completed.state is SessionState.COMPLETED
    assert completed.completed_at is not None
    assert pdp.issuer().complete_task(session) == completed


def test_closed_session_cannot_be_completed(pdp: Target) -> None:
    session, issuer = pdp.session(), pdp.issuer()
    issuer.close_session(session)
    with pytest.raises(PreconditionError) as raised:
        issuer.complete_task(session)
    assert raised.value.reason == "SESSION_OVER"


def test_session_is_seen_by_its_own_only(pdp: Target) -> None:
    session = pdp.session()
    own = [
        pdp.issuer(),
        pdp.agent(),
        pdp.operator(),
        pdp.client(pdp.identity(PRINCIPAL)),
    ]
    for client in own:
        assert client.get_session(session).session_id == session.session_id
    strangers = [
        pdp.issuer("svc-other"),
        pdp.client(pdp.identity("svc-stranger", "agent", agents=(STRANGER,))),
        pdp.client(replace_tenant(pdp.identity("ops", "operator"), "another-tenant")),
    ]
    for client in strangers:
        with pytest.raises(NotFoundError):
            client.get_session(session)
        with pytest.raises(NotFoundError):
            client.close_session(session)
    assert pdp.issuer().get_session(session).state is SessionState.OPEN


def replace_tenant(identity: DevIdentity, tenant: str) -> DevIdentity:
    return DevIdentity(tenant=tenant, subject=identity.subject, roles=identity.roles, agents=identity.agents)


# --- errors ---------------------------------------------------------------------------


def test_tenant_that_nobody_created_is_named(pdp: Target) -> None:
    nowhere = pdp.client(replace_tenant(pdp.identity("svc", "agent", agents=(AGENT,)), "nowhere"))
    decision = nowhere.evaluate(read(), session="s")
    assert decision.reasons[0].code == "client.refused"
    assert decision.failure is not None
    assert decision.failure.reason == "TENANT_UNKNOWN"
    issuer = pdp.client(replace_tenant(pdp.identity("svc", "session_issuer"), "nowhere"))
    with pytest.raises(PreconditionError):
        issuer.open_session(task="t", principal="p", agent="a", boundary={})


def test_role_that_is_missing_is_refused(pdp: Target) -> None:
    session = pdp.session()
    decision = pdp.issuer().evaluate(read(), session=session)
    assert decision.failure is not None
    assert decision.failure.reason == "PERMISSION_DENIED"
    for call in (
        lambda: pdp.agent().put_tenant({}),
        lambda: pdp.agent().put_tools(TOOLS),
        lambda: pdp.agent().open_session(task="t", principal="p", agent="a", boundary={}),
        lambda: pdp.operator().put_tenant({}, tenant="another-tenant"),
    ):
        with pytest.raises(PermissionDeniedError) as raised:
            call()
        assert raised.value.reason == "PERMISSION_DENIED"


def test_identity_that_is_none_is_refused(pdp: Target) -> None:
    both = pdp.client(pdp.identity("svc", "agent", "reviewer", agents=(AGENT,)))
    with pytest.raises(UnauthenticatedError):
        both.get_session("s")
    unknown = pdp.client(pdp.identity("svc", "emperor"))
    with pytest.raises(UnauthenticatedError):
        unknown.get_session("s")


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"tool": ""}, "action.tool"),
        ({"tool_call_id": ""}, "action.tool_call_id"),
        ({"tool_call_id": " x"}, "action.tool_call_id"),
        ({"tool_call_id": "x" * 257}, "action.tool_call_id"),
        ({"arguments": b'{"a": 1, "a": 2}'}, "action.arguments"),
    ],
)
def test_field_of_an_action_that_is_refused_is_named(
    pdp: Target, changes: dict[str, Any], field: str
) -> None:
    decision = pdp.agent().evaluate(read() | changes, session="s")
    assert decision.reasons[0].code == "client.refused"
    assert decision.failure is not None
    assert (decision.failure.reason, decision.failure.field) == ("INVALID_FIELD", field)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"task": ""}, "task.id"),
        ({"principal": ""}, "principal"),
        ({"agent": "a\nb"}, "agent"),
        ({"expires_in": -3600}, "expires_at"),
        ({"expires_in": timedelta(days=40)}, "expires_at"),
    ],
)
def test_field_of_a_session_that_is_refused_is_named(
    pdp: Target, changes: dict[str, Any], field: str
) -> None:
    asked: dict[str, Any] = {"task": "T-1", "principal": PRINCIPAL, "agent": AGENT, "boundary": BOUNDARY}
    with pytest.raises(InvalidRequestError) as raised:
        pdp.issuer().open_session(**(asked | changes))
    assert raised.value.field == field


def test_operators_mistakes_are_named(pdp: Target) -> None:
    operator = pdp.operator()
    for call, path in (
        (lambda: operator.put_agents([]), "agents"),
        (lambda: operator.put_agents([{"agent": ""}]), "agents[0].agent"),
        (lambda: operator.put_agents([{"agent": "a", "trust": 2}]), "agents[0].trust"),
        (lambda: operator.put_tools([{"name": "", "effect": "read"}]), "tools[0].name"),
        (lambda: operator.put_tools([{"name": "t", "effect": "steal"}]), "tools[0].effect"),
        (
            lambda: operator.put_tools([TOOLS[0] | {"redeem": "required", "audience": ""}]),
            "tools[0].audience",
        ),
        (lambda: operator.put_signals([]), "signals"),
    ):
        with pytest.raises(InvalidRequestError) as raised:
            call()
        assert raised.value.field == path


def test_operator_sees_revisions_grow(pdp: Target) -> None:
    operator = pdp.operator()
    assert operator.put_signals([{"name": "incident", "value": True}]) < operator.put_signals(
        [{"name": "incident", "value": False, "expires_at": datetime.now(UTC) + timedelta(hours=1)}]
    )
    assert operator.put_tenant({}) < operator.put_tenant({})


def test_every_error_is_one_family(pdp: Target) -> None:
    with pytest.raises(PlacetError) as raised:
        pdp.agent().get_session("nope")
    assert raised.value.request_id
    assert raised.value.reason == "NOT_FOUND"


# --- asyncio --------------------------------------------------------------------------


async def test_async_client_is_the_same(pdp: Target) -> None:
    identity = pdp.identity("svc-payer", "agent", "session_issuer", "operator", agents=(AGENT,))
    async with AsyncClient(pdp.address, identity=identity, timeout=TIMEOUT, jwks=pdp.jwks) as client:
        session = await client.open_session(task="T-9", principal=PRINCIPAL, agent=AGENT, boundary=BOUNDARY)
        decision = await client.evaluate(read(), session=session)
        assert decision.allowed
        assert decision.receipt_status == "verified"
        assert (await client.get_decision(decision.decision_id, session=session)).receipt == decision.receipt
        assert not (await client.evaluate(read(), session=session)).allowed
        many = await asyncio.gather(
            *(client.evaluate(read(call=f"d-{number}"), session=session) for number in range(8))
        )
        assert all(each.allowed for each in many)
        assert len({each.session_version for each in many}) == 8

        ran: list[str] = []

        @client.guard(session=session, tool=READ)
        async def tool(invoice: str) -> None:
            ran.append(invoice)

        with tool_call("call-1"):
            await tool("INV-1")
            with pytest.raises(ReplayedAllow):
                await tool("INV-1")
        assert ran == ["INV-1"]
        grant = await client.delegate(session, to_agent=HELPER, expires_in=600)
        assert (await client.get_chain(decision.decision_id)).links[0].hop.agent == AGENT
        assert (await client.revoke_grant(session, grant)).tzinfo is not None
        other = await client.open_session(
            task="T-async-2", principal=PRINCIPAL, agent=AGENT, boundary={"tools": [READ]}
        )
        assert (await client.revoke_session_proofs(other)).tokens == 1
        assert await client.put_agents([{"agent": AGENT, "trust": 0.9}]) >= 1
        assert await client.put_tools(TOOLS) >= 1
        assert await client.put_tenant({}) >= 1
        assert await client.put_signals([{"name": "s", "value": 1}]) >= 1
        assert (await client.close_session(session)).state is SessionState.CLOSED
        assert (await client.get_session(session)).state is SessionState.CLOSED


async def test_stream_answers_each_call_as_a_call_of_its_own(pdp: Target) -> None:
    session = pdp.session()
    identity = pdp.identity("svc-payer", "agent", agents=(AGENT,))
    async with (
        AsyncClient(pdp.address, identity=identity, timeout=TIMEOUT, jwks=pdp.jwks) as client,
        client.stream() as stream,
    ):
        actions = [
            action
            for number in range(8)
            for action in (
                read(call=f"r-{number}"),
                pay(3000, call=f"p-{number}"),
                read(call=f"u-{number}", tool=UNKNOWN),
                read(call=f" m-{number}"),
            )
        ]
        answers = await asyncio.gather(*(stream.evaluate(action, session=session) for action in actions))
        for action, decision in zip(actions, answers, strict=True):
            assert decision.tool_call_id == action["tool_call_id"]
        assert all(each.allowed and each.receipt_status == "verified" for each in answers[0::4])
        assert {each.effect for each in answers[1::4]} == {Effect.ESCALATE}
        assert {each.reasons[0].code for each in answers[2::4]} == {"registry.unknown_tool"}
        for each in answers[3::4]:
            assert each.reasons[0].code == "client.refused"
            assert each.failure is not None
            assert each.failure.field == "action.tool_call_id"
        assert len({each.decision_id for each in answers}) == 3 * 8 + 1

        again = await stream.evaluate(actions[0], session=session)
        assert (again.replayed, again.allowed, again.receipt) == (True, False, answers[0].receipt)
    late = await stream.evaluate(read(call="late"), session=session)
    assert (late.allowed, late.reasons[0].code) == (False, "client.unreachable")


async def test_stream_without_the_role_is_refused(pdp: Target) -> None:
    identity = pdp.identity("svc-issuer", "session_issuer")
    async with (
        AsyncClient(pdp.address, identity=identity, timeout=TIMEOUT) as client,
        client.stream() as stream,
    ):
        decision = await stream.evaluate(read(), session="s")
    assert decision.reasons[0].code == "client.refused"
    assert decision.failure is not None
    assert decision.failure.reason == "PERMISSION_DENIED"


def test_many_actions_are_answered_by_number_without_an_event_loop(pdp: Target) -> None:
    session = pdp.session()
    identity = pdp.identity("svc-payer", "agent", agents=(AGENT,))
    actions = [
        action
        for number in range(8)
        for action in (
            read(call=f"r-{number}"),
            read(call=f"u-{number}", tool=UNKNOWN),
            read(call=f" m-{number}"),
        )
    ]
    with Client(pdp.address, identity=identity, timeout=TIMEOUT, jwks=pdp.jwks) as client:
        answers = dict(client.evaluate_many(iter(actions), session=session, in_flight=5))
        assert set(answers) == set(range(len(actions)))
        for number, decision in answers.items():
            assert decision.tool_call_id == actions[number]["tool_call_id"]
            assert decision.allowed == (number % 3 == 0)
            codes = ("task.within_boundary", "registry.unknown_tool", "client.refused")
            assert decision.reasons[0].code == codes[number % 3]
        assert client.evaluate(read(), session=session).allowed


# --- what became of it ------------------------------------------------------------


def tool(pdp: Target, tools: tuple[str, ...] = (PAY,), audiences: tuple[str, ...] = ("erp",)) -> Client:
    return pdp.client(pdp.identity("svc-erp", "tool", tools=tools, audiences=audiences))


def test_decision_shows_what_became_of_it(pdp: Target) -> None:
    agent, session = pdp.agent(), pdp.session()
    decision = agent.evaluate(pay(100), session=session)
    recorded = agent.get_decision(decision.decision_id, session=session)
    assert (recorded.outcome, recorded.redeemed) == (None, False)
    assert (
        agent.report_outcome(decision.decision_id, "executed", session=session, output=b"{}").hold
        is HoldState.COMMITTED
    )
    assert agent.get_decision(decision.decision_id, session=session).outcome is Outcome.EXECUTED
    assert tool(pdp).report_outcome(decision.decision_id, "failed").hold is HoldState.COMMITTED
    assert agent.get_decision(decision.decision_id, session=session).outcome is Outcome.EXECUTED


def test_word_of_whoever_asked_frees_nothing(pdp: Target) -> None:
    serving: dict[str, Any] = {"tools": (PAY,), "audiences": ("erp",)}
    both = pdp.client(pdp.identity("svc-both", "agent", "tool", agents=(AGENT,), **serving))
    decision = both.evaluate(pay(100), session=pdp.session())
    assert both.report_outcome(decision.decision_id, "failed").hold is HoldState.UNRESOLVED
    assert tool(pdp).report_outcome(decision.decision_id, "failed").hold is HoldState.RELEASED


SERVED = [
    ((PAY,), ("erp",), True),
    (("payments.*",), ("crm", "erp"), True),
    (("*",), ("erp",), True),
    ((), (), False),
    ((), ("erp",), False),
    ((PAY,), (), False),
    ((PAY,), ("crm",), False),
    ((READ,), ("erp",), False),
    (("payments",), ("erp",), False),
    (("payments.created*",), ("erp",), False),
]


@pytest.mark.parametrize(("tools", "audiences", "served"), SERVED)
def test_tool_redeems_only_what_its_credential_serves(
    pdp: Target, tools: tuple[str, ...], audiences: tuple[str, ...], served: bool
) -> None:
    agent, action, erp = pdp.agent(), pay(100), tool(pdp, tools, audiences)
    session = pdp.session()
    decision = agent.evaluate(action, session=session)
    asked: dict[str, Any] = {"tool": PAY, "arguments": action["arguments"]}
    if served:
        erp.redeem(decision.decision_id, audience="erp", **asked)
    else:
        for audience in {"erp", *audiences}:
            with pytest.raises(NotFoundError):
                erp.redeem(decision.decision_id, audience=audience, **asked)
    assert agent.get_decision(decision.decision_id, session=session).redeemed is served


@pytest.mark.parametrize(("tools", "audiences", "served"), SERVED)
def test_tools_word_is_taken_only_on_what_its_credential_serves(
    pdp: Target, tools: tuple[str, ...], audiences: tuple[str, ...], served: bool
) -> None:
    agent, session, erp = pdp.agent(), pdp.session(), tool(pdp, tools, audiences)
    decision = agent.evaluate(pay(100), session=session)
    if served:
        assert erp.report_outcome(decision.decision_id, "failed").hold is HoldState.RELEASED
        return
    for outcome in set(Outcome) - {Outcome.LAPSED, Outcome.UNREDEEMED}:
        for of_decision in (
            {"decision_id": decision.decision_id},
            {"session": session, "tool_call_id": "c-1"},
        ):
            with pytest.raises(NotFoundError):
                erp.report_outcome(outcome=outcome, **of_decision)
    assert agent.get_decision(decision.decision_id, session=session).outcome is None


def test_those_whose_the_session_is_may_report_and_free_nothing(pdp: Target) -> None:
    session = pdp.session()
    principal = pdp.client(pdp.identity(PRINCIPAL))
    moved = pdp.client(pdp.identity("svc-payer-2", "agent", agents=(AGENT,)))
    stranger = pdp.client(pdp.identity("svc-other", "agent", agents=(STRANGER,)))
    for number, reporter in enumerate((principal, pdp.issuer(), moved)):
        decision = pdp.agent().evaluate(pay(100, f"c-{number}"), session=session)
        with pytest.raises(NotFoundError):
            stranger.report_outcome(decision.decision_id, "failed")
        assert (
            reporter.report_outcome(decision.decision_id, "failed", session=session).hold
            is HoldState.UNRESOLVED
        )
        assert pdp.agent().get_decision(decision.decision_id, session=session).outcome is Outcome.FAILED


def test_receipt_is_for_the_audience_that_the_registry_names(pdp: Target) -> None:
    agent, session = pdp.agent(), pdp.session()
    named = agent.evaluate(pay(100, "c-1"), session=session, audience="erp")
    unnamed = agent.evaluate(pay(100, "c-2"), session=session)
    assert named.allowed
    assert unnamed.allowed
    assert [parse(decision.receipt).claims["aud"] for decision in (named, unnamed)] == ["erp", "erp"]
    other = agent.evaluate(pay(100, "c-3"), session=session, audience="crm")
    assert (other.effect, [reason.code for reason in other.reasons]) == (Effect.BLOCK, ["action.audience"])
    assert other.failure is None


def test_tool_without_an_audience_gives_receipts_that_nobody_redeems(pdp: Target) -> None:
    (plain,) = [{k: v for k, v in form.items() if k != "audience"} for form in TOOLS if form["name"] == PAY]
    pdp.operator().put_tools([plain])
    agent, session, erp = pdp.agent(), pdp.session(), tool(pdp)
    decision = agent.evaluate(pay(100, "c-1"), session=session)
    assert decision.allowed
    assert "aud" not in parse(decision.receipt).claims
    for audience in ("", "erp"):
        with pytest.raises(PreconditionError) as caught:
            erp.redeem(decision.decision_id, tool=PAY, arguments=pay(100)["arguments"], audience=audience)
        assert caught.value.reason == "NOT_REDEEMABLE"
    asked = agent.evaluate(pay(100, "c-2"), session=session, audience="erp")
    assert [reason.code for reason in asked.reasons] == ["action.audience"]


def test_allow_is_redeemed_once_for_its_own_action(pdp: Target) -> None:
    agent, erp, session = pdp.agent(), tool(pdp), pdp.session()
    action = pay(100)
    decision = agent.evaluate(action, session=session, audience="erp")
    asked = {"tool": PAY, "arguments": action["arguments"], "audience": "erp"}
    for change in ({"audience": "crm"}, {"tool": READ}, {"arguments": pay(101)["arguments"]}):
        with pytest.raises(PreconditionError):
            erp.redeem(decision.decision_id, **(asked | change))
    erp.redeem(decision.decision_id, **asked)
    assert agent.get_decision(decision.decision_id, session=session).redeemed
    with pytest.raises(PreconditionError) as caught:
        erp.redeem(decision.decision_id, **asked)
    assert caught.value.reason == "NOT_REDEEMABLE"


def test_secrets_are_in_no_receipt_and_compared_by_those_who_know_them(pdp: Target) -> None:
    schema = TOOLS[1]["arguments_schema"]
    login = {"type": "object", "properties": {"user": STRING, "token": STRING}}
    schema = schema | {"properties": schema["properties"] | {"pin": STRING, "login": login}}
    pdp.operator().put_tools(
        [TOOLS[1] | {"arguments_schema": schema, "secret_arguments": ["pin", "login.token"]}]
    )
    agent, erp, session = pdp.agent(), tool(pdp), pdp.session()
    secret = {"pin": "pin-4711", "login": {"user": "anna", "token": "token-4711"}}
    action = pay(100)
    action["arguments"] |= secret
    decision = agent.evaluate(action, session=session, attempt_id="a-1")
    assert decision.allowed
    claims = parse(decision.receipt).claims
    assert claims["act"]["secrets"] == ["login.token", "pin"]
    assert claims["arguments"] == action["arguments"] | {
        "pin": "[secret]",
        "login": {"user": "anna", "token": "[secret]"},
    }
    assert "4711" not in str(claims["arguments"])
    again = agent.evaluate(action, session=session, attempt_id="a-1")
    assert (again.replayed, again.failure) == (True, None)
    assert again.secret_salt == decision.secret_salt
    assert len(decision.secret_salt) == 32
    assert agent.get_decision(decision.decision_id, session=session).secret_salt == b""
    (planned,) = agent.evaluate_plan([action | {"tool_call_id": "c-2"}], session=session)
    [(_, streamed)] = agent.evaluate_many([action | {"tool_call_id": "c-3"}], session=session)
    assert (planned.failure, streamed.failure) == (None, None)
    assert len({decision.secret_salt, planned.secret_salt, streamed.secret_salt}) == 3
    plain = agent.evaluate(read("c-4"), session=session)
    assert (plain.secret_salt, parse(plain.receipt).claims["ver"]) == (b"", 1)
    asked: dict[str, Any] = {"tool": PAY, "audience": "erp"}
    for other in (secret | {"pin": "pin-4712"}, secret | {"login": {"user": "anna"}}, {}):
        with pytest.raises(PreconditionError) as caught:
            erp.redeem(decision.decision_id, arguments=pay(100)["arguments"] | other, **asked)
        assert caught.value.reason == "NOT_REDEEMABLE"
    erp.redeem(decision.decision_id, arguments=action["arguments"], **asked)


def test_report_about_one_attempt_says_nothing_about_another(pdp: Target) -> None:
    agent, session = pdp.agent(), pdp.session()
    decision = agent.evaluate(pay(100), session=session, attempt_id="a-1")
    of_call: dict[str, Any] = {"outcome": "voided", "session": session, "tool_call_id": "c-1"}
    with pytest.raises(NotFoundError):
        agent.report_outcome(**of_call, attempt_id="a-2")
    assert agent.get_decision(decision.decision_id, session=session).outcome is None
    assert agent.report_outcome(**of_call, attempt_id="a-1").hold is HoldState.UNRESOLVED
    assert agent.get_decision(decision.decision_id, session=session).outcome is Outcome.VOIDED


@pytest.mark.parametrize("missing", [{"session": "nothing", "tool_call_id": "c"}, {"decision_id": "nothing"}])
def test_report_about_nothing_is_not_found(pdp: Target, missing: dict[str, Any]) -> None:
    with pytest.raises(NotFoundError):
        pdp.agent().report_outcome(outcome="executed", **missing)


def test_guard_reports_by_itself(pdp: Target) -> None:
    agent, session = pdp.agent(), pdp.session()
    ran: list[str] = []

    @agent.guard(session=session, tool=PAY)
    def buy(invoice: str, amount: int, currency: str) -> dict[str, str]:
        ran.append(current_decision().decision_id)
        if amount == 3:
            raise OSError("the line went dead")
        return {"invoice": invoice}

    buy("INV-1", 2, "EUR")
    with pytest.raises(OSError, match="the line went dead"):
        buy("INV-1", 3, "EUR")
    agent.close()
    auditor = pdp.client(pdp.identity("revision", "auditor"))
    assert [auditor.get_decision(each).outcome for each in ran] == [Outcome.EXECUTED, Outcome.UNKNOWN]
    assert agent.unreported == 0
