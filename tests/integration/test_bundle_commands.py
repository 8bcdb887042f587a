"""`pdp bundle`: builds what passes the checks, with the key that is named, and nothing else."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from pdp.cli import app
from pdp.opa.bundle import load_signing_key, load_verification_key
from pdp.opa.checks import check_conventions, check_format, check_strictly, check_tests

ROOT = Path(__file__).parent.parent.parent
RULE = Path("placet") / "rules" / "boundary"
HEAD = "package placet.rules.boundary\n\n# METADATA\n# scope: rule\n# title: t\n# description: d\n"


def run(*words: str | Path) -> Result:
    return CliRunner().invoke(app, ["bundle", *map(str, words)])


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    """A copy of the shipped policy, to break."""
    copy = tmp_path / "rego"
    shutil.copytree(ROOT / "rego", copy)
    return copy


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "key.pem"
    assert run("create-key", path).exit_code == 0
    return path


def test_key_is_made_once_and_by_its_own_command(tmp_path: Path, opa_path: Path, policy: Path) -> None:
    path = tmp_path / "keys" / "bundle.pem"
    refused = run("build", "--opa", opa_path, "--key", path, "--output", tmp_path / "b", "--sources", policy)
    assert refused.exit_code == 1
    assert "not a readable PEM private key" in refused.output
    assert not path.exists()
    assert not (tmp_path / "b").exists()

    made = run("create-key", path)
    assert made.exit_code == 0
    assert made.stderr == f"key {load_signing_key(path).key_id}\n"
    (tmp_path / "public.pem").write_text(made.stdout)
    assert load_verification_key(tmp_path / "public.pem").key_id == load_signing_key(path).key_id
    assert path.stat().st_mode & 0o777 == 0o600
    before = path.read_bytes()
    assert "there is a file already" in run("create-key", path).output
    assert path.read_bytes() == before


def test_build_prints_the_key_that_verifiers_need(
    tmp_path: Path, opa_path: Path, policy: Path, key: Path
) -> None:
    output = tmp_path / "placet.tar.gz"
    done = run("build", "--opa", opa_path, "--key", key, "--output", output, "--sources", policy)
    assert done.exit_code == 0, done.output
    signing = load_signing_key(key)
    first, second, *rest = done.stdout.splitlines()
    assert first.startswith(f"{output} revision ")
    assert second == f"key {signing.key_id}"
    assert "\n".join(rest) + "\n" == signing.public_key
    assert output.is_file()


@pytest.mark.parametrize(
    ("check", "file", "text", "said"),
    [
        (check_format, "odd.rego", "package placet.rules.boundary\n\nx  := 1\n", "boundary/odd.rego"),
        (
            check_strictly,
            "odd.rego",
            HEAD + 'block contains "boundary.odd" if input.entiti\n',
            "undefined ref: input.entiti",
        ),
        (check_strictly, "odd.rego", HEAD + "odd if http.semd({})\n", "undefined function http.semd"),
        (
            check_strictly,
            "odd.rego",
            "package placet.rules.boundary\n\nodd if input.x.\n",
            "rego_parse_error",
        ),
        (
            check_conventions,
            "odd.rego",
            "package placet.rules.boundary\n\nodd if input.x.\n",
            "rego_parse_error",
        ),
        (
            check_tests,
            "odd_test.rego",
            "package placet.rules.boundary_test\n\ntest_odd if false\n",
            "test_odd",
        ),
        (
            check_tests,
            "odd.rego",
            "package placet.rules.boundary\n\nodd if input.tenant\n",
            "odd.rego: never run",
        ),
    ],
)
def test_check_says_what_is_wrong_and_where(
    opa_path: Path,
    policy: Path,
    check: Callable[[Path, Path], Sequence[str]],
    file: str,
    text: str,
    said: str,
) -> None:
    (policy / RULE / file).write_text(text)
    found = "\n".join(check(opa_path, policy))
    assert said in found


def test_what_the_checks_refuse_is_not_built(tmp_path: Path, opa_path: Path, policy: Path, key: Path) -> None:
    condition = "input.entities.orders[0].attributs"
    (policy / RULE / "odd.rego").write_text(HEAD + f'block contains "boundary.odd"  if {condition}\n')
    output = tmp_path / "placet.tar.gz"
    done = run("build", "--opa", opa_path, "--key", key, "--output", output, "--sources", policy)
    assert done.exit_code == 1
    assert "the policy is not built" in done.output
    for said in (
        "format: placet/rules/boundary/odd.rego",
        "an entity has no `0`",
        "conventions: placet/rules/boundary/odd.rego: 0 tests",
        "tests and coverage: placet/rules/boundary/odd.rego",
    ):
        assert said in done.output
    assert not output.exists()
