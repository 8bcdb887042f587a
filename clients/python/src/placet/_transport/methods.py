"""The names of the RPCs, each by the message that asks it: the proto alone says them."""

from __future__ import annotations

from collections.abc import Mapping

from google.protobuf.message import Message

from placet.v1 import admin_service_pb2 as admin
from placet.v1 import decision_service_pb2 as decisions
from placet.v1 import entity_service_pb2 as entities
from placet.v1 import session_service_pb2 as sessions

_METHODS: Mapping[str, str] = {
    method.input_type.full_name: f"/{service.full_name}/{method.name}"
    for file in (admin, decisions, entities, sessions)
    for service in file.DESCRIPTOR.services_by_name.values()
    for method in service.methods
}

# Calls that may be sent again when the server was not there: Evaluate carries its own
# idempotency, the others change nothing when repeated. A repeated Put could undo another's.
RETRIED: tuple[type[Message], ...] = (
    decisions.EvaluateRequest,
    decisions.SimulateRequest,
    decisions.ListAllowedToolsRequest,
    decisions.GetDecisionRequest,
    decisions.ReportOutcomeRequest,
    sessions.OpenSessionRequest,
    sessions.GetSessionRequest,
    sessions.CompleteTaskRequest,
    sessions.CloseSessionRequest,
)


def method_of(request: Message | type[Message]) -> str:
    """Return the path of the RPC that takes this request: "/placet.v1.DecisionService/Evaluate"."""
    return _METHODS[request.DESCRIPTOR.full_name]
