"""Registrations whose secrets would be shown, or are none, are refused by the field."""

from __future__ import annotations

import json
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from pdp.action.derivation import derive
from pdp.action.secrets import claims_without_texts, find_secret_faults, hidden_texts, without_texts
from pdp.errors import InvalidFieldError
from pdp.model import (
    AmountRole,
    AmountUnit,
    BusinessKeyRule,
    EntityRef,
    Normalisation,
    Prerequisite,
    Tool,
)
from placet.normalise import NormalisationStep
from tests.support import builders
from tests.support.registrations import check_tool

STRING = {"type": "string"}
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "invoice": STRING,
        "amount": {"type": "number"},
        "currency": STRING,
        "pin": STRING,
        "api.key": STRING,
        "headers": {"type": "object", "properties": {"Authorization": STRING}},
        "cookies": {"type": "object", "additionalProperties": STRING},
        "extra": {"type": "object"},
        "anything": True,
        "tokens": {"type": "array", "items": STRING},
        "pair": {"type": "array", "prefixItems": [STRING, {"type": "object", "properties": {"key": STRING}}]},
        "items": {"type": "array", "items": {"$ref": "#/$defs/item"}},
        "either": {"anyOf": [STRING, {"type": "object", "properties": {"key": STRING}}]},
        "tree": {"$ref": "#/$defs/tree"},
    },
    "patternProperties": {"^x-[a-z]+$": {"type": "object", "properties": {"key": STRING}}},
    "allOf": [{"if": {"required": ["pin"]}, "then": {"properties": {"code": STRING}}}],
    "$defs": {
        "item": {"type": "object", "properties": {"token": STRING}},
        "tree": {"type": "object", "properties": {"key": STRING, "child": {"$ref": "#/$defs/tree"}}},
    },
    "additionalProperties": False,
}


def tool(*paths: str, **changes: Any) -> Tool:
    registered = builders.tool(arguments_schema=json.dumps(SCHEMA), secret_arguments=paths)
    return replace(registered, **changes)


@pytest.mark.parametrize(
    "path",
    [
        "pin",
        "PIN",
        "code",
        "api.key",
        "headers",
        "headers.Authorization",
        "headers.authorization",
        "cookies.session",
        "tokens",
        "tokens[]",
        "items[].token",
        "either.key",
        "pair[].key",
        "tree.child.child.key",
        "x-vault.key",
        "anything",
    ],
)
def test_path_that_the_schema_declares_is_taken(path: str) -> None:
    check_tool(tool(path), "tools[0]")


@pytest.mark.parametrize(
    "path",
    [
        "pni",
        "headers.Authorisation",
        "header.Authorization",
        "pin.code",
        "pin[]",
        "tokens.key",
        "tokens[].key",
        "items.token",
        "items[].tokn",
        "items[]token[]",
        # It is open, not declared.
        "extra.key",
        "anything.key",
        "tree.child.kye",
        "x-vault.kye",
        "X1.key",
    ],
)
def test_path_that_the_schema_does_not_declare_is_refused(path: str) -> None:
    with pytest.raises(InvalidFieldError, match="does not declare") as caught:
        check_tool(tool("pin", path), "tools[0]")
    assert caught.value.field == "tools[0].secret_arguments[1]"


def test_tool_without_a_schema_has_no_secrets() -> None:
    with pytest.raises(InvalidFieldError) as caught:
        check_tool(
            builders.tool(arguments_schema="", amount=None, resource="a:1", secret_arguments=("x",)),
            "tools[0]",
        )
    assert caught.value.field == "tools[0].secret_arguments[0]"


def test_references_that_go_in_circles_or_far_end() -> None:
    far = {f"d{number}": {"$ref": f"#/$defs/d{number + 1}"} for number in range(3_000)}
    for schema in (
        {"$ref": "#"},
        {"allOf": [{"$ref": "#"}, {"$ref": "#/allOf/0"}, {"$ref": "#/allOf/7"}, {"$ref": "#nowhere"}]},
        {"$ref": "#/$defs/d0", "$defs": far},
        {"$ref": "https://example.org/schema"},
    ):
        registered = builders.tool(arguments_schema=json.dumps(schema), secret_arguments=("pin",))
        assert [fault.field for fault in find_secret_faults(registered)] == ["secret_arguments[0]"]


def test_long_path_is_refused() -> None:
    schema = json.dumps({"properties": {"a": {"$ref": "#"}}})
    for steps, fields in ((16, []), (17, ["secret_arguments[0]"])):
        path = ".".join(["a"] * (steps + 1))
        registered = builders.tool(arguments_schema=schema, secret_arguments=(path,))
        assert [fault.field for fault in find_secret_faults(registered)] == fields


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"resource": "invoice:{invoice}-{pin}"}, "resource"),
        ({"resource": "invoice:{headers}"}, "resource"),
        ({"resource": "invoice:{Pin}"}, "resource"),
        (
            {"entities": (EntityRef(name="a", type="t", id="1"), EntityRef(name="b", type="t", id="{pin}"))},
            "entities[1].id",
        ),
        (
            {"amount": AmountRole(argument="pin", unit=AmountUnit.MINOR, currency_code="EUR")},
            "amount.argument",
        ),
        (
            {"amount": AmountRole(argument="amount", unit=AmountUnit.MINOR, currency_argument="pin")},
            "amount.currency_argument",
        ),
        (
            {
                "normalise": (
                    Normalisation(argument="invoice", steps=(NormalisationStep.TRIM,)),
                    Normalisation(argument="pin", steps=(NormalisationStep.TRIM,)),
                )
            },
            "normalise[1].argument",
        ),
        (
            {"business_key": BusinessKeyRule(name="k", arguments=("invoice", "pin"))},
            "business_key.arguments[1]",
        ),
        (
            {"prerequisites": (Prerequisite(tool="t", same=("invoice", "headers")),)},
            "prerequisites[0].same[1]",
        ),
    ],
)
def test_secret_is_used_for_nothing_that_is_shown_or_compared(change: dict[str, Any], field: str) -> None:
    registered = tool("pin", "headers.Authorization", **change)
    with pytest.raises(InvalidFieldError, match="is secret, or holds a secret") as caught:
        check_tool(registered, "tools[3]")
    assert caught.value.field == f"tools[3].{field}"
    assert [fault.field for fault in find_secret_faults(registered)] == [field]
    assert not list(find_secret_faults(tool("api.key", **change)))


def test_every_fault_is_found() -> None:
    registered = tool(
        "pni", "pin", resource="a:{pin}", business_key=BusinessKeyRule(name="k", arguments=("pin",))
    )
    fields = [fault.field for fault in find_secret_faults(registered)]
    assert fields == ["secret_arguments[0]", "resource", "business_key.arguments[0]"]


def test_secret_of_an_argument_with_a_normal_spelling_is_not_spelt_out() -> None:
    """The store may hold such a registration of an earlier release."""
    trimmed = tuple(
        Normalisation(argument=name, steps=(NormalisationStep.TRIM,)) for name in ("headers", "invoice")
    )
    registered = tool("headers.Authorization", normalise=trimmed)
    call = {"invoice": " INV-1", "headers": {"Authorization": "hunter2"}, "amount": 1, "currency": "EUR"}
    derived = derive(builders.action(arguments=call), registered)
    assert derived.problems == ()
    assert "hunter2" not in str(derived.shown_arguments) + str(derived.open_arguments)
    assert "hunter2" not in repr(derived) + repr(builders.action(arguments=call, intent="hunter2"))


def test_text_that_holds_a_secret_is_replaced_as_a_whole() -> None:
    assert without_texts("with 4711, please", ("4711",)) == "[secret]"
    assert without_texts("with 471", ("4711",)) == "with 471"
    assert without_texts("with 471", ()) == "with 471"


@pytest.mark.parametrize(
    "claims", [{"a": ["x 4711 y"]}, {"a": 47110}, {"a": {"4711": True}}, {"a": [{"b": Decimal("4711.5")}]}]
)
def test_claims_that_hold_a_secret_are_hidden(claims: dict[str, Any]) -> None:
    assert claims_without_texts(claims, ("4711",)) == {"[secret]": "[secret]"}
    assert claims_without_texts(claims, ("4712", "471 1")) == claims


def test_secrets_are_recognised_by_their_texts_and_long_words() -> None:
    assert hidden_texts(["ab", "Pin", 4711, {"x": ["Bearer Tok-4711-x", None, True]}]) == (
        "4711",
        "bearer tok-4711-x",
        "pin",
        "tok-4711-x",
    )
    assert hidden_texts(["ab", ""]) == ()


def test_of_too_many_secrets_everything_that_is_said_is_hidden() -> None:
    texts = hidden_texts([f"secret-{number}" for number in range(65)])
    assert without_texts("anything", texts) == "[secret]"
    assert claims_without_texts({"a": 1}, texts) == {"[secret]": "[secret]"}
    assert claims_without_texts({}, texts) == {}
