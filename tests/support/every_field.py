"""Registrations, boundaries and agents in which every field says something else than it does left out.

What drops a field on its way gives back something that differs. A field that is new in the model fails
`fields_left_out`, until it is written here as well.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import MISSING, Field, fields, is_dataclass
from decimal import Decimal
from typing import Any

from pdp.model import (
    Agent,
    AmountLimit,
    AmountRole,
    AmountUnit,
    ArgumentRole,
    AttributeRule,
    Boundary,
    BusinessKeyRule,
    EntityAttribute,
    EntityRef,
    EntityRole,
    FieldTrust,
    Normalisation,
    OnExceed,
    Output,
    OutputField,
    OutputFormat,
    Prerequisite,
    ResourceRule,
    Tool,
    ToolEffect,
    VelocityLimit,
)
from placet.normalise import NormalisationStep

AMOUNT = AmountRole(
    argument="amount",
    unit=AmountUnit.MINOR,
    currency_argument="currency",
    currency_code="EUR",
    allow_zero=True,
)
RECORD = EntityRef(
    name="invoice",
    type="bill",
    id="{invoice}",
    role=EntityRole.RECORD,
    amount_attribute="sum",
    currency_attribute="money",
    status_attribute="state",
    must_match=EntityAttribute(entity="order", attribute="bill"),
    total_attribute="total",
    open_attribute="open",
    measure="net",
    posted_linked=True,
)
ORDER = EntityRef(
    name="order", type="po", via=EntityAttribute(entity="invoice", attribute="po"), role=EntityRole.ORDER
)
TOOL = Tool(
    name="bills.settle",
    effect=ToolEffect.SHARE,
    resource="bill:{invoice}",
    arguments_schema='{"type": "object"}',
    amount=AMOUNT,
    secret_arguments=("pin", "headers.Authorization"),
    description="Settle",
    reversible=True,
    argument_roles={"invoice": ArgumentRole.SELECTOR, "note": ArgumentRole.CONTENT},
    normalise=(Normalisation(argument="invoice", steps=(NormalisationStep.TRIM, NormalisationStep.PATH)),),
    entities=(RECORD, ORDER),
    business_key=BusinessKeyRule(name="settled", arguments=("invoice", "vendor")),
    prerequisites=(
        Prerequisite(tool="bills.approve", same=("invoice",), required=True, consumed=True),
        Prerequisite(tool="bills.check", same=("invoice", "vendor")),
    ),
    output=Output(
        format=OutputFormat.YAML,
        fields=(OutputField(name="id", trust=FieldTrust.RECORD),),
        author_field="from",
    ),
    redeem_required=True,
    glob=True,
    audience="erp",
    revision=1,
)
AGENT = Agent(
    agent="agent:every",
    owner="o",
    trust=Decimal("0.49996"),
    trust_explanation="x",
    model="m",
    version="v",
    revision=1,
)
BOUNDARY = Boundary(
    tools=("bills.settle",),
    effects=(ToolEffect.CREDENTIAL,),
    resources=(
        ResourceRule(type="bill", id="B-1"),
        ResourceRule(type="bill", prefix="B-"),
        ResourceRule(type="bill", ids=("B-1", "B-2")),
        ResourceRule(type="vendor", attribute=AttributeRule(of_type="bill", attribute="vendor")),
    ),
    amounts=(
        AmountLimit(
            currency="EUR",
            per_action=Decimal("5.00"),
            total=Decimal("7.00"),
            per_counterparty=Decimal("6.00"),
            on_exceed=OnExceed.ESCALATE,
        ),
    ),
    after_completion=("bills.report",),
    max_actions=9,
    velocity=(
        VelocityLimit(effects=(ToolEffect.SHARE,), max=3, window_seconds=61, on_exceed=OnExceed.ESCALATE),
    ),
)


def fields_left_out(*values: Any) -> set[str]:
    """Return "Class.field" of each field that has its default in every object of its class among these."""
    defaulted: dict[str, bool] = {}
    for one in _objects(values):
        for field in fields(one):
            if not field.init:
                continue
            name = f"{type(one).__name__}.{field.name}"
            defaulted[name] = defaulted.get(name, True) and getattr(one, field.name) == _default(field)
    return {name for name, is_left_out in defaulted.items() if is_left_out}


def _default(field: Field[Any]) -> Any:
    if field.default_factory is not MISSING:
        return field.default_factory()
    return field.default


def _objects(value: Any) -> Iterator[Any]:
    if is_dataclass(value):
        yield value
        for field in fields(value):
            yield from _objects(getattr(value, field.name))
    elif isinstance(value, tuple | list):
        for one in value:
            yield from _objects(one)
