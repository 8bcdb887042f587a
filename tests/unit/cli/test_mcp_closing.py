"""Schemas of MCP servers, closed: what their makers' take passes, and what they do not name does not."""

from __future__ import annotations

import json
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from placet.cli.mcp.listing import closed_schema
from placet.cli.mcp.schemas import SchemaError

TEXT, NUMBER = {"type": "string"}, {"type": "number"}


def closed(schema: dict[str, Any]) -> dict[str, Any]:
    return closed_schema(schema)[0]


def takes(schema: dict[str, Any], value: Any) -> bool:
    """Judge as the server does."""
    return jsonschema_rs.Draft202012Validator(
        schema, pattern_options=jsonschema_rs.RegexOptions(), offline=True
    ).is_valid(value)


def named(**members: Any) -> dict[str, Any]:
    return {"type": "object", "properties": members}


NESTED = named(user=named(name=TEXT))
SHARED = {
    "allOf": [
        {"properties": {"user": named(name=TEXT)}},
        {"properties": {"user": {"properties": {"mail": TEXT}, "required": ["mail"]}}},
    ]
}
BRANCHES = {
    "properties": {"kind": {"enum": ["a", "b"]}, "data": {"type": "object"}},
    "required": ["kind"],
    "oneOf": [
        {"properties": {"kind": {"const": "a"}, "data": named(x=TEXT)}},
        {"properties": {"kind": {"const": "b"}, "data": named(y=TEXT)}},
    ],
}
CONDITION = {
    "properties": {"mode": TEXT, "to": {"type": "object"}},
    "if": {"properties": {"mode": {"const": "mail"}}, "required": ["mode"]},
    "then": {"properties": {"to": named(address=TEXT)}},
    "else": {"properties": {"to": named(number=TEXT)}},
}
TREE = {
    "$ref": "#/$defs/node",
    "$defs": {"node": named(value=TEXT, children={"type": "array", "items": {"$ref": "#/$defs/node"}})},
}
ITSELF = named(name=TEXT, next={"$ref": "#"})


@pytest.mark.parametrize(
    ("schema", "passes", "does_not"),
    [
        ({"allOf": [named(a=TEXT), named(b=TEXT)]}, {"a": "1", "b": "2"}, {"a": "1", "c": "2"}),
        ({"anyOf": [named(a=TEXT), named(b=TEXT)]}, {"a": "1", "b": "2"}, {"b": "2", "c": "1"}),
        ({"oneOf": [named(a=TEXT) | {"required": ["a"]}, named(b=TEXT) | {"required": ["b"]}]}, {"a": "1"},
         {"a": "1", "c": 1}),
        (named(a=TEXT) | {"if": named(b=TEXT) | {"required": ["b"]}, "then": named(c=TEXT)},
         {"a": "", "b": "", "c": ""}, {"a": "", "c": ""}),
        ({"$ref": "#/$defs/x", "$defs": {"x": named(a=TEXT)}}, {"a": ""}, {"b": ""}),
        ({"$ref": "#/definitions/x", "definitions": {"x": named(a=TEXT)}}, {"a": ""}, {"b": ""}),
        (named(a=TEXT) | {"dependentSchemas": {"a": named(b=TEXT)}}, {"a": "", "b": ""}, {"b": ""}),
        (named(a=TEXT) | {"dependencies": {"a": named(b=TEXT)}}, {"a": "", "b": ""}, {"b": ""}),
        (named(a=TEXT) | {"patternProperties": {"^x-": TEXT}}, {"x-1": ""}, {"y-1": ""}),
        (named(a=TEXT) | {"additionalProperties": TEXT}, {"b": ""}, {"b": {"c": ""}}),
        (named(a=TEXT) | {"unevaluatedProperties": TEXT}, {"b": ""}, {"b": 1}),
        (named(a=TEXT) | {"not": named(b=TEXT) | {"required": ["b"]}}, {"a": ""}, {"b": 1}),
        (NESTED, {"user": {"name": ""}}, {"user": {"name": "", "admin": True}}),
        (named(list={"type": "array", "items": NESTED}), {"list": [{"user": {"name": ""}}]},
         {"list": [{"user": {}}, {"other": 1}]}),
        (named(pair={"type": "array", "prefixItems": [named(a=TEXT)]}), {"pair": [{"a": ""}, 1]},
         {"pair": [{"a": ""}, {"a": ""}]}),
        (named(list={"type": "array"}), {"list": [1, "", []]}, {"list": [[{"a": 1}]]}),
        (named(any=True), {"any": [1, {}]}, {"any": {"a": 1}}),
        (named(any={}), {"any": "text"}, {"any": [{"a": 1}]}),
        (named(map={"type": "object"}), {"map": {}}, {"map": {"a": 1}}),
        (named(map={"additionalProperties": True}), {"map": {"a": 1}}, {"map": {"a": {"b": 1}}}),
        (named(maybe={"anyOf": [NESTED, {"type": "null"}]}), {"maybe": {"user": {"name": ""}}},
         {"maybe": {"user": {"x": ""}}}),
        (SHARED, {"user": {"name": "", "mail": ""}}, {"user": {"mail": "", "admin": 1}}),
        (BRANCHES, {"kind": "a", "data": {"x": ""}}, {"kind": "a", "data": {"y": ""}}),
        (BRANCHES, {"kind": "b", "data": {"y": ""}}, {"kind": "b", "data": {"y": "", "z": 1}}),
        (CONDITION, {"mode": "mail", "to": {"address": ""}}, {"mode": "mail", "to": {"number": ""}}),
        (CONDITION, {"mode": "call", "to": {"number": ""}}, {"mode": "call", "to": {"address": ""}}),
        (TREE, {"children": [{"value": "", "children": [{"value": ""}]}]},
         {"children": [{"children": [{"hidden": ""}]}]}),
        (ITSELF, {"next": {"next": {"name": ""}}}, {"next": {"next": {"hidden": ""}}}),
        ({"type": "object"}, {}, {"a": 1}),
        ({}, {}, {"a": 1}),
        ({"allOf": [{"$ref": "#/$defs/base"}, named(b=TEXT)], "$defs": {"base": named(a=TEXT)}},
         {"a": "", "b": ""}, {"a": "", "c": ""}),
        (named(a={"allOf": [{"$ref": "#/$defs/base"}, named(b=TEXT)]}) | {"$defs": {"base": named(a=TEXT)}},
         {"a": {"a": "", "b": ""}}, {"a": {"a": "", "c": ""}}),
        (named(a={"contains": named(x=TEXT) | {"required": ["x"]}, "type": "array"}),
         {"a": [{"x": ""}, 1]}, {"a": [{"x": ""}, {"y": 1}]}),
    ],
)  # fmt: skip
def test_what_is_named_passes_and_what_is_not_does_not(
    schema: dict[str, Any], passes: Any, does_not: Any
) -> None:
    made = closed(schema)
    assert takes(schema | {}, passes)
    assert takes(made, passes), json.dumps(made)
    assert not takes(made, does_not), json.dumps(made)


def test_simple_schema_is_closed_where_its_objects_stand() -> None:
    schema, notes = closed_schema(NESTED)
    assert schema == {
        "type": "object",
        "properties": {"user": named(name=TEXT) | {"additionalProperties": False}},
        "additionalProperties": False,
    }
    assert notes == ("arguments_schema: closed, so that arguments that it does not name are blocked",)


def test_schema_that_is_closed_already_stays_as_it_is() -> None:
    schema = named(a=TEXT) | {"additionalProperties": False}
    assert closed_schema(schema) == (schema, ())


@pytest.mark.parametrize(
    ("schema", "note"),
    [
        (named(map={"type": "object"}), "/properties/map: its maker names no members"),
        (named(any=True), "/properties/any: its maker names no members"),
        (named(map={"additionalProperties": True}), "/properties/map: takes members of any name"),
        (named(a=TEXT) | {"additionalProperties": {}}, "arguments_schema: /: takes members of any name"),
        (named(a={"type": "string", "nullable": True}), "/properties/a: nullable is read as the type null"),
        (BRANCHES, "several parts of it describe the same objects"),
        ({"$schema": "http://json-schema.org/draft-07/schema#"}, "written anew in 2020-12 from http"),
    ],
)
def test_what_people_should_know_is_noted(schema: dict[str, Any], note: str) -> None:
    assert any(note in said for said in closed_schema(schema)[1])


D4 = "http://json-schema.org/draft-04/schema#"
D6 = "http://json-schema.org/draft-06/schema"
D7 = "https://json-schema.org/draft-07/schema#"
D19 = "https://json-schema.org/draft/2019-09/schema"
PAIR = named(p={"type": "array", "items": [named(a=TEXT), NUMBER], "additionalItems": False})


@pytest.mark.parametrize(
    ("schema", "passes", "does_not"),
    [
        (named(n={"minimum": 0, "exclusiveMinimum": True}) | {"$schema": D4}, {"n": 1}, {"n": 0}),
        (named(n={"minimum": 0, "exclusiveMinimum": False}) | {"$schema": D4}, {"n": 0}, {"n": -1}),
        (named(n={"type": "number", "maximum": 9, "exclusiveMaximum": True}), {"n": 8}, {"n": 9}),
        (named(n={"type": "number", "exclusiveMinimum": 0}), {"n": 1}, {"n": 0}),
        (PAIR | {"$schema": D7}, {"p": [{"a": ""}, 1]}, {"p": [{"b": ""}, 1]}),
        (PAIR | {"$schema": D7}, {"p": [{"a": ""}]}, {"p": [{"a": ""}, 1, 2]}),
        (PAIR, {"p": [{"a": ""}, 1]}, {"p": [{"b": ""}, 1]}),
        (named(a=TEXT, b=TEXT) | {"$schema": D7, "dependencies": {"a": ["b"]}}, {"a": "", "b": ""},
         {"a": ""}),
        ({"$schema": D7, "$ref": "#/definitions/x", "definitions": {"x": named(a=TEXT)}, "required": ["b"]},
         {"a": ""}, {"b": ""}),
        ({"$schema": D4, "id": "https://example.org/a", "type": "object",
          "properties": {"x": {"$ref": "#thing"}}, "definitions": {"t": named(a=TEXT) | {"id": "#thing"}}},
         {"x": {"a": ""}}, {"x": {"b": ""}}),
        ({"$id": "https://example.org/a", "type": "object",
          "properties": {"x": {"$ref": "https://example.org/b"}, "y": {"$ref": "b#/properties/a"}},
          "$defs": {"t": named(a=NUMBER) | {"$id": "b"}}}, {"x": {"a": 1}, "y": 2}, {"x": {"b": 1}}),
        (named(x={"$ref": "#there"}) | {"$defs": {"t": named(a=TEXT) | {"$anchor": "there"}}},
         {"x": {"a": ""}}, {"x": {"b": ""}}),
        (named(x={"$ref": "#/components/T%5Bint%5D"}) | {"components": {"T[int]": named(a=TEXT)}},
         {"x": {"a": ""}}, {"x": {"b": ""}}),
        (named(a=TEXT) | {"$schema": D6, "if": {"required": ["a"]}, "then": False}, {"a": ""}, {"b": ""}),
        (named(a=TEXT) | {"$schema": D7, "unevaluatedProperties": True}, {"a": ""}, {"b": ""}),
        (named(name=TEXT, next={"$recursiveRef": "#"}) | {"$schema": D19}, {"next": {"name": ""}},
         {"next": {"x": ""}}),
        (named(a={"type": "string", "nullable": True, "enum": ["x"]}), {"a": None}, {"a": "y"}),
        (named(a={"const": {"$ref": "nowhere"}, "type": "object"}), {"a": {"$ref": "nowhere"}}, {"a": {}}),
    ],
)  # fmt: skip
def test_older_dialects_mean_what_they_say(schema: dict[str, Any], passes: Any, does_not: Any) -> None:
    made = closed(schema)
    assert takes(made, passes), json.dumps(made)
    assert not takes(made, does_not), json.dumps(made)


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        (True, "/: must be an object"),
        (None, "/: must be an object"),
        ({"$schema": "https://example.org/mine"}, "/$schema: 'https://example.org/mine' is no dialect"),
        ({"$schema": 7}, "/$schema: 7 is no dialect"),
        ({"$schema": "http://json-schema.org/draft-03/schema#"}, "is no dialect that is known here"),
        (named(a={"$ref": "https://example.org/a"}), "/properties/a/$ref: 'https://example.org/a' leads out"),
        (named(a={"$ref": "other.json#/x"}), "leads out of the schema; nothing is fetched"),
        (named(a={"$ref": D7}), "leads out of the schema; nothing is fetched"),
        (named(a={"$ref": "#/$defs/none"}), "/properties/a/$ref: '#/$defs/none' leads nowhere"),
        (named(a={"$ref": "#none"}), "'#none' leads nowhere"),
        (named(a={"$ref": 7}), "/properties/a/$ref: must be a reference"),
        ({"$ref": "#"}, "without end"),
        ({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"anyOf": [{"$ref": "#/$defs/a"}]}}}
         | {},
         "without end"),
        (named(a={"$dynamicRef": "#x"}), "/properties/a/$dynamicRef: is a reference that cannot be closed"),
        (named(a={"type": "string", "pattern": "^(?!x)"}),
         "/properties/a/pattern: the engine has no such pattern: ^(?!x)"),
        (named(a={"type": "string", "pattern": r"(a)\1"}), r"no such pattern: (a)\1"),
        (named(a={"patternProperties": {"(?=x)": True}}), "/properties/a/patternProperties/(?=x): the e"),
        (named(a={"type": "text"}), "/properties/a/type: is no JSON Schema"),
        (named(a={"required": True}), "/properties/a/required: is no JSON Schema"),
        (named(a=7), "/properties/a: must be a schema"),
        ({"properties": []}, "/properties: must be an object of schemas"),
        ({"allOf": {}}, "/allOf: must be a list of schemas"),
        ({"type": "array"}, "/type: must be object"),
        (named(a={"enum": ["x" * 70_000]}), "bytes long"),
    ],
)  # fmt: skip
def test_schema_that_cannot_be_used_is_named_by_place(schema: Any, said: str) -> None:
    with pytest.raises(SchemaError) as caught:
        closed_schema(schema)
    assert said in str(caught.value)


# What follows judges schemas by itself, without the engine, to compare with.

NAMES = ("a", "b", "c")


def judge(schema: Any, value: Any, root: Any, at: tuple[Any, ...] = ()) -> set[tuple[Any, ...]] | None:
    """Return the members in a value that a schema names, by place; None if the schema does not take it."""
    if isinstance(schema, bool):
        return set() if schema else None
    found: set[tuple[Any, ...]] = set()

    def add(inside: Any, part: Any, below: tuple[Any, ...]) -> bool:
        names = judge(inside, part, root, below)
        if names is None:
            return False
        found.update(names)
        return True

    kind = schema.get("type")
    if kind is not None and not isinstance(value, {"object": dict, "array": list, "string": str}[kind]):
        return None
    if "const" in schema and value != schema["const"]:
        return None
    if "$ref" in schema and not add(root["$defs"][schema["$ref"].rpartition("/")[2]], value, at):
        return None
    if isinstance(value, dict):
        if any(name not in value for name in schema.get("required", ())):
            return None
        for name, part in value.items():
            own = [schema["properties"][name]] if name in schema.get("properties", {}) else []
            own += [
                inside for pattern, inside in schema.get("patternProperties", {}).items() if name in pattern
            ]
            if not own and "additionalProperties" in schema:
                own = [schema["additionalProperties"]]
            for inside in own:
                found.add((*at, name))
                if not add(inside, part, (*at, name)):
                    return None
        for name, inside in schema.get("dependentSchemas", {}).items():
            if name in value and not add(inside, value, at):
                return None
    if isinstance(value, list):
        prefix = schema.get("prefixItems", [])
        for index, part in enumerate(value):
            inside = prefix[index] if index < len(prefix) else schema.get("items", True)
            if not add(inside, part, (*at, index)):
                return None
        if "contains" in schema:
            taken = [judge(schema["contains"], part, root, (*at, n)) for n, part in enumerate(value)]
            if all(names is None for names in taken):
                return None
            found.update(*(names for names in taken if names is not None))
    if any(not add(inside, value, at) for inside in schema.get("allOf", ())):
        return None
    for keyword in ("anyOf", "oneOf"):
        if keyword in schema:
            taken = [judge(inside, value, root, at) for inside in schema[keyword]]
            holding = [names for names in taken if names is not None]
            if not holding or (keyword == "oneOf" and len(holding) > 1):
                return None
            found.update(*holding)
    if "not" in schema and judge(schema["not"], value, root, at) is not None:
        return None
    if "if" in schema:
        holds = add(schema["if"], value, at)
        if not add(schema.get("then" if holds else "else", True), value, at):
            return None
    return found


def members(value: Any, at: tuple[Any, ...] = ()) -> set[tuple[Any, ...]]:
    if isinstance(value, dict):
        return {(*at, name) for name in value}.union(*(members(v, (*at, n)) for n, v in value.items()))
    if isinstance(value, list):
        return set().union(*(members(part, (*at, index)) for index, part in enumerate(value)))
    return set()


def keywords(inside: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    few = st.lists(inside, min_size=1, max_size=2)
    by_name = st.dictionaries(st.sampled_from(NAMES), inside, min_size=1, max_size=2)
    parts: dict[str, st.SearchStrategy[Any]] = {
        "type": st.sampled_from(("object", "object", "array", "string")),
        "properties": by_name,
        "required": st.lists(st.sampled_from(NAMES), max_size=1),
        "allOf": few,
        "anyOf": few,
        "oneOf": few,
        "not": inside,
        "if": inside,
        "then": inside,
        "else": inside,
        "additionalProperties": inside,
        "patternProperties": st.dictionaries(st.sampled_from(("ab", "bc", "a")), inside, max_size=1),
        "dependentSchemas": by_name,
        "items": inside,
        "prefixItems": few,
        "contains": inside,
        "$ref": st.sampled_from(("#/$defs/x", "#/$defs/y")),
        "const": st.sampled_from(("x", "y")),
    }
    often = st.sampled_from(("properties", "properties", *parts))
    return st.lists(often, min_size=1, max_size=3, unique=True).flatmap(
        lambda names: st.fixed_dictionaries({name: parts[name] for name in names})
    )


SCHEMAS = st.recursive(
    st.one_of(
        st.booleans(),
        st.sampled_from(({"type": "string"}, {"type": "object"}, {}, {"const": "x"})),
    ),
    lambda inside: keywords(inside),
    max_leaves=12,
)
VALUES = st.recursive(
    st.sampled_from(("x", "y", 1, None)),
    lambda inside: st.one_of(
        st.dictionaries(st.sampled_from((*NAMES, "d")), inside, max_size=3), st.lists(inside, max_size=2)
    ),
    max_leaves=8,
)
OBJECTS = st.dictionaries(st.sampled_from((*NAMES, "d")), VALUES, max_size=3)


def with_patterns(schema: Any) -> Any:
    """Return a schema with patterns as regular expressions: "ab" stands for a name of one of the letters."""
    if isinstance(schema, list):
        return [with_patterns(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        name: {f"^[{letters}]$": with_patterns(inside) for letters, inside in value.items()}
        if name == "patternProperties"
        else with_patterns(value)
        for name, value in schema.items()
    }


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    schema=keywords(SCHEMAS),
    x=keywords(SCHEMAS),
    y=keywords(SCHEMAS),
    values=st.lists(OBJECTS, min_size=6, max_size=12),
)
def test_closed_schema_takes_what_its_makers_takes_if_all_of_it_is_named(
    schema: dict[str, Any], x: dict[str, Any], y: dict[str, Any], values: list[dict[str, Any]]
) -> None:
    root = schema | {"type": "object", "$defs": {"x": x, "y": y}}
    try:
        made = closed(with_patterns(root))
    except SchemaError as exc:
        event(f"left out: {str(exc).partition(': ')[2][:40]}")
        return
    event("beside" if "placet.closed.0" in json.dumps(made) else "in place")
    for value in values:
        names = judge(root, value, root)
        assert takes(with_patterns(root), value) == (names is not None)
        wanted = names is not None and members(value) <= names
        assert takes(made, value) == wanted, (value, json.dumps(made))
        event(f"passes: {wanted}")
