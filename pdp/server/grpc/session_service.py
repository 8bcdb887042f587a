"""placet.v1.SessionService: messages to values, one call of a point, values to messages."""

from __future__ import annotations

from typing import Any

import structlog

from pdp.delegation.point import DelegationPoint
from pdp.server.grpc.deadline import deadline_of
from pdp.server.identity.roles import current_caller
from pdp.server.messages import convert
from pdp.server.messages import grants as convert_grants
from pdp.sessions.point import SessionPoint
from placet.v1 import session_service_pb2 as messages
from placet.v1 import session_service_pb2_grpc as stubs

_LOG = structlog.get_logger("pdp.server")


class SessionService(stubs.SessionServiceServicer):
    def __init__(self, sessions: SessionPoint, delegations: DelegationPoint) -> None:
        self._sessions = sessions
        self._delegations = delegations

    async def OpenSession(
        self, request: messages.OpenSessionRequest, context: Any
    ) -> messages.OpenSessionResponse:
        opened = await self._sessions.open(current_caller(), convert.opening(request))
        if opened.token_id:
            _LOG.info(
                "session_opened_by_token", session_id=opened.session.session_id, token_id=opened.token_id
            )
        return messages.OpenSessionResponse(
            session=convert.session_message(opened.session, opened.now), grant=opened.grant
        )

    async def GetSession(
        self, request: messages.GetSessionRequest, context: Any
    ) -> messages.GetSessionResponse:
        found = await self._sessions.get(current_caller(), convert.session_id(request))
        return messages.GetSessionResponse(session=convert.session_message(found.session, found.now))

    async def CompleteTask(
        self, request: messages.CompleteTaskRequest, context: Any
    ) -> messages.CompleteTaskResponse:
        completed = await self._sessions.complete(
            current_caller(), convert.session_id(request), convert.end_reason(request)
        )
        return messages.CompleteTaskResponse(
            session=convert.session_message(completed.session, completed.now)
        )

    async def CloseSession(
        self, request: messages.CloseSessionRequest, context: Any
    ) -> messages.CloseSessionResponse:
        closed = await self._sessions.close(
            current_caller(), convert.session_id(request), convert.end_reason(request)
        )
        return messages.CloseSessionResponse(session=convert.session_message(closed.session, closed.now))

    async def Delegate(self, request: messages.DelegateRequest, context: Any) -> messages.DelegateResponse:
        asked = convert_grants.delegation(request)
        leaf = await self._delegations.delegate(current_caller(), asked, deadline=deadline_of(context))
        return convert_grants.delegation_message(asked, leaf)

    async def RevokeGrant(
        self, request: messages.RevokeGrantRequest, context: Any
    ) -> messages.RevokeGrantResponse:
        session_id, grant_hash, reason = convert_grants.revocation(request)
        revoked = await self._sessions.revoke_grant(current_caller(), session_id, grant_hash, reason=reason)
        return convert_grants.revocation_message(revoked)
