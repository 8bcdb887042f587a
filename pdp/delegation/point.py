"""The delegation point: issues root grants and delegations. Read `DelegationPoint.delegate` first."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from pdp.authority.settings import max_chain_depth
from pdp.delegation.chain import ChainContext, Chains, speaks_in_session
from pdp.delegation.grant import grant_row
from pdp.delegation.narrowing import find_excess
from pdp.delegation.tokens import GrantTokens
from pdp.errors import (
    ChainRefusedError,
    GrantExceedsParentError,
    InvalidFieldError,
    NotFoundError,
    SessionOverError,
)
from pdp.model import Boundary, Caller, Grant, Hop, Session, SessionProof, SessionState
from pdp.ports import GrantStore
from pdp.uuid7 import uuid7

# Characters of a grant: what a request may carry of one.
MAX_GRANT = 32 * 1024


@dataclass(frozen=True, kw_only=True, slots=True)
class Delegation:
    """What somebody asks to hand on, in a session, to another agent."""

    session_id: str
    # From the root to the parent, each with its grant.
    hops: tuple[Hop, ...]
    to_agent: str
    # None: the parent's.
    boundary: Boundary | None
    # What the work is, in words for people.
    purpose: str
    # None: the parent's.
    expires_at: datetime | None


class DelegationPoint:
    """Issues grants. Each is stored before it is returned."""

    def __init__(self, *, chains: Chains, store: GrantStore, grants: GrantTokens, issuer: str) -> None:
        self._chains = chains
        self._store = store
        self._grants = grants
        self._issuer = issuer

    async def root(self, tenant: str, session: Session, now: datetime) -> str:
        """Return a new root grant for the session's own agent; empty if there can be none.

        That is so for a session that is over, and for a boundary that is too long for a grant. Raises
        `SessionMovedError` if the session's proofs were revoked since it was opened;
        `SignerUnavailableError`, `StoreUnavailableError`.
        """
        issued_at = _seconds(now)
        if session.state_at(now) not in (SessionState.OPEN, SessionState.COMPLETED):
            return ""
        grant = Grant(
            issuer=self._issuer,
            tenant=tenant,
            grant_id=uuid7(now),
            agent=session.agent,
            session_id=session.session_id,
            task_id=session.task.id,
            depth=0,
            boundary=session.boundary,
            parent=None,
            actors=(),
            delegated_by=session.issuer,
            purpose="",
            issued_at=issued_at,
            expires_at=_seconds(session.expires_at),
        )
        compact = await self._grants.issue(grant)
        if len(compact) > MAX_GRANT:
            return ""
        await self._store.add_grant(
            tenant, grant_row(grant, compact), boundary=grant.boundary, opened=session
        )
        return compact

    async def delegate(self, caller: Caller, asked: Delegation, *, deadline: float) -> Hop:
        """Return the new hop with its grant.

        1. Verify  the chain up to the parent, as an evaluation would.
        2. Narrow  what is asked for must lie within the parent's.
        3. Sign    and store it: a grant that is not stored proves nothing.

        `deadline` is an instant of `time.monotonic()`. Raises `NotFoundError`, `ChainRefusedError`,
        `SessionOverError`, `GrantExceedsParentError`, `InvalidFieldError`, `SignerUnavailableError`,
        `StoreUnavailableError`.
        """
        proof = SessionProof(hops=asked.hops)
        known = await self._chains.read_context(caller, asked.session_id, proof, deadline=deadline)  # 1
        session = _delegable(caller, asked, known)
        chain, facts = known.chain, known.facts
        parent = chain.hops[-1]
        agents = [hop.agent for hop in chain.hops]
        if asked.to_agent in agents:
            raise ChainRefusedError("chain.cycle", "to_agent")
        if len(agents) > max_chain_depth(facts.settings):
            raise ChainRefusedError("chain.too_deep", f"chain[{len(agents)}]")

        boundary = parent.boundary if asked.boundary is None else asked.boundary  # 2
        dimension = find_excess(boundary, parent.boundary)
        if dimension is not None:
            raise GrantExceedsParentError(f"boundary.{dimension}")
        until = facts.grants[parent.grant_hash].expires_at
        expires_at = until if asked.expires_at is None else _seconds(asked.expires_at)
        if expires_at > until:
            raise GrantExceedsParentError("expires_at")
        if expires_at <= facts.now:
            raise InvalidFieldError("expires_at", "is in the past")

        grant = Grant(
            issuer=self._issuer,
            tenant=caller.tenant,
            grant_id=uuid7(facts.now),
            agent=asked.to_agent,
            session_id=session.session_id,
            task_id=session.task.id,
            depth=parent.depth + 1,
            boundary=boundary,
            parent=parent.grant_hash,
            actors=tuple(reversed(agents)),
            delegated_by=caller.subject,
            purpose=asked.purpose,
            issued_at=_seconds(facts.now),
            expires_at=expires_at,
        )
        compact = await self._grants.issue(grant)  # 3
        if len(compact) > MAX_GRANT:
            raise InvalidFieldError("boundary", f"makes a grant of more than {MAX_GRANT} characters")
        await self._store.add_grant(caller.tenant, grant_row(grant, compact), boundary=grant.boundary)
        return Hop(agent=grant.agent, grant=compact)


def _delegable(caller: Caller, asked: Delegation, known: ChainContext) -> Session:
    """Return the session, if the chain is proven and its last agent the caller's."""
    facts, chain = known.facts, known.chain
    # Whoever holds none of its grants learns nothing of the session.
    if not speaks_in_session(caller, facts):
        raise NotFoundError(f"no session {asked.session_id} of yours")
    if chain.problems:
        raise ChainRefusedError(chain.problems[0].code, chain.problems[0].at)
    leaf = chain.leaf
    if leaf is None or leaf.agent not in caller.agents or known.session is None:
        raise ChainRefusedError("chain.not_holder", f"chain[{len(asked.hops) - 1}]")
    state = known.session.state_at(facts.now)
    if state is not SessionState.OPEN:
        raise SessionOverError(f"the session is {state}, so nothing can be delegated in it")
    return known.session


def _seconds(instant: datetime) -> datetime:
    return instant.replace(microsecond=0)
