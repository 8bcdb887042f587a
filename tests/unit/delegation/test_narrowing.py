"""Narrowing: what lies within what."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pdp.delegation.narrowing import find_excess
from pdp.model import (
    AmountLimit,
    AttributeRule,
    Boundary,
    OnExceed,
    ResourceRule,
    ToolEffect,
    VelocityLimit,
)
from tests.support import builders
from tests.support.narrowing import IDS, judge, situation, some_boundary, vary

READ, SEND, PAY = ToolEffect.READ, ToolEffect.SEND, ToolEffect.PAY
BLOCK, ESCALATE = OnExceed.BLOCK, OnExceed.ESCALATE


def euros(per_action: int = 100, **more: Any) -> Boundary:
    given = {name: value if name == "on_exceed" else Decimal(value) for name, value in more.items()}
    return Boundary(amounts=(AmountLimit(currency="EUR", per_action=Decimal(per_action), **given),))


def resources(*rules: ResourceRule) -> Boundary:
    return Boundary(resources=rules)


def often(*effects: ToolEffect, most: int = 5, seconds: int = 60, on_exceed: OnExceed = BLOCK) -> Boundary:
    limit = VelocityLimit(effects=effects, max=most, window_seconds=seconds, on_exceed=on_exceed)
    return Boundary(velocity=(limit,))


INVOICES = ResourceRule(type="invoice", prefix="INV-")
VENDORS = ResourceRule(type="vendor", attribute=AttributeRule(of_type="invoice", attribute="vendor"))
PAYEES = ResourceRule(type="vendor", attribute=AttributeRule(of_type="invoice", attribute="payee"))
FIRST = ResourceRule(type="invoice", id="INV-1")
TWO = ResourceRule(type="invoice", ids=("INV-1", "INV-2"))


@pytest.mark.parametrize(
    ("child", "parent"),
    [
        (Boundary(), Boundary()),
        (Boundary(), builders.boundary()),
        (builders.boundary(), builders.boundary()),
        (Boundary(tools=("a",)), Boundary(tools=("b", "a"))),
        (Boundary(effects=(READ,)), Boundary(effects=(PAY, READ))),
        (Boundary(after_completion=("a",)), Boundary(after_completion=("a", "b"))),
        (resources(FIRST), resources(TWO)),
        (resources(FIRST), resources(INVOICES)),
        (resources(TWO), resources(INVOICES)),
        (resources(TWO), resources(FIRST, ResourceRule(type="invoice", prefix="INV-2"))),
        (resources(ResourceRule(type="invoice", prefix="INV-1")), resources(INVOICES)),
        (resources(INVOICES), resources(ResourceRule(type="invoice", prefix=""))),
        (resources(VENDORS, FIRST), resources(TWO, VENDORS)),
        (resources(VENDORS), resources(VENDORS, FIRST)),
        (resources(VENDORS, FIRST), resources(ResourceRule(type="vendor", prefix=""), FIRST)),
        (euros(99), euros(100)),
        (euros(total=5), euros()),
        (euros(total=5), euros(total=5)),
        (euros(per_counterparty=5, on_exceed=ESCALATE), euros()),
        (euros(total=5), euros(total=6, on_exceed=ESCALATE)),
        (Boundary(max_actions=3), Boundary()),
        (Boundary(max_actions=3), Boundary(max_actions=3)),
        (often(), Boundary()),
        (often(), often(PAY)),
        (often(PAY, READ), often(PAY)),
        (often(*ToolEffect), often()),
        (often(most=4, seconds=61), often()),
        (often(), often(on_exceed=ESCALATE)),
    ],
)
def test_within(child: Boundary, parent: Boundary) -> None:
    assert find_excess(child, parent) is None


@pytest.mark.parametrize(
    ("child", "parent", "part"),
    [
        (Boundary(tools=("a", "b")), Boundary(tools=("a",)), "tools[1]"),
        # Which effect a tool has, a boundary does not say.
        (Boundary(tools=("a",)), Boundary(effects=(READ,)), "tools[0]"),
        (Boundary(effects=(READ, PAY)), Boundary(effects=(READ,)), "effects[1]"),
        (Boundary(effects=(READ,)), Boundary(tools=("a",)), "effects[0]"),
        (Boundary(after_completion=("a",)), Boundary(tools=("a",)), "after_completion"),
        (resources(FIRST, TWO), resources(FIRST), "resources[1]"),
        (resources(replace(FIRST, type="order")), resources(FIRST, TWO, INVOICES), "resources[0]"),
        (resources(INVOICES), resources(TWO), "resources[0]"),
        (resources(INVOICES), resources(ResourceRule(type="invoice", prefix="INV-1")), "resources[0]"),
        (resources(ResourceRule(type="invoice", prefix="")), resources(INVOICES), "resources[0]"),
        (resources(ResourceRule(type="invoice", id="inv-1")), resources(INVOICES), "resources[0]"),
        (resources(VENDORS, FIRST), resources(PAYEES, FIRST), "resources[0]"),
        (resources(VENDORS, TWO), resources(VENDORS, FIRST), "resources[0]"),
        # What a prefix permits, it does not list.
        (resources(FIRST, VENDORS), resources(INVOICES, VENDORS), "resources[1]"),
        (resources(ResourceRule(type="vendor", id="V-1")), resources(VENDORS, FIRST), "resources[0]"),
        (resources(VENDORS), resources(ResourceRule(type="vendor", prefix="V-")), "resources[0]"),
        # A rule that says nothing that is known here proves nothing.
        (resources(ResourceRule(type="invoice")), resources(INVOICES, TWO), "resources[0]"),
        (euros(), Boundary(), "amounts[EUR]"),
        (euros(101), euros(100), "amounts[EUR].per_action"),
        (euros(), euros(total=5), "amounts[EUR].total"),
        (euros(total=6), euros(total=5), "amounts[EUR].total"),
        (euros(), euros(per_counterparty=5), "amounts[EUR].per_counterparty"),
        (euros(per_counterparty=6), euros(per_counterparty=5), "amounts[EUR].per_counterparty"),
        (euros(total=5, on_exceed=ESCALATE), euros(total=5), "amounts[EUR].on_exceed"),
        (Boundary(), Boundary(max_actions=3), "max_actions"),
        (Boundary(max_actions=4), Boundary(max_actions=3), "max_actions"),
        (Boundary(), often(), "velocity"),
        (often(PAY), often(), "velocity"),
        (often(PAY), often(PAY, READ), "velocity"),
        (often(most=6), often(), "velocity"),
        (often(seconds=59), often(), "velocity"),
        (often(on_exceed=ESCALATE), often(), "velocity"),
        (often(), Boundary(velocity=often().velocity + often(seconds=90).velocity), "velocity"),
    ],
)
def test_beyond(child: Boundary, parent: Boundary, part: str) -> None:
    assert find_excess(child, parent) == part


# Few names, so that boundaries often meet.
_tools = st.sampled_from(["a", "b"])
_effects = st.sampled_from([READ, PAY])

_ids = st.sampled_from(IDS)
_types = st.sampled_from(["i", "v"])
_money = st.integers(0, 3).map(Decimal)
_on_exceed = st.sampled_from(OnExceed)
boundaries = st.builds(
    Boundary,
    tools=st.lists(_tools, max_size=2).map(tuple),
    effects=st.lists(_effects, max_size=2).map(tuple),
    resources=st.lists(
        st.builds(ResourceRule, type=_types, id=_ids)
        | st.builds(ResourceRule, type=_types, prefix=st.sampled_from(["", "1", "12"]))
        | st.builds(ResourceRule, type=_types, ids=st.lists(_ids, min_size=1, max_size=2).map(tuple)),
        max_size=3,
    ).map(tuple),
    amounts=st.lists(
        st.builds(
            AmountLimit,
            currency=st.sampled_from(["EUR", "USD"]),
            per_action=_money,
            total=st.none() | _money,
            per_counterparty=st.none() | _money,
            on_exceed=_on_exceed,
        ),
        max_size=2,
        unique_by=lambda limit: limit.currency,
    ).map(tuple),
    after_completion=st.lists(_tools, max_size=2).map(tuple),
    max_actions=st.none() | st.integers(0, 3),
    velocity=st.lists(
        st.builds(
            VelocityLimit,
            effects=st.lists(_effects, max_size=2, unique=True).map(tuple),
            max=st.integers(0, 2),
            window_seconds=st.sampled_from([5, 10]),
            on_exceed=_on_exceed,
        ),
        max_size=2,
    ).map(tuple),
)


@given(st.integers())
@settings(max_examples=40, deadline=None)
def test_no_delegation_widens(seed: int) -> None:
    chance = Random(seed)
    for _ in range(100):
        parent = some_boundary(chance)
        child = vary(parent, chance) if chance.random() < 0.9 else some_boundary(chance)
        if find_excess(child, parent) is None:
            for _ in range(50):
                what = situation(chance)
                assert judge(child, what) <= judge(parent, what), (child, parent, what)


@given(boundaries, st.data())
def test_what_only_leaves_out_or_lowers_lies_within(parent: Boundary, data: st.DataObject) -> None:
    def some(items: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(item for item in items if data.draw(st.booleans()))

    child = Boundary(
        tools=some(parent.tools),
        effects=some(parent.effects),
        resources=some(parent.resources),
        amounts=tuple(
            replace(
                limit,
                per_action=limit.per_action / 2,
                total=(limit.total if limit.total is not None else Decimal(9)) / 2,
                on_exceed=data.draw(st.sampled_from([limit.on_exceed, BLOCK])),
            )
            for limit in some(parent.amounts)
        ),
        after_completion=some(parent.after_completion),
        max_actions=data.draw(st.integers(0, 3 if parent.max_actions is None else parent.max_actions)),
        velocity=(*parent.velocity, *data.draw(boundaries).velocity),
    )
    assert find_excess(child, parent) is None


@given(boundaries, boundaries, boundaries)
def test_what_lies_within_lies_within_what_is_above(a: Boundary, b: Boundary, c: Boundary) -> None:
    if find_excess(a, b) is None and find_excess(b, c) is None:
        assert find_excess(a, c) is None
