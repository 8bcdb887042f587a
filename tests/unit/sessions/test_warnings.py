"""What is said of a session's terms that name what is not there, or permit nothing."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

from pdp.model import (
    AmountLimit,
    AmountRole,
    AmountUnit,
    Boundary,
    RegistryOutline,
    ResourceRule,
    ToolEffect,
    ToolOutline,
)
from pdp.sessions.warnings import MAX_WARNINGS, find_warnings
from tests.support import builders

PAY = ToolOutline(
    name="pay",
    effect=ToolEffect.PAY,
    resource="invoice:{invoice}",
    amount=AmountRole(argument="amount", unit=AmountUnit.MAJOR, currency_code="EUR"),
)
READ = ToolOutline(name="read", effect=ToolEffect.READ, resource="file:{path}", amount=None)
BOUNDARY = Boundary(
    tools=("read",),
    resources=(ResourceRule(type="file", prefix=""),),
    after_completion=("read",),
)


def found(
    boundary: Boundary = BOUNDARY,
    *,
    template: Boundary | None = None,
    known: bool = True,
    tools: Any = (PAY, READ),
) -> list[tuple[str, str]]:
    session = replace(builders.session(), boundary=boundary, template=template)
    outline = RegistryOutline(agent_known=known, tools=tools)
    return [(item.code, item.field) for item in find_warnings(session, outline)]


def test_terms_that_name_what_is_there_are_not_warned_of() -> None:
    assert found() == []
    assert found(Boundary(effects=(ToolEffect.READ,), resources=BOUNDARY.resources)) == []


def test_unknown_agent_is_named() -> None:
    assert found(known=False) == [("agent.unknown", "agent")]


def test_unknown_tool_effect_and_type_are_named_by_place() -> None:
    boundary = replace(
        BOUNDARY,
        tools=("read", "reed"),
        effects=(ToolEffect.READ, ToolEffect.DELETE),
        resources=(*BOUNDARY.resources, ResourceRule(type="fyle", id="a")),
        after_completion=("read", "report"),
    )
    assert found(boundary) == [
        ("boundary.tool_unknown", "boundary.tools[1]"),
        ("boundary.tool_unknown", "boundary.after_completion[1]"),
        ("boundary.effect_unknown", "boundary.effects[1]"),
        ("boundary.resource_type_unknown", "boundary.resources[1]"),
    ]


def test_tool_that_is_blocked_whatever_its_arguments_is_named() -> None:
    unusable = [("boundary.tool_unusable", "boundary.tools[1]")]
    both = replace(BOUNDARY, tools=("read", "pay"))
    assert found(both) == unusable
    both = replace(both, resources=(*BOUNDARY.resources, ResourceRule(type="invoice", prefix="")))
    assert found(both) == unusable
    assert found(replace(both, amounts=(AmountLimit(currency="USD", per_action=Decimal(1)),))) == unusable
    assert found(replace(both, amounts=(AmountLimit(currency="EUR", per_action=Decimal(1)),))) == []


def test_boundary_that_permits_nothing_is_said() -> None:
    assert found(Boundary()) == [("boundary.permits_nothing", "boundary")]
    assert found(tools=())[-1] == ("boundary.permits_nothing", "boundary")
    elsewhere = Boundary(tools=("pay",), resources=(ResourceRule(type="invoice", prefix=""),))
    assert found(template=elsewhere) == [
        ("boundary.tool_unusable", "boundary.tools[0]"),
        ("boundary.tool_unusable", "boundary.after_completion[0]"),
        ("boundary.permits_nothing", "boundary"),
    ]


def test_warnings_are_bounded() -> None:
    codes = found(replace(BOUNDARY, tools=tuple(f"t{number}" for number in range(500))))
    assert len(codes) == MAX_WARNINGS
    assert codes[-1] == ("more", "boundary")
