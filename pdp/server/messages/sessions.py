"""Sessions: what one is opened with, what is shown of it, and which tools it leaves."""

from __future__ import annotations

from datetime import datetime

from pdp.model import ProofRevocation, Session, Task
from pdp.names import MAX_DESCRIPTION, MAX_PROMPT, name, text
from pdp.server.messages.boundary import boundary_of
from pdp.server.messages.fields import MAX_TEXT, instant_of, timestamp
from pdp.sessions.allowed_tools import AllowedTools
from pdp.sessions.opening import OpeningRequest
from placet._wire.boundary import boundary_message
from placet._wire.numbers import SESSION_STATE_NUMBERS
from placet.task_token import MAX_BYTES as MAX_TASK_TOKEN
from placet.v1 import decision_service_pb2 as decisions
from placet.v1 import session_service_pb2 as messages


def opening(message: messages.OpenSessionRequest) -> OpeningRequest:
    return OpeningRequest(
        task=_task(message.task) if message.HasField("task") else None,
        principal=message.principal,
        agent=message.agent,
        boundary=boundary_of(message.boundary) if message.HasField("boundary") else None,
        expires_at=instant_of(message.expires_at, "expires_at") if message.HasField("expires_at") else None,
        principal_token=message.principal_token,
        task_token=text(message.task_token, "task_token", MAX_TASK_TOKEN),
    )


def session_id(
    message: messages.GetSessionRequest
    | messages.CompleteTaskRequest
    | messages.CloseSessionRequest
    | messages.RevokeSessionProofsRequest
    | decisions.ListAllowedToolsRequest,
) -> str:
    return name(message.session_id, "session_id")


def end_reason(message: messages.CompleteTaskRequest | messages.CloseSessionRequest) -> str:
    return text(message.reason, "reason", MAX_TEXT)


def session_message(session: Session, now: datetime, *, counted: bool = True) -> messages.Session:
    """`now` is the database's time, by which the state is judged; `counted` whether decisions are counted."""
    message = messages.Session(
        session_id=session.session_id,
        task=messages.Task(
            id=session.task.id, description=session.task.description, prompt=session.task.prompt
        ),
        principal=session.principal,
        agent=session.agent,
        issuer=session.issuer,
        boundary=boundary_message(session.boundary),
        template=None if session.template is None else boundary_message(session.template),
        state=SESSION_STATE_NUMBERS[session.state_at(now)],
        version=session.version,
        opened_at=timestamp(session.opened_at),
        expires_at=timestamp(session.expires_at),
        decisions={
            "allow": session.aggregates.allow,
            "block": session.aggregates.block,
            "escalate": session.aggregates.escalate,
        }
        if counted
        else {},
        proofs_ended=session.proofs_ended,
    )
    if session.proofs_revoked_at is not None:
        message.proofs_revoked_at.FromDatetime(session.proofs_revoked_at)
    if session.completed_at is not None:
        message.completed_at.FromDatetime(session.completed_at)
    if session.closed_at is not None:
        message.closed_at.FromDatetime(session.closed_at)
    return message


def revocation_message(revoked: ProofRevocation) -> messages.RevokeSessionProofsResponse:
    return messages.RevokeSessionProofsResponse(
        revoked_at=timestamp(revoked.revoked_at), tokens=revoked.tokens, grants=revoked.grants
    )


def allowed_tools_message(allowed: AllowedTools) -> decisions.ListAllowedToolsResponse:
    return decisions.ListAllowedToolsResponse(
        tools=[
            decisions.AllowedTool(
                name=tool.name,
                description=tool.description,
                arguments_schema=tool.arguments_schema.encode(),
            )
            for tool in allowed.tools
        ],
        tools_revision=allowed.tools_revision,
        session_version=allowed.session_version,
    )


def _task(message: messages.Task) -> Task:
    return Task(
        id=name(message.id, "task.id"),
        description=text(message.description, "task.description", MAX_DESCRIPTION),
        prompt=text(message.prompt, "task.prompt", MAX_PROMPT),
    )
