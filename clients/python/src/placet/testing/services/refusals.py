"""How the fake says no, and what is checked before a call is answered."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NoReturn, TypeVar

import grpc
from google.rpc import error_details_pb2, status_pb2

from placet._transport.failures import DETAILS_KEY, DOMAIN
from placet.testing.script import Caller
from placet.testing.state import FakeState

R = TypeVar("R")

# Roles that no reviewer holds.
_NO_REVIEWERS = frozenset({"agent", "operator", "policy_author"})
_ROLES = frozenset({"session_issuer", "agent", "tool", "reviewer", "auditor", "policy_author", "operator"})


class Refused(Exception):
    """Becomes a gRPC status with ErrorInfo, and with BadRequest where a field is named."""

    def __init__(self, code: grpc.StatusCode, reason: str, message: str, field: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.field = field


def invalid(field: str, description: str) -> Refused:
    return Refused(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD", f"{field}: {description}", field)


def denied(message: str) -> Refused:
    return Refused(grpc.StatusCode.PERMISSION_DENIED, "PERMISSION_DENIED", message)


def not_found(message: str) -> Refused:
    return Refused(grpc.StatusCode.NOT_FOUND, "NOT_FOUND", message)


def unproven() -> Refused:
    return Refused(
        grpc.StatusCode.PERMISSION_DENIED,
        "SESSION_UNPROVEN",
        "session_token: show the session's token, or the chain that you act on",
    )


def precondition_failed(reason: str, message: str, field: str = "") -> Refused:
    return Refused(grpc.StatusCode.FAILED_PRECONDITION, reason, message, field)


def handle(state: FakeState, context: Any, method: str, roles: set[str], answer: Callable[[Caller], R]) -> R:
    """Identify the caller, check that it has one of `roles` (none: any will do), and answer.

    A call that is refused, by a script too, is aborted with its status.
    """
    try:
        check_scripted_failure(state, method)
        caller = _caller(dict(context.invocation_metadata()))
        if roles and not roles & caller.roles:
            raise denied(f"{method} needs one of the roles {', '.join(sorted(roles))}")
        return answer(caller)
    except Refused as exc:
        _abort(context, exc)


def check_scripted_failure(state: FakeState, method: str) -> None:
    """Raise `Refused` if a test said that the next call of this method fails."""
    with state.lock:
        code = state.scripts.take_failure(method)
    if code is not None:
        raise Refused(code, "SCRIPTED", "the script says so")


def check_tenant(state: FakeState, caller: Caller) -> None:
    """Raise `Refused` if nobody created the caller's tenant."""
    if not state.knows(caller.tenant):
        raise precondition_failed("TENANT_UNKNOWN", f"there is no tenant {caller.tenant}")


def refuse_unknown(context: Any, method: str, keeps: str) -> NoReturn:
    """Abort a call that the fake does not answer, for want of what it would have to keep."""
    context.abort(grpc.StatusCode.UNIMPLEMENTED, f"the fake PDP keeps no {keeps}: it has no {method}")
    raise AssertionError("abort does not return")


def status_of(refused: Refused) -> status_pb2.Status:
    """Return the status with its details (google.rpc.ErrorInfo and BadRequest)."""
    status = status_pb2.Status(code=refused.code.value[0], message=refused.message)
    status.details.add().Pack(
        error_details_pb2.ErrorInfo(reason=refused.reason, domain=DOMAIN, metadata={"request_id": "fake"})
    )
    if refused.field:
        violation = error_details_pb2.BadRequest.FieldViolation(
            field=refused.field, description=refused.message.removeprefix(f"{refused.field}: ")
        )
        status.details.add().Pack(error_details_pb2.BadRequest(field_violations=[violation]))
    return status


def _abort(context: Any, refused: Refused) -> NoReturn:
    context.set_trailing_metadata(((DETAILS_KEY, status_of(refused).SerializeToString()),))
    context.abort(refused.code, refused.message)
    raise AssertionError("abort does not return")


def _caller(metadata: Mapping[str, str]) -> Caller:
    for name in ("placet-tenant", "placet-subject"):
        if not metadata.get(name):
            message = f"metadata {name} must name the caller's {name.removeprefix('placet-')}"
            raise Refused(grpc.StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED", message)
    roles = frozenset(filter(None, metadata.get("placet-roles", "").split(",")))
    if not roles <= _ROLES or ("reviewer" in roles and roles & _NO_REVIEWERS):
        message = "metadata placet-roles: unknown roles, or reviewer beside agent, operator or policy_author"
        raise Refused(grpc.StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED", message)
    return Caller(
        tenant=metadata["placet-tenant"],
        subject=metadata["placet-subject"],
        roles=roles,
        agents=_names(metadata.get("placet-agents", "")),
        tools=_names(metadata.get("placet-tools", "")),
        audiences=_names(metadata.get("placet-audiences", "")),
    )


def _names(text: str) -> frozenset[str]:
    return frozenset(filter(None, text.split(",")))
