"""Locks that outlast `fork()`.

Internal, without any promise of stability. It loads neither gRPC nor anything else of this package.
"""

from __future__ import annotations

import os
import threading
import weakref


class ForkLock:
    """A lock that is free in a forked child, even where another thread held it during the fork.

    What it guards may be half changed in such a child: it is for state of which each step is whole.
    """

    __slots__ = ("__weakref__", "_lock")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        _LOCKS.add(self)

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *failure: object) -> None:
        self._lock.release()

    def _renew(self) -> None:
        self._lock = threading.Lock()


_LOCKS: weakref.WeakSet[ForkLock] = weakref.WeakSet()


def _in_child() -> None:
    for lock in list(_LOCKS):
        lock._renew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
