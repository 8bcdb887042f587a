"""The run of a task from opening to end, whatever protocol the caller speaks."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

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
from pdp.model import (
    Attribution,
    Caller,
    GrantRow,
    LimitStatus,
    ProofRevocation,
    Role,
    Session,
    SessionProof,
    SessionSnapshot,
    SessionState,
    SessionWarning,
    StoredOpening,
    TokenIssue,
    VerifiedHop,
    session_token_hash,
)
from pdp.overload.rate import Rate
from pdp.ports import Clock, ControlPlane, GrantStore, SessionStore, TokenAuthenticator
from pdp.sessions import task_tokens
from pdp.sessions.limits import SessionLimits
from pdp.sessions.opening import (
    OpeningRequest,
    check_beside,
    new_session,
    new_session_token,
    stated_terms,
)
from pdp.sessions.ownership import (
    asked_for,
    may_close,
    may_revoke,
    may_revoke_proofs,
    may_see,
    needs_proof,
)
from pdp.sessions.proof import Proofs
from pdp.sessions.task_tokens import ISSUER_PREFIX
from pdp.sessions.warnings import find_warnings
from pdp.uuid7 import uuid7

_LOG = structlog.get_logger("pdp.sessions")
# Something that operators write would have to move in between as often.
_MAX_OPENINGS = 8


@dataclass(frozen=True, kw_only=True, slots=True)
class OpenedSession:
    """A session that is open now, or whose task already had it."""

    session: Session
    # The database's time.
    now: datetime
    # A new root grant (compact JWS), stored before anybody has it; empty where there can be none.
    grant: str
    # A new token that proves part in the session; empty if it is over. Nobody else has it, nor do we.
    session_token: str = field(repr=False)
    # `jti` of the task token that asked for the session; empty without one.
    token_id: str = ""
    # What its terms name that is not registered, or can never be used.
    warnings: tuple[SessionWarning, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class ShownSession:
    """A session as somebody may see it."""

    session: Session
    # The database's time.
    now: datetime
    # The chain by which an agent sees it to whom something was delegated; empty for all others.
    held: tuple[VerifiedHop, ...] = ()


class SessionPoint:
    """Opens, shows and ends sessions, and revokes the grants in them, for those who may.

    A session that the caller may not see, or may not end, does not exist for it: `NotFoundError`.
    Every method raises `StoreUnavailableError` when the database does not answer.
    """

    def __init__(
        self,
        *,
        sessions: SessionStore,
        clock: Clock,
        control_plane: ControlPlane,
        grants: GrantStore,
        delegations: DelegationPoint,
        proofs: Proofs,
        limits: SessionLimits,
        principals: TokenAuthenticator | None = None,
        principal_required: bool = False,
    ) -> None:
        """`principals` checks principal tokens; None: principals are whom session issuers name, and
        prove nothing. With `principal_required` a session issuer must bring such a token."""
        self._sessions = sessions
        self._clock = clock
        self._control_plane = control_plane
        self._grants = grants
        self._delegations = delegations
        self._proofs = proofs
        self._limits = limits
        self._principals = principals
        self._principal_required = principal_required
        # A revocation holds up decisions for a moment: of a grant those of its tenant, of a session's proofs
        # those of the session.
        self._revocations = Rate(name="revocations", what="revocations", burst=50, per_second=10)

    async def open(self, caller: Caller, asked: OpeningRequest) -> OpenedSession:
        """Open a session for a session issuer, or for who carries a task that an issuer has signed.

        A task has one session: asked for again with equal terms, the same one is returned. Raises
        `PermissionDeniedError`, `InvalidFieldError`, `TaskExistsError`, `TenantUnknownError`,
        `SessionContendedError`, `SignerUnavailableError`.
        """
        principal = await self._proven_principal(caller, asked.principal_token)
        if asked.task_token:
            return await self._open_signed(caller, asked, principal)
        if Role.SESSION_ISSUER not in caller.roles:
            raise PermissionDeniedError("OpenSession needs the role session_issuer, or a task_token")
        if caller.subject.startswith(ISSUER_PREFIX):
            raise PermissionDeniedError(
                f"issuers of task tokens are called {ISSUER_PREFIX}…, and you are none"
            )
        if self._principals is not None and self._principal_required and not principal:
            raise InvalidFieldError("principal_token", "is required here (principal_tokens: required)")
        terms = stated_terms(asked, issuer=caller.subject, principal=principal)
        now = await self._clock.now()
        token = new_session_token()
        stored = await self._sessions.open(
            caller.tenant,
            new_session(terms, session_id=uuid7(now), now=now),
            token=TokenIssue(token_hash=session_token_hash(token), by=_author(caller)),
        )
        return await self._opened(caller, stored, now, token)

    async def get(
        self, caller: Caller, session_id: str, proof: SessionProof, *, deadline: float
    ) -> ShownSession:
        """Return a session that the caller may see. `deadline` is an instant of `time.monotonic()`.

        Raises `NotFoundError`; `SessionUnprovenError` for its agent that does not prove its part in it.
        """
        found = await self._sessions.get(caller.tenant, session_id)
        if found is not None and may_see(caller, found.session):
            if needs_proof(caller, found.session):
                await self._proofs.require(caller, found.session, proof, deadline=deadline)
            return ShownSession(session=found.session, now=found.now)
        # Asked for also where there is no session, so that a stranger's chain tells it nothing.
        held = await self._proofs.held(caller, session_id, proof, deadline=deadline)
        if found is None or not held:
            raise NotFoundError(f"no session {session_id} of yours")
        return ShownSession(session=found.session, now=found.now, held=held)

    async def limits(
        self, caller: Caller, shown: ShownSession, *, deadline: float
    ) -> tuple[LimitStatus, ...]:
        """Return the limits of a session that the caller was shown, as far as it may see them.

        `deadline` is an instant of `time.monotonic()`.
        """
        return await self._limits.read(caller, shown.session, held=shown.held, deadline=deadline)

    async def complete(self, caller: Caller, session_id: str, reason: str) -> SessionSnapshot:
        """Complete the session's task, for who asked for it; again changes nothing.

        Raises `NotFoundError`, and `SessionOverError` for a session that ended otherwise.
        """
        seen = await self._find_own(caller, session_id)
        if not asked_for(caller, seen.session):
            raise NotFoundError(f"no session {session_id} whose task you may complete")
        completed = await self._ended(
            session_id, await self._sessions.complete(caller.tenant, session_id, reason)
        )
        state = completed.session.state_at(completed.now)
        if state is not SessionState.COMPLETED:
            raise SessionOverError(f"the session is {state}, so its task cannot be completed")
        return completed

    async def close(
        self, caller: Caller, session_id: str, reason: str, proof: SessionProof, *, deadline: float
    ) -> SessionSnapshot:
        """End a session; again changes nothing.

        Raises as `get`; for who may only read it, `NotFoundError`.
        """
        found = await self._find_own(caller, session_id)
        if needs_proof(caller, found.session):
            await self._proofs.require(caller, found.session, proof, deadline=deadline)
        return await self._ended(session_id, await self._sessions.close(caller.tenant, session_id, reason))

    async def revoke_grant(
        self,
        caller: Caller,
        session_id: str,
        grant_hash: str,
        proof: SessionProof,
        *,
        reason: str,
        deadline: float,
    ) -> GrantRow:
        """Revoke a grant of the session, and with it all that was delegated from it.

        Returns the grant as it then is; revoking again changes nothing, the first reason included.
        `deadline` is an instant of `time.monotonic()`. Raises `NotFoundError`; `SessionUnprovenError`
        for an agent that does not prove its part in the session; and `OverloadedError` for a caller,
        other than an operator, that revokes too often.
        """
        unknown = f"no grant of the session {session_id} that you may revoke"
        found = await self._sessions.get(caller.tenant, session_id)
        path = await self._grants.grant_path(caller.tenant, grant_hash)
        if (
            found is None
            or not path
            or path[-1].session_id != session_id
            or not may_revoke(caller, found.session, path)
        ):
            raise NotFoundError(unknown)
        if needs_proof(caller, found.session):
            await self._proofs.require(caller, found.session, proof, deadline=deadline)
        if path[-1].revoked_at is not None:
            return path[-1]
        if Role.OPERATOR not in caller.roles:
            self._revocations.charge(caller)
        revoked = await self._grants.revoke_grant(caller.tenant, grant_hash, by=caller.subject, reason=reason)
        if revoked is None:
            raise NotFoundError(unknown)
        return revoked

    async def revoke_proofs(self, caller: Caller, session_id: str, *, reason: str) -> ProofRevocation:
        """Revoke all that proves part in the session: its tokens, its root grants and what comes of them.

        No allow that rests on them is recorded any more. Until its issuer opens the session again nobody
        acts in it; a task token opens it only if it was issued after this. Who asked for the task, and
        operators, may do it. Raises `NotFoundError`, and `OverloadedError` for a caller, other than an
        operator, that revokes too often.
        """
        found = await self._sessions.get(caller.tenant, session_id)
        if found is None or not may_revoke_proofs(caller, found.session):
            raise NotFoundError(f"no session {session_id} whose proofs you may revoke")
        if Role.OPERATOR not in caller.roles:
            self._revocations.charge(caller)
        by = _author(caller, reason)
        revoked = await self._sessions.revoke_proofs(caller.tenant, session_id, by=by)
        if revoked is None:
            raise NotFoundError(f"no session {session_id} whose proofs you may revoke")
        _LOG.info(
            "session_proofs_revoked",
            tenant=caller.tenant,
            session_id=session_id,
            tokens=revoked.tokens,
            grants=revoked.grants,
            subject=by.subject,
            issuer=by.issuer,
            reason=by.reason,
        )
        return revoked

    async def _open_signed(self, caller: Caller, asked: OpeningRequest, principal: str) -> OpenedSession:
        """Open what the task token says, on keys that are its issuer's still when it is committed."""
        token = task_tokens.read(asked.task_token)
        for _ in range(_MAX_OPENINGS):
            keys, epoch = await self._control_plane.keys_of(caller.tenant, token.issuer)
            now = await self._clock.now()
            signed = task_tokens.prove(token, keys, tenant=caller.tenant, now=now)
            if Role.SESSION_ISSUER not in caller.roles and signed.agent not in caller.agents:
                raise PermissionDeniedError("the task token is for an agent that you do not speak for")
            check_beside(asked, signed, principal=principal)
            session, proof = new_session(signed, session_id=uuid7(now), now=now), new_session_token()
            issue = TokenIssue(
                token_hash=session_token_hash(proof), by=_author(caller), task_issued_at=signed.issued_at
            )
            try:
                stored = await self._sessions.open(caller.tenant, session, epoch=epoch, token=issue)
            except SessionMovedError:
                continue
            return await self._opened(caller, stored, now, proof, token_id=signed.token_id)
        raise SessionContendedError(retry_after=1.0)

    async def _opened(
        self, caller: Caller, stored: StoredOpening, now: datetime, token: str, *, token_id: str = ""
    ) -> OpenedSession:
        session = stored.session
        if stored.ended_tokens:
            _LOG.info(
                "session_tokens_ended",
                tenant=caller.tenant,
                session_id=session.session_id,
                tokens=stored.ended_tokens,
                subject=caller.subject,
                issuer=caller.issuer,
            )
        try:
            grant = await self._delegations.root(caller.tenant, session, now)
        except SessionMovedError as exc:
            # The token was revoked before its owner had it.
            raise SessionContendedError(retry_after=1.0) from exc
        live = session.state_at(now) in (SessionState.OPEN, SessionState.COMPLETED)
        outline = await self._control_plane.outline(caller.tenant, session.agent) if live else None
        return OpenedSession(
            session=session,
            now=now,
            grant=grant,
            session_token=token if live else "",
            token_id=token_id,
            warnings=() if outline is None else find_warnings(session, outline),
        )

    async def _find_own(self, caller: Caller, session_id: str) -> SessionSnapshot:
        found = await self._sessions.get(caller.tenant, session_id)
        if found is None or not may_close(caller, found.session):
            raise NotFoundError(f"no session {session_id} of yours")
        return found

    async def _ended(self, session_id: str, session: Session | None) -> SessionSnapshot:
        if session is None:
            raise NotFoundError(f"no session {session_id} of yours")
        return SessionSnapshot(session=session, now=await self._clock.now())

    async def _proven_principal(self, caller: Caller, token: str) -> str:
        """Return whom the principal token proves; empty without one."""
        if not token:
            return ""
        if self._principals is None:
            raise InvalidFieldError(
                "principal_token", "cannot be checked: no issuer of tokens is configured (jwt)"
            )
        try:
            principal = await self._principals.by_token(token)
        except UnauthenticatedError as exc:
            # Who calls is known; whom it names is not.
            raise PermissionDeniedError(f"principal_token: {exc}") from exc
        if principal.tenant != caller.tenant:
            raise PermissionDeniedError("principal_token: is of another tenant")
        return principal.subject


def _author(caller: Caller, reason: str = "") -> Attribution:
    return Attribution(subject=caller.subject, issuer=caller.issuer, reason=reason)
