"""A tool's registration as plain values: the form of YAML files, of JSON and of `Tool`.

Each part is a mapping with the names of the proto's fields and values in lower case:
`{"name": "order", "type": "po", "via": {"entity": "invoice", "attribute": "po"}, "role": "order"}`.
An unknown name is refused. Pure; raises `InvalidRequestError` that names the field.
"""

from __future__ import annotations

import json
from typing import Any

from placet._calls.fields import flag, items, mapping, members, text, texts
from placet._spelling import hint
from placet.errors import AnswerError, invalid
from placet.model import ToolEffect
from placet.v1 import admin_service_pb2 as admin
from placet.v1 import session_service_pb2 as sessions

# The values of each enum of the proto, in lower case and without its prefix.
ROLES = ("destination", "selector", "content", "attachment", "secret", "profile", "other")
STEPS = ("trim", "upper", "lower", "nfkc", "hyphenate", "compact", "path")
ENTITY_ROLES = ("record", "counterparty", "order", "other")
FORMATS = ("json", "yaml", "python_literal", "text")
TRUSTS = ("record", "free_text", "trusted")
TOOL_EFFECTS = tuple(ToolEffect)
_REF = {
    "name",
    "type",
    "id",
    "via",
    "role",
    "amount_attribute",
    "currency_attribute",
    "status_attribute",
    "must_match",
    "total_attribute",
    "open_attribute",
    "measure",
    "posted",
}
_REF_TEXTS = (
    "name",
    "type",
    "id",
    "amount_attribute",
    "currency_attribute",
    "status_attribute",
    "total_attribute",
    "open_attribute",
    "measure",
)


def add_parts(
    message: admin.Tool,
    path: str,
    *,
    reversible: Any,
    argument_roles: Any,
    normalise: Any,
    entities: Any,
    business_key: Any,
    prerequisites: Any,
    output: Any,
    redeem: Any,
    glob: Any,
    audience: Any,
) -> None:
    """Set what these parts say in the message of a tool; None and empty parts say nothing."""
    if flag(reversible, f"{path}.reversible"):
        message.reversibility = admin.REVERSIBILITY_REVERSIBLE
    for name, role in mapping(argument_roles or {}, f"{path}.argument_roles").items():
        at = f"{path}.argument_roles.{name}"
        message.argument_roles[text(name, at)] = _number("ARGUMENT_ROLE", ROLES, role, at)
    for name, steps in mapping(normalise or {}, f"{path}.normalise").items():
        at = f"{path}.normalise.{name}"
        message.normalise.add(
            argument=text(name, at),
            steps=[_number("NORMALISATION_STEP", STEPS, step, place) for place, step in items(steps, at)],
        )
    for at, ref in items(entities or (), f"{path}.entities"):
        _add_entity(message.entities.add(), ref, at)
    if business_key is not None:
        at = f"{path}.business_key"
        given = members(business_key, at, {"name", "arguments"}, required=("arguments",))
        message.business_key.name = text(given.get("name", ""), f"{at}.name")
        message.business_key.arguments.extend(texts(given["arguments"], f"{at}.arguments"))
    for at, rule in items(prerequisites or (), f"{path}.prerequisites"):
        given = members(rule, at, {"tool", "same", "required", "consumed"}, required=("tool",))
        required = flag(given.get("required", False), f"{at}.required")
        consumed = flag(given.get("consumed", False), f"{at}.consumed")
        message.prerequisites.add(
            tool=text(given["tool"], f"{at}.tool"),
            same=texts(given.get("same", ()), f"{at}.same"),
            required=required,
            consumed=consumed,
        )
    if output is not None:
        _add_output(message.output, output, f"{path}.output")
    if redeem not in ("", None, "required"):
        raise invalid(f"{path}.redeem", "must be required, or left out")
    if redeem:
        message.redeem = admin.REDEEM_RULE_REQUIRED
    message.glob = flag(glob, f"{path}.glob")
    message.audience = text(audience, f"{path}.audience")


def tool_form(message: admin.Tool) -> dict[str, Any]:
    """Return a registration as plain values; putting them again registers the same.

    Raises `AnswerError` for a value that this client does not know.
    """
    form: dict[str, Any] = {
        "name": message.name,
        "effect": _word(sessions.ToolEffect, message.effect, "TOOL_EFFECT"),
        "reversible": message.reversibility == admin.REVERSIBILITY_REVERSIBLE,
        "resource": message.resource,
    }
    if message.description:
        form["description"] = message.description
    if message.arguments_schema:
        form["arguments_schema"] = json.loads(message.arguments_schema)
    if message.HasField("amount"):
        form["amount"] = _amount_form(message.amount)
    roles = {
        name: _word(admin.ArgumentRole, role, "ARGUMENT_ROLE")
        for name, role in sorted(message.argument_roles.items())
    }
    secret = [name for name in message.secret_arguments if roles.get(name) != "secret"]
    if secret:
        form["secret_arguments"] = secret
    if roles:
        form["argument_roles"] = roles
    if message.normalise:
        form["normalise"] = {
            rule.argument: [_word(admin.NormalisationStep, step, "NORMALISATION_STEP") for step in rule.steps]
            for rule in message.normalise
        }
    if message.entities:
        form["entities"] = [_entity_form(ref) for ref in message.entities]
    if message.HasField("business_key"):
        form["business_key"] = {
            "name": message.business_key.name,
            "arguments": list(message.business_key.arguments),
        }
    if message.prerequisites:
        form["prerequisites"] = [
            {"tool": rule.tool, "same": list(rule.same), "required": rule.required}
            | ({"consumed": True} if rule.consumed else {})
            for rule in message.prerequisites
        ]
    if message.HasField("output"):
        form["output"] = _output_form(message.output)
    if message.redeem == admin.REDEEM_RULE_REQUIRED:
        form["redeem"] = "required"
    if message.glob:
        form["glob"] = True
    if message.audience:
        form["audience"] = message.audience
    return form


def _add_entity(message: admin.EntityRef, value: Any, path: str) -> None:
    given = members(value, path, _REF, required=("name", "type"))
    if ("id" in given) == ("via" in given):
        raise invalid(path, "needs exactly one of id and via")
    message.role = _number("ENTITY_ROLE", ENTITY_ROLES, given.get("role", "other"), f"{path}.role")
    for name in _REF_TEXTS:
        if name in given:
            setattr(message, name, text(given[name], f"{path}.{name}"))
    if given.get("posted", "") not in ("", None, "linked"):
        raise invalid(f"{path}.posted", "must be linked, or left out")
    if given.get("posted"):
        message.posted = admin.POSTED_RULE_LINKED
    for name in ("via", "must_match"):
        if name in given:
            at = f"{path}.{name}"
            parts = members(given[name], at, {"entity", "attribute"}, required=("entity", "attribute"))
            target = getattr(message, name)
            target.entity = text(parts["entity"], f"{at}.entity")
            target.attribute = text(parts["attribute"], f"{at}.attribute")


def _add_output(message: admin.Output, value: Any, path: str) -> None:
    given = members(value, path, {"format", "fields", "author_field"})
    message.format = _number("OUTPUT_FORMAT", FORMATS, given.get("format", "text"), f"{path}.format")
    message.author_field = text(given.get("author_field", ""), f"{path}.author_field")
    for name, trust in mapping(given.get("fields", {}), f"{path}.fields").items():
        at = f"{path}.fields.{name}"
        message.fields.add(name=text(name, at), trust=_number("FIELD_TRUST", TRUSTS, trust, at))


def _amount_form(message: admin.Amount) -> dict[str, Any]:
    form: dict[str, Any] = {"argument": message.argument}
    if message.unit != admin.AMOUNT_UNIT_UNSPECIFIED:
        form["unit"] = _word(admin.AmountUnit, message.unit, "AMOUNT_UNIT")
    currency = message.WhichOneof("currency")
    if currency is not None:
        form[currency] = getattr(message, currency)
    if message.allow_zero:
        form["allow_zero"] = True
    return form


def _entity_form(message: admin.EntityRef) -> dict[str, Any]:
    form: dict[str, Any] = {"name": message.name, "type": message.type}
    if message.WhichOneof("source") == "via":
        form["via"] = {"entity": message.via.entity, "attribute": message.via.attribute}
    else:
        form["id"] = message.id
    form["role"] = _word(admin.EntityRole, message.role, "ENTITY_ROLE")
    for name in ("amount_attribute", "total_attribute", "open_attribute", "currency_attribute", "measure"):
        if getattr(message, name):
            form[name] = getattr(message, name)
    if message.posted == admin.POSTED_RULE_LINKED:
        form["posted"] = "linked"
    if message.status_attribute not in ("", "status"):
        form["status_attribute"] = message.status_attribute
    if message.HasField("must_match"):
        form["must_match"] = {
            "entity": message.must_match.entity,
            "attribute": message.must_match.attribute,
        }
    return form


def _output_form(message: admin.Output) -> dict[str, Any]:
    form: dict[str, Any] = {"format": _word(admin.OutputFormat, message.format, "OUTPUT_FORMAT")}
    if message.fields:
        form["fields"] = {
            item.name: _word(admin.FieldTrust, item.trust, "FIELD_TRUST") for item in message.fields
        }
    if message.author_field:
        form["author_field"] = message.author_field
    return form


def _word(enum: Any, number: int, prefix: str) -> str:
    """Return what a number of a message is called here. Raises `AnswerError` for one that nobody knows."""
    try:
        name: str = enum.Name(number)
    except ValueError as exc:
        raise AnswerError(f"the answer's {prefix} {number} is none that this client knows") from exc
    return name.removeprefix(f"{prefix}_").lower()


def _number(prefix: str, words: tuple[str, ...], value: Any, path: str) -> Any:
    if value not in words:
        raise invalid(path, f"{value!r} is not one of {', '.join(words)}{hint(str(value), words)}")
    return getattr(admin, f"{prefix}_{value.upper()}")
