"""placet.v1.SessionService: messages to values, one call of a point, values to messages."""

from __future__ import annotations

from typing import Any

import structlog

from pdp.delegation.point import DelegationPoint
from pdp.server.grpc.deadline import deadline_of
from pdp.server.identity.caller import current_caller
from pdp.server.messages import chains, grants, sessions
from pdp.server.messages.attribution import reason
from pdp.sessions.point import SessionPoint
from placet._wire.reasons import limit_message
from placet.v1 import session_service_pb2 as messages
from placet.v1 import session_service_pb2_grpc as stubs

_LOG = structlog.get_logger("pdp.server")


class SessionService(stubs.SessionServiceServicer):
    def __init__(self, session_point: SessionPoint, delegation_point: DelegationPoint) -> None:
        self._session_point = session_point
        self._delegation_point = delegation_point

    async def OpenSession(
        self, request: messages.OpenSessionRequest, context: Any
    ) -> messages.OpenSessionResponse:
        opened = await self._session_point.open(current_caller(), sessions.opening(request))
        if opened.token_id:
            _LOG.info(
                "session_opened_by_token", session_id=opened.session.session_id, token_id=opened.token_id
            )
        if opened.warnings:
            _LOG.warning(
                "session_opened_with_warnings",
                session_id=opened.session.session_id,
                warnings=[f"{item.code} {item.field}" for item in opened.warnings],
            )
        return messages.OpenSessionResponse(
            session=sessions.session_message(opened.session, opened.now),
            grant=opened.grant,
            session_token=opened.session_token,
            warnings=[
                messages.SessionWarning(code=item.code, field=item.field, message=item.message)
                for item in opened.warnings
            ],
        )

    async def GetSession(
        self, request: messages.GetSessionRequest, context: Any
    ) -> messages.GetSessionResponse:
        found = await self._session_point.get(
            current_caller(),
            sessions.session_id(request),
            chains.session_proof(request),
            deadline=deadline_of(context),
        )
        limits = (
            await self._session_point.limits(current_caller(), found, deadline=deadline_of(context))
            if request.with_limits
            else ()
        )
        return messages.GetSessionResponse(
            session=sessions.session_message(found.session, found.now, counted=not found.held),
            limits=[limit_message(limit) for limit in limits],
        )

    async def CompleteTask(
        self, request: messages.CompleteTaskRequest, context: Any
    ) -> messages.CompleteTaskResponse:
        completed = await self._session_point.complete(
            current_caller(), sessions.session_id(request), sessions.end_reason(request)
        )
        return messages.CompleteTaskResponse(
            session=sessions.session_message(completed.session, completed.now)
        )

    async def CloseSession(
        self, request: messages.CloseSessionRequest, context: Any
    ) -> messages.CloseSessionResponse:
        closed = await self._session_point.close(
            current_caller(),
            sessions.session_id(request),
            sessions.end_reason(request),
            chains.session_proof(request),
            deadline=deadline_of(context),
        )
        return messages.CloseSessionResponse(session=sessions.session_message(closed.session, closed.now))

    async def Delegate(self, request: messages.DelegateRequest, context: Any) -> messages.DelegateResponse:
        asked = grants.delegation(request)
        leaf = await self._delegation_point.delegate(current_caller(), asked, deadline=deadline_of(context))
        return grants.delegation_message(asked, leaf)

    async def RevokeGrant(
        self, request: messages.RevokeGrantRequest, context: Any
    ) -> messages.RevokeGrantResponse:
        asked = grants.revocation(request)
        revoked = await self._session_point.revoke_grant(
            current_caller(),
            asked.session_id,
            asked.grant_hash,
            chains.session_proof(request),
            reason=asked.reason,
            deadline=deadline_of(context),
        )
        return grants.revocation_message(revoked)

    async def RevokeSessionProofs(
        self, request: messages.RevokeSessionProofsRequest, context: Any
    ) -> messages.RevokeSessionProofsResponse:
        revoked = await self._session_point.revoke_proofs(
            current_caller(), sessions.session_id(request), reason=reason(request)
        )
        return sessions.revocation_message(revoked)
