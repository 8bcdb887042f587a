"""The entities of a registration, apart from their ids."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from placet._lint.findings import Path
from placet._lint.registration import Registration, mapping, mappings, text
from placet._spelling import hint

_TYPE = re.compile(r"[a-z][a-z0-9_.-]{0,63}")
_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
_MEASURES = ("record", "order")
# Attributes that say how much a record or an order is.
_FIGURES = ("amount_attribute", "total_attribute", "open_attribute")


def check_entities(tool: Registration) -> None:
    """Add what keeps entities from being looked up or measured by."""
    every = list(mappings(tool.form.get("entities"), ("entities",)))
    named: dict[str, Mapping[str, Any]] = {}
    roles: set[str] = set()
    for path, entity in every:
        name, role = text(entity.get("name")), text(entity.get("role", "other"))
        if "name" in entity and _NAME.fullmatch(name) is None:
            tool.add("entity.invalid", (*path, "name"), "must be lower case letters, digits and underscores")
        elif name in named:
            tool.add("entity.invalid", (*path, "name"), "is listed twice")
        named.setdefault(name, entity)
        if "type" in entity and _TYPE.fullmatch(text(entity.get("type"))) is None:
            tool.add(
                "entity.invalid", (*path, "type"), 'must be a type in lower case letters, such as "vendor"'
            )
        if role != "other" and role in roles:
            tool.add("entity.invalid", (*path, "role"), f"a tool has one {role} at most")
        roles.add(role)
    for path, entity in every:
        _check_measure(tool, entity, path, has_record="record" in roles)
        via, match = mapping(entity.get("via")), mapping(entity.get("must_match"))
        known = bool(via) and _names_entity(tool, via, named, (*path, "via"))
        if known and "id" not in named[text(via.get("entity"))]:
            tool.add(
                "entity.invalid",
                (*path, "via", "entity"),
                "must have an id: one step is all that is followed",
            )
        known = bool(match) and _names_entity(tool, match, named, (*path, "must_match"))
        if known and match.get("entity") == entity.get("name"):
            tool.add("entity.invalid", (*path, "must_match", "entity"), "must be another entity")


def _names_entity(tool: Registration, of: Mapping[str, Any], named: Mapping[str, Any], path: Path) -> bool:
    name = text(of.get("entity"))
    if not name or name in named:
        return bool(name)
    tool.add(
        "entity.unknown_entity", (*path, "entity"), f"{name!r} is no entity of this tool{hint(name, named)}"
    )
    return False


def _check_measure(tool: Registration, entity: Mapping[str, Any], path: Path, *, has_record: bool) -> None:
    role = text(entity.get("role", "other"))
    if role not in _MEASURES:
        for member in (*_FIGURES, "currency_attribute", "measure", "posted"):
            if entity.get(member):
                tool.add(
                    "entity.invalid",
                    (*path, "role"),
                    f"only a record or an order has an amount, and this has {member}",
                )
        return
    measure = entity.get("measure")
    if isinstance(measure, str) and measure and _TYPE.fullmatch(measure) is None:
        tool.add("entity.invalid", (*path, "measure"), 'must be a name such as "freight"')
    figures = [name for name in _FIGURES if entity.get(name)]
    if "amount_attribute" in figures and len(figures) > 1:
        tool.add(
            "entity.invalid",
            (*path, "amount_attribute"),
            f"is for registrations that name neither total nor open: leave it out beside {figures[1]}",
        )
    has_open = entity.get("open_attribute") or (role == "order" and entity.get("amount_attribute"))
    if entity.get("posted") and not has_open:
        tool.add(
            "entity.invalid",
            (*path, "posted"),
            "needs open_attribute: what is posted is no longer open",
        )
    amount = tool.member("amount")
    if not amount:
        return
    if not figures:
        tool.add(
            "entity.invalid",
            (*path, "amount_attribute"),
            "is required, or total_attribute or open_attribute: the tool's amount is measured by it",
        )
    in_own_currency = role == "record" or not has_record
    if in_own_currency and not entity.get("currency_attribute") and not amount.get("currency_code"):
        tool.add(
            "entity.invalid",
            (*path, "currency_attribute"),
            "is required: the tool has no fixed currency",
        )
