"""A pytest plugin that names the tests which a run left out, so that nothing is missing silently."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

_LEFT_OUT: list[str] = []


def pytest_deselected(items: Sequence[pytest.Item]) -> None:
    _LEFT_OUT.extend(item.nodeid for item in items)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not _LEFT_OUT:
        return
    terminalreporter.section(
        "left out: these need a container engine (`pytest -m docker`) or other data (`make test-data`)"
    )
    for name in sorted(_LEFT_OUT):
        terminalreporter.line(name)
