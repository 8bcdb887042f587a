"""Grants: what is delegated, what is handed out, what is revoked."""

from __future__ import annotations

from dataclasses import dataclass

from pdp.delegation.grant import MAX_PURPOSE
from pdp.delegation.point import MAX_GRANT, Delegation
from pdp.errors import InvalidFieldError
from pdp.model import GrantRow, Hop, grant_hash
from pdp.names import name, text
from pdp.server.messages.boundary import boundary_of
from pdp.server.messages.chains import hops
from pdp.server.messages.fields import MAX_TEXT, instant_of, timestamp
from placet.v1 import decision_pb2 as nouns
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


@dataclass(frozen=True, kw_only=True, slots=True)
class Revocation:
    """Which grant is to be revoked, and why."""

    session_id: str
    grant_hash: str
    reason: str


def revocation(message: sessions.RevokeGrantRequest) -> Revocation:
    if bool(message.grant) == bool(message.grant_hash):
        raise InvalidFieldError("grant_hash", "give exactly one of grant and grant_hash")
    named = (
        grant_hash(text(message.grant, "grant", MAX_GRANT))
        if message.grant
        else name(message.grant_hash, "grant_hash")
    )
    return Revocation(
        session_id=name(message.session_id, "session_id"),
        grant_hash=named,
        reason=text(message.reason, "reason", MAX_TEXT),
    )


def revocation_message(row: GrantRow) -> sessions.RevokeGrantResponse:
    return sessions.RevokeGrantResponse(
        grant_hash=row.grant_hash,
        revoked_at=None if row.revoked_at is None else timestamp(row.revoked_at),
    )
