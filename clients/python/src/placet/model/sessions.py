"""The run of a task."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from placet.model.boundary import Boundary
from placet.model.reasons import LimitStatus


class SessionState(StrEnum):
    """How far a session has come. Once it is closed, expired or halted, everything is blocked."""

    OPEN = "open"
    # The task is done: only tools of `Boundary.after_completion` are permitted.
    COMPLETED = "completed"
    CLOSED = "closed"
    EXPIRED = "expired"
    HALTED = "halted"


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """What a session is for. `id` is unique in the tenant; `prompt` has the words of the request."""

    id: str
    description: str = ""
    prompt: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class SessionWarning:
    """Something in a session's terms that is not registered, or can never be used, when it is opened."""

    # Stable; docs/tasks.md lists them.
    code: str
    # What it is about: "boundary.tools[0]".
    field: str
    message: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Session:
    """The run of a task, as it stood when the PDP answered.

    `agent` acts for `principal`, and `issuer` opened the session. `version` moves with every recorded
    decision and change of state.
    """

    session_id: str
    task: Task
    principal: str
    agent: str
    issuer: str
    boundary: Boundary
    state: SessionState
    version: int
    opened_at: datetime
    expires_at: datetime
    completed_at: datetime | None = None
    closed_at: datetime | None = None
    # The tenant's template: actions must lie within it too.
    template: Boundary | None = None
    # Decisions so far, by effect.
    decisions: Mapping[str, int] = field(default_factory=dict)
    # Every limit with what is used and left, from get_session(limits=True) only.
    limits: tuple[LimitStatus, ...] = ()
    # When all that proved part in it was revoked last.
    proofs_revoked_at: datetime | None = None
    # It was, and the session's issuer has not opened it since: nobody acts in it.
    proofs_ended: bool = False
    # The root grant, from open_session only: what the session's agent delegates from.
    grant: str = field(default="", compare=False, repr=False)
    # The session token, from open_session only: a secret that proves part in the session to every call that
    # is given this session.
    token: str = field(default="", compare=False, repr=False)
    # What whoever opened it has probably not meant, from open_session only.
    warnings: tuple[SessionWarning, ...] = field(default=(), compare=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class ProofRevocation:
    """What was revoked with all proofs of a session: what was issued before `revoked_at` proves nothing."""

    revoked_at: datetime
    # How many lived until then.
    tokens: int
    grants: int
