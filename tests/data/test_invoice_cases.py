"""Cases of the invoice story as another project has them, through gRPC on real components.

The data is not part of this project: PLACET_TEST_DATA names the folder that holds it
(`make test-data`).
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from placet._lint import Severity, lint_tools
from placet.cli.lint import is_currency
from placet.scenario.load import load
from placet.scenario.run import Pdp
from placet.scenario.runner import run_scenario
from placet.scenario.scenario import Scenario
from placet.scenario.steps.step import Scope
from tests.data.invoice_cases import UnknownFormError, patched, scenario, tools
from tests.support.stack import RealPdp

pytestmark = pytest.mark.data
TIMEOUT = 60.0


def told() -> dict[str, Any]:
    """The file; without the data no case, and `test_there_are_cases` fails."""
    file = Path(os.environ.get("PLACET_TEST_DATA", "")) / "invoice" / "scenarios.json"
    if not file.is_file():
        return {"fixture": {}, "cases": []}
    value: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return value


TOLD = told()
# Cases that are about reviews alone are not read.
LATER = {"request_review"}
CASES = [case for case in TOLD["cases"] if case["steps"][0]["do"] not in LATER]


def test_there_are_cases() -> None:
    assert len(CASES) > 20, "PLACET_TEST_DATA names no folder with invoice/scenarios.json"


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["id"])
def test_no_tool_of_a_case_has_errors(case: Mapping[str, Any]) -> None:
    found = lint_tools(
        tools(patched(case.get("fixture", TOLD["fixture"]), case.get("patch", {}))), is_currency=is_currency
    )
    assert [item for item in found if item.severity is Severity.ERROR] == []


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["id"])
async def test_case_comes_out_as_told(real_pdp: RealPdp, case: Mapping[str, Any]) -> None:
    value, left_out = scenario(TOLD["fixture"], case)
    # YAML holds JSON, so this is read as any scenario's file is.
    found = load(yaml.safe_dump(value, sort_keys=False), f"{case['id']}.yaml", Scope())
    assert isinstance(found, Scenario), "\n".join(map(str, found))
    result = await run_scenario(found, Pdp(targets=(real_pdp.target,), timeout=TIMEOUT), file=case["id"])
    assert {step.title: step.differences for step in result.steps if not step.ok} == {}
    assert found.steps
    print(f"left out: {', '.join(left_out) or 'nothing'}")


def test_what_is_not_understood_raises() -> None:
    asked = {"do": "evaluate", "agent": "a", "tool": "t", "args": {}}
    for change in (
        {"do": "dance"},
        asked | {"forge": "x"},
        asked | {"mood": "good"},
        asked | {"agent": "b", "chain": ["a"]},
    ):
        case = {"id": "x", "title": "x", "steps": [{"expect": "allow"} | change]}
        with pytest.raises(UnknownFormError):
            scenario(TOLD["fixture"] | {"task": TOLD["fixture"]["task"] | {"root_agent": "a"}}, case)
    for path in ("task.boundary.mood", "task.mood", "registry.invoices", "mood"):
        patch = {path: {"effect": "read", "args": {}, "resource": "a:b", "mood": "good"}}
        with pytest.raises(UnknownFormError, match=r"invoices|mood"):
            scenario(TOLD["fixture"], {"id": "x", "title": "x", "patch": patch, "steps": []})


def test_a_case_may_bring_its_own_fixture() -> None:
    own = TOLD["fixture"] | {"tenant": "another"}
    value, left_out = scenario({}, {"id": "x", "title": "x", "fixture": own, "steps": []})
    assert (value["tenant"], value["steps"], left_out) == ("another", [], [])
