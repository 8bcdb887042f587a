"""The edge: identity, roles, the table of statuses."""

from __future__ import annotations

import asyncio
import inspect
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

import pdp.errors
from pdp.errors import (
    GroundMovedError,
    InvalidFieldError,
    OverloadedError,
    PdpError,
    PermissionDeniedError,
    PolicyUnavailableError,
    QuotaExceededError,
    SessionMovedError,
    StoreUnavailableError,
    UnauthenticatedError,
)
from pdp.metrics import Metrics
from pdp.model import Caller, Role
from pdp.overload.admission import Admission
from pdp.server.grpc.edge import Edge
from pdp.server.grpc.rpcs import EVALUATE_STREAM, RPCS, require_role
from pdp.server.grpc.status import status_of
from pdp.server.identity.authentication import InsecureAuthenticator
from pdp.server.identity.caller import identify
from placet._transport.failures import placet_error
from placet.v1 import decision_pb2, decision_service_pb2, decision_service_pb2_grpc, error_reason_pb2
from tests.support import builders
from tests.support.gc_cycles import without_collector
from tests.support.processes import PATIENCE
from tests.support.rpcs import ROWS, methods

METADATA = [("placet-tenant", "acme"), ("placet-subject", "svc"), ("placet-roles", "agent, operator")]
# Raised and caught inside the pipeline: no client ever sees them.
INTERNAL = {SessionMovedError, GroundMovedError, PolicyUnavailableError, PdpError}


def test_every_rpc_states_its_roles_and_is_walked() -> None:
    names = {name for name, _ in methods()}
    assert set(RPCS) == names
    assert set(ROWS) == names


def test_every_rpc_is_one_that_the_edge_can_serve() -> None:
    assert {name for name, rpc in methods() if rpc.client_streaming != rpc.server_streaming} == set()
    assert EVALUATE_STREAM in {name for name, rpc in methods() if rpc.client_streaming}


def test_full_replica_turns_away_what_asks_for_a_judgement() -> None:
    admitted = {path.rpartition("/")[2] for path, rpc in RPCS.items() if rpc.admitted}
    assert admitted == {"Evaluate", "EvaluateBatch", "Simulate"}


@pytest.mark.parametrize("method", sorted(RPCS))
@pytest.mark.parametrize("role", list(Role))
def test_role_may_call_what_the_table_says(method: str, role: Role) -> None:
    caller = builders.caller(roles=frozenset({role}))
    if not RPCS[method].roles or role in RPCS[method].roles:
        require_role(caller, method)
    else:
        with pytest.raises(PermissionDeniedError):
            require_role(caller, method)


def test_unlisted_method_is_open_to_nobody() -> None:
    with pytest.raises(PermissionDeniedError):
        require_role(builders.caller(roles=frozenset(Role)), "/placet.v1.Other/Call")


def test_caller_is_what_the_metadata_says() -> None:
    serving = [("placet-tools", "erp.pay,mail.*"), ("placet-audiences", "erp, mail")]
    caller = identify([*METADATA, ("placet-agents", "agent:a, agent:b,"), *serving, ("other", "x")])
    assert (caller.tenant, caller.subject) == ("acme", "svc")
    assert caller.roles == {Role.AGENT, Role.OPERATOR}
    assert caller.agents == {"agent:a", "agent:b"}
    assert (caller.tools, caller.audiences) == ({"erp.pay", "mail.*"}, {"erp", "mail"})


@pytest.mark.parametrize(
    "metadata",
    [
        None,
        METADATA[:1],
        METADATA[1:],
        [*METADATA, ("placet-tenant", "other")],
        [("placet-tenant", ""), ("placet-subject", "svc")],
        [("placet-tenant", "x" * 257), ("placet-subject", "svc")],
        [("placet-tenant", "a\nb"), ("placet-subject", "svc")],
        [*METADATA[:2], ("placet-roles", "emperor")],
        [*METADATA[:2], ("placet-roles", "agent,reviewer")],
        [*METADATA[:2], ("placet-roles", "operator,reviewer")],
        [*METADATA[:2], ("placet-roles", "reviewer,auditor,policy_author")],
    ],
)
def test_identity_that_cannot_be_believed_is_refused(metadata: list[tuple[str, str]] | None) -> None:
    with pytest.raises(UnauthenticatedError):
        identify(metadata)


def test_every_failure_has_a_status_of_its_own() -> None:
    members = inspect.getmembers(pdp.errors, inspect.isclass)
    errors = [kind for _, kind in members if issubclass(kind, Exception)]
    made = {
        InvalidFieldError: lambda: InvalidFieldError("field", "reason"),
        OverloadedError: lambda: OverloadedError(1.5),
        QuotaExceededError: lambda: QuotaExceededError(1.5, quota="q", size="10 a second", advice="wait"),
        pdp.errors.SessionContendedError: lambda: pdp.errors.SessionContendedError(1.0),
        pdp.errors.ChainRefusedError: lambda: pdp.errors.ChainRefusedError("chain.cycle", "to_agent"),
    }
    seen = set()
    for kind in set(errors) - INTERNAL:
        status = status_of(made.get(kind, lambda kind=kind: kind("text"))(), request_id="r")
        assert status.code is not grpc.StatusCode.INTERNAL, kind
        assert status.reason in set(error_reason_pb2.ErrorReason.keys())
        seen.add(status.reason)
    # A quota that is used up is a kind of overload.
    assert len(seen) == len(set(errors) - INTERNAL - {QuotaExceededError})


def test_failure_of_a_finer_kind_has_the_status_of_what_it_is_a_kind_of() -> None:
    class ReplicaUnavailableError(StoreUnavailableError):
        pass

    class QuotaError(OverloadedError):
        pass

    class NovelError(PdpError):
        pass

    assert status_of(ReplicaUnavailableError("down"), request_id="r").code is grpc.StatusCode.UNAVAILABLE
    status = status_of(QuotaError(1.5), request_id="r")
    assert (status.code, status.reason) == (
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        "ERROR_REASON_OVERLOADED",
    )
    assert status_of(NovelError("secret"), request_id="r").code is grpc.StatusCode.INTERNAL
    assert "secret" not in status_of(NovelError("secret"), request_id="r").message


def test_details_name_field_reason_and_hint() -> None:
    status = status_pb2.Status.FromString(
        status_of(InvalidFieldError("a.b", "is wrong"), request_id="r").details
    )
    info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    assert status.details[0].Unpack(info)
    assert (info.reason, info.domain, info.metadata["request_id"]) == ("INVALID_FIELD", "placet.v1", "r")
    assert status.details[1].Unpack(bad)
    assert bad.field_violations[0].field == "a.b"
    hint = error_details_pb2.RetryInfo()
    status = status_pb2.Status.FromString(status_of(OverloadedError(1.5), request_id="r").details)
    assert status.details[1].Unpack(hint)
    assert hint.retry_delay.ToTimedelta().total_seconds() == 1.5


def test_every_field_that_is_wrong_is_named_as_far_as_a_status_has_room() -> None:
    fields = [(f"tools[{n}].resource", "must be " + "x" * 200) for n in range(60)]
    status = status_of(InvalidFieldError(*fields[0], more=fields[1:]), request_id="r")
    assert len(status.details) < 6_000
    request = error_details_pb2.BadRequest()
    assert status_pb2.Status.FromString(status.details).details[1].Unpack(request)
    named = [violation.field for violation in request.field_violations]
    assert named[:2] == ["tools[0].resource", "tools[1].resource"]
    assert len(named) > 10
    assert request.field_violations[-1].description == f"and {60 - (len(named) - 1)} more"
    assert status.message.endswith("(and 59 more)")


@pytest.mark.parametrize("others", ["", "all", "hurried"])
def test_refusal_says_who_else_would_be_turned_away(others: str) -> None:
    status = status_pb2.Status.FromString(
        status_of(OverloadedError(1.5, others=others), request_id="r").details
    )
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    assert info.metadata.get("others", "") == others


def test_quota_that_was_met_is_named_with_its_size() -> None:
    error = QuotaExceededError(1.5, quota="writes_per_second", size="10 writes a second", advice="wait")
    status = status_of(error, request_id="r")
    assert status.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert status.message == "a quota is used up: 10 writes a second (writes_per_second); wait"
    details = status_pb2.Status.FromString(status.details)
    info, hint = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    assert details.details[0].Unpack(info)
    assert info.reason == "OVERLOADED"
    assert (info.metadata["quota"], info.metadata["size"]) == ("writes_per_second", "10 writes a second")
    assert details.details[1].Unpack(hint)


def test_foreign_exception_shows_nothing_of_itself() -> None:
    status = status_of(ValueError("password=hunter2"), request_id="r")
    assert status.code is grpc.StatusCode.INTERNAL
    assert "hunter2" not in status.message
    assert b"hunter2" not in status.details


async def test_full_replica_turns_a_call_away_before_it_asks_who_calls() -> None:
    asked: list[str] = []

    class Authenticator(InsecureAuthenticator):
        async def authenticate(self, context: Any) -> Caller:
            asked.append("who")
            return await super().authenticate(context)

    class Service(decision_service_pb2_grpc.DecisionServiceServicer):
        async def Evaluate(self, request: Any, context: Any) -> Any:  # type: ignore[override]
            decision = decision_pb2.Decision(reasons=[decision_pb2.Reason(code="task.within_boundary")])
            return decision_service_pb2.EvaluateResponse(decision=decision)

    admission = Admission(max_in_flight=1)
    serving = grpc.aio.server(interceptors=[Edge(Metrics(), Authenticator(), admission)])
    decision_service_pb2_grpc.add_DecisionServiceServicer_to_server(Service(), serving)
    address = f"127.0.0.1:{serving.add_insecure_port('127.0.0.1:0')}"
    await serving.start()
    async with asyncio.timeout(PATIENCE), grpc.aio.insecure_channel(address) as channel:
        stub = decision_service_pb2_grpc.DecisionServiceStub(channel)
        with admission.enter(builders.deadline()):
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await stub.Evaluate(decision_service_pb2.EvaluateRequest(), metadata=METADATA)
            assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert placet_error(refused.value).retry_after
            assert placet_error(refused.value).others == "all"
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await stub.Simulate(decision_service_pb2.SimulateRequest(), metadata=METADATA)
            assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert asked == []
        await stub.Evaluate(decision_service_pb2.EvaluateRequest(), metadata=METADATA)
        assert asked == ["who"]
    await serving.stop(None)


@pytest.mark.parametrize("slow", [False, True], ids=["refused", "too late"])
async def test_call_that_failed_is_gone_before_the_collector_comes(slow: bool) -> None:
    class Service(decision_service_pb2_grpc.DecisionServiceServicer):
        async def Evaluate(self, request: Any, context: Any) -> Any:  # type: ignore[override]
            if slow:
                await asyncio.sleep(PATIENCE)
            raise InvalidFieldError("action.tool", "is empty")

    serving = grpc.aio.server(interceptors=[Edge(Metrics(), InsecureAuthenticator())])
    decision_service_pb2_grpc.add_DecisionServiceServicer_to_server(Service(), serving)
    address = f"127.0.0.1:{serving.add_insecure_port('127.0.0.1:0')}"
    await serving.start()
    try:
        async with (
            grpc.aio.insecure_channel(address) as channel,
            without_collector("_ServicerContext") as gone,
        ):
            evaluate = decision_service_pb2_grpc.DecisionServiceStub(channel).Evaluate
            for _ in range(3):
                with pytest.raises(grpc.aio.AioRpcError):
                    await evaluate(
                        decision_service_pb2.EvaluateRequest(),
                        metadata=METADATA,
                        timeout=0.2 if slow else PATIENCE,
                    )
            await gone()
    finally:
        await serving.stop(None)


async def test_items_of_a_plan_are_counted_each_and_a_plan_that_fails_once() -> None:
    class Service(decision_service_pb2_grpc.DecisionServiceServicer):
        async def EvaluateBatch(self, request: Any, context: Any) -> Any:  # type: ignore[override]
            if not request.items:
                raise InvalidFieldError("items", "has 0 entries")
            codes = {decision_pb2.EFFECT_ALLOW: "task.within_boundary", decision_pb2.EFFECT_BLOCK: "x.y"}
            return decision_service_pb2.EvaluateBatchResponse(
                decisions=[
                    decision_pb2.Decision(effect=effect, reasons=[decision_pb2.Reason(code=code)])
                    for effect, code in codes.items()
                ]
            )

    metrics, admission = Metrics(), Admission(max_in_flight=1)
    serving = grpc.aio.server(interceptors=[Edge(metrics, InsecureAuthenticator(), admission)])
    decision_service_pb2_grpc.add_DecisionServiceServicer_to_server(Service(), serving)
    address = f"127.0.0.1:{serving.add_insecure_port('127.0.0.1:0')}"
    await serving.start()
    async with asyncio.timeout(PATIENCE), grpc.aio.insecure_channel(address) as channel:
        stub = decision_service_pb2_grpc.DecisionServiceStub(channel)
        plan = decision_service_pb2.EvaluateBatchRequest(items=[decision_service_pb2.PlannedAction()])
        await stub.EvaluateBatch(plan, metadata=METADATA)
        with pytest.raises(grpc.aio.AioRpcError):
            await stub.EvaluateBatch(decision_service_pb2.EvaluateBatchRequest(), metadata=METADATA)
        with admission.enter(builders.deadline()), pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub.EvaluateBatch(plan, metadata=METADATA)
        assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    await serving.stop(None)
    shown = metrics.render().decode()
    for line in (
        'placet_evaluate_requests_total{code="task.within_boundary",effect="allow"} 1.0',
        'placet_evaluate_requests_total{code="x.y",effect="block"} 1.0',
        'placet_fail_closed_total{cause="invalid_field"} 1.0',
        'placet_fail_closed_total{cause="overloaded"} 1.0',
        'placet_rpc_duration_seconds_count{code="OK",method="EvaluateBatch"} 1.0',
    ):
        assert line in shown.splitlines(), line
