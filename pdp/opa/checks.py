"""The checks of a policy: what breaks one of them is not built.

They are those of continuous integration (tools/rego_check.py) but for Regal, which is a tool of its own:
format, OPA's strict check against the schema of the document, our own conventions, and the policy's tests,
which must run every line. Nothing here changes a file.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pdp.opa.bundle import BundleError, policy_sources, run_opa

CONVENTIONS = Path(__file__).resolve().parent / "conventions"
_SCHEMA = Path("schemas") / "input.json"
# How long one test may take. OPA's own 5 seconds are too few on a machine that does much else.
PATIENT = ("--timeout", "2m")


def find_problems(*, opa: Path, sources: Path) -> list[str]:
    """Return what is wrong with a policy, each with the check that says it; nothing if it may be built.

    Raises `BundleError` if a check cannot be run.
    """
    problems = []
    for name, check in CHECKS:
        found = check(opa, sources)
        problems += [f"{name}: {problem}" for problem in found]
    return problems


def check_format(opa: Path, sources: Path) -> Sequence[str]:
    """Return the files that `opa fmt` would write otherwise."""
    return _lines(run_opa(opa, "fmt", "--list", ".", cwd=sources))


def check_strictly(opa: Path, sources: Path) -> Sequence[str]:
    """Return what OPA's strict mode refuses, above all a field that the document does not have."""
    schema = sources / _SCHEMA
    if not schema.is_file():
        schema = policy_sources() / _SCHEMA
    try:
        run_opa(opa, "check", "--strict", "--schema", str(schema.resolve()), "--bundle", ".", cwd=sources)
    except BundleError as exc:
        return [str(exc)]
    return []


def check_conventions(opa: Path, sources: Path) -> Sequence[str]:
    """Return each breach of our own conventions, which are Rego over the syntax trees of the policy."""
    paths = sorted(sources.rglob("*.rego"))
    if not paths:
        return [f"{sources}: no policy files"]

    def parse(path: Path) -> str:
        return run_opa(opa, "parse", "--format", "json", str(path.resolve()), cwd=sources)

    try:
        with ThreadPoolExecutor(max_workers=2) as pool:
            trees = list(pool.map(parse, paths))
    except BundleError as exc:
        return [str(exc)]
    files = {
        path.relative_to(sources).as_posix(): json.loads(tree)
        for path, tree in zip(paths, trees, strict=True)
    }
    answer = run_opa(
        opa,
        "eval",
        "--format=json",
        "--strict-builtin-errors",
        "--stdin-input",
        f"--data={CONVENTIONS}",
        "data.lint.violations",
        cwd=sources,
        stdin=json.dumps({"files": files}),
    )
    breaches = json.loads(answer)["result"][0]["expressions"][0]["value"]
    return [f"{breach['file']}: {breach['message']}" for breach in breaches]


def check_tests(opa: Path, sources: Path) -> Sequence[str]:
    """Return failed tests, else the lines that no test runs.

    OPA's report has no figure for a file of which nothing runs.
    """
    try:
        run_opa(opa, "test", *PATIENT, ".", cwd=sources)
        report = run_opa(opa, "test", *PATIENT, ".", "--coverage", "--format", "json", cwd=sources)
    except BundleError as exc:
        return [str(exc)]
    files = json.loads(report)["files"]
    gaps = []
    for path in sorted(sources.rglob("*.rego")):
        file = path.relative_to(sources).as_posix()
        entry = files.get(file, {})
        if not entry.get("covered"):
            gaps.append(f"{file}: never run")
        gaps += [f"{file}:{gap['start']['row']}: never run" for gap in entry.get("not_covered", ())]
    return gaps


CHECKS: tuple[tuple[str, Callable[[Path, Path], Sequence[str]]], ...] = (
    ("format", check_format),
    ("strict check with schema", check_strictly),
    ("conventions", check_conventions),
    ("tests and coverage", check_tests),
)


def _lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line]
