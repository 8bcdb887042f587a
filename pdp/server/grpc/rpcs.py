"""Every RPC of the API: who may call it, and what the edge has to know of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from google.protobuf.descriptor import ServiceDescriptor

from pdp.errors import PermissionDeniedError
from pdp.model import Caller, Role
from placet.v1 import (
    admin_service_pb2,
    decision_service_pb2,
    dev_service_pb2,
    entity_service_pb2,
    session_service_pb2,
)

# Called without identity: probes, and tools that explore the API.
OPEN_SERVICES = frozenset(
    {
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
        "grpc.reflection.v1alpha.ServerReflection",
    }
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Rpc:
    """How the edge admits calls of one RPC, before a handler sees them."""

    # A caller needs one of these roles. With an empty set every authenticated caller may call, and the use
    # case decides by whose the session or the decision is.
    roles: frozenset[Role]
    # The call needs the whole pipeline, so a full replica turns it away before it asks who calls.
    admitted: bool = False


def _callable_by(*roles: Role, admitted: bool = False) -> Rpc:
    return Rpc(roles=frozenset(roles), admitted=admitted)


_DECISIONS = {
    "Evaluate": _callable_by(Role.AGENT, admitted=True),
    # The pipeline admits each action of a stream; the stream itself costs nothing that could run out.
    "EvaluateStream": _callable_by(Role.AGENT),
    "EvaluateBatch": _callable_by(Role.AGENT, admitted=True),
    "Simulate": _callable_by(Role.POLICY_AUTHOR, admitted=True),
    "ListAllowedTools": _callable_by(Role.AGENT),
    "GetChain": _callable_by(),
    "GetDecision": _callable_by(Role.AGENT, Role.OPERATOR, Role.AUDITOR),
    "ReportOutcome": _callable_by(),
    "Redeem": _callable_by(Role.TOOL),
    "ListOpenDecisions": _callable_by(Role.OPERATOR, Role.AUDITOR),
}
_SESSIONS = {
    "OpenSession": _callable_by(Role.SESSION_ISSUER, Role.AGENT),
    "GetSession": _callable_by(),
    "CompleteTask": _callable_by(),
    "CloseSession": _callable_by(),
    "Delegate": _callable_by(Role.AGENT),
    "RevokeGrant": _callable_by(),
    "RevokeSessionProofs": _callable_by(),
}
_ADMIN = {
    "PutTenant": _callable_by(Role.OPERATOR),
    "PatchTenant": _callable_by(Role.OPERATOR),
    "PreviewWrite": _callable_by(Role.OPERATOR),
    "GetChange": _callable_by(Role.OPERATOR, Role.AUDITOR),
    "GetSettings": _callable_by(Role.OPERATOR, Role.AUDITOR),
    "ListAgents": _callable_by(Role.OPERATOR, Role.AUDITOR),
    "ListSignals": _callable_by(Role.OPERATOR, Role.AUDITOR),
    "ListChanges": _callable_by(Role.OPERATOR, Role.AUDITOR),
    "PutAgents": _callable_by(Role.OPERATOR),
    "PutTools": _callable_by(Role.OPERATOR),
    "CheckTools": _callable_by(Role.OPERATOR, Role.AUDITOR),
    "ListTools": _callable_by(Role.OPERATOR, Role.AUDITOR),
    "ListToolHistory": _callable_by(Role.OPERATOR, Role.AUDITOR),
    "RollbackTools": _callable_by(Role.OPERATOR),
    "PutSignals": _callable_by(Role.OPERATOR),
    "PutIssuerKeys": _callable_by(Role.OPERATOR),
    "ListIssuerKeys": _callable_by(Role.OPERATOR, Role.AUDITOR),
}
_ENTITIES = {
    "PutEntities": _callable_by(Role.OPERATOR),
    "PatchEntity": _callable_by(Role.OPERATOR),
    "DeleteEntities": _callable_by(Role.OPERATOR),
    "GetEntity": _callable_by(Role.OPERATOR, Role.AUDITOR),
    "ListEntityHistory": _callable_by(Role.OPERATOR, Role.AUDITOR),
}
_DEV = {"AdvanceClock": _callable_by(Role.OPERATOR)}


def path_of(service: ServiceDescriptor, name: str) -> str:
    """Return the path that gRPC calls an RPC by: "/placet.v1.DecisionService/Evaluate"."""
    return f"/{service.full_name}/{service.methods_by_name[name].name}"


def _paths(service: ServiceDescriptor, rpcs: Mapping[str, Rpc]) -> dict[str, Rpc]:
    """Return the RPCs by the path that gRPC calls them by. Raises `KeyError` for one the service lacks."""
    return {path_of(service, name): rpc for name, rpc in rpcs.items()}


_DECISION_SERVICE = decision_service_pb2.DESCRIPTOR.services_by_name["DecisionService"]
EVALUATE = path_of(_DECISION_SERVICE, "Evaluate")
EVALUATE_BATCH = path_of(_DECISION_SERVICE, "EvaluateBatch")
EVALUATE_STREAM = path_of(_DECISION_SERVICE, "EvaluateStream")
# The RPCs by their paths. One that is not listed cannot be called.
RPCS: Mapping[str, Rpc] = {
    **_paths(_DECISION_SERVICE, _DECISIONS),
    **_paths(session_service_pb2.DESCRIPTOR.services_by_name["SessionService"], _SESSIONS),
    **_paths(admin_service_pb2.DESCRIPTOR.services_by_name["AdminService"], _ADMIN),
    **_paths(entity_service_pb2.DESCRIPTOR.services_by_name["EntityService"], _ENTITIES),
    **_paths(dev_service_pb2.DESCRIPTOR.services_by_name["DevService"], _DEV),
}


def require_role(caller: Caller, path: str) -> None:
    """Raise `PermissionDeniedError` unless one of the caller's roles may call the RPC."""
    rpc = RPCS.get(path)
    if rpc is None:
        raise PermissionDeniedError(f"{path} is open to no role")
    if rpc.roles and not rpc.roles & caller.roles:
        raise PermissionDeniedError(
            f"{path.rpartition('/')[2]} needs one of the roles {', '.join(sorted(rpc.roles))}"
        )
