"""Boundaries: what a task may need, read from the JSON form that `placet._wire.boundary` shows.

Every member may be absent, and what is absent permits nothing; an absent limit of totals,
counts or velocity limits nothing. Amounts are decimal text in major units. An attribute rule
permits the ids that stand in that attribute of the entities that the boundary's own rules list.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from functools import lru_cache
from typing import Any

from pdp.authority.counters import MAX_WINDOW
from pdp.errors import InvalidFieldError
from pdp.model import (
    JSON,
    AmountLimit,
    AttributeRule,
    Boundary,
    EntityName,
    OnExceed,
    ResourceRule,
    ToolEffect,
    VelocityLimit,
)
from pdp.money import AmountError, decimal_text, major_to_minor, minor_digits, minor_to_major
from pdp.names import MAX_NAME, MAX_RESOURCE_ID, name, text, unique
from placet._wire import boundary as written
from placet._wire.boundary import counts_json, resource_json

MAX_RULES = 1_000
MAX_VELOCITY = 8
# So many entities a boundary's attribute rules may point to.
MAX_LISTED = 256
MAX_ACTIONS = 2**53 - 1
_MEMBERS = frozenset(
    {"tools", "effects", "resources", "amounts", "after_completion", "max_actions", "velocity"}
)


def parse_boundary(value: JSON, path: str) -> Boundary:
    """Return the boundary of a JSON form. Raises `InvalidFieldError` with the path of what is wrong."""
    members = _object(value, path, _MEMBERS)
    amounts = [_amount(item, at) for item, at in _items(members, "amounts", path)]
    unique([limit.currency for limit in amounts], f"{path}.amounts", "currency")
    velocity = _items(members, "velocity", path)
    if len(velocity) > MAX_VELOCITY:
        raise InvalidFieldError(f"{path}.velocity", f"has more than {MAX_VELOCITY} entries")
    max_actions = members.get("max_actions")
    boundary = Boundary(
        tools=tuple(_name(item, at) for item, at in _items(members, "tools", path)),
        effects=tuple(_effect(item, at) for item, at in _items(members, "effects", path)),
        resources=tuple(_resource(item, at) for item, at in _items(members, "resources", path)),
        amounts=tuple(amounts),
        after_completion=tuple(_name(item, at) for item, at in _items(members, "after_completion", path)),
        max_actions=None
        if max_actions is None
        else _whole(max_actions, f"{path}.max_actions", 0, MAX_ACTIONS),
        velocity=tuple(_velocity(item, at) for item, at in velocity),
    )
    pointed_to = {
        entity
        for rule in boundary.resources
        if rule.attribute is not None
        for entity in listed_entities(boundary, rule.attribute.of_type)
    }
    if len(pointed_to) > MAX_LISTED:
        raise InvalidFieldError(
            f"{path}.resources",
            f"has attribute rules on {len(pointed_to)} listed entities; at most {MAX_LISTED}",
        )
    return boundary


def listed_entities(boundary: Boundary, of_type: str) -> tuple[EntityName, ...]:
    """Return the entities of a type that the boundary names one by one, each once."""
    ids = [
        one
        for rule in boundary.resources
        if rule.type == of_type
        for one in (rule.ids or ((rule.id,) if rule.id is not None else ()))
    ]
    return tuple(EntityName(type=of_type, id=one) for one in dict.fromkeys(ids))


@lru_cache(maxsize=1024)
def intern_boundary(boundary: Boundary) -> Boundary:
    """Return one object for equal boundaries, which are then compared at a glance."""
    return boundary


def read_boundary(form: Mapping[str, Any]) -> Boundary:
    """Return a boundary from the JSON form that the server itself has written, without checking it again."""
    read = written.read_boundary(form)
    return Boundary(
        tools=read.tools,
        effects=read.effects,
        resources=read.resources,
        amounts=read.amounts,
        after_completion=read.after_completion,
        max_actions=read.max_actions,
        velocity=tuple(
            VelocityLimit(
                effects=limit.effects,
                max=limit.max,
                window_seconds=limit.window_seconds,
                on_exceed=limit.on_exceed,
            )
            for limit in read.velocity
        ),
    )


def boundary_document(boundary: Boundary) -> dict[str, Any]:
    """Return a boundary as JSON: what policy reads, and what `scope_digest` in a receipt is the hash of.

    Amounts are integers in minor units.
    """
    return {
        "tools": sorted(boundary.tools),
        "effects": sorted(boundary.effects),
        "resources": [resource_json(rule) for rule in boundary.resources],
        "amounts": {limit.currency: _amount_document(limit) for limit in boundary.amounts},
        "after_completion": sorted(boundary.after_completion),
        **counts_json(boundary),
    }


@lru_cache(maxsize=1024)
def without_counts(boundary: Boundary) -> Boundary:
    """Return what the boundary permits of one action, whatever was done before it."""
    return replace(
        boundary,
        amounts=tuple(
            AmountLimit(currency=limit.currency, per_action=limit.per_action) for limit in boundary.amounts
        ),
        max_actions=None,
        velocity=(),
    )


def _amount_document(limit: AmountLimit) -> dict[str, Any]:
    digits = minor_digits(limit.currency) or 0
    result: dict[str, Any] = {"per_action_minor": major_to_minor(limit.per_action, digits)}
    if limit.total is not None:
        result["total_minor"] = major_to_minor(limit.total, digits)
    if limit.per_counterparty is not None:
        result["per_counterparty_minor"] = major_to_minor(limit.per_counterparty, digits)
    if limit.on_exceed != OnExceed.BLOCK:
        result["on_exceed"] = limit.on_exceed.value
    return result


def _resource(value: JSON, path: str) -> ResourceRule:
    members = _object(value, path, {"type", "id", "prefix", "ids", "attribute"})
    kind = _name(members.get("type", ""), f"{path}.type")
    match sorted(set(members) - {"type"}):
        case ["id"]:
            return ResourceRule(type=kind, id=_name(members["id"], f"{path}.id", most=MAX_RESOURCE_ID))
        case ["prefix"]:
            prefix = _string(members["prefix"], f"{path}.prefix")
            return ResourceRule(type=kind, prefix=text(prefix, f"{path}.prefix", MAX_RESOURCE_ID))
        case ["ids"]:
            ids = tuple(_name(item, at, most=MAX_RESOURCE_ID) for item, at in _items(members, "ids", path))
            if not ids:
                raise InvalidFieldError(f"{path}.ids", "names no id")
            return ResourceRule(type=kind, ids=ids)
        case ["attribute"]:
            return ResourceRule(type=kind, attribute=_attribute(members["attribute"], f"{path}.attribute"))
        case _:
            raise InvalidFieldError(path, "needs exactly one of id, prefix, ids and attribute")


def _attribute(value: JSON, path: str) -> AttributeRule:
    members = _object(value, path, {"of_type", "attribute"})
    return AttributeRule(
        of_type=_name(members.get("of_type", ""), f"{path}.of_type"),
        attribute=_name(members.get("attribute", ""), f"{path}.attribute"),
    )


def _amount(value: JSON, path: str) -> AmountLimit:
    members = _object(value, path, {"currency", "per_action", "total", "per_counterparty", "on_exceed"})
    currency = _string(members.get("currency", ""), f"{path}.currency")
    digits = minor_digits(currency)
    if digits is None:
        raise InvalidFieldError(f"{path}.currency", "is no ISO 4217 currency")
    return AmountLimit(
        currency=currency,
        per_action=_major(members.get("per_action", ""), digits, f"{path}.per_action"),
        total=_major(members["total"], digits, f"{path}.total") if "total" in members else None,
        per_counterparty=_major(members["per_counterparty"], digits, f"{path}.per_counterparty")
        if "per_counterparty" in members
        else None,
        on_exceed=parse_on_exceed(members.get("on_exceed", OnExceed.BLOCK.value), f"{path}.on_exceed"),
    )


def _major(value: JSON, digits: int, path: str) -> Decimal:
    try:
        minor = major_to_minor(decimal_text(_string(value, path)), digits)
    except (ValueError, AmountError) as exc:
        raise InvalidFieldError(
            path, f"must be decimal text of {digits} decimals at most, not negative"
        ) from exc
    return Decimal(minor_to_major(minor, digits))


def _velocity(value: JSON, path: str) -> VelocityLimit:
    members = _object(value, path, {"effects", "max", "window_seconds", "on_exceed"})
    effects = {_effect(item, at) for item, at in _items(members, "effects", path)}
    return VelocityLimit(
        effects=tuple(sorted(effects)),
        max=_whole(members.get("max"), f"{path}.max", 0, 1_000_000),
        window_seconds=_whole(members.get("window_seconds"), f"{path}.window_seconds", 1, MAX_WINDOW),
        on_exceed=parse_on_exceed(members.get("on_exceed", OnExceed.BLOCK.value), f"{path}.on_exceed"),
    )


def parse_on_exceed(value: JSON, path: str) -> OnExceed:
    """Read what happens beyond a limit. Raises `InvalidFieldError` at `path` for another word."""
    if value not in ("block", "escalate"):
        raise InvalidFieldError(path, "must be block or escalate")
    return OnExceed(str(value))


def _whole(value: JSON, path: str, low: int, high: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise InvalidFieldError(path, f"must be a whole number from {low} to {high}")
    return value


def _effect(value: JSON, path: str) -> ToolEffect:
    try:
        return ToolEffect(_string(value, path))
    except ValueError as exc:
        raise InvalidFieldError(path, "must be one of the known effects") from exc


def _object(value: JSON, path: str, known: frozenset[str] | set[str]) -> Mapping[str, JSON]:
    if not isinstance(value, Mapping):
        raise InvalidFieldError(path, "must be an object")
    for member in value:
        if member not in known:
            raise InvalidFieldError(f"{path}.{member}", f"is unknown; known: {', '.join(sorted(known))}")
    return value


def _items(members: Mapping[str, JSON], member: str, path: str) -> list[tuple[JSON, str]]:
    items = members.get(member, ())
    at = f"{path}.{member}"
    if isinstance(items, str) or not isinstance(items, Sequence):
        raise InvalidFieldError(at, "must be a list")
    if len(items) > MAX_RULES:
        raise InvalidFieldError(at, f"has more than {MAX_RULES} entries")
    return [(item, f"{at}[{index}]") for index, item in enumerate(items)]


def _name(value: JSON, path: str, *, most: int = MAX_NAME) -> str:
    return name(_string(value, path), path, most=most)


def _string(value: JSON, path: str) -> str:
    if not isinstance(value, str):
        raise InvalidFieldError(path, "must be text")
    return value
