"""Run as a script: become the program that was asked for, so that it ends with its parent.

`python -I -S launch.py PARENT SIGNAL UID GID PROGRAM ARGUMENT…` drops to the user (UID -1: stays),
asks the kernel to send SIGNAL when PARENT ends (Linux; prctl(2) PR_SET_PDEATHSIG, which a change of
user would clear, hence the order) and becomes PROGRAM. Imports nothing of the project: the user
that it drops to may be unable to read it, and start-up time counts.
"""

from __future__ import annotations

import os
import sys

PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> None:
    parent, signal, uid, gid = (int(text) for text in arguments[:4])
    argv = arguments[4:]
    libc = None
    if sys.platform == "linux":
        import ctypes  # while we may still read it

        libc = ctypes.CDLL(None)
    if uid >= 0:
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
    if libc is not None:
        libc.prctl(PR_SET_PDEATHSIG, signal, 0, 0, 0)
        if os.getppid() != parent:
            sys.exit("the parent ended during start-up")
    os.execv(argv[0], argv)


if __name__ == "__main__":
    main(sys.argv[1:])
