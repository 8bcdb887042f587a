"""Boundaries: what a task may need. One JSON form for messages, settings, tokens and tables.

    {"tools": ["payments.create"], "effects": ["read"],
     "resources": [{"type": "invoice", "id": "INV-1001"}, {"type": "vendor", "prefix": "V-"},
                   {"type": "order", "ids": ["PO-1", "PO-2"]}],
     "amounts": [{"currency": "EUR", "per_action": "5000.00"}],
     "after_completion": ["report.create"]}

Every member may be absent, and what is absent permits nothing. Amounts are decimal text in
major units.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from pdp.errors import InvalidFieldError
from pdp.model import JSON, AmountLimit, Boundary, ResourceRule, ToolEffect
from pdp.money import AmountError, decimal_text, major_to_minor, minor_digits, minor_to_major
from pdp.names import name, text, unique

MAX_RULES = 1_000
MAX_RESOURCE_ID = 512
_MEMBERS = frozenset({"tools", "effects", "resources", "amounts", "after_completion"})


def parse_boundary(value: JSON, path: str) -> Boundary:
    """Check the JSON form. Raises `InvalidFieldError` with the path of what is wrong."""
    members = _object(value, path, _MEMBERS)
    amounts = [_amount(item, at) for item, at in _items(members, "amounts", path)]
    unique([limit.currency for limit in amounts], f"{path}.amounts", "currency")
    return Boundary(
        tools=tuple(_name(item, at) for item, at in _items(members, "tools", path)),
        effects=tuple(_effect(item, at) for item, at in _items(members, "effects", path)),
        resources=tuple(_resource(item, at) for item, at in _items(members, "resources", path)),
        amounts=tuple(amounts),
        after_completion=tuple(_name(item, at) for item, at in _items(members, "after_completion", path)),
    )


def boundary_json(boundary: Boundary) -> dict[str, Any]:
    """Return the JSON form; `read_boundary` and `parse_boundary` are its inverses."""
    return {
        "tools": list(boundary.tools),
        "effects": [effect.value for effect in boundary.effects],
        "resources": [_resource_json(rule) for rule in boundary.resources],
        "amounts": [
            {"currency": limit.currency, "per_action": str(limit.per_action)} for limit in boundary.amounts
        ],
        "after_completion": list(boundary.after_completion),
    }


def read_boundary(stored: Mapping[str, Any]) -> Boundary:
    """Return a boundary from the form that `boundary_json` wrote, without checking it again."""
    return Boundary(
        tools=tuple(stored["tools"]),
        effects=tuple(ToolEffect(effect) for effect in stored["effects"]),
        resources=tuple(
            ResourceRule(
                type=rule["type"],
                id=rule.get("id"),
                prefix=rule.get("prefix"),
                ids=tuple(rule["ids"]) if "ids" in rule else None,
            )
            for rule in stored["resources"]
        ),
        amounts=tuple(
            AmountLimit(currency=limit["currency"], per_action=Decimal(limit["per_action"]))
            for limit in stored["amounts"]
        ),
        after_completion=tuple(stored.get("after_completion", ())),
    )


def boundary_document(boundary: Boundary) -> dict[str, Any]:
    """Return a boundary as rules see it; also what a receipt's `scope_digest` is of.

    Amounts are integers in minor units.
    """
    return {
        "tools": sorted(boundary.tools),
        "effects": sorted(boundary.effects),
        "resources": [_resource_json(rule) for rule in boundary.resources],
        "amounts": {
            limit.currency: {
                "per_action_minor": major_to_minor(limit.per_action, minor_digits(limit.currency) or 0)
            }
            for limit in boundary.amounts
        },
        "after_completion": sorted(boundary.after_completion),
    }


def _resource_json(rule: ResourceRule) -> dict[str, Any]:
    if rule.id is not None:
        return {"type": rule.type, "id": rule.id}
    if rule.ids is not None:
        return {"type": rule.type, "ids": list(rule.ids)}
    return {"type": rule.type, "prefix": rule.prefix}


def _resource(value: JSON, path: str) -> ResourceRule:
    members = _object(value, path, {"type", "id", "prefix", "ids"})
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
        case _:
            raise InvalidFieldError(path, "needs exactly one of id, prefix and ids")


def _amount(value: JSON, path: str) -> AmountLimit:
    members = _object(value, path, {"currency", "per_action"})
    currency = _string(members.get("currency", ""), f"{path}.currency")
    digits = minor_digits(currency)
    if digits is None:
        raise InvalidFieldError(f"{path}.currency", "is no ISO 4217 currency")
    given = _string(members.get("per_action", ""), f"{path}.per_action")
    try:
        minor = major_to_minor(decimal_text(given), digits)
    except (ValueError, AmountError) as exc:
        raise InvalidFieldError(
            f"{path}.per_action", f"must be decimal text of {digits} decimals at most, not negative"
        ) from exc
    return AmountLimit(currency=currency, per_action=Decimal(minor_to_major(minor, digits)))


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


def _name(value: JSON, path: str, *, most: int = 256) -> str:
    return name(_string(value, path), path, most=most)


def _string(value: JSON, path: str) -> str:
    if not isinstance(value, str):
        raise InvalidFieldError(path, "must be text")
    return value
