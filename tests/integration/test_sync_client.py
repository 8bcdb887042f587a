"""The committed `Client` is what `AsyncClient` gives, and what cannot be made of it is said."""

from __future__ import annotations

import runpy
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOOL = runpy.run_path(str(ROOT / "tools/sync_client.py"))
generate = TOOL["generate"]
SOURCE: str = TOOL["SOURCE"].read_text("utf-8")


def test_committed_client_is_current() -> None:
    done = subprocess.run(
        [sys.executable, "tools/sync_client.py", "--check"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_further_call_is_made_synchronous() -> None:
    call = "\n    async def ping(self) -> int:\n        return await self._run(ping(), None)\n"
    made = generate(SOURCE + call)
    assert made == TOOL["TARGET"].read_text("utf-8") + call.replace("async ", "").replace("await ", "")
    assert made.startswith(TOOL["HEADER"])


@pytest.mark.parametrize("index", range(len(TOOL["SUBSTITUTIONS"])))
def test_a_substitution_that_finds_nothing_is_an_error(index: int) -> None:
    pattern, replacement = TOOL["SUBSTITUTIONS"][index]
    with pytest.raises(ValueError, match="any more"):
        generate(SOURCE.replace(pattern, replacement))


def test_what_stays_asynchronous_is_an_error() -> None:
    with pytest.raises(ValueError, match="does not belong"):
        generate(SOURCE + "\nWAIT = asyncio.sleep\n")
