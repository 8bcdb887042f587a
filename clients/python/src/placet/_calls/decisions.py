"""Decisions as answers have them, and the calls that ask without acting: Simulate and ListAllowedTools."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from placet._calls.action import (
    Hops,
    chain_message,
    checked_action,
    evaluate_request,
    session_id_of,
    session_token_of,
)
from placet._calls.call import Call, read_instant, read_span, reader
from placet._calls.fields import text, texts
from placet._calls.jsontext import object_text
from placet._calls.reasons import read_effect, read_reasons
from placet.canonical import CanonicalError, parse_object
from placet.errors import AnswerError
from placet.model import (
    Action,
    AllowedTool,
    ChainHop,
    Decision,
    Obligation,
    PolicyRevision,
    Position,
    Review,
    Session,
    Simulation,
)
from placet.v1 import decision_pb2 as nouns
from placet.v1 import decision_service_pb2 as messages


def simulate(
    action: Action | Mapping[str, Any],
    *,
    session: Session | str,
    subject: str,
    agents: Iterable[str],
    claims: Mapping[str, Any] | bytes,
    chain: Hops,
    audience: str,
) -> Call[Simulation]:
    return Call(
        request=messages.SimulateRequest(
            request=evaluate_request(
                checked_action(action),
                session_id=session_id_of(session),
                chain=chain_message(chain),
                audience=text(audience, "audience"),
            ),
            caller=messages.SimulatedCaller(
                subject=text(subject, "subject"),
                agents=texts(agents, "agents"),
                claims=object_text(claims, "claims") if claims else b"",
            ),
        ),
        read=reader(messages.SimulateResponse, _read_simulation),
    )


def list_allowed_tools(session: Session | str, chain: Hops) -> Call[tuple[AllowedTool, ...]]:
    return Call(
        request=messages.ListAllowedToolsRequest(
            session_id=session_id_of(session),
            chain=chain_message(chain),
            session_token=session_token_of(session),
        ),
        read=reader(messages.ListAllowedToolsResponse, _read_allowed_tools),
    )


def read_decision(message: nouns.Decision) -> Decision:
    """Return the decision as the message has it: not compared with anything, allowing nothing."""
    if not message.decision_id:
        raise AnswerError("the answer has no decision_id")
    if not message.reasons:
        raise AnswerError("the answer has no reasons")
    return Decision(
        decision_id=message.decision_id,
        effect=read_effect(message.effect),
        reasons=read_reasons(message.reasons),
        obligations=_read_obligations(message.obligations),
        retry_after=read_span(message.retry_after, "retry_after")
        if message.HasField("retry_after")
        else None,
        review=_read_review(message.review) if message.HasField("review") else None,
        model_text=message.model_text,
        session_id=message.session_id,
        tool_call_id=message.tool_call_id,
        decided_at=read_instant(message.decided_at, "decided_at"),
        expires_at=read_instant(message.expires_at, "expires_at"),
        policy=PolicyRevision(bundle=message.policy.bundle, revision=message.policy.revision),
        data_revisions=dict(message.data_revisions),
        session_version=message.session_version,
        retryable=message.retryable,
        attempt_id=message.attempt_id,
        replayed=message.replayed,
        receipt=message.receipt.token,
        secret_salt=message.secret_salt,
        position=Position(writer=message.receipt.position.writer, seq=message.receipt.position.seq)
        if message.receipt.HasField("position")
        else None,
        chain=tuple(read_chain_hop(hop) for hop in message.chain),
    )


def read_chain_hop(message: nouns.ChainHop) -> ChainHop:
    return ChainHop(
        agent=message.agent,
        delegated_by=message.delegated_by,
        grant_hash=message.grant_hash,
        depth=message.depth,
        effect=read_effect(message.effect) if message.effect else None,
        human_reviewed=message.human_reviewed,
        same_runtime=message.same_runtime,
        verified=message.verified,
        unverified=message.unverified,
    )


def _read_review(message: nouns.Review) -> Review:
    return Review(
        review_id=message.review_id,
        reviewers=tuple(message.reviewers),
        expires_at=read_instant(message.expires_at, "review.expires_at")
        if message.HasField("expires_at")
        else None,
    )


def _read_obligations(given: Iterable[nouns.Obligation]) -> tuple[Obligation, ...]:
    return tuple(
        Obligation(id=obligation.id, properties=_read_properties(obligation)) for obligation in given
    )


def _read_properties(message: nouns.Obligation) -> dict[str, object]:
    if not message.properties:
        return {}
    try:
        return parse_object(message.properties, field="obligation.properties")
    except CanonicalError as exc:
        raise AnswerError(f"the obligation {message.id!r} cannot be read: {exc}") from exc


def _read_simulation(message: messages.SimulateResponse) -> Simulation:
    if not message.reasons:
        raise AnswerError("the answer has no reasons")
    return Simulation(
        would_be=read_effect(message.would_be),
        reasons=read_reasons(message.reasons),
        obligations=_read_obligations(message.obligations),
        retry_after=read_span(message.retry_after, "retry_after")
        if message.HasField("retry_after")
        else None,
        policy=PolicyRevision(bundle=message.policy.bundle, revision=message.policy.revision),
        data_revisions=dict(message.data_revisions),
        input_document=message.input_document,
    )


def _read_allowed_tools(message: messages.ListAllowedToolsResponse) -> tuple[AllowedTool, ...]:
    if not all(tool.name for tool in message.tools):
        raise AnswerError("the answer has a tool without a name")
    return tuple(
        AllowedTool(name=tool.name, description=tool.description, arguments_schema=tool.arguments_schema)
        for tool in message.tools
    )
