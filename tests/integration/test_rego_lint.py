"""The lint of the policy's conventions: quiet on ours, and loud on each breach."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.markdown import blocks, text_of

ROOT = Path(__file__).parent.parent.parent
BOUNDARY = Path("placet") / "rules" / "boundary"
HEAD = "package placet.rules.boundary\n\n# METADATA\n# scope: rule\n# title: t\n# description: d\n"


def lint(policy: Path) -> tuple[int, list[str]]:
    done = subprocess.run(
        [sys.executable, str(ROOT / "tools" / "rego_lint.py"), str(policy)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert not done.stderr, done.stderr
    return done.returncode, done.stdout.splitlines()


@pytest.fixture
def policy(opa_path: Path, tmp_path: Path) -> Path:
    """A copy of the policy, to break. (`opa_path`: the lint needs OPA.)"""
    copy = tmp_path / "rego"
    shutil.copytree(ROOT / "rego", copy)
    return copy


def some_tests(rule: str, count: int) -> str:
    return "package placet.rules.boundary_test\n" + "".join(
        f"\ntest_{rule}_{number} if true\n" for number in range(count)
    )


def add(policy: Path, rule: str, text: str, tests: int = 4) -> None:
    (policy / BOUNDARY / f"{rule}.rego").write_text(text)
    (policy / BOUNDARY / f"{rule}_test.rego").write_text(some_tests(rule, tests))


def append(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(text)


def test_shipped_policy_keeps_the_conventions(opa_path: Path) -> None:
    assert lint(ROOT / "rego") == (0, [])


@pytest.mark.parametrize(
    ("condition", "said"),
    [
        ("input.entities.orders[0].attributs.open > 1", "an entity has no `0`"),
        ("input.entities.order.attributs.open > 1", "an entity has no `attributs`"),
        ("some name, entity in input.entities; entity.Known", "an entity has no `Known`"),
        ("some entity in input.entities; entity.kind", "an entity has no `kind`"),
        ("every _, entity in input.entities { entity.match }", "an entity has no `match`"),
        ("found := input.entities.order; found.revision", "an entity has no `revision`"),
        ("all := input.entities; some one in all; one.attribute", "an entity has no `attribute`"),
        ("input.entities[input.action.tool.name].ids", "an entity has no `ids`"),
    ],
)
def test_field_that_no_entity_has_is_named(policy: Path, condition: str, said: str) -> None:
    add(policy, "odd", HEAD + f'block contains "boundary.odd" if {{ {condition} }}\n')
    status, lines = lint(policy)
    assert status == 1
    assert [line for line in lines if said in line], lines


def test_fields_of_an_entity_may_be_read(policy: Path) -> None:
    condition = (
        "input.entities.order.attributes.anything.below == input.entities[input.tenant].id; "
        "some name, entity in input.entities; entity.known; entity.matched; entity[name]"
    )
    add(policy, "odd", HEAD + f'block contains "boundary.odd" if {{ {condition} }}\n')
    assert lint(policy) == (0, [])


def test_rule_that_keeps_the_conventions_passes(policy: Path) -> None:
    add(
        policy,
        "good",
        HEAD + 'block contains "boundary.good" if not good_proven\n\ngood_proven if input.x == 1\n',
    )
    assert lint(policy) == (0, [])


def test_rule_of_the_page_on_delegation_does_what_it_says(policy: Path, opa_path: Path) -> None:
    [rule] = blocks(text_of("docs/delegation.md"), "rego")
    folder = policy / "placet" / "rules" / "chain"
    (folder / "delegated_payment.rego").write_text(rule)
    (folder / "delegated_payment_test.rego").write_text(DELEGATED_PAYMENT_TEST)
    assert lint(policy) == (0, [])
    done = subprocess.run(
        [opa_path, "test", str(policy), "--run", "delegated_payment"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, "PASS: 4/4" in done.stdout) == (0, True), done.stdout + done.stderr


DELEGATED_PAYMENT_TEST = """package placet.rules.chain_test

import data.placet.fixtures_test as fixtures
import data.placet.rules.chain

test_delegated_payment_fires if {
	"chain.delegated_payment" in chain.block with input as fixtures.delegated
}

test_delegated_payment_quiet_for_the_sessions_own_agent if {
	not "chain.delegated_payment" in chain.block with input as fixtures.document
}

test_delegated_payment_quiet_for_a_read if {
	patch := {"op": "replace", "path": "/action/tool/effect", "value": "read"}
	not "chain.delegated_payment" in chain.block with input as json.patch(fixtures.delegated, [patch])
}

test_delegated_payment_fires_for_a_chain_missing_or_odd if {
	"chain.delegated_payment" in chain.block with input as fixtures.removed("/chain")
	"chain.delegated_payment" in chain.block with input as fixtures.replaced("/chain", {"a": 1})
}
"""


BREACHES: dict[str, tuple[Callable[[Path], None], str]] = {
    "a helper of another file": (
        lambda p: add(
            p, "odd", HEAD + 'block contains "boundary.odd" if not tool_proven\n\ntool_proven if true\n'
        ),
        "`tool_proven` is defined in placet/rules/boundary/tool.rego too",
    ),
    "a helper function of another file": (
        lambda p: add(
            p, "odd", HEAD + 'block contains "boundary.odd" if false\n\nresource_matches(a, b) if a == b\n'
        ),
        "`resource_matches` is defined in",
    ),
    "a default for another file's helper": (
        lambda p: add(
            p, "odd", HEAD + 'block contains "boundary.odd" if false\n\ndefault tool_proven := true\n'
        ),
        "`tool_proven` is defined in",
    ),
    "a test of another file": (
        lambda p: append(p / BOUNDARY / "tool_test.rego", "\ntest_amount_quiet_at_the_limit if true\n"),
        "`test_amount_quiet_at_the_limit` is defined in",
    ),
    "another code": (
        lambda p: add(p, "odd", HEAD + 'block contains "boundary.even" if false\n'),
        'the code of `block` is not the constant "boundary.odd"',
    ),
    "a second code": (
        lambda p: add(
            p,
            "odd",
            HEAD + 'block contains "boundary.odd" if false\n\nallow contains "boundary.tool" if true\n',
        ),
        'the code of `allow` is not the constant "boundary.odd"',
    ),
    "a computed code": (
        lambda p: add(p, "odd", HEAD + "block contains code if code := input.code\n"),
        "the code of `block` is not the constant",
    ),
    "an object for a code": (
        lambda p: add(p, "odd", HEAD + 'block contains {"code": "boundary.odd"} if false\n'),
        "the code of `block` is not the constant",
    ),
    "a keyed head": (
        lambda p: add(p, "odd", HEAD + 'block["boundary.odd"] := "message" if false\n'),
        "the code of `block` is not the constant",
    ),
    "a complete rule": (
        lambda p: add(p, "odd", HEAD + "block := true\n"),
        "the code of `block` is not the constant",
    ),
    "no outcome": (
        lambda p: add(p, "odd", HEAD + "odd_proven if true\n"),
        "a rule file without block, escalate or allow",
    ),
    "no wording": (
        lambda p: add(p, "odd", 'package placet.rules.boundary\n\nblock contains "boundary.odd" if false\n'),
        "no METADATA with title and description",
    ),
    "no title": (
        lambda p: add(
            p, "odd", HEAD.replace("# title: t\n", "") + 'block contains "boundary.odd" if false\n'
        ),
        "no METADATA with title and description",
    ),
    "wording on a helper": (
        lambda p: add(
            p,
            "odd",
            HEAD + 'odd_proven if true\n\nblock contains "boundary.odd" if not odd_proven\n',
        ),
        "no METADATA with title and description",
    ),
    "sprintf": (
        lambda p: add(
            p, "odd", HEAD + 'block contains "boundary.odd" if sprintf("%v", [input.vendor]) == "x"\n'
        ),
        "sprintf",
    ),
    "a TODO in the wording": (
        lambda p: add(
            p, "odd", HEAD.replace("title: t", "title: TODO") + 'block contains "boundary.odd" if false\n'
        ),
        "boundary/odd.rego: a TODO is left",
    ),
    "a TODO in the condition": (
        lambda p: add(p, "odd", HEAD + 'block contains "boundary.odd" if input.x == "TODO"\n'),
        "boundary/odd.rego: a TODO is left",
    ),
    "three tests": (
        lambda p: add(p, "odd", HEAD + 'block contains "boundary.odd" if false\n', tests=3),
        "3 tests in placet/rules/boundary/odd_test.rego",
    ),
    "no tests": (
        lambda p: (p / BOUNDARY / "tool_test.rego").unlink(),
        "0 tests in placet/rules/boundary/tool_test.rego",
    ),
    "a package outside the roots": (
        lambda p: append(p / "placet" / "stray.rego", "package system.authz\n\nallow := true\n"),
        "a package outside the bundle's root `placet`",
    ),
    "a package that is not its directory": (
        lambda p: add(
            p,
            "odd",
            HEAD.replace("rules.boundary", "rules.amount") + 'block contains "boundary.odd" if false\n',
        ),
        "a package that is not its directory",
    ),
    "a rule one directory deeper": (
        lambda p: append(
            p / BOUNDARY / "deep" / "odd.rego",
            HEAD.replace("boundary\n", "boundary.deep\n") + 'block contains "boundary.odd" if false\n',
        ),
        'not the constant "boundary.deep.odd"',
    ),
}


@pytest.mark.parametrize(("breach", "message"), BREACHES.values(), ids=list(BREACHES))
def test_breach_is_found(policy: Path, breach: Callable[[Path], None], message: str) -> None:
    breach(policy)

    code, lines = lint(policy)

    assert code == 1
    assert any(message in line for line in lines), lines


def test_empty_directory_is_no_pass(opa_path: Path, tmp_path: Path) -> None:
    assert lint(tmp_path) == (1, [f"{tmp_path}: no policy files"])
