"""Requests: the client's values to messages, with what can be refused before sending.

Whatever takes a value also takes a mapping with the same names; an unknown name is refused,
since a misspelt boundary would not be the boundary that was meant. Everything here is pure,
and raises `InvalidRequestError` that names the field.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from placet._calls.boundary import boundary_message
from placet._calls.fields import instant, items, members, one_of, span, text
from placet._calls.jsontext import json_text, object_text
from placet._calls.toolform import add_parts
from placet._wire.numbers import (
    AMOUNT_UNIT_NUMBERS,
    OUTCOME_NUMBERS,
    REPORTABLE_OUTCOMES,
    TOOL_EFFECT_NUMBERS,
)
from placet.errors import invalid
from placet.model import (
    Action,
    Agent,
    AmountRole,
    Boundary,
    Hop,
    Outcome,
    Session,
    Signal,
    Task,
    Tool,
    ToolEffect,
)
from placet.v1 import admin_service_pb2 as admin
from placet.v1 import decision_pb2 as nouns
from placet.v1 import decision_service_pb2 as decisions
from placet.v1 import entity_service_pb2 as entities
from placet.v1 import session_service_pb2 as sessions

Chain = Iterable[Hop | str | Mapping[str, Any]]


def action(value: Action | Mapping[str, Any]) -> Action:
    """Return the action with its arguments and provenance as JSON text."""
    if isinstance(value, Action):
        given = value
    else:
        known = {"tool", "arguments", "tool_call_id", "intent", "resource", "provenance"}
        given = Action(**members(value, "action", known, required={"tool", "arguments", "tool_call_id"}))
    for name in ("tool", "tool_call_id", "intent", "resource"):
        text(getattr(given, name), f"action.{name}")
    return Action(
        tool=given.tool,
        arguments=object_text(given.arguments, "action.arguments"),
        tool_call_id=given.tool_call_id,
        intent=given.intent,
        resource=given.resource,
        provenance=object_text(given.provenance, "action.provenance") if given.provenance else b"",
    )


def session_id(value: Session | str) -> str:
    return text(value.session_id if isinstance(value, Session) else value, "session_id")


def chain(value: Chain) -> nouns.DelegationChain:
    """Hops, root first. A string is an agent without a grant."""
    if isinstance(value, str):
        raise invalid("chain", "must be a list of hops, not one string")
    hops = []
    for index, item in enumerate(value):
        path = f"chain.hops[{index}]"
        if isinstance(item, str):
            hop = Hop(agent=item)
        elif isinstance(item, Hop):
            hop = item
        else:
            hop = Hop(**members(item, path, {"agent", "grant"}, required={"agent"}))
        hops.append(nouns.Hop(agent=text(hop.agent, f"{path}.agent"), grant=text(hop.grant, f"{path}.grant")))
    return nouns.DelegationChain(hops=hops)


def evaluate(
    action: Action,
    *,
    session_id: str,
    chain: nouns.DelegationChain | None,
    review_id: str = "",
    attempt_id: str = "",
    audience: str,
) -> decisions.EvaluateRequest:
    """`action` has its arguments and provenance as text: see the function `action`."""
    assert isinstance(action.arguments, bytes)
    assert isinstance(action.provenance, bytes)
    return decisions.EvaluateRequest(
        action=nouns.Action(
            tool=action.tool,
            arguments=action.arguments,
            tool_call_id=action.tool_call_id,
            intent=action.intent,
            resource=action.resource,
            provenance=action.provenance,
        ),
        session_id=session_id,
        chain=chain,
        review_id=review_id,
        attempt_id=attempt_id,
        audience=audience,
    )


def simulate(
    asked: Action | Mapping[str, Any],
    *,
    session: Session | str,
    subject: str,
    agents: Iterable[str],
    claims: Mapping[str, Any] | bytes,
    hops: Chain,
    audience: str,
) -> decisions.SimulateRequest:
    return decisions.SimulateRequest(
        request=evaluate(
            action(asked),
            session_id=session_id(session),
            chain=chain(hops),
            audience=text(audience, "audience"),
        ),
        caller=decisions.SimulatedCaller(
            subject=text(subject, "subject"),
            agents=[text(agent, path) for path, agent in items(agents, "agents")],
            claims=object_text(claims, "claims") if claims else b"",
        ),
    )


def open_session(
    *,
    task: Task | Mapping[str, Any] | str | None,
    principal: str,
    agent: str,
    boundary: Boundary | Mapping[str, Any] | None,
    expires_in: timedelta | float | None,
    expires_at: datetime | None,
    task_token: str = "",
    principal_token: str = "",
) -> sessions.OpenSessionRequest:
    """A task token says everything; what is given beside it must say the same."""
    if not task_token:
        for name, missing in (("task", task is None), ("agent", agent == ""), ("boundary", boundary is None)):
            if missing:
                raise invalid(name, "is required")
        if not principal and not principal_token:
            raise invalid("principal", "is required")
    message = sessions.OpenSessionRequest(
        principal=text(principal, "principal"),
        agent=text(agent, "agent"),
        task_token=text(task_token, "task_token"),
        principal_token=text(principal_token, "principal_token"),
    )
    if task is not None:
        asked = _task(task)
        message.task.MergeFrom(sessions.Task(id=asked.id, description=asked.description, prompt=asked.prompt))
    if boundary is not None:
        message.boundary.CopyFrom(boundary_message(boundary))
    _set_expiry(message, expires_in, expires_at)
    return message


def delegate(
    session: Session | str,
    hops: Chain,
    *,
    to_agent: str,
    boundary: Boundary | Mapping[str, Any] | None,
    purpose: str,
    expires_in: timedelta | float | None,
    expires_at: datetime | None,
) -> sessions.DelegateRequest:
    """Without hops: from the root grant that the session came with."""
    given = chain(hops)
    if not given.hops and isinstance(session, Session) and session.grant:
        given = nouns.DelegationChain(hops=[nouns.Hop(agent=session.agent, grant=session.grant)])
    message = sessions.DelegateRequest(
        session_id=session_id(session),
        chain=given,
        to_agent=text(to_agent, "to_agent"),
        boundary=None if boundary is None else boundary_message(boundary),
        purpose=text(purpose, "purpose"),
    )
    _set_expiry(message, expires_in, expires_at)
    return message


def revoke_grant(session: Session | str, grant: str, reason: str) -> sessions.RevokeGrantRequest:
    """`grant` is the grant itself, or its hash."""
    message = sessions.RevokeGrantRequest(session_id=session_id(session), reason=text(reason, "reason"))
    if "." in text(grant, "grant"):
        message.grant = grant
    else:
        message.grant_hash = grant
    return message


def report_outcome(
    decision_id: str,
    outcome: Outcome | str,
    *,
    session: Session | str,
    tool_call_id: str,
    output: bytes,
    attempt_id: str,
) -> decisions.ReportOutcomeRequest:
    """By `decision_id`, or else by session and tool call."""
    message = decisions.ReportOutcomeRequest(
        outcome=_reported(one_of(Outcome, outcome, "outcome")),
        output=output,
        attempt_id=text(attempt_id, "attempt_id"),
    )
    if decision_id:
        message.decision_id = text(decision_id, "decision_id")
    else:
        message.session_id = session_id(session)
        message.tool_call_id = text(tool_call_id, "tool_call_id")
    return message


def _reported(outcome: Outcome) -> decisions.Outcome.ValueType:
    if outcome not in REPORTABLE_OUTCOMES.values():
        raise invalid("outcome", f"{outcome} is the server's own finding")
    return OUTCOME_NUMBERS[outcome]


def put_tenant(settings: Mapping[str, Any] | bytes, tenant: str) -> admin.PutTenantRequest:
    """An empty `tenant` is the caller's own."""
    return admin.PutTenantRequest(tenant=text(tenant, "tenant"), settings=object_text(settings, "settings"))


def put_agents(agents: Iterable[Agent | Mapping[str, Any]]) -> admin.PutAgentsRequest:
    known = {"agent", "owner", "trust", "trust_explanation", "model", "version"}
    messages = []
    for path, item in items(agents, "agents"):
        agent = item if isinstance(item, Agent) else Agent(**members(item, path, known, required={"agent"}))
        message = admin.Agent(
            agent=text(agent.agent, f"{path}.agent"),
            owner=text(agent.owner, f"{path}.owner"),
            trust_explanation=text(agent.trust_explanation, f"{path}.trust_explanation"),
            model=text(agent.model, f"{path}.model"),
            version=text(agent.version, f"{path}.version"),
        )
        if agent.trust is not None:
            message.trust = _score(agent.trust, f"{path}.trust")
        messages.append(message)
    return admin.PutAgentsRequest(agents=messages)


def put_tools(tools: Iterable[Tool | Mapping[str, Any]]) -> admin.PutToolsRequest:
    return admin.PutToolsRequest(
        tools=[_tool_message(_tool(item, path), path) for path, item in items(tools, "tools")]
    )


def put_signals(signals: Iterable[Signal | Mapping[str, Any]]) -> admin.PutSignalsRequest:
    messages = []
    for path, item in items(signals, "signals"):
        if isinstance(item, Signal):
            signal = item
        else:
            given = members(item, path, {"name", "value", "expires_at"}, required={"name", "value"})
            signal = Signal(**given)
        message = admin.Signal(
            name=text(signal.name, f"{path}.name"), value=json_text(signal.value, f"{path}.value")
        )
        if signal.expires_at is not None:
            message.expires_at.CopyFrom(instant(signal.expires_at, f"{path}.expires_at"))
        messages.append(message)
    return admin.PutSignalsRequest(signals=messages)


def put_issuer_keys(issuer: str, jwks: Mapping[str, Any] | bytes) -> admin.PutIssuerKeysRequest:
    return admin.PutIssuerKeysRequest(issuer=text(issuer, "issuer"), jwks=object_text(jwks, "jwks"))


def put_entities(values: Iterable[Mapping[str, Any]]) -> entities.PutEntitiesRequest:
    messages = []
    for path, value in items(values, "entities"):
        given = members(value, path, {"type", "id", "attributes"}, required=("type", "id"))
        messages.append(
            entities.Entity(
                name=_entity_name(given["type"], given["id"], path),
                attributes=object_text(given.get("attributes", {}), f"{path}.attributes"),
            )
        )
    return entities.PutEntitiesRequest(entities=messages)


def patch_entity(name: str, set_: Mapping[str, Any], unset: Iterable[str]) -> entities.PatchEntityRequest:
    return entities.PatchEntityRequest(
        name=entity_name(name),
        set=object_text(set_, "set") if set_ else b"",
        unset=[text(item, path) for path, item in items(unset, "unset")],
    )


def delete_entities(names: Iterable[str]) -> entities.DeleteEntitiesRequest:
    return entities.DeleteEntitiesRequest(
        names=[entity_name(item, path) for path, item in items(names, "names")]
    )


def entity_name(name: str, path: str = "name") -> entities.EntityName:
    """Read "type:id"; an id may have colons of its own."""
    kind, colon, entity_id = text(name, path).partition(":")
    if not colon:
        raise invalid(path, 'must be "type:id", for example "vendor:V-1"')
    return _entity_name(kind, entity_id, path)


def _entity_name(kind: Any, entity_id: Any, path: str) -> entities.EntityName:
    return entities.EntityName(type=text(kind, f"{path}.type"), id=text(entity_id, f"{path}.id"))


def _set_expiry(
    message: sessions.OpenSessionRequest | sessions.DelegateRequest,
    expires_in: timedelta | float | None,
    expires_at: datetime | None,
) -> None:
    if expires_in is not None and expires_at is not None:
        raise invalid("expires_at", "give expires_in or expires_at, not both")
    if expires_in is not None:
        expires_at = datetime.now(UTC) + span(expires_in, "expires_in")
    if expires_at is not None:
        message.expires_at.CopyFrom(instant(expires_at, "expires_at"))


# --- parts ---------------------------------------------------------------------


def _task(value: Task | Mapping[str, Any] | str) -> Task:
    if isinstance(value, str):
        task = Task(id=value)
    elif isinstance(value, Task):
        task = value
    else:
        task = Task(**members(value, "task", {"id", "description", "prompt"}, required={"id"}))
    for name in ("id", "description", "prompt"):
        text(getattr(task, name), f"task.{name}")
    return task


def _tool(value: Tool | Mapping[str, Any], path: str) -> Tool:
    if isinstance(value, Tool):
        return value
    given = members(value, path, {item.name for item in fields(Tool)}, required={"name", "effect"})
    amount = given.get("amount")
    if amount is not None and not isinstance(amount, AmountRole):
        names = {"argument", "unit", "currency_argument", "currency_code"}
        given["amount"] = AmountRole(**members(amount, f"{path}.amount", names, required={"argument"}))
    return Tool(**given)


def _tool_message(tool: Tool, path: str) -> admin.Tool:
    message = admin.Tool(
        name=text(tool.name, f"{path}.name"),
        effect=TOOL_EFFECT_NUMBERS[one_of(ToolEffect, tool.effect, f"{path}.effect")],
        resource=text(tool.resource, f"{path}.resource"),
        secret_arguments=[
            text(name, place) for place, name in items(tool.secret_arguments, f"{path}.secret_arguments")
        ],
        description=text(tool.description, f"{path}.description"),
    )
    if tool.arguments_schema is not None:
        message.arguments_schema = object_text(tool.arguments_schema, f"{path}.arguments_schema")
    if tool.amount is not None:
        message.amount.CopyFrom(_amount_message(tool.amount, f"{path}.amount"))
    add_parts(
        message,
        path,
        reversible=tool.reversible,
        argument_roles=tool.argument_roles,
        normalise=tool.normalise,
        entities=tool.entities,
        business_key=tool.business_key,
        prerequisites=tool.prerequisites,
        output=tool.output,
        redeem=tool.redeem,
    )
    return message


def _amount_message(amount: AmountRole, path: str) -> admin.Amount:
    if amount.unit not in AMOUNT_UNIT_NUMBERS:
        raise invalid(f"{path}.unit", "must be major or minor")
    message = admin.Amount(
        argument=text(amount.argument, f"{path}.argument"), unit=AMOUNT_UNIT_NUMBERS[amount.unit]
    )
    if amount.currency_argument is not None and amount.currency_code is not None:
        raise invalid(path, "has currency_argument and currency_code; give one")
    if amount.currency_argument is not None:
        message.currency_argument = text(amount.currency_argument, f"{path}.currency_argument")
    if amount.currency_code is not None:
        message.currency_code = text(amount.currency_code, f"{path}.currency_code")
    return message


def _score(value: Any, path: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal) or not 0 <= value <= 1:
        raise invalid(path, "must be a number from 0 to 1")
    return float(value)
