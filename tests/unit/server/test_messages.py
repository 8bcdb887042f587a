"""Messages to values: every refusal names the field."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pdp.errors import InvalidFieldError
from pdp.model import AmountLimit, AttributeRule, Boundary, ResourceRule, ToolEffect
from pdp.server.messages import control_plane, tools
from pdp.server.messages.decisions import evaluation_request
from pdp.server.messages.sessions import opening
from pdp.sessions.opening import stated_terms
from placet._wire.boundary import boundary_message
from placet.v1 import admin_service_pb2 as admin
from placet.v1 import decision_pb2 as nouns
from placet.v1 import decision_service_pb2 as decisions
from placet.v1 import session_service_pb2 as sessions
from tests.support import builders


def evaluate(change: Callable[[decisions.EvaluateRequest], Any]) -> decisions.EvaluateRequest:
    request = decisions.EvaluateRequest(
        action=nouns.Action(tool="pay", arguments=b"{}", tool_call_id="c1"), session_id="s"
    )
    change(request)
    return request


def open_session(change: Callable[[sessions.OpenSessionRequest], Any]) -> sessions.OpenSessionRequest:
    request = sessions.OpenSessionRequest(task=sessions.Task(id="T"), principal="u", agent="a")
    change(request)
    return request


def set_to(path: str, value: Any) -> Callable[[Any], None]:
    def change(message: Any) -> None:
        *parents, last = path.split(".")
        for parent in parents:
            message = getattr(message, parent)
        setattr(message, last, value)

    return change


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (lambda m: m.ClearField("action"), "action"),
        (set_to("action.tool", ""), "action.tool"),
        (set_to("action.tool", "x" * 257), "action.tool"),
        (set_to("action.tool", "a\u202eb"), "action.tool"),
        (set_to("action.tool_call_id", ""), "action.tool_call_id"),
        (set_to("action.tool_call_id", "a\0b"), "action.tool_call_id"),
        (set_to("action.tool_call_id", " a"), "action.tool_call_id"),
        (set_to("action.arguments", b""), "action.arguments"),
        (set_to("action.arguments", b"[]"), "action.arguments"),
        (set_to("action.arguments", b'{"a":{"b":"\\ud800"}}'), "action.arguments.a.b"),
        (set_to("action.intent", "x" * 8193), "action.intent"),
        (set_to("action.provenance", b"1"), "action.provenance"),
        (set_to("session_id", ""), "session_id"),
        (set_to("review_id", "x" * 257), "review_id"),
        (set_to("attempt_id", "\n"), "attempt_id"),
        (set_to("audience", "x" * 257), "audience"),
        (lambda m: m.chain.hops.add(), "chain.hops[0].agent"),
        (lambda m: m.chain.hops.add(agent="a", grant="x" * 32769), "chain.hops[0].grant"),
        (lambda m: m.chain.hops.extend([nouns.Hop(agent="a")] * 18), "chain.hops"),
    ],
)
def test_evaluate_names_the_field(change: Callable[[Any], Any], field: str) -> None:
    with pytest.raises(InvalidFieldError) as caught:
        evaluation_request(evaluate(change), caller=builders.caller(), deadline=0)
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (lambda m: m.ClearField("task"), "task"),
        (set_to("task.id", ""), "task.id"),
        (set_to("principal", ""), "principal"),
        (set_to("agent", ""), "agent"),
        (set_to("expires_at.seconds", 2**60), "expires_at"),
        (lambda m: m.boundary.tools.append(""), "boundary.tools[0]"),
        (lambda m: m.boundary.effects.append(0), "boundary.effects[0]"),
        (lambda m: m.boundary.effects.append(99), "boundary.effects[0]"),
        (lambda m: m.boundary.resources.add(type="invoice"), "boundary.resources[0]"),
        (lambda m: m.boundary.resources.add(id="x"), "boundary.resources[0].type"),
        (lambda m: m.boundary.resources.add(type="invoice", id=""), "boundary.resources[0].id"),
        (
            lambda m: m.boundary.resources.add(type="v").attribute.SetInParent(),
            "boundary.resources[0].attribute.of_type",
        ),
        (lambda m: m.boundary.amounts.add(currency="X", per_action="1"), "boundary.amounts[0].currency"),
        (lambda m: m.boundary.amounts.add(currency="EUR"), "boundary.amounts[0].per_action"),
        (
            lambda m: m.boundary.amounts.add(currency="EUR", per_action="1e3"),
            "boundary.amounts[0].per_action",
        ),
        (
            lambda m: m.boundary.amounts.add(currency="EUR", per_action="-1"),
            "boundary.amounts[0].per_action",
        ),
        (
            lambda m: m.boundary.amounts.extend([sessions.AmountLimit(currency="EUR", per_action="1")] * 2),
            "boundary.amounts[1].currency",
        ),
    ],
)
def test_open_session_names_the_field(change: Callable[[Any], Any], field: str) -> None:
    with pytest.raises(InvalidFieldError) as caught:
        stated_terms(opening(open_session(change)), issuer="i", principal="")
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("agent", "field"),
    [
        (admin.Agent(), "agents[0].agent"),
        (admin.Agent(agent="a", trust=1.1), "agents[0].trust"),
        (admin.Agent(agent="a", trust=float("nan")), "agents[0].trust"),
        (admin.Agent(agent="a", trust=5e-324), "agents[0].trust"),
        (admin.Agent(agent="a", trust=1.2345678901234567e-3), "agents[0].trust"),
    ],
)
def test_put_agents_names_the_field(agent: admin.Agent, field: str) -> None:
    with pytest.raises(InvalidFieldError) as caught:
        control_plane.agents(admin.PutAgentsRequest(agents=[agent]))
    assert caught.value.field == field


def test_lists_are_neither_empty_nor_ambiguous() -> None:
    for call in (
        lambda: control_plane.agents(admin.PutAgentsRequest()),
        lambda: tools.tools(admin.PutToolsRequest()),
        lambda: control_plane.signals(admin.PutSignalsRequest()),
        lambda: control_plane.agents(admin.PutAgentsRequest(agents=[admin.Agent(agent="a")] * 2)),
    ):
        with pytest.raises(InvalidFieldError):
            call()


def test_every_tool_that_is_none_is_named() -> None:
    request = admin.PutToolsRequest(
        tools=[
            admin.Tool(),
            admin.Tool(name="t", effect=sessions.TOOL_EFFECT_READ, resource="x:1"),
            admin.Tool(name="u"),
        ]
    )
    with pytest.raises(InvalidFieldError) as caught:
        tools.tools(request)
    assert [field for field, _ in caught.value.violations] == ["tools[0].name", "tools[2].effect"]
    assert str(caught.value) == "tools[0].name: is required (and 1 more)"


@pytest.mark.parametrize("trust", ["0", "1", "0.3", "0.49996", "0.30000000000000004", "1E-18"])
def test_trust_is_the_decimal_that_was_written(trust: str) -> None:
    message = admin.Agent(agent="a", trust=float(trust))
    [agent] = control_plane.agents(admin.PutAgentsRequest(agents=[message]))
    assert agent.trust == Decimal(trust)
    assert control_plane.agent_message(agent) == message


def test_signal_needs_a_json_value() -> None:
    with pytest.raises(InvalidFieldError) as caught:
        control_plane.signals(admin.PutSignalsRequest(signals=[admin.Signal(name="incident", value=b"yes")]))
    assert caught.value.field == "signals[0].value"


NAMES = st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=12)
BOUNDARIES = st.builds(
    Boundary,
    tools=st.lists(NAMES, max_size=3).map(tuple),
    effects=st.lists(st.sampled_from(ToolEffect), max_size=3).map(tuple),
    resources=st.lists(
        st.builds(ResourceRule, type=NAMES, id=NAMES)
        | st.builds(ResourceRule, type=NAMES, prefix=NAMES)
        | st.builds(ResourceRule, type=NAMES, ids=st.lists(NAMES, min_size=1, max_size=3).map(tuple))
        | st.builds(
            ResourceRule,
            type=NAMES,
            attribute=st.builds(AttributeRule, of_type=NAMES, attribute=NAMES),
        ),
        max_size=3,
    ).map(tuple),
    amounts=st.lists(
        st.builds(
            AmountLimit,
            currency=st.sampled_from(["EUR", "USD"]),
            per_action=st.decimals(min_value=0, max_value=10**9, places=2),
        ),
        max_size=2,
        unique_by=lambda limit: limit.currency,
    ).map(tuple),
)


@given(BOUNDARIES)
def test_boundary_survives_the_way_through_its_message(boundary: Boundary) -> None:
    request = open_session(lambda m: m.boundary.CopyFrom(boundary_message(boundary)))
    assert opening(request).boundary == boundary
