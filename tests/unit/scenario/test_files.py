"""Scenario files: every fault is named by file, line and path before anything runs."""

from __future__ import annotations

import json
import textwrap
from decimal import Decimal
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from placet.scenario.credentials import CallersError, read_credentials
from placet.scenario.document import Document
from placet.scenario.load import load
from placet.scenario.scenario import Scenario, json_schema
from placet.scenario.steps.delegate import Delegate
from placet.scenario.steps.step import Scope

ROOT = Path(__file__).parents[3]
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
    assert "exactly one key must be among open, " in found[1]
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
        ("- {close: pay, as: {subject: 'a b ', roles: []}}", "steps[0].as: subject: 'a b '"),
        ("- {restart: redis}", "steps[0].restart"),
        ("- {outcome: first}", "steps[0].outcome: no call 'first' is made before this"),
        ("- {revoke: c}", "steps[0].revoke: no chain 'c' is delegated before this"),
        ("- {delegate: c, session: pay, to: a, from: b}", "steps[0].from: no chain 'b'"),
        ("- {delegate: c, session: pay, to: a, boundary: {}, narrow: {}}", "steps[0].narrow: has boundary"),
        ("- {evaluate: t, session: pay, chain: c}", "steps[0].chain: no chain 'c' is delegated before this"),
        ("- {evaluate: t, session: pay, forge: reordered}", "steps[0].forge: needs the name of a chain"),
        ("- {evaluate: t, session: pay, forged: {sub: a}}", "steps[0].forged: is for self_signed only"),
        ("- {redeem: first}", "steps[0].redeem: no call 'first' is made before this"),
        ("- {close: pay, expect: {hold: released}}", "steps[0].expect.hold: is unknown"),
        ("- {advance: 1h, expect: {error: {}}}", "give reason, field or code"),
        ("- {close: pay, expect: {effect: allow}}", "steps[0].expect.effect: is unknown"),
        ("- {close: pay, expect: {fields: {session.stat: closed}}}", "a session has"),
        ("- {evaluate: a, session: pay, expect: {receipt: {verified: true}}}", "give --jwks, or --stack"),
        ("- {evaluate: a, session: pay, expect: {effect: block, error: {code: X}}}", "error and an answer"),
        ("- {evaluate: a, session: pay, replica: 2}", "there are 1 replicas"),
        ("- {plan: pay, items: []}", "steps[0].items"),
        ("- {plan: pya, items: [{evaluate: a}]}", "steps[0].plan: no session 'pya'"),
        ("- {plan: pay, replica: 2, items: [{evaluate: a}]}", "there are 1 replicas"),
        ("- {plan: pay, items: [{evaluate: a, sesion: b}]}", "steps[0].items[0].sesion: is unknown"),
        ("- {plan: pay, items: [{evaluate: a, expect: {effect: alow}}]}", "steps[0].items[0].expect.effect"),
        ("- {plan: pay, items: [{evaluate: a, expect: {error: {code: X}}}]}", "say beside plan"),
        ("- {plan: pay, items: [{evaluate: a, call: c}, {evaluate: a, call: c}]}", "steps[0].items[1].call"),
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
        ("name: a\nsteps: []\n", "a.yaml:1: needs steps, or cases"),
        (
            "name: a\nsteps: [{kill: opa}]\ncases: [{name: b, steps: [{kill: opa}]}]\n",
            "needs steps, or cases",
        ),
        ("name: a\ncases: [{name: b, steps: []}]\n", "a.yaml:2: cases[0].steps"),
    ],
)
def test_text_that_is_no_scenario_is_refused(text: str, fault: str) -> None:
    assert fault in faults(text)[0]


def test_malformed_step_still_makes_what_it_names() -> None:
    found = steps("- {open: s, agnt: a}\n- {close: s}\n")
    assert [line.split(": ")[1] for line in found] == ["steps[0].agent", "steps[0].agnt"]


def test_faults_of_form_hide_no_others() -> None:
    found = faults("""\
name: x
fixture:
  agnts: []
  agents:
    - {agent: a, onwer: b}
  tools:
    - {name: t, effect: payy}
  sessions:
    s: {agent: a, boundary: {amounts: {EUR: x}}}
    t: {agnt: a}
steps:
  - {evaluate: t, session: u, expect: {codes: x}}
  - {evaluate: t, session: t, call: c, intnt: x, chain: [{agnt: a}]}
  - {repeat: c}
""")
    assert [line.split(": ")[:2] for line in found] == [
        ["a.yaml:3", "fixture.agnts"],
        ["a.yaml:5", "fixture.agents[0]"],
        ["a.yaml:7", "fixture.tools[0].effect"],
        ["a.yaml:9", "fixture.sessions.s.boundary.amounts.EUR"],
        ["a.yaml:10", "fixture.sessions.t.agent"],
        ["a.yaml:10", "fixture.sessions.t.agnt"],
        ["a.yaml:12", "steps[0].expect.codes"],
        ["a.yaml:12", "steps[0].session"],
        ["a.yaml:13", "steps[1].chain[0]"],
        ["a.yaml:13", "steps[1].intnt"],
    ]


def test_only_one_says_what_became_of_a_call() -> None:
    found = steps("""\
        - {evaluate: t, session: pay, call: c}
        - {outcome: c, by_agent: true, as: {subject: x}}
        """)
    assert [line.split(": ")[1] for line in found] == ["steps[1].as"]


def test_faults_of_credentials_come_together(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("abc")
    text = """\
ops: {cert: ops.pem}
svc-tasks: {token_file: token}
svc-tool: {}
revision: {cert: away.pem, key: away.key}
"""
    with pytest.raises(CallersError) as caught:
        read_credentials(text, str(tmp_path / "callers.yaml"), "")
    lines = str(caught.value).splitlines()
    assert [line.partition("callers.yaml:")[2].partition(": ")[0] for line in lines] == ["1", "3", "4"]
    assert "abc" not in str(caught.value)
    with pytest.raises(CallersError, match=r"callers.yaml:1: ops\.tokn: "):
        read_credentials("ops: {tokn: x}", "callers.yaml", "")


def test_token_is_read_from_beside_the_file_at_each_call(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("first\n")
    found = read_credentials("ops: {token_file: token}", str(tmp_path / "callers.yaml"), "")
    assert found.by_subject["ops"].metadata() == (("authorization", "Bearer first"),)
    (tmp_path / "token").write_text("second\n")
    assert found.by_subject["ops"].metadata() == (("authorization", "Bearer second"),)
    assert "second" not in repr(found)


def test_aliases_of_aliases_do_not_grow_without_bound() -> None:
    text = "a: &a [1,1,1,1,1,1,1,1,1]\n"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True):
        text += f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n"
    assert "more than 100000 values" in faults(text)[0]


def test_published_schema_is_that_of_the_format() -> None:
    published = json.loads((ROOT / "docs/scenario.schema.json").read_text())
    assert published == json_schema(), "placet scenario schema > docs/scenario.schema.json"


CASES = """\
name: x
fixture:
  agents: [{agent: a, trust: 0.1}, {agent: b, trust: 0.2}]
  sessions: {s: {agent: a}}
cases:
  - name: one
    steps: [{evaluate: t, session: s, call: c}, {evaluate: t, session: u}]
  - name: two
    fixture: {agents: [{agent: b, trust: 0.3}], sessions: {u: {agent: b}}}
    steps: [{repeat: c}, {evaluate: t, session: u}]
"""


def test_a_case_knows_what_it_adds_and_nothing_of_others() -> None:
    assert [line.split(": ")[1] for line in faults(CASES)] == [
        "cases[0].steps[1].session",
        "cases[1].steps[0].repeat",
    ]
    assert [line.split(": ")[1] for line in faults(CASES.replace("name: one", "nam: one"))] == [
        "cases[0].nam",
        "cases[0].name",
        "cases[0].steps[1].session",
        "cases[1].steps[0].repeat",
    ]


def test_a_case_is_a_scenario_of_its_own() -> None:
    text = CASES.replace(", {evaluate: t, session: u}]", "]", 1).replace("{repeat: c}, ", "")
    found = load(text, "a.yaml", Scope())
    assert isinstance(found, Scenario)
    one, two = found.each()
    assert [each.name for each in (one, two)] == ["x: one", "x: two"]
    assert set(one.fixture.sessions) == {"s"}
    assert set(two.fixture.sessions) == {"s", "u"}
    assert [agent["trust"] for agent in two.fixture.agents] == [Decimal("0.1"), Decimal("0.3")]


SCENARIOS = ["scenarios/story.yaml", "scenarios/invoice.yaml", "tests/conformance/cases/invoice.yaml"]


@pytest.mark.parametrize("file", SCENARIOS)
def test_schema_for_editors_takes_scenarios_and_names_an_unknown_field(file: str) -> None:
    validator = jsonschema_rs.validator_for(json_schema())
    value = Document((ROOT / file).read_text(), file).value
    assert [error.message for error in validator.iter_errors(value)] == []
    steps = value["steps"] if "steps" in value else value["cases"][0]["steps"]
    steps[0]["exepct"] = {}
    assert not validator.is_valid(value)


@pytest.mark.parametrize(
    ("parent", "narrow", "wanted"),
    [
        ({"EUR": "9", "CHF": "9"}, {"EUR": "5"}, {"EUR": "5"}),
        (
            [{"currency": "EUR", "per_action": "9", "total": "20"}, {"currency": "CHF", "per_action": "9"}],
            {"EUR": "5"},
            [{"currency": "EUR", "per_action": "5", "total": "20"}],
        ),
        (
            [{"currency": "EUR", "per_action": "9", "total": "20"}],
            [{"currency": "EUR", "per_action": "9", "total": "10"}, {"currency": "USD", "per_action": "1"}],
            [{"currency": "EUR", "per_action": "9", "total": "10"}, {"currency": "USD", "per_action": "1"}],
        ),
        # What no client takes is left for it to refuse.
        ([{"currency": "EUR", "per_action": "9", "total": "20"}], ["EUR"], ["EUR"]),
        ([{"currency": "EUR", "per_action": "9", "total": "20"}], "5", "5"),
        ([{"currency": "EUR", "per_action": "9", "total": "20"}], [], []),
    ],
)
def test_narrowed_amounts_keep_the_other_limits_of_their_currency(
    parent: Any, narrow: Any, wanted: Any
) -> None:
    step = Delegate.model_validate(
        {"delegate": "c", "session": "s", "to": "a", "narrow": {"amounts": narrow}}
    )
    own = {"tools": ["t"], "amounts": parent}
    assert step.wanted(own) == {"tools": ["t"], "amounts": wanted}
