"""The code in the client's README runs, and does what it says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from placet.testing import FakePdp

README = Path(__file__).parents[3] / "clients/python/README.md"


def test_first_example_runs(fake_pdp: FakePdp, capsys: pytest.CaptureFixture[str]) -> None:
    code = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)[0]
    assert "localhost:7433" in code
    code = code.replace("localhost:7433", fake_pdp.target).replace("identity=me", "identity=me, timeout=30")
    fake_pdp.put("settings", "acme")
    exec(compile(code, str(README), "exec"), {})
    fake_pdp.allow("payments.create")
    exec(compile(code, str(README), "exec"), {})
    blocked, paid = capsys.readouterr().out.splitlines()
    assert blocked.startswith("POLICY_BLOCKED")
    assert paid == "paid 1200.00 EUR"


@pytest.mark.parametrize("page", ["README.md", "clients/python/README.md", "docs/agent-developers.md"])
def test_code_passes_a_strict_type_checker(page: str, tmp_path: Path) -> None:
    root = Path(__file__).parents[3]
    blocks = re.findall(r"```python\n(.*?)```", (root / page).read_text(encoding="utf-8"), re.DOTALL)
    if page == "clients/python/README.md":  # its later ones are pieces of other programs
        blocks = blocks[:1]
    code = tmp_path / "page.py"
    code.write_text("\n".join(blocks))
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--config-file", root / "pyproject.toml", "--strict", code],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
