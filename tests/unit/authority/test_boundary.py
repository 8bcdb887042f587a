"""The JSON form of a boundary: what is written comes back, and what is odd is refused by name."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from hypothesis import given
from hypothesis import strategies as st

from pdp.authority.boundary import MAX_RULES, boundary_document, parse_boundary, read_boundary
from pdp.authority.counters import MAX_WINDOW
from pdp.errors import InvalidFieldError
from pdp.model import (
    AmountLimit,
    AttributeRule,
    Boundary,
    OnExceed,
    ResourceRule,
    ToolEffect,
    VelocityLimit,
)
from placet._calls.boundary import read_boundary as read_answer
from placet._wire.boundary import BoundaryError, boundary_json, boundary_message, message_json
from placet.v1 import session_service_pb2 as sessions

names = st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=8)
boundaries = st.builds(
    Boundary,
    tools=st.lists(names, max_size=3).map(tuple),
    effects=st.lists(st.sampled_from(ToolEffect), max_size=3).map(tuple),
    resources=st.lists(
        st.builds(ResourceRule, type=names, id=names)
        | st.builds(ResourceRule, type=names, prefix=st.just("") | names)
        | st.builds(ResourceRule, type=names, ids=st.lists(names, min_size=1, max_size=3).map(tuple))
        | st.builds(
            ResourceRule,
            type=names,
            attribute=st.builds(AttributeRule, of_type=names, attribute=names),
        ),
        max_size=3,
    ).map(tuple),
    amounts=st.lists(
        st.builds(
            AmountLimit,
            currency=st.sampled_from(["EUR", "USD", "JPY"]),
            per_action=st.integers(0, 10**9).map(Decimal),
            total=st.none() | st.integers(0, 10**9).map(Decimal),
            per_counterparty=st.none() | st.integers(0, 10**9).map(Decimal),
            on_exceed=st.sampled_from(OnExceed),
        ),
        max_size=3,
        unique_by=lambda limit: limit.currency,
    ).map(tuple),
    after_completion=st.lists(names, max_size=3).map(tuple),
    max_actions=st.none() | st.integers(0, 2**53 - 1),
    velocity=st.lists(
        st.builds(
            VelocityLimit,
            effects=st.sets(st.sampled_from(ToolEffect)).map(sorted).map(tuple),
            max=st.integers(0, 1_000_000),
            window_seconds=st.integers(1, MAX_WINDOW),
            on_exceed=st.sampled_from(OnExceed),
        ),
        max_size=3,
    ).map(tuple),
)


@given(boundaries)
def test_what_is_written_comes_back(boundary: Boundary) -> None:
    assert read_boundary(boundary_json(boundary)) == boundary
    assert parse_boundary(boundary_json(boundary), "boundary") == boundary


@given(boundaries)
def test_a_message_says_the_same_to_server_and_client(boundary: Boundary) -> None:
    message = boundary_message(boundary)
    assert parse_boundary(message_json(message), "boundary") == boundary
    assert boundary_message(read_answer(message)) == message


@pytest.mark.parametrize(
    ("message", "field"),
    [
        (sessions.Boundary(effects=[1, 99]), "b.effects[1]"),  # type: ignore[list-item]
        (sessions.Boundary(resources=[sessions.ResourceRule(type="x")]), "b.resources[0]"),
        (
            sessions.Boundary(amounts=[sessions.AmountLimit(on_exceed=99)]),  # type: ignore[arg-type]
            "b.amounts[0].on_exceed",
        ),
        (
            sessions.Boundary(velocity=[sessions.VelocityLimit(window=Duration(seconds=1, nanos=1))]),
            "b.velocity[0].window",
        ),
        (
            sessions.Boundary(velocity=[sessions.VelocityLimit(effects=[0])]),  # type: ignore[list-item]
            "b.velocity[0].effects[0]",
        ),
    ],
)
def test_a_message_that_has_no_json_form_is_refused_by_name(message: sessions.Boundary, field: str) -> None:
    with pytest.raises(BoundaryError) as refused:
        message_json(message, "b")
    assert refused.value.field == field


def test_what_is_absent_permits_nothing() -> None:
    assert parse_boundary({}, "boundary") == Boundary()


def test_rules_see_amounts_in_minor_units() -> None:
    boundary = parse_boundary({"amounts": [{"currency": "JPY", "per_action": "5000"}]}, "boundary")
    assert boundary_document(boundary)["amounts"] == {"JPY": {"per_action_minor": 5000}}


@pytest.mark.parametrize(
    ("value", "field"),
    [
        ([], "b"),
        (None, "b"),
        ({"tool": ["a"]}, "b.tool"),
        ({"tools": "a"}, "b.tools"),
        ({"tools": ["a"] * (MAX_RULES + 1)}, "b.tools"),
        ({"tools": [""]}, "b.tools[0]"),
        ({"tools": [1]}, "b.tools[0]"),
        ({"effects": ["steal"]}, "b.effects[0]"),
        ({"resources": ["invoice:1"]}, "b.resources[0]"),
        ({"resources": [{"type": "invoice"}]}, "b.resources[0]"),
        ({"resources": [{"id": "1"}]}, "b.resources[0].type"),
        ({"resources": [{"type": "invoice", "id": "1", "prefix": ""}]}, "b.resources[0]"),
        ({"resources": [{"type": "invoice", "ids": []}]}, "b.resources[0].ids"),
        ({"resources": [{"type": "invoice", "ids": [" x"]}]}, "b.resources[0].ids[0]"),
        ({"resources": [{"type": "invoice", "id": "x" * 513}]}, "b.resources[0].id"),
        ({"resources": [{"type": "vendor", "attribute": "vendor"}]}, "b.resources[0].attribute"),
        ({"resources": [{"type": "vendor", "attribute": {}}]}, "b.resources[0].attribute.of_type"),
        (
            {"resources": [{"type": "vendor", "attribute": {"of_type": "invoice"}}]},
            "b.resources[0].attribute.attribute",
        ),
        (
            {"resources": [{"type": "v", "attribute": {"of_type": "i", "attribute": "v", "of": "i"}}]},
            "b.resources[0].attribute.of",
        ),
        (
            {"resources": [{"type": "v", "id": "1", "attribute": {"of_type": "i", "attribute": "v"}}]},
            "b.resources[0]",
        ),
        ({"amounts": [{"currency": "EURO", "per_action": "1"}]}, "b.amounts[0].currency"),
        ({"amounts": [{"currency": "EUR"}]}, "b.amounts[0].per_action"),
        ({"amounts": [{"currency": "EUR", "per_action": 1}]}, "b.amounts[0].per_action"),
        ({"amounts": [{"currency": "EUR", "per_action": "-1"}]}, "b.amounts[0].per_action"),
        ({"amounts": [{"currency": "EUR", "per_action": "1.001"}]}, "b.amounts[0].per_action"),
        ({"amounts": [{"currency": "EUR", "per_action": "1", "limit": "2"}]}, "b.amounts[0].limit"),
        ({"amounts": [{"currency": "EUR", "per_action": "1"}] * 2}, "b.amounts[1].currency"),
        ({"amounts": [{"currency": "EUR", "per_action": "1", "total": 1}]}, "b.amounts[0].total"),
        ({"amounts": [{"currency": "EUR", "per_action": "1", "total": "0.001"}]}, "b.amounts[0].total"),
        (
            {"amounts": [{"currency": "EUR", "per_action": "1", "per_counterparty": "-1"}]},
            "b.amounts[0].per_counterparty",
        ),
        (
            {"amounts": [{"currency": "EUR", "per_action": "1", "on_exceed": "warn"}]},
            "b.amounts[0].on_exceed",
        ),
        ({"max_actions": -1}, "b.max_actions"),
        ({"max_actions": True}, "b.max_actions"),
        ({"velocity": [{"max": 1}]}, "b.velocity[0].window_seconds"),
        ({"velocity": [{"window_seconds": 1}]}, "b.velocity[0].max"),
        ({"velocity": [{"max": 1, "window_seconds": MAX_WINDOW + 1}]}, "b.velocity[0].window_seconds"),
        (
            {"velocity": [{"max": 1, "window_seconds": 1, "effects": ["steal"]}]},
            "b.velocity[0].effects[0]",
        ),
        (
            {"velocity": [{"max": 1, "window_seconds": 1, "on_exceed": None}]},
            "b.velocity[0].on_exceed",
        ),
        ({"velocity": [{"max": 1, "window_seconds": 1}] * 9}, "b.velocity"),
        ({"after_completion": [None]}, "b.after_completion[0]"),
    ],
)
def test_what_is_odd_is_refused_by_name(value: Any, field: str) -> None:
    with pytest.raises(InvalidFieldError) as refused:
        parse_boundary(value, "b")
    assert refused.value.field == field
