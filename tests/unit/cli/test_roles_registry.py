"""Registries of roles, converted."""

from __future__ import annotations

import json
from typing import Any

import pytest
from typer.testing import CliRunner

from placet.cli.app import app
from placet.cli.exits import CommandError
from placet.cli.rolesjson import convert_registry

PAY: dict[str, Any] = {
    "effect": "pay",
    "arguments": {"to": "destination", "sum": "amount", "pin": "secret"},
    "reversible": True,
    "unit": "minor",
    "currency": "USD",
    "output": {"format": "python-literal", "record": ["id"], "free_text": ["note"], "author_field": "from"},
}
REGISTRY: dict[str, Any] = {
    "_note": "remarks",
    "bank": {"pay": PAY},
    "office": {"book": {"effect": "calendar", "arguments": {}, "colour": "red"}},
}


def test_tool_is_converted_member_by_member() -> None:
    [item] = convert_registry(REGISTRY, group="bank", effects={})
    assert item.form == {
        "name": "pay",
        "effect": "pay",
        "reversible": True,
        "resource": "tool:pay",
        "arguments_schema": {
            "type": "object",
            "properties": {"to": {}, "sum": {}, "pin": {}},
            "additionalProperties": False,
        },
        "amount": {"argument": "sum", "unit": "minor", "currency_code": "USD"},
        "argument_roles": {"to": "destination", "pin": "secret"},
        "output": {
            "format": "python_literal",
            "fields": {"id": "record", "note": "free_text"},
            "author_field": "from",
        },
    }


def test_effect_of_another_name_is_what_the_operator_says_or_the_most_restrictive() -> None:
    [item] = convert_registry(REGISTRY, group="office", effects={"calendar": "write"})
    assert item.form["effect"] == "write"
    [item] = convert_registry(REGISTRY, group="office", effects={})
    assert item.form["effect"] == "credential"
    assert any("calendar is none of ours" in note for note in item.notes)
    assert "colour: is not understood, and left out" in item.notes


def test_amount_without_unit_or_currency_is_said() -> None:
    [item] = convert_registry(
        {"g": {"pay": {"effect": "pay", "arguments": {"sum": "amount"}}}}, group="", effects={}
    )
    assert item.form["amount"] == {"argument": "sum"}
    assert sum(note.startswith("amount: its") for note in item.notes) == 2


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ([], "the file: must be a mapping"),
        ({"g": []}, "g: must be a mapping"),
        ({"g": {"t": 1}}, "t: must be a mapping"),
        ({"a": {"t": {}}, "b": {"t": {}}}, "t: is in two groups"),
        ({"g": {"t": {"arguments": {"a": "boss"}}}}, "a has the role boss"),
        ({"g": {"t": {"arguments": {"a": "amount", "b": "amount"}}}}, "has 2 amounts"),
        ({"g": {"t": {"output": {"format": "xml"}}}}, "the output's format xml"),
    ],
)
def test_odd_registry_is_refused_by_name(value: Any, said: str) -> None:
    with pytest.raises(CommandError, match=said):
        convert_registry(value, group="", effects={})


def test_command_prints_what_put_takes_and_notes_apart() -> None:
    words = ["tool", "convert", "-", "--format", "roles-json", "--effect", "calendar=write"]
    done = CliRunner().invoke(app, words, input=json.dumps(REGISTRY))
    assert done.exit_code == 0
    assert done.stdout.startswith("tools:\n- name: pay\n")
    assert "book: colour: is not understood" in done.stderr
    assert "\ncolour" not in done.stdout


@pytest.mark.parametrize(
    "words",
    [
        ["--format", "xml"],
        ["--format", "roles-json", "--group", "no"],
        ["--format", "roles-json", "--effect", "a=b"],
    ],
)
def test_command_refuses_what_it_does_not_know(words: list[str]) -> None:
    done = CliRunner().invoke(app, ["tool", "convert", "-", *words], input=json.dumps(REGISTRY))
    assert done.exit_code == 2
    assert "Traceback" not in done.stderr
