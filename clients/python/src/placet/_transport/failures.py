"""Makes the client's errors of gRPC failures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any, TypeVar

import grpc
from google.protobuf.message import DecodeError, Message
from google.rpc import error_details_pb2, status_pb2

from placet._transport.handshakes import connection_problem
from placet.errors import (
    AlreadyExistsError,
    AnswerError,
    ContendedError,
    DeadlineError,
    InvalidRequestError,
    NotFoundError,
    OverloadedError,
    PermissionDeniedError,
    PlacetError,
    PreconditionError,
    UnauthenticatedError,
    UnavailableError,
    Violation,
)

DOMAIN = "placet.v1"
DETAILS_KEY = "grpc-status-details-bin"

D = TypeVar("D", bound=Message)

_KINDS: Mapping[grpc.StatusCode, type[PlacetError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidRequestError,
    grpc.StatusCode.OUT_OF_RANGE: InvalidRequestError,
    grpc.StatusCode.UNAUTHENTICATED: UnauthenticatedError,
    grpc.StatusCode.PERMISSION_DENIED: PermissionDeniedError,
    grpc.StatusCode.NOT_FOUND: NotFoundError,
    grpc.StatusCode.ALREADY_EXISTS: AlreadyExistsError,
    grpc.StatusCode.FAILED_PRECONDITION: PreconditionError,
    grpc.StatusCode.ABORTED: ContendedError,
    grpc.StatusCode.RESOURCE_EXHAUSTED: OverloadedError,
    grpc.StatusCode.UNAVAILABLE: UnavailableError,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineError,
}
_CODES: Mapping[int, grpc.StatusCode] = {code.value[0]: code for code in grpc.StatusCode}
# How gRPC itself words an answer that is larger than this client accepts.
_TOO_LARGE = "Received message larger than max"


def placet_error(error: Any, *, tls: bool = False) -> PlacetError:
    """Return the error for a failed call (a `grpc.RpcError` of either API).

    `tls` says whether the client spoke TLS: it matters for the words about a connection that failed.
    """
    code, details = error.code(), error.details() or ""
    if code is grpc.StatusCode.UNAVAILABLE and (problem := connection_problem(details, tls=tls)):
        details = f"{problem} ({details})"
    return _error(code, details, _status(error.trailing_metadata()))


def call_error(message: Message) -> PlacetError:
    """Return the error for a failed message of a stream (a `placet.v1.CallError`)."""
    status = status_pb2.Status.FromString(message.SerializeToString())
    return _error(_CODES.get(status.code, grpc.StatusCode.UNKNOWN), status.message, status)


def _error(code: grpc.StatusCode, details: str, status: status_pb2.Status) -> PlacetError:
    kind = _KINDS.get(code, PlacetError)
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED and _TOO_LARGE in details:
        kind = AnswerError
    about = _detail(status, error_details_pb2.ErrorInfo)
    if about is not None and about.domain != DOMAIN:
        about = None
    request = _detail(status, error_details_pb2.BadRequest)
    retry = _detail(status, error_details_pb2.RetryInfo)
    return kind(
        f"{code.name}: {details}" if details else code.name,
        code=code,
        reason=about.reason if about is not None else "",
        violations=()
        if request is None
        else [Violation(field=v.field, description=v.description) for v in request.field_violations],
        retry_after=None if retry is None else _span(retry),
        request_id="" if about is None else about.metadata.get("request_id", ""),
        others="" if about is None else about.metadata.get("others", ""),
    )


def _status(metadata: Iterable[tuple[str, str | bytes]] | None) -> status_pb2.Status:
    """Return the details that came with the failure; they are empty if none can be read."""
    for key, value in metadata or ():
        if key == DETAILS_KEY and isinstance(value, bytes):
            try:
                return status_pb2.Status.FromString(value)
            except DecodeError:
                break
    return status_pb2.Status()


def _detail(status: status_pb2.Status, kind: type[D]) -> D | None:
    for packed in status.details:
        message = kind()
        try:
            if packed.Unpack(message):
                return message
        except DecodeError:
            continue
    return None


def _span(retry: error_details_pb2.RetryInfo) -> timedelta | None:
    try:
        delay: timedelta = retry.retry_delay.ToTimedelta()
    except (ValueError, OverflowError):
        return None
    return delay
