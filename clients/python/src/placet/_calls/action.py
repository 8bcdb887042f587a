"""What an evaluation is about, checked before it is sent: an action, its session, the chain that acts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from placet._calls.fields import members, text
from placet._calls.jsontext import object_text
from placet.errors import invalid
from placet.model import Action, Hop, Session
from placet.v1 import decision_pb2 as nouns
from placet.v1 import decision_service_pb2 as messages

# A chain as callers give it, root first; a string is an agent without a grant.
Hops = Iterable[Hop | str | Mapping[str, Any]]


def checked_action(value: Action | Mapping[str, Any]) -> Action:
    """Return the action with its arguments and provenance as JSON text."""
    if isinstance(value, Action):
        given = value
    else:
        known = {"tool", "arguments", "tool_call_id", "intent", "resource", "provenance"}
        given = Action(**members(value, "action", known, required=("tool", "arguments", "tool_call_id")))
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


def session_id_of(value: Session | str) -> str:
    return text(value.session_id if isinstance(value, Session) else value, "session_id")


def session_token_of(value: Session | str) -> str:
    """Return the token that a session carries; empty for a session's id."""
    return text(value.token, "session_token") if isinstance(value, Session) else ""


def chain_message(value: Hops) -> nouns.DelegationChain:
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
            hop = Hop(**members(item, path, ("agent", "grant"), required=("agent",)))
        hops.append(nouns.Hop(agent=text(hop.agent, f"{path}.agent"), grant=text(hop.grant, f"{path}.grant")))
    return nouns.DelegationChain(hops=hops)


def evaluate_request(
    action: Action,
    *,
    session_id: str,
    chain: nouns.DelegationChain | None,
    review_id: str = "",
    attempt_id: str = "",
    audience: str,
    session_token: str = "",
) -> messages.EvaluateRequest:
    """Return the request for an action that has its arguments and provenance as text."""
    assert isinstance(action.arguments, bytes)
    assert isinstance(action.provenance, bytes)
    return messages.EvaluateRequest(
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
        session_token=session_token,
    )
