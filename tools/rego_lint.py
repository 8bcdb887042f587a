"""Lint the policy by our own conventions (tools/rego/lint.rego): `python tools/rego_lint.py [DIRECTORY]`.

OPA parses each file; the conventions are Rego over the syntax trees. Prints what breaks one, and
exits 1 if anything does.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OPA = Path(os.environ.get("PLACET_OPA", ROOT / ".tools" / "bin" / "opa"))
CONVENTIONS = ROOT / "tools" / "rego" / "lint.rego"


def run_opa(*arguments: str, stdin: str = "") -> str:
    done = subprocess.run([str(OPA), *arguments], input=stdin, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"opa {arguments[0]}: {(done.stderr or done.stdout).strip()}")
    return done.stdout


def lint(policy: Path) -> list[str]:
    """Return a line for each breach in the policy files under `policy`."""
    paths = sorted(policy.rglob("*.rego"))
    if not paths:
        return [f"{policy}: no policy files"]
    with ThreadPoolExecutor(max_workers=2) as pool:
        trees = list(pool.map(lambda path: run_opa("parse", "--format", "json", str(path)), paths))
    files = {
        path.relative_to(policy).as_posix(): json.loads(tree) for path, tree in zip(paths, trees, strict=True)
    }
    answer = run_opa(
        "eval",
        "--format=json",
        "--strict-builtin-errors",
        "--stdin-input",
        f"--data={CONVENTIONS}",
        "data.lint.violations",
        stdin=json.dumps({"files": files}),
    )
    breaches = json.loads(answer)["result"][0]["expressions"][0]["value"]
    return [f"{breach['file']}: {breach['message']}" for breach in breaches]


def main() -> int:
    policy = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "rego"
    breaches = lint(policy)
    print(*breaches, sep="\n", end="\n" if breaches else "")
    return 1 if breaches else 0


if __name__ == "__main__":
    sys.exit(main())
