"""Secret arguments: what of a call is hidden, and which registrations would give a secret away. Pure.

A path is one of `placet.secret_paths`. A registration names paths that its schema declares, and uses no
secret for anything that is shown or compared: else it is refused. Where one of an earlier release does, more
is hidden (`paths_to_hide`), or its calls are blocked (`shows_secrets`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from functools import lru_cache
from typing import Any, NamedTuple
from urllib.parse import unquote

import jsonschema_rs
import orjson

from pdp.action.templates import TemplateError, read_template
from pdp.model import JSON, ArgumentRole, Tool
from placet.canonical import canonical_number
from placet.secret_paths import EVERYTHING, SECRET, argument_names, element_path, fold, split_path

# A shorter secret, and a shorter word of one, is found in ordinary text by chance.
_MIN_TEXT = 3
_MIN_WORD = 8
# What is said beside the arguments is searched for so many texts at most, each in one pass.
_MAX_TEXTS = 64
# How many names and lists a path may lead through.
MAX_STEPS = 16


class SecretFault(NamedTuple):
    """What is wrong with a registration: its field, as "secret_arguments[0]", and the reason."""

    field: str
    reason: str


def find_secret_faults(tool: Tool) -> Iterator[SecretFault]:
    """Yield every way in which the registration would show a secret, or takes something else for one."""
    if not tool.secret_arguments:
        return
    undeclared = set(_undeclared(tool.arguments_schema, tool.secret_arguments))
    for index, path in enumerate(tool.secret_arguments):
        by_role = tool.argument_roles.get(path) is ArgumentRole.SECRET
        field = f"argument_roles[{path}]" if by_role else f"secret_arguments[{index}]"
        if path in undeclared:
            yield SecretFault(
                field, f"names {path!r}, which arguments_schema does not declare: nothing would be hidden"
            )
        elif path.count(".") + path.count("[]") > MAX_STEPS:
            yield SecretFault(field, f"leads through more than {MAX_STEPS} names")
    yield from _uses(tool, argument_names(tool.secret_arguments))


def paths_to_hide(tool: Tool) -> tuple[str, ...]:
    """Return the paths of what is hidden in a call of the tool: all of it, if one of them is not declared.

    A path that the schema does not know may be misspelt, and then nobody knows what the secret is.
    """
    if _undeclared(tool.arguments_schema, tool.secret_arguments):
        return (EVERYTHING,)
    return tool.secret_arguments


def shows_secrets(tool: Tool) -> bool:
    """Return whether ids or the amount of the tool's calls would show a secret. Such calls are blocked."""
    if not tool.secret_arguments:
        return False
    return any(_shown_uses(tool, argument_names(tool.secret_arguments)))


def hidden_texts(values: Iterable[JSON]) -> tuple[str, ...]:
    """Return the texts by which secret values could be recognised elsewhere, as `fold` writes them.

    A long word of a secret is one too: the token of `Bearer TOKEN`. Of too many texts the empty one is left,
    which stands in everything.
    """
    texts = {fold(text) for value in values for text in _texts(value)}
    words = {word for text in texts for word in text.split() if len(word) >= _MIN_WORD}
    found = {text for text in texts if len(text) >= _MIN_TEXT} | words
    return tuple(sorted(found)) if len(found) <= _MAX_TEXTS else ("",)


def without_texts(value: str, texts: tuple[str, ...]) -> str:
    """Return what a caller says beside its arguments; `SECRET` instead if one of the texts stands in it.

    To replace only the secret would tell it to whoever can guess the text around it.
    """
    return SECRET if texts and _holds(fold(value), texts) else value


def claims_without_texts(claims: Mapping[str, JSON], texts: tuple[str, ...]) -> Mapping[str, JSON]:
    """Return claims of a caller; `SECRET` in the place of all of them if one of the texts stands in them."""
    if not texts or not claims:
        return claims
    said = fold("\n".join(_texts(claims, names=True)))
    return {SECRET: SECRET} if _holds(said, texts) else claims


def _holds(folded: str, texts: tuple[str, ...]) -> bool:
    return any(text in folded for text in texts)


def _texts(value: JSON, *, names: bool = False) -> Iterator[str]:
    """Yield the strings and numbers that a value holds, and with `names` the names of members."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        if names:
            yield from value
        for item in value.values():
            yield from _texts(item, names=names)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _texts(item, names=names)
    elif isinstance(value, int | Decimal) and not isinstance(value, bool):
        yield str(canonical_number(value))


def _uses(tool: Tool, secret: frozenset[str]) -> Iterator[SecretFault]:
    """Yield every field that uses an argument which is secret, or holds a secret."""
    yield from _shown_uses(tool, secret)
    for index, rule in enumerate(tool.normalise):
        if fold(rule.argument) in secret:
            yield SecretFault(
                f"normalise[{index}].argument", _said(rule.argument, "has no other spelling to be shown in")
            )
    if tool.business_key is not None:
        for index, name in enumerate(tool.business_key.arguments):
            if fold(name) in secret:
                yield SecretFault(
                    f"business_key.arguments[{index}]", _said(name, "is no part of a business key")
                )
    for index, prerequisite in enumerate(tool.prerequisites):
        for place, name in enumerate(prerequisite.same):
            if fold(name) in secret:
                yield SecretFault(
                    f"prerequisites[{index}].same[{place}]", _said(name, "is compared with no other call's")
                )


def _shown_uses(tool: Tool, secret: frozenset[str]) -> Iterator[SecretFault]:
    """Yield the fields that would show a secret to whoever sees the resource, the entities or the amount."""
    _, _, resource = tool.resource.partition(":")
    for name in _placeholders(resource):
        if fold(name) in secret:
            yield SecretFault("resource", _said(name, "is no part of an id"))
    for index, ref in enumerate(tool.entities):
        for name in _placeholders(ref.id or ""):
            if fold(name) in secret:
                yield SecretFault(f"entities[{index}].id", _said(name, "is no part of an id"))
    if tool.amount is not None:
        for field, argument in (
            ("amount.argument", tool.amount.argument),
            ("amount.currency_argument", tool.amount.currency_argument or ""),
        ):
            if fold(argument) in secret:
                yield SecretFault(field, _said(argument, "is no amount, which policy and receipts show"))


def _said(argument: str, rule: str) -> str:
    return f"{argument!r} is secret, or holds a secret: it {rule}"


def _placeholders(template: str) -> tuple[str, ...]:
    try:
        return read_template(template).names
    except TemplateError:
        return ()


@lru_cache(maxsize=1024)
def _undeclared(schema: str, paths: tuple[str, ...]) -> tuple[str, ...]:
    """Return the paths that the text of a schema does not declare; all of them if it is no schema."""
    try:
        whole = orjson.loads(schema) if schema else {}
    except orjson.JSONDecodeError:
        return paths
    return tuple(path for path in paths if not _declares(whole, path))


def _declares(whole: Any, path: str) -> bool:
    """Return whether a schema has a place of its own for what the path leads to.

    A name is declared by `properties`, by a pattern that it matches, or by a schema that all other
    members have to fit. What a schema merely leaves open is not declared.
    """
    places: list[tuple[Any, str]] = [(whole, path)]
    seen: set[tuple[int, str]] = set()
    while places:
        schema, rest = places.pop()
        if schema is not True and not isinstance(schema, Mapping):
            continue
        if not rest:
            return True
        # References may go round in circles.
        if schema is True or (id(schema), rest) in seen:
            continue
        seen.add((id(schema), rest))
        inside = element_path(rest)
        if inside is not None:
            places += [(item, inside) for item in _element_schemas(schema)]
        else:
            places += [(item, left) for name, left in split_path(rest) for item in _members(schema, name)]
        places += [(part, rest) for part in _parts(schema, whole)]
    return False


def _members(schema: Mapping[str, Any], name: str) -> Iterator[Any]:
    """Yield the subschemas that judge the member of this name."""
    properties, patterns = schema.get("properties"), schema.get("patternProperties")
    named = [item for key, item in _object(properties).items() if fold(key) == fold(name)]
    matched = [item for pattern, item in _object(patterns).items() if _matches(pattern, name)]
    yield from named
    yield from matched
    if not named and not matched:
        for word in ("additionalProperties", "unevaluatedProperties"):
            yield from (item for item in (schema.get(word),) if isinstance(item, Mapping) and item)


def _element_schemas(schema: Mapping[str, Any]) -> Iterator[Any]:
    """Yield the subschemas that judge elements of a list."""
    yield schema.get("items")
    yield from _list(schema.get("prefixItems"))


def _parts(schema: Mapping[str, Any], whole: Any) -> Iterator[Any]:
    """Yield the subschemas that judge the same value."""
    for word in ("if", "then", "else"):
        yield schema.get(word)
    for word in ("allOf", "anyOf", "oneOf"):
        yield from _list(schema.get(word))
    yield from _object(schema.get("dependentSchemas")).values()
    yield _referred(schema.get("$ref"), whole)


def _referred(reference: Any, whole: Any) -> Any:
    """Return what a reference within the schema points to (RFC 6901); None for any other one."""
    if reference == "#":
        return whole
    if not isinstance(reference, str) or not reference.startswith("#/"):
        return None
    place = whole
    for step in reference[2:].split("/"):
        step = unquote(step).replace("~1", "/").replace("~0", "~")
        if isinstance(place, Mapping):
            place = place.get(step)
        elif isinstance(place, list) and step.isascii() and step.isdecimal() and int(step) < len(place):
            place = place[int(step)]
        else:
            return None
    return place


def _object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _matches(pattern: str, name: str) -> bool:
    """Return whether a name matches a pattern of a schema, by the engine that judges arguments."""
    judge = _pattern(pattern)
    return judge is not None and not judge.is_valid({name: None})


@lru_cache(maxsize=256)
def _pattern(pattern: str) -> jsonschema_rs.Draft202012Validator | None:
    try:
        return jsonschema_rs.Draft202012Validator(
            {"patternProperties": {pattern: False}},
            pattern_options=jsonschema_rs.RegexOptions(),
            offline=True,
        )
    except ValueError:
        return None
