"""The run of a task."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from pdp.model.attribution import Attribution
from pdp.model.boundary import Boundary
from pdp.model.limits import Bucket
from placet.model import SessionState as SessionState
from placet.model import SessionWarning as SessionWarning


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """What a session is for. `description` and `prompt` are for people, and never judged."""

    id: str
    description: str = ""
    # What the principal asked for, word for word.
    prompt: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Aggregates:
    """A session's history in numbers. Kept up by the recording transaction only."""

    allow: int = 0
    block: int = 0
    escalate: int = 0
    # When payments were allowed, oldest first.
    pay: tuple[Bucket, ...] = ()


class SessionScope(NamedTuple):
    """What a session was opened for. It never changes, and every permission and limit rests on it."""

    session_id: str
    task_id: str
    principal: str
    boundary: Boundary
    # None: the tenant had none when the session was opened.
    template: Boundary | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Session:
    """One run of a task by an agent, on a principal's behalf, within a boundary."""

    session_id: str
    task: Task
    # Whose task it is: "user:anna".
    principal: str
    # The session's own agent, whom all delegation starts from.
    agent: str
    # Subject of whoever opened it.
    issuer: str
    boundary: Boundary
    # The state as it was written: `state_at` takes expiry into account.
    state: SessionState
    # Moves with every decision and with every change of the state.
    version: int
    opened_at: datetime
    expires_at: datetime
    closed_at: datetime | None = None
    completed_at: datetime | None = None
    # The tenant's template as it stood at opening; None: it had none.
    template: Boundary | None = None
    aggregates: Aggregates = Aggregates()
    # SHA-256 of the signed part of the session's latest receipt.
    last_receipt: bytes | None = None
    # False: it was opened by a server that issued no session tokens, and its id is enough.
    token_required: bool = True
    # When every token and grant that it had then was revoked; None: never.
    proofs_revoked_at: datetime | None = None
    # They were, and its issuer has not opened it since: nothing proves part in it.
    proofs_ended: bool = False

    @property
    def scope(self) -> SessionScope:
        """What the session was opened for."""
        return SessionScope(self.session_id, self.task.id, self.principal, self.boundary, self.template)

    def state_at(self, now: datetime) -> SessionState:
        """Return the state at an instant of the database's clock, expiry included."""
        if self.state in (SessionState.OPEN, SessionState.COMPLETED) and now >= self.expires_at:
            return SessionState.EXPIRED
        return self.state


class SessionSnapshot(NamedTuple):
    """A session as it was read, and the database's time then: together they say its state."""

    session: Session
    now: datetime


# Tokens of one session that live at a time.
MAX_TOKENS = 8


def session_token_hash(token: str) -> str:
    """Return the hex SHA-256 of a session token, which is all that the server keeps of it."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenIssue:
    """A session token that is to be stored with the opening of its session."""

    token_hash: str
    # Who opens the session.
    by: Attribution
    # When the task was signed that opens it; None: its issuer opens it itself.
    task_issued_at: datetime | None = None


class StoredOpening(NamedTuple):
    """A session as it stands once it was opened, and what that did to its tokens."""

    session: Session
    # How many tokens that lived until then have ended, because too many lived.
    ended_tokens: int = 0


class ProofRevocation(NamedTuple):
    """What revoking all proofs of a session has ended."""

    revoked_at: datetime
    # How many lived until then.
    tokens: int
    grants: int


@dataclass(frozen=True, kw_only=True, slots=True)
class SessionTerms:
    """What a session is to be opened with."""

    issuer: str
    task: Task
    principal: str
    agent: str
    boundary: Boundary
    # None: an hour from opening.
    expires_at: datetime | None
    # The id of the task token that asked for it; empty without one.
    token_id: str = ""
    # When that token was issued, in whole seconds; None without one.
    issued_at: datetime | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class IssuerKeys:
    """The public keys (JWK members) that an issuer signs task tokens with; none: all are revoked."""

    issuer: str
    keys: tuple[Mapping[str, str], ...]
    revision: int = 0
    written_at: datetime | None = None
    # None: an earlier release wrote them, which kept no author.
    by: Attribution | None = None

    def by_id(self) -> dict[str, Mapping[str, str]]:
        """Return the keys by their `kid`."""
        return {key["kid"]: key for key in self.keys}


class IssuerKeysSnapshot(NamedTuple):
    """An issuer's keys as they were read, and the tenant's epoch then: it moves when they change."""

    # None: the tenant knows no such issuer.
    keys: IssuerKeys | None
    epoch: int


class IssuerList(NamedTuple):
    """All issuers of a tenant, by name, at a revision."""

    revision: int
    issuers: Sequence[IssuerKeys]


@dataclass(frozen=True, kw_only=True, slots=True)
class SessionMove:
    """What recording does to the session: from `version` to `version + 1`."""

    session_id: str
    version: int
    expires_at: datetime
    aggregates: Aggregates
    # True for an allow: the session must not have expired at commit.
    must_be_live: bool
