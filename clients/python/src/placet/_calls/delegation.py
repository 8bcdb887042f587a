"""On whose behalf: Delegate, RevokeGrant, GetChain."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from placet._calls.action import Hops, chain_message, session_id_of, session_token_of
from placet._calls.boundary import boundary_message
from placet._calls.call import Call, read_instant, reader
from placet._calls.decisions import read_chain_hop
from placet._calls.fields import text
from placet._calls.reasons import read_effect
from placet._calls.sessions import set_expiry
from placet.errors import AnswerError
from placet.model import Boundary, Chain, ChainLink, Grant, Hop, Session
from placet.v1 import decision_pb2 as nouns
from placet.v1 import decision_service_pb2 as decisions
from placet.v1 import session_service_pb2 as messages


def delegate(
    session: Session | str,
    chain: Hops,
    *,
    to_agent: str,
    boundary: Boundary | Mapping[str, Any] | None,
    purpose: str,
    expires_in: timedelta | float | None,
    expires_at: datetime | None,
) -> Call[Grant]:
    """Return the call that delegates from the chain's last hop.

    Without a hop it delegates from the root grant that the session came with.
    """
    given = chain_message(chain)
    if not given.hops and isinstance(session, Session) and session.grant:
        given = nouns.DelegationChain(hops=[nouns.Hop(agent=session.agent, grant=session.grant)])
    request = messages.DelegateRequest(
        session_id=session_id_of(session),
        chain=given,
        to_agent=text(to_agent, "to_agent"),
        boundary=None if boundary is None else boundary_message(boundary),
        purpose=text(purpose, "purpose"),
    )
    set_expiry(request, expires_in, expires_at)
    return Call(request=request, read=reader(messages.DelegateResponse, _read_grant))


def revoke_grant(session: Session | str, grant: Grant | str, reason: str, chain: Hops) -> Call[datetime]:
    """Return the call that ends a grant, which is given as itself or by its hash."""
    named = grant.grant_hash if isinstance(grant, Grant) else grant
    request = messages.RevokeGrantRequest(
        session_id=session_id_of(session),
        reason=text(reason, "reason"),
        session_token=session_token_of(session),
        chain=chain_message(chain),
    )
    if "." in text(named, "grant"):
        request.grant = named
    else:
        request.grant_hash = named
    return Call(request=request, read=reader(messages.RevokeGrantResponse, _read_revoked_at))


def get_chain(decision_id: str, session: Session | str, chain: Hops) -> Call[Chain]:
    def read(answer: decisions.GetChainResponse) -> Chain:
        if answer.decision_id != decision_id:
            raise AnswerError("the answer is about another decision")
        return _read_chain(answer)

    return Call(
        request=decisions.GetChainRequest(
            decision_id=text(decision_id, "decision_id"),
            session_token=session_token_of(session),
            chain=chain_message(chain),
        ),
        read=reader(decisions.GetChainResponse, read),
    )


def _read_grant(answer: messages.DelegateResponse) -> Grant:
    if not answer.grant or not answer.chain.hops or answer.chain.hops[-1].grant != answer.grant:
        raise AnswerError("the answer has no grant at the end of its chain")
    return Grant(
        token=answer.grant,
        grant_hash=answer.grant_hash,
        chain=tuple(Hop(agent=hop.agent, grant=hop.grant) for hop in answer.chain.hops),
    )


def _read_revoked_at(answer: messages.RevokeGrantResponse) -> datetime:
    if not answer.HasField("revoked_at"):
        raise AnswerError("the answer does not say when the grant was revoked")
    return read_instant(answer.revoked_at, "revoked_at")


def _read_chain(answer: decisions.GetChainResponse) -> Chain:
    return Chain(
        decision_id=answer.decision_id,
        session_id=answer.session_id,
        task_id=answer.task_id,
        principal=answer.principal,
        links=tuple(_read_link(link) for link in answer.links),
    )


def _read_link(message: decisions.ChainLink) -> ChainLink:
    return ChainLink(
        hop=read_chain_hop(message.hop),
        purpose=message.purpose,
        expires_at=read_instant(message.expires_at, "expires_at") if message.HasField("expires_at") else None,
        revoked_at=read_instant(message.revoked_at, "revoked_at") if message.HasField("revoked_at") else None,
        revoked_by=message.revoked_by,
        revoke_reason=message.revoke_reason,
        decisions=tuple((taken.decision_id, read_effect(taken.effect)) for taken in message.decisions),
    )
