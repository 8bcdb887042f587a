"""The schema of a tool's arguments by itself: whether anything fits it, and what passes unnamed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from placet._lint.findings import Path
from placet._lint.registration import Registration
from placet._lint.schema import TYPES, Opening, SchemaUnclearError
from placet._spelling import hint, words

_AT = ("arguments_schema",)
# Words of JSON Schema 2020-12, with those of earlier drafts and of OpenAPI that schemas still have.
_WORDS = words(
    "$schema $id $ref $anchor $dynamicRef $dynamicAnchor $vocabulary $comment $defs definitions allOf "
    "anyOf oneOf not if then else dependentSchemas prefixItems items contains properties "
    "patternProperties additionalProperties propertyNames unevaluatedItems unevaluatedProperties type "
    "enum const multipleOf maximum exclusiveMaximum minimum exclusiveMinimum maxLength minLength pattern "
    "maxItems minItems uniqueItems maxContains minContains maxProperties minProperties required "
    "dependentRequired title description default deprecated readOnly writeOnly examples format "
    "contentEncoding contentMediaType contentSchema additionalItems dependencies id example nullable "
    "discriminator xml externalDocs"
)
_LISTS = ("allOf", "anyOf", "oneOf", "prefixItems")
_SINGLE = (
    "not", "if", "then", "else", "contains", "additionalProperties", "propertyNames", "unevaluatedItems",
    "unevaluatedProperties", "items",
)  # fmt: skip
_MAPS = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")
_WHAT = {
    "anything": "takes any value: give it a type, or list its values",
    "members": "lets an object have members that it does not name: add additionalProperties: false",
    "elements": "takes a list of anything: say in items what its elements are",
}


def check_schema(tool: Registration) -> bool:
    """Add what is wrong with the schema; return whether what it says of single arguments can be relied on."""
    schema = tool.form.get("arguments_schema")
    if schema is None:
        return True
    if tool.schema is None or not isinstance(schema, Mapping):
        return False
    if not _check_form(tool, schema):
        return False
    try:
        for path, why in tool.schema.contradictions()[:1]:
            tool.add("schema.never", (*_AT, *path), f"{why}: no call can fit")
            return False
        for opening in tool.schema.openings():
            tool.add("schema.open", (*_AT, *opening.path), _describe(opening))
    except SchemaUnclearError:
        tool.add(
            "schema.unclear",
            _AT,
            "has too many alternatives to say what its arguments may be: they are not checked",
        )
        return False
    return True


def _describe(opening: Opening) -> str:
    if not opening.name:
        return "lets through arguments that it does not name, unjudged: add additionalProperties: false"
    return f"{opening.name!r} {_WHAT[opening.what]}"


def _check_form(tool: Registration, schema: Mapping[str, Any]) -> bool:
    """Add words that are misspelt, and values that words of a schema cannot have."""
    right = True
    for path, value in subschemas(schema):
        at = (*_AT, *path)
        if not isinstance(value, Mapping):
            if not isinstance(value, bool):
                tool.add("schema.invalid", at, "must be a schema: a mapping, true or false")
                right = False
            continue
        for word, said in value.items():
            problem = _problem(word, said)
            if problem:
                tool.add("schema.invalid", (*at, word), problem)
                right = False
            elif isinstance(word, str) and word not in _WORDS and not word.startswith("x-"):
                close = hint(word, _WORDS)
                if close:
                    tool.add(
                        "schema.misspelt",
                        (*at, word),
                        f"is no word of JSON Schema and says nothing{close}",
                        of_name=True,
                    )
    return right


def _problem(word: Any, said: Any) -> str:
    """Return what is wrong with the value of a word; empty if nothing is, or if it is not looked at."""
    if word == "type":
        for each in said if isinstance(said, list) and said else [said]:
            if not isinstance(each, str) or each not in TYPES | {"integer"}:
                known = sorted(TYPES | {"integer"})
                close = hint(each, known) if isinstance(each, str) else ""
                return f"{each!r} is no type of JSON; known: {', '.join(known)}{close}"
    if word == "required" and not (isinstance(said, list) and all(isinstance(name, str) for name in said)):
        return "must be a list of names; it stands beside properties, not in one of them"
    if word in _MAPS and not isinstance(said, Mapping):
        return "must be a mapping of schemas by name"
    if word in _LISTS and not (isinstance(said, list) and said):
        return "must be a list of schemas"
    if word == "enum" and not isinstance(said, list):
        return "must be a list of values"
    return ""


def subschemas(schema: Any) -> Iterator[tuple[Path, Any]]:
    """Yield a schema and every schema inside of it, each with its path."""
    waiting: list[tuple[Path, Any]] = [((), schema)]
    while waiting:
        at, value = waiting.pop()
        yield at, value
        if not isinstance(value, Mapping):
            continue
        inner: list[tuple[Path, Any]] = []
        for word in _SINGLE:
            # Earlier drafts had a list of schemas in items, which the server refuses by itself.
            if word in value and not (word == "items" and isinstance(value[word], list)):
                inner.append(((*at, word), value[word]))
        for word in _LISTS:
            if isinstance(value.get(word), list):
                inner += [((*at, word, index), item) for index, item in enumerate(value[word])]
        for word in _MAPS:
            if isinstance(value.get(word), Mapping):
                inner += [((*at, word, name), item) for name, item in value[word].items()]
        waiting += reversed(inner)
