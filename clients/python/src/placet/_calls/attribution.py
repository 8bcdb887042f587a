"""Who made a change, and why, as answers of several services have it."""

from __future__ import annotations

from placet.model import Attribution
from placet.v1 import admin_service_pb2, entity_service_pb2

# The messages that name an author.
Attributed = (
    admin_service_pb2.Change
    | admin_service_pb2.GetSettingsResponse
    | admin_service_pb2.IssuerKeys
    | admin_service_pb2.ToolRevision
    | entity_service_pb2.EntityVersion
)


def read_attribution(message: Attributed) -> Attribution | None:
    """Return who wrote it; None where the server does not know."""
    if not message.HasField("by"):
        return None
    by = message.by
    return Attribution(
        subject=by.subject, issuer=by.issuer if by.HasField("issuer") else None, reason=by.reason
    )
