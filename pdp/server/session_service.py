"""placet.v1.SessionService."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pdp.errors import NotFoundError, SessionOverError
from pdp.model import Caller, Role, Session, SessionState
from pdp.ports import Clock, SessionStore
from pdp.server import convert
from pdp.server.identity import current_caller
from pdp.uuid7 import uuid7
from placet.v1 import session_service_pb2 as messages
from placet.v1 import session_service_pb2_grpc as stubs


class SessionService(stubs.SessionServiceServicer):
    def __init__(self, sessions: SessionStore, clock: Clock) -> None:
        self._sessions = sessions
        self._clock = clock

    async def OpenSession(
        self, request: messages.OpenSessionRequest, context: Any
    ) -> messages.OpenSessionResponse:
        caller = current_caller()
        opened_at = convert.session_to_open(request, issuer=caller.subject)
        now = await self._clock.now()
        session = await self._sessions.open(caller.tenant, opened_at(uuid7(now), now))
        return messages.OpenSessionResponse(session=convert.session_message(session, now))

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
        if not _asked_for(caller, session):
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

    async def _own(self, session_id: str) -> tuple[Session, datetime]:
        caller = current_caller()
        found = await self._sessions.get(caller.tenant, session_id)
        if found is None or not _may_see(caller, found[0]):
            raise NotFoundError(f"no session {session_id} of yours")
        return found


def _asked_for(caller: Caller, session: Session) -> bool:
    """Its principal, who needs no role; its issuer."""
    return caller.subject == session.principal or (
        caller.subject == session.issuer and Role.SESSION_ISSUER in caller.roles
    )


def _may_see(caller: Caller, session: Session) -> bool:
    """Its principal, who needs no role; its issuer; its agent; operators."""
    return (
        _asked_for(caller, session)
        or (session.agent in caller.agents and Role.AGENT in caller.roles)
        or Role.OPERATOR in caller.roles
    )
