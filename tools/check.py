"""Run the project's checks and say how each went: `python tools/check.py [NAME…]`.

Without names all of them, two at a time. A check that passes is one line; one that fails shows its output
at the end. Exit code 1 if any failed. `--list` names them.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PYTHON = (sys.executable, "-m")
DEPTRY = (*PYTHON, "deptry", "--no-ansi")
BUF = str(ROOT / ".tools" / "bin" / "buf")
# import-linter cannot be run with `python -m`, and its script does not start from a path with spaces.
FLOORS = "from importlinter.cli import lint_imports_command as main; main()"


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """A command that must succeed."""

    name: str
    argv: tuple[str, ...]
    directory: Path = ROOT


CHECKS = (
    # The slowest first, so that the rest runs beside it.
    Check(name="unit tests", argv=(*PYTHON, "pytest", "-q", "tests/unit")),
    Check(name="types", argv=(*PYTHON, "mypy")),
    Check(name="format", argv=(*PYTHON, "ruff", "format", "--check", "--quiet", "--diff", ".")),
    Check(name="lint", argv=(*PYTHON, "ruff", "check", "--quiet", ".")),
    Check(name="import floors", argv=(sys.executable, "-c", FLOORS)),
    # Each wheel's imports against what it declares, then those of what is not shipped.
    Check(name="server imports", argv=(*DEPTRY, "pdp")),
    Check(name="client imports", argv=(*DEPTRY, "src"), directory=ROOT / "clients" / "python"),
    Check(
        name="other imports",
        argv=(*DEPTRY, "--exclude", "^$", "--ignore", "DEP002,DEP004", "bench", "examples", "tests", "tools"),
    ),
    Check(name="proto lint", argv=(BUF, "lint"), directory=ROOT / "proto"),
    Check(
        name="proto breaking", argv=(BUF, "breaking", "--against", "image.binpb"), directory=ROOT / "proto"
    ),
    Check(name="stubs current", argv=(sys.executable, "tools/stubs.py", "--check")),
    Check(name="client current", argv=(sys.executable, "tools/sync_client.py", "--check")),
    # Format, strict check with schema, Regal, our own conventions, tests with coverage.
    Check(name="rego", argv=(sys.executable, "tools/rego_check.py")),
)


def run(check: Check, problems: list[str], lock: threading.Lock) -> None:
    started = time.monotonic()
    try:
        done = subprocess.run(
            check.argv,
            cwd=check.directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        output, failed = done.stdout, done.returncode != 0
    except OSError as exc:
        output, failed = f"{exc}\nRun `make setup` first.", True
    with lock:
        word = "FAILED" if failed else "ok"
        print(f"  {check.name:<18} {word:<6} {time.monotonic() - started:5.1f} s", flush=True)
        if failed:
            command = " ".join(os.path.relpath(part, ROOT) if "/" in part else part for part in check.argv)
            problems.append(f"--- {check.name}: {command}\n{output.rstrip()}")


def main() -> int:
    parser = argparse.ArgumentParser(description="Run the project's checks.")
    parser.add_argument("name", nargs="*", help="run only these")
    parser.add_argument("--except", dest="left_out", action="append", default=[], help="leave this one out")
    parser.add_argument("--list", action="store_true", help="name the checks")
    arguments = parser.parse_args()
    known = [check.name for check in CHECKS]
    if unknown := [name for name in (*arguments.name, *arguments.left_out) if name not in known]:
        parser.error(f"unknown: {', '.join(unknown)} (known: {', '.join(known)})")
    if arguments.list:
        print(*known, sep="\n")
        return 0
    wanted = [
        check
        for check in CHECKS
        if check.name not in arguments.left_out and (not arguments.name or check.name in arguments.name)
    ]
    problems: list[str] = []
    lock = threading.Lock()
    started = time.monotonic()
    with ThreadPoolExecutor(max_workers=2) as pool:
        for done in [pool.submit(run, check, problems, lock) for check in wanted]:
            done.result()
    for problem in problems:
        print(problem)
    elapsed = time.monotonic() - started
    if problems:
        print(f"{len(problems)} of {len(wanted)} checks failed, in {elapsed:.0f} s")
        return 1
    print(f"{len(wanted)} checks passed in {elapsed:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
