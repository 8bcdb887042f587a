"""The fake's gRPC services: the same errors, roles and limits that a caller of the PDP meets."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn, TypeVar

import grpc
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import error_details_pb2, status_pb2

from placet._calls.boundary import read_boundary
from placet._calls.jsontext import json_text
from placet._transport.failures import DETAILS_KEY, DOMAIN
from placet._wire.boundary import boundary_message
from placet.canonical import CanonicalError, parse_object, parse_value
from placet.errors import AnswerError, InvalidRequestError
from placet.model import (
    Action,
    ChainHop,
    Decision,
    Effect,
    HoldState,
    Hop,
    Outcome,
    Session,
    SessionState,
    Task,
)
from placet.task_token import TaskTokenError
from placet.task_token import parse as parse_task_token
from placet.testing.fake import FakePdp
from placet.testing.grants import GrantRefused
from placet.testing.script import Caller, Received
from placet.testing.signed import asked_by
from placet.v1 import admin_service_pb2 as admin
from placet.v1 import admin_service_pb2_grpc as admin_stubs
from placet.v1 import decision_pb2 as nouns
from placet.v1 import decision_service_pb2 as decisions
from placet.v1 import decision_service_pb2_grpc as decision_stubs
from placet.v1 import session_service_pb2 as sessions
from placet.v1 import session_service_pb2_grpc as session_stubs

R = TypeVar("R")

# Of a plan.
_MAX_ITEMS = 32

_KNOWN_ROLES = frozenset(
    {"session_issuer", "agent", "tool", "reviewer", "auditor", "policy_author", "operator"}
)
_EFFECTS = {
    Effect.ALLOW: nouns.EFFECT_ALLOW,
    Effect.BLOCK: nouns.EFFECT_BLOCK,
    Effect.ESCALATE: nouns.EFFECT_ESCALATE,
}
_HOLDS = {
    HoldState.RESERVED: decisions.HOLD_STATE_RESERVED,
    HoldState.COMMITTED: decisions.HOLD_STATE_COMMITTED,
    HoldState.UNRESOLVED: decisions.HOLD_STATE_UNRESOLVED,
    HoldState.RELEASED: decisions.HOLD_STATE_RELEASED,
}
_REPORTED = {
    decisions.OUTCOME_EXECUTED: Outcome.EXECUTED,
    decisions.OUTCOME_FAILED: Outcome.FAILED,
    decisions.OUTCOME_NOT_EXECUTED: Outcome.NOT_EXECUTED,
    decisions.OUTCOME_UNKNOWN: Outcome.UNKNOWN,
    decisions.OUTCOME_VOIDED: Outcome.VOIDED,
}
_OUTCOMES: Mapping[Outcome | None, decisions.Outcome.ValueType] = {
    outcome: number for number, outcome in _REPORTED.items()
}
_STATES = {
    SessionState.OPEN: sessions.SESSION_STATE_OPEN,
    SessionState.COMPLETED: sessions.SESSION_STATE_COMPLETED,
    SessionState.CLOSED: sessions.SESSION_STATE_CLOSED,
    SessionState.EXPIRED: sessions.SESSION_STATE_EXPIRED,
    SessionState.HALTED: sessions.SESSION_STATE_HALTED,
}


class _Refused(Exception):
    """Becomes a gRPC status with ErrorInfo, and BadRequest for a field."""

    def __init__(self, code: grpc.StatusCode, reason: str, message: str, field: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.field = field


def _not_faked(context: Any) -> NoReturn:
    """The fake checks what is registered, and keeps none of it."""
    context.abort(grpc.StatusCode.UNIMPLEMENTED, "the fake PDP does not keep the registry")
    raise AssertionError("abort does not return")


def register(server: grpc.Server, fake: FakePdp) -> None:
    """Add the services to a server that is not started yet."""
    decision_stubs.add_DecisionServiceServicer_to_server(_Decisions(fake), server)
    session_stubs.add_SessionServiceServicer_to_server(_Sessions(fake), server)
    admin_stubs.add_AdminServiceServicer_to_server(_Admin(fake), server)


class _Decisions(decision_stubs.DecisionServiceServicer):
    def __init__(self, fake: FakePdp) -> None:
        self._fake = fake

    def Evaluate(self, request: decisions.EvaluateRequest, context: Any) -> decisions.EvaluateResponse:
        def answer(caller: Caller) -> decisions.EvaluateResponse:
            return self._answered(request, caller, context.time_remaining())

        return _handle(self._fake, context, "Evaluate", {"agent"}, answer)

    def EvaluateStream(
        self, requests: Iterator[decisions.EvaluateStreamRequest], context: Any
    ) -> Iterator[decisions.EvaluateStreamResponse]:
        caller = _handle(self._fake, context, "EvaluateStream", {"agent"}, lambda caller: caller)
        for message in requests:
            for action in message.actions:
                yield decisions.EvaluateStreamResponse(answers=[self._streamed(action, caller)])

    def _streamed(self, action: decisions.StreamedAction, caller: Caller) -> decisions.StreamedAnswer:
        answer = decisions.StreamedAnswer(id=action.id)
        try:
            if not action.id:
                raise _invalid("id", "is required")
            code = self._fake.next_failure("Evaluate")
            if code is not None:
                raise _Refused(code, "SCRIPTED", "the script says so")
            seconds = action.timeout.ToTimedelta().total_seconds()
            answer.decision.CopyFrom(self._answered(action.request, caller, seconds).decision)
        except _Refused as exc:
            answer.error.ParseFromString(_status(exc).SerializeToString())
        return answer

    def _answered(
        self, request: decisions.EvaluateRequest, caller: Caller, time_remaining: float | None
    ) -> decisions.EvaluateResponse:
        received = _received(request, caller, time_remaining)
        _known_tenant(self._fake, caller)
        self._fake.wait_for_gate()
        decision = self._fake.evaluate(received, request.action.arguments)
        response = decisions.EvaluateResponse(decision=_decision_message(decision))
        if self._fake.alter is not None:
            self._fake.alter(response)
        return response

    def EvaluateBatch(
        self, request: decisions.EvaluateBatchRequest, context: Any
    ) -> decisions.EvaluateBatchResponse:
        def answer(caller: Caller) -> decisions.EvaluateBatchResponse:
            items = _planned(request, caller, context.time_remaining())
            _known_tenant(self._fake, caller)
            self._fake.wait_for_gate()
            decided = self._fake.evaluate_plan(items, all_or_nothing=request.all_or_nothing)
            response = decisions.EvaluateBatchResponse(
                decisions=[_decision_message(decision) for decision in decided],
                all_allowed=all(decision.effect is Effect.ALLOW for decision in decided),
            )
            if self._fake.alter_plan is not None:
                self._fake.alter_plan(response)
            return response

        return _handle(self._fake, context, "EvaluateBatch", {"agent"}, answer)

    def ReportOutcome(
        self, request: decisions.ReportOutcomeRequest, context: Any
    ) -> decisions.ReportOutcomeResponse:
        def answer(caller: Caller) -> decisions.ReportOutcomeResponse:
            if request.outcome not in _REPORTED:
                raise _invalid("outcome", "must be one of the outcomes that can be reported")
            if not request.decision_id:
                _name(request.session_id, "session_id")
                _name(request.tool_call_id, "tool_call_id")
            elif request.session_id or request.tool_call_id:
                raise _invalid("decision_id", "give it, or session_id and tool_call_id, not both")
            _known_tenant(self._fake, caller)
            try:
                found = self._fake.report(
                    caller,
                    _REPORTED[request.outcome],
                    decision_id=request.decision_id,
                    session_id=request.session_id,
                    tool_call_id=request.tool_call_id,
                    attempt_id=request.attempt_id,
                    output=request.output,
                )
            except LookupError as exc:
                raise _Refused(grpc.StatusCode.FAILED_PRECONDITION, "OUTCOME_REFUSED", str(exc)) from exc
            if found is None:
                raise _not_found("no such decision of yours")
            decision_id, hold, conflict = found
            return decisions.ReportOutcomeResponse(
                decision_id=decision_id, hold=_HOLDS[hold], conflict=conflict
            )

        return _handle(self._fake, context, "ReportOutcome", set(), answer)

    def Redeem(self, request: decisions.RedeemRequest, context: Any) -> decisions.RedeemResponse:
        def answer(caller: Caller) -> decisions.RedeemResponse:
            decision_id = _name(request.decision_id, "decision_id")
            arguments = _object(request.arguments, "arguments")
            tool = _name(request.tool, "tool")
            _known_tenant(self._fake, caller)
            if not self._fake.redeem(caller, decision_id, tool, arguments, request.audience):
                message = "it cannot be used for this, or no longer"
                raise _Refused(grpc.StatusCode.FAILED_PRECONDITION, "NOT_REDEEMABLE", message)
            return decisions.RedeemResponse(decision_id=decision_id)

        return _handle(self._fake, context, "Redeem", {"tool"}, answer)

    def ListOpenDecisions(
        self, request: decisions.ListOpenDecisionsRequest, context: Any
    ) -> decisions.ListOpenDecisionsResponse:
        def answer(caller: Caller) -> decisions.ListOpenDecisionsResponse:
            return decisions.ListOpenDecisionsResponse(
                decisions=[
                    decisions.OpenDecision(
                        decision_id=decision.decision_id,
                        session_id=decision.session_id,
                        tool_call_id=decision.tool_call_id,
                        hold=decisions.HOLD_STATE_UNRESOLVED,
                        expires_at=_timestamp(decision.expires_at),
                    )
                    for decision in self._fake.open_decisions(caller.tenant, request.after)
                ]
            )

        return _handle(self._fake, context, "ListOpenDecisions", {"operator", "auditor"}, answer)

    def Simulate(self, request: decisions.SimulateRequest, context: Any) -> decisions.SimulateResponse:
        def answer(caller: Caller) -> decisions.SimulateResponse:
            if not request.HasField("request"):
                raise _invalid("request", "is required")
            if not request.HasField("caller"):
                raise _invalid("caller", "is required")
            simulated = Caller(
                tenant=caller.tenant,
                subject=_name(request.caller.subject, "caller.subject"),
                roles=frozenset({"agent"}),
                agents=frozenset(request.caller.agents),
            )
            _known_tenant(self._fake, caller)
            verdict = self._fake.simulate(_received(request.request, simulated, context.time_remaining()))
            reason = nouns.Reason(code=verdict.code, effect=_EFFECTS[verdict.effect], message=verdict.message)
            return decisions.SimulateResponse(
                would_be=_EFFECTS[verdict.effect], reasons=[reason], input_document=b"{}"
            )

        return _handle(self._fake, context, "Simulate", {"policy_author"}, answer)

    def ListAllowedTools(
        self, request: decisions.ListAllowedToolsRequest, context: Any
    ) -> decisions.ListAllowedToolsResponse:
        def answer(caller: Caller) -> decisions.ListAllowedToolsResponse:
            session_id = _name(request.session_id, "session_id")
            tools = self._fake.scripted_tools(caller, session_id, _hops(request.chain))
            return decisions.ListAllowedToolsResponse(
                tools=[decisions.AllowedTool(name=tool) for tool in tools]
            )

        return _handle(self._fake, context, "ListAllowedTools", {"agent"}, answer)

    def GetDecision(
        self, request: decisions.GetDecisionRequest, context: Any
    ) -> decisions.GetDecisionResponse:
        def answer(caller: Caller) -> decisions.GetDecisionResponse:
            decision_id = _name(request.decision_id, "decision_id")
            decision = self._fake.recorded(caller, decision_id)
            if decision is None:
                raise _not_found(f"no decision {decision_id} of yours")
            sees_all = bool(caller.roles & {"operator", "auditor"})
            return decisions.GetDecisionResponse(
                decision=_decision_message(decision),
                input_document=b"{}" if sees_all else b"",
                outcome=_OUTCOMES.get(decision.outcome, decisions.OUTCOME_UNSPECIFIED),
                redeemed=decision.redeemed,
            )

        return _handle(self._fake, context, "GetDecision", {"agent", "operator", "auditor"}, answer)

    def GetChain(self, request: decisions.GetChainRequest, context: Any) -> decisions.GetChainResponse:
        def answer(caller: Caller) -> decisions.GetChainResponse:
            decision_id = _name(request.decision_id, "decision_id")
            found = self._fake.session_of(caller.tenant, decision_id)
            if found is None or not ("auditor" in caller.roles or _may_see(caller, found[1])):
                raise _not_found(f"no decision {decision_id} in a session of yours")
            decision, session = found
            return decisions.GetChainResponse(
                decision_id=decision_id,
                session_id=session.session_id,
                task_id=session.task.id,
                principal=session.principal,
                links=[self._link(caller.tenant, session, hop) for hop in decision.chain],
            )

        return _handle(self._fake, context, "GetChain", set(), answer)

    def _link(self, tenant: str, session: Session, hop: ChainHop) -> decisions.ChainLink:
        grant = self._fake.grants.named(hop.grant_hash)
        taken = self._fake.taken_on(tenant, session.session_id, hop) if hop.verified else []
        return decisions.ChainLink(
            hop=_chain_hop_message(hop),
            purpose="" if grant is None else grant.purpose,
            expires_at=None if grant is None else _timestamp(grant.expires_at),
            revoked_at=None if grant is None else _timestamp(grant.revoked_at),
            revoked_by="" if grant is None else grant.revoked_by,
            revoke_reason="" if grant is None else grant.revoke_reason,
            decisions=[
                decisions.HopDecision(decision_id=each.decision_id, effect=_EFFECTS[each.effect])
                for each in taken[:20]
            ],
        )


class _Sessions(session_stubs.SessionServiceServicer):
    def __init__(self, fake: FakePdp) -> None:
        self._fake = fake

    def OpenSession(self, request: sessions.OpenSessionRequest, context: Any) -> sessions.OpenSessionResponse:
        def answer(caller: Caller) -> sessions.OpenSessionResponse:
            if request.principal_token:
                raise _invalid("principal_token", "cannot be checked: the fake knows no issuer of tokens")
            asked, issuer = _signed(request, caller) if request.task_token else (request, "")
            return self._opened(asked, caller, issuer)

        return _handle(self._fake, context, "OpenSession", {"session_issuer", "agent"}, answer)

    def _opened(
        self, request: sessions.OpenSessionRequest, caller: Caller, issuer: str
    ) -> sessions.OpenSessionResponse:
        if not issuer and "session_issuer" not in caller.roles:
            raise _denied("OpenSession needs the role session_issuer, or a task_token")
        if not request.HasField("task"):
            raise _invalid("task", "is required")
        task = Task(
            id=_name(request.task.id, "task.id"),
            description=request.task.description,
            prompt=request.task.prompt,
        )
        principal = _name(request.principal, "principal")
        agent = _name(request.agent, "agent")
        expires_at = None
        if request.HasField("expires_at"):
            expires_at = request.expires_at.ToDatetime(tzinfo=UTC)
            if not self._fake.now() < expires_at <= self._fake.now() + timedelta(days=30):
                raise _invalid("expires_at", "must lie ahead, by 30 days at most")
        _known_tenant(self._fake, caller)
        try:
            boundary = read_boundary(request.boundary)
        except AnswerError as exc:
            raise _invalid("boundary", str(exc)) from exc
        try:
            session = self._fake.open(
                caller,
                task=task,
                principal=principal,
                agent=agent,
                boundary=boundary,
                expires_at=expires_at,
                issuer=issuer,
            )
        except LookupError as exc:
            message = f"the task {task.id} already has a session, opened with something else"
            raise _Refused(grpc.StatusCode.ALREADY_EXISTS, "TASK_EXISTS", message) from exc
        over = session.state not in (SessionState.OPEN, SessionState.COMPLETED)
        return sessions.OpenSessionResponse(
            session=_session_message(session), grant="" if over else self._fake.grants.root(session)
        )

    def GetSession(self, request: sessions.GetSessionRequest, context: Any) -> sessions.GetSessionResponse:
        def answer(caller: Caller) -> sessions.GetSessionResponse:
            return sessions.GetSessionResponse(
                session=_session_message(self._own(caller, request.session_id))
            )

        return _handle(self._fake, context, "GetSession", set(), answer)

    def CompleteTask(
        self, request: sessions.CompleteTaskRequest, context: Any
    ) -> sessions.CompleteTaskResponse:
        def answer(caller: Caller) -> sessions.CompleteTaskResponse:
            session = self._own(caller, request.session_id)
            if not _asked_for(caller, session):
                raise _not_found(f"no session {session.session_id} whose task you may complete")
            completed = self._fake.complete(caller.tenant, session.session_id)
            if completed.state is not SessionState.COMPLETED:
                message = f"the session is {completed.state}, so its task cannot be completed"
                raise _Refused(grpc.StatusCode.FAILED_PRECONDITION, "SESSION_OVER", message)
            return sessions.CompleteTaskResponse(session=_session_message(completed))

        return _handle(self._fake, context, "CompleteTask", set(), answer)

    def CloseSession(
        self, request: sessions.CloseSessionRequest, context: Any
    ) -> sessions.CloseSessionResponse:
        def answer(caller: Caller) -> sessions.CloseSessionResponse:
            session = self._own(caller, request.session_id)
            closed = self._fake.close(caller.tenant, session.session_id)
            return sessions.CloseSessionResponse(session=_session_message(closed))

        return _handle(self._fake, context, "CloseSession", set(), answer)

    def Delegate(self, request: sessions.DelegateRequest, context: Any) -> sessions.DelegateResponse:
        def answer(caller: Caller) -> sessions.DelegateResponse:
            hops = _hops(request.chain)
            if not hops or not all(hop.grant for hop in hops):
                raise _invalid("chain.hops", "is required: the grants from the root to the parent")
            to_agent = _name(request.to_agent, "to_agent")
            session = self._fake.find(caller.tenant, _name(request.session_id, "session_id"))
            held = session is not None and any(hop.agent in caller.agents for hop in hops)
            if session is None or not held:
                raise _not_found(f"no session {request.session_id} of yours")
            precondition = grpc.StatusCode.FAILED_PRECONDITION
            if session.state is not SessionState.OPEN:
                message = f"the session is {session.state}, so nothing can be delegated in it"
                raise _Refused(precondition, "SESSION_OVER", message)
            try:
                grant = self._fake.grants.delegate(
                    caller,
                    session,
                    hops,
                    to_agent=to_agent,
                    boundary=read_boundary(request.boundary) if request.HasField("boundary") else None,
                    purpose=request.purpose,
                    expires_at=request.expires_at.ToDatetime(tzinfo=UTC)
                    if request.HasField("expires_at")
                    else None,
                    now=self._fake.now(),
                )
            except AnswerError as exc:
                raise _invalid("boundary", str(exc)) from exc
            except GrantRefused as exc:
                if exc.field:
                    message = f"{exc.field}: {exc}"
                    raise _Refused(precondition, "GRANT_EXCEEDS_PARENT", message, exc.field) from exc
                raise _Refused(precondition, "CHAIN_REFUSED", str(exc)) from exc
            return sessions.DelegateResponse(
                grant=grant,
                grant_hash=hashlib.sha256(grant.encode()).hexdigest(),
                chain=nouns.DelegationChain(
                    hops=[*request.chain.hops, nouns.Hop(agent=to_agent, grant=grant)]
                ),
            )

        return _handle(self._fake, context, "Delegate", {"agent"}, answer)

    def RevokeGrant(self, request: sessions.RevokeGrantRequest, context: Any) -> sessions.RevokeGrantResponse:
        def answer(caller: Caller) -> sessions.RevokeGrantResponse:
            if bool(request.grant) == bool(request.grant_hash):
                raise _invalid("grant_hash", "give exactly one of grant and grant_hash")
            name = request.grant_hash or hashlib.sha256(request.grant.encode()).hexdigest()
            session = self._fake.find(caller.tenant, _name(request.session_id, "session_id"))
            grant = self._fake.grants.named(name)
            may = session is not None and (
                _asked_for(caller, session)
                or "operator" in caller.roles
                or (
                    "agent" in caller.roles
                    and grant is not None
                    and bool(self._fake.grants.agents_above(grant) & caller.agents)
                )
            )
            if session is None or grant is None or grant.session_id != session.session_id or not may:
                raise _not_found(f"no grant of the session {request.session_id} that you may revoke")
            revoked = self._fake.grants.revoke(
                grant, by=caller.subject, reason=request.reason, now=self._fake.now()
            )
            return sessions.RevokeGrantResponse(
                grant_hash=revoked.grant_hash, revoked_at=_timestamp(revoked.revoked_at)
            )

        return _handle(self._fake, context, "RevokeGrant", set(), answer)

    def _own(self, caller: Caller, session_id: str) -> Session:
        session = self._fake.find(caller.tenant, _name(session_id, "session_id"))
        if session is None or not _may_see(caller, session):
            raise _not_found(f"no session {session_id} of yours")
        return session


def _asked_for(caller: Caller, session: Session) -> bool:
    return caller.subject == session.principal or (
        caller.subject == session.issuer and "session_issuer" in caller.roles
    )


def _may_see(caller: Caller, session: Session) -> bool:
    return (
        _asked_for(caller, session)
        or (session.agent in caller.agents and "agent" in caller.roles)
        or "operator" in caller.roles
    )


class _Admin(admin_stubs.AdminServiceServicer):
    """Checks and counts; what tools and agents are is for the scripts to know."""

    def __init__(self, fake: FakePdp) -> None:
        self._fake = fake

    def PutTenant(self, request: admin.PutTenantRequest, context: Any) -> admin.PutTenantResponse:
        def answer(caller: Caller) -> admin.PutTenantResponse:
            if request.tenant and _name(request.tenant, "tenant") != caller.tenant:
                message = "a caller writes its own tenant only"
                raise _Refused(grpc.StatusCode.PERMISSION_DENIED, "PERMISSION_DENIED", message)
            if request.settings:
                _object(request.settings, "settings")
            return admin.PutTenantResponse(settings_revision=self._fake.put("settings", caller.tenant))

        return _handle(self._fake, context, "PutTenant", {"operator"}, answer)

    def PutAgents(self, request: admin.PutAgentsRequest, context: Any) -> admin.PutAgentsResponse:
        def answer(caller: Caller) -> admin.PutAgentsResponse:
            if not request.agents:
                raise _invalid("agents", "has 0 entries; from 1 to 1000")
            for index, agent in enumerate(request.agents):
                _name(agent.agent, f"agents[{index}].agent")
                if agent.HasField("trust") and not 0 <= agent.trust <= 1:
                    raise _invalid(f"agents[{index}].trust", "must be a number from 0 to 1")
            _known_tenant(self._fake, caller)
            return admin.PutAgentsResponse(agents_revision=self._fake.put("agents", caller.tenant))

        return _handle(self._fake, context, "PutAgents", {"operator"}, answer)

    def PutTools(self, request: admin.PutToolsRequest, context: Any) -> admin.PutToolsResponse:
        def answer(caller: Caller) -> admin.PutToolsResponse:
            if not request.tools:
                raise _invalid("tools", "has 0 entries; from 1 to 1000")
            for index, tool in enumerate(request.tools):
                _name(tool.name, f"tools[{index}].name")
                if tool.arguments_schema:
                    _object(tool.arguments_schema, f"tools[{index}].arguments_schema")
            _known_tenant(self._fake, caller)
            return admin.PutToolsResponse(tools_revision=self._fake.put("tools", caller.tenant))

        return _handle(self._fake, context, "PutTools", {"operator"}, answer)

    def ListTools(self, request: admin.ListToolsRequest, context: Any) -> NoReturn:
        _not_faked(context)

    def ListToolHistory(self, request: admin.ListToolHistoryRequest, context: Any) -> NoReturn:
        _not_faked(context)

    def RollbackTools(self, request: admin.RollbackToolsRequest, context: Any) -> NoReturn:
        _not_faked(context)

    def PutIssuerKeys(self, request: admin.PutIssuerKeysRequest, context: Any) -> admin.PutIssuerKeysResponse:
        def answer(caller: Caller) -> admin.PutIssuerKeysResponse:
            _name(request.issuer, "issuer")
            _object(request.jwks, "jwks")
            _known_tenant(self._fake, caller)
            return admin.PutIssuerKeysResponse(issuers_revision=self._fake.put("issuers", caller.tenant))

        return _handle(self._fake, context, "PutIssuerKeys", {"operator"}, answer)

    def ListIssuerKeys(self, request: admin.ListIssuerKeysRequest, context: Any) -> NoReturn:
        _not_faked(context)

    def PutSignals(self, request: admin.PutSignalsRequest, context: Any) -> admin.PutSignalsResponse:
        def answer(caller: Caller) -> admin.PutSignalsResponse:
            if not request.signals:
                raise _invalid("signals", "has 0 entries; from 1 to 1000")
            for index, signal in enumerate(request.signals):
                _name(signal.name, f"signals[{index}].name")
                try:
                    parse_value(signal.value, field=f"signals[{index}].value")
                except CanonicalError as exc:
                    raise _invalid(exc.field, exc.reason) from exc
            _known_tenant(self._fake, caller)
            return admin.PutSignalsResponse(signals_revision=self._fake.put("signals", caller.tenant))

        return _handle(self._fake, context, "PutSignals", {"operator"}, answer)


def _signed(request: sessions.OpenSessionRequest, caller: Caller) -> tuple[sessions.OpenSessionRequest, str]:
    """What a task token says, and its issuer; the fake believes every signature."""
    try:
        claims = parse_task_token(request.task_token).claims
    except TaskTokenError as exc:
        raise _denied(f"the task token {exc}") from exc
    if claims["aud"] != caller.tenant:
        raise _denied("the task token is for another tenant (aud)")
    if "session_issuer" not in caller.roles and claims["agent"] not in caller.agents:
        raise _denied("the task token is for an agent that you do not speak for")
    try:
        said = asked_by(claims)
    except InvalidRequestError as exc:
        raise _invalid("task_token", str(exc)) from exc
    present = {field.name for field, _ in request.ListFields()} - {"task_token"}
    for field in sorted(present):
        if getattr(request, field) != getattr(said, field):
            raise _invalid(field, "is not what task_token says; leave it out")
    return said, f"task:{claims['iss']}"


def _handle(fake: FakePdp, context: Any, method: str, roles: set[str], answer: Callable[[Caller], R]) -> R:
    """Identify the caller, check its role, answer; or abort with a status."""
    try:
        code = fake.next_failure(method)
        if code is not None:
            raise _Refused(code, "SCRIPTED", "the script says so")
        caller = _caller(dict(context.invocation_metadata()))
        if roles and not roles & caller.roles:
            message = f"{method} needs one of the roles {', '.join(sorted(roles))}"
            raise _Refused(grpc.StatusCode.PERMISSION_DENIED, "PERMISSION_DENIED", message)
        return answer(caller)
    except _Refused as exc:
        _abort(context, exc)


def _abort(context: Any, refused: _Refused) -> NoReturn:
    context.set_trailing_metadata(((DETAILS_KEY, _status(refused).SerializeToString()),))
    context.abort(refused.code, refused.message)
    raise AssertionError("abort does not return")


def _status(refused: _Refused) -> status_pb2.Status:
    status = status_pb2.Status(code=refused.code.value[0], message=refused.message)
    status.details.add().Pack(
        error_details_pb2.ErrorInfo(reason=refused.reason, domain=DOMAIN, metadata={"request_id": "fake"})
    )
    if refused.field:
        violation = error_details_pb2.BadRequest.FieldViolation(
            field=refused.field, description=refused.message.removeprefix(f"{refused.field}: ")
        )
        status.details.add().Pack(error_details_pb2.BadRequest(field_violations=[violation]))
    return status


def _caller(metadata: Mapping[str, str]) -> Caller:
    for name in ("placet-tenant", "placet-subject"):
        if not metadata.get(name):
            message = f"metadata {name} must name the caller's {name.removeprefix('placet-')}"
            raise _Refused(grpc.StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED", message)
    roles = frozenset(filter(None, metadata.get("placet-roles", "").split(",")))
    if not roles <= _KNOWN_ROLES or {"agent", "reviewer"} <= roles:
        message = "metadata placet-roles: unknown roles, or agent and reviewer together"
        raise _Refused(grpc.StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED", message)
    return Caller(
        tenant=metadata["placet-tenant"],
        subject=metadata["placet-subject"],
        roles=roles,
        agents=frozenset(filter(None, metadata.get("placet-agents", "").split(","))),
    )


def _received(request: decisions.EvaluateRequest, caller: Caller, time_remaining: float | None) -> Received:
    if not request.HasField("action"):
        raise _invalid("action", "is required")
    action = request.action
    return Received(
        caller=caller,
        action=Action(
            tool=_name(action.tool, "action.tool"),
            arguments=_object(action.arguments, "action.arguments"),
            tool_call_id=_name(action.tool_call_id, "action.tool_call_id"),
            intent=action.intent,
            resource=action.resource,
            provenance=_object(action.provenance, "action.provenance") if action.provenance else {},
        ),
        session_id=_name(request.session_id, "session_id"),
        hops=_hops(request.chain),
        review_id=request.review_id,
        attempt_id=request.attempt_id,
        audience=request.audience,
        time_remaining=time_remaining,
    )


def _planned(
    request: decisions.EvaluateBatchRequest, caller: Caller, time_remaining: float | None
) -> list[tuple[Received, bytes]]:
    if not 1 <= len(request.items) <= _MAX_ITEMS:
        raise _invalid("items", f"has {len(request.items)} entries; from 1 to {_MAX_ITEMS}")
    items: list[tuple[Received, bytes]] = []
    for index, item in enumerate(request.items):
        path = f"items[{index}]"
        alone = decisions.EvaluateRequest(
            action=item.action if item.HasField("action") else None,
            session_id=request.session_id,
            chain=request.chain,
            review_id=item.review_id,
            attempt_id=item.attempt_id,
            audience=request.audience,
        )
        try:
            received = _received(alone, caller, time_remaining)
        except _Refused as exc:
            if exc.field.startswith(("session_id", "chain", "audience")):
                raise
            raise _Refused(exc.code, exc.reason, f"{path}.{exc.message}", f"{path}.{exc.field}") from exc
        if any(received.action.tool_call_id == other.action.tool_call_id for other, _ in items):
            raise _invalid(f"{path}.action.tool_call_id", "is listed twice")
        items.append((received, item.action.arguments))
    return items


def _hops(message: nouns.DelegationChain) -> tuple[Hop, ...]:
    return tuple(
        Hop(agent=_name(hop.agent, f"chain.hops[{index}].agent"), grant=hop.grant)
        for index, hop in enumerate(message.hops)
    )


def _known_tenant(fake: FakePdp, caller: Caller) -> None:
    if not fake.knows(caller.tenant):
        message = f"there is no tenant {caller.tenant}"
        raise _Refused(grpc.StatusCode.FAILED_PRECONDITION, "TENANT_UNKNOWN", message)


def _name(value: str, field: str) -> str:
    if not value:
        raise _invalid(field, "is required")
    if len(value) > 256:
        raise _invalid(field, f"is {len(value)} characters long; at most 256")
    if not value.isprintable() or value != value.strip():
        raise _invalid(field, "must be one line of printable characters without spaces around it")
    return value


def _object(text: bytes, field: str) -> Mapping[str, Any]:
    if not text:
        raise _invalid(field, "is required: a JSON object, {} for none")
    try:
        return parse_object(text, field=field)
    except CanonicalError as exc:
        raise _invalid(exc.field, exc.reason) from exc


def _invalid(field: str, description: str) -> _Refused:
    return _Refused(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD", f"{field}: {description}", field)


def _denied(message: str) -> _Refused:
    return _Refused(grpc.StatusCode.PERMISSION_DENIED, "PERMISSION_DENIED", message)


def _not_found(message: str) -> _Refused:
    return _Refused(grpc.StatusCode.NOT_FOUND, "NOT_FOUND", message)


def _decision_message(decision: Decision) -> nouns.Decision:
    message = nouns.Decision(
        decision_id=decision.decision_id,
        effect=_EFFECTS[decision.effect],
        reasons=[
            nouns.Reason(code=item.code, effect=_EFFECTS[item.effect], message=item.message, at=item.at)
            for item in decision.reasons
        ],
        obligations=[
            nouns.Obligation(id=item.id, properties=json_text(item.properties, "properties"))
            for item in decision.obligations
        ],
        model_text=decision.model_text,
        session_id=decision.session_id,
        tool_call_id=decision.tool_call_id,
        decided_at=_timestamp(decision.decided_at),
        expires_at=_timestamp(decision.expires_at),
        policy=nouns.PolicyRevision(bundle=decision.policy.bundle, revision=decision.policy.revision),
        data_revisions=dict(decision.data_revisions),
        session_version=decision.session_version,
        retryable=decision.retryable,
        attempt_id=decision.attempt_id,
        replayed=decision.replayed,
        receipt=nouns.Receipt(token=decision.receipt),
        chain=[_chain_hop_message(hop) for hop in decision.chain],
    )
    if decision.retry_after is not None:
        message.retry_after.FromTimedelta(decision.retry_after)
    if decision.position is not None:
        message.receipt.position.writer = decision.position.writer
        message.receipt.position.seq = decision.position.seq
    return message


def _chain_hop_message(hop: ChainHop) -> nouns.ChainHop:
    return nouns.ChainHop(
        agent=hop.agent,
        delegated_by=hop.delegated_by,
        grant_hash=hop.grant_hash,
        depth=hop.depth,
        effect=nouns.EFFECT_UNSPECIFIED if hop.effect is None else _EFFECTS[hop.effect],
        same_runtime=hop.same_runtime,
        verified=hop.verified,
        unverified=hop.unverified,
    )


def _session_message(session: Session) -> sessions.Session:
    return sessions.Session(
        session_id=session.session_id,
        task=sessions.Task(
            id=session.task.id, description=session.task.description, prompt=session.task.prompt
        ),
        principal=session.principal,
        agent=session.agent,
        issuer=session.issuer,
        boundary=boundary_message(session.boundary),
        state=_STATES[session.state],
        version=session.version,
        opened_at=_timestamp(session.opened_at),
        expires_at=_timestamp(session.expires_at),
        completed_at=_timestamp(session.completed_at),
        closed_at=_timestamp(session.closed_at),
        decisions=dict(session.decisions),
    )


def _timestamp(instant: datetime | None) -> Timestamp | None:
    if instant is None:
        return None
    message = Timestamp()
    message.FromDatetime(instant)
    return message
