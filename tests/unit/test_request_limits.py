"""Every limit that docs/api.md states: what is as large passes, what is larger is refused by its field."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from pdp.errors import InvalidFieldError
from pdp.server import convert, convert_grants, convert_outcomes, convert_plans, convert_tools
from placet.v1 import admin_service_pb2 as admin
from placet.v1 import decision_pb2 as nouns
from placet.v1 import decision_service_pb2 as decisions
from placet.v1 import session_service_pb2 as sessions
from tests import builders
from tests.markdown import section, table, text_of


def evaluate(**action: Any) -> Any:
    members = {"tool": "t", "arguments": b"{}", "tool_call_id": "c"} | action
    request = decisions.EvaluateRequest(action=nouns.Action(**members), session_id="s")
    return convert.evaluation_request(request, caller=builders.caller(), deadline=0.0)


def chain(*hops: nouns.Hop) -> Any:
    request = decisions.EvaluateRequest(
        action=nouns.Action(tool="t", arguments=b"{}", tool_call_id="c"),
        session_id="s",
        chain=nouns.DelegationChain(hops=hops),
    )
    return convert.evaluation_request(request, caller=builders.caller(), deadline=0.0)


def plan(items: int) -> Any:
    request = decisions.EvaluateBatchRequest(
        session_id="s",
        items=[
            decisions.PlannedAction(action=nouns.Action(tool="t", arguments=b"{}", tool_call_id=f"c-{n}"))
            for n in range(items)
        ],
    )
    return convert_plans.plan(request, caller=builders.caller(), deadline=0.0)


def opening(boundary: sessions.Boundary | None = None, **task: str) -> Any:
    request = sessions.OpenSessionRequest(
        task=sessions.Task(**({"id": "T"} | task)), principal="u", agent="a", boundary=boundary
    )
    return convert.opening(request, issuer="i")


def delegating(**members: str) -> Any:
    request = sessions.DelegateRequest(
        session_id="s",
        chain=nouns.DelegationChain(hops=[nouns.Hop(agent="a", grant="g")]),
        to_agent="b",
        **members,
    )
    return convert_grants.delegation(request)


def signal(value: bytes) -> Any:
    return convert.signals(admin.PutSignalsRequest(signals=[admin.Signal(name="s", value=value)]))


def tool(schema: bytes) -> Any:
    registered = admin.Tool(
        name="t", effect=sessions.TOOL_EFFECT_READ, resource="invoice:1", arguments_schema=schema
    )
    return convert_tools.tools(admin.PutToolsRequest(tools=[registered]))


def padded(size: int) -> bytes:
    """A JSON object of so many bytes."""
    return b'{"a":"' + b"x" * (size - 8) + b'"}'


# By row of the table: the field that is refused, and a request of so many.
REQUESTS: Mapping[str, tuple[str, Callable[[int], Any]]] = {
    "action.arguments, bytes": ("action.arguments", lambda n: evaluate(arguments=padded(n))),
    "action.arguments, levels": (
        "action.arguments",
        lambda n: evaluate(arguments=b'{"a":' * (n - 1) + b"{}" + b"}" * (n - 1)),
    ),
    "action.arguments, digits of a number": (
        "action.arguments",
        lambda n: evaluate(arguments=b'{"a":0.' + b"1" * n + b"}"),
    ),
    "action.provenance, bytes": ("action.provenance", lambda n: evaluate(provenance=padded(n))),
    "names and ids, characters": ("action.tool_call_id", lambda n: evaluate(tool_call_id="x" * n)),
    "action.intent, characters": ("action.intent", lambda n: evaluate(intent="x" * n)),
    "action.resource, characters": ("action.resource", lambda n: evaluate(resource="x" * n)),
    "chain.hops, hops": ("chain.hops", lambda n: chain(*[nouns.Hop(agent="a")] * n)),
    "chain.hops[].grant, characters": (
        "chain.hops[0].grant",
        lambda n: chain(nouns.Hop(agent="a", grant="x" * n)),
    ),
    "purpose of a delegation, characters": ("purpose", lambda n: delegating(purpose="x" * n)),
    "task.description, characters": ("task.description", lambda n: opening(description="x" * n)),
    "task.prompt, characters": ("task.prompt", lambda n: opening(prompt="x" * n)),
    "a list of boundary, entries": (
        "boundary.tools",
        lambda n: opening(sessions.Boundary(tools=[f"t{i}" for i in range(n)])),
    ),
    "task_token, characters": (
        "task_token",
        lambda n: convert.task_token(sessions.OpenSessionRequest(task_token="x" * n)),
    ),
    "boundary.resources[].id, characters": (
        "boundary.resources[0].id",
        lambda n: opening(sessions.Boundary(resources=[sessions.ResourceRule(type="t", id="x" * n)])),
    ),
    "entities that the attribute rules of boundary.resources point to": (
        "boundary.resources",
        lambda n: opening(
            sessions.Boundary(
                resources=[
                    sessions.ResourceRule(type="t", ids=sessions.IdSet(ids=[f"i{i}" for i in range(n)])),
                    sessions.ResourceRule(
                        type="v", attribute=sessions.AttributeRule(of_type="t", attribute="v")
                    ),
                ]
            )
        ),
    ),
    "agents, tools, signals or entities of a call, entries": (
        "agents",
        lambda n: convert.agents(
            admin.PutAgentsRequest(agents=[admin.Agent(agent=f"a{i}") for i in range(n)])
        ),
    ),
    "tools[].arguments_schema, bytes": (
        "tools[0].arguments_schema",
        lambda n: tool(b'{"title":"' + b"x" * (n - 12) + b'"}'),
    ),
    "EvaluateBatch.items, entries": ("items", plan),
    "ReportOutcome.output, bytes": (
        "output",
        lambda n: convert_outcomes.report(
            decisions.ReportOutcomeRequest(
                decision_id="d", outcome=decisions.OUTCOME_EXECUTED, output=json.dumps("x" * (n - 2)).encode()
            )
        ),
    ),
    "signals[].value, bytes": ("signals[0].value", lambda n: signal(json.dumps("x" * (n - 2)).encode())),
}


def stated() -> dict[str, int]:
    rows = table(section(text_of("docs/api.md"), "Limits of a request"))
    return {what.replace("`", ""): int(limit.replace(",", "")) for what, limit in rows}


def test_every_limit_that_is_stated_is_tried() -> None:
    assert set(stated()) == set(REQUESTS)


@pytest.mark.parametrize("row", REQUESTS)
def test_what_is_as_large_as_the_limit_passes_and_more_is_refused_by_name(row: str) -> None:
    field, request = REQUESTS[row]
    limit = stated()[row]
    request(limit)
    with pytest.raises(InvalidFieldError) as refused:
        request(limit + 1)
    assert refused.value.field.startswith(field)
    assert refused.value.reason
