"""Task tokens that a caller presents to the fake, which believes every signature."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

from placet._calls.sessions import open_session_request
from placet.errors import InvalidRequestError
from placet.errors import invalid as invalid_value
from placet.task_token import TaskTokenError, parse
from placet.testing.script import Caller
from placet.testing.services.refusals import denied, invalid
from placet.v1 import session_service_pb2 as sessions


class SignedTask(NamedTuple):
    """What a task token asks for, as a request, and its issuer as a session names it."""

    request: sessions.OpenSessionRequest
    issuer: str


def read_task_token(request: sessions.OpenSessionRequest, caller: Caller) -> SignedTask:
    """Return what the request's task token says. Raises `Refused`.

    A field that the request sets beside the token must say the same.
    """
    try:
        claims = parse(request.task_token).claims
    except TaskTokenError as exc:
        raise denied(f"the task token {exc}") from exc
    if claims["aud"] != caller.tenant:
        raise denied("the task token is for another tenant (aud)")
    if "session_issuer" not in caller.roles and claims["agent"] not in caller.agents:
        raise denied("the task token is for an agent that you do not speak for")
    try:
        said = _request_of(claims)
    except InvalidRequestError as exc:
        raise invalid("task_token", str(exc)) from exc
    present = {field.name for field, _ in request.ListFields()} - {"task_token"}
    for field in sorted(present):
        if getattr(request, field) != getattr(said, field):
            raise invalid(field, "is not what task_token says; leave it out")
    return SignedTask(said, f"task:{claims['iss']}")


def _request_of(claims: Mapping[str, Any]) -> sessions.OpenSessionRequest:
    """Return the request that says the same as a token's claims. Raises `InvalidRequestError`."""
    expires_at = claims.get("expires_at")
    if not isinstance(expires_at, int | None):
        raise invalid_value("expires_at", "must be a time in whole seconds")
    return open_session_request(
        task=claims["task"],
        principal=claims["sub"],
        agent=claims["agent"],
        boundary=claims["boundary"],
        expires_in=None,
        expires_at=None if expires_at is None else datetime.fromtimestamp(expires_at, UTC),
    )
