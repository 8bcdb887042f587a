"""The report of coverage by folder: which folder a file counts for, and what a run prints."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path, PurePath

import pytest

from tests.support.coverage_by_room import room_of

ROOT = Path(__file__).parents[3]
PROJECT = """
[tool.coverage.run]
branch = true
source = ["pdp"]
data_file = "data"
"""


@pytest.mark.parametrize(
    ("path", "room"),
    [
        ("pdp/app.py", "pdp"),
        ("pdp/decision/point.py", "pdp/decision"),
        ("pdp/postgres/access/pool.py", "pdp/postgres"),
        ("clients/python/src/placet/client.py", "placet"),
        ("clients/python/src/placet/scenario/steps/open.py", "placet/scenario"),
    ],
)
def test_file_counts_for_the_folder_below_its_package(path: str, room: str) -> None:
    assert room_of(PurePath(path)) == room


def test_run_ends_with_its_closing_line_after_the_figures(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(PROJECT)
    room = tmp_path / "pdp" / "room"
    room.mkdir(parents=True)
    (tmp_path / "pdp" / "__init__.py").touch()
    (room / "__init__.py").touch()
    (room / "half.py").write_text("def ran():\n    return 1\n\n\ndef not_run():\n    return 2\n")
    (tmp_path / "test_half.py").write_text(
        "from pdp.room.half import ran\n\n\ndef test_it():\n    assert ran()\n"
    )
    plugin = ("-p", "tests.support.coverage_by_room", "-p", "no:placet")
    done = subprocess.run(
        [sys.executable, "-m", "coverage", "run", "-m", "pytest", *plugin],
        cwd=tmp_path,
        env={"PYTHONPATH": f"{tmp_path}:{ROOT}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert lines[-1].strip("= ").startswith("1 passed in")
    assert [line.split() for line in lines[:-1] if line.endswith("%")][-2:] == [
        ["pdp/room", "4", "75.0", "%"],
        ["total", "4", "75.0", "%"],
    ]
