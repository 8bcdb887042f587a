"""placet.v1.SessionService."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import structlog

from pdp.delegation.point import DelegationPoint
from pdp.errors import (
    InvalidFieldError,
    NotFoundError,
    PermissionDeniedError,
    SessionContendedError,
    SessionMovedError,
    SessionOverError,
    UnauthenticatedError,
)
from pdp.model import Caller, Role, Session, SessionState
from pdp.overload.rate import Rate
from pdp.ports import Clock, ControlPlane, GrantStore, SessionStore
from pdp.server.grpc.deadline import deadline_of
from pdp.server.identity.authentication import Principals
from pdp.server.identity.roles import current_caller
from pdp.server.messages import convert
from pdp.server.messages import grants as convert_grants
from pdp.sessions import task_tokens
from pdp.sessions.ownership import asked_for, may_revoke, may_see
from pdp.sessions.task_tokens import ISSUER_PREFIX
from pdp.uuid7 import uuid7
from placet.v1 import session_service_pb2 as messages
from placet.v1 import session_service_pb2_grpc as stubs

_LOG = structlog.get_logger("pdp.server")


# Something that operators write would have to move in between as often.
_MAX_OPENINGS = 8


class SessionService(stubs.SessionServiceServicer):
    def __init__(
        self,
        sessions: SessionStore,
        clock: Clock,
        registry: ControlPlane,
        delegations: DelegationPoint,
        grants: GrantStore,
        principals: Principals | None = None,
    ) -> None:
        """`principals` None: principals are whom session issuers name, and prove nothing."""
        self._sessions = sessions
        self._clock = clock
        self._registry = registry
        self._delegations = delegations
        self._grants = grants
        self._principals = principals
        # A revocation holds up every decision of its tenant for a moment.
        self._revocations = Rate(burst=50, per_second=10)

    async def OpenSession(
        self, request: messages.OpenSessionRequest, context: Any
    ) -> messages.OpenSessionResponse:
        """By a session issuer, or by an agent who carries a task that an issuer has signed."""
        caller = current_caller()
        principal = await self._principal(request, caller)
        task_token = convert.task_token(request)
        if task_token:
            return await self._open_signed(request, task_token, caller, principal)
        if Role.SESSION_ISSUER not in caller.roles:
            raise PermissionDeniedError("OpenSession needs the role session_issuer, or a task_token")
        if caller.subject.startswith(ISSUER_PREFIX):
            raise PermissionDeniedError(
                f"issuers of task tokens are called {ISSUER_PREFIX}…, and you are none"
            )
        if self._principals is not None and self._principals.required and not principal:
            raise InvalidFieldError("principal_token", "is required here (principal_tokens: required)")
        opening = convert.opening(request, issuer=caller.subject, principal=principal)
        now = await self._clock.now()
        session = await self._sessions.open(
            caller.tenant, convert.session_of(opening, session_id=uuid7(now), now=now)
        )
        return await self._answer(caller, session, now)

    async def _open_signed(
        self, request: messages.OpenSessionRequest, task_token: str, caller: Caller, principal: str
    ) -> messages.OpenSessionResponse:
        """Open what the task token says, on keys that are its issuer's at commit."""
        token = task_tokens.read(task_token)
        for _ in range(_MAX_OPENINGS):
            keys, epoch = await self._registry.keys_of(caller.tenant, token.issuer)
            now = await self._clock.now()
            signed = task_tokens.prove(token, keys, tenant=caller.tenant, now=now)
            if Role.SESSION_ISSUER not in caller.roles and signed.agent not in caller.agents:
                raise PermissionDeniedError("the task token is for an agent that you do not speak for")
            convert.check_beside(request, signed, principal=principal)
            opening = convert.session_of(signed, session_id=uuid7(now), now=now)
            try:
                session = await self._sessions.open(caller.tenant, opening, epoch=epoch)
            except SessionMovedError:
                continue
            _LOG.info("session_opened_by_token", session_id=session.session_id, token_id=signed.token_id)
            return await self._answer(caller, session, now)
        raise SessionContendedError(retry_after=1.0)

    async def _answer(self, caller: Caller, session: Session, now: datetime) -> messages.OpenSessionResponse:
        """With a root grant of its own, stored before anybody has it."""
        return messages.OpenSessionResponse(
            session=convert.session_message(session, now),
            grant=await self._delegations.root(caller.tenant, session, now),
        )

    async def _principal(self, request: messages.OpenSessionRequest, caller: Caller) -> str:
        """Who the principal token proves; empty without one."""
        if not request.principal_token:
            return ""
        if self._principals is None:
            raise InvalidFieldError(
                "principal_token", "cannot be checked: no issuer of tokens is configured (jwt)"
            )
        try:
            principal = await self._principals.of(request.principal_token)
        except UnauthenticatedError as exc:
            # Who calls is known; whom it names is not.
            raise PermissionDeniedError(f"principal_token: {exc}") from exc
        if principal.tenant != caller.tenant:
            raise PermissionDeniedError("principal_token: is of another tenant")
        return principal.subject

    async def GetSession(
        self, request: messages.GetSessionRequest, context: Any
    ) -> messages.GetSessionResponse:
        session, now = await self._own(convert.session_id(request))
        return messages.GetSessionResponse(session=convert.session_message(session, now))

    async def CompleteTask(
        self, request: messages.CompleteTaskRequest, context: Any
    ) -> messages.CompleteTaskResponse:
        session_id, reason = convert.session_id(request), convert.end_reason(request)
        session, _ = await self._own(session_id)
        caller = current_caller()
        if not asked_for(caller, session):
            raise NotFoundError(f"no session {session_id} whose task you may complete")
        completed = await self._sessions.complete(caller.tenant, session_id, reason)
        if completed is None:
            raise NotFoundError(f"no session {session_id} of yours")
        now = await self._clock.now()
        state = completed.state_at(now)
        if state is not SessionState.COMPLETED:
            raise SessionOverError(f"the session is {state}, so its task cannot be completed")
        return messages.CompleteTaskResponse(session=convert.session_message(completed, now))

    async def CloseSession(
        self, request: messages.CloseSessionRequest, context: Any
    ) -> messages.CloseSessionResponse:
        session_id, reason = convert.session_id(request), convert.end_reason(request)
        await self._own(session_id)
        session = await self._sessions.close(current_caller().tenant, session_id, reason)
        if session is None:
            raise NotFoundError(f"no session {session_id} of yours")
        return messages.CloseSessionResponse(
            session=convert.session_message(session, await self._clock.now())
        )

    async def Delegate(self, request: messages.DelegateRequest, context: Any) -> messages.DelegateResponse:
        asked = convert_grants.delegation(request)
        leaf = await self._delegations.delegate(current_caller(), asked, deadline=deadline_of(context))
        return convert_grants.delegation_message(asked, leaf)

    async def RevokeGrant(
        self, request: messages.RevokeGrantRequest, context: Any
    ) -> messages.RevokeGrantResponse:
        caller = current_caller()
        session_id, grant, reason = convert_grants.revocation(request)
        found = await self._sessions.get(caller.tenant, session_id)
        path = await self._grants.grant_path(caller.tenant, grant)
        if (
            found is None
            or not path
            or path[-1].session_id != session_id
            or not may_revoke(caller, found[0], path)
        ):
            raise NotFoundError(f"no grant of the session {session_id} that you may revoke")
        revoked = path[-1] if path[-1].revoked_at is not None else None
        if revoked is None:
            if Role.OPERATOR not in caller.roles:
                self._revocations.charge(caller)
            revoked = await self._grants.revoke_grant(caller.tenant, grant, by=caller.subject, reason=reason)
        if revoked is None:
            raise NotFoundError(f"no grant of the session {session_id} that you may revoke")
        return convert_grants.revocation_message(revoked)

    async def _own(self, session_id: str) -> tuple[Session, datetime]:
        caller = current_caller()
        found = await self._sessions.get(caller.tenant, session_id)
        if found is None or not may_see(caller, found[0]):
            raise NotFoundError(f"no session {session_id} of yours")
        return found
