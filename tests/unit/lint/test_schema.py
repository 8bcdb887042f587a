"""What a schema says of each argument, read without running it."""

from __future__ import annotations

from typing import Any

import jsonschema_rs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from placet._lint.schema import ArgumentSchema, Presence, SchemaUnclearError

NAMED, UNNAMED, FORBIDDEN = Presence.NAMED, Presence.UNNAMED, Presence.FORBIDDEN
TEXT: dict[str, Any] = {"type": "string"}


def closed(*required: str, **properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }


def opened(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties}


NESTED = closed(
    "headers",
    headers=closed(Authorization=TEXT),
    items={"type": "array", "items": closed("sku", sku=TEXT)},
)
BY_REFERENCE = {
    "$ref": "#/$defs/call",
    "$defs": {"call": closed("to", to={"$ref": "#/$defs/address"}), "address": TEXT},
}
BRANCHES = {
    "type": "object",
    "oneOf": [
        {"properties": {"kind": {"const": "mail"}, "to": TEXT}, "required": ["kind", "to"]},
        {"properties": {"kind": {"const": "page"}, "url": TEXT}, "required": ["kind", "url"]},
    ],
    "unevaluatedProperties": False,
}
WHEN = {
    "type": "object",
    "properties": {"a": TEXT},
    "if": {"properties": {"a": {"const": "x"}}},
    "then": {"properties": {"b": TEXT}, "required": ["b"]},
    "else": {"properties": {"c": {"type": "array"}}},
    "unevaluatedProperties": False,
}


@pytest.mark.parametrize(
    ("schema", "name", "presence", "required"),
    [
        (None, "a", FORBIDDEN, False),
        (closed(a=TEXT), "a", NAMED, False),
        (closed("a", a=TEXT), "a", NAMED, True),
        (closed(a=TEXT), "b", FORBIDDEN, False),
        (closed(a=False), "a", FORBIDDEN, False),
        (opened(a=TEXT), "b", UNNAMED, False),
        (opened(a=TEXT) | {"required": ["b"]}, "b", UNNAMED, True),
        ({}, "a", UNNAMED, False),
        (True, "a", UNNAMED, False),
        ({"type": "object", "additionalProperties": TEXT}, "a", UNNAMED, False),
        (opened(a=TEXT) | {"propertyNames": {"enum": ["a"]}}, "b", FORBIDDEN, False),
        (closed(a=TEXT) | {"patternProperties": {"^x-": TEXT}}, "x-1", UNNAMED, False),
        (NESTED, "headers.Authorization", NAMED, False),
        (NESTED, "headers.Authorisation", FORBIDDEN, False),
        (NESTED, "items[].sku", NAMED, False),
        (NESTED, "items.sku", FORBIDDEN, False),
        (closed(**{"a.b": TEXT}), "a.b", NAMED, False),
        (BY_REFERENCE, "to", NAMED, True),
        (BY_REFERENCE, "cc", FORBIDDEN, False),
        (BRANCHES, "kind", NAMED, True),
        (BRANCHES, "to", NAMED, False),
        (BRANCHES, "bcc", FORBIDDEN, False),
        (WHEN, "b", NAMED, False),
        (WHEN, "d", FORBIDDEN, False),
        ({"allOf": [opened(a=TEXT), {"required": ["a"]}]}, "a", NAMED, True),
        ({"allOf": [closed(a=TEXT), opened(b=TEXT)]}, "b", FORBIDDEN, False),
        ({"$ref": "https://elsewhere.example/schema"}, "a", UNNAMED, False),
        ({"$ref": "#"}, "a", UNNAMED, False),
        (closed(child={"$ref": "#"}), "child.child.child", NAMED, False),
        (closed(child={"$ref": "#"}), "child.other", FORBIDDEN, False),
    ],
)
def test_presence(schema: Any, name: str, presence: Presence, required: bool) -> None:
    found = ArgumentSchema(schema).find(name)
    assert (found.presence, found.required) == (presence, required)


@pytest.mark.parametrize(
    ("schema", "types"),
    [
        (TEXT, {"string"}),
        ({"type": ["integer", "null"]}, {"number", "null"}),
        ({"enum": ["a", 1]}, {"string", "number"}),
        ({"const": True}, {"boolean"}),
        ({"anyOf": [TEXT, {"type": "array"}]}, {"string", "array"}),
        ({"allOf": [{"type": ["string", "array"]}, {"type": ["array", "null"]}]}, {"array"}),
        ({}, {"null", "boolean", "object", "array", "number", "string"}),
    ],
)
def test_types(schema: Any, types: set[str]) -> None:
    assert ArgumentSchema(closed(a=schema)).find("a").types == types


@pytest.mark.parametrize(
    ("schema", "openings"),
    [
        (None, []),
        (closed(a=TEXT), []),
        ({}, [((), "members")]),
        (True, [((), "members")]),
        ({"type": "object"}, [((), "members")]),
        (opened(a=TEXT), [((), "members")]),
        (opened(a=TEXT) | {"additionalProperties": True}, [((), "members")]),
        (opened(a=TEXT) | {"additionalProperties": {}}, [((), "members")]),
        ({"type": "object", "additionalProperties": TEXT}, []),
        (closed(a=True), [(("properties", "a"), "anything")]),
        (closed(a={}), [(("properties", "a"), "anything")]),
        (closed(a={"description": "x"}), [(("properties", "a"), "anything")]),
        (closed(a={"minLength": 3}), [(("properties", "a"), "anything")]),
        (closed(a={"type": "object"}), [(("properties", "a"), "members")]),
        (closed(a={"type": "array"}), [(("properties", "a"), "elements")]),
        (closed(a={"type": "array", "items": {}}), [(("properties", "a"), "elements")]),
        (
            closed(a={"type": "array", "items": opened(b=TEXT)}),
            [(("properties", "a", "items"), "members")],
        ),
        (
            closed(a=closed(b=closed(c={"type": "object"}))),
            [(("properties", "a", "properties", "b", "properties", "c"), "members")],
        ),
        (closed(a={"anyOf": [TEXT, {}]}), [(("properties", "a"), "anything")]),
        (closed(a={"enum": [{"b": 1}]}), []),
        ({"allOf": [opened(a=TEXT), opened(b=TEXT)]}, [((), "members")]),
        ({"allOf": [opened(a=TEXT), opened(b=TEXT)], "unevaluatedProperties": False}, []),
        (closed(a=TEXT) | {"oneOf": [{"required": ["a"]}, {}]}, []),
        (BY_REFERENCE, []),
        (BRANCHES, []),
        (WHEN, [(("else", "properties", "c"), "elements")]),
        (
            closed(a=closed(b=TEXT) | {"patternProperties": {"^x": {}}}),
            [(("properties", "a", "patternProperties", "^x"), "anything")],
        ),
        (
            {"$ref": "#/$defs/a", "$defs": {"a": closed(b={"type": "object"})}},
            [(("$defs", "a", "properties", "b"), "members")],
        ),
        (closed(child={"$ref": "#"}), []),
    ],
)
def test_what_is_open_is_found_at_any_depth(schema: Any, openings: list[Any]) -> None:
    assert [(found.path, found.what) for found in ArgumentSchema(schema).openings()] == openings


@pytest.mark.parametrize(
    "schema",
    [
        False,
        {"type": "string"},
        {"type": "array"},
        {"const": 1},
        closed("b", a=TEXT),
        closed("a", a=False),
        {"allOf": [closed(a=TEXT), {"required": ["b"]}]},
        {"oneOf": [closed("b"), {"type": "null"}]},
        {"$ref": "#/$defs/a", "$defs": {"a": {"type": "string"}}},
    ],
)
def test_schema_that_nothing_fits_is_found(schema: Any) -> None:
    assert ArgumentSchema(schema).contradictions()
    assert not jsonschema_rs.is_valid(schema, {})


def test_too_many_alternatives_are_not_counted() -> None:
    branches = [{"properties": {f"a{n}": TEXT}} for n in range(9)]
    schema = {"allOf": [{"anyOf": branches}, {"anyOf": branches}], "type": "object"}
    with pytest.raises(SchemaUnclearError):
        ArgumentSchema(schema).find("a1")
    wide = closed(**{f"a{n}": {"anyOf": [TEXT, {"type": "number"}]} for n in range(30)})
    assert ArgumentSchema(wide).openings() == []


PARTS: st.SearchStrategy[Any] = st.recursive(
    st.sampled_from([True, False, {}, TEXT, {"type": "number"}, {"type": "object"}, {"enum": ["x"]}]),
    lambda inner: st.one_of(
        st.builds(
            lambda properties, required, close: {
                "type": "object",
                "properties": properties,
                "required": required,
                **({} if close is None else {"additionalProperties": close}),
            },
            st.dictionaries(st.sampled_from("ab"), inner, max_size=2),
            st.lists(st.sampled_from("ab"), max_size=2, unique=True),
            st.sampled_from([None, False, True, TEXT]),
        ),
        st.builds(
            lambda word, parts: {word: parts},
            st.sampled_from(["allOf", "anyOf", "oneOf"]),
            st.lists(inner, min_size=1, max_size=2),
        ),
        st.builds(lambda when, then: {"if": when, "then": then}, inner, inner),
    ),
    max_leaves=6,
)
VALUES = st.sampled_from(["x", 1, None, {}, {"a": "x"}, {"b": 1}, ["x"]])


@given(PARTS, st.dictionaries(st.sampled_from("abc"), VALUES, max_size=3))
def test_answers_are_never_stricter_than_the_schema(schema: Any, arguments: dict[str, Any]) -> None:
    if not jsonschema_rs.is_valid(schema, arguments):
        return
    said = ArgumentSchema(schema)
    assert not said.contradictions()
    for name in "abc":
        found = said.find(name)
        if name in arguments:
            assert found.presence is not FORBIDDEN
            kind = type(arguments[name]).__name__
            words = {"str": "string", "int": "number", "NoneType": "null", "dict": "object", "list": "array"}
            assert words[kind] in found.types
        else:
            assert not found.required
    if not said.openings():
        assert set(arguments) <= set("ab")
