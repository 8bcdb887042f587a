"""What a task token asks for, as a request: the fake believes every signature."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from placet._calls import requests
from placet.errors import invalid
from placet.v1 import session_service_pb2 as sessions


def asked_by(claims: Mapping[str, Any]) -> sessions.OpenSessionRequest:
    """Return the request that says the same as a token's claims. Raises `InvalidRequestError`."""
    expires_at = claims.get("expires_at")
    if not isinstance(expires_at, int | None):
        raise invalid("expires_at", "must be a time in whole seconds")
    return requests.open_session(
        task=claims["task"],
        principal=claims["sub"],
        agent=claims["agent"],
        boundary=claims["boundary"],
        expires_in=None,
        expires_at=None if expires_at is None else datetime.fromtimestamp(expires_at, UTC),
    )
