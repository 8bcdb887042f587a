"""What requests to the fake say, read and checked as the PDP checks them. Raises `Refused`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from placet.canonical import CanonicalError, parse_object
from placet.model import Action, Hop
from placet.testing.decisions import PlanItem
from placet.testing.script import Caller, Received
from placet.testing.services.refusals import Refused, invalid
from placet.v1 import decision_pb2 as nouns
from placet.v1 import decision_service_pb2 as decisions

# As many actions as one plan may have.
_MAX_ITEMS = 32


def read_request(
    request: decisions.EvaluateRequest, caller: Caller, time_remaining: float | None
) -> Received:
    """Return a request to Evaluate. `time_remaining`: seconds until the deadline; None: it has none."""
    if not request.HasField("action"):
        raise invalid("action", "is required")
    action = request.action
    return Received(
        caller=caller,
        action=Action(
            tool=check_name(action.tool, "action.tool"),
            arguments=read_object(action.arguments, "action.arguments"),
            tool_call_id=check_name(action.tool_call_id, "action.tool_call_id"),
            intent=action.intent,
            resource=action.resource,
            provenance=read_object(action.provenance, "action.provenance") if action.provenance else {},
        ),
        session_id=check_name(request.session_id, "session_id"),
        hops=read_hops(request.chain),
        review_id=request.review_id,
        attempt_id=request.attempt_id,
        audience=request.audience,
        time_remaining=time_remaining,
        session_token=request.session_token,
    )


def read_plan(
    request: decisions.EvaluateBatchRequest, caller: Caller, time_remaining: float | None
) -> list[PlanItem]:
    """Return the items of a plan, each as if it were asked for alone; what is refused names its item."""
    if not 1 <= len(request.items) <= _MAX_ITEMS:
        raise invalid("items", f"has {len(request.items)} entries; from 1 to {_MAX_ITEMS}")
    items: list[PlanItem] = []
    for index, item in enumerate(request.items):
        path = f"items[{index}]"
        alone = decisions.EvaluateRequest(
            action=item.action if item.HasField("action") else None,
            session_id=request.session_id,
            chain=request.chain,
            review_id=item.review_id,
            attempt_id=item.attempt_id,
            audience=request.audience,
            session_token=request.session_token,
        )
        try:
            received = read_request(alone, caller, time_remaining)
        except Refused as exc:
            if exc.field.startswith(("session_id", "chain", "audience")):
                raise
            raise Refused(exc.code, exc.reason, f"{path}.{exc.message}", f"{path}.{exc.field}") from exc
        if any(received.action.tool_call_id == other.action.tool_call_id for other, _ in items):
            raise invalid(f"{path}.action.tool_call_id", "is listed twice")
        items.append(PlanItem(received, item.action.arguments))
    return items


def read_hops(message: nouns.DelegationChain) -> tuple[Hop, ...]:
    return tuple(
        Hop(agent=check_name(hop.agent, f"chain.hops[{index}].agent"), grant=hop.grant)
        for index, hop in enumerate(message.hops)
    )


def check_name(value: str, field: str) -> str:
    """Return the value if it can name something."""
    if not value:
        raise invalid(field, "is required")
    if len(value) > 256:
        raise invalid(field, f"is {len(value)} characters long; at most 256")
    if not value.isprintable() or value != value.strip():
        raise invalid(field, "must be one line of printable characters without spaces around it")
    return value


def check_reason(value: str) -> None:
    """Refuse a reason of a write that the PDP would not keep."""
    if len(value) > 1024:
        raise invalid("reason", f"is {len(value)} characters long; at most 1024")
    if "\0" in value:
        raise invalid("reason", "contains a NUL character")


def read_object(text: bytes, field: str) -> Mapping[str, Any]:
    """Return a JSON object whose numbers are exact."""
    if not text:
        raise invalid(field, "is required: a JSON object, {} for none")
    try:
        return parse_object(text, field=field)
    except CanonicalError as exc:
        raise invalid(exc.field, exc.reason) from exc
