"""`placet scenario run` on real replicas: answers, exit codes, reports."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml
from typer.testing import CliRunner, Result

from placet.cli.app import app
from tests.support.credentials import Authority
from tests.support.markdown import blocks, named_files, section, text_of
from tests.support.processes import running_with
from tests.support.secured import secured_replica, tls
from tests.support.stack import ROOT, RealPdp, RunningStack

SCENARIO = """\
name: payments
fixture:
  agents: [{agent: "agent:payer", owner: ap, trust: 0.8}]
  tools:
    - name: payments.create
      effect: pay
      resource: "invoice:{invoice}"
      arguments_schema: {type: object, properties: {invoice: {type: string}}, required: [invoice]}
      amount: {argument: amount, unit: major, currency_argument: currency}
  sessions:
    pay:
      agent: agent:payer
      expires_in: 1h
      boundary: {tools: [payments.create], resources: ["invoice:*"], amounts: {EUR: "5000.00"}}
steps:
  - evaluate: payments.create
    session: pay
    call: first
    arguments: {invoice: INV-1, amount: 100, currency: EUR}
    expect: {effect: allow, codes: [task.within_boundary], fields: {session.decisions.allow: 1}}
  - repeat: first
    replica: 2
    expect:
      effect: allow
      fields: {decision.replayed: true, decision.allowed: false}
      receipt: {verified: true, tamper_evident: true, recorded: true, same_as: first,
                claims: {act.tool: payments.create, effect: allow}}
  - parallel: 16
    step: {repeat: first}
    expect: {counts: {allow: 16}, distinct: 1}
  - parallel: 4
    step: {evaluate: payments.create, session: pay, arguments: {invoice: INV-2, amount: 9000, currency: EUR}}
    expect: {counts: {block: 4}, distinct: 4}
  - advance: 2h
  - evaluate: payments.create
    session: pay
    arguments: {invoice: INV-1, amount: 100, currency: EUR}
    expect: {effect: block, exact_codes: [session.expired]}
  - {open: other, agent: "agent:payer", expires_in: 1h, expect: {fields: {session.state: open}}}
  - {complete: other, expect: {fields: {session.state: completed}}}
  - {close: other, expect: {fields: {session.state: closed}}}
  - {set_settings: {nonsense: 1}, expect: {error: {code: INVALID_ARGUMENT, field: settings.nonsense}}}
  - {set_signals: [{name: incident, value: true, expires_in: 5m}]}
"""


KILLS = """\
name: kills
fixture:
  agents: [{agent: "agent:payer", trust: 0.8}]
  tools: [{name: invoices.get, effect: read, resource: "invoice:all", audience: erp,
           arguments_schema: {type: object}}]
  sessions: {s: {agent: "agent:payer", boundary: {tools: [invoices.get], resources: ["invoice:*"]}}}
steps:
  - {evaluate: invoices.get, session: s, call: a, expect: {effect: allow}}
  - {kill: pdp-1}
  - {repeat: a, replica: 2, expect: {effect: allow, fields: {decision.replayed: true}}}
  - {evaluate: invoices.get, session: s, replica: 1, expect: {error: {code: UNAVAILABLE}}}
  - {restart: pdp-1}
  - {repeat: a, replica: 1, expect: {effect: allow, receipt: {verified: true, same_as: a}}}
  - {restart: postgres}
  - {repeat: a, expect: {effect: allow, receipt: {recorded: true}}}
  - {kill: opa}
  - parallel: 8
    step: {evaluate: invoices.get, session: s}
    expect: {counts: {block: 8}}
  - {restart: pdp, expect: {error: {code: UNAVAILABLE}}}
"""


def run(path: Path, pdp: RealPdp, *options: str) -> Result:
    replicas = pdp.stack.described()["replicas"]
    targets = [option for replica in replicas for option in ("--target", replica["grpc"])]
    jwks = f"{pdp.http_url}/.well-known/jwks.json"
    command = ["scenario", "run", str(path), *targets, "--jwks", jwks, *options]
    return CliRunner().invoke(app, command, env={"COLUMNS": "200"})


@pytest.fixture
def scenario(tmp_path: Path) -> Path:
    path = tmp_path / "payments.yaml"
    path.write_text(SCENARIO)
    return path


def test_scenario_comes_out_as_expected(scenario: Path, real_pdp: RealPdp) -> None:
    done = run(scenario, real_pdp)
    assert done.exit_code == 0, done.output
    assert "All 11 steps came out as expected." in done.output


def test_wrong_expectation_is_told_and_fails(scenario: Path, real_pdp: RealPdp, tmp_path: Path) -> None:
    scenario.write_text(SCENARIO.replace("codes: [task.within_boundary]", "codes: [payment.large]"))
    report = tmp_path / "report.xml"
    done = run(scenario, real_pdp, "--junit", str(report))
    assert done.exit_code == 1, done.output
    assert "DIFFERS  codes: payment.large missing among task.within_boundary" in done.output
    assert "1 of 11 steps came out otherwise" in done.output
    suite = ElementTree.parse(report).getroot()[0]
    assert (suite.attrib["tests"], suite.attrib["failures"]) == ("11", "1")
    failure = suite[0].find("failure")
    assert failure is not None
    assert "payment.large missing" in failure.attrib["message"]


NAMED = """\
name: names of calls and chains
fixture:
  agents: [{agent: "agent:payer", trust: 0.8}, {agent: "agent:clerk", trust: 0.8}]
  tools:
    - name: payments.create
      effect: pay
      resource: "invoice:{invoice}"
      arguments_schema: {type: object}
      amount: {argument: amount, unit: major, currency_argument: currency}
  sessions:
    pay:
      agent: agent:payer
      boundary:
        tools: [payments.create]
        resources: ["invoice:*"]
        amounts: [{currency: EUR, per_action: "500", total: "800"}, {currency: CHF, per_action: "500"}]
steps:
  - evaluate: payments.create
    session: pay
    call: first
    arguments: {invoice: INV-1, amount: 100, currency: EUR}
    expect: {effect: allow}
  - repeat: first
    arguments: {invoice: INV-1, amount: 90, currency: EUR}
    expect: {effect: block, codes: [action.key_reused]}
  - {outcome: first, expect: {hold: committed}}
  - {repeat: first, expect: {effect: block, codes: [action.replay_stale]}}
  - delegate: clerk
    session: pay
    to: agent:clerk
    narrow: {amounts: {EUR: "600"}}
    expect: {error: {reason: GRANT_EXCEEDS_PARENT}}
  - {delegate: clerk, session: pay, to: "agent:clerk", narrow: {amounts: {EUR: "400"}}}
  - evaluate: payments.create
    session: pay
    chain: clerk
    arguments: {invoice: INV-2, amount: 400, currency: EUR}
    expect: {effect: allow}
  - evaluate: payments.create
    session: pay
    chain: clerk
    arguments: {invoice: INV-3, amount: 301, currency: EUR}
    expect: {effect: block, codes: [boundary.total]}
"""


def test_names_stand_for_what_the_first_step_with_them_made(tmp_path: Path, real_pdp: RealPdp) -> None:
    path = tmp_path / "names.yaml"
    path.write_text(NAMED)
    done = run(path, real_pdp)
    assert done.exit_code == 0, done.output
    assert "All 8 steps came out as expected." in done.output


SIGNED = """\
name: signed tasks
fixture:
  agents: [{agent: "agent:payer", trust: 0.8}]
  tools: [{name: invoices.get, effect: read, resource: "invoice:all", audience: erp,
           arguments_schema: {type: object}}]
  issuers: [erp.example.org]
  sessions:
    s: {agent: "agent:payer", signed_by: erp.example.org, expires_in: 1h,
        boundary: {tools: [invoices.get], resources: ["invoice:*"], after_completion: []}}
steps:
  - {evaluate: invoices.get, session: s,
     expect: {effect: allow, fields: {session.issuer: "task:erp.example.org"}}}
  - {delegate: helper, session: s, to: "agent:helper"}
  - {evaluate: invoices.get, session: s, chain: helper, expect: {effect: allow}}
  - {evaluate: invoices.get, session: s, chain: helper, forge: wrong_parent,
     expect: {effect: block, codes: [chain.invalid]}}
  - {revoke: helper}
  - {evaluate: invoices.get, session: s, chain: helper, expect: {effect: block, codes: [chain.revoked]}}
  - {complete: s, expect: {fields: {session.state: completed}}}
  - {open: other, agent: "agent:payer", signed_by: nobody.example, expect: {error: {code: PERMISSION_DENIED}}}
"""


def test_signed_task_is_opened_by_the_runtime_and_ended_by_its_principal(
    real_pdp: RealPdp, tmp_path: Path
) -> None:
    path = tmp_path / "signed.yaml"
    path.write_text(SIGNED)
    done = run(path, real_pdp)
    assert done.exit_code == 1, done.output
    assert "1 of 8 steps came out otherwise" in done.output
    # Nobody gave that issuer a key: a step that could not be taken is no refusal of the server.
    assert "issuer nobody.example was given no key" in done.output


def test_client_made_block_is_no_block_of_policy(tmp_path: Path, real_pdp: RealPdp) -> None:
    path = tmp_path / "unreachable.yaml"
    path.write_text(
        SCENARIO.split("steps:")[0]
        + "steps:\n  - {evaluate: payments.create, session: pay, as: {subject: x, roles: [auditor]},"
        " expect: {effect: block}}\n"
    )
    done = run(path, real_pdp, "--format", "json")
    assert done.exit_code == 1, done.output
    [result] = json.loads(done.stdout)["scenarios"]
    assert result["steps"][0]["answer"] == "error"
    assert "PERMISSION_DENIED" in result["steps"][0]["differences"][0]


def test_limit_holds_for_calls_in_parallel_on_two_replicas(tmp_path: Path, real_pdp: RealPdp) -> None:
    path = tmp_path / "limit.yaml"
    limit = "  settings: {velocity: {payments: {max: 5, window_seconds: 60, on_exceed: block}}}\n  agents:"
    path.write_text(
        SCENARIO.split("steps:")[0].replace("  agents:", limit)
        + "steps:\n  - parallel: 32\n"
        + "    step: {evaluate: payments.create, session: pay,\n"
        + "           arguments: {invoice: INV-1, amount: 1, currency: EUR}}\n"
        + "    expect: {counts: {allow: 5, block: 27}, distinct: 32}\n"
    )
    done = run(path, real_pdp)
    assert done.exit_code == 0, done.output


PROVEN = """\
name: proven callers
fixture:
  agents: [{agent: "agent:payer", trust: 0.8}]
  tools: [{name: invoices.get, effect: read, resource: "invoice:all", audience: erp,
           arguments_schema: {type: object}}]
  sessions: {s: {agent: "agent:payer", boundary: {tools: [invoices.get], resources: ["invoice:*"]}}}
steps:
  - {evaluate: invoices.get, session: s, call: a,
     expect: {effect: allow, fields: {session.decisions.allow: 1}, receipt: {recorded: true}}}
  - {redeem: a}
  - {outcome: a, result: executed, by_agent: true, expect: {hold: committed}}
  - {evaluate: invoices.get, session: s, as: {subject: svc-tasks, roles: [agent]},
     expect: {error: {code: PERMISSION_DENIED}}}
  - {close: s}
"""
ROLES = {
    "ops": ["operator"],
    "svc-tasks": ["session_issuer"],
    "svc-runtime": ["agent"],
    "svc-tool": ["tool"],
    "revision": ["auditor"],
}


@pytest.fixture(scope="module")
def proven(steady_pdp: RealPdp, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[list[str], Path]]:
    """Options for a replica that believes certificates alone, and the folder with their file."""
    folder, authority, tenant = tmp_path_factory.mktemp("proven"), Authority(), steady_pdp.fresh_tenant()
    callers: list[dict[str, Any]] = []
    credentials = {}
    for subject, roles in ROLES.items():
        authority.issue(dns=f"{subject}.example").write(folder, subject)
        credentials[subject] = {"cert": f"{subject}.crt", "key": f"{subject}.key"}
        agents = ["agent:payer"] if roles == ["agent"] else []
        match = {"dns_name": f"{subject}.example"}
        serving = {"tools": ["invoices.get"], "audiences": ["erp"]} if roles == ["tool"] else {}
        callers.append({"match": match, "tenant": tenant, "roles": roles, "agents": agents} | serving)
    (folder / "callers.yaml").write_text(yaml.safe_dump(credentials))
    with secured_replica(steady_pdp, folder, {"tls": tls(authority, folder), "callers": callers}) as replica:
        common = ["--target", replica.target, "--ca", str(folder / "ca.pem"), "--tenant", tenant]
        yield common, folder


def test_callers_prove_who_they_are(proven: tuple[list[str], Path], tmp_path: Path) -> None:
    options, folder = proven
    path = tmp_path / "proven.yaml"
    path.write_text(PROVEN)
    command = ["scenario", "run", str(path), "--callers", str(folder / "callers.yaml"), *options]
    done = CliRunner().invoke(app, command, env={"COLUMNS": "200"})
    assert done.exit_code == 0, done.output
    assert "All 5 steps came out as expected." in done.output


def test_credentials_of_another_tenant_replace_nothing(
    proven: tuple[list[str], Path], tmp_path: Path
) -> None:
    options, folder = proven
    path = tmp_path / "proven.yaml"
    path.write_text(PROVEN)
    command = ["scenario", "run", str(path), "--callers", str(folder / "callers.yaml"), *options]
    done = CliRunner().invoke(app, [*command[:-1], "another"], env={"COLUMNS": "200"})
    assert done.exit_code == 1, done.output
    assert "PERMISSION_DENIED" in done.output
    assert "ALLOW" not in done.output


def test_caller_without_credentials_cannot_call(proven: tuple[list[str], Path], tmp_path: Path) -> None:
    options, folder = proven
    path = tmp_path / "proven.yaml"
    path.write_text(PROVEN.split("  - {redeem")[0])
    some = yaml.safe_load((folder / "callers.yaml").read_text())
    del some["svc-runtime"]
    (folder / "some.yaml").write_text(yaml.safe_dump(some))
    command = ["scenario", "run", str(path), "--callers", str(folder / "some.yaml"), *options]
    done = CliRunner().invoke(app, command, env={"COLUMNS": "200"})
    assert done.exit_code == 1, done.output
    assert "there are no credentials of svc-runtime; there are those of ops, " in done.output


def test_faulty_file_runs_nothing(scenario: Path, real_stack: RunningStack, tmp_path: Path) -> None:
    scenario.write_text(SCENARIO.replace("- repeat: first", "- repeat: frist").replace("close:", "clsoe:"))
    done = run(scenario, RealPdp(stack=real_stack))
    assert done.exit_code == 2, done.output
    assert "no call 'frist' is made before this" in done.output
    assert "steps[8]: is no step" in done.output
    assert "2 faults; nothing has run" in done.output
    assert "ALLOW" not in done.output


def documented() -> str:
    """The file of docs/scenarios.md, and after its steps the examples of every kind."""
    text = text_of("docs/scenarios.md")
    examples = blocks(section(text, "Steps"), "yaml")
    return named_files(text)["payments.yaml"] + textwrap.indent("".join(examples), "  ")


def test_own_stack_tells_story_and_cases_and_survives_kills(tmp_path: Path) -> None:
    kills = tmp_path / "kills.yaml"
    kills.write_text(KILLS)
    story, invoices = ROOT / "scenarios/story.yaml", ROOT / "scenarios/invoice.yaml"
    cases = ROOT / "tests/conformance/cases/invoice.yaml"
    document = tmp_path / "documented.yaml"
    document.write_text(documented())
    threats = tmp_path / "threats.yaml"
    threats.write_text(named_files(text_of("docs/threat-model.md"))["threats.yaml"])
    files = [str(file) for file in (kills, story, cases, document, threats, invoices)]
    command = ["scenario", "run", *files, "--stack", "--format", "json"]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 1, done.output
    told = json.loads(done.stdout)["scenarios"]
    wrong = [step for result in told for step in result["steps"] if not step["ok"]]
    # The last of the kills: a refusal of the stack has no status, whatever is expected of it.
    assert [step["title"] for step in wrong] == ["restart pdp"], wrong
    assert "restart that first" in wrong[0]["differences"][0]
    tenants = [result["tenant"].split("-")[0] for result in told]
    assert tenants[:4] == ["scenario", "acme", "scenario", "scenario"]
    named = [
        result["name"].removeprefix("Invoices: ").split()[0]
        for result in told
        if result["name"].startswith("Invoices: ")
    ]
    assert " ".join(named) == "1a 1b 1c 1d 2a 2b 2c 2d 3a 3b 3c 3d 3e 4a 4b 4c 4d 5a 5b 5c 5d 6a 6b"
    assert not running_with("placet-scenario-")


def test_item_of_a_plan_that_differs_is_named(real_pdp: RealPdp, tmp_path: Path) -> None:
    plan = """\
  - plan: pay
    items:
      - evaluate: payments.create
        arguments: {invoice: INV-1, amount: 1, currency: EUR}
        expect: {effect: allow}
      - evaluate: payments.create
        arguments: {invoice: INV-1, amount: 9, currency: EUR}
        expect: {effect: block}
"""
    file = tmp_path / "plan.yaml"
    file.write_text(SCENARIO.partition("steps:\n")[0] + "steps:\n" + plan)
    done = run(file, real_pdp)
    assert done.exit_code == 1, done.output
    assert "DIFFERS  items[1].effect: expected block, is allow (task.within_boundary)" in done.output
    assert "items[0]" not in done.output
