"""Every limit of a request that docs/api.md states: which RPC refuses more, and by which field.

`tests/unit/server/test_request_limits.py` holds the numbers to the code's, `tests/e2e/test_request_limits.py`
sends each as much as it takes, and one more.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from uuid import uuid4

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message

from placet.v1 import admin_service_pb2 as admin
from placet.v1 import decision_pb2 as nouns
from placet.v1 import decision_service_pb2 as decisions
from placet.v1 import entity_service_pb2 as entities
from placet.v1 import session_service_pb2 as sessions
from tests.support.markdown import section, table, text_of


@dataclass(frozen=True, kw_only=True, slots=True)
class Limit:
    """`request` makes a request with that many; `constants` are the code's names of the number."""

    rpc: str
    field: str
    request: Callable[[int], Message]
    constants: tuple[str, ...] = ()


def read_documented() -> dict[str, int]:
    """Return the numbers of the document, by row."""
    rows = table(section(text_of("docs/api.md"), "Limits of a request"))
    return {what.replace("`", ""): int(limit.replace(",", "")) for what, limit in rows}


def _evaluate(**action: Any) -> decisions.EvaluateRequest:
    members = {"tool": "t", "arguments": b"{}", "tool_call_id": uuid4().hex} | action
    return decisions.EvaluateRequest(action=nouns.Action(**members), session_id="s")


def _chain(*hops: nouns.Hop) -> decisions.EvaluateRequest:
    request = _evaluate()
    request.chain.hops.extend(hops)
    return request


def _simulate(agents: int) -> decisions.SimulateRequest:
    caller = decisions.SimulatedCaller(subject="s", agents=[f"a{number}" for number in range(agents)])
    return decisions.SimulateRequest(request=_evaluate(), caller=caller)


def _plan(items: int) -> decisions.EvaluateBatchRequest:
    actions = [_evaluate().action for _ in range(items)]
    return decisions.EvaluateBatchRequest(
        session_id="s", items=[decisions.PlannedAction(action=action) for action in actions]
    )


def _streamed(identifier: str = "1", seconds: int = 30) -> decisions.EvaluateStreamRequest:
    action = decisions.StreamedAction(id=identifier, request=_evaluate(), timeout=Duration(seconds=seconds))
    return decisions.EvaluateStreamRequest(actions=[action])


def _open(boundary: sessions.Boundary | None = None, **task: str) -> sessions.OpenSessionRequest:
    return sessions.OpenSessionRequest(
        task=sessions.Task(id=uuid4().hex, **task), principal="u", agent="a", boundary=boundary
    )


def _velocity(maximum: int = 1, seconds: int = 60, entries: int = 1) -> sessions.OpenSessionRequest:
    limit = sessions.VelocityLimit(max=maximum, window=Duration(seconds=seconds))
    return _open(sessions.Boundary(velocity=[limit] * entries))


def _amount(minor: int) -> sessions.OpenSessionRequest:
    limit = sessions.AmountLimit(currency="EUR", per_action=str(Decimal(minor).scaleb(-2)))
    return _open(sessions.Boundary(amounts=[limit]))


def _pointing(number: int) -> sessions.OpenSessionRequest:
    listed = sessions.ResourceRule(type="t", ids=sessions.IdSet(ids=[f"i{index}" for index in range(number)]))
    rule = sessions.AttributeRule(of_type="t", attribute="v")
    return _open(sessions.Boundary(resources=[listed, sessions.ResourceRule(type="v", attribute=rule)]))


def _tool(**members: Any) -> admin.PutToolsRequest:
    given = {"name": "t", "effect": sessions.TOOL_EFFECT_READ, "resource": "invoice:1"} | members
    if "arguments_schema" not in given:
        properties = {f"a{number}": {"type": "string"} for number in range(100)}
        given["arguments_schema"] = json.dumps({"type": "object", "properties": properties}).encode()
    return admin.PutToolsRequest(tools=[admin.Tool(**given)])


def _after(tools: int, **members: Any) -> admin.PutToolsRequest:
    """Return a tool with these members before so many that it may have as prerequisites: p0, p1, …"""
    request = _tool(**members)
    for number in range(tools):
        request.tools.append(_tool(name=f"p{number}").tools[0])
    return request


def _arguments(number: int) -> list[str]:
    return [f"a{index}" for index in range(number)]


def _tenant(**settings: Any) -> admin.PutTenantRequest:
    return admin.PutTenantRequest(settings=json.dumps(settings).encode())


def _budgets(number: int) -> admin.PutTenantRequest:
    budget = {"scope": "tenant", "currency": "EUR", "max": "1", "on_exceed": "block"}
    return _tenant(budgets=[budget | {"name": f"b{index}"} for index in range(number)])


def _entity(attributes: bytes = b"{}", identifier: str = "1") -> entities.PutEntitiesRequest:
    name = entities.EntityName(type="t", id=identifier)
    return entities.PutEntitiesRequest(entities=[entities.Entity(name=name, attributes=attributes)])


def _padded(size: int) -> bytes:
    """Return a JSON object of this many bytes."""
    return b'{"a":"' + b"x" * (size - 8) + b'"}'


def _nested(levels: int) -> bytes:
    return b'{"a":' * (levels - 1) + b"{}" + b"}" * (levels - 1)


def _text(size: int) -> bytes:
    """Return a JSON string of this many bytes."""
    return b'"' + b"x" * (size - 2) + b'"'


_SERVICES = {
    "Evaluate": "DecisionService",
    "EvaluateBatch": "DecisionService",
    "EvaluateStream": "DecisionService",
    "Simulate": "DecisionService",
    "ReportOutcome": "DecisionService",
    "ListOpenDecisions": "DecisionService",
    "OpenSession": "SessionService",
    "Delegate": "SessionService",
    "CloseSession": "SessionService",
    "PutEntities": "EntityService",
    "ListEntityHistory": "EntityService",
}


def _limit(rpc: str, field: str, request: Callable[[int], Message], *constants: str) -> Limit:
    service = _SERVICES.get(rpc, "AdminService")
    return Limit(rpc=f"/placet.v1.{service}/{rpc}", field=field, request=request, constants=constants)


LIMITS: Mapping[str, Limit] = {
    "action.arguments, bytes": _limit(
        "Evaluate",
        "action.arguments",
        lambda n: _evaluate(arguments=_padded(n)),
        "placet.canonical.MAX_BYTES",
    ),
    "action.arguments, levels": _limit(
        "Evaluate",
        "action.arguments",
        lambda n: _evaluate(arguments=_nested(n)),
        "placet.canonical.MAX_DEPTH",
    ),
    "action.arguments, digits of a number": _limit(
        "Evaluate",
        "action.arguments",
        lambda n: _evaluate(arguments=b'{"a":0.' + b"1" * n + b"}"),
        "placet.canonical._MAX_DIGITS",
    ),
    "action.provenance, bytes": _limit(
        "Evaluate", "action.provenance", lambda n: _evaluate(provenance=_padded(n))
    ),
    "names and ids, characters": _limit(
        "Evaluate",
        "action.tool_call_id",
        lambda n: _evaluate(tool_call_id=uuid4().hex.ljust(n, "x")),
        "pdp.names.MAX_NAME",
    ),
    "action.intent, characters": _limit(
        "Evaluate",
        "action.intent",
        lambda n: _evaluate(intent="x" * n),
        "pdp.server.messages.fields.MAX_TEXT",
    ),
    "action.resource, characters": _limit(
        "Evaluate", "action.resource", lambda n: _evaluate(resource="x" * n)
    ),
    "chain.hops, hops": _limit(
        "Evaluate",
        "chain.hops",
        lambda n: _chain(*[nouns.Hop(agent="a")] * n),
        "pdp.server.messages.chains.MAX_HOPS",
    ),
    "chain.hops[].grant, characters": _limit(
        "Evaluate",
        "chain.hops[0].grant",
        lambda n: _chain(nouns.Hop(agent="a", grant="x" * n)),
        "pdp.delegation.point.MAX_GRANT",
    ),
    "purpose of a delegation, characters": _limit(
        "Delegate",
        "purpose",
        lambda n: sessions.DelegateRequest(
            session_id="s",
            chain=nouns.DelegationChain(hops=[nouns.Hop(agent="a", grant="g")]),
            to_agent="b",
            purpose="x" * n,
        ),
        "pdp.delegation.grant.MAX_PURPOSE",
    ),
    "EvaluateBatch.items, entries": _limit(
        "EvaluateBatch", "items", _plan, "pdp.server.messages.plans.MAX_ITEMS"
    ),
    "EvaluateStream.actions[].id, characters": _limit(
        "EvaluateStream",
        "id",
        lambda n: _streamed("x" * n),
        "pdp.server.grpc.evaluate_stream._MAX_ID",
    ),
    "EvaluateStream.actions[].timeout, seconds": _limit(
        "EvaluateStream",
        "timeout",
        lambda n: _streamed(seconds=n),
        "pdp.server.grpc.deadline.LONGEST",
    ),
    "Simulate.caller.agents, entries": _limit("Simulate", "caller.agents", _simulate),
    "ReportOutcome.output, bytes": _limit(
        "ReportOutcome",
        "output",
        lambda n: decisions.ReportOutcomeRequest(
            decision_id="d", outcome=decisions.OUTCOME_EXECUTED, output=_text(n)
        ),
        "pdp.server.messages.outcomes.MAX_OUTPUT",
    ),
    "ListOpenDecisions.page_size": _limit(
        "ListOpenDecisions",
        "page_size",
        lambda n: decisions.ListOpenDecisionsRequest(page_size=n),
        "pdp.server.messages.outcomes.MAX_PAGE",
    ),
    "task.description, characters": _limit(
        "OpenSession", "task.description", lambda n: _open(description="x" * n), "pdp.names.MAX_DESCRIPTION"
    ),
    "task.prompt, characters": _limit(
        "OpenSession",
        "task.prompt",
        lambda n: _open(prompt="x" * n),
        "pdp.names.MAX_PROMPT",
    ),
    "reason of CompleteTask and CloseSession, characters": _limit(
        "CloseSession",
        "reason",
        lambda n: sessions.CloseSessionRequest(session_id="s", reason="x" * n),
    ),
    "a list of boundary, entries": _limit(
        "OpenSession",
        "boundary.tools",
        lambda n: _open(sessions.Boundary(tools=[f"t{i}" for i in range(n)])),
        "pdp.authority.boundary.MAX_RULES",
    ),
    "task_token, characters": _limit(
        "OpenSession",
        "task_token",
        lambda n: sessions.OpenSessionRequest(task_token="x" * n),
        "placet.task_token.MAX_BYTES",
    ),
    "boundary.resources[].id, characters": _limit(
        "OpenSession",
        "boundary.resources[0].id",
        lambda n: _open(sessions.Boundary(resources=[sessions.ResourceRule(type="t", id="x" * n)])),
        "pdp.names.MAX_RESOURCE_ID",
    ),
    "entities that the attribute rules of boundary.resources point to": _limit(
        "OpenSession", "boundary.resources", _pointing, "pdp.authority.boundary.MAX_LISTED"
    ),
    "boundary.max_actions": _limit(
        "OpenSession",
        "boundary.max_actions",
        lambda n: _open(sessions.Boundary(max_actions=n)),
        "pdp.authority.boundary.MAX_ACTIONS",
    ),
    "boundary.velocity, entries": _limit(
        "OpenSession",
        "boundary.velocity",
        lambda n: _velocity(entries=n),
        "pdp.authority.boundary.MAX_VELOCITY",
    ),
    "boundary.velocity[].max": _limit(
        "OpenSession", "boundary.velocity[0].max", lambda n: _velocity(maximum=n)
    ),
    "boundary.velocity[].window, seconds": _limit(
        "OpenSession",
        "boundary.velocity[0].window",
        lambda n: _velocity(seconds=n),
        "pdp.authority.counters.MAX_WINDOW",
    ),
    "an amount, minor units": _limit(
        "OpenSession", "boundary.amounts[0].per_action", _amount, "pdp.money.MAX_MINOR"
    ),
    "PutTenant.settings, bytes": _limit(
        "PutTenant",
        "settings",
        lambda n: admin.PutTenantRequest(settings=b"{" + b" " * (n - 2) + b"}"),
    ),
    "settings.budgets, entries": _limit(
        "PutTenant", "settings.budgets", _budgets, "pdp.authority.settings._MAX_BUDGETS"
    ),
    "settings.allow_ttl_seconds": _limit(
        "PutTenant",
        "settings.allow_ttl_seconds",
        lambda n: _tenant(allow_ttl_seconds=n),
        "pdp.authority.settings._MAX_ALLOW_TTL",
    ),
    "agents, tools, signals or entities of a call, entries": _limit(
        "PutAgents",
        "agents",
        lambda n: admin.PutAgentsRequest(agents=[admin.Agent(agent=f"a{i}") for i in range(n)]),
        "pdp.server.messages.fields.MAX_ITEMS",
    ),
    "posted of a call, entries": _limit(
        "PutEntities",
        "entities[0].posted",
        lambda n: entities.PutEntitiesRequest(
            entities=[
                entities.Entity(
                    name=entities.EntityName(type="t", id="1"),
                    attributes=b"{}",
                    posted=[entities.Posting(decision_id=f"d{i}", amount="1") for i in range(n)],
                )
            ]
        ),
        "pdp.server.messages.entities.MAX_POSTED",
    ),
    "reason of an operator's write, characters": _limit(
        "PutTenant",
        "reason",
        lambda n: admin.PutTenantRequest(settings=b"{}", reason="x" * n),
        "pdp.server.messages.attribution.MAX_REASON",
    ),
    "agents[].trust_explanation, characters": _limit(
        "PutAgents",
        "agents[0].trust_explanation",
        lambda n: admin.PutAgentsRequest(agents=[admin.Agent(agent="a", trust_explanation="x" * n)]),
    ),
    "signals[].value, bytes": _limit(
        "PutSignals",
        "signals[0].value",
        lambda n: admin.PutSignalsRequest(signals=[admin.Signal(name="s", value=_text(n))]),
        "pdp.server.messages.control_plane.MAX_SIGNAL",
    ),
    "tools[].description, characters": _limit(
        "PutTools", "tools[0].description", lambda n: _tool(description="x" * n)
    ),
    "tools[].resource, characters after the type": _limit(
        "PutTools", "tools[0].resource", lambda n: _tool(resource="invoice:" + "x" * n)
    ),
    "tools[].arguments_schema, bytes": _limit(
        "PutTools",
        "tools[0].arguments_schema",
        lambda n: _tool(arguments_schema=b'{"title":"' + b"x" * (n - 12) + b'"}'),
        "pdp.server.messages.tools.MAX_SCHEMA",
    ),
    "tools[].secret_arguments, entries": _limit(
        "PutTools",
        "tools[0].secret_arguments",
        lambda n: _tool(secret_arguments=_arguments(n)),
        "pdp.server.messages.tools.MAX_ARGUMENTS",
    ),
    "tools[].secret_arguments[], names and lists that it leads through": _limit(
        "PutTools",
        "tools[0].secret_arguments[0]",
        lambda n: _tool(
            secret_arguments=[".".join(["a"] * (n + 1))],
            arguments_schema=b'{"properties":{"a":{"$ref":"#"}}}',
        ),
        "pdp.action.secrets.MAX_STEPS",
    ),
    "tools[].normalise, entries": _limit(
        "PutTools",
        "tools[0].normalise",
        lambda n: _tool(
            normalise=[
                admin.Normalisation(argument=argument, steps=[admin.NORMALISATION_STEP_TRIM])
                for argument in _arguments(n)
            ]
        ),
        "pdp.server.messages.tools.MAX_ARGUMENTS",
    ),
    "tools[].normalise[].steps, entries": _limit(
        "PutTools",
        "tools[0].normalise[0].steps",
        lambda n: _tool(
            normalise=[admin.Normalisation(argument="a0", steps=[admin.NORMALISATION_STEP_TRIM] * n)]
        ),
        "pdp.server.messages.tools.MAX_STEPS",
    ),
    "tools[].entities, entries": _limit(
        "PutTools",
        "tools[0].entities",
        lambda n: _tool(
            entities=[admin.EntityRef(name=f"e{i}", type="vendor", id=f"{{a{i}}}") for i in range(n)]
        ),
        "pdp.server.messages.tools.MAX_ENTITIES",
    ),
    "tools[].entities[].id, characters": _limit(
        "PutTools",
        "tools[0].entities[0].id",
        lambda n: _tool(entities=[admin.EntityRef(name="e", type="vendor", id="{a0}".ljust(n, "x"))]),
    ),
    "tools[].business_key.arguments, entries": _limit(
        "PutTools",
        "tools[0].business_key.arguments",
        lambda n: _tool(business_key=admin.BusinessKey(arguments=_arguments(n))),
        "pdp.server.messages.tools.MAX_KEY_ARGUMENTS",
    ),
    "tools[].prerequisites, entries": _limit(
        "PutTools",
        "tools[0].prerequisites",
        lambda n: _after(n, prerequisites=[admin.Prerequisite(tool=f"p{i}", same=["a0"]) for i in range(n)]),
        "pdp.server.messages.tools.MAX_PREREQUISITES",
    ),
    "tools[].prerequisites[].same, entries": _limit(
        "PutTools",
        "tools[0].prerequisites[0].same",
        lambda n: _after(1, prerequisites=[admin.Prerequisite(tool="p0", same=_arguments(n))]),
    ),
    "tools[].output.fields, entries": _limit(
        "PutTools",
        "tools[0].output.fields",
        lambda n: _tool(
            output=admin.Output(
                format=admin.OUTPUT_FORMAT_JSON,
                fields=[admin.OutputField(name=f"f{i}") for i in range(n)],
            )
        ),
        "pdp.server.messages.tools.MAX_FIELDS",
    ),
    "ListTools.limit": _limit("ListTools", "limit", lambda n: admin.ListToolsRequest(limit=n)),
    "GetChange.limit": _limit(
        "GetChange",
        "limit",
        lambda n: admin.GetChangeRequest(kind=admin.CONTROL_KIND_AGENTS, revision=1, limit=n),
    ),
    "ListAgents.limit": _limit("ListAgents", "limit", lambda n: admin.ListAgentsRequest(limit=n)),
    "ListSignals.limit": _limit("ListSignals", "limit", lambda n: admin.ListSignalsRequest(limit=n)),
    "ListChanges.limit": _limit(
        "ListChanges",
        "limit",
        lambda n: admin.ListChangesRequest(kind=admin.CONTROL_KIND_AGENTS, limit=n),
    ),
    "ListToolHistory.limit": _limit(
        "ListToolHistory", "limit", lambda n: admin.ListToolHistoryRequest(limit=n)
    ),
    "entities[].name.id, characters": _limit(
        "PutEntities", "entities[0].name.id", lambda n: _entity(identifier="x" * n)
    ),
    "entities[].attributes, bytes": _limit(
        "PutEntities",
        "entities[0].attributes",
        lambda n: _entity(_padded(n)),
        "pdp.server.messages.entities.MAX_ATTRIBUTES",
    ),
    "entities[].attributes, levels": _limit(
        "PutEntities",
        "entities[0].attributes",
        lambda n: _entity(_nested(n)),
        "pdp.server.messages.entities.MAX_DEPTH",
    ),
    "ListEntityHistory.limit": _limit(
        "ListEntityHistory",
        "limit",
        lambda n: entities.ListEntityHistoryRequest(name=entities.EntityName(type="t", id="1"), limit=n),
    ),
}
