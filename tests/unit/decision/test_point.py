"""The pipeline on fakes: order, failing closed, repeats, contention."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from pdp.decision.fingerprint import Fingerprints
from pdp.decision.point import DecisionPoint
from pdp.delegation.chain import Chains
from pdp.delegation.tokens import GrantTokens
from pdp.errors import (
    DeadlineExceededError,
    OverloadedError,
    SessionContendedError,
    SessionMovedError,
    SignerUnavailableError,
    StoreUnavailableError,
)
from pdp.model import (
    JSON,
    AttributeRule,
    Effect,
    EntityName,
    EvaluationRequest,
    Facts,
    FactsRequest,
    Hop,
    Position,
    Recording,
    ResourceRule,
    Session,
    SessionState,
    ToolEffect,
    Verdict,
)
from pdp.overload.admission import Admission
from pdp.ports import InformationPoint, KeyDirectory, Ledger
from pdp.proof.receipts import read_decision
from pdp.sessions.proof import Proofs
from pdp.signing import RotatingSigner
from placet.receipt import b64url_encode, parse
from placet.verify import Verifier
from tests.fakes.engine import ALLOW, ESCALATE, FakePolicyEngine, verdict
from tests.fakes.store import FakeStore
from tests.fakes.store.facts import FakeInformationPoint
from tests.fakes.store.keys import FakeKeyDirectory
from tests.fakes.store.ledger import FakeLedger
from tests.support import builders
from tests.support.chains import Link, chain_of, grant_of, link, speaker


class Bench:
    """A decision point on fakes, with one open session."""

    def __init__(self) -> None:
        self.store = FakeStore()
        self.engine = FakePolicyEngine()
        self.signer = RotatingSigner(self.store.keys, replica="test")
        self.session: Session = builders.session()
        self.information: InformationPoint = self.store.information_point
        self.directory: KeyDirectory = self.store.keys

    def point(self, ledger: Ledger | None = None, admission: Admission | None = None) -> DecisionPoint:
        return DecisionPoint(
            information=self.information,
            engine=self.engine,
            signer=self.signer,
            ledger=ledger or self.store.ledger,
            grants=GrantTokens(self.signer, self.directory),
            fingerprints=Fingerprints(b"k" * 32),
            issuer="test",
            admission=admission,
        )

    def proofs(self) -> Proofs:
        grants = GrantTokens(self.signer, self.directory)
        return Proofs(Chains(self.information, grants))


@pytest.fixture
async def bench() -> Bench:
    bench = Bench()
    await bench.signer.rotate()
    await bench.store.control_plane.put_tenant(builders.TENANT, b"{}", by=builders.AUTHOR)
    await bench.store.control_plane.put_tools(builders.TENANT, [builders.tool()], by=builders.AUTHOR)
    await bench.store.control_plane.put_agents(builders.TENANT, [builders.agent()], by=builders.AUTHOR)
    now = await bench.store.clock.now()
    bench.session = (await bench.store.sessions.open(builders.TENANT, builders.session(now=now))).session
    return bench


async def test_allow_is_signed_and_recorded_before_it_is_returned(bench: Bench) -> None:
    decision, receipt = await bench.point().evaluate(builders.evaluation(bench.session.session_id))
    assert decision.effect is Effect.ALLOW
    recorded = await bench.store.ledger.decision(builders.TENANT, decision.decision_id)
    assert recorded is not None
    assert recorded.token == receipt.token
    assert recorded.position == receipt.position
    Verifier({"keys": list(await bench.store.keys.jwks())}).verify(receipt.token)
    assert read_decision(receipt.token) == decision


async def test_ledger_that_fails_returns_nothing(bench: Bench) -> None:
    class Failing(FakeLedger):
        async def record(self, recording: Recording) -> Position:
            raise StoreUnavailableError("down")

    with pytest.raises(StoreUnavailableError):
        await bench.point(Failing(bench.store.state)).evaluate(builders.evaluation(bench.session.session_id))


async def test_signer_without_a_key_returns_and_records_nothing(bench: Bench) -> None:
    bench.signer = RotatingSigner(bench.store.keys, replica="test")
    with pytest.raises(SignerUnavailableError):
        await bench.point().evaluate(builders.evaluation(bench.session.session_id))
    found = await bench.store.sessions.get(builders.TENANT, bench.session.session_id)
    assert found is not None
    assert found[0].version == bench.session.version


async def test_engine_that_fails_blocks_and_is_recorded(bench: Bench) -> None:
    bench.engine.fail("status")
    decision, receipt = await bench.point().evaluate(builders.evaluation(bench.session.session_id))
    assert (decision.effect, decision.reasons[0].code) == (Effect.BLOCK, "pdp.policy_unavailable")
    assert decision.retryable
    assert decision.policy.revision == ""
    assert await bench.store.ledger.decision(builders.TENANT, decision.decision_id) is not None
    assert parse(receipt.token).claims["engine"] == ""


async def test_engine_that_hangs_blocks_and_is_recorded_within_the_deadline(bench: Bench) -> None:
    bench.engine.pause()
    decision, _ = await bench.point().evaluate(builders.evaluation(bench.session.session_id, seconds=2))
    assert decision.reasons[0].code == "pdp.policy_unavailable"


async def test_repeat_gets_the_stored_bytes(bench: Bench) -> None:
    point = bench.point()
    request = builders.evaluation(bench.session.session_id)
    first, receipt = await point.evaluate(request)
    again, same = await point.evaluate(replace(request, attempt_id="another"))
    assert same == receipt
    assert again == first.as_replayed()
    assert len(bench.engine.documents) == 1


async def test_amount_in_another_spelling_is_a_repeat(bench: Bench) -> None:
    point = bench.point()
    answers = []
    for amount in (1200, Decimal("1200.0"), Decimal("1.2E+3")):
        arguments = {"invoice": "INV-1001", "amount": amount, "currency": "EUR"}
        what = builders.action(arguments=arguments, tool_call_id="c1")
        answers.append(await point.evaluate(builders.evaluation(bench.session.session_id, what=what)))
    assert len({receipt.token for _, receipt in answers}) == 1


async def test_reused_id_blocks_and_does_not_displace_the_first_answer(bench: Bench) -> None:
    point = bench.point()
    first = builders.evaluation(bench.session.session_id, what=builders.action(tool_call_id="c1"))
    other = replace(first, action=replace(first.action, arguments={"invoice": "INV-2"}))
    allowed, _ = await point.evaluate(first)
    reused, _ = await point.evaluate(other)
    assert reused.effect is Effect.BLOCK
    assert reused.reasons[0].code == "action.key_reused"
    assert reused.reasons[0].at == f"decision:{allowed.decision_id}"
    again, _ = await point.evaluate(first)
    assert again == allowed.as_replayed()


@pytest.mark.parametrize("change", ["claim", "audience"])
async def test_what_a_repeat_must_have_in_common(bench: Bench, change: str) -> None:
    point = bench.point()
    first = builders.evaluation(bench.session.session_id, what=builders.action(tool_call_id="c1"))
    await point.evaluate(first)
    changed = {
        "claim": replace(first, action=replace(first.action, claimed_resource="invoice:OTHER")),
        "audience": replace(first, audience="erp"),
    }[change]
    decision, _ = await point.evaluate(changed)
    assert decision.effect is Effect.BLOCK
    assert decision.reasons[0].code == "action.key_reused"


async def test_made_up_review_does_not_open_a_second_answer(bench: Bench) -> None:
    request = builders.evaluation(bench.session.session_id)
    decision, _ = await bench.point().evaluate(replace(request, review_id="made-up"))
    assert (decision.effect, decision.reasons[0].code) == (Effect.BLOCK, "review.unknown")


async def test_expired_allow_cannot_be_had_again(bench: Bench) -> None:
    point = bench.point()
    request = builders.evaluation(bench.session.session_id)
    first, _ = await point.evaluate(request)
    await bench.store.clock.advance(61)
    stale, _ = await point.evaluate(request)
    assert (stale.effect, stale.reasons[0].code) == (Effect.BLOCK, "action.replay_stale")
    assert stale.reasons[0].at == f"decision:{first.decision_id}"
    assert not stale.retryable
    assert (await point.evaluate(request))[0] == stale.as_replayed()


async def test_allow_of_a_closed_session_cannot_be_had_again(bench: Bench) -> None:
    point = bench.point()
    request = builders.evaluation(bench.session.session_id)
    await point.evaluate(request)
    await bench.store.sessions.close(builders.TENANT, bench.session.session_id, "done")
    bench.engine.judge_by(verdict(Effect.BLOCK, "session.closed"))
    decision, _ = await point.evaluate(request)
    assert [reason.code for reason in decision.reasons] == ["action.replay_stale", "session.closed"]


async def test_retryable_block_is_judged_anew_and_a_lasting_one_is_not(bench: Bench) -> None:
    point = bench.point()
    lasting = builders.evaluation(bench.session.session_id)
    bench.engine.judge_by(verdict(Effect.BLOCK, "boundary.tool"))
    await point.evaluate(lasting)
    retryable = builders.evaluation(bench.session.session_id)
    bench.engine.fail("connection")
    await point.evaluate(retryable)
    bench.engine.judge_by(verdict(Effect.ALLOW, "task.within_boundary"))
    assert (await point.evaluate(lasting))[0].effect is Effect.BLOCK
    assert (await point.evaluate(retryable))[0].effect is Effect.ALLOW


async def test_stranger_moves_nothing_and_learns_nothing(bench: Bench) -> None:
    point = bench.point()
    stranger = builders.caller(subject="svc-else", agents=frozenset({"agent:else"}))
    decision, receipt = await point.evaluate(builders.evaluation(bench.session.session_id, by=stranger))
    unknown, _ = await point.evaluate(builders.evaluation("no-such-session", by=stranger))
    assert decision.session_version == unknown.session_version == 0
    known_document, unknown_document = bench.engine.documents[-2:]
    assert known_document["session"] is unknown_document["session"] is None
    claims = parse(receipt.token).claims
    assert (claims["sub"], claims["task"], claims["chain"]) == ("svc-else", "", [])
    assert "principal" not in claims
    found = await bench.store.sessions.get(builders.TENANT, bench.session.session_id)
    assert found is not None
    assert found[0] == bench.session


async def test_policy_cannot_allow_what_is_not_proven(bench: Bench) -> None:
    """Whatever the engine says: to a stranger, and on a chain that proves nothing."""
    point = bench.point()
    stranger = builders.caller(subject="svc-else", agents=frozenset({"agent:else"}))
    grants = GrantTokens(bench.signer, bench.store.keys)
    links = await chain_of(grants, bench.session, "agent:b")
    hops = tuple(known.hop for known in links)
    for answer in (ALLOW, ESCALATE):
        bench.engine.judge_by(answer)
        decision, _ = await point.evaluate(builders.evaluation(bench.session.session_id, by=stranger))
        assert decision.effect is Effect.BLOCK
        assert decision.reasons[0].code == "chain.unproven"
        # This grant is signed, and in no table.
        request = builders.evaluation(bench.session.session_id, by=speaker("agent:b"), hops=hops)
        decision, _ = await point.evaluate(request)
        assert decision.effect is Effect.BLOCK
        assert (decision.reasons[0].code, decision.reasons[0].at) == ("chain.invalid", "chain[0]")
    # What policy says itself is said once, with the first place that it is true of.
    bench.engine.judge_by(verdict(Effect.BLOCK, "chain.invalid"))
    request = builders.evaluation(bench.session.session_id, by=speaker("agent:b"), hops=hops)
    decision, _ = await point.evaluate(request)
    assert [(reason.code, reason.at) for reason in decision.reasons] == [("chain.invalid", "chain[0]")]
    for known in links:
        await bench.store.grants.add_grant(builders.TENANT, known.row)
    bench.engine.judge_by(ALLOW)
    request = builders.evaluation(bench.session.session_id, by=speaker("agent:b"), hops=hops)
    assert (await point.evaluate(request))[0].effect is Effect.ALLOW


async def test_stranger_waits_for_nobody_and_keeps_nobody_waiting(bench: Bench) -> None:
    point, session_id = bench.point(), bench.session.session_id
    stranger = builders.caller(subject="svc-else", agents=frozenset({"agent:else"}))
    bench.engine.pause()
    asked = [
        asyncio.create_task(point.evaluate(builders.evaluation(session_id, by=stranger))),
        asyncio.create_task(point.evaluate(builders.evaluation(session_id))),
    ]
    async with asyncio.timeout(30):
        # While neither has an answer, both have got as far as the engine.
        while len(bench.engine.documents) < 2:  # noqa: ASYNC110
            await asyncio.sleep(0)
    bench.engine.resume()
    await asyncio.gather(*asked)
    assert {document["session"] is None for document in bench.engine.documents} == {True, False}


async def test_unverified_hops_stand_in_the_receipt_as_hashes(bench: Bench) -> None:
    hops = (Hop(agent="agent:boss", grant="g"), Hop(agent=builders.AGENT))
    _, receipt = await bench.point().evaluate(builders.evaluation(bench.session.session_id, hops=hops))
    chain = parse(receipt.token).claims["chain"]
    assert set(chain[0]) == {"unverified"}
    assert "agent:boss" not in str(chain)


async def test_actions_of_a_session_take_turns_and_all_are_decided(bench: Bench) -> None:
    point = bench.point()
    answers = await asyncio.gather(
        *(point.evaluate(builders.evaluation(bench.session.session_id)) for _ in range(32))
    )
    versions = sorted(decision.session_version for decision, _ in answers)
    assert versions == list(range(2, 34))
    assert len(bench.engine.documents) == 32


async def test_receipts_of_a_session_form_a_chain(bench: Bench) -> None:
    point = bench.point()
    _, first = await point.evaluate(builders.evaluation(bench.session.session_id))
    _, second = await point.evaluate(builders.evaluation(bench.session.session_id))
    assert parse(first.token).claims["prev"] == []
    assert parse(second.token).claims["prev"] == [b64url_encode(parse(first.token).hash)]


async def test_history_that_moved_is_judged_again(bench: Bench) -> None:
    """Another replica records between facts and recording; the loser sees its decision."""

    class Racing(FakeLedger):
        lost = 0

        async def record(self, recording: Recording) -> Position:
            if self.lost < 3:
                self.lost += 1
                raise SessionMovedError("another replica was first")
            return await super().record(recording)

    ledger = Racing(bench.store.state)
    decision, _ = await bench.point(ledger).evaluate(builders.evaluation(bench.session.session_id))
    assert decision.effect is Effect.ALLOW
    assert len(bench.engine.documents) == 4


async def test_history_that_always_moves_is_an_error_with_a_hint(bench: Bench) -> None:
    class Losing(FakeLedger):
        async def record(self, recording: Recording) -> Position:
            raise SessionMovedError("another replica was first")

    with pytest.raises(SessionContendedError) as caught:
        await bench.point(Losing(bench.store.state)).evaluate(builders.evaluation(bench.session.session_id))
    assert caught.value.retry_after > 0
    with pytest.raises(DeadlineExceededError):
        await bench.point(Losing(bench.store.state)).evaluate(
            builders.evaluation(bench.session.session_id, seconds=0.3)
        )


async def test_turn_that_does_not_come_is_a_deadline_and_leaves_nothing_behind(bench: Bench) -> None:
    point = bench.point()
    bench.engine.pause()
    first = asyncio.create_task(point.evaluate(builders.evaluation(bench.session.session_id)))
    await bench.engine.asked()
    with pytest.raises(DeadlineExceededError):
        await point.evaluate(builders.evaluation(bench.session.session_id, seconds=0.2))
    bench.engine.resume()
    assert (await first)[0].effect is Effect.ALLOW
    assert (await point.evaluate(builders.evaluation(bench.session.session_id)))[0].effect is Effect.ALLOW


async def test_session_that_holds_its_share_of_all_places_is_turned_away_and_others_are_not(
    bench: Bench,
) -> None:
    admission = Admission(max_in_flight=8)
    point = bench.point(admission=admission)
    other = (
        await bench.store.sessions.open(builders.TENANT, builders.session(now=await bench.store.clock.now()))
    ).session
    bench.engine.pause()
    first = asyncio.create_task(point.evaluate(builders.evaluation(bench.session.session_id)))
    await bench.engine.asked()
    second = asyncio.create_task(point.evaluate(builders.evaluation(bench.session.session_id)))
    await asyncio.sleep(0)
    assert point.turns().waiting == 1
    with pytest.raises(OverloadedError) as refused:
        await point.evaluate(builders.evaluation(bench.session.session_id))
    assert refused.value.retry_after > 0
    assert point.turns().dropped == {"full": 1}
    elsewhere = asyncio.create_task(point.evaluate(builders.evaluation(other.session_id)))
    bench.engine.resume()
    for decision, _ in await asyncio.gather(first, second, elsewhere):
        assert decision.effect is Effect.ALLOW
    assert admission.load().waiting == point.turns().waiting == 0


async def test_full_replica_turns_away_before_anything_is_read(bench: Bench) -> None:
    admission = Admission(max_in_flight=1)
    point = bench.point(admission=admission)
    bench.engine.pause()
    first = asyncio.create_task(point.evaluate(builders.evaluation(bench.session.session_id)))
    await bench.engine.asked()
    with pytest.raises(OverloadedError):
        await point.evaluate(builders.evaluation(bench.session.session_id))
    with pytest.raises(OverloadedError):
        await point.simulate(builders.evaluation(bench.session.session_id))
    assert admission.load().dropped == {"full": 2}
    bench.engine.resume()
    assert (await first)[0].effect is Effect.ALLOW
    assert len(bench.engine.documents) == 1


async def test_simulations_hold_places_that_decisions_would_need(bench: Bench) -> None:
    admission = Admission(max_in_flight=1)
    point = bench.point(admission=admission)
    bench.engine.pause()
    simulated = asyncio.create_task(point.simulate(builders.evaluation(bench.session.session_id)))
    await bench.engine.asked()
    with pytest.raises(OverloadedError):
        await point.evaluate(builders.evaluation(bench.session.session_id))
    bench.engine.resume()
    assert (await simulated).would_be is Effect.ALLOW
    assert (await point.evaluate(builders.evaluation(bench.session.session_id)))[0].effect is Effect.ALLOW


async def test_answer_does_not_outlive_its_session(bench: Bench) -> None:
    now = await bench.store.clock.now()
    short = replace(builders.session(now=now), expires_at=now.replace(microsecond=0).replace(second=59))
    opened = (await bench.store.sessions.open(builders.TENANT, short)).session
    decision, _ = await bench.point().evaluate(builders.evaluation(opened.session_id))
    assert decision.expires_at <= opened.expires_at


async def test_session_state_reaches_policy_by_the_databases_clock(bench: Bench) -> None:
    await bench.store.clock.advance(3601)
    bench.engine.judge_by(verdict(Effect.BLOCK, "session.expired"))
    await bench.point().evaluate(builders.evaluation(bench.session.session_id))
    assert bench.engine.documents[-1]["session"]["state"] == SessionState.EXPIRED


async def test_secrets_reach_neither_policy_nor_receipt_nor_ledger(bench: Bench) -> None:
    schema = '{"type": "object", "properties": {"invoice": {"type": "string"}, "pin": {"type": "string"}}}'
    await bench.store.control_plane.put_tools(
        builders.TENANT,
        [builders.tool(secret_arguments=("pin",), arguments_schema=schema)],
        by=builders.AUTHOR,
    )
    what = builders.action(arguments={"invoice": "INV-1001", "pin": "hunter2"})
    decision, receipt = await bench.point().evaluate(builders.evaluation(bench.session.session_id, what=what))
    recorded = await bench.store.ledger.decision(builders.TENANT, decision.decision_id)
    assert recorded is not None
    assert recorded.input_document is not None
    assert b"hunter2" not in recorded.input_document
    assert "hunter2" not in str(parse(receipt.token).claims)
    assert bench.engine.documents[-1]["action"]["arguments"]["pin"] == "[secret]"


ACTIVE: dict[EntityName, dict[str, JSON]] = {
    EntityName(type="invoice", id="INV-1001"): {"vendor": "V-1", "amount": "1200", "currency": "EUR"},
    EntityName(type="vendor", id="V-1"): {"status": "active"},
}
BLOCKED: dict[EntityName, dict[str, JSON]] = {EntityName(type="vendor", id="V-1"): {"status": "blocked"}}


def by_status(document: dict[str, Any]) -> Verdict:
    active = document["action"].get("counterparty", {}).get("status") == "active"
    return verdict(Effect.ALLOW, "task.within_boundary") if active else verdict(Effect.BLOCK, "vendor")


def payment(bench: Bench) -> EvaluationRequest:
    arguments: dict[str, JSON] = {"invoice": " inv 1001", "vendor": "V-1", "amount": 1200, "currency": "EUR"}
    return builders.evaluation(bench.session.session_id, what=builders.action(arguments=arguments))


async def test_entities_are_found_by_the_registration_that_holds(bench: Bench) -> None:
    """This is so the first time too, when nobody knows which they are before the registration is read."""
    bench.engine.judge_by(by_status)
    await bench.store.entities.put_entities(builders.TENANT, ACTIVE, by=builders.AUTHOR)
    point = bench.point()
    assert (await point.evaluate(payment(bench)))[0].effect is Effect.BLOCK
    await bench.store.control_plane.put_tools(builders.TENANT, [builders.payment_tool()], by=builders.AUTHOR)
    for _ in range(2):
        decision, _receipt = await point.evaluate(payment(bench))
        assert (decision.effect, decision.data_revisions["entities"]) == (Effect.ALLOW, 1)
    await bench.store.control_plane.put_tools(
        builders.TENANT, [replace(builders.payment_tool(), entities=())], by=builders.AUTHOR
    )
    assert (await point.evaluate(payment(bench)))[0].effect is Effect.BLOCK


async def test_known_registration_costs_one_read(bench: Bench) -> None:
    class Counting(FakeInformationPoint):
        reads = 0

        async def gather(self, request: FactsRequest) -> Facts:
            self.reads += 1
            return await super().gather(request)

    await bench.store.control_plane.put_tools(builders.TENANT, [builders.payment_tool()], by=builders.AUTHOR)
    counting = Counting(bench.store.state)
    point = DecisionPoint(
        information=counting,
        engine=bench.engine,
        signer=bench.signer,
        ledger=bench.store.ledger,
        grants=GrantTokens(bench.signer, bench.store.keys),
        fingerprints=Fingerprints(b"k" * 32),
        issuer="test",
    )
    await point.evaluate(payment(bench))
    assert counting.reads == 2
    await point.evaluate(payment(bench))
    assert counting.reads == 3


async def test_entity_that_changes_between_judgement_and_recording_is_judged_again(bench: Bench) -> None:
    bench.engine.judge_by(by_status)
    await bench.store.control_plane.put_tools(builders.TENANT, [builders.payment_tool()], by=builders.AUTHOR)
    await bench.store.entities.put_entities(builders.TENANT, ACTIVE, by=builders.AUTHOR)
    paused = bench.store.pause()
    asked = asyncio.create_task(bench.point().evaluate(payment(bench)))
    await bench.engine.asked()
    await bench.store.entities.put_entities(builders.TENANT, BLOCKED, by=builders.AUTHOR)
    paused.set()
    decision, receipt = await asked
    assert (decision.effect, decision.data_revisions["entities"]) == (Effect.BLOCK, 2)
    assert parse(receipt.token).claims["data"]["entities"] == 2
    assert len(bench.engine.documents) == 2
    assert len(bench.store.recorded) == 1


VENDORS_OF_INVOICES = builders.boundary(
    effects=(ToolEffect.READ,),
    resources=(
        ResourceRule(type="invoice", ids=("INV-1001", "INV-1002")),
        ResourceRule(type="vendor", attribute=AttributeRule(of_type="invoice", attribute="vendor")),
    ),
)


def by_resolved(document: dict[str, Any]) -> Verdict:
    (rule,) = [rule for rule in document["boundaries"][0]["resources"] if "attribute" in rule]
    within = document["action"]["resource"]["id"] in rule.get("resolved", ())
    return verdict(Effect.ALLOW, "task.within_boundary") if within else verdict(Effect.BLOCK, "boundary")


async def vendor_read(bench: Bench) -> EvaluationRequest:
    """A read of the vendor V-1 in a session of which invoices are listed."""
    bench.engine.judge_by(by_resolved)
    read = builders.tool("vendors.get", effect=ToolEffect.READ, amount=None, resource="vendor:{vendor}")
    await bench.store.control_plane.put_tools(builders.TENANT, [read], by=builders.AUTHOR)
    await bench.store.entities.put_entities(builders.TENANT, ACTIVE, by=builders.AUTHOR)
    session = builders.session(now=await bench.store.clock.now(), bounds=VENDORS_OF_INVOICES)
    opened = (await bench.store.sessions.open(builders.TENANT, session)).session
    return builders.evaluation(
        opened.session_id, what=builders.action("vendors.get", arguments={"vendor": "V-1"})
    )


async def test_vendor_of_a_listed_invoice_is_looked_up_for_each_decision(bench: Bench) -> None:
    request, point = await vendor_read(bench), bench.point()
    assert (await point.evaluate(request))[0].effect is Effect.ALLOW
    assert bench.engine.documents[-1]["boundaries"][0]["resources"] == [
        {"type": "invoice", "ids": ["INV-1001", "INV-1002"]},
        {
            "type": "vendor",
            "attribute": {"of_type": "invoice", "attribute": "vendor"},
            "resolved": ["V-1"],
        },
    ]
    moved = {EntityName(type="invoice", id="INV-1001"): {"vendor": "V-2"}}
    await bench.store.entities.put_entities(builders.TENANT, moved, by=builders.AUTHOR)
    again = replace(request, action=replace(request.action, tool_call_id="another"))
    assert (await point.evaluate(again))[0].effect is Effect.BLOCK
    # Entities that do not exist were looked up too, and may not appear unseen.
    assert bench.store.recorded[-1].entities == {
        EntityName(type="invoice", id="INV-1001"): 2,
        EntityName(type="invoice", id="INV-1002"): 0,
    }


async def test_listed_invoice_that_changes_before_recording_is_judged_again(bench: Bench) -> None:
    request = await vendor_read(bench)
    paused = bench.store.pause()
    asked = asyncio.create_task(bench.point().evaluate(request))
    await bench.engine.asked()
    moved = {EntityName(type="invoice", id="INV-1001"): {"vendor": "V-2"}}
    await bench.store.entities.put_entities(builders.TENANT, moved, by=builders.AUTHOR)
    paused.set()
    assert (await asked)[0].effect is Effect.BLOCK
    assert len(bench.store.recorded) == 1


async def test_action_on_another_type_reads_no_listed_entity(bench: Bench) -> None:
    session = builders.session(now=await bench.store.clock.now(), bounds=VENDORS_OF_INVOICES)
    opened = (await bench.store.sessions.open(builders.TENANT, session)).session
    await bench.point().evaluate(builders.evaluation(opened.session_id))
    assert bench.store.recorded[-1].entities == {}
    rule = bench.engine.documents[-1]["boundaries"][0]["resources"][1]
    assert "resolved" not in rule


def by_chain(document: dict[str, Any]) -> Verdict:
    """Judge a chain that proves nothing as the shipped rules do."""
    problems = document["chain_problems"]
    return (
        verdict(Effect.BLOCK, problems[0]["code"])
        if problems
        else verdict(Effect.ALLOW, "task.within_boundary")
    )


async def delegated(bench: Bench) -> tuple[Link, ...]:
    """A chain to an agent of the caller's, every grant of it stored."""
    links = await chain_of(GrantTokens(bench.signer, bench.store.keys), bench.session, "agent:helper")
    for each in links:
        await bench.store.grants.add_grant(builders.TENANT, each.row)
    return links


def asked_by_leaf(bench: Bench, links: tuple[Link, ...]) -> EvaluationRequest:
    return builders.evaluation(
        bench.session.session_id,
        by=builders.caller(subject="svc-helper", agents=frozenset({"agent:helper"})),
        hops=tuple(each.hop for each in links),
    )


async def test_grant_revoked_between_judgement_and_recording_is_judged_again(bench: Bench) -> None:
    bench.engine.judge_by(by_chain)
    links = await delegated(bench)
    paused = bench.store.pause()
    asked = asyncio.create_task(bench.point().evaluate(asked_by_leaf(bench, links)))
    await bench.engine.asked()
    await bench.store.grants.revoke_grant(
        builders.TENANT, links[0].row.grant_hash, by=builders.AUTHOR, reason=""
    )
    paused.set()
    decision, _ = await asked
    assert decision.effect is Effect.BLOCK
    assert [(reason.code, reason.at) for reason in decision.reasons] == [("chain.revoked", "chain[0]")]
    assert len(bench.engine.documents) == 2
    assert len(bench.store.recorded) == 1
    # The leaf of a chain that proves nothing moves no session.
    assert bench.store.recorded[0].move is None


async def test_what_is_wrong_with_a_chain_blocks_even_if_policy_says_nothing_of_it(bench: Bench) -> None:
    links = await delegated(bench)
    point = bench.point()
    allowed, _ = await point.evaluate(asked_by_leaf(bench, links))
    assert allowed.effect is Effect.ALLOW
    await bench.store.grants.revoke_grant(
        builders.TENANT, links[1].row.grant_hash, by=builders.AUTHOR, reason=""
    )
    blocked, receipt = await point.evaluate(asked_by_leaf(bench, links))
    assert [(reason.code, reason.at) for reason in blocked.reasons] == [("chain.revoked", "chain[1]")]
    assert read_decision(receipt.token).chain == blocked.chain
    assert [bool(hop.unverified) for hop in blocked.chain] == [False, True]


async def test_directory_that_does_not_answer_is_an_error_and_no_answer(bench: Bench) -> None:
    """A key that cannot be looked up is not taken for one that nobody has."""

    class Silent(FakeKeyDirectory):
        async def key(self, kid: str) -> None:
            raise StoreUnavailableError("down")

    links = await delegated(bench)
    bench.directory = Silent(bench.store.state)
    with pytest.raises(StoreUnavailableError):
        await bench.point().evaluate(asked_by_leaf(bench, links))
    assert bench.store.recorded == []


async def test_directory_that_hangs_is_late_within_the_calls_own_deadline(bench: Bench) -> None:
    class Hung(FakeKeyDirectory):
        async def key(self, kid: str) -> None:
            await asyncio.Event().wait()

    links = await delegated(bench)
    bench.directory = Hung(bench.store.state)
    with pytest.raises(DeadlineExceededError):
        await bench.point().evaluate(replace(asked_by_leaf(bench, links), deadline=builders.deadline(0.2)))
    assert bench.store.recorded == []


async def test_limits_of_a_chain_that_was_asked_on_before_cost_one_read(bench: Bench) -> None:
    grants = GrantTokens(bench.signer, bench.store.keys)
    (root,) = await chain_of(grants, bench.session)
    limited = replace(bench.session.boundary, max_actions=3)
    leaf = await link(grants, grant_of(bench.session, [root], agent="agent:helper", boundary=limited))
    for each in (root, leaf):
        await bench.store.grants.add_grant(builders.TENANT, each.row)
    reads = 0

    class Counting(FakeInformationPoint):
        async def gather(self, request: FactsRequest) -> Facts:
            nonlocal reads
            reads += 1
            return await super().gather(request)

    bench.information = Counting(bench.store.state)
    point = bench.point()
    for expected in (2, 3, 4):
        await point.evaluate(asked_by_leaf(bench, (root, leaf)))
        assert reads == expected
    # Each of them moved the grant's counter.
    (used,) = bench.engine.documents[-1]["limits"]
    assert (used["code"], used["used"], used["max"]) == ("boundary.max_actions", 2, 3)
