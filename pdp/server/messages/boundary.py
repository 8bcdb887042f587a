"""Boundaries that callers send, read; `placet._wire.boundary` writes them."""

from __future__ import annotations

from pdp.authority.boundary import MAX_RULES, parse_boundary
from pdp.errors import InvalidFieldError
from pdp.model import Boundary
from placet._wire.boundary import BoundaryError, message_json
from placet.v1 import session_service_pb2 as sessions


def boundary_of(message: sessions.Boundary) -> Boundary:
    for field in ("tools", "effects", "resources", "amounts", "after_completion", "velocity"):
        if len(getattr(message, field)) > MAX_RULES:
            raise InvalidFieldError(f"boundary.{field}", f"has more than {MAX_RULES} entries")
    try:
        return parse_boundary(message_json(message), "boundary")
    except BoundaryError as exc:
        raise InvalidFieldError(exc.field, exc.reason) from exc
