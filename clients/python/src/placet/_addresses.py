"""Which addresses are this machine's own: no proxy stands before them, whatever the environment says."""

from __future__ import annotations

import socket
from ipaddress import IPv6Address, ip_address
from urllib.parse import unquote, urlsplit

# Schemes of gRPC targets whose rest is a list of addresses, or a name after an authority.
_LISTS = frozenset({"ipv4", "ipv6"})
_NAMED = frozenset({"dns", "passthrough", "http", "https"})
_SOCKETS = frozenset({"unix", "unix-abstract", "vsock"})


def is_own_target(target: str) -> bool:
    """Return whether a gRPC target is on this machine: loopback, or a socket that is no network's.

    See https://github.com/grpc/grpc/blob/master/doc/naming.md for what targets there are.
    """
    scheme, colon, rest = target.partition(":")
    scheme = scheme.lower()
    if colon and scheme in _SOCKETS:
        return True
    if colon and scheme in _LISTS:
        return all(is_loopback(_host(each)) for each in rest.lstrip("/").split(","))
    if colon and scheme in _NAMED:
        if rest.startswith("//"):
            rest = rest[2:].partition("/")[2]
        return is_loopback(_host(rest))
    return is_loopback(_host(target))


def is_own_url(url: str) -> bool:
    """Return whether an http or https address is on this machine."""
    return is_loopback(urlsplit(url).hostname or "")


def is_loopback(host: str) -> bool:
    """Return whether a host's name or address means this machine.

    Names below `localhost` do (RFC 6761, section 6.3), and so does what an unspecified address connects to.
    """
    name = host.lower().removesuffix(".")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        address = ip_address(name.partition("%")[0])
    except ValueError:
        try:
            address = ip_address(socket.inet_aton(name))  # 127.1
        except (OSError, UnicodeError, ValueError):
            return False
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return address.is_loopback or address.is_unspecified


def _host(endpoint: str) -> str:
    """Return the host of `host`, `host:port` or `[host]:port`."""
    endpoint = unquote(endpoint)
    if endpoint.startswith("["):
        return endpoint[1:].partition("]")[0]
    host, colon, _ = endpoint.rpartition(":")
    return host if colon and ":" not in host else endpoint
