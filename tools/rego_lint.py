"""Lint the policy by our own conventions (pdp/opa/conventions): `python tools/rego_lint.py [DIRECTORY]`.

Prints what breaks one, and exits 1 if anything does.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from pdp.opa.checks import check_conventions

ROOT = Path(__file__).resolve().parent.parent
OPA = Path(os.environ.get("PLACET_OPA", ROOT / ".tools" / "bin" / "opa"))


def main() -> int:
    policy = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "rego"
    breaches = check_conventions(OPA, policy)
    print(*breaches, sep="\n", end="\n" if breaches else "")
    return 1 if breaches else 0


if __name__ == "__main__":
    sys.exit(main())
