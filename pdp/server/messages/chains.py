"""Chains of delegation: the one that a caller presents, and the one that a decision is shown with."""

from __future__ import annotations

from typing import Protocol

from pdp.decision.reading import ShownChain
from pdp.delegation.point import MAX_GRANT
from pdp.errors import InvalidFieldError
from pdp.model import MAX_CHAIN_DEPTH, ChainHop, Decision, Hop, SessionProof, session_token_hash
from pdp.names import name, optional_name, text
from pdp.server.messages.fields import timestamp
from placet._wire.numbers import EFFECT_NUMBERS
from placet.v1 import decision_pb2 as nouns
from placet.v1 import decision_service_pb2 as decisions

# The session's own agent, and one hop for each delegation.
MAX_HOPS = MAX_CHAIN_DEPTH + 1


def hops(message: nouns.DelegationChain) -> tuple[Hop, ...]:
    if len(message.hops) > MAX_HOPS:
        raise InvalidFieldError("chain.hops", f"has {len(message.hops)} hops; at most {MAX_HOPS}")
    return tuple(
        Hop(
            agent=name(hop.agent, f"chain.hops[{index}].agent"),
            grant=text(hop.grant, f"chain.hops[{index}].grant", MAX_GRANT),
        )
        for index, hop in enumerate(message.hops)
    )


class _ProvenBySession(Protocol):
    """A message by which a caller proves its part in a session."""

    @property
    def session_token(self) -> str: ...

    @property
    def chain(self) -> nouns.DelegationChain: ...


class _WithToken(Protocol):
    """A message that has room for a session token."""

    @property
    def session_token(self) -> str: ...


def token_hash(message: _WithToken) -> str:
    """Return the hash of the session token; empty without one. The token itself goes no further."""
    token = optional_name(message.session_token, "session_token")
    return session_token_hash(token) if token else ""


def session_proof(message: _ProvenBySession) -> SessionProof:
    return SessionProof(token_hash=token_hash(message), hops=hops(message.chain))


def chain_hop_messages(decision: Decision) -> list[nouns.ChainHop]:
    """Return the decision's hops. The last one, who acted, carries the effect if it is proven."""
    messages = [_chain_hop_message(hop) for hop in decision.chain]
    if messages and messages[-1].verified:
        messages[-1].effect = EFFECT_NUMBERS[decision.effect]
    return messages


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
            link.decisions.add(decision_id=decision_id, effect=EFFECT_NUMBERS[effect])
        row = hop.grant
        if row is None:
            continue
        link.purpose, link.revoked_by, link.revoke_reason = row.purpose, row.revoked_by, row.revoke_reason
        link.expires_at.CopyFrom(timestamp(row.expires_at))
        if row.revoked_at is not None:
            link.revoked_at.CopyFrom(timestamp(row.revoked_at))
    return message


def _chain_hop_message(hop: ChainHop) -> nouns.ChainHop:
    if hop.unverified:
        return nouns.ChainHop(unverified=hop.unverified)
    return nouns.ChainHop(
        agent=hop.agent,
        delegated_by=hop.delegated_by,
        grant_hash=hop.grant_hash,
        depth=hop.depth,
        human_reviewed=hop.human_reviewed,
        same_runtime=hop.same_runtime,
        verified=True,
    )
