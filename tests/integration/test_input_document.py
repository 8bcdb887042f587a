"""What the pipeline builds, the schema that rules are checked against, and the rules: one document."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from pdp.action.derivation import derive
from pdp.authority.order_use import entity_scope, measure_use
from pdp.decision.document import input_document
from pdp.model import (
    JSON,
    Action,
    Agent,
    AmountLimit,
    AttributeRule,
    Boundary,
    Chain,
    ChainProblem,
    Counter,
    CounterKey,
    Effect,
    EntityName,
    Facts,
    KnownEntity,
    ResourceRule,
    Session,
    SessionState,
    Terms,
    Tool,
    ToolEffect,
    VerifiedHop,
)
from tests.support import builders
from tests.support.chains import speaker
from tests.support.documents import payment_document
from tests.support.opa import RunningOpa

SCHEMA = jsonschema_rs.validator_for(
    json.loads((Path(__file__).parent.parent.parent / "rego" / "schemas" / "input.json").read_text())
)


INVOICE_1001 = EntityName(type="invoice", id="INV-1001")
UNKNOWN = KnownEntity(name=INVOICE_1001, revision=1, attributes=None)
CLERK = "agent:clerk"


def built(
    *,
    what: Action | None = None,
    session: Session | None = None,
    stranger: bool = False,
    tool: Tool | None = None,
    tool_known: bool = True,
    agent: Agent | None = None,
    along: Chain | None = None,
    settings: Mapping[str, JSON] | None = None,
    entities: Mapping[str, KnownEntity] | None = None,
    listed: Mapping[str, JSON] | None = None,
    paid: Mapping[CounterKey, Counter] | None = None,
) -> bytes:
    """The document on one call, as the pipeline builds it; a payment in order unless said otherwise."""
    tool = (tool or builders.tool()) if tool_known else None
    along = along or chain(hop(0, builders.AGENT))
    request = builders.evaluation("s-1", what=what, by=speaker(along.hops[-1].agent))
    derived = derive(request.action, tool)
    session = session or builders.session()
    facts = Facts(
        now=builders.NOW,
        epoch=1,
        settings=settings or {},
        data_revisions={},
        session=session,
        tool=tool,
        agents={builders.AGENT: agent or builders.agent(), CLERK: builders.agent(CLERK)},
        signals={"incident": True},
        prior=None,
        entities=entities or {},
        listed={} if listed is None else {INVOICE_1001: replace(UNKNOWN, attributes=listed)},
    )
    return input_document(
        request,
        facts,
        session=None if stranger else facts.session,
        chain=Chain() if stranger else along,
        derived=derived,
        uses=measure_use(tool, derived, facts.entities, paid or {}),
    )


def pay(**arguments: JSON) -> Action:
    return builders.action(
        arguments={"invoice": "INV-1001", "amount": Decimal("1200.00"), "currency": "EUR"} | arguments
    )


def known(**changes: Mapping[str, JSON] | None) -> dict[str, KnownEntity]:
    """What there is of the invoice, its vendor and its order; `changes` by the tool's names."""
    attributes: dict[str, Mapping[str, JSON] | None] = {
        "invoice": {"vendor": "V-1", "amount": "1200", "currency": "EUR", "po": "PO-77"},
        "vendor": {"status": "active"},
        "order": {"open": "1200"},
    } | changes
    names = {
        "invoice": EntityName(type="invoice", id="INV-1001"),
        "vendor": EntityName(type="vendor", id="V-1"),
        "order": EntityName(type="po", id="PO-77"),
    }
    return {
        name: KnownEntity(name=names[name], revision=1, attributes=found)
        for name, found in attributes.items()
    }


def used(minor: int, currency: str = "EUR") -> dict[CounterKey, Counter]:
    """What was paid on the order before."""
    key = CounterKey(entity_scope(EntityName(type="po", id="PO-77")), "paid:")
    return {key: Counter(minor, (), Terms(currency, 120_000))}


def measured(
    *,
    spelt: str = "INV-1001",
    amount: JSON = 1200,
    paid: Mapping[CounterKey, Counter] | None = None,
    order_used: str = "escalate",
    **changes: Mapping[str, JSON] | None,
) -> bytes:
    """The document on a payment of the invoice to its vendor."""
    return built(
        tool=builders.payment_tool(),
        what=pay(invoice=spelt, vendor="V-1", amount=amount),
        settings={"large_amount": {"EUR": 20000}, "order_used": {"on_exceed": order_used}},
        paid=paid,
        session=builders.session(
            bounds=builders.boundary(amounts=(AmountLimit(currency="EUR", per_action=Decimal(20000)),))
        ),
        entities=known(**changes),
    )


INVOICE = {"vendor": "V-1", "amount": "1200", "currency": "EUR"}


def ended(state: SessionState) -> Session:
    return builders.session(state=state)


def vendor_read(listed: Mapping[str, JSON] | None) -> bytes:
    """The document on a read of the vendor V-1, whom the task may read as the vendor of an invoice."""
    of_invoice = ResourceRule(type="vendor", attribute=AttributeRule(of_type="invoice", attribute="vendor"))
    bounds = builders.boundary(resources=(ResourceRule(type="invoice", id="INV-1001"), of_invoice))
    return built(
        tool=builders.tool(
            "vendors.get",
            effect=ToolEffect.READ,
            amount=None,
            resource="vendor:{vendor}",
            arguments_schema='{"type": "object", "properties": {"vendor": {"type": "string"}}}',
        ),
        what=builders.action("vendors.get", arguments={"vendor": "V-1"}),
        session=builders.session(bounds=bounds),
        listed=listed,
    )


def hop(depth: int, agent: str, *, bounds: Boundary | None = None, verified: bool = True) -> VerifiedHop:
    return VerifiedHop(
        agent=agent,
        grant_hash=f"{depth:064}",
        depth=depth,
        delegated_by="svc-else",
        boundary=bounds or builders.boundary(),
        same_runtime=False,
        own_runtime=True,
        verified=verified,
    )


def chain(*hops: VerifiedHop, broken: str | None = None) -> Chain:
    """`broken`: the code of what is wrong with the last hop."""
    at = f"chain[{len(hops) - 1}]"
    return Chain(hops=hops, problems=() if broken is None else (ChainProblem(code=broken, at=at),))


def delegated(bounds: Boundary) -> Chain:
    return chain(hop(0, builders.AGENT), hop(1, CLERK, bounds=bounds))


DELEGATED = delegated(builders.boundary())
ALLOW, BLOCK, ESCALATE = Effect.ALLOW, Effect.BLOCK, Effect.ESCALATE
EXPIRED = builders.session(now=builders.NOW - timedelta(hours=2), lifetime=timedelta(hours=1))
READ = builders.tool("invoices.read", effect=ToolEffect.READ, amount=None)
BUSY = {"velocity": {"payments": {"max": 0, "window_seconds": 60, "on_exceed": "block"}}}

CASES: dict[str, tuple[bytes, Effect, list[str]]] = {
    "payment": (built(), ALLOW, ["task.within_boundary"]),
    "read": (
        built(what=builders.action("invoices.read", arguments={"invoice": "INV-1001"}), tool=READ),
        ALLOW,
        ["task.within_boundary"],
    ),
    "large": (built(what=pay(amount=Decimal(3000))), ESCALATE, ["payment.large"]),
    "beyond the boundary": (
        built(what=pay(amount=7000)),
        BLOCK,
        ["boundary.amount", "payment.large"],
    ),
    "other currency": (
        built(what=pay(currency="CHF")),
        BLOCK,
        ["boundary.amount", "payment.dual_control", "payment.large"],
    ),
    "other invoice": (built(what=pay(invoice="INV-2")), BLOCK, ["boundary.resource"]),
    "other tool": (
        built(what=replace(pay(), tool="payments.cancel"), tool=builders.tool("payments.cancel")),
        BLOCK,
        ["boundary.tool"],
    ),
    "unknown tool": (built(tool_known=False), BLOCK, ["registry.unknown_tool"]),
    "stranger": (built(stranger=True), BLOCK, ["session.unknown"]),
    "completed": (built(session=ended(SessionState.COMPLETED)), BLOCK, ["session.completed"]),
    "closed": (built(session=ended(SessionState.CLOSED)), BLOCK, ["session.closed"]),
    "halted": (built(session=ended(SessionState.HALTED)), BLOCK, ["session.halted"]),
    "expired": (built(session=EXPIRED), BLOCK, ["session.expired"]),
    "low trust": (built(agent=builders.agent(trust=Decimal("0.3"))), ESCALATE, ["trust.below_floor"]),
    "prior trust": (built(agent=builders.agent(trust=None)), ESCALATE, ["trust.below_floor"]),
    "delegated": (built(along=DELEGATED), ALLOW, ["task.within_boundary"]),
    "delegated with less": (
        built(along=delegated(builders.boundary(amounts=()))),
        BLOCK,
        ["boundary.amount"],
    ),
    "delegated with more than the session has": (
        built(session=builders.session(bounds=builders.boundary(amounts=())), along=DELEGATED),
        BLOCK,
        ["boundary.amount"],
    ),
    "delegated to an agent without a score": (
        built(along=chain(hop(0, builders.AGENT), hop(1, "agent:new"))),
        ESCALATE,
        ["trust.below_floor"],
    ),
    "delegated and revoked": (
        built(along=chain(hop(0, builders.AGENT), hop(1, CLERK, verified=False), broken="chain.revoked")),
        BLOCK,
        ["chain.revoked"],
    ),
    "delegated and not verified": (
        built(along=chain(hop(0, builders.AGENT), hop(1, CLERK, verified=False))),
        BLOCK,
        ["chain.unproven", "trust.below_floor"],
    ),
    "delegated within one runtime": (
        built(
            along=chain(hop(0, builders.AGENT), replace(hop(1, CLERK), same_runtime=True, own_runtime=False))
        ),
        ALLOW,
        ["task.within_boundary"],
    ),
    "delegated within one runtime where there must be two": (
        built(
            along=chain(hop(0, builders.AGENT), replace(hop(1, CLERK), same_runtime=True, own_runtime=False)),
            settings={"distinct_runtimes": True},
        ),
        BLOCK,
        ["chain.same_runtime"],
    ),
    "no amount": (
        built(what=builders.action(arguments={"invoice": "INV-1001", "currency": "EUR"})),
        BLOCK,
        ["amount.missing"],
    ),
    "payment tool without an amount": (built(tool=builders.tool(amount=None)), BLOCK, ["amount.missing"]),
    "negative amount": (built(what=pay(amount=-1)), BLOCK, ["amount.out_of_range"]),
    "no money at all": (built(what=pay(amount="0.00")), BLOCK, ["amount.zero"]),
    "decimals that somewhere part thousands": (built(what=pay(amount="1.200")), BLOCK, ["amount.precision"]),
    "too many decimals": (built(what=pay(amount="1.001")), BLOCK, ["amount.precision"]),
    "odd currency": (built(what=pay(currency="XYZZY")), BLOCK, ["amount.currency_invalid"]),
    "odd argument": (built(what=pay(invoice=7)), BLOCK, ["registry.arguments_invalid"]),
    "missing argument": (
        built(what=builders.action(arguments={"amount": 1, "currency": "EUR"})),
        BLOCK,
        ["registry.resource_underivable"],
    ),
    "claimed resource": (
        built(what=replace(pay(), claimed_resource="invoice:INV-2")),
        BLOCK,
        ["action.resource_mismatch"],
    ),
    "no payments at all": (built(settings=BUSY), BLOCK, ["velocity.payments"]),
    "as ordered": (measured(), ALLOW, ["task.within_boundary"]),
    "another spelling": (measured(spelt=" inv 1001"), ALLOW, ["task.within_boundary"]),
    "freight": (measured(amount=1224), ALLOW, ["task.within_boundary"]),
    "at the tolerance": (measured(amount=1260), ALLOW, ["task.within_boundary"]),
    "a cent above it": (measured(amount="1260.01"), ESCALATE, ["payment.price_variance"]),
    "at the factor": (measured(amount=2400), ESCALATE, ["payment.price_variance"]),
    "above the factor": (
        measured(amount="2400.01"),
        BLOCK,
        ["payment.amount_over_order", "payment.price_variance"],
    ),
    "order smaller than the invoice": (
        measured(order={"open": "100"}),
        BLOCK,
        ["payment.amount_over_order", "payment.price_variance"],
    ),
    "invoice smaller than the order": (
        measured(order={"open": "90000"}, amount=1300),
        ESCALATE,
        ["payment.price_variance"],
    ),
    "no order": (measured(invoice=INVOICE, amount=1300), ESCALATE, ["payment.price_variance"]),
    "the other half": (measured(amount=600, paid=used(60_000)), ALLOW, ["task.within_boundary"]),
    "the other half with freight": (measured(amount=660, paid=used(60_000)), ALLOW, ["task.within_boundary"]),
    "more than the order tolerates in all": (
        measured(amount="660.01", paid=used(60_000)),
        ESCALATE,
        ["payment.order_used"],
    ),
    "an order that is used up": (
        measured(amount=1, paid=used(120_000), order_used="block", order={"open": "0.50"}),
        BLOCK,
        ["payment.order_used", "payment.price_variance"],
    ),
    "other currency than was paid before": (
        measured(amount=1, paid=used(1, "USD")),
        BLOCK,
        ["payment.currency_mismatch"],
    ),
    "an order that is not known": (measured(order=None), BLOCK, ["payment.order_unknown"]),
    "an order without a number": (measured(order={"open": "all"}), BLOCK, ["payment.order_unknown"]),
    "an invoice that is not known": (
        measured(invoice=None),
        BLOCK,
        ["counterparty.mismatch", "payment.record_unknown"],
    ),
    "an invoice in dollars": (
        measured(invoice=INVOICE | {"currency": "USD"}),
        BLOCK,
        ["payment.currency_mismatch"],
    ),
    "a vendor who is blocked": (
        measured(vendor={"status": "blocked"}),
        BLOCK,
        ["counterparty.not_active"],
    ),
    "a vendor who is not known": (measured(vendor=None), BLOCK, ["counterparty.not_active"]),
    "another vendor than the invoice's": (
        measured(invoice=INVOICE | {"vendor": "V-2"}),
        BLOCK,
        ["counterparty.mismatch"],
    ),
    "vendor of the listed invoice": (vendor_read({"vendor": "V-1"}), ALLOW, ["task.within_boundary"]),
    "vendor of another invoice": (vendor_read({"vendor": "V-2"}), BLOCK, ["boundary.resource"]),
    "invoice that names no vendor": (vendor_read({}), BLOCK, ["boundary.resource"]),
    "invoice that was not looked up": (vendor_read(None), BLOCK, ["boundary.resource"]),
    "for two people": (
        measured(amount=12000, order={"open": "12000"}, invoice=INVOICE | {"amount": "12000", "po": "PO-77"}),
        ESCALATE,
        ["payment.dual_control"],
    ),
}


@pytest.mark.parametrize("document", [case[0] for case in CASES.values()], ids=list(CASES))
def test_what_the_pipeline_builds_fits_the_schema(document: bytes) -> None:
    errors = [error.message for error in SCHEMA.iter_errors(json.loads(document))]
    assert errors == []


def test_boundary_that_permits_what_one_before_it_does_is_listed_once() -> None:
    own = replace(builders.boundary(), max_actions=3)
    less, more = builders.boundary(amounts=()), replace(builders.boundary(), max_actions=2)
    session = replace(builders.session(bounds=own), template=less)
    along = chain(
        hop(0, builders.AGENT, bounds=own),
        hop(1, "agent:middle", bounds=more),
        hop(2, "agent:other", bounds=replace(own, after_completion=("report.create",))),
        hop(3, CLERK, bounds=less),
        hop(4, "agent:unproven", verified=False),
    )
    document = json.loads(built(session=session, along=along))
    listed = [(each["of"], each.get("at")) for each in document["boundaries"]]
    assert listed == [("session", None), ("template", None), ("grant", "chain[2]")]
    assert [each.get("boundary") for each in document["chain"]] == [0, 0, 2, 1, None]


def test_documents_of_tests_have_the_members_that_the_pipeline_builds() -> None:
    """So that tests of rules and engine rest on the real thing."""
    ours, theirs = payment_document(), json.loads(measured())
    assert members(ours) == members(theirs)


def members(value: Any) -> Any:
    """The value's shape: member names, without what varies by case."""
    varies = {"arguments", "attributes", "boundary", "pay", "claims", "agents", "signals", "settings"}
    if isinstance(value, dict):
        return {key: None if key in varies else members(item) for key, item in value.items()}
    return [members(value[0])] if isinstance(value, list) and value else None


@pytest.mark.parametrize(("document", "effect", "codes"), CASES.values(), ids=list(CASES))
async def test_shipped_rules_judge_what_the_pipeline_builds(
    opa: RunningOpa, document: bytes, effect: Effect, codes: list[str]
) -> None:
    engine = opa.engine()
    verdict = await engine.decide(document, deadline=time.monotonic() + 30)
    assert (verdict.effect, sorted(reason.code for reason in verdict.reasons)) == (effect, codes)
    assert all(reason.message for reason in verdict.reasons)
    await engine.aclose()
