"""The caller of the RPC that is being handled.

Identity comes from the transport, never from a message: see `authentication`. With
`--insecure-dev` callers name themselves in metadata, which is accepted on loopback only.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextvars import ContextVar

from pdp.errors import UnauthenticatedError
from pdp.model import ROLES_APART, Caller, Role
from pdp.names import MAX_NAME

_CALLER: ContextVar[Caller] = ContextVar("caller")


def current_caller() -> Caller:
    """Return the caller of the RPC that is being handled. Raises `LookupError` outside of one."""
    return _CALLER.get()


def enter(caller: Caller) -> None:
    """Set the caller for the rest of this RPC's task."""
    _CALLER.set(caller)


def identify(metadata: Iterable[tuple[str, str | bytes]] | None) -> Caller:
    """Return who the metadata says is calling. Raises `UnauthenticatedError`."""
    values: dict[str, str] = {}
    for name, value in metadata or ():
        if name.startswith("placet-") and isinstance(value, str):
            if name in values:
                raise UnauthenticatedError(f"metadata {name} is given twice")
            values[name] = value
    return Caller(
        tenant=_name(values, "placet-tenant"),
        subject=_name(values, "placet-subject"),
        roles=_roles(values.get("placet-roles", "")),
        agents=_names(values.get("placet-agents", "")),
        tools=_names(values.get("placet-tools", "")),
        audiences=_names(values.get("placet-audiences", "")),
    )


def _name(values: Mapping[str, str], name: str) -> str:
    value = values.get(name, "")
    if not value or len(value) > MAX_NAME or not value.isprintable():
        raise UnauthenticatedError(f"metadata {name} must name the caller's {name.removeprefix('placet-')}")
    return value


def _names(text: str) -> frozenset[str]:
    return frozenset(filter(None, (part.strip() for part in text.split(","))))


def _roles(text: str) -> frozenset[Role]:
    try:
        roles = frozenset(Role(part.strip()) for part in text.split(",") if part.strip())
    except ValueError as exc:
        raise UnauthenticatedError(f"metadata placet-roles: {exc}") from exc
    for apart in ROLES_APART:
        # Elsewhere an agent's identity holds no other role; here one may play several parts.
        if apart <= roles and Role.REVIEWER in apart:
            raise UnauthenticatedError(f"one identity cannot hold both {' and '.join(sorted(apart))}")
    return roles
