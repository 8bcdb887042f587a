"""Messages about grants and chains, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pdp.delegation.grant import MAX_PURPOSE
from pdp.delegation.point import MAX_GRANT, Delegation
from pdp.errors import InvalidFieldError
from pdp.model import ChainHop, Decision, Effect, GrantRow, Hop, Session, grant_hash
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

# Decisions that are shown of each hop.
MAX_TAKEN = 20


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


def chain_message(
    decision: Decision,
    session: Session | None,
    rows: Mapping[str, GrantRow],
    taken: Mapping[str, Sequence[tuple[str, Effect]]],
) -> decisions.GetChainResponse:
    """`taken`: the decisions by the hash of the grant that was acted on."""
    message = decisions.GetChainResponse(
        decision_id=decision.decision_id,
        session_id=decision.session_id,
        task_id="" if session is None else session.task.id,
        principal="" if session is None else session.principal,
    )
    for hop, shown in zip(decision.chain, chain_hop_messages(decision), strict=True):
        link = message.links.add(hop=shown)
        for decision_id, effect in taken_on(hop, taken):
            link.decisions.add(decision_id=decision_id, effect=effect_number(effect))
        row = rows.get(hop.grant_hash)
        if row is None:
            continue
        link.purpose, link.revoked_by, link.revoke_reason = row.purpose, row.revoked_by, row.revoke_reason
        link.expires_at.CopyFrom(timestamp(row.expires_at))
        if row.revoked_at is not None:
            link.revoked_at.CopyFrom(timestamp(row.revoked_at))
    return message


def taken_on(
    hop: ChainHop, taken: Mapping[str, Sequence[tuple[str, Effect]]]
) -> Sequence[tuple[str, Effect]]:
    """What was decided for a hop's calls, latest first. The root also acts without a grant."""
    if hop.unverified:
        return ()
    grants = {hop.grant_hash} if hop.depth else {hop.grant_hash, ""}
    found = [decision for grant in grants for decision in taken.get(grant, ())]
    return sorted(found, reverse=True)[:MAX_TAKEN]
