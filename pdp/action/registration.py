"""A tool's registration as JSON: what the tables and the registry's history hold, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pdp.model import (
    AmountRole,
    AmountUnit,
    ArgumentRole,
    BusinessKeyRule,
    EntityAttribute,
    EntityRef,
    EntityRole,
    FieldTrust,
    Normalisation,
    Output,
    OutputField,
    OutputFormat,
    Prerequisite,
    Tool,
    ToolEffect,
)
from placet.normalise import NormalisationStep


def registration(tool: Tool) -> dict[str, Any]:
    """Return all that was registered, without the revision."""
    amount = tool.amount
    return {
        "name": tool.name,
        "effect": tool.effect.value,
        "resource": tool.resource,
        "arguments_schema": tool.arguments_schema,
        "amount": None
        if amount is None
        else {
            "argument": amount.argument,
            "unit": amount.unit.value if amount.unit is not None else None,
            "currency_argument": amount.currency_argument,
            "currency_code": amount.currency_code,
        }
        | ({"allow_zero": True} if amount.allow_zero else {}),
        "secret_arguments": list(tool.secret_arguments),
        "description": tool.description,
        **details(tool),
    }


def read_registration(members: Mapping[str, Any], *, revision: int) -> Tool:
    """Inverse of `registration`. Raises KeyError, TypeError, ValueError for anything else."""
    amount = members["amount"]
    return Tool(
        name=members["name"],
        effect=ToolEffect(members["effect"]),
        resource=members["resource"],
        arguments_schema=members["arguments_schema"],
        amount=None
        if amount is None
        else AmountRole(
            argument=amount["argument"],
            unit=None if amount["unit"] is None else AmountUnit(amount["unit"]),
            currency_argument=amount["currency_argument"],
            currency_code=amount["currency_code"],
            allow_zero=amount.get("allow_zero", False),
        ),
        secret_arguments=tuple(members["secret_arguments"]),
        description=members["description"],
        revision=revision,
        **read_details(members),
    )


def stored_details(tool: Tool) -> dict[str, Any]:
    """Return what has no column of its own in the table of tools, of the amount as well."""
    result = details(tool)
    if tool.amount is not None and tool.amount.allow_zero:
        result["amount_allow_zero"] = True
    return result


def details(tool: Tool) -> dict[str, Any]:
    """Return what the amount does not say and has no column of its own; what is not set is left out."""
    result: dict[str, Any] = {}
    if tool.reversible:
        result["reversible"] = True
    if tool.argument_roles:
        result["argument_roles"] = {name: role.value for name, role in tool.argument_roles.items()}
    if tool.normalise:
        result["normalise"] = [
            {"argument": rule.argument, "steps": [step.value for step in rule.steps]}
            for rule in tool.normalise
        ]
    if tool.entities:
        result["entities"] = [_ref(ref) for ref in tool.entities]
    if tool.business_key is not None:
        result["business_key"] = {
            "name": tool.business_key.name,
            "arguments": list(tool.business_key.arguments),
        }
    if tool.prerequisites:
        result["prerequisites"] = [
            {"tool": rule.tool, "same": list(rule.same), "required": rule.required}
            | ({"consumed": True} if rule.consumed else {})
            for rule in tool.prerequisites
        ]
    if tool.output is not None:
        result["output"] = {
            "format": tool.output.format.value,
            "fields": [{"name": item.name, "trust": item.trust.value} for item in tool.output.fields],
            "author_field": tool.output.author_field,
        }
    if tool.redeem_required:
        result["redeem_required"] = True
    if tool.glob:
        result["glob"] = True
    if tool.audience:
        result["audience"] = tool.audience
    return result


def read_details(members: Mapping[str, Any]) -> dict[str, Any]:
    """Inverse of `details`: arguments of `Tool`. Other members are left alone."""
    result: dict[str, Any] = {
        name: members[name]
        for name in ("reversible", "redeem_required", "glob", "audience")
        if name in members
    }
    if "argument_roles" in members:
        result["argument_roles"] = {
            name: ArgumentRole(role) for name, role in members["argument_roles"].items()
        }
    if "normalise" in members:
        result["normalise"] = tuple(
            Normalisation(
                argument=rule["argument"], steps=tuple(NormalisationStep(step) for step in rule["steps"])
            )
            for rule in members["normalise"]
        )
    if "entities" in members:
        result["entities"] = tuple(_read_ref(ref) for ref in members["entities"])
    if "business_key" in members:
        key = members["business_key"]
        result["business_key"] = BusinessKeyRule(name=key["name"], arguments=tuple(key["arguments"]))
    if "prerequisites" in members:
        result["prerequisites"] = tuple(
            Prerequisite(
                tool=rule["tool"],
                same=tuple(rule["same"]),
                required=rule["required"],
                consumed=rule.get("consumed", False),
            )
            for rule in members["prerequisites"]
        )
    if "output" in members:
        output = members["output"]
        result["output"] = Output(
            format=OutputFormat(output["format"]),
            fields=tuple(
                OutputField(name=item["name"], trust=FieldTrust(item["trust"])) for item in output["fields"]
            ),
            author_field=output["author_field"],
        )
    return result


def _ref(ref: EntityRef) -> dict[str, Any]:
    result: dict[str, Any] = {"name": ref.name, "type": ref.type, "role": ref.role.value}
    if ref.id is not None:
        result["id"] = ref.id
    if ref.via is not None:
        result["via"] = _attribute(ref.via)
    if ref.must_match is not None:
        result["must_match"] = _attribute(ref.must_match)
    result["amount_attribute"] = ref.amount_attribute
    result["currency_attribute"] = ref.currency_attribute
    result["status_attribute"] = ref.status_attribute
    for name in ("total_attribute", "open_attribute", "measure"):
        if getattr(ref, name):
            result[name] = getattr(ref, name)
    if ref.posted_linked:
        result["posted"] = "linked"
    return result


def _read_ref(members: Mapping[str, Any]) -> EntityRef:
    return EntityRef(
        name=members["name"],
        type=members["type"],
        role=EntityRole(members["role"]),
        id=members.get("id"),
        via=_read_attribute(members.get("via")),
        must_match=_read_attribute(members.get("must_match")),
        amount_attribute=members["amount_attribute"],
        currency_attribute=members["currency_attribute"],
        status_attribute=members["status_attribute"],
        total_attribute=members.get("total_attribute", ""),
        open_attribute=members.get("open_attribute", ""),
        measure=members.get("measure", ""),
        posted_linked=members.get("posted") == "linked",
    )


def _attribute(of: EntityAttribute) -> dict[str, str]:
    return {"entity": of.entity, "attribute": of.attribute}


def _read_attribute(members: Mapping[str, Any] | None) -> EntityAttribute | None:
    if members is None:
        return None
    return EntityAttribute(entity=members["entity"], attribute=members["attribute"])
