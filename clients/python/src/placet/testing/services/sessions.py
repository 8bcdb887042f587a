"""SessionService of the fake."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import UTC, timedelta
from typing import Any

import grpc

from placet._calls.boundary import read_boundary
from placet.errors import AnswerError
from placet.model import Session, SessionState, Task
from placet.testing.decisions import FakeDecisions
from placet.testing.grants import GrantRefused
from placet.testing.script import Caller
from placet.testing.services.messages import session_message, timestamp
from placet.testing.services.refusals import (
    Refused,
    check_tenant,
    denied,
    handle,
    invalid,
    not_found,
    precondition_failed,
    unproven,
)
from placet.testing.services.requests import check_name, read_hops
from placet.testing.services.task_tokens import read_task_token
from placet.testing.state import FakeState
from placet.v1 import decision_pb2 as nouns
from placet.v1 import session_service_pb2 as sessions
from placet.v1 import session_service_pb2_grpc as stubs


class SessionService(stubs.SessionServiceServicer):
    def __init__(self, state: FakeState, decisions: FakeDecisions) -> None:
        self._state = state
        self._decisions = decisions

    def OpenSession(self, request: sessions.OpenSessionRequest, context: Any) -> sessions.OpenSessionResponse:
        def answer(caller: Caller) -> sessions.OpenSessionResponse:
            if request.principal_token:
                raise invalid("principal_token", "cannot be checked: the fake knows no issuer of tokens")
            if not request.task_token:
                return self._open(request, caller, "")
            signed = read_task_token(request, caller)
            return self._open(signed.request, caller, signed.issuer)

        return handle(self._state, context, "OpenSession", {"session_issuer", "agent"}, answer)

    def _open(
        self, request: sessions.OpenSessionRequest, caller: Caller, issuer: str
    ) -> sessions.OpenSessionResponse:
        if not issuer and "session_issuer" not in caller.roles:
            raise denied("OpenSession needs the role session_issuer, or a task_token")
        if not request.HasField("task"):
            raise invalid("task", "is required")
        task = Task(
            id=check_name(request.task.id, "task.id"),
            description=request.task.description,
            prompt=request.task.prompt,
        )
        principal = check_name(request.principal, "principal")
        agent = check_name(request.agent, "agent")
        expires_at = None
        if request.HasField("expires_at"):
            expires_at = request.expires_at.ToDatetime(tzinfo=UTC)
            if not self._state.now() < expires_at <= self._state.now() + timedelta(days=30):
                raise invalid("expires_at", "must lie ahead, by 30 days at most")
        check_tenant(self._state, caller)
        try:
            boundary = read_boundary(request.boundary)
        except AnswerError as exc:
            raise invalid("boundary", str(exc)) from exc
        try:
            session = self._state.open_session(
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
            raise Refused(grpc.StatusCode.ALREADY_EXISTS, "TASK_EXISTS", message) from exc
        if session.state not in (SessionState.OPEN, SessionState.COMPLETED):
            return sessions.OpenSessionResponse(session=session_message(session))
        session, token = self._state.issue_token(caller.tenant, session.session_id)
        return sessions.OpenSessionResponse(
            session=session_message(session),
            grant=self._state.grants.issue_root(session),
            session_token=token,
        )

    def GetSession(self, request: sessions.GetSessionRequest, context: Any) -> sessions.GetSessionResponse:
        def answer(caller: Caller) -> sessions.GetSessionResponse:
            return sessions.GetSessionResponse(session=session_message(self._find_readable(caller, request)))

        return handle(self._state, context, "GetSession", set(), answer)

    def CompleteTask(
        self, request: sessions.CompleteTaskRequest, context: Any
    ) -> sessions.CompleteTaskResponse:
        def answer(caller: Caller) -> sessions.CompleteTaskResponse:
            session = self._find_own(caller, request.session_id)
            if not _owns_task(caller, session):
                raise not_found(f"no session {session.session_id} whose task you may complete")
            completed = self._state.complete_session(caller.tenant, session.session_id)
            if completed.state is not SessionState.COMPLETED:
                message = f"the session is {completed.state}, so its task cannot be completed"
                raise precondition_failed("SESSION_OVER", message)
            return sessions.CompleteTaskResponse(session=session_message(completed))

        return handle(self._state, context, "CompleteTask", set(), answer)

    def CloseSession(
        self, request: sessions.CloseSessionRequest, context: Any
    ) -> sessions.CloseSessionResponse:
        def answer(caller: Caller) -> sessions.CloseSessionResponse:
            session = self._find_proven(caller, request)
            closed = self._state.close_session(caller.tenant, session.session_id)
            return sessions.CloseSessionResponse(session=session_message(closed))

        return handle(self._state, context, "CloseSession", set(), answer)

    def Delegate(self, request: sessions.DelegateRequest, context: Any) -> sessions.DelegateResponse:
        def answer(caller: Caller) -> sessions.DelegateResponse:
            hops = read_hops(request.chain)
            if not hops or not all(hop.grant for hop in hops):
                raise invalid("chain.hops", "is required: the grants from the root to the parent")
            to_agent = check_name(request.to_agent, "to_agent")
            session = self._state.find_session(caller.tenant, check_name(request.session_id, "session_id"))
            held = session is not None and any(hop.agent in caller.agents for hop in hops)
            if session is None or not held:
                raise not_found(f"no session {request.session_id} of yours")
            if session.state is not SessionState.OPEN:
                message = f"the session is {session.state}, so nothing can be delegated in it"
                raise precondition_failed("SESSION_OVER", message)
            try:
                grant = self._state.grants.delegate(
                    caller,
                    session,
                    hops,
                    to_agent=to_agent,
                    boundary=read_boundary(request.boundary) if request.HasField("boundary") else None,
                    purpose=request.purpose,
                    expires_at=request.expires_at.ToDatetime(tzinfo=UTC)
                    if request.HasField("expires_at")
                    else None,
                    now=self._state.now(),
                )
            except AnswerError as exc:
                raise invalid("boundary", str(exc)) from exc
            except GrantRefused as exc:
                if exc.field:
                    message = f"{exc.field}: {exc}"
                    raise precondition_failed("GRANT_EXCEEDS_PARENT", message, exc.field) from exc
                raise precondition_failed("CHAIN_REFUSED", str(exc)) from exc
            return sessions.DelegateResponse(
                grant=grant,
                grant_hash=hashlib.sha256(grant.encode()).hexdigest(),
                chain=nouns.DelegationChain(
                    hops=[*request.chain.hops, nouns.Hop(agent=to_agent, grant=grant)]
                ),
            )

        return handle(self._state, context, "Delegate", {"agent"}, answer)

    def RevokeGrant(self, request: sessions.RevokeGrantRequest, context: Any) -> sessions.RevokeGrantResponse:
        def answer(caller: Caller) -> sessions.RevokeGrantResponse:
            if bool(request.grant) == bool(request.grant_hash):
                raise invalid("grant_hash", "give exactly one of grant and grant_hash")
            name = request.grant_hash or hashlib.sha256(request.grant.encode()).hexdigest()
            session = self._state.find_session(caller.tenant, check_name(request.session_id, "session_id"))
            grant = self._state.grants.find(name)
            may = session is not None and (
                _owns_task(caller, session)
                or "operator" in caller.roles
                or (
                    "agent" in caller.roles
                    and grant is not None
                    and bool(self._state.grants.agents_above(grant) & caller.agents)
                )
            )
            if session is None or grant is None or grant.session_id != session.session_id or not may:
                raise not_found(f"no grant of the session {request.session_id} that you may revoke")
            hops = read_hops(request.chain)
            if not self._decisions.proves_part(caller, session, hops, request.session_token):
                raise unproven()
            revoked = self._state.grants.revoke(
                grant, by=caller.subject, reason=request.reason, now=self._state.now()
            )
            return sessions.RevokeGrantResponse(
                grant_hash=revoked.grant_hash, revoked_at=timestamp(revoked.revoked_at)
            )

        return handle(self._state, context, "RevokeGrant", set(), answer)

    def RevokeSessionProofs(
        self, request: sessions.RevokeSessionProofsRequest, context: Any
    ) -> sessions.RevokeSessionProofsResponse:
        def answer(caller: Caller) -> sessions.RevokeSessionProofsResponse:
            session = self._state.find_session(caller.tenant, check_name(request.session_id, "session_id"))
            if session is None or not (_owns_task(caller, session) or "operator" in caller.roles):
                raise not_found(f"no session {request.session_id} whose proofs you may revoke")
            revoked = self._state.revoke_proofs(
                caller.tenant, session.session_id, by=caller.subject, reason=request.reason
            )
            return sessions.RevokeSessionProofsResponse(
                revoked_at=timestamp(revoked.revoked_at), tokens=revoked.tokens, grants=revoked.grants
            )

        return handle(self._state, context, "RevokeSessionProofs", set(), answer)

    def _find_readable(self, caller: Caller, request: sessions.GetSessionRequest) -> Session:
        session = self._state.find_session(caller.tenant, check_name(request.session_id, "session_id"))
        if session is None:
            raise not_found(f"no session {request.session_id} of yours")
        if "auditor" in caller.roles:
            return session
        hops = read_hops(request.chain)
        if may_close(caller, session) or "agent" not in caller.roles or not any(hop.grant for hop in hops):
            return self._find_proven(caller, request)
        # Who only holds a grant reads by its chain, and is not told how much others did.
        if self._decisions.proves_part(caller, session, hops, ""):
            return replace(session, decisions={})
        if self._state.grants.names(caller, session, hops):
            raise unproven()
        raise not_found(f"no session {request.session_id} of yours")

    def _find_proven(
        self, caller: Caller, request: sessions.GetSessionRequest | sessions.CloseSessionRequest
    ) -> Session:
        session = self._find_own(caller, request.session_id)
        hops = read_hops(request.chain)
        if not self._decisions.proves_part(caller, session, hops, request.session_token):
            raise unproven()
        return session

    def _find_own(self, caller: Caller, session_id: str) -> Session:
        session = self._state.find_session(caller.tenant, check_name(session_id, "session_id"))
        if session is None or not may_close(caller, session):
            raise not_found(f"no session {session_id} of yours")
        return session


def _owns_task(caller: Caller, session: Session) -> bool:
    """Whether the caller is the principal of the session's task, or issued it."""
    return caller.subject == session.principal or (
        caller.subject == session.issuer and "session_issuer" in caller.roles
    )


def may_close(caller: Caller, session: Session) -> bool:
    """Whether the session is the caller's own, which is then there for it."""
    return (
        _owns_task(caller, session)
        or (session.agent in caller.agents and "agent" in caller.roles)
        or "operator" in caller.roles
    )
