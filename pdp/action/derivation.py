"""What the tool registry says of a call: everything is derived from the arguments.

The registry's word counts, never the caller's. What cannot be derived is a *problem*: a
reason code that policy turns into a block.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import lru_cache

import jsonschema_rs
import orjson

from pdp.action.secrets import find_secret_faults, hidden_texts, paths_to_hide, shows_secrets
from pdp.action.templates import TemplateError, identifier, read_template
from pdp.action.violations import NO_VIOLATIONS, find_violations
from pdp.errors import InvalidFieldError
from pdp.model import (
    JSON,
    Action,
    Amount,
    AmountRole,
    BusinessKey,
    BusinessKeyRule,
    Derived,
    EntityAttribute,
    EntityQuery,
    EntityRef,
    EntityRole,
    Normalisation,
    Resource,
    Tool,
)
from pdp.money import AmountError, minor_digits, number_text, read_amount
from placet.canonical import canonical_json
from placet.normalise import NormalisationError, NormalisationStep, normalise
from placet.secret_paths import EVERYTHING, hide

_TEMPLATE = re.compile(r"(?P<type>[a-z][a-z0-9_.-]{0,63}):(?P<id>.{1,512})", re.DOTALL)
_TYPE = re.compile(r"[a-z][a-z0-9_.-]{0,63}")
_REF_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
# What separates segments, and a dot in them, also where a tool decodes percent signs, once or more often.
_SEPARATOR = re.compile(r"[/\\]|%(?:25)*(?:2f|5c)", re.IGNORECASE)
_DOT = re.compile(r"%(?:25)*2e", re.IGNORECASE)


def derive(action: Action, tool: Tool | None, *, audience: str = "") -> Derived:
    """Return what the registry says of an action. It never raises: what is wrong is a problem, and blocks.

    The schema judges the arguments as they were given; everything else is derived from
    the normalised ones. `tool` None: no tool of that name is registered. `audience` is whom the caller
    wants the receipt for; empty: whomever the registry names.
    """
    if tool is None:
        return Derived(
            problems=("registry.unknown_tool",),
            arguments=action.arguments,
            comparable=make_comparable(action.arguments, None),
            open_arguments=action.arguments,
            shown_arguments=action.arguments,
        )
    problems = []
    arguments, unsettled = _normalise_arguments(action.arguments, tool.normalise)
    violations = NO_VIOLATIONS
    schema = _schema(tool.arguments_schema)
    if unsettled or not schema.is_valid(action.arguments):
        problems.append("registry.arguments_invalid")
        violations = find_violations(
            schema, tool.arguments_schema, action.arguments, secret=paths_to_hide(tool), unsettled=unsettled
        )
    # What a registration of earlier rules would show of a secret, it makes of nothing.
    blind = shows_secrets(tool)
    resource = None if blind else _resource(tool, arguments)
    if resource is None:
        problems.append("registry.resource_underivable")
    if action.claimed_resource and action.claimed_resource != str(resource):
        problems.append("action.resource_mismatch")
    if audience and audience != tool.audience:
        problems.append("action.audience")
    amount: Amount | None = None
    if tool.amount is not None and not blind:
        try:
            amount = read_amount(tool.amount, arguments)
        except AmountError as exc:
            problems.append(exc.code)
    equal = make_comparable(arguments, tool.amount)
    # Arguments that do not fit the schema may have a secret anywhere.
    unfit = "registry.arguments_invalid" in problems
    hidden = None
    if tool.secret_arguments:
        hidden = hide(action.arguments, (EVERYTHING,) if unfit else paths_to_hide(tool))
    return Derived(
        audience=tool.audience,
        resource=resource,
        amount=amount,
        arguments=arguments,
        comparable=equal,
        entities=() if blind else _queries(tool, arguments),
        business_key=_business_key(tool.business_key, equal, action.arguments),
        problems=tuple(problems),
        violations=violations.listed,
        more_violations=violations.more,
        open_arguments=action.arguments if hidden is None else hidden.rest,
        shown_arguments=action.arguments if hidden is None else hidden.shown,
        secret_paths=() if hidden is None else hidden.paths,
        secret_texts=() if hidden is None else hidden_texts(hidden.values),
    )


def make_comparable(arguments: Mapping[str, JSON], amount: AmountRole | None) -> dict[str, JSON]:
    """Return normalised arguments with one form for what is equal, to compare calls by.

    The amount is its number, however it is written; what can be part of an identifier is the text
    that it is there, so the number 1001 and "1001" are one invoice here as well. Null is absent.
    """
    result: dict[str, JSON] = {}
    for name, value in arguments.items():
        if value is None:
            continue
        text = identifier(value)
        if amount is not None and name == amount.argument:
            # An amount that cannot be read is left as it is: the call is blocked for it.
            with suppress(AmountError):
                text = number_text(value)
        result[name] = value if text is None else text
    return result


def check_tool(tool: Tool, field: str) -> None:
    """Refuse a registration that could not be applied to a call. Raises `InvalidFieldError`."""
    template = _TEMPLATE.fullmatch(tool.resource)
    if template is None:
        raise InvalidFieldError(
            f"{field}.resource", 'must be "type:id", with arguments in braces: "invoice:{invoice}"'
        )
    _check_template(template["id"], f"{field}.resource")
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
    for index, rule in enumerate(tool.normalise):
        if tool.amount is not None and rule.argument == tool.amount.argument:
            raise InvalidFieldError(
                f"{field}.normalise[{index}].argument", "is the amount: a number has one form"
            )
    _check_entities(tool, f"{field}.entities")
    if tool.redeem_required and not tool.audience:
        raise InvalidFieldError(
            f"{field}.audience",
            "is required where redeem is: receipts without an audience are redeemed by nobody",
        )
    for fault in find_secret_faults(tool):
        raise InvalidFieldError(f"{field}.{fault.field}", fault.reason)


def _check_entities(tool: Tool, field: str) -> None:
    named: dict[str, EntityRef] = {}
    roles: set[EntityRole] = set()
    for index, ref in enumerate(tool.entities):
        path = f"{field}[{index}]"
        if _REF_NAME.fullmatch(ref.name) is None:
            raise InvalidFieldError(f"{path}.name", "must be lower case letters, digits and underscores")
        if ref.name in named:
            raise InvalidFieldError(f"{path}.name", "is listed twice")
        named[ref.name] = ref
        if _TYPE.fullmatch(ref.type) is None:
            raise InvalidFieldError(f"{path}.type", 'must be a type such as "vendor"')
        if ref.id is not None:
            _check_template(ref.id, f"{path}.id")
        if ref.role is not EntityRole.OTHER and ref.role in roles:
            raise InvalidFieldError(f"{path}.role", f"a tool has one {ref.role} at most")
        roles.add(ref.role)
        _check_measure(tool, ref, path)
    for index, ref in enumerate(tool.entities):
        path = f"{field}[{index}]"
        if ref.via is not None:
            _check_attribute(ref.via, named, f"{path}.via")
            if named[ref.via.entity].id is None:
                raise InvalidFieldError(
                    f"{path}.via.entity", "must have an id: one step is all that is followed"
                )
        if ref.must_match is not None:
            _check_attribute(ref.must_match, named, f"{path}.must_match")
            if ref.must_match.entity == ref.name:
                raise InvalidFieldError(f"{path}.must_match.entity", "must be another entity")


def _check_measure(tool: Tool, ref: EntityRef, path: str) -> None:
    """Refuse a record or an order whose amount could not be read. Raises `InvalidFieldError`."""
    figures = ref.total_attribute or ref.open_attribute
    if ref.role not in (EntityRole.RECORD, EntityRole.ORDER):
        if ref.amount_attribute or ref.currency_attribute or figures or ref.measure or ref.posted_linked:
            raise InvalidFieldError(f"{path}.role", "only a record or an order has an amount")
        return
    if ref.measure and _TYPE.fullmatch(ref.measure) is None:
        raise InvalidFieldError(f"{path}.measure", 'must be a name such as "freight"')
    if ref.amount_attribute and figures:
        raise InvalidFieldError(
            f"{path}.amount_attribute", "is for registrations that name neither total nor open"
        )
    if ref.posted_linked and not ref.open_named:
        raise InvalidFieldError(f"{path}.posted", "needs open_attribute: what is posted is no longer open")
    if tool.amount is None:
        return
    if not ref.amount_attribute and not figures:
        raise InvalidFieldError(
            f"{path}.amount_attribute",
            "is required, or total_attribute or open_attribute: the tool's amount is measured by it",
        )
    if not ref.currency_attribute and tool.amount.currency_code is None:
        record = tool.entity_of(EntityRole.RECORD)
        if ref.role is EntityRole.RECORD or record is None:
            raise InvalidFieldError(
                f"{path}.currency_attribute", "is required: the tool has no fixed currency"
            )


def _check_attribute(of: EntityAttribute, named: Mapping[str, EntityRef], path: str) -> None:
    if of.entity not in named:
        raise InvalidFieldError(f"{path}.entity", "is no entity of this tool")
    if not of.attribute:
        raise InvalidFieldError(f"{path}.attribute", "is required")


def _check_template(template: str, path: str) -> None:
    try:
        read_template(template)
    except TemplateError as exc:
        raise InvalidFieldError(path, str(exc)) from exc


@lru_cache(maxsize=4096)
def _schema(text: str) -> jsonschema_rs.Draft202012Validator:
    """Compile a schema. Regular expressions run in linear time; nothing is fetched."""
    schema = orjson.loads(text) if text else {"type": "object", "maxProperties": 0}
    return jsonschema_rs.Draft202012Validator(
        schema, pattern_options=jsonschema_rs.RegexOptions(), offline=True
    )


def _normalise_arguments(
    arguments: Mapping[str, JSON], rules: Sequence[Normalisation]
) -> tuple[Mapping[str, JSON], Sequence[Normalisation]]:
    """Return the arguments in their normal spelling, and the rules that make none of what was given."""
    if not rules:
        return arguments, ()
    result, unsettled = dict(arguments), []
    for rule in rules:
        value = arguments.get(rule.argument)
        if isinstance(value, str):
            try:
                result[rule.argument] = normalise(value, rule.steps)
            except NormalisationError:
                # What has no normal spelling is part of no identifier.
                result.pop(rule.argument, None)
                unsettled.append(rule)
    return result, unsettled


def _queries(tool: Tool, arguments: Mapping[str, JSON]) -> tuple[EntityQuery, ...]:
    """Return which entities to read. One whose id cannot be derived is left out."""
    refs = tool.entities
    ids = {ref.name: (ref.type, _filled(ref.id, tool, arguments)) for ref in refs if ref.id is not None}
    queries = []
    for ref in refs:
        of, entity_id = ids[ref.name if ref.via is None else ref.via.entity]
        if entity_id is None:
            continue
        queries.append(
            EntityQuery(
                name=ref.name,
                type=ref.type,
                id=entity_id,
                of="" if ref.via is None else of,
                via=None if ref.via is None else ref.via.attribute,
                measure=ref.measure if tool.pays_from(ref) else None,
            )
        )
    return tuple(queries)


def _business_key(
    rule: BusinessKeyRule | None, normal: Mapping[str, JSON], given: Mapping[str, JSON]
) -> BusinessKey | None:
    """Return the call's business key. An absent argument equals one that is absent, and nothing else."""
    if rule is None:
        return None
    return BusinessKey(
        name=rule.name,
        normal=tuple(_text_of(normal, name) for name in rule.arguments),
        given=tuple(_text_of(given, name) for name in rule.arguments),
    )


def _text_of(arguments: Mapping[str, JSON], name: str) -> str:
    return canonical_json(arguments[name]).decode() if name in arguments else ""


def _resource(tool: Tool, arguments: Mapping[str, JSON]) -> Resource | None:
    match = _TEMPLATE.fullmatch(tool.resource)
    if match is None:
        return None
    resource_id = _filled(match["id"], tool, arguments)
    if resource_id is None or _leads_elsewhere(resource_id):
        return None
    return Resource(type=match["type"], id=resource_id)


def _leads_elsewhere(resource_id: str) -> bool:
    """Whether an id has a segment that names none of its own, so that no boundary's prefix can be compared.

    Where `..` leads the text does not say, and `.` is the folder itself. A path may begin with `./`.
    """
    segments = _SEPARATOR.split(_DOT.sub(".", resource_id))
    return ".." in segments or "." in segments[1:]


def _filled(template: str, tool: Tool, arguments: Mapping[str, JSON]) -> str | None:
    """Return the id that a template makes of normalised arguments; None if it makes none.

    A registration of earlier rules may hold a template that is none today: it makes no id.
    """
    paths = [rule.argument for rule in tool.normalise if NormalisationStep.PATH in rule.steps]
    try:
        return read_template(template).fill(arguments, paths=paths, glob=tool.glob)
    except TemplateError:
        return None
