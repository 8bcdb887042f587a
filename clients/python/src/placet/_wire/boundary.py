"""The two written forms of a boundary: the message of the API, and the JSON of tokens, grants and tables.

    {"tools": ["payments.create"], "effects": ["read"],
     "resources": [{"type": "invoice", "id": "INV-1001"}, {"type": "vendor", "prefix": "V-"},
                   {"type": "order", "ids": ["PO-1", "PO-2"]},
                   {"type": "vendor", "attribute": {"of_type": "invoice", "attribute": "vendor"}}],
     "amounts": [{"currency": "EUR", "per_action": "5000.00", "total": "8000.00",
                  "per_counterparty": "5000.00", "on_exceed": "escalate"}],
     "max_actions": 100,
     "velocity": [{"effects": ["pay"], "max": 5, "window_seconds": 60, "on_exceed": "block"}],
     "after_completion": ["report.create"]}

Client and server each have a `Boundary` of their own, since the client's window is a timedelta and the
server's boundary keeps its hash; both are written here. Nothing here checks names, sums or numbers of rules:
the server's `parse_boundary` does, and what it refuses no caller can get past.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from decimal import Decimal
from typing import Any, Protocol

from google.protobuf.duration_pb2 import Duration

from placet._wire.numbers import ON_EXCEED, ON_EXCEED_NUMBERS, TOOL_EFFECT_NUMBERS, TOOL_EFFECTS
from placet.model import (
    AmountLimit,
    AttributeRule,
    Boundary,
    OnExceed,
    ResourceRule,
    ToolEffect,
    VelocityLimit,
)
from placet.v1 import session_service_pb2 as sessions


class BoundaryError(ValueError):
    """A message says something that has no JSON form. `field` is the path of what is wrong."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field} {reason}")
        self.field = field
        self.reason = reason


class VelocityValue(Protocol):
    """A velocity limit as both sides have it."""

    @property
    def effects(self) -> Sequence[ToolEffect]: ...
    @property
    def max(self) -> int: ...
    @property
    def window_seconds(self) -> int: ...
    @property
    def on_exceed(self) -> OnExceed: ...


class BoundaryValue(Protocol):
    """A boundary as both sides have it."""

    @property
    def tools(self) -> Sequence[str]: ...
    @property
    def effects(self) -> Sequence[ToolEffect]: ...
    @property
    def resources(self) -> Sequence[ResourceRule]: ...
    @property
    def amounts(self) -> Sequence[AmountLimit]: ...
    @property
    def after_completion(self) -> Sequence[str]: ...
    @property
    def max_actions(self) -> int | None: ...
    @property
    def velocity(self) -> Sequence[VelocityValue]: ...


# --- JSON ----------------------------------------------------------------------


def boundary_json(boundary: BoundaryValue) -> dict[str, Any]:
    """Return the JSON form; `read_boundary` is its inverse. Grants sign it, so its bytes never change."""
    return {
        "tools": list(boundary.tools),
        "effects": [effect.value for effect in boundary.effects],
        "resources": [resource_json(rule) for rule in boundary.resources],
        "amounts": [_amount_json(limit) for limit in boundary.amounts],
        "after_completion": list(boundary.after_completion),
        **counts_json(boundary),
    }


def resource_json(rule: ResourceRule) -> dict[str, Any]:
    """Return the JSON form of one resource rule."""
    if rule.id is not None:
        return {"type": rule.type, "id": rule.id}
    if rule.ids is not None:
        return {"type": rule.type, "ids": list(rule.ids)}
    if rule.attribute is not None:
        of = {"of_type": rule.attribute.of_type, "attribute": rule.attribute.attribute}
        return {"type": rule.type, "attribute": of}
    return {"type": rule.type, "prefix": rule.prefix}


def counts_json(boundary: BoundaryValue) -> dict[str, Any]:
    """Return the members of the JSON form that limit how many actions; a limit that is not set has none."""
    result: dict[str, Any] = {}
    if boundary.max_actions is not None:
        result["max_actions"] = boundary.max_actions
    if boundary.velocity:
        result["velocity"] = [
            {
                "effects": sorted(effect.value for effect in limit.effects),
                "max": limit.max,
                "window_seconds": limit.window_seconds,
                "on_exceed": limit.on_exceed.value,
            }
            for limit in boundary.velocity
        ]
    return result


def _amount_json(limit: AmountLimit) -> dict[str, str]:
    result = {"currency": limit.currency, "per_action": str(limit.per_action)}
    if limit.total is not None:
        result["total"] = str(limit.total)
    if limit.per_counterparty is not None:
        result["per_counterparty"] = str(limit.per_counterparty)
    if limit.on_exceed != OnExceed.BLOCK:
        result["on_exceed"] = limit.on_exceed.value
    return result


def read_boundary(form: Mapping[str, Any]) -> Boundary:
    """Return the boundary of a form that `boundary_json` or `message_json` wrote.

    Raises `decimal.InvalidOperation` for an amount that is no decimal number, and `OverflowError` for a
    window that is longer than a timedelta.
    """
    return Boundary(
        tools=tuple(form["tools"]),
        effects=tuple(ToolEffect(effect) for effect in form["effects"]),
        resources=tuple(
            ResourceRule(
                type=rule["type"],
                id=rule.get("id"),
                prefix=rule.get("prefix"),
                ids=tuple(rule["ids"]) if "ids" in rule else None,
                attribute=AttributeRule(**rule["attribute"]) if "attribute" in rule else None,
            )
            for rule in form["resources"]
        ),
        amounts=tuple(
            AmountLimit(
                currency=limit["currency"],
                per_action=Decimal(limit["per_action"]),
                total=Decimal(limit["total"]) if "total" in limit else None,
                per_counterparty=Decimal(limit["per_counterparty"]) if "per_counterparty" in limit else None,
                on_exceed=OnExceed(limit.get("on_exceed", "block")),
            )
            for limit in form["amounts"]
        ),
        after_completion=tuple(form.get("after_completion", ())),
        max_actions=form.get("max_actions"),
        velocity=tuple(
            VelocityLimit(
                effects=tuple(ToolEffect(effect) for effect in limit["effects"]),
                max=limit["max"],
                window=timedelta(seconds=limit["window_seconds"]),
                on_exceed=OnExceed(limit["on_exceed"]),
            )
            for limit in form.get("velocity", ())
        ),
    )


# --- messages ------------------------------------------------------------------


def boundary_message(boundary: BoundaryValue) -> sessions.Boundary:
    """Return the message; `message_json` reads it."""
    return sessions.Boundary(
        tools=boundary.tools,
        effects=[TOOL_EFFECT_NUMBERS[effect] for effect in boundary.effects],
        resources=[_resource_message(rule) for rule in boundary.resources],
        amounts=[
            sessions.AmountLimit(
                currency=limit.currency,
                per_action=format(limit.per_action, "f"),
                total=None if limit.total is None else format(limit.total, "f"),
                per_counterparty=None
                if limit.per_counterparty is None
                else format(limit.per_counterparty, "f"),
                on_exceed=ON_EXCEED_NUMBERS[limit.on_exceed],
            )
            for limit in boundary.amounts
        ],
        after_completion=boundary.after_completion,
        max_actions=boundary.max_actions,
        velocity=[
            sessions.VelocityLimit(
                effects=[TOOL_EFFECT_NUMBERS[effect] for effect in limit.effects],
                max=limit.max,
                window=Duration(seconds=limit.window_seconds),
                on_exceed=ON_EXCEED_NUMBERS[limit.on_exceed],
            )
            for limit in boundary.velocity
        ],
    )


def _resource_message(rule: ResourceRule) -> sessions.ResourceRule:
    if rule.id is not None:
        return sessions.ResourceRule(type=rule.type, id=rule.id)
    if rule.ids is not None:
        return sessions.ResourceRule(type=rule.type, ids=sessions.IdSet(ids=rule.ids))
    if rule.attribute is not None:
        of = sessions.AttributeRule(of_type=rule.attribute.of_type, attribute=rule.attribute.attribute)
        return sessions.ResourceRule(type=rule.type, attribute=of)
    return sessions.ResourceRule(type=rule.type, prefix=rule.prefix or "")


def message_json(message: sessions.Boundary, path: str = "boundary") -> dict[str, Any]:
    """Return the JSON form of a message, whoever sent it.

    Each limit says its `on_exceed`, as task tokens do. Raises `BoundaryError` for what has no JSON form,
    with its path below `path`.
    """
    result: dict[str, Any] = {
        "tools": list(message.tools),
        "effects": _effects(message.effects, f"{path}.effects"),
        "resources": [
            _resource_from_message(rule, f"{path}.resources[{i}]") for i, rule in enumerate(message.resources)
        ],
        "amounts": [
            _amount_from_message(limit, f"{path}.amounts[{i}]") for i, limit in enumerate(message.amounts)
        ],
        "after_completion": list(message.after_completion),
        "velocity": [
            _velocity_from_message(limit, f"{path}.velocity[{i}]") for i, limit in enumerate(message.velocity)
        ],
    }
    if message.HasField("max_actions"):
        result["max_actions"] = message.max_actions
    return result


def _resource_from_message(message: sessions.ResourceRule, path: str) -> dict[str, Any]:
    match message.WhichOneof("match"):
        case "id":
            return {"type": message.type, "id": message.id}
        case "prefix":
            return {"type": message.type, "prefix": message.prefix}
        case "ids":
            return {"type": message.type, "ids": list(message.ids.ids)}
        case "attribute":
            of = {"of_type": message.attribute.of_type, "attribute": message.attribute.attribute}
            return {"type": message.type, "attribute": of}
        case _:
            raise BoundaryError(path, "needs id, prefix, ids or attribute")


def _amount_from_message(message: sessions.AmountLimit, path: str) -> dict[str, str]:
    result = {
        "currency": message.currency,
        "per_action": message.per_action,
        "on_exceed": _on_exceed(message.on_exceed, f"{path}.on_exceed"),
    }
    if message.HasField("total"):
        result["total"] = message.total
    if message.HasField("per_counterparty"):
        result["per_counterparty"] = message.per_counterparty
    return result


def _velocity_from_message(message: sessions.VelocityLimit, path: str) -> dict[str, Any]:
    if message.window.nanos:
        raise BoundaryError(f"{path}.window", "must be whole seconds")
    return {
        "effects": _effects(message.effects, f"{path}.effects"),
        "max": message.max,
        "window_seconds": message.window.seconds,
        "on_exceed": _on_exceed(message.on_exceed, f"{path}.on_exceed"),
    }


def _effects(numbers: Sequence[int], path: str) -> list[str]:
    for index, number in enumerate(numbers):
        if number not in TOOL_EFFECTS:
            raise BoundaryError(f"{path}[{index}]", "must be one of the known effects")
    return [TOOL_EFFECTS[number].value for number in numbers]


def _on_exceed(number: int, path: str) -> str:
    if number == sessions.ON_EXCEED_UNSPECIFIED:
        return OnExceed.BLOCK.value
    if number not in ON_EXCEED:
        raise BoundaryError(path, "must be one of the known consequences")
    return ON_EXCEED[number].value
