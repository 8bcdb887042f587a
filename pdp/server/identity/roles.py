"""Who calls, and what a role may call.

Identity comes from the transport, never from a message: see `authentication`. With
`--insecure-dev` callers name themselves in metadata, which is accepted on loopback only.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextvars import ContextVar

from pdp.errors import PermissionDeniedError, UnauthenticatedError
from pdp.model import Caller, Role
from pdp.names import MAX_NAME

# Roles that may call each RPC; a method that is not listed cannot be called. An empty set:
# any authenticated caller, and the handler decides by ownership.
ROLES: Mapping[str, frozenset[Role]] = {
    "/placet.v1.DecisionService/Evaluate": frozenset({Role.AGENT}),
    "/placet.v1.DecisionService/EvaluateStream": frozenset({Role.AGENT}),
    "/placet.v1.DecisionService/EvaluateBatch": frozenset({Role.AGENT}),
    "/placet.v1.DecisionService/Simulate": frozenset({Role.POLICY_AUTHOR}),
    "/placet.v1.DecisionService/ListAllowedTools": frozenset({Role.AGENT}),
    "/placet.v1.DecisionService/GetChain": frozenset(),
    "/placet.v1.DecisionService/GetDecision": frozenset({Role.AGENT, Role.OPERATOR, Role.AUDITOR}),
    "/placet.v1.DecisionService/ReportOutcome": frozenset(),
    "/placet.v1.DecisionService/Redeem": frozenset({Role.TOOL}),
    "/placet.v1.DecisionService/ListOpenDecisions": frozenset({Role.OPERATOR, Role.AUDITOR}),
    "/placet.v1.SessionService/OpenSession": frozenset({Role.SESSION_ISSUER, Role.AGENT}),
    "/placet.v1.SessionService/GetSession": frozenset(),
    "/placet.v1.SessionService/CompleteTask": frozenset(),
    "/placet.v1.SessionService/CloseSession": frozenset(),
    "/placet.v1.SessionService/Delegate": frozenset({Role.AGENT}),
    "/placet.v1.SessionService/RevokeGrant": frozenset(),
    "/placet.v1.AdminService/PutTenant": frozenset({Role.OPERATOR}),
    "/placet.v1.AdminService/PutAgents": frozenset({Role.OPERATOR}),
    "/placet.v1.AdminService/PutTools": frozenset({Role.OPERATOR}),
    "/placet.v1.AdminService/ListTools": frozenset({Role.OPERATOR, Role.AUDITOR}),
    "/placet.v1.AdminService/ListToolHistory": frozenset({Role.OPERATOR, Role.AUDITOR}),
    "/placet.v1.AdminService/RollbackTools": frozenset({Role.OPERATOR}),
    "/placet.v1.AdminService/PutSignals": frozenset({Role.OPERATOR}),
    "/placet.v1.AdminService/PutIssuerKeys": frozenset({Role.OPERATOR}),
    "/placet.v1.AdminService/ListIssuerKeys": frozenset({Role.OPERATOR, Role.AUDITOR}),
    "/placet.v1.EntityService/PutEntities": frozenset({Role.OPERATOR}),
    "/placet.v1.EntityService/PatchEntity": frozenset({Role.OPERATOR}),
    "/placet.v1.EntityService/DeleteEntities": frozenset({Role.OPERATOR}),
    "/placet.v1.EntityService/GetEntity": frozenset({Role.OPERATOR, Role.AUDITOR}),
    "/placet.v1.EntityService/ListEntityHistory": frozenset({Role.OPERATOR, Role.AUDITOR}),
    "/placet.v1.DevService/AdvanceClock": frozenset({Role.OPERATOR}),
}
# Called without identity: probes and tools that explore the API.
OPEN_SERVICES = frozenset(
    {
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
        "grpc.reflection.v1alpha.ServerReflection",
    }
)
_CALLER: ContextVar[Caller] = ContextVar("caller")


def current_caller() -> Caller:
    """The caller of the RPC that is being handled."""
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
        agents=frozenset(filter(None, (part.strip() for part in values.get("placet-agents", "").split(",")))),
    )


def require_role(caller: Caller, method: str) -> None:
    """Raise `PermissionDeniedError` unless one of the caller's roles may call the method."""
    roles = ROLES.get(method)
    if roles is None:
        raise PermissionDeniedError(f"{method} is open to no role")
    if roles and not roles & caller.roles:
        raise PermissionDeniedError(
            f"{method.rpartition('/')[2]} needs one of the roles {', '.join(sorted(roles))}"
        )


def _name(values: Mapping[str, str], name: str) -> str:
    value = values.get(name, "")
    if not value or len(value) > MAX_NAME or not value.isprintable():
        raise UnauthenticatedError(f"metadata {name} must name the caller's {name.removeprefix('placet-')}")
    return value


def _roles(text: str) -> frozenset[Role]:
    try:
        roles = frozenset(Role(part.strip()) for part in text.split(",") if part.strip())
    except ValueError as exc:
        raise UnauthenticatedError(f"metadata placet-roles: {exc}") from exc
    if {Role.AGENT, Role.REVIEWER} <= roles:
        raise UnauthenticatedError("one identity cannot hold both agent and reviewer")
    return roles
