"""The run of a task: OpenSession, GetSession, CompleteTask, CloseSession, RevokeSessionProofs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from placet._calls.action import Hops, chain_message, session_id_of, session_token_of
from placet._calls.boundary import boundary_message, read_boundary
from placet._calls.call import Call, read_instant, reader
from placet._calls.fields import instant, members, span, text
from placet._calls.reasons import read_limits
from placet._wire.numbers import SESSION_STATES
from placet.errors import AnswerError, invalid
from placet.model import Boundary, ProofRevocation, Session, SessionWarning, Task
from placet.v1 import session_service_pb2 as messages


def open_session(
    *,
    task: Task | Mapping[str, Any] | str | None,
    principal: str,
    agent: str,
    boundary: Boundary | Mapping[str, Any] | None,
    expires_in: timedelta | float | None,
    expires_at: datetime | None,
    task_token: str,
    principal_token: str,
) -> Call[Session]:
    return Call(
        request=open_session_request(
            task=task,
            principal=principal,
            agent=agent,
            boundary=boundary,
            expires_in=expires_in,
            expires_at=expires_at,
            task_token=task_token,
            principal_token=principal_token,
        ),
        read=reader(messages.OpenSessionResponse, _read_opened),
    )


def open_session_request(
    *,
    task: Task | Mapping[str, Any] | str | None,
    principal: str,
    agent: str,
    boundary: Boundary | Mapping[str, Any] | None,
    expires_in: timedelta | float | None,
    expires_at: datetime | None,
    task_token: str = "",
    principal_token: str = "",
) -> messages.OpenSessionRequest:
    """Return the request. A task token says everything; what is given beside it must say the same."""
    if not task_token:
        for name, missing in (("task", task is None), ("agent", agent == ""), ("boundary", boundary is None)):
            if missing:
                raise invalid(name, "is required")
        if not principal and not principal_token:
            raise invalid("principal", "is required")
    message = messages.OpenSessionRequest(
        principal=text(principal, "principal"),
        agent=text(agent, "agent"),
        task_token=text(task_token, "task_token"),
        principal_token=text(principal_token, "principal_token"),
    )
    if task is not None:
        message.task.CopyFrom(_task_message(task))
    if boundary is not None:
        message.boundary.CopyFrom(boundary_message(boundary))
    set_expiry(message, expires_in, expires_at)
    return message


def get_session(session: Session | str, chain: Hops, *, limits: bool) -> Call[Session]:
    return Call(
        request=messages.GetSessionRequest(
            session_id=session_id_of(session),
            session_token=session_token_of(session),
            chain=chain_message(chain),
            with_limits=limits,
        ),
        read=reader(messages.GetSessionResponse, _read_shown),
    )


def complete_task(session: Session | str, reason: str) -> Call[Session]:
    return Call(
        request=messages.CompleteTaskRequest(
            session_id=session_id_of(session), reason=text(reason, "reason")
        ),
        read=reader(messages.CompleteTaskResponse, _read_session_of),
    )


def close_session(session: Session | str, reason: str, chain: Hops) -> Call[Session]:
    return Call(
        request=messages.CloseSessionRequest(
            session_id=session_id_of(session),
            reason=text(reason, "reason"),
            session_token=session_token_of(session),
            chain=chain_message(chain),
        ),
        read=reader(messages.CloseSessionResponse, _read_session_of),
    )


def revoke_session_proofs(session: Session | str, reason: str) -> Call[ProofRevocation]:
    return Call(
        request=messages.RevokeSessionProofsRequest(
            session_id=session_id_of(session), reason=text(reason, "reason")
        ),
        read=reader(messages.RevokeSessionProofsResponse, _read_revocation),
    )


def set_expiry(
    message: messages.OpenSessionRequest | messages.DelegateRequest,
    expires_in: timedelta | float | None,
    expires_at: datetime | None,
) -> None:
    """Set the expiry: after a span from now, or at an instant; without either the server decides."""
    if expires_in is not None and expires_at is not None:
        raise invalid("expires_at", "give expires_in or expires_at, not both")
    if expires_in is not None:
        expires_at = datetime.now(UTC) + span(expires_in, "expires_in")
    if expires_at is not None:
        message.expires_at.CopyFrom(instant(expires_at, "expires_at"))


def _task_message(value: Task | Mapping[str, Any] | str) -> messages.Task:
    if isinstance(value, str):
        task = Task(id=value)
    elif isinstance(value, Task):
        task = value
    else:
        task = Task(**members(value, "task", ("id", "description", "prompt"), required=("id",)))
    return messages.Task(
        id=text(task.id, "task.id"),
        description=text(task.description, "task.description"),
        prompt=text(task.prompt, "task.prompt"),
    )


def _read_revocation(answer: messages.RevokeSessionProofsResponse) -> ProofRevocation:
    if not answer.HasField("revoked_at"):
        raise AnswerError("the answer does not say when the proofs were revoked")
    return ProofRevocation(
        revoked_at=read_instant(answer.revoked_at, "revoked_at"),
        tokens=answer.tokens,
        grants=answer.grants,
    )


def _read_opened(answer: messages.OpenSessionResponse) -> Session:
    return replace(
        _read_session_of(answer),
        grant=answer.grant,
        token=answer.session_token,
        warnings=tuple(
            SessionWarning(code=item.code, field=item.field, message=item.message) for item in answer.warnings
        ),
    )


def _read_session_of(
    answer: messages.OpenSessionResponse
    | messages.GetSessionResponse
    | messages.CompleteTaskResponse
    | messages.CloseSessionResponse,
) -> Session:
    if not answer.HasField("session"):
        raise AnswerError("the answer has no session")
    return _read_session(answer.session)


def _read_shown(answer: messages.GetSessionResponse) -> Session:
    return replace(_read_session_of(answer), limits=read_limits(answer.limits))


def _read_session(message: messages.Session) -> Session:
    if not message.session_id:
        raise AnswerError("the answer has no session_id")
    if message.state not in SESSION_STATES:
        raise AnswerError(f"the session's state {message.state} is unknown")
    return Session(
        session_id=message.session_id,
        task=Task(id=message.task.id, description=message.task.description, prompt=message.task.prompt),
        principal=message.principal,
        agent=message.agent,
        issuer=message.issuer,
        boundary=read_boundary(message.boundary),
        state=SESSION_STATES[message.state],
        version=message.version,
        opened_at=read_instant(message.opened_at, "opened_at"),
        expires_at=read_instant(message.expires_at, "expires_at"),
        completed_at=read_instant(message.completed_at, "completed_at")
        if message.HasField("completed_at")
        else None,
        closed_at=read_instant(message.closed_at, "closed_at") if message.HasField("closed_at") else None,
        template=read_boundary(message.template) if message.HasField("template") else None,
        decisions=dict(message.decisions),
        proofs_revoked_at=read_instant(message.proofs_revoked_at, "proofs_revoked_at")
        if message.HasField("proofs_revoked_at")
        else None,
        proofs_ended=message.proofs_ended,
    )
