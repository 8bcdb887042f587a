"""The fake's values as messages."""

from __future__ import annotations

from datetime import datetime

from google.protobuf.timestamp_pb2 import Timestamp

from placet._calls.jsontext import json_text
from placet._wire.boundary import boundary_message
from placet._wire.numbers import EFFECT_NUMBERS, SESSION_STATE_NUMBERS
from placet._wire.reasons import reason_message
from placet.model import ChainHop, Decision, Session
from placet.v1 import decision_pb2 as nouns
from placet.v1 import session_service_pb2 as sessions


def decision_message(decision: Decision) -> nouns.Decision:
    message = nouns.Decision(
        decision_id=decision.decision_id,
        effect=EFFECT_NUMBERS[decision.effect],
        reasons=[reason_message(reason) for reason in decision.reasons],
        obligations=[
            nouns.Obligation(id=item.id, properties=json_text(item.properties, "properties"))
            for item in decision.obligations
        ],
        model_text=decision.model_text,
        session_id=decision.session_id,
        tool_call_id=decision.tool_call_id,
        decided_at=timestamp(decision.decided_at),
        expires_at=timestamp(decision.expires_at),
        policy=nouns.PolicyRevision(bundle=decision.policy.bundle, revision=decision.policy.revision),
        data_revisions=dict(decision.data_revisions),
        session_version=decision.session_version,
        retryable=decision.retryable,
        attempt_id=decision.attempt_id,
        replayed=decision.replayed,
        receipt=nouns.Receipt(token=decision.receipt),
        secret_salt=decision.secret_salt,
        chain=[chain_hop_message(hop) for hop in decision.chain],
    )
    if decision.retry_after is not None:
        message.retry_after.FromTimedelta(decision.retry_after)
    if decision.position is not None:
        message.receipt.position.writer = decision.position.writer
        message.receipt.position.seq = decision.position.seq
    return message


def chain_hop_message(hop: ChainHop) -> nouns.ChainHop:
    return nouns.ChainHop(
        agent=hop.agent,
        delegated_by=hop.delegated_by,
        grant_hash=hop.grant_hash,
        depth=hop.depth,
        effect=nouns.EFFECT_UNSPECIFIED if hop.effect is None else EFFECT_NUMBERS[hop.effect],
        same_runtime=hop.same_runtime,
        verified=hop.verified,
        unverified=hop.unverified,
    )


def session_message(session: Session) -> sessions.Session:
    return sessions.Session(
        session_id=session.session_id,
        task=sessions.Task(
            id=session.task.id, description=session.task.description, prompt=session.task.prompt
        ),
        principal=session.principal,
        agent=session.agent,
        issuer=session.issuer,
        boundary=boundary_message(session.boundary),
        state=SESSION_STATE_NUMBERS[session.state],
        version=session.version,
        opened_at=timestamp(session.opened_at),
        expires_at=timestamp(session.expires_at),
        completed_at=timestamp(session.completed_at),
        closed_at=timestamp(session.closed_at),
        decisions=dict(session.decisions),
        proofs_revoked_at=timestamp(session.proofs_revoked_at),
        proofs_ended=session.proofs_ended,
    )


def timestamp(instant: datetime | None) -> Timestamp | None:
    if instant is None:
        return None
    message = Timestamp()
    message.FromDatetime(instant)
    return message
