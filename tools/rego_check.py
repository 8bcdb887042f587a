"""Run every check of the policy, and print what failed: `python tools/rego_check.py`.

The checks that `pdp bundle build` makes (pdp/opa/checks.py), and Regal. Exits 1 if any failed.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from pdp.opa.bundle import BundleError, run_opa
from pdp.opa.checks import CHECKS, CONVENTIONS, check_format

ROOT = Path(__file__).resolve().parent.parent
OPA = Path(os.environ.get("PLACET_OPA", ROOT / ".tools" / "bin" / "opa"))
REGAL = Path(os.environ.get("PLACET_REGAL", ROOT / ".tools" / "bin" / "regal"))


def regal(opa: Path, sources: Path) -> Sequence[str]:
    done = subprocess.run(
        [str(REGAL), "lint", sources.name], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return [(done.stdout + done.stderr).strip()] if done.returncode else []


def conventions_themselves(opa: Path, sources: Path) -> Sequence[str]:
    """Check the policy that holds the conventions, whose document is another."""
    found = [*check_format(opa, CONVENTIONS)]
    try:
        run_opa(opa, "check", "--strict", ".", cwd=CONVENTIONS)
    except BundleError as exc:
        found.append(str(exc))
    return found


def main() -> int:
    failed = False
    checks: list[tuple[str, Callable[[Path, Path], Sequence[str]]]] = [
        *CHECKS,
        ("regal", regal),
        ("conventions themselves", conventions_themselves),
    ]
    for name, check in checks:
        problems = check(OPA, ROOT / "rego")
        print(f"rego {name}: {'FAILED' if problems else 'ok'}", flush=True)
        if problems:
            failed = True
            print(*problems, sep="\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
