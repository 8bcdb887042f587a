"""Messages to the client's values. Raises `AnswerError` for what is not whole or not known."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError, Message
from google.protobuf.timestamp_pb2 import Timestamp

from placet._calls.boundary import read_boundary
from placet._wire.numbers import EFFECTS, HOLD_STATES, OUTCOMES, SESSION_STATES
from placet.canonical import CanonicalError, parse_object
from placet.errors import AnswerError, UnknownEffectError
from placet.model import (
    AllowedTool,
    Chain,
    ChainHop,
    ChainLink,
    Decision,
    Effect,
    Entity,
    Grant,
    HoldState,
    Hop,
    IssuerKeys,
    Obligation,
    OpenDecision,
    Outcome,
    PolicyRevision,
    Position,
    Reason,
    Reported,
    Review,
    Session,
    Simulation,
    Task,
    ToolRevision,
)
from placet.v1 import admin_service_pb2 as admin
from placet.v1 import decision_pb2 as nouns
from placet.v1 import decision_service_pb2 as decisions
from placet.v1 import entity_service_pb2 as entities
from placet.v1 import session_service_pb2 as sessions

M = TypeVar("M", bound=Message)


def read(kind: type[M], data: bytes) -> M:
    """Parse a message."""
    try:
        return kind.FromString(data)
    except DecodeError as exc:
        raise AnswerError(f"the answer is not a {kind.DESCRIPTOR.name}") from exc


def tool_revision(message: admin.ToolRevision) -> ToolRevision:
    return ToolRevision(
        revision=message.revision,
        written_at=_instant(message.written_at, "revision.written_at"),
        written=tuple(message.written),
        removed=tuple(message.removed),
    )


def entity(message: entities.EntityVersion) -> Entity:
    if not message.name.id or not message.revision:
        raise AnswerError("the answer has no entity")
    attributes = None
    if not message.deleted:
        try:
            attributes = parse_object(message.attributes, field="entity.attributes")
        except CanonicalError as exc:
            raise AnswerError(str(exc)) from exc
    return Entity(
        type=message.name.type,
        id=message.name.id,
        attributes=attributes,
        revision=message.revision,
        written_by=message.written_by,
        written_at=_instant(message.written_at, "entity.written_at"),
    )


def decision(message: nouns.Decision) -> Decision:
    """Return the decision as the message has it: not compared with anything, allowing nothing."""
    if not message.decision_id:
        raise AnswerError("the answer has no decision_id")
    if not message.reasons:
        raise AnswerError("the answer has no reasons")
    review = message.review
    return Decision(
        decision_id=message.decision_id,
        effect=_effect(message.effect),
        reasons=_reasons(message.reasons),
        obligations=_obligations(message.obligations),
        retry_after=_span(message.retry_after) if message.HasField("retry_after") else None,
        review=Review(
            review_id=review.review_id,
            reviewers=tuple(review.reviewers),
            expires_at=_instant(review.expires_at, "review.expires_at")
            if review.HasField("expires_at")
            else None,
        )
        if message.HasField("review")
        else None,
        model_text=message.model_text,
        session_id=message.session_id,
        tool_call_id=message.tool_call_id,
        decided_at=_instant(message.decided_at, "decided_at"),
        expires_at=_instant(message.expires_at, "expires_at"),
        policy=PolicyRevision(bundle=message.policy.bundle, revision=message.policy.revision),
        data_revisions=dict(message.data_revisions),
        session_version=message.session_version,
        retryable=message.retryable,
        attempt_id=message.attempt_id,
        replayed=message.replayed,
        receipt=message.receipt.token,
        position=Position(writer=message.receipt.position.writer, seq=message.receipt.position.seq)
        if message.receipt.HasField("position")
        else None,
        chain=tuple(_chain_hop(hop) for hop in message.chain),
    )


def allowed_tools(message: decisions.ListAllowedToolsResponse) -> tuple[AllowedTool, ...]:
    if not all(tool.name for tool in message.tools):
        raise AnswerError("the answer has a tool without a name")
    return tuple(
        AllowedTool(name=tool.name, description=tool.description, arguments_schema=tool.arguments_schema)
        for tool in message.tools
    )


def simulation(message: decisions.SimulateResponse) -> Simulation:
    if not message.reasons:
        raise AnswerError("the answer has no reasons")
    return Simulation(
        would_be=_effect(message.would_be),
        reasons=_reasons(message.reasons),
        obligations=_obligations(message.obligations),
        retry_after=_span(message.retry_after) if message.HasField("retry_after") else None,
        policy=PolicyRevision(bundle=message.policy.bundle, revision=message.policy.revision),
        data_revisions=dict(message.data_revisions),
        input_document=message.input_document,
    )


def _reasons(messages: Iterable[nouns.Reason]) -> tuple[Reason, ...]:
    return tuple(
        Reason(code=reason.code, effect=_effect(reason.effect), message=reason.message, at=reason.at)
        for reason in messages
    )


def _obligations(messages: Iterable[nouns.Obligation]) -> tuple[Obligation, ...]:
    return tuple(Obligation(id=obligation.id, properties=_properties(obligation)) for obligation in messages)


def session(message: sessions.Session) -> Session:
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
        opened_at=_instant(message.opened_at, "opened_at"),
        expires_at=_instant(message.expires_at, "expires_at"),
        completed_at=_instant(message.completed_at, "completed_at")
        if message.HasField("completed_at")
        else None,
        closed_at=_instant(message.closed_at, "closed_at") if message.HasField("closed_at") else None,
        template=read_boundary(message.template) if message.HasField("template") else None,
        decisions=dict(message.decisions),
    )


def issuer_keys(message: admin.IssuerKeys) -> IssuerKeys:
    try:
        jwks = parse_object(message.jwks, field="jwks")
    except CanonicalError as exc:
        raise AnswerError(f"the keys of an issuer cannot be read: {exc}") from exc
    return IssuerKeys(
        issuer=message.issuer,
        jwks=jwks,
        revision=message.revision,
        written_at=_instant(message.written_at, "written_at"),
    )


def _effect(number: int) -> Effect:
    if number not in EFFECTS:
        raise UnknownEffectError(f"the answer's effect {number} is none that this client knows")
    return EFFECTS[number]


def _properties(message: nouns.Obligation) -> dict[str, object]:
    if not message.properties:
        return {}
    try:
        return parse_object(message.properties, field="obligation.properties")
    except CanonicalError as exc:
        raise AnswerError(f"the obligation {message.id!r} cannot be read: {exc}") from exc


def _span(message: Duration) -> timedelta:
    try:
        return message.ToTimedelta()
    except (ValueError, OverflowError) as exc:
        raise AnswerError("retry_after is no duration") from exc


def _instant(message: Timestamp, field: str) -> datetime:
    try:
        return message.ToDatetime(tzinfo=UTC)
    except (ValueError, OverflowError) as exc:
        raise AnswerError(f"{field} is no instant") from exc


def opened_session(data: bytes) -> Session:
    response = read(sessions.OpenSessionResponse, data)
    if not response.HasField("session"):
        raise AnswerError("the answer has no session")
    return replace(session(response.session), grant=response.grant)


def grant(data: bytes) -> Grant:
    response = read(sessions.DelegateResponse, data)
    if not response.grant or not response.chain.hops or response.chain.hops[-1].grant != response.grant:
        raise AnswerError("the answer has no grant at the end of its chain")
    return Grant(
        token=response.grant,
        grant_hash=response.grant_hash,
        chain=tuple(Hop(agent=hop.agent, grant=hop.grant) for hop in response.chain.hops),
    )


def revoked_at(data: bytes) -> datetime:
    response = read(sessions.RevokeGrantResponse, data)
    if not response.HasField("revoked_at"):
        raise AnswerError("the answer does not say when the grant was revoked")
    return _instant(response.revoked_at, "revoked_at")


def chain(data: bytes, decision_id: str) -> Chain:
    response = read(decisions.GetChainResponse, data)
    if response.decision_id != decision_id:
        raise AnswerError("the answer is about another decision")
    return Chain(
        decision_id=response.decision_id,
        session_id=response.session_id,
        task_id=response.task_id,
        principal=response.principal,
        links=tuple(_chain_link(link) for link in response.links),
    )


def _chain_link(message: decisions.ChainLink) -> ChainLink:
    return ChainLink(
        hop=_chain_hop(message.hop),
        purpose=message.purpose,
        expires_at=_instant(message.expires_at, "expires_at") if message.HasField("expires_at") else None,
        revoked_at=_instant(message.revoked_at, "revoked_at") if message.HasField("revoked_at") else None,
        revoked_by=message.revoked_by,
        revoke_reason=message.revoke_reason,
        decisions=tuple((taken.decision_id, _effect(taken.effect)) for taken in message.decisions),
    )


def _chain_hop(message: nouns.ChainHop) -> ChainHop:
    return ChainHop(
        agent=message.agent,
        delegated_by=message.delegated_by,
        grant_hash=message.grant_hash,
        depth=message.depth,
        effect=_effect(message.effect) if message.effect else None,
        human_reviewed=message.human_reviewed,
        same_runtime=message.same_runtime,
        verified=message.verified,
        unverified=message.unverified,
    )


def reported(data: bytes) -> Reported:
    answer = read(decisions.ReportOutcomeResponse, data)
    return Reported(decision_id=answer.decision_id, hold=_hold(answer.hold), conflict=answer.conflict)


def outcome(number: int) -> Outcome | None:
    """What became of a decision; None: nobody said."""
    if number == decisions.OUTCOME_UNSPECIFIED:
        return None
    if number not in OUTCOMES:
        raise AnswerError(f"the answer's outcome {number} is none that this client knows")
    return OUTCOMES[number]


def redeemed(data: bytes, decision_id: str) -> None:
    """Anything but the redemption of this very decision is none."""
    if read(decisions.RedeemResponse, data).decision_id != decision_id:
        raise AnswerError("the answer is about another decision")


def open_decisions(data: bytes) -> tuple[OpenDecision, ...]:
    return tuple(
        OpenDecision(
            decision_id=found.decision_id,
            session_id=found.session_id,
            tool_call_id=found.tool_call_id,
            hold=_hold(found.hold),
            redeemed=found.redeemed,
            expires_at=_instant(found.expires_at, "expires_at"),
        )
        for found in read(decisions.ListOpenDecisionsResponse, data).decisions
    )


def _hold(number: int) -> HoldState:
    if number not in HOLD_STATES:
        raise AnswerError(f"the answer's hold {number} is none that this client knows")
    return HOLD_STATES[number]
