"""Tools, as operators register them and read them back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import orjson

from pdp.action.lint import Judged
from pdp.errors import InvalidFieldError
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
from pdp.names import name, optional_name, text, unique
from pdp.server.messages.fields import MAX_TEXT, check_count
from placet._wire.numbers import TOOL_EFFECT_NUMBERS, TOOL_EFFECTS
from placet.canonical import CanonicalError, parse_object
from placet.normalise import NormalisationStep
from placet.v1 import admin_service_pb2 as admin

MAX_SCHEMA = 64 * 1024
MAX_ENTITIES = 8
MAX_KEY_ARGUMENTS = 8
MAX_PREREQUISITES = 8
MAX_STEPS = 8
MAX_ARGUMENTS = 64
MAX_FIELDS = 256

_UNITS: dict[int, AmountUnit | None] = {
    admin.AMOUNT_UNIT_UNSPECIFIED: None,
    admin.AMOUNT_UNIT_MAJOR: AmountUnit.MAJOR,
    admin.AMOUNT_UNIT_MINOR: AmountUnit.MINOR,
}
_REVERSIBLE: dict[int, bool] = {
    admin.REVERSIBILITY_UNSPECIFIED: False,
    admin.REVERSIBILITY_IRREVERSIBLE: False,
    admin.REVERSIBILITY_REVERSIBLE: True,
}
_ARGUMENT_ROLES: dict[int, ArgumentRole] = {
    admin.ARGUMENT_ROLE_DESTINATION: ArgumentRole.DESTINATION,
    admin.ARGUMENT_ROLE_SELECTOR: ArgumentRole.SELECTOR,
    admin.ARGUMENT_ROLE_CONTENT: ArgumentRole.CONTENT,
    admin.ARGUMENT_ROLE_ATTACHMENT: ArgumentRole.ATTACHMENT,
    admin.ARGUMENT_ROLE_SECRET: ArgumentRole.SECRET,
    admin.ARGUMENT_ROLE_PROFILE: ArgumentRole.PROFILE,
    admin.ARGUMENT_ROLE_OTHER: ArgumentRole.OTHER,
}
_STEPS: dict[int, NormalisationStep] = {
    admin.NORMALISATION_STEP_TRIM: NormalisationStep.TRIM,
    admin.NORMALISATION_STEP_UPPER: NormalisationStep.UPPER,
    admin.NORMALISATION_STEP_LOWER: NormalisationStep.LOWER,
    admin.NORMALISATION_STEP_NFKC: NormalisationStep.NFKC,
    admin.NORMALISATION_STEP_HYPHENATE: NormalisationStep.HYPHENATE,
    admin.NORMALISATION_STEP_COMPACT: NormalisationStep.COMPACT,
    admin.NORMALISATION_STEP_PATH: NormalisationStep.PATH,
}
_ENTITY_ROLES: dict[int, EntityRole] = {
    admin.ENTITY_ROLE_UNSPECIFIED: EntityRole.OTHER,
    admin.ENTITY_ROLE_RECORD: EntityRole.RECORD,
    admin.ENTITY_ROLE_COUNTERPARTY: EntityRole.COUNTERPARTY,
    admin.ENTITY_ROLE_ORDER: EntityRole.ORDER,
    admin.ENTITY_ROLE_OTHER: EntityRole.OTHER,
}
_POSTED: dict[int, bool] = {admin.POSTED_RULE_UNSPECIFIED: False, admin.POSTED_RULE_LINKED: True}
_FORMATS: dict[int, OutputFormat] = {
    admin.OUTPUT_FORMAT_UNSPECIFIED: OutputFormat.TEXT,
    admin.OUTPUT_FORMAT_JSON: OutputFormat.JSON,
    admin.OUTPUT_FORMAT_YAML: OutputFormat.YAML,
    admin.OUTPUT_FORMAT_PYTHON_LITERAL: OutputFormat.PYTHON_LITERAL,
    admin.OUTPUT_FORMAT_TEXT: OutputFormat.TEXT,
}
_TRUSTS: dict[int, FieldTrust] = {
    admin.FIELD_TRUST_UNSPECIFIED: FieldTrust.FREE_TEXT,
    admin.FIELD_TRUST_RECORD: FieldTrust.RECORD,
    admin.FIELD_TRUST_FREE_TEXT: FieldTrust.FREE_TEXT,
    admin.FIELD_TRUST_TRUSTED: FieldTrust.TRUSTED,
}
V = TypeVar("V")


def tools(message: admin.PutToolsRequest | admin.CheckToolsRequest) -> list[Tool]:
    """Return the tools of a request. Raises `InvalidFieldError` that names a field of each that is none."""
    check_count(message.tools, "tools", least=1)
    result: list[Tool] = []
    wrong: list[tuple[str, str]] = []
    for index, tool in enumerate(message.tools):
        try:
            result.append(_tool(tool, f"tools[{index}]"))
        except InvalidFieldError as exc:
            wrong += exc.violations
    if wrong:
        (field, reason), *more = wrong
        raise InvalidFieldError(field, reason, more=more)
    unique([tool.name for tool in result], "tools", "name")
    return result


def finding_messages(found: Sequence[Judged], *, most: int) -> list[admin.ToolFinding]:
    """Return the messages of what was found: errors first where there is more than an answer has room for."""
    if len(found) > most:
        found = sorted(found, key=lambda judged: not judged.is_error)[:most]
    return [_finding_message(judged) for judged in found]


def _finding_message(judged: Judged) -> admin.ToolFinding:
    return admin.ToolFinding(
        tool=judged.finding.tool,
        field=judged.field,
        severity=admin.FINDING_SEVERITY_ERROR if judged.is_error else admin.FINDING_SEVERITY_WARNING,
        code=judged.finding.code,
        message=judged.finding.message,
    )


def _tool(message: admin.Tool, path: str) -> Tool:
    roles = {
        name(argument, f"{path}.argument_roles"): _one_of(
            _ARGUMENT_ROLES, role, f"{path}.argument_roles[{argument}]"
        )
        for argument, role in message.argument_roles.items()
    }
    secret = _names(message.secret_arguments, f"{path}.secret_arguments", most=MAX_ARGUMENTS)
    converted = Tool(
        name=name(message.name, f"{path}.name"),
        effect=_tool_effect(message.effect, f"{path}.effect"),
        resource=text(message.resource, f"{path}.resource", 1024),
        arguments_schema=_schema(message.arguments_schema, f"{path}.arguments_schema"),
        amount=_amount_role(message.amount, f"{path}.amount") if message.HasField("amount") else None,
        secret_arguments=tuple(
            dict.fromkeys((*secret, *(n for n, role in sorted(roles.items()) if role is ArgumentRole.SECRET)))
        ),
        description=text(message.description, f"{path}.description", MAX_TEXT),
        reversible=_one_of(_REVERSIBLE, message.reversibility, f"{path}.reversibility"),
        argument_roles=dict(sorted(roles.items())),
        normalise=_normalisation(message.normalise, f"{path}.normalise"),
        entities=tuple(
            _entity_ref(ref, f"{path}.entities[{index}]")
            for index, ref in enumerate(
                _few(message.entities, f"{path}.entities", least=0, most=MAX_ENTITIES)
            )
        ),
        business_key=_business_key(message, f"{path}.business_key"),
        prerequisites=tuple(
            Prerequisite(
                tool=name(rule.tool, f"{path}.prerequisites[{index}].tool"),
                same=_names(rule.same, f"{path}.prerequisites[{index}].same", most=MAX_KEY_ARGUMENTS),
                required=rule.required,
                consumed=rule.consumed,
            )
            for index, rule in enumerate(
                _few(message.prerequisites, f"{path}.prerequisites", least=0, most=MAX_PREREQUISITES)
            )
        ),
        output=_output(message.output, f"{path}.output") if message.HasField("output") else None,
        redeem_required=message.redeem == admin.REDEEM_RULE_REQUIRED,
        glob=message.glob,
        audience=optional_name(message.audience, f"{path}.audience"),
    )
    if message.redeem not in (admin.REDEEM_RULE_UNSPECIFIED, admin.REDEEM_RULE_REQUIRED):
        raise InvalidFieldError(f"{path}.redeem", "must be one of the known rules")
    return converted


def tool_message(tool: Tool) -> admin.Tool:
    """Return the message that `tools` reads as this tool."""
    message = admin.Tool(
        name=tool.name,
        effect=TOOL_EFFECT_NUMBERS[tool.effect],
        resource=tool.resource,
        arguments_schema=tool.arguments_schema.encode(),
        secret_arguments=tool.secret_arguments,
        description=tool.description,
        reversibility=admin.REVERSIBILITY_REVERSIBLE if tool.reversible else admin.REVERSIBILITY_IRREVERSIBLE,
        argument_roles={
            argument: _number(_ARGUMENT_ROLES, role) for argument, role in tool.argument_roles.items()
        },
        normalise=[
            admin.Normalisation(argument=rule.argument, steps=[_number(_STEPS, step) for step in rule.steps])
            for rule in tool.normalise
        ],
        entities=[_entity_ref_message(ref) for ref in tool.entities],
        prerequisites=[
            admin.Prerequisite(tool=rule.tool, same=rule.same, required=rule.required, consumed=rule.consumed)
            for rule in tool.prerequisites
        ],
        redeem=admin.REDEEM_RULE_REQUIRED if tool.redeem_required else admin.REDEEM_RULE_UNSPECIFIED,
        glob=tool.glob,
        audience=tool.audience,
    )
    if tool.amount is not None:
        message.amount.argument = tool.amount.argument
        message.amount.unit = _number(_UNITS, tool.amount.unit)
        message.amount.allow_zero = tool.amount.allow_zero
        if tool.amount.currency_argument is not None:
            message.amount.currency_argument = tool.amount.currency_argument
        if tool.amount.currency_code is not None:
            message.amount.currency_code = tool.amount.currency_code
    if tool.business_key is not None:
        message.business_key.name = tool.business_key.name
        message.business_key.arguments.extend(tool.business_key.arguments)
    if tool.output is not None:
        message.output.format = _number(_FORMATS, tool.output.format)
        message.output.author_field = tool.output.author_field
        message.output.fields.extend(
            admin.OutputField(name=field.name, trust=_number(_TRUSTS, field.trust))
            for field in tool.output.fields
        )
    return message


def _tool_effect(number: int, path: str) -> ToolEffect:
    if number not in TOOL_EFFECTS:
        raise InvalidFieldError(path, "must be one of the known effects")
    return TOOL_EFFECTS[number]


def _amount_role(message: admin.Amount, path: str) -> AmountRole:
    if message.unit not in _UNITS:
        raise InvalidFieldError(f"{path}.unit", "must be major or minor")
    return AmountRole(
        argument=name(message.argument, f"{path}.argument"),
        unit=_UNITS[message.unit],
        currency_argument=message.currency_argument if message.HasField("currency_argument") else None,
        currency_code=message.currency_code if message.HasField("currency_code") else None,
        allow_zero=message.allow_zero,
    )


def _schema(given: bytes, path: str) -> str:
    if not given:
        return ""
    try:
        parse_object(given, field=path, max_bytes=MAX_SCHEMA)
        # jsonschema reads the text again; what orjson cannot read is no schema for it.
        orjson.loads(given)
    except CanonicalError as exc:
        raise InvalidFieldError(exc.field, exc.reason) from exc
    except orjson.JSONDecodeError as exc:
        raise InvalidFieldError(path, f"is not JSON: {exc}") from exc
    return given.decode("utf-8")


def _normalisation(message: Sequence[admin.Normalisation], path: str) -> tuple[Normalisation, ...]:
    rules = []
    for index, rule in enumerate(_few(message, path, least=0, most=MAX_ARGUMENTS)):
        at = f"{path}[{index}]"
        rules.append(
            Normalisation(
                argument=name(rule.argument, f"{at}.argument"),
                steps=tuple(
                    _one_of(_STEPS, step, f"{at}.steps[{place}]")
                    for place, step in enumerate(_few(rule.steps, f"{at}.steps", least=1, most=MAX_STEPS))
                ),
            )
        )
    unique([rule.argument for rule in rules], path, "argument")
    return tuple(rules)


def _entity_ref(message: admin.EntityRef, path: str) -> EntityRef:
    source = message.WhichOneof("source")
    if source is None:
        raise InvalidFieldError(path, "needs id or via")
    return EntityRef(
        name=name(message.name, f"{path}.name"),
        type=name(message.type, f"{path}.type"),
        id=text(message.id, f"{path}.id", 512) if source == "id" else None,
        via=_attribute(message.via, f"{path}.via") if source == "via" else None,
        role=_one_of(_ENTITY_ROLES, message.role, f"{path}.role"),
        amount_attribute=optional_name(message.amount_attribute, f"{path}.amount_attribute"),
        currency_attribute=optional_name(message.currency_attribute, f"{path}.currency_attribute"),
        status_attribute=optional_name(message.status_attribute, f"{path}.status_attribute") or "status",
        must_match=_attribute(message.must_match, f"{path}.must_match")
        if message.HasField("must_match")
        else None,
        total_attribute=optional_name(message.total_attribute, f"{path}.total_attribute"),
        open_attribute=optional_name(message.open_attribute, f"{path}.open_attribute"),
        measure=optional_name(message.measure, f"{path}.measure"),
        posted_linked=_one_of(_POSTED, message.posted, f"{path}.posted"),
    )


def _entity_ref_message(ref: EntityRef) -> admin.EntityRef:
    message = admin.EntityRef(
        name=ref.name,
        type=ref.type,
        role=_number(_ENTITY_ROLES, ref.role),
        amount_attribute=ref.amount_attribute,
        currency_attribute=ref.currency_attribute,
        status_attribute=ref.status_attribute,
        total_attribute=ref.total_attribute,
        open_attribute=ref.open_attribute,
        measure=ref.measure,
        posted=admin.POSTED_RULE_LINKED if ref.posted_linked else admin.POSTED_RULE_UNSPECIFIED,
    )
    if ref.id is not None:
        message.id = ref.id
    if ref.via is not None:
        message.via.CopyFrom(_attribute_message(ref.via))
    if ref.must_match is not None:
        message.must_match.CopyFrom(_attribute_message(ref.must_match))
    return message


def _attribute(message: admin.EntityAttribute, path: str) -> EntityAttribute:
    return EntityAttribute(
        entity=name(message.entity, f"{path}.entity"), attribute=name(message.attribute, f"{path}.attribute")
    )


def _attribute_message(of: EntityAttribute) -> admin.EntityAttribute:
    return admin.EntityAttribute(entity=of.entity, attribute=of.attribute)


def _business_key(message: admin.Tool, path: str) -> BusinessKeyRule | None:
    if not message.HasField("business_key"):
        return None
    arguments = _names(message.business_key.arguments, f"{path}.arguments", most=MAX_KEY_ARGUMENTS)
    if not arguments:
        raise InvalidFieldError(f"{path}.arguments", "needs at least one")
    return BusinessKeyRule(
        name=optional_name(message.business_key.name, f"{path}.name") or message.name, arguments=arguments
    )


def _output(message: admin.Output, path: str) -> Output:
    fields = tuple(
        OutputField(
            name=name(field.name, f"{path}.fields[{index}].name"),
            trust=_one_of(_TRUSTS, field.trust, f"{path}.fields[{index}].trust"),
        )
        for index, field in enumerate(_few(message.fields, f"{path}.fields", least=0, most=MAX_FIELDS))
    )
    unique([field.name for field in fields], f"{path}.fields", "name")
    return Output(
        format=_one_of(_FORMATS, message.format, f"{path}.format"),
        fields=fields,
        author_field=optional_name(message.author_field, f"{path}.author_field"),
    )


def _names(given: Sequence[str], path: str, *, most: int) -> tuple[str, ...]:
    result = tuple(
        name(item, f"{path}[{index}]") for index, item in enumerate(_few(given, path, least=0, most=most))
    )
    for index, item in enumerate(result):
        if item in result[:index]:
            raise InvalidFieldError(f"{path}[{index}]", "is listed twice")
    return result


def _few(items: Sequence[V], path: str, *, least: int, most: int) -> Sequence[V]:
    if not least <= len(items) <= most:
        raise InvalidFieldError(path, f"has {len(items)} entries; from {least} to {most}")
    return items


def _one_of(known: dict[int, V], number: int, path: str) -> V:
    if number not in known:
        raise InvalidFieldError(path, "must be one of the known values")
    return known[number]


def _number(known: dict[int, V], value: V) -> Any:
    """Return the number that `_one_of` reads as this value; the unspecified one only if there is no other."""
    return max(number for number, meaning in known.items() if meaning == value)
