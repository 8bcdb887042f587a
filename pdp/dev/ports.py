"""TCP ports of this machine's loopback: free ones, and what to say of a busy one."""

from __future__ import annotations

import errno
import random
import socket

HOST = "127.0.0.1"
# Below the ports that outgoing connections take by themselves (ip(7), ip_local_port_range).
FIRST, LAST = 15_000, 31_999


def is_free(port: int) -> bool:
    """Return whether nothing listens on the port. Raises `OSError` when it may not be used at all."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as exc:
            if exc.errno == errno.EADDRINUSE:
                return False
            raise
    return True


def free_ports(count: int) -> list[int]:
    """Return that many different free ports, chosen at random so that stacks that start together differ."""
    chosen: list[int] = []
    candidates = random.sample(range(FIRST, LAST), LAST - FIRST)
    while len(chosen) < count:
        if is_free(port := candidates.pop()):
            chosen.append(port)
    return chosen
