"""Run every check of the policy, and print what failed: `python tools/rego_check.py`.

Format, strict check against the input document's schema, Regal, our own conventions, and the
tests at 100 % coverage. Exits 1 if any failed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from rego_lint import OPA, ROOT, lint

REGAL = Path(os.environ.get("PLACET_REGAL", ROOT / ".tools" / "bin" / "regal"))

# How long one test may take. OPA's own 5 seconds are too few on a machine that does much else.
PATIENT = ("--timeout", "2m")


def run(*argv: str | Path) -> tuple[int, str]:
    done = subprocess.run([str(part) for part in argv], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.returncode, (done.stdout + done.stderr).strip()


def formatted() -> str:
    code, output = run(OPA, "fmt", "--fail", "--list", "rego", "tools/rego")
    return output or ("opa fmt failed" if code else "")


def checked() -> str:
    code, output = run(OPA, "check", "--strict", "--schema", "rego/schemas/input.json", "--bundle", "rego")
    code_of_lint, output_of_lint = run(OPA, "check", "--strict", "tools/rego")
    return (output + output_of_lint) if code or code_of_lint else ""


def regal() -> str:
    code, output = run(REGAL, "lint", "rego")
    return output if code else ""


def conventions() -> str:
    return "\n".join(lint(ROOT / "rego"))


def tested() -> str:
    """Return failed tests, else the lines that no test runs.

    OPA's report has no figure for a file of which nothing runs.
    """
    code, output = run(OPA, "test", *PATIENT, "rego")
    if code:
        return output
    code, output = run(OPA, "test", *PATIENT, "rego", "--coverage", "--format", "json")
    if code:
        return output
    report = json.loads(output)["files"]
    gaps = []
    for path in sorted((ROOT / "rego").rglob("*.rego")):
        file = path.relative_to(ROOT).as_posix()
        entry = report.get(file, {})
        if not entry.get("covered"):
            gaps.append(f"{file}: never run")
        for gap in entry.get("not_covered", ()):
            gaps.append(f"{file}:{gap['start']['row']}: never run")
    return "\n".join(gaps)


CHECKS: tuple[tuple[str, Callable[[], str]], ...] = (
    ("format", formatted),
    ("strict check with schema", checked),
    ("regal", regal),
    ("conventions", conventions),
    ("tests and coverage", tested),
)


def main() -> int:
    failed = False
    for name, check in CHECKS:
        problems = check()
        print(f"rego {name}: {'FAILED' if problems else 'ok'}", flush=True)
        if problems:
            failed = True
            print(problems)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
