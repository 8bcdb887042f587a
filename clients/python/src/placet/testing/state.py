"""What the fake remembers of tenants and sessions, and its clock."""

from __future__ import annotations

import hmac
import secrets
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

from placet.model import Boundary, Effect, ProofRevocation, Session, SessionState, Task
from placet.testing.grants import FakeGrants
from placet.testing.script import Caller, Scripts

_MAX_TOKENS = 8
# The kinds of data whose revisions a decision names.
REVISED = ("settings", "tools", "agents", "signals", "entities")


class FakeState:
    """Tenants, sessions, grants and scripts of one fake, under one lock, which every method takes.

    A decision holds the lock from its first look until it is recorded, scripts included: nothing
    moves meanwhile, and decisions are taken one after the other.
    """

    def __init__(self, tenant: str) -> None:
        self.lock = threading.RLock()
        self.scripts = Scripts()
        self.grants = FakeGrants()
        self._offset = timedelta()
        self._tenants = {tenant}
        # By kind and tenant.
        self._revisions: dict[tuple[str, str], int] = {}
        # By tenant and tool, of tools that were registered.
        self._audiences: dict[tuple[str, str], str] = {}
        self._secrets: dict[tuple[str, str], tuple[str, ...]] = {}
        self._secret_key = secrets.token_bytes(32)
        # By tenant and session.
        self._sessions: dict[tuple[str, str], Session] = {}
        # The tokens of each session that live, oldest first.
        self._tokens: dict[tuple[str, str], list[str]] = {}
        # Tenants whose setting session_proof is id.
        self._taking_ids: set[str] = set()

    def now(self) -> datetime:
        return datetime.now(UTC) + self._offset

    def advance(self, by: timedelta) -> None:
        with self.lock:
            self._offset += by

    def knows(self, tenant: str) -> bool:
        return tenant in self._tenants

    def put(self, kind: str, tenant: str) -> int:
        """Move and return the revision of one kind of a tenant's data; "settings" creates the tenant."""
        with self.lock:
            if kind == "settings":
                self._tenants.add(tenant)
            revision = self._revisions.get((kind, tenant), 0) + 1
            self._revisions[kind, tenant] = revision
            return revision

    def data_revisions(self, tenant: str) -> dict[str, int]:
        """Return the revision of each kind of a tenant's data, as a decision names them."""
        return {kind: self._revisions.get((kind, tenant), 0) for kind in REVISED}

    def put_tool(self, tenant: str, tool: str, *, audience: str, secret_paths: tuple[str, ...]) -> None:
        """Note whom receipts for a registered tool are meant for (empty: nobody), and what is secret."""
        with self.lock:
            self._audiences[tenant, tool] = audience
            self._secrets[tenant, tool] = secret_paths

    def secret_paths(self, tenant: str, tool: str) -> tuple[str, ...]:
        """Return the paths of a registered tool's secret arguments."""
        return self._secrets.get((tenant, tool), ())

    def secret_salt(self, tenant: str, decision_id: str) -> bytes:
        """Return the salt of a decision's secrets: the same whenever it is asked for."""
        return hmac.digest(self._secret_key, f"{tenant}\0{decision_id}".encode(), "sha256")

    def audience(self, tenant: str, tool: str) -> str | None:
        """Return whom receipts for the tool are meant for; None: nobody registered the tool."""
        return self._audiences.get((tenant, tool))

    def open_session(
        self,
        caller: Caller,
        *,
        task: Task,
        principal: str,
        agent: str,
        boundary: Boundary,
        expires_at: datetime | None,
        issuer: str = "",
    ) -> Session:
        """Return the task's session, opened if it had none.

        `issuer` is that of the task token; empty: the caller, who presented none. Raises
        LookupError if the task's session was opened with something else.
        """
        issuer = issuer or caller.subject
        with self.lock:
            for (tenant, _), session in self._sessions.items():
                if tenant == caller.tenant and session.task.id == task.id:
                    opened_with = (session.issuer, session.principal, session.agent, session.boundary)
                    if opened_with != (issuer, principal, agent, boundary):
                        raise LookupError(f"the task {task.id} already has a session")
                    return self._as_of_now(session)
            now = self.now()
            session = Session(
                session_id=str(uuid4()),
                task=task,
                principal=principal,
                agent=agent,
                issuer=issuer,
                boundary=boundary,
                state=SessionState.OPEN,
                version=1,
                opened_at=now,
                expires_at=expires_at or now + timedelta(hours=1),
                decisions={"allow": 0, "block": 0, "escalate": 0},
            )
            self._sessions[caller.tenant, session.session_id] = session
            return session

    def issue_token(self, tenant: str, session_id: str) -> tuple[Session, str]:
        """Return the session as it is with a new token of it; of more than 8 the oldest end."""
        token = secrets.token_urlsafe(32)
        with self.lock:
            session = replace(self._sessions[tenant, session_id], proofs_ended=False)
            self._sessions[tenant, session_id] = session
            tokens = self._tokens.setdefault((tenant, session_id), [])
            tokens.append(token)
            del tokens[:-_MAX_TOKENS]
            return self._as_of_now(session), token

    def revoke_proofs(self, tenant: str, session_id: str, *, by: str, reason: str) -> ProofRevocation:
        """End all tokens and grants of the session; nothing proves part in it until it is opened again."""
        with self.lock:
            session, now = self._sessions[tenant, session_id], self.now()
            self._sessions[tenant, session_id] = replace(
                session, version=session.version + 1, proofs_revoked_at=now, proofs_ended=True
            )
            return ProofRevocation(
                revoked_at=now,
                tokens=len(self._tokens.pop((tenant, session_id), ())),
                grants=self.grants.revoke_all(session_id, by=by, reason=reason, now=now),
            )

    def take_ids(self, tenant: str, taken: bool) -> None:
        """Say whether, in the tenant, a session's id is proof enough."""
        with self.lock:
            (self._taking_ids.add if taken else self._taking_ids.discard)(tenant)

    def proves(self, tenant: str, session_id: str, token: str) -> bool:
        """Whether a token proves part in the session; in some tenants its id does, until that is revoked."""
        with self.lock:
            if token in self._tokens.get((tenant, session_id), ()):
                return True
            return tenant in self._taking_ids and not self._sessions[tenant, session_id].proofs_ended

    def find_session(self, tenant: str, session_id: str) -> Session | None:
        """Return the session as it is now: expired, if its time has passed."""
        with self.lock:
            session = self._sessions.get((tenant, session_id))
            return None if session is None else self._as_of_now(session)

    def complete_session(self, tenant: str, session_id: str) -> Session:
        """Complete an open session's task; return the session as it then is, whatever it was."""
        with self.lock:
            session = self._as_of_now(self._sessions[tenant, session_id])
            if session.state is SessionState.OPEN:
                session = replace(
                    session,
                    state=SessionState.COMPLETED,
                    version=session.version + 1,
                    completed_at=self.now(),
                )
                self._sessions[tenant, session_id] = session
            return session

    def close_session(self, tenant: str, session_id: str) -> Session:
        """End the session and return it; ending it again changes nothing."""
        with self.lock:
            session = self._sessions[tenant, session_id]
            endable = (SessionState.OPEN, SessionState.COMPLETED, SessionState.EXPIRED)
            if self._as_of_now(session).state in endable:
                session = replace(
                    session, state=SessionState.CLOSED, version=session.version + 1, closed_at=self.now()
                )
                self._sessions[tenant, session_id] = session
            return session

    def count_decision(self, tenant: str, session_id: str, effect: Effect) -> None:
        """Move the session's version and its count of decisions with this effect."""
        with self.lock:
            session = self._sessions[tenant, session_id]
            counts = {**session.decisions, str(effect): session.decisions[effect] + 1}
            self._sessions[tenant, session_id] = replace(
                session, version=session.version + 1, decisions=counts
            )

    def _as_of_now(self, session: Session) -> Session:
        if session.state is SessionState.OPEN and self.now() >= session.expires_at:
            return replace(session, state=SessionState.EXPIRED)
        return session
