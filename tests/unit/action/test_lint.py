"""Registrations before they are written: what is refused could never pass, and what could leak is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pdp.action.derivation import derive
from pdp.action.lint import lint_registrations, tool_form
from pdp.model import AmountRole, AmountUnit, BusinessKeyRule, Tool, ToolEffect
from pdp.server.messages.tools import tools
from placet._calls.registry import put_tools
from placet._calls.toolform import tool_form as form_of_message
from tests.e2e.invoices import TOOLS
from tests.support import builders

TEXT: dict[str, Any] = {"type": "string"}
SCHEMAS: st.SearchStrategy[Any] = st.recursive(
    st.sampled_from(
        [
            True,
            {},
            TEXT,
            {"type": "number"},
            {"type": ["string", "null"]},
            {"enum": ["x", 1]},
            {"minLength": 2, "maxLength": 1},
            {"minimum": 5, "maximum": 9},
            {"minLength": 3, "exclusiveMaximum": 5},
        ]
    ),
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
            st.sampled_from([None, False, TEXT]),
        ),
        st.builds(
            lambda word, parts: {word: parts},
            st.sampled_from(["allOf", "anyOf", "oneOf"]),
            st.lists(inner, min_size=1, max_size=2),
        ),
    ),
    max_leaves=5,
)
VALUES = st.sampled_from(["x", "y/z", 1, 12, None, ["x"], {"a": "x"}])
AMOUNTS = st.sampled_from(
    [
        None,
        AmountRole(argument="a", unit=AmountUnit.MINOR, currency_code="EUR"),
        AmountRole(argument="c", unit=AmountUnit.MAJOR, currency_code="EUR"),
        AmountRole(argument="a", unit=AmountUnit.MAJOR, currency_argument="b"),
        AmountRole(argument="a", unit=None, currency_code="EUR"),
    ]
)
# Said of what follows a call that passes: its duplicates, and what comes before it.
OF_OTHERS = ("business_key.", "prerequisite.", "redeem.")


@given(
    SCHEMAS,
    st.sampled_from(["x:1", "x:{a}", "x:{a}-{b}", "x:../{a}", "x:{c}", "x:{a}{b}"]),
    AMOUNTS,
    st.dictionaries(st.sampled_from("abc"), VALUES, max_size=3),
)
def test_what_can_pass_is_never_an_error(
    schema: Any, resource: str, amount: AmountRole | None, arguments: dict[str, Any]
) -> None:
    tool = replace(
        builders.tool(resource=resource, amount=amount, arguments_schema=json.dumps(schema)),
        business_key=BusinessKeyRule(name="k", arguments=("a",)),
    )
    if derive(builders.action(arguments=arguments), tool).problems:
        return
    (found,) = lint_registrations([tool])
    assert [
        judged for judged in found if judged.is_error and not judged.finding.code.startswith(OF_OTHERS)
    ] == []


def test_every_pattern_that_the_engine_refuses_is_named() -> None:
    schema = {
        "type": "object",
        "properties": {
            "a": {"type": "string", "pattern": "("},
            "b": {"type": "array", "items": {"type": "string", "pattern": "^(?=x)x"}},
            "c": {"type": "string", "pattern": "^[a-z]+$"},
            "d": {"type": "string", "pattern": "[z-a]" * 50},
        },
        "patternProperties": {"[": {"type": "string"}, "^x-": {"type": "string"}},
        "additionalProperties": False,
    }
    (found,) = lint_registrations([builders.tool(resource="x:1", arguments_schema=json.dumps(schema))])
    wrong = [(item.field.removeprefix("tools[0].arguments_schema."), item.finding.message)
             for item in found if item.is_error]  # fmt: skip
    assert sorted(field for field, _ in wrong) == [
        "patternProperties.[",
        "properties.a.pattern",
        "properties.b.items.pattern",
        "properties.d.pattern",
    ]
    assert all("\n" not in message and len(message) < 200 for _, message in wrong)
    assert any(said.startswith("'(' is no regular expression that the engine can apply") for _, said in wrong)


@pytest.mark.parametrize(
    ("schema", "field"),
    [
        (
            {"type": "object", "properties": {"a": {"minLength": -1}}},
            "arguments_schema.properties.a.minLength",
        ),
        ({"type": "object", "properties": {"a": {"$ref": "#/$defs/none"}}}, "arguments_schema"),
        ({"type": "object", "properties": {"a": {"$ref": "https://example.org/x"}}}, "arguments_schema"),
    ],
)
def test_what_the_engine_refuses_is_named_in_one_line(schema: Any, field: str) -> None:
    (found,) = lint_registrations([builders.tool(resource="x:1", arguments_schema=json.dumps(schema))])
    (item,) = [item for item in found if item.is_error]
    assert item.field == f"tools[0].{field}"
    assert item.finding.message.startswith("is no JSON Schema (2020-12): ")
    assert "\n" not in item.finding.message


def test_form_of_a_tool_says_what_its_file_says() -> None:
    forms = [form_of_message(message) for message in put_tools(TOOLS).request.tools]
    for tool, form in zip(tools(put_tools(TOOLS).request), forms, strict=True):
        made = {name: value for name, value in tool_form(tool).items() if value not in ("", [], {}, False)}
        for name in ("name", "effect", "resource", "arguments_schema", "argument_roles", "normalise"):
            assert made.get(name) == form.get(name), name
        for one, other in zip(made.get("entities", []), form.get("entities", []), strict=True):
            assert {name: value for name, value in one.items() if value} == other


@pytest.mark.parametrize(
    ("schema", "secret", "field"),
    [
        ({"type": "object", "properties": {"pin": TEXT}}, "pni", "secret_arguments[0]"),
        ({"type": "object", "patternProperties": {"^p": TEXT}}, "pin", None),
        (
            {"type": "object", "properties": {"headers": {"type": "object"}}},
            "headers.Cookie",
            "secret_arguments[0]",
        ),
    ],
)
def test_secret_is_judged_as_the_engine_reads_its_schema(schema: Any, secret: str, field: str | None) -> None:
    tool = Tool(
        name="t",
        effect=ToolEffect.READ,
        resource="x:1",
        arguments_schema=json.dumps(schema),
        secret_arguments=(secret,),
    )
    (found,) = lint_registrations([tool])
    assert [judged.field for judged in found if judged.is_error] == (
        [] if field is None else [f"tools[0].{field}"]
    )
