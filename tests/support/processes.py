"""Looks at the processes of this machine."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

# In seconds. Disks stall now and then, so bounds are generous; only a failure reaches them.
PATIENCE = 60.0

T = TypeVar("T")


def is_alive(pid: int) -> bool:
    """Whether the process runs; a zombie does not."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return False
    return status.rpartition(")")[2].split()[0] not in ("Z", "X")


def running_with(text: str) -> list[tuple[int, str]]:
    """Return the other processes whose command line or working directory contains `text`: id and line."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            place = os.readlink(entry / "cwd")
        except OSError:
            continue
        if (text in line or text in place) and is_alive(int(entry.name)):
            found.append((int(entry.name), line.strip()))
    return found


def eventually(look: Callable[[], T], what: str, *, within: float = PATIENCE) -> T:
    """Call `look` until it returns something truthy, and return that.

    Fails, naming `what`, after `within` seconds.
    """
    limit = time.monotonic() + within
    while not (seen := look()):
        assert time.monotonic() < limit, f"not within {within:.0f} s: {what}"
        time.sleep(0.02)
    return seen
