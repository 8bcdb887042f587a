"""Registries of another kind: JSON that gives each tool an effect and each argument a role.

    {"GROUP": {"TOOL": {"effect": "pay", "arguments": {"to": "destination", "sum": "amount"},
                        "reversible": false, "unit": "major", "currency": "EUR",
                        "output": {"format": "yaml", "record": ["id"], "free_text": ["note"],
                                   "author_field": "from"}}}}

Groups whose names begin with "_" are remarks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from placet._calls.toolform import FORMATS, ROLES, TOOL_EFFECTS
from placet.cli.exits import CommandError
from placet.cli.mcp.listing import UNKNOWN_EFFECT, Imported, as_text

_MEMBERS = {"effect", "arguments", "reversible", "unit", "currency", "output"}


def convert_registry(value: Any, *, group: str, effects: Mapping[str, str]) -> list[Imported]:
    """Return the tools of one group, or of all if `group` is empty.

    `effects` maps names of effects that Placet does not have to those that it has.

    Raises `CommandError` that names the tool.
    """
    groups = {
        name: tools for name, tools in _read_mapping(value, "the file").items() if not name.startswith("_")
    }
    if group and group not in groups:
        raise CommandError(f"there is no group {group}; there are {', '.join(groups)}")
    found: dict[str, Imported] = {}
    for name, tools in groups.items():
        if group in ("", name):
            for tool, said in _read_mapping(tools, name).items():
                if tool in found:
                    raise CommandError(f"{tool}: is in two groups; convert one at a time")
                found[tool] = _convert_tool(tool, _read_mapping(said, tool), effects)
    return list(found.values())


def _convert_tool(name: str, said: Mapping[str, Any], effects: Mapping[str, str]) -> Imported:
    notes = [f"{member}: is not understood, and left out" for member in said if member not in _MEMBERS]
    effect = said.get("effect")
    if effect not in TOOL_EFFECTS:
        meant = effects.get(str(effect), UNKNOWN_EFFECT)
        if str(effect) not in effects:
            notes.append(f"effect: {effect} is none of ours; taken as {UNKNOWN_EFFECT}")
        effect = meant
    roles = {str(key): role for key, role in _read_mapping(said.get("arguments", {}), name).items()}
    form: dict[str, Any] = {
        "name": name,
        "effect": effect,
        "reversible": said.get("reversible") is True,
        "resource": f"tool:{as_text(name)}",
        "arguments_schema": {
            "type": "object",
            "properties": {argument: {} for argument in roles},
            "additionalProperties": False,
        },
    }
    notes.append("resource: nobody says what it touches; taken as the tool itself")
    amounts = [argument for argument, role in roles.items() if role == "amount"]
    if len(amounts) > 1:
        raise CommandError(f"{name}: has {len(amounts)} amounts; one can be read")
    if amounts:
        form["amount"] = {"argument": amounts[0]}
        for member, own in (("unit", "unit"), ("currency", "currency_code")):
            if member in said:
                form["amount"][own] = said[member]
            else:
                notes.append(f"amount: its {member} is not said; every call will be blocked")
    kept = {argument: role for argument, role in roles.items() if role != "amount"}
    for argument, role in kept.items():
        if role not in ROLES:
            raise CommandError(f"{name}: {argument} has the role {role}, which is none of {', '.join(ROLES)}")
    if kept:
        form["argument_roles"] = kept
    if "output" in said:
        form["output"] = _convert_output(_read_mapping(said["output"], name), name)
    return Imported(form=form, notes=tuple(notes))


def _convert_output(said: Mapping[str, Any], name: str) -> dict[str, Any]:
    kind = str(said.get("format", "text")).replace("-", "_")
    if kind not in FORMATS:
        raise CommandError(f"{name}: the output's format {kind} is none of {', '.join(FORMATS)}")
    output: dict[str, Any] = {"format": kind}
    # A field that is named as both counts as free text, which is trusted less.
    fields = {field: trust for trust in ("record", "free_text") for field in said.get(trust, [])}
    if fields:
        output["fields"] = fields
    if said.get("author_field"):
        output["author_field"] = said["author_field"]
    return output


def _read_mapping(value: Any, name: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise CommandError(f"{name}: must be a mapping")
    return value
