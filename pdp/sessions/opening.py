"""From what is asked for to the terms of a session, and from these to the session. Pure."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta

from pdp.errors import InvalidFieldError
from pdp.model import Boundary, Session, SessionState, SessionTerms, Task
from pdp.names import name

# How long a session lives whose terms do not say it, and the longest that any may live.
DEFAULT_LIFETIME = timedelta(hours=1)
MAX_LIFETIME = timedelta(days=30)


@dataclass(frozen=True, kw_only=True, slots=True)
class OpeningRequest:
    """A request to open a session. Empty text and None say nothing.

    With a task token everything else may be left out, and must not contradict the token.
    """

    task: Task | None = None
    principal: str = ""
    agent: str = ""
    boundary: Boundary | None = None
    expires_at: datetime | None = None
    # A bearer token that proves who the principal is.
    principal_token: str = ""
    task_token: str = ""


def stated_terms(asked: OpeningRequest, *, issuer: str, principal: str) -> SessionTerms:
    """Return the terms that a session issuer states by itself, without a task token.

    `principal` is whom the principal token proved; empty without one. Raises `InvalidFieldError`
    for what is missing, and for a stated principal who is not the proven one.
    """
    if asked.task is None:
        raise InvalidFieldError("task", "is required")
    if principal and asked.principal not in ("", principal):
        raise InvalidFieldError("principal", "is not the subject of principal_token")
    return SessionTerms(
        issuer=issuer,
        task=asked.task,
        principal=principal or name(asked.principal, "principal"),
        agent=name(asked.agent, "agent"),
        boundary=Boundary() if asked.boundary is None else asked.boundary,
        expires_at=asked.expires_at,
    )


def check_beside(asked: OpeningRequest, signed: SessionTerms, *, principal: str) -> None:
    """Raise `InvalidFieldError` for a field that contradicts the task token beside it."""
    if principal and principal != signed.principal:
        raise InvalidFieldError("principal_token", "is of another principal than task_token")
    for field, said, proven in (
        ("task", asked.task, signed.task),
        ("principal", asked.principal or None, signed.principal),
        ("agent", asked.agent or None, signed.agent),
        ("boundary", asked.boundary, signed.boundary),
        ("expires_at", asked.expires_at, signed.expires_at),
    ):
        if said is not None and said != proven:
            raise InvalidFieldError(field, "is not what task_token says; leave it out")


def new_session_token() -> str:
    """Return a new session token: 256 random bits in base64url (RFC 4648, section 5)."""
    return secrets.token_urlsafe(32)


def new_session(terms: SessionTerms, *, session_id: str, now: datetime) -> Session:
    """Return the session to open. `now` is the database's time.

    Raises `InvalidFieldError` unless the session ends after `now`, and within `MAX_LIFETIME`.
    """
    expires_at = now + DEFAULT_LIFETIME if terms.expires_at is None else terms.expires_at
    if not now < expires_at <= now + MAX_LIFETIME:
        raise InvalidFieldError("expires_at", f"must lie ahead, by {MAX_LIFETIME.days} days at most")
    return Session(
        session_id=session_id,
        task=terms.task,
        principal=terms.principal,
        agent=terms.agent,
        issuer=terms.issuer,
        boundary=terms.boundary,
        state=SessionState.OPEN,
        version=1,
        opened_at=now,
        expires_at=expires_at,
    )
