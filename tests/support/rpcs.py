"""Every RPC of the API, and what it answers to callers who ask about things that are not theirs.

A new RPC needs a row here: `tests/unit/server/test_edge.py` compares with the proto, and
`tests/e2e/test_roles.py` walks every RPC by every role in its own and in another tenant.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import grpc
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message

import placet.v1
from pdp.model import Role
from placet.v1 import (
    admin_service_pb2,
    decision_pb2,
    decision_service_pb2,
    dev_service_pb2,
    entity_service_pb2,
    session_service_pb2,
)

OK, NOT_FOUND, DENIED = (
    grpc.StatusCode.OK,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.PERMISSION_DENIED,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Things:
    """What a tenant has, as a caller would name it."""

    tenant: str
    agent: str
    tool: str
    task_id: str
    session_id: str
    decision_id: str
    # Id of an entity of the type "vendor".
    vendor: str
    tools_revision: int = 0
    # Root grant of the session, and the token that proves part in it.
    grant: str = ""
    session_token: str = ""
    # New for each call.
    tool_call_id: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    request: Callable[[Things], Message]
    # The roles that are answered about the tenant's things without owning any; None: those of the role
    # table. A caller that passes the role table and is not listed here is told NOT_FOUND.
    answered: frozenset[Role] | None = None
    # What a caller that passes the role table gets when the things are another tenant's.
    elsewhere: grpc.StatusCode = OK
    # The roles that pass the role table, and are refused what the request asks for.
    refused: frozenset[Role] = frozenset()


def methods() -> Iterator[tuple[str, MethodDescriptor]]:
    """Yield the full name and the descriptor of every RPC of the package."""
    for module in pkgutil.iter_modules(placet.v1.__path__):
        if not module.name.endswith("_pb2"):
            continue
        file = importlib.import_module(f"placet.v1.{module.name}").DESCRIPTOR
        for service in file.services_by_name.values():
            for method in service.methods:
                yield f"/{service.full_name}/{method.name}", method


def _evaluate(things: Things) -> decision_service_pb2.EvaluateRequest:
    return decision_service_pb2.EvaluateRequest(
        session_id=things.session_id,
        session_token=things.session_token,
        action=decision_pb2.Action(
            tool=things.tool, arguments=b'{"invoice": "INV-1"}', tool_call_id=things.tool_call_id
        ),
    )


def _evaluate_batch(things: Things) -> decision_service_pb2.EvaluateBatchRequest:
    items = [decision_service_pb2.PlannedAction(action=_evaluate(things).action) for _ in range(2)]
    items[1].action.tool_call_id += "-2"
    return decision_service_pb2.EvaluateBatchRequest(
        session_id=things.session_id, items=items, session_token=things.session_token
    )


def _open_session(things: Things) -> session_service_pb2.OpenSessionRequest:
    return session_service_pb2.OpenSessionRequest(
        task=session_service_pb2.Task(id=things.task_id),
        principal="user:ben",
        agent=things.agent,
        boundary=session_service_pb2.Boundary(tools=[things.tool]),
    )


def _delegate(things: Things) -> session_service_pb2.DelegateRequest:
    return session_service_pb2.DelegateRequest(
        session_id=things.session_id,
        chain=decision_pb2.DelegationChain(hops=[decision_pb2.Hop(agent=things.agent, grant=things.grant)]),
        to_agent="agent:walker",
    )


def _vendor(things: Things) -> entity_service_pb2.EntityName:
    return entity_service_pb2.EntityName(type="vendor", id=things.vendor)


def _advance_clock(_: Things) -> dev_service_pb2.AdvanceClockRequest:
    by = Duration()
    by.FromTimedelta(timedelta(milliseconds=1))
    return dev_service_pb2.AdvanceClockRequest(by=by)


SEES_SESSIONS = frozenset({Role.AGENT, Role.OPERATOR})
ROWS: Mapping[str, Row] = {
    # A stranger's action is answered, and recorded as the stranger's.
    "/placet.v1.DecisionService/Evaluate": Row(request=_evaluate),
    "/placet.v1.DecisionService/EvaluateStream": Row(
        request=lambda things: decision_service_pb2.EvaluateStreamRequest(
            actions=[decision_service_pb2.StreamedAction(id="m-1", request=_evaluate(things))]
        )
    ),
    # So is a stranger's plan.
    "/placet.v1.DecisionService/EvaluateBatch": Row(request=_evaluate_batch),
    # It asks what the answer would be in the caller's own tenant.
    "/placet.v1.DecisionService/Simulate": Row(
        request=lambda things: decision_service_pb2.SimulateRequest(
            request=_evaluate(things),
            caller=decision_service_pb2.SimulatedCaller(subject="svc-ap", agents=[things.agent]),
        )
    ),
    # To a stranger nothing is listed.
    "/placet.v1.DecisionService/ListAllowedTools": Row(
        request=lambda things: decision_service_pb2.ListAllowedToolsRequest(
            session_id=things.session_id, session_token=things.session_token
        )
    ),
    "/placet.v1.DecisionService/GetDecision": Row(
        request=lambda things: decision_service_pb2.GetDecisionRequest(
            decision_id=things.decision_id, session_token=things.session_token
        ),
        answered=frozenset({Role.AUDITOR, Role.OPERATOR}),
        elsewhere=NOT_FOUND,
    ),
    "/placet.v1.DecisionService/GetChain": Row(
        request=lambda things: decision_service_pb2.GetChainRequest(
            decision_id=things.decision_id, session_token=things.session_token
        ),
        answered=SEES_SESSIONS | {Role.AUDITOR},
        elsewhere=NOT_FOUND,
    ),
    "/placet.v1.DecisionService/ReportOutcome": Row(
        request=lambda things: decision_service_pb2.ReportOutcomeRequest(
            decision_id=things.decision_id,
            outcome=decision_service_pb2.OUTCOME_UNKNOWN,
            session_token=things.session_token,
        ),
        answered=SEES_SESSIONS | {Role.TOOL},
        elsewhere=NOT_FOUND,
    ),
    # tests/e2e/test_outcomes.py has what it answers about a decision that exists.
    "/placet.v1.DecisionService/Redeem": Row(
        request=lambda things: decision_service_pb2.RedeemRequest(
            decision_id="unknown", tool=things.tool, arguments=b"{}"
        ),
        answered=frozenset(),
        elsewhere=NOT_FOUND,
    ),
    "/placet.v1.DecisionService/ListOpenDecisions": Row(
        request=lambda _: decision_service_pb2.ListOpenDecisionsRequest()
    ),
    # A task's id is the tenant's own. An agent opens what an issuer has signed, see
    # tests/e2e/test_task_tokens.py, and chooses nothing itself.
    "/placet.v1.SessionService/OpenSession": Row(request=_open_session, refused=frozenset({Role.AGENT})),
    "/placet.v1.SessionService/GetSession": Row(
        request=lambda things: session_service_pb2.GetSessionRequest(
            session_id=things.session_id, session_token=things.session_token
        ),
        answered=SEES_SESSIONS | {Role.AUDITOR},
        elsewhere=NOT_FOUND,
    ),
    "/placet.v1.SessionService/CompleteTask": Row(
        request=lambda things: session_service_pb2.CompleteTaskRequest(session_id=things.session_id),
        answered=frozenset(),
        elsewhere=NOT_FOUND,
    ),
    "/placet.v1.SessionService/CloseSession": Row(
        request=lambda things: session_service_pb2.CloseSessionRequest(
            session_id=things.session_id, session_token=things.session_token
        ),
        answered=SEES_SESSIONS,
        elsewhere=NOT_FOUND,
    ),
    "/placet.v1.SessionService/Delegate": Row(request=_delegate, elsewhere=NOT_FOUND),
    "/placet.v1.SessionService/RevokeGrant": Row(
        request=lambda things: session_service_pb2.RevokeGrantRequest(
            session_id=things.session_id, grant=things.grant, session_token=things.session_token
        ),
        answered=SEES_SESSIONS,
        elsewhere=NOT_FOUND,
    ),
    "/placet.v1.SessionService/RevokeSessionProofs": Row(
        request=lambda things: session_service_pb2.RevokeSessionProofsRequest(session_id=things.session_id),
        answered=frozenset({Role.OPERATOR}),
        elsewhere=NOT_FOUND,
    ),
    "/placet.v1.AdminService/PutTenant": Row(
        request=lambda things: admin_service_pb2.PutTenantRequest(tenant=things.tenant, settings=b"{}"),
        elsewhere=DENIED,
    ),
    # These name no tenant: they read or write the caller's.
    "/placet.v1.AdminService/PatchTenant": Row(
        request=lambda _: admin_service_pb2.PatchTenantRequest(settings=b"{}")
    ),
    "/placet.v1.AdminService/PreviewWrite": Row(
        request=lambda _: admin_service_pb2.PreviewWriteRequest(
            patch_tenant=admin_service_pb2.PatchTenantRequest(settings=b"{}")
        )
    ),
    "/placet.v1.AdminService/GetChange": Row(
        request=lambda _: admin_service_pb2.GetChangeRequest(
            kind=admin_service_pb2.CONTROL_KIND_SETTINGS, revision=1
        )
    ),
    "/placet.v1.AdminService/GetSettings": Row(request=lambda _: admin_service_pb2.GetSettingsRequest()),
    "/placet.v1.AdminService/ListAgents": Row(request=lambda _: admin_service_pb2.ListAgentsRequest()),
    "/placet.v1.AdminService/ListSignals": Row(request=lambda _: admin_service_pb2.ListSignalsRequest()),
    "/placet.v1.AdminService/ListChanges": Row(
        request=lambda _: admin_service_pb2.ListChangesRequest(kind=admin_service_pb2.CONTROL_KIND_AGENTS)
    ),
    "/placet.v1.AdminService/PutAgents": Row(
        request=lambda things: admin_service_pb2.PutAgentsRequest(
            agents=[admin_service_pb2.Agent(agent=things.agent, owner="walker", trust=0.6)]
        ),
    ),
    "/placet.v1.AdminService/PutTools": Row(
        request=lambda things: admin_service_pb2.PutToolsRequest(
            tools=[
                admin_service_pb2.Tool(
                    name=things.tool,
                    effect=session_service_pb2.TOOL_EFFECT_READ,
                    resource="invoice:{invoice}",
                    arguments_schema=b'{"type": "object", "properties": {"invoice": {"type": "string"}}}',
                )
            ]
        ),
    ),
    "/placet.v1.AdminService/CheckTools": Row(
        request=lambda things: admin_service_pb2.CheckToolsRequest(
            tools=[admin_service_pb2.Tool(name=things.tool, effect=session_service_pb2.TOOL_EFFECT_READ)]
        )
    ),
    "/placet.v1.AdminService/ListTools": Row(request=lambda things: admin_service_pb2.ListToolsRequest()),
    "/placet.v1.AdminService/ListToolHistory": Row(
        request=lambda things: admin_service_pb2.ListToolHistoryRequest()
    ),
    # Revisions are each tenant's own: the other one has no such.
    "/placet.v1.AdminService/RollbackTools": Row(
        request=lambda things: admin_service_pb2.RollbackToolsRequest(to_revision=things.tools_revision),
        elsewhere=NOT_FOUND,
    ),
    "/placet.v1.AdminService/PutSignals": Row(
        request=lambda things: admin_service_pb2.PutSignalsRequest(
            signals=[admin_service_pb2.Signal(name="incident", value=b"false")]
        ),
    ),
    "/placet.v1.AdminService/PutIssuerKeys": Row(
        request=lambda things: admin_service_pb2.PutIssuerKeysRequest(
            issuer="https://tasks.example.org", jwks=b'{"keys": []}'
        ),
    ),
    "/placet.v1.AdminService/ListIssuerKeys": Row(
        request=lambda _: admin_service_pb2.ListIssuerKeysRequest()
    ),
    "/placet.v1.EntityService/PutEntities": Row(
        request=lambda things: entity_service_pb2.PutEntitiesRequest(
            entities=[entity_service_pb2.Entity(name=_vendor(things), attributes=b'{"status": "active"}')]
        ),
    ),
    "/placet.v1.EntityService/PatchEntity": Row(
        request=lambda things: entity_service_pb2.PatchEntityRequest(
            name=_vendor(things), set=b'{"status": "active"}'
        ),
        elsewhere=NOT_FOUND,
    ),
    "/placet.v1.EntityService/DeleteEntities": Row(
        request=lambda things: entity_service_pb2.DeleteEntitiesRequest(
            names=[entity_service_pb2.EntityName(type="vendor", id="nobody")]
        ),
    ),
    "/placet.v1.EntityService/GetEntity": Row(
        request=lambda things: entity_service_pb2.GetEntityRequest(name=_vendor(things)),
        elsewhere=NOT_FOUND,
    ),
    "/placet.v1.EntityService/ListEntityHistory": Row(
        request=lambda things: entity_service_pb2.ListEntityHistoryRequest(name=_vendor(things)),
    ),
    # The installation has one clock for all tenants.
    "/placet.v1.DevService/AdvanceClock": Row(request=_advance_clock),
}


def call(channel: grpc.Channel, name: str, method: MethodDescriptor, request: Message, seconds: float) -> Any:
    """Make a call of any kind, and return its first answer. Raises `grpc.RpcError`."""
    sends, answers_with = (
        "stream" if streams else "unary" for streams in (method.client_streaming, method.server_streaming)
    )
    module: Any = importlib.import_module(
        method.output_type.file.name.removesuffix(".proto").replace("/", ".") + "_pb2"
    )
    invoke = getattr(channel, f"{sends}_{answers_with}")(
        name,
        request_serializer=type(request).SerializeToString,
        response_deserializer=getattr(module, method.output_type.name).FromString,
    )
    answer = invoke(iter([request]) if method.client_streaming else request, timeout=seconds)
    return next(iter(answer)) if method.server_streaming else answer
