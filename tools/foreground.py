#!/usr/bin/env python3
"""Run a command as the terminal's foreground job: `tools/foreground.py COMMAND ARGUMENT…`.

For recipes of make that serve until Ctrl-C. The terminal's Ctrl-C then reaches the command alone,
which stops in order and ends with its own exit code; make, in another process group, is not
interrupted and does not call it an error. Signals sent to us are passed on; if make is killed, the
command is told to stop (Linux). Standard library only.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys


def end_with_parent() -> None:
    if sys.platform == "linux":
        import ctypes

        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGTERM, 0, 0, 0)


def terminal() -> int | None:
    """Return a descriptor of the controlling terminal; None unless we are its foreground job."""
    with contextlib.suppress(OSError):
        descriptor = os.open("/dev/tty", os.O_RDWR)
        if os.tcgetpgrp(descriptor) == os.getpgrp():
            return descriptor
        os.close(descriptor)
    return None


def main(argv: list[str]) -> int:
    end_with_parent()
    # SIGTTOU would stop us when we take the terminal back from the background, and nobody would resume a
    # job that SIGTSTP has stopped.
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    signal.signal(signal.SIGTSTP, signal.SIG_IGN)
    descriptor = terminal()
    early: list[int] = []
    child: subprocess.Popen[bytes] | None = None

    def pass_on(number: int, frame: object) -> None:
        if child is None:
            early.append(number)
        else:
            with contextlib.suppress(ProcessLookupError):
                child.send_signal(number)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, pass_on)
    try:
        child = subprocess.Popen(argv, process_group=0)
    except OSError as exc:
        print(f"error: {exc}", file=sys.stderr)
        return 127
    for number in early:
        child.send_signal(number)
    if descriptor is not None:
        os.tcsetpgrp(descriptor, child.pid)
    try:
        code = child.wait()
    finally:
        if descriptor is not None:
            os.tcsetpgrp(descriptor, os.getpgrp())
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
