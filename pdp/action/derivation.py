"""What the tool registry says of a call: everything is derived from the arguments.

The registry's word counts, never the caller's. What cannot be derived is a *problem*: a
reason code that policy turns into a block.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from typing import Any

import jsonschema_rs
import orjson

from pdp.action.secrets import hidden_texts, paths_to_hide, shows_secrets
from pdp.action.templates import TemplateError, identifier, read_template
from pdp.action.violations import NO_VIOLATIONS, find_violations
from pdp.model import (
    JSON,
    Action,
    Amount,
    AmountRole,
    BusinessKey,
    BusinessKeyRule,
    Derived,
    EntityQuery,
    Normalisation,
    Resource,
    Tool,
)
from pdp.money import AmountError, number_text, read_amount
from placet.canonical import canonical_json
from placet.normalise import NormalisationError, NormalisationStep, normalise
from placet.secret_paths import EVERYTHING, hide

_TEMPLATE = re.compile(r"(?P<type>[a-z][a-z0-9_.-]{0,63}):(?P<id>.{1,512})", re.DOTALL)
# What separates segments, and a dot in them, also where a tool decodes percent signs, once or more often.
_SEPARATOR = re.compile(r"[/\\]|%(?:25)*(?:2f|5c)", re.IGNORECASE)
_DOT = re.compile(r"%(?:25)*2e", re.IGNORECASE)
# So many characters of what the engine says of a schema are told.
_MAX_REASON = 200


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
        # They are looked for in what is said beside the arguments.
        secret_texts=()
        if hidden is None or not (action.intent or action.claimed_resource or action.provenance)
        else hidden_texts(hidden.values),
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


def schema_problem(text: str) -> tuple[tuple[str | int, ...], str] | None:
    """Return where and why, in one line, arguments cannot be judged by a schema; None if they can."""
    try:
        _schema(text)
    except jsonschema_rs.ValidationError as exc:
        return tuple(exc.instance_path), _why(exc.message)
    except ValueError as exc:
        return (), _why(str(exc))
    return None


def is_pattern(text: str) -> bool:
    """Return whether the engine can match by a regular expression."""
    try:
        _compile({"pattern": text})
    except ValueError:
        return False
    return True


def _why(text: str) -> str:
    reason = next(iter(text.splitlines()), "")
    return f"is no JSON Schema (2020-12): {reason[:_MAX_REASON]}"


@lru_cache(maxsize=4096)
def _schema(text: str) -> jsonschema_rs.Draft202012Validator:
    """Compile a schema. Regular expressions run in linear time; nothing is fetched."""
    return _compile(orjson.loads(text) if text else {"type": "object", "maxProperties": 0})


def _compile(schema: Any) -> jsonschema_rs.Draft202012Validator:
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
