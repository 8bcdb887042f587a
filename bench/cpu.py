"""CPU time of processes, from /proc (Linux only)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

_TICK = os.sysconf("SC_CLK_TCK")


def seconds(pid: int) -> float:
    """Return the CPU time that a process and all its children have used, including children that ended.

    A child of a child counts once it has ended and was waited for. Raises `FileNotFoundError` if
    the process is gone.
    """
    own, ended, _ = _times(pid)
    total = own + ended
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                used, ended, parent = _times(int(entry.name))
            except (FileNotFoundError, ProcessLookupError):
                continue
            if parent == pid:
                total += used + ended
    return total


def usage(pids: Mapping[str, int]) -> dict[str, float]:
    """`seconds` of each process, by name."""
    return {name: seconds(pid) for name, pid in pids.items()}


def _times(pid: int) -> tuple[float, float, int]:
    """Return CPU, that of ended children, and the parent's id: fields 14 to 17 and 4 of proc_pid_stat(5)."""
    text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    # The name in parentheses may hold spaces; what follows it starts with field 3.
    fields = text[text.rindex(")") + 2 :].split()
    own, ended = int(fields[11]) + int(fields[12]), int(fields[13]) + int(fields[14])
    return own / _TICK, ended / _TICK, int(fields[1])
