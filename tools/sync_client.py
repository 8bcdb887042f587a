"""Make the synchronous `Client` from `AsyncClient`, or check that it is current.

`python tools/sync_client.py` (or `make client`) writes clients/python/src/placet/client.py; with `--check` it
fails if the committed file is another. What the two do differently stands in placet/_sides.py, by hand.
"""

from __future__ import annotations

import argparse
import difflib
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "clients/python/src/placet"
SOURCE = PACKAGE / "async_client.py"
TARGET = PACKAGE / "client.py"

HEADER = """\
# Made by tools/sync_client.py from async_client.py: edit that, and run `make client`.

"""
# `placet.client` is where people import both from.
BOTH = "from placet.async_client import AsyncClient as AsyncClient\n"
# In this order; each must be found, so that none outlives what it was for.
SUBSTITUTIONS = (
    (
        '"""`AsyncClient`: ask the PDP from an event loop, fail closed.',
        '"""`Client`: ask the PDP, fail closed.',
    ),
    (
        '''\
    """Asks one PDP from an event loop: what a `Client` does, awaited.

    A cancelled call raises `asyncio.CancelledError`, like anything that is awaited.
''',
        '''\
    """Asks one PDP. Safe to share between threads, and across `fork()`.
''',
    ),
    (
        "An `AsyncClient` guards coroutine functions only, a `Client` any function.",
        "A coroutine function is guarded too: its question is asked on a thread of its own.",
    ),
    ("from placet._sides import AsyncSide\n", f"from placet._sides import SyncSide\n{BOTH}"),
    (
        "import Guarded, GuardOptions, Source, guard_async\n",
        "import Guarded, GuardOptions, Source, guard_sync\n",
    ),
    ("class AsyncClient(AsyncSide):", "class Client(SyncSide):"),
    ("    async with AsyncClient(", "    with Client("),
    ("async def ", "def "),
    ("await ", ""),
    ("guard_async(", "guard_sync("),
)
LEFT_OVER = re.compile(r"\b(async|await|asyncio)\b|Async")


def generate(source: str) -> str:
    """Return the text of client.py. ValueError if the source is not what the substitutions are for."""
    text = source
    for pattern, replacement in SUBSTITUTIONS:
        if pattern not in text:
            raise ValueError(f"async_client.py has no {pattern!r} any more: mend tools/sync_client.py")
        text = text.replace(pattern, replacement)
    if left := LEFT_OVER.search(text.replace(BOTH, "")):
        raise ValueError(f"{left[0]!r} does not belong in a synchronous client: mend tools/sync_client.py")
    return _formatted(HEADER + text)


def _formatted(text: str) -> str:
    """Return the text as `ruff` has it: without `await`, some lines are short enough to be one."""
    ruff = (sys.executable, "-m", "ruff")
    for command in (("check", "--select", "I", "--fix"), ("format",)):
        argv = (*ruff, *command, "--quiet", "--stdin-filename", str(TARGET), "-")
        done = subprocess.run(argv, input=text, capture_output=True, text=True, cwd=ROOT)
        if done.returncode:
            raise ValueError(f"the generated client is no Python:\n{done.stderr}")
        text = done.stdout
    return text


def main() -> int:
    parser = argparse.ArgumentParser(description="Make the synchronous client from the asynchronous one.")
    parser.add_argument("--check", action="store_true", help="only compare with what is committed")
    arguments = parser.parse_args()
    try:
        text = generate(SOURCE.read_text("utf-8"))
    except ValueError as exc:
        print(exc)
        return 1
    if not arguments.check:
        TARGET.write_text(text, "utf-8")
        return 0
    committed = TARGET.read_text("utf-8")
    if committed == text:
        return 0
    print("client.py is not what async_client.py gives; run `make client`:")
    sys.stdout.writelines(
        difflib.unified_diff(committed.splitlines(True), text.splitlines(True), "client.py", "generated")
    )
    return 1


if __name__ == "__main__":
    sys.exit(main())
