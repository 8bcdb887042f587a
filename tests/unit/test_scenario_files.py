"""Scenario files: every fault is named by file, line and path before anything runs."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path

import pytest

from placet.scenario.load import load
from placet.scenario.scenario import Scenario, json_schema
from placet.scenario.steps.step import Scope

ROOT = Path(__file__).parents[2]
HEAD = """\
name: payments
fixture:
  sessions:
    pay: {agent: "agent:payer"}
steps:
"""


def faults(text: str, **scope: bool) -> list[str]:
    found = load(text, "a.yaml", Scope(**scope))  # type: ignore[arg-type]
    assert not isinstance(found, Scenario), "it has no fault"
    return [str(fault) for fault in found]


def steps(text: str, **scope: bool) -> list[str]:
    """Faults of the steps that begin on line 6."""
    return faults(HEAD + textwrap.indent(textwrap.dedent(text), "  "), **scope)


def test_scenario_with_everything_in_place_is_loaded() -> None:
    found = load(HEAD + "  - {evaluate: invoices.get, session: pay}\n", "a.yaml", Scope())
    assert isinstance(found, Scenario)
    assert found.steps[0].kind == "evaluate"


def test_all_faults_of_a_file_come_together() -> None:
    text = """\
        - {evaluate: invoices.get, session: pay, expct: {}}
        - {evalaute: invoices.get}
        - {evaluate: invoices.get, session: pya}
        - {repeat: first}
        - {advance: soon}
        - {evaluate: invoices.get, session: pay, expect: {effect: alow}}
        """
    found = steps(text)
    assert [line.split(": ")[:2] for line in found] == [
        ["a.yaml:6", "steps[0].expct"],
        ["a.yaml:7", "steps[1]"],
        ["a.yaml:8", "steps[2].session"],
        ["a.yaml:9", "steps[3].repeat"],
        ["a.yaml:10", "steps[4].advance"],
        ["a.yaml:11", "steps[5].expect.effect"],
    ]
    assert "is unknown" in found[0]
    assert "exactly one key must be among open, evaluate" in found[1]
    assert "no session 'pya' is opened before this; there are pay" in found[2]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("- {evaluate: a, close: pay, session: pay}", "exactly one key"),
        ("- {open: s, agent: a, boundary: {tool: []}}", "steps[0].boundary: has no member 'tool'"),
        ("- {open: s, agent: a, boundary: {resources: [invoice]}}", "steps[0].boundary.resources[0]: "),
        ("- {open: s, agent: a, expires_in: 1h, expires_at: 2h}", "expires_in and expires_at"),
        ("- {set_agents: [{name: a}]}", "steps[0].set_agents[0]: has no member 'name'"),
        ("- {kill: opa}", "give --stack"),
        ("- {restart: redis}", "steps[0].restart"),
        ("- {advance: 1h, expect: {error: {}}}", "give reason, field or code"),
        ("- {close: pay, expect: {effect: allow}}", "steps[0].expect.effect: is unknown"),
        ("- {close: pay, expect: {fields: {session.stat: closed}}}", "a session has"),
        ("- {evaluate: a, session: pay, expect: {receipt: {verified: true}}}", "give --jwks, or --stack"),
        ("- {evaluate: a, session: pay, expect: {effect: block, error: {code: X}}}", "error and an answer"),
        ("- {evaluate: a, session: pay, replica: 2}", "there are 1 replicas"),
        ("- {parallel: 0, step: {close: pay}}", "steps[0].parallel"),
        ("- {parallel: 2, step: {kill: opa}}", "steps[0].step"),
        ("- {parallel: 2, step: {close: pay, expect: {error: {code: X}}}}", "steps[0].step.expect"),
        ("- {parallel: 2, step: {close: pay}, expect: {counts: {alow: 1}}}", "steps[0].expect.counts.alow"),
    ],
)
def test_fault_names_its_path(text: str, fault: str) -> None:
    found = steps(text)
    assert len(found) == 1, found
    assert fault in found[0]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "a.yaml: is empty"),
        ("name: [", "a.yaml:1"),
        ("name: a\nname: b\nsteps: []\n", "a.yaml:2: name: is there twice"),
        ("name: !!python/object:os.system a\n", "only the types of JSON"),
        ("- a\n", "a.yaml:1"),
        ("name: a\nsteps: []\n", "a.yaml:2: steps"),
    ],
)
def test_text_that_is_no_scenario_is_refused(text: str, fault: str) -> None:
    assert fault in faults(text)[0]


def test_malformed_step_still_makes_what_it_names() -> None:
    found = steps("- {open: s, agnt: a}\n- {close: s}\n")
    assert [line.split(": ")[1] for line in found] == ["steps[0].agent", "steps[0].agnt"]


def test_aliases_of_aliases_do_not_grow_without_bound() -> None:
    text = "a: &a [1,1,1,1,1,1,1,1,1]\n"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True):
        text += f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n"
    assert "more than 100000 values" in faults(text)[0]


def test_published_schema_is_that_of_the_format() -> None:
    published = json.loads((ROOT / "docs/scenario.schema.json").read_text())
    assert published == json_schema(), "placet scenario schema > docs/scenario.schema.json"
