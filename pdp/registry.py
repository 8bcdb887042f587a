"""What the tool registry says of a call: everything is derived from the arguments.

The registry's word counts, never the caller's. What cannot be derived is a *problem*: a
reason code that policy turns into a block.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from functools import lru_cache
from typing import Any

import jsonschema_rs
import orjson

from pdp.errors import InvalidFieldError
from pdp.model import JSON, Action, Amount, Derived, Resource, Tool
from pdp.money import AmountError, minor_digits, read_amount
from placet.canonical import canonical_number

SECRET = "[secret]"
MAX_RESOURCE_ID = 512
_TEMPLATE = re.compile(r"(?P<type>[a-z][a-z0-9_.-]{0,63}):(?P<id>.{1,512})", re.DOTALL)
_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")


def derive(action: Action, tool: Tool | None) -> Derived:
    """Return resource, amount and problems of an action. Never raises: problems block."""
    if tool is None:
        return Derived(problems=("registry.unknown_tool",), shown_arguments=action.arguments)
    problems = []
    if not _schema(tool.arguments_schema).is_valid(action.arguments):
        problems.append("registry.arguments_invalid")
    resource = _resource(tool.resource, action.arguments)
    if resource is None:
        problems.append("registry.resource_underivable")
    if action.claimed_resource and action.claimed_resource != str(resource):
        problems.append("action.resource_mismatch")
    amount: Amount | None = None
    if tool.amount is not None:
        try:
            amount = read_amount(tool.amount, action.arguments)
        except AmountError as exc:
            problems.append(exc.code)
    return Derived(
        resource=resource,
        amount=amount,
        problems=tuple(problems),
        shown_arguments=_without_secrets(action.arguments, tool.secret_arguments),
    )


def check_tool(tool: Tool, field: str) -> None:
    """Refuse a registration that could not be applied to a call. Raises `InvalidFieldError`."""
    template = _TEMPLATE.fullmatch(tool.resource)
    if template is None:
        raise InvalidFieldError(
            f"{field}.resource", 'must be "type:id", with arguments in braces: "invoice:{invoice}"'
        )
    for name in _PLACEHOLDER.findall(template["id"]):
        if not name:
            raise InvalidFieldError(f"{field}.resource", "has empty braces")
    if set(_PLACEHOLDER.sub("", template["id"])) & set("{}"):
        raise InvalidFieldError(f"{field}.resource", "has a brace without its pair")
    try:
        _schema(tool.arguments_schema)
    except ValueError as exc:
        raise InvalidFieldError(f"{field}.arguments_schema", f"is no JSON Schema (2020-12): {exc}") from exc
    if tool.amount is not None:
        if not tool.amount.argument:
            raise InvalidFieldError(f"{field}.amount.argument", "is required")
        if tool.amount.currency_code is None and not tool.amount.currency_argument:
            raise InvalidFieldError(f"{field}.amount.currency", "name an argument or an ISO 4217 code")
        if tool.amount.currency_code is not None and minor_digits(tool.amount.currency_code) is None:
            raise InvalidFieldError(f"{field}.amount.currency_code", "is no ISO 4217 currency")


@lru_cache(maxsize=4096)
def _schema(text: str) -> jsonschema_rs.Draft202012Validator:
    """Compile a schema. Regular expressions run in linear time; nothing is fetched."""
    schema = orjson.loads(text) if text else {"type": "object", "maxProperties": 0}
    return jsonschema_rs.Draft202012Validator(
        schema, pattern_options=jsonschema_rs.RegexOptions(), offline=True
    )


def _resource(template: str, arguments: Mapping[str, JSON]) -> Resource | None:
    match = _TEMPLATE.fullmatch(template)
    if match is None:
        return None
    parts = _PLACEHOLDER.split(match["id"])
    # Odd places hold the names of arguments.
    for index in range(1, len(parts), 2):
        text = _identifier(arguments.get(parts[index]))
        if text is None:
            return None
        parts[index] = text
    resource_id = "".join(parts)
    return Resource(type=match["type"], id=resource_id) if len(resource_id) <= MAX_RESOURCE_ID else None


def _identifier(value: JSON) -> str | None:
    """Return an argument as part of an identifier: text that is one line and not blank."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int | Decimal):
        return str(canonical_number(value))
    if isinstance(value, str) and value and value == value.strip() and value.isprintable():
        return value
    return None


def _without_secrets(arguments: Mapping[str, JSON], secret: tuple[str, ...]) -> Mapping[str, Any]:
    if not secret:
        return arguments
    return {name: SECRET if name in secret else value for name, value in arguments.items()}
