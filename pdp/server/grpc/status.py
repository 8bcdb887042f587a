"""The one table from failure to gRPC status (google.rpc.ErrorInfo, BadRequest, RetryInfo)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.rpc import error_details_pb2, status_pb2

from pdp.errors import (
    ChainRefusedError,
    ClockSkewError,
    DeadlineExceededError,
    DrainingError,
    GrantExceedsParentError,
    InvalidFieldError,
    NotFoundError,
    NotRedeemableError,
    OutcomeRefusedError,
    OverloadedError,
    PdpError,
    PermissionDeniedError,
    PolicyUnavailableError,
    QuotaExceededError,
    SessionContendedError,
    SessionOverError,
    SessionUnprovenError,
    SignerUnavailableError,
    StoreUnavailableError,
    TaskExistsError,
    TenantUnknownError,
    UnauthenticatedError,
)
from placet.v1 import error_reason_pb2 as reasons

DOMAIN = "placet.v1"
DETAILS_KEY = "grpc-status-details-bin"
# Bytes of the fields that a status names. It travels as metadata, of which gRPC takes 8 KiB in all, and in
# base64.
_MAX_VIOLATIONS = 4_000

_TABLE: dict[type, tuple[grpc.StatusCode, reasons.ErrorReason.ValueType]] = {
    InvalidFieldError: (grpc.StatusCode.INVALID_ARGUMENT, reasons.ERROR_REASON_INVALID_FIELD),
    UnauthenticatedError: (grpc.StatusCode.UNAUTHENTICATED, reasons.ERROR_REASON_UNAUTHENTICATED),
    PermissionDeniedError: (grpc.StatusCode.PERMISSION_DENIED, reasons.ERROR_REASON_PERMISSION_DENIED),
    NotFoundError: (grpc.StatusCode.NOT_FOUND, reasons.ERROR_REASON_NOT_FOUND),
    TaskExistsError: (grpc.StatusCode.ALREADY_EXISTS, reasons.ERROR_REASON_TASK_EXISTS),
    TenantUnknownError: (grpc.StatusCode.FAILED_PRECONDITION, reasons.ERROR_REASON_TENANT_UNKNOWN),
    SessionOverError: (grpc.StatusCode.FAILED_PRECONDITION, reasons.ERROR_REASON_SESSION_OVER),
    GrantExceedsParentError: (grpc.StatusCode.FAILED_PRECONDITION, reasons.ERROR_REASON_GRANT_EXCEEDS_PARENT),
    ChainRefusedError: (grpc.StatusCode.FAILED_PRECONDITION, reasons.ERROR_REASON_CHAIN_REFUSED),
    SessionUnprovenError: (grpc.StatusCode.PERMISSION_DENIED, reasons.ERROR_REASON_SESSION_UNPROVEN),
    OutcomeRefusedError: (grpc.StatusCode.FAILED_PRECONDITION, reasons.ERROR_REASON_OUTCOME_REFUSED),
    NotRedeemableError: (grpc.StatusCode.FAILED_PRECONDITION, reasons.ERROR_REASON_NOT_REDEEMABLE),
    PolicyUnavailableError: (grpc.StatusCode.UNAVAILABLE, reasons.ERROR_REASON_POLICY_UNAVAILABLE),
    SessionContendedError: (grpc.StatusCode.ABORTED, reasons.ERROR_REASON_SESSION_CONTENDED),
    StoreUnavailableError: (grpc.StatusCode.UNAVAILABLE, reasons.ERROR_REASON_LEDGER_UNAVAILABLE),
    SignerUnavailableError: (grpc.StatusCode.UNAVAILABLE, reasons.ERROR_REASON_SIGNER_UNAVAILABLE),
    OverloadedError: (grpc.StatusCode.RESOURCE_EXHAUSTED, reasons.ERROR_REASON_OVERLOADED),
    DrainingError: (grpc.StatusCode.UNAVAILABLE, reasons.ERROR_REASON_DRAINING),
    ClockSkewError: (grpc.StatusCode.UNAVAILABLE, reasons.ERROR_REASON_CLOCK_SKEW),
    DeadlineExceededError: (grpc.StatusCode.DEADLINE_EXCEEDED, reasons.ERROR_REASON_DEADLINE_EXCEEDED),
}
_INTERNAL = (grpc.StatusCode.INTERNAL, reasons.ERROR_REASON_INTERNAL)


@dataclass(frozen=True, kw_only=True, slots=True)
class Status:
    """How a failed call ends."""

    code: grpc.StatusCode
    message: str
    # Serialised google.rpc.Status, for the trailing metadata.
    details: bytes
    # Name of the ErrorReason, for logs and metrics.
    reason: str


def status_of(error: Exception, *, request_id: str) -> Status:
    """Return the status of a failure: its own, or that of the nearest class it derives from.

    A foreign exception, and a `PdpError` that the table does not know, become INTERNAL without their text.
    """
    code, reason = next((_TABLE[kind] for kind in type(error).__mro__ if kind in _TABLE), _INTERNAL)
    message = error.public if isinstance(error, PdpError) else ""
    if code is grpc.StatusCode.INTERNAL:
        message = f"a fault of the server's own; see its log for request {request_id}"
    name = reasons.ErrorReason.Name(reason)
    about = {"request_id": request_id}
    if isinstance(error, OverloadedError) and error.others:
        about["others"] = error.others
    if isinstance(error, QuotaExceededError):
        about |= {"quota": error.quota, "size": error.size}
    if isinstance(error, NotRedeemableError) and error.codes:
        about["codes"] = ",".join(error.codes)
    packed = [
        _pack(
            error_details_pb2.ErrorInfo(
                reason=name.removeprefix("ERROR_REASON_"),
                domain=DOMAIN,
                metadata=about,
            )
        )
    ]
    if isinstance(error, InvalidFieldError):
        packed.append(_pack(_bad_request(error.violations)))
    if isinstance(error, GrantExceedsParentError):
        packed.append(_pack(_bad_request([(error.field, error.reason)])))
    if isinstance(error, SessionContendedError | OverloadedError):
        delay = duration_pb2.Duration()
        delay.FromTimedelta(timedelta(seconds=error.retry_after))
        packed.append(_pack(error_details_pb2.RetryInfo(retry_delay=delay)))
    status = status_pb2.Status(code=code.value[0], message=message, details=packed)
    return Status(code=code, message=message, details=status.SerializeToString(), reason=name)


def _bad_request(violations: Sequence[tuple[str, str]]) -> error_details_pb2.BadRequest:
    """Return the fields that are wrong; where they are too many for a status, the last says how many more."""
    result, room = error_details_pb2.BadRequest(), _MAX_VIOLATIONS
    for count, (field, description) in enumerate(violations):
        room -= len(field.encode()) + len(description.encode())
        if room < 0 and count:
            result.field_violations.add(field="", description=f"and {len(violations) - count} more")
            break
        result.field_violations.add(field=field, description=description)
    return result


def _pack(
    message: error_details_pb2.ErrorInfo | error_details_pb2.BadRequest | error_details_pb2.RetryInfo,
) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(message)
    return packed
