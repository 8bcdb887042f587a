"""RPCs are called what the proto calls them, and those that may be sent again are known by name."""

from __future__ import annotations

import json

from placet._transport.channel import SERVICE_CONFIG
from placet._transport.methods import RETRIED, method_of
from placet.v1 import admin_service_pb2 as admin
from placet.v1 import decision_service_pb2 as decisions
from placet.v1 import entity_service_pb2 as entities
from placet.v1 import session_service_pb2 as sessions

# Calls that the client makes once: they write, or stream, or nobody has needed them again so far.
SENT_ONCE = {
    "/placet.v1.AdminService/CheckTools",
    "/placet.v1.AdminService/GetChange",
    "/placet.v1.AdminService/PreviewWrite",
    "/placet.v1.AdminService/GetSettings",
    "/placet.v1.AdminService/ListAgents",
    "/placet.v1.AdminService/ListChanges",
    "/placet.v1.AdminService/ListIssuerKeys",
    "/placet.v1.AdminService/ListSignals",
    "/placet.v1.AdminService/ListToolHistory",
    "/placet.v1.AdminService/ListTools",
    "/placet.v1.AdminService/PatchTenant",
    "/placet.v1.AdminService/PutAgents",
    "/placet.v1.AdminService/PutIssuerKeys",
    "/placet.v1.AdminService/PutSignals",
    "/placet.v1.AdminService/PutTenant",
    "/placet.v1.AdminService/PutTools",
    "/placet.v1.AdminService/RollbackTools",
    "/placet.v1.DecisionService/EvaluateBatch",
    "/placet.v1.DecisionService/EvaluateStream",
    "/placet.v1.DecisionService/GetChain",
    "/placet.v1.DecisionService/ListOpenDecisions",
    "/placet.v1.DecisionService/Redeem",
    "/placet.v1.EntityService/DeleteEntities",
    "/placet.v1.EntityService/GetEntity",
    "/placet.v1.EntityService/ListEntityHistory",
    "/placet.v1.EntityService/PatchEntity",
    "/placet.v1.EntityService/PutEntities",
    "/placet.v1.SessionService/Delegate",
    "/placet.v1.SessionService/RevokeGrant",
    "/placet.v1.SessionService/RevokeSessionProofs",
}


def test_a_request_belongs_to_one_rpc() -> None:
    for file in (admin, decisions, entities, sessions):
        for service in file.DESCRIPTOR.services_by_name.values():
            for method in service.methods:
                kind = getattr(file, method.input_type.name)
                assert method_of(kind) == method_of(kind()) == f"/{service.full_name}/{method.name}"


def test_only_calls_that_are_safe_to_repeat_are_sent_again() -> None:
    assert [method_of(request) for request in RETRIED] == [
        "/placet.v1.DecisionService/Evaluate",
        "/placet.v1.DecisionService/Simulate",
        "/placet.v1.DecisionService/ListAllowedTools",
        "/placet.v1.DecisionService/GetDecision",
        "/placet.v1.DecisionService/ReportOutcome",
        "/placet.v1.SessionService/OpenSession",
        "/placet.v1.SessionService/GetSession",
        "/placet.v1.SessionService/CompleteTask",
        "/placet.v1.SessionService/CloseSession",
    ]
    (config,) = json.loads(SERVICE_CONFIG)["methodConfig"]
    assert config["name"][0] == {"service": "placet.v1.DecisionService", "method": "Evaluate"}
    assert len(config["name"]) == len(RETRIED)
    assert config["retryPolicy"]["retryableStatusCodes"] == ["UNAVAILABLE"]


def test_every_rpc_is_sent_again_or_said_to_be_sent_once() -> None:
    every = {
        f"/{service.full_name}/{method.name}"
        for file in (admin, decisions, entities, sessions)
        for service in file.DESCRIPTOR.services_by_name.values()
        for method in service.methods
    }
    again = {method_of(request) for request in RETRIED}
    assert again | SENT_ONCE == every
    assert not again & SENT_ONCE
