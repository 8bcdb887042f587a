"""The scaffold of a rule: what it writes passes every check of the policy once its TODOs are filled in."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.markdown import code, section, table

ROOT = Path(__file__).parents[2]
COPIED = (
    "rego",
    "docs/policies.md",
    ".regal",
    *(f"tools/{name}.py" for name in ("new_rule", "rego_check", "rego_lint")),
)
DESCRIPTION = (
    "The payment was asked for at night, when nobody of accounts payable could answer a call about it: "
    "see the tenant's hours."
)
WORDING = (
    *("--title", "Payment: at night"),
    *("--description", DESCRIPTION),
    *("--remediation", "Ask again in the morning."),
)


@pytest.fixture
def project(opa_path: Path, tmp_path: Path) -> Path:
    """A copy of what the policy's checks read."""
    copy = tmp_path / "project"
    for name in COPIED:
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, copy / name)
        else:
            shutil.copyfile(ROOT / name, copy / name)
    return copy


def run(project: Path, tool: str, *arguments: str) -> tuple[int, str]:
    tools = ROOT / ".tools" / "bin"
    done = subprocess.run(
        [sys.executable, str(project / "tools" / f"{tool}.py"), *arguments],
        cwd=project,
        env={**os.environ, "PLACET_OPA": str(tools / "opa"), "PLACET_REGAL": str(tools / "regal")},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout


def fill_in(path: Path) -> None:
    """What an author does: a condition in the place of the TODO."""
    path.write_text(path.read_text().replace("TODO", "payments.nightly"))


def test_new_rule_passes_every_check_but_for_what_is_left_to_do(project: Path) -> None:
    name = "a_new_category/a_rule"
    status, said = run(project, "new_rule", name)
    assert status == 0, said
    rule, test, page = said.splitlines()[:3]
    assert (rule, test) == (f"rego/placet/rules/{name}.rego", f"rego/placet/rules/{name}_test.rego")
    assert page == "docs/policies.md"

    status, said = run(project, "rego_check")
    assert status == 1
    assert [line for line in said.splitlines() if not line.endswith(": ok")] == [
        "rego conventions: FAILED",
        f"placet/rules/{name}.rego: a TODO is left",
        f"placet/rules/{name}_test.rego: a TODO is left",
    ]


def test_rule_that_is_filled_in_passes_every_check(project: Path) -> None:
    status, said = run(project, "new_rule", "payment/at_night", "--effect", "escalate", *WORDING)
    assert status == 0, said
    for path in said.splitlines()[:2]:
        fill_in(project / path)
    status, said = run(project, "rego_check")
    assert status == 0, said


def test_new_rule_is_documented_at_its_place(project: Path) -> None:
    assert run(project, "new_rule", "payment/at_night", "--effect", "escalate", *WORDING)[0] == 0
    rows = table(section((project / "docs" / "policies.md").read_text(), "Reasons"))
    codes = [code(name)[0] for name, _, _ in rows]
    assert codes[:-1] == sorted(codes[:-1])
    assert ["`payment.at_night`", "escalate", DESCRIPTION] in rows


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["payment/large"], "rego/placet/rules/payment/large.rego exists"),
        (["payment"], "'' is no name"),
        (["payment/AtNight"], "'AtNight' is no name"),
        (["payment/deep/at_night"], "'deep/at_night' is no name"),
        (["../payment/at_night"], "'..' is no name"),
        (["payment/night_test"], "a file that ends in _test holds tests"),
        (["payment/at_night", "--title", "a | b"], "'a | b' is no wording"),
        (["payment/at_night", "--description", "two\nlines"], "is no wording"),
    ],
)
def test_rule_that_cannot_be_begun_leaves_nothing(project: Path, arguments: list[str], message: str) -> None:
    def files() -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in project.rglob("*") if path.is_file()}

    before = files()
    status, said = run(project, "new_rule", *arguments)
    assert status == 1
    assert said.startswith("error: ")
    assert message in said
    assert files() == before
