"""Values become messages; a misspelt or odd one is refused by name before anything is sent."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import IntEnum, StrEnum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from placet import (
    Agent,
    AmountLimit,
    AmountRole,
    AttributeRule,
    Boundary,
    Hop,
    InvalidRequestError,
    OnExceed,
    Outcome,
    ResourceRule,
    Signal,
    Task,
    Tool,
    ToolEffect,
)
from placet._calls.action import chain_message, session_id_of
from placet._calls.jsontext import json_text
from placet._calls.outcomes import report_outcome
from placet._calls.registry import put_agents, put_signals, put_tenant, put_tools
from placet._calls.sessions import open_session_request
from placet._executed import Executed
from placet._transport.channel import MAX_REQUEST_BYTES
from placet.canonical import canonical_json, parse_object
from placet.testing import FakePdp


class Colour(IntEnum):
    RED = 3


def test_values_are_written_as_their_author_meant_them() -> None:
    value = {
        "float": 0.1,
        "small": 1e-7,
        "large": 1e22,
        "decimal": Decimal("1200.00"),
        "int": 12345678901234567890,
        "enum": Colour.RED,
        "effect": ToolEffect.PAY,
        "none": None,
        "bools": (True, False),
        "text": 'é "\\ \n\0',
        "nested": {"a": [{}]},
    }
    text = json_text(value, "value")
    parsed = json.loads(text, parse_float=Decimal)
    assert parsed["float"] == Decimal("0.1")
    assert parsed["small"] == Decimal("1E-7")
    assert parsed["large"] == Decimal("1E+22")
    assert parsed["decimal"] == Decimal(1200)
    assert parsed["int"] == 12345678901234567890
    assert parsed["enum"] == 3
    assert parsed["effect"] == "pay"
    assert parsed["none"] is None
    assert parsed["bools"] == [True, False]
    assert parsed["text"] == 'é "\\ \n\0'
    assert parsed["nested"] == {"a": [{}]}


NUMBERS = st.integers(-(10**20), 10**20) | st.decimals(
    allow_nan=False, allow_infinity=False, places=4, min_value=-(10**12), max_value=10**12
)
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(max_codepoint=127), max_size=8), inner, max_size=4)
    ),
    max_leaves=20,
)


@given(st.dictionaries(st.text(st.characters(max_codepoint=127), max_size=8), JSON_VALUES, max_size=4))
def test_text_says_what_the_value_said(value: dict[str, Any]) -> None:
    assert canonical_json(parse_object(json_text(value, "value"), field="value")) == canonical_json(value)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_float_is_sent_as_python_prints_it(number: float) -> None:
    text = json_text({"n": number}, "value").decode()
    assert text == f'{{"n":{number!r}}}'
    assert float(json.loads(text)["n"]) == number


def test_boundary_has_one_meaning_in_both_forms() -> None:
    typed = Boundary(
        tools=("a",),
        effects=(ToolEffect.READ,),
        resources=(
            ResourceRule(type="invoice", id="INV-1"),
            ResourceRule(type="vendor", prefix="ACME-"),
            ResourceRule(type="order", prefix=""),
            ResourceRule(type="file", id="a:b"),
            ResourceRule(type="vendor", attribute=AttributeRule(of_type="invoice", attribute="vendor")),
        ),
        amounts=(AmountLimit(currency="EUR", per_action=Decimal("5000.00")),),
    )
    plain = {
        "tools": ["a"],
        "effects": ["read"],
        "resources": [
            "invoice:INV-1",
            "vendor:ACME-*",
            {"type": "order", "prefix": ""},
            "file:a:b",
            {"type": "vendor", "attribute": {"of_type": "invoice", "attribute": "vendor"}},
        ],
        "amounts": {"EUR": "5000.00"},
    }
    listed = plain | {"amounts": [{"currency": "EUR", "per_action": Decimal("5000.00")}]}

    def message(boundary: Any) -> object:
        return open_session_request(
            task="T", principal="p", agent="a", boundary=boundary, expires_in=None, expires_at=None
        )

    assert message(typed) == message(plain) == message(listed)


def open_with(**changes: Any) -> object:
    asked: dict[str, Any] = {"task": "T", "principal": "p", "agent": "a", "boundary": {}}
    return open_session_request(**({"expires_in": None, "expires_at": None} | asked | changes))


def test_velocity_is_also_understood_as_settings_have_it() -> None:
    def message(limit: dict[str, Any]) -> object:
        return open_session_request(
            task="T",
            principal="p",
            agent="a",
            boundary={"velocity": [limit]},
            expires_in=None,
            expires_at=None,
        )

    limit = {"effects": ["pay"], "max": 5, "on_exceed": "block"}
    assert message(limit | {"window": timedelta(minutes=1)}) == message(limit | {"window_seconds": 60})


def test_session_expires_by_span_or_instant() -> None:
    at = datetime(2030, 1, 1, tzinfo=UTC)
    assert open_with(expires_at=at).expires_at.ToDatetime(tzinfo=UTC) == at  # type: ignore[attr-defined]
    assert open_with(expires_at="2030-01-01T00:00:00Z") == open_with(expires_at=at)
    soon = open_with(expires_in=60).expires_at.ToDatetime(tzinfo=UTC)  # type: ignore[attr-defined]
    assert timedelta(0) < soon - datetime.now(UTC) <= timedelta(seconds=60)
    assert not open_with().HasField("expires_at")  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("call", "field"),
    [
        (lambda: open_with(boundary={"tool": ["a"]}), "boundary"),
        (lambda: open_with(boundary={"tools": "payments.create"}), "boundary.tools"),
        (lambda: open_with(boundary={"effects": ["steal"]}), "boundary.effects[0]"),
        (lambda: open_with(boundary={"resources": ["invoice"]}), "boundary.resources[0]"),
        (lambda: open_with(boundary={"resources": ["invoice:"]}), "boundary.resources[0]"),
        (lambda: open_with(boundary={"resources": [{"type": "x"}]}), "boundary.resources[0]"),
        (
            lambda: open_with(boundary={"resources": [{"type": "x", "id": "1", "prefix": ""}]}),
            "boundary.resources[0]",
        ),
        (
            lambda: open_with(boundary={"resources": [{"type": "x", "attribute": {"of_type": "y"}}]}),
            "boundary.resources[0].attribute.attribute",
        ),
        (lambda: open_with(boundary={"amounts": {"EUR": "lots"}}), "boundary.amounts.EUR"),
        (lambda: open_with(boundary={"amounts": {"EUR": math.nan}}), "boundary.amounts.EUR"),
        (lambda: open_with(boundary={"amounts": {"EUR": True}}), "boundary.amounts.EUR"),
        (lambda: open_with(boundary={"amounts": {"EUR": "1e99999"}}), "boundary.amounts.EUR"),
        (lambda: open_with(boundary={"amounts": [{"currency": "EUR"}]}), "boundary.amounts[0].per_action"),
        (lambda: open_with(boundary={"velocity": [{"max": 1}]}), "boundary.velocity[0].window"),
        (
            lambda: open_with(boundary={"velocity": [{"max": 1, "window": 60, "window_seconds": 60}]}),
            "boundary.velocity[0]",
        ),
        (
            lambda: open_with(boundary={"velocity": [{"max": 1, "window": 1.5}]}),
            "boundary.velocity[0].window",
        ),
        (
            lambda: open_with(boundary={"amounts": [{"currency": "EUR", "per_action": 1, "total": None}]}),
            "boundary.amounts[0].total",
        ),
        (lambda: open_with(boundary=Boundary(tools=(7,))), "boundary.tools[0]"),  # type: ignore[arg-type]
        (lambda: open_with(boundary=None), "boundary"),
        (lambda: open_with(task=None), "task"),
        (lambda: open_with(task={"description": "x"}), "task.id"),
        (lambda: open_with(task=Task(id=7)), "task.id"),  # type: ignore[arg-type]
        (lambda: open_with(principal=None), "principal"),
        (lambda: open_with(agent="\ud800"), "agent"),
        (lambda: open_with(expires_in=60, expires_at=datetime.now(UTC)), "expires_at"),
        (lambda: open_with(expires_in="soon"), "expires_in"),
        (lambda: open_with(expires_in=math.inf), "expires_in"),
        (lambda: open_with(expires_in=1e30), "expires_in"),
        (lambda: open_with(expires_at=datetime(2030, 1, 1)), "expires_at"),
        (lambda: open_with(expires_at="tomorrow"), "expires_at"),
        (lambda: chain_message("agent:a"), "chain"),
        (lambda: chain_message([{"agnt": "a"}]), "chain.hops[0]"),
        (lambda: chain_message([Hop(agent="a"), 7]), "chain.hops[1]"),  # type: ignore[list-item]
        (lambda: session_id_of(7), "session_id"),  # type: ignore[arg-type]
        (lambda: put_tenant("{}", "t"), "settings"),  # type: ignore[arg-type]
        (lambda: put_tenant({"a": math.nan}, "t"), "settings.a"),
        (lambda: put_agents({"agent": "a"}), "agents"),  # type: ignore[arg-type]
        (lambda: put_agents([{"agent": "a", "trust": "high"}]), "agents[0].trust"),
        (lambda: put_agents([{"agent": "a", "trust": math.nan}]), "agents[0].trust"),
        (lambda: put_agents([{"agent": "a", "trust": True}]), "agents[0].trust"),
        (lambda: put_agents([{"agent": "a", "trust": Decimal("0.49999999999999999999")}]), "agents[0].trust"),
        (lambda: put_tools([{"name": "t"}]), "tools[0].effect"),
        (lambda: put_tools([{"name": "t", "effect": "read", "secret": ["x"]}]), "tools[0]"),
        (lambda: put_tools([Tool(name="t", effect="steal")]), "tools[0].effect"),  # type: ignore[arg-type]
        (
            lambda: put_tools([{"name": "t", "effect": "pay", "amount": {"argument": "a", "unit": "cents"}}]),
            "tools[0].amount.unit",
        ),
        (
            lambda: put_tools(
                [
                    Tool(
                        name="t",
                        effect=ToolEffect.PAY,
                        amount=AmountRole(argument="a", currency_argument="b", currency_code="EUR"),
                    )
                ]
            ),
            "tools[0].amount",
        ),
        (lambda: put_signals([{"name": "s"}]), "signals[0].value"),
        (lambda: put_signals([Signal(name="s", value=object())]), "signals[0].value"),  # type: ignore[arg-type]
    ],
)
def test_odd_value_is_refused_by_name(call: Callable[[], object], field: str) -> None:
    with pytest.raises(InvalidRequestError) as raised:
        call()
    assert raised.value.field == field
    assert raised.value.reason == "INVALID_FIELD"
    assert str(raised.value).startswith(field)


@pytest.mark.parametrize(
    ("call", "kind"),
    [
        (lambda: report("done"), Outcome),
        (lambda: open_with(boundary={"effects": ["steal"]}), ToolEffect),
        (
            lambda: open_with(boundary={"velocity": [{"max": 1, "window": 1, "effects": ["steal"]}]}),
            ToolEffect,
        ),
        (
            lambda: open_with(boundary={"velocity": [{"max": 1, "window": 1, "on_exceed": "warn"}]}),
            OnExceed,
        ),
        (
            lambda: open_with(
                boundary={"amounts": [{"currency": "EUR", "per_action": 1, "on_exceed": "warn"}]}
            ),
            OnExceed,
        ),
        (lambda: put_tools([{"name": "t", "effect": "steal"}]), ToolEffect),
    ],
)
def test_a_word_of_no_meaning_is_refused_with_those_that_have_one(
    call: Callable[[], object], kind: type[StrEnum]
) -> None:
    with pytest.raises(InvalidRequestError) as raised:
        call()
    assert str(raised.value).endswith(f"is not one of {', '.join(kind)}")


def test_that_an_allow_lapsed_is_not_for_callers_to_report() -> None:
    for outcome in ("lapsed", "unredeemed"):
        with pytest.raises(InvalidRequestError, match=f"{outcome} is the server's own finding"):
            report(outcome)


def report(outcome: str) -> object:
    return report_outcome(
        "d", outcome, session="", tool_call_id="", output=b"", attempt_id="", executed=Executed()
    )


def test_what_operators_write_has_one_meaning_in_both_forms() -> None:
    typed_agent = put_agents([Agent(agent="a", owner="o", trust=0.5)])
    assert typed_agent.request == put_agents([{"agent": "a", "owner": "o", "trust": Decimal("0.5")}]).request
    without_trust = put_agents([Agent(agent="a")]).request
    assert not without_trust.agents[0].HasField("trust")  # type: ignore[attr-defined]
    schema = {"type": "object"}
    typed = Tool(
        name="t",
        effect=ToolEffect.PAY,
        resource="invoice:{invoice}",
        arguments_schema=schema,
        amount=AmountRole(argument="amount", unit="minor", currency_code="EUR"),
        secret_arguments=("pin",),
    )
    plain = {
        "name": "t",
        "effect": "pay",
        "resource": "invoice:{invoice}",
        "arguments_schema": b'{"type":"object"}',
        "amount": {"argument": "amount", "unit": "minor", "currency_code": "EUR"},
        "secret_arguments": ["pin"],
    }
    assert put_tools([typed]).request == put_tools([plain]).request
    typed_signal = put_signals([Signal(name="s", value={"a": 1})])
    assert typed_signal.request == put_signals([{"name": "s", "value": {"a": 1}}]).request


def test_request_that_is_too_large_is_refused(fake_pdp: FakePdp) -> None:
    tools = [{"name": "t", "effect": "read", "description": "x" * MAX_REQUEST_BYTES}]
    with fake_pdp.client() as pdp, pytest.raises(InvalidRequestError, match="bytes long"):
        pdp.put_tools(tools)
