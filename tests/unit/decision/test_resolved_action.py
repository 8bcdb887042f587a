"""What an action is resolved to: taken over from a hint where the facts show it was right, and else not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pdp.decision.fingerprint import Fingerprints
from pdp.decision.resolved_action import (
    NO_INPUTS,
    ResolutionInputs,
    ResolvedAction,
    resolve_action,
    resolve_on_facts,
)
from pdp.delegation.chain import PresentedChain
from pdp.model import (
    AttributeRule,
    BusinessKeyRule,
    Chain,
    EntityAttribute,
    EntityName,
    EntityRef,
    EntityRole,
    Facts,
    KnownEntity,
    Prerequisite,
    ResourceRule,
)
from tests.support import builders

FINGERPRINTS = Fingerprints(b"k" * 32)
NOBODY = PresentedChain(hops=(), grants={})
# Each part of the inputs matters to what the action is.
BOUNDARY = replace(
    builders.boundary(
        resources=(
            ResourceRule(type="order", id="PO-1"),
            ResourceRule(type="invoice", attribute=AttributeRule(of_type="order", attribute="invoice")),
        )
    ),
    max_actions=7,
)
TOOL = replace(
    builders.tool(),
    business_key=BusinessKeyRule(name="invoice", arguments=("invoice",)),
    prerequisites=(Prerequisite(tool="invoices.check", same=("invoice",)),),
    entities=(
        EntityRef(name="invoice", type="invoice", id="{invoice}", role=EntityRole.RECORD),
        EntityRef(
            name="vendor",
            type="vendor",
            via=EntityAttribute(entity="invoice", attribute="vendor"),
            role=EntityRole.COUNTERPARTY,
        ),
    ),
)
SETTINGS: dict[str, Any] = {
    "budgets": [
        {"name": "day", "scope": "counterparty", "currency": "EUR", "max": 100, "on_exceed": "block"},
    ]
}
SESSION = builders.session(bounds=BOUNDARY)
REQUEST = builders.evaluation(SESSION.session_id)


def facts(**changes: Any) -> Facts:
    vendor = KnownEntity(name=EntityName(type="vendor", id="V-1"), revision=1, attributes={})
    known = Facts(
        now=builders.NOW,
        epoch=1,
        settings=SETTINGS,
        data_revisions={},
        session=SESSION,
        tool=TOOL,
        agents={},
        signals={},
        prior=None,
        entities={"vendor": vendor},
    )
    return replace(known, **changes)


def resolve(inputs: ResolutionInputs, earlier: ResolvedAction | None = None) -> ResolvedAction:
    return resolve_action(REQUEST, NOBODY, inputs, FINGERPRINTS, earlier=earlier)


def inputs_of(known: Facts) -> ResolutionInputs:
    context = resolve_on_facts(REQUEST, NOBODY, known, FINGERPRINTS, earlier=resolve(NO_INPUTS))
    return context.action.inputs


def test_what_a_right_hint_was_resolved_to_is_not_resolved_again() -> None:
    hinted = resolve(inputs_of(facts()))
    later = replace(SESSION, version=9, aggregates=replace(SESSION.aggregates, allow=4))
    moved = facts(session=later, epoch=2)
    context = resolve_on_facts(REQUEST, NOBODY, moved, FINGERPRINTS, earlier=hinted)
    assert context.action is hinted
    assert (context.session, context.facts) == (later, moved)


WRONG = {
    "tool": inputs_of(facts(tool=replace(TOOL, resource="order:{invoice}", revision=2))),
    "no tool": inputs_of(facts(tool=None)),
    "settings": inputs_of(facts(settings={})),
    "session": inputs_of(facts(session=replace(SESSION, boundary=builders.boundary()))),
    "template": inputs_of(facts(session=replace(SESSION, template=replace(BOUNDARY, max_actions=3)))),
    "no session": inputs_of(facts(session=None)),
    "chain": inputs_of(facts())._replace(chain=Chain()),
    "counterparty": inputs_of(facts())._replace(counterparty=EntityName(type="vendor", id="V-2")),
    "nothing known": NO_INPUTS,
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_nothing_of_a_wrong_hint_is_judged(wrong: ResolutionInputs) -> None:
    right = resolve(inputs_of(facts()))
    context = resolve_on_facts(REQUEST, NOBODY, facts(), FINGERPRINTS, earlier=resolve(wrong))
    assert resolve(wrong).inputs != right.inputs
    assert context.action == right


def test_every_part_of_the_inputs_matters() -> None:
    def parts(action: ResolvedAction) -> tuple[object, ...]:
        return action.derived, action.limits, action.listed

    right = parts(resolve(inputs_of(facts())))
    for name in ("tool", "settings", "session", "template", "counterparty"):
        assert parts(resolve(WRONG[name])) != right, name
