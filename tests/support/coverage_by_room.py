"""pytest plugin: say how much of each folder of the code this process ran.

It does so under `coverage run` (`make test`), and is silent otherwise. Processes that tests start are not
measured, because that would slow the servers whose timing tests judge: folders whose code mostly runs in
them (`pdp/dev`, `placet/cli`) show less than what is tested.
"""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePath
from typing import Any

import coverage
import pytest

# What a file's summary counts: statements and branches, all of them and those that ran.
_ALL = ("num_statements", "num_branches")
_RAN = ("covered_lines", "covered_branches")


def room_of(path: PurePath) -> str:
    """The folder below its package, `pdp/decision` for instance; the package alone for a file right in it."""
    parts = path.parts
    start = next(number for number, part in enumerate(parts) if part in ("pdp", "placet"))
    return "/".join(parts[start : min(start + 2, len(parts) - 1)])


def by_room(files: Mapping[str, Mapping[str, Any]]) -> dict[str, tuple[int, int]]:
    """How many statements and branches each room has, and how many ran.

    `files` is that member of coverage's JSON report.
    """
    everything: Counter[str] = Counter()
    ran: Counter[str] = Counter()
    for path, file in files.items():
        room = room_of(PurePath(path))
        everything[room] += sum(file["summary"][name] for name in _ALL)
        ran[room] += sum(file["summary"][name] for name in _RAN)
    return {room: (everything[room], ran[room]) for room in sorted(everything)}


def lines(rooms: Mapping[str, tuple[int, int]]) -> Iterable[str]:
    """A line for each room, and one for all."""
    total = tuple(map(sum, zip(*rooms.values(), strict=True)))
    for room, (everything, ran) in [*rooms.items(), ("total", total)]:
        share = 100 * ran / everything if everything else 100.0
        yield f"{room:<24} {everything:>6} {share:>6.1f} %"


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    running = coverage.Coverage.current()
    if running is None:
        return
    running.stop()
    running.save()
    saved = coverage.Coverage()
    saved.load()
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "coverage.json"
        saved.json_report(outfile=str(report))
        files = json.loads(report.read_text())["files"]
    terminalreporter.section("coverage: statements and branches, and how many ran in this process")
    for line in lines(by_room(files)):
        terminalreporter.line(line)
