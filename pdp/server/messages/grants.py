"""Messages about grants and chains, and back."""

from __future__ import annotations

from pdp.decision.reading import ShownChain
from pdp.delegation.grant import MAX_PURPOSE
from pdp.delegation.point import MAX_GRANT, Delegation
from pdp.errors import InvalidFieldError
from pdp.model import GrantRow, Hop, grant_hash
from pdp.names import name, text
from pdp.server.messages.convert import (
    MAX_INTENT,
    boundary_of,
    chain_hop_messages,
    effect_number,
    hops,
    instant_of,
    timestamp,
)
from placet.v1 import decision_pb2 as nouns
from placet.v1 import decision_service_pb2 as decisions
from placet.v1 import session_service_pb2 as sessions


def delegation(message: sessions.DelegateRequest) -> Delegation:
    chain = hops(message.chain)
    if not chain:
        raise InvalidFieldError("chain.hops", "is required: the grants from the root to the parent")
    for index, hop in enumerate(chain):
        if not hop.grant:
            raise InvalidFieldError(f"chain.hops[{index}].grant", "is required")
    return Delegation(
        session_id=name(message.session_id, "session_id"),
        hops=chain,
        to_agent=name(message.to_agent, "to_agent"),
        boundary=boundary_of(message.boundary) if message.HasField("boundary") else None,
        purpose=text(message.purpose, "purpose", MAX_PURPOSE),
        expires_at=instant_of(message.expires_at, "expires_at") if message.HasField("expires_at") else None,
    )


def delegation_message(asked: Delegation, leaf: Hop) -> sessions.DelegateResponse:
    return sessions.DelegateResponse(
        grant=leaf.grant,
        grant_hash=leaf.grant_hash,
        chain=nouns.DelegationChain(
            hops=[nouns.Hop(agent=hop.agent, grant=hop.grant) for hop in (*asked.hops, leaf)]
        ),
    )


def revocation(message: sessions.RevokeGrantRequest) -> tuple[str, str, str]:
    """Return session, hash of the grant, and reason."""
    if bool(message.grant) == bool(message.grant_hash):
        raise InvalidFieldError("grant_hash", "give exactly one of grant and grant_hash")
    named = (
        grant_hash(text(message.grant, "grant", MAX_GRANT))
        if message.grant
        else name(message.grant_hash, "grant_hash")
    )
    return name(message.session_id, "session_id"), named, text(message.reason, "reason", MAX_INTENT)


def revocation_message(row: GrantRow) -> sessions.RevokeGrantResponse:
    return sessions.RevokeGrantResponse(
        grant_hash=row.grant_hash,
        revoked_at=None if row.revoked_at is None else timestamp(row.revoked_at),
    )


def chain_message(chain: ShownChain) -> decisions.GetChainResponse:
    session = chain.session
    message = decisions.GetChainResponse(
        decision_id=chain.decision.decision_id,
        session_id=chain.decision.session_id,
        task_id="" if session is None else session.task.id,
        principal="" if session is None else session.principal,
    )
    for hop, shown in zip(chain.hops, chain_hop_messages(chain.decision), strict=True):
        link = message.links.add(hop=shown)
        for decision_id, effect in hop.decisions:
            link.decisions.add(decision_id=decision_id, effect=effect_number(effect))
        row = hop.grant
        if row is None:
            continue
        link.purpose, link.revoked_by, link.revoke_reason = row.purpose, row.revoked_by, row.revoke_reason
        link.expires_at.CopyFrom(timestamp(row.expires_at))
        if row.revoked_at is not None:
            link.revoked_at.CopyFrom(timestamp(row.revoked_at))
    return message
