"""Recorded decisions on fakes: who may see one, and what of its chain."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from pdp.decision.reading import MAX_TAKEN, DecisionReader, ShownHop
from pdp.delegation.chain import Chains
from pdp.delegation.point import Delegation, DelegationPoint
from pdp.delegation.tokens import GrantTokens
from pdp.errors import NotFoundError
from pdp.model import Caller, Decision, Effect, Hop, Outcome, Receipt, Role, grant_hash
from tests.support import builders
from tests.support.builders import AGENT, PRINCIPAL, TENANT
from tests.unit.decision.test_point import Bench, bench
from tests.unit.outcomes.test_point import point as outcome_point

__all__ = ["bench"]
CALLER = builders.caller()
OPERATOR = builders.caller(subject="ops", roles=frozenset({Role.OPERATOR}), agents=frozenset())
AUDITOR = replace(OPERATOR, subject="audit", roles=frozenset({Role.AUDITOR}))
ANNA = replace(OPERATOR, subject=PRINCIPAL, roles=frozenset())
HELPER = builders.caller(subject="svc-helper", agents=frozenset({"agent:helper"}))
STRANGER = builders.caller(subject="svc-other", agents=frozenset({"agent:other"}))


def reader(bench: Bench) -> DecisionReader:
    store = bench.store
    return DecisionReader(
        ledger=store.ledger, sessions=store.sessions, grants=store.grants, proofs=bench.proofs()
    )


async def decided(
    bench: Bench, *, by: Caller = CALLER, hops: tuple[Hop, ...] = ()
) -> tuple[Decision, Receipt]:
    # Ids are times of the database's clock: what is decided later has the greater one.
    await bench.store.clock.advance(1)
    return await bench.point().evaluate(builders.evaluation(bench.session.session_id, by=by, hops=hops))


async def delegated(bench: Bench) -> tuple[Hop, Hop]:
    """The session's root grant, and what its agent hands on to the helper."""
    grants = GrantTokens(bench.signer, bench.store.keys)
    delegations = DelegationPoint(
        chains=Chains(bench.store.information_point, grants),
        store=bench.store.grants,
        grants=grants,
        issuer="test",
    )
    now = await bench.store.clock.now()
    root = Hop(agent=AGENT, grant=await delegations.root(TENANT, bench.session, now))
    asked = Delegation(
        session_id=bench.session.session_id,
        hops=(root,),
        to_agent="agent:helper",
        boundary=None,
        purpose="check the invoice",
        expires_at=None,
    )
    return root, await delegations.delegate(CALLER, asked, deadline=builders.deadline())


async def test_decision_is_returned_as_it_was_recorded(bench: Bench) -> None:
    decision, receipt = await decided(bench)
    shown = await reader(bench).decision(CALLER, decision.decision_id, **builders.shown())
    assert (shown.decision, shown.receipt) == (decision, receipt)
    assert (shown.outcome, shown.redeemed, shown.input_document) == (None, False, b"")


@pytest.mark.parametrize("caller", [OPERATOR, AUDITOR])
async def test_operators_and_auditors_also_see_what_was_judged(bench: Bench, caller: Caller) -> None:
    decision, _ = await decided(bench)
    shown = await reader(bench).decision(caller, decision.decision_id, **builders.shown())
    assert json.loads(shown.input_document)["session"]["id"] == bench.session.session_id


async def test_decision_shows_what_became_of_it(bench: Bench) -> None:
    decision, _ = await decided(bench)
    outcomes = outcome_point(bench)
    await outcomes.report(
        CALLER, Outcome.EXECUTED, decision_id=decision.decision_id, deadline=builders.deadline()
    )
    assert (
        await reader(bench).decision(CALLER, decision.decision_id, **builders.shown())
    ).outcome is Outcome.EXECUTED


@pytest.mark.parametrize("caller", [STRANGER, ANNA, replace(CALLER, tenant="another")])
async def test_decision_does_not_exist_for_who_did_not_ask_for_it(bench: Bench, caller: Caller) -> None:
    decision, _ = await decided(bench)
    with pytest.raises(NotFoundError):
        await reader(bench).decision(caller, decision.decision_id, **builders.shown())
    with pytest.raises(NotFoundError):
        await reader(bench).decision(CALLER, "unknown", **builders.shown())


async def test_chain_shows_each_grant_and_what_was_decided_on_it(bench: Bench) -> None:
    root, leaf = await delegated(bench)
    without, _ = await decided(bench)
    own, _ = await decided(bench, hops=(root,))
    helped, _ = await decided(bench, by=HELPER, hops=(root, leaf))
    shown = await reader(bench).chain(ANNA, helped.decision_id, **builders.shown())
    assert shown.decision == helped
    assert shown.session is not None
    assert shown.session.session_id == bench.session.session_id
    first, last = shown.hops
    assert (first.hop.agent, last.hop.agent) == (AGENT, "agent:helper")
    assert first.grant is not None
    assert last.grant is not None
    assert first.grant.grant_hash == grant_hash(root.grant)
    assert last.grant.purpose == "check the invoice"
    # The root also acts without its grant; latest first.
    assert [of for of, _ in first.decisions] == [own.decision_id, without.decision_id]
    assert last.decisions == [(helped.decision_id, Effect.ALLOW)]


async def test_only_the_latest_decisions_of_a_hop_are_shown(bench: Bench) -> None:
    made = [(await decided(bench))[0].decision_id for _ in range(MAX_TAKEN + 1)]
    [hop] = (await reader(bench).chain(ANNA, made[0], **builders.shown())).hops
    assert [of for of, _ in hop.decisions] == made[:0:-1]


async def test_hop_that_is_not_proven_shows_nothing(bench: Bench) -> None:
    invented = Hop(agent="agent:helper", grant="no grant")
    decision, _ = await decided(bench, hops=(Hop(agent=AGENT, grant=""), invented))
    *_, last = (await reader(bench).chain(OPERATOR, decision.decision_id, **builders.shown())).hops
    assert last.hop.unverified
    assert last == ShownHop(hop=last.hop, grant=None, decisions=())


@pytest.mark.parametrize("caller", [ANNA, CALLER, OPERATOR, AUDITOR])
async def test_chain_is_shown_to_whom_the_session_concerns(bench: Bench, caller: Caller) -> None:
    decision, _ = await decided(bench)
    assert (await reader(bench).chain(caller, decision.decision_id, **builders.shown())).decision == decision


@pytest.mark.parametrize("caller", [STRANGER, HELPER, replace(ANNA, tenant="another")])
async def test_chain_does_not_exist_for_anybody_else(bench: Bench, caller: Caller) -> None:
    root, leaf = await delegated(bench)
    decision, _ = await decided(bench, by=HELPER, hops=(root, leaf))
    with pytest.raises(NotFoundError):
        await reader(bench).chain(caller, decision.decision_id, **builders.shown())


@pytest.mark.parametrize(("caller", "shown"), [(OPERATOR, True), (AUDITOR, True), (CALLER, False)])
async def test_chain_in_a_session_that_never_was_is_for_operators_and_auditors(
    bench: Bench, caller: Caller, shown: bool
) -> None:
    decision, _ = await bench.point().evaluate(builders.evaluation("unknown"))
    if shown:
        assert (await reader(bench).chain(caller, decision.decision_id, **builders.shown())).session is None
        return
    with pytest.raises(NotFoundError):
        await reader(bench).chain(caller, decision.decision_id, **builders.shown())
