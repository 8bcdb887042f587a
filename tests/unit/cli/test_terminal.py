"""What the command prints is text to a terminal, whoever wrote it: nothing in it is obeyed or hidden."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from placet.cli.output import escaped_json, printable, shown_json
from placet.cli.toolfiles import print_tools
from placet.testing import FakePdp
from tests.unit.cli.test_placet import evaluate, run

# Escape, a C1 escape, DEL, bidi override and isolate, zero width, soft hyphen, BOM, separators of lines and
# paragraphs, a tag (beyond 16 bits), next line, interlinear annotation.
ODD = "a\x1b[31m\x9b2J\x7f\u202e\u2066\u200b\u00ad\ufeff\u2028\u2029\U000e0041\x85\ufff9z"
TEXT = f"Zahlt Rechnungen, größer {ODD}: {{}} # 'x' \"y\""


def is_shown(text: str) -> bool:
    return all(char.isprintable() or char == "\n" for char in text)


@pytest.fixture
def pdp() -> Iterator[FakePdp]:
    with FakePdp(signed=True) as fake:
        with fake.client() as operator:
            operator.put_tenant({"session_proof": "id"})
        yield fake


def test_json_has_the_same_value_and_nothing_to_obey() -> None:
    value = {TEXT: [TEXT, {"n": "é"}], "plain": "größer"}
    text = shown_json(value)
    assert is_shown(text)
    assert "\n" not in text
    assert json.loads(text) == value
    assert '"größer"' in text, "what people read stays as it is"
    assert json.loads(escaped_json(json.dumps(value, ensure_ascii=False, indent=1))) == value
    assert is_shown(printable(TEXT))


@pytest.mark.parametrize("char", [*ODD, "\t", "\r", "\n", "\u00a0", "\ue000"])
def test_yaml_has_the_same_value_and_nothing_to_obey(char: str) -> None:
    for text in (
        char,
        f"a{char}b",
        f"{char} lead",
        f"trail {char}",
        f"x\n{char}y\n",
        f"a: {char}",
        "ö" * 200 + char,
    ):
        forms: list[dict[str, Any]] = [{"name": "t", "description": text, text: [text]}]
        said = print_tools(forms)
        assert is_shown(said), ascii(said)
        assert yaml.safe_load(said) == {"tools": forms}
    assert "größer\n" in print_tools([{"name": "größer"}]), "what people read stays as it is"


def test_tools_of_others_are_shown_as_text() -> None:
    registry = {"g": {"pay": {"effect": "read", "description": TEXT, "arguments": {}}}}
    converted = run(None, "tool", "convert", "-", "--format", "roles-json", stdin=json.dumps(registry))
    assert is_shown(converted.stdout + converted.stderr)
    form = {"name": "pay", "effect": TEXT, TEXT: 1, "resource": f"tool:{TEXT}"}
    for options in ([], ["--json"]):
        found = run(None, "tool", "lint", "-", *options, stdin=json.dumps([form]))
        assert found.returncode != 0
        assert is_shown(found.stdout + found.stderr), found


def test_decision_and_receipt_are_shown_as_text(pdp: FakePdp) -> None:
    pdp.block("invoices.get", remediation=TEXT)
    for options in ([], ["--json"]):
        done = evaluate(pdp, *options, arguments={"invoice": TEXT})
        assert is_shown(done.stdout + done.stderr), done
    decision = json.loads(done.stdout)
    assert decision["reasons"][0]["remediation"] == TEXT
    for options in ([], ["--json"]):
        done = run(pdp, "decision", "show", decision["decision_id"], *options)
        assert done.returncode == 0, done.stderr
        assert is_shown(done.stdout + done.stderr), done
    for words in (["show"], ["show", "--json"], ["verify"], ["verify", "--json"]):
        done = run(None, "receipt", words[0], "-", *words[1:], stdin=decision["receipt"])
        assert done.stdout
        assert is_shown(done.stdout + done.stderr), done
