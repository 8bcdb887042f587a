"""The `SessionStore` of the store in memory."""

from __future__ import annotations

from dataclasses import replace

from pdp.authority.settings import boundary_template
from pdp.errors import InvalidFieldError, PermissionDeniedError, SessionMovedError, TaskExistsError
from pdp.model import (
    MAX_TOKENS,
    Attribution,
    ProofRevocation,
    Session,
    SessionSnapshot,
    SessionState,
    StoredOpening,
    TokenIssue,
)
from tests.fakes.store.state import LIVE, StoreState


class FakeSessionStore:
    def __init__(self, state: StoreState) -> None:
        self._state = state

    async def open(
        self, tenant: str, session: Session, *, epoch: int | None = None, token: TokenIssue | None = None
    ) -> StoredOpening:
        opened = await self._open(tenant, session, epoch=epoch)
        if token is None:
            return StoredOpening(opened)
        revoked_at, signed_at = opened.proofs_revoked_at, token.task_issued_at
        if revoked_at is not None and signed_at is not None and signed_at <= revoked_at:
            raise PermissionDeniedError("the task token was issued before the proofs were revoked")
        opened = replace(opened, proofs_ended=False)
        self._state.sessions[tenant, opened.session_id] = opened
        tokens = self._state.tokens.setdefault((tenant, opened.session_id), [])
        tokens.append(token.token_hash)
        ended = max(0, len(tokens) - MAX_TOKENS)
        del tokens[:ended]
        return StoredOpening(opened, ended_tokens=ended)

    async def _open(self, tenant: str, session: Session, *, epoch: int | None) -> Session:
        self._state.check_up()
        if epoch not in (None, self._state.tenant(tenant).epoch):
            raise SessionMovedError("the tenant's epoch moved")
        for (owner, _), existing in self._state.sessions.items():
            if owner == tenant and existing.task.id == session.task.id:
                same = ("issuer", "principal", "agent", "boundary")
                if any(getattr(existing, name) != getattr(session, name) for name in same):
                    raise TaskExistsError(f"the task {session.task.id} already has a session")
                return existing
        if session.expires_at <= self._state.moment:
            raise InvalidFieldError("expires_at", "is in the past")
        if (tenant, session.session_id) in self._state.sessions:
            raise InvalidFieldError("session.session_id", "is another session's")
        session = replace(session, template=boundary_template(self._state.tenant(tenant).settings))
        self._state.sessions[tenant, session.session_id] = session
        return session

    async def get(self, tenant: str, session_id: str) -> SessionSnapshot | None:
        self._state.check_up()
        session = self._state.sessions.get((tenant, session_id))
        return None if session is None else SessionSnapshot(session, self._state.moment)

    async def complete(self, tenant: str, session_id: str, reason: str) -> Session | None:
        self._state.check_up()
        session = self._state.sessions.get((tenant, session_id))
        if session is not None and session.state_at(self._state.moment) is SessionState.OPEN:
            session = replace(
                session,
                state=SessionState.COMPLETED,
                version=session.version + 1,
                completed_at=self._state.moment,
            )
            self._state.sessions[tenant, session_id] = session
        return session

    async def close(self, tenant: str, session_id: str, reason: str) -> Session | None:
        self._state.check_up()
        session = self._state.sessions.get((tenant, session_id))
        if session is not None and session.state in LIVE:
            session = replace(
                session, state=SessionState.CLOSED, version=session.version + 1, closed_at=self._state.moment
            )
            self._state.sessions[tenant, session_id] = session
        return session

    async def revoke_proofs(self, tenant: str, session_id: str, *, by: Attribution) -> ProofRevocation | None:
        self._state.check_up()
        session, now = self._state.sessions.get((tenant, session_id)), self._state.moment
        if session is None:
            return None
        grants = self._state.tenant(tenant).grants
        alive = [row for row in grants.values() if row.session_id == session_id and row.revoked_at is None]
        for row in alive:
            grants[row.grant_hash] = row._replace(
                revoked_at=now, revoked_by=by.subject, revoke_reason=by.reason
            )
        tokens = self._state.tokens.pop((tenant, session_id), [])
        self._state.sessions[tenant, session_id] = replace(
            session,
            version=session.version + 1,
            token_required=True,
            proofs_ended=True,
            proofs_revoked_at=now,
        )
        return ProofRevocation(revoked_at=now, tokens=len(tokens), grants=len(alive))
