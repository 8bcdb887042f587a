"""Grants of the fake: opaque tokens that it remembers with what they grant; nothing is signed."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import NamedTuple
from uuid import uuid4

from placet.model import Boundary, ChainHop, Hop, Session
from placet.testing.script import Caller

MAX_DEPTH = 4


class GrantRefused(Exception):
    """The chain cannot be delegated from, or the grant would be wider: `field` then names in what."""

    def __init__(self, message: str, field: str = "") -> None:
        super().__init__(message)
        self.field = field


class ChainProblem(NamedTuple):
    """The first thing that is wrong with a chain: the reason's code, and where (`chain[1]`)."""

    code: str
    at: str


@dataclass(frozen=True, kw_only=True, slots=True)
class FakeGrant:
    """A grant, by its token."""

    token: str
    session_id: str
    agent: str
    # Token of the grant that it was delegated from; empty at the root.
    parent: str
    boundary: Boundary
    delegated_by: str
    purpose: str
    expires_at: datetime
    revoked_at: datetime | None = None
    revoked_by: str = ""
    revoke_reason: str = ""

    @property
    def grant_hash(self) -> str:
        """The hex SHA-256 of the token, which is how decisions and callers name the grant."""
        return hashlib.sha256(self.token.encode()).hexdigest()


class FakeGrants:
    """All grants, by token. Not safe to share: the fake holds its lock."""

    def __init__(self) -> None:
        self._grants: dict[str, FakeGrant] = {}

    def issue_root(self, session: Session) -> str:
        """Return the token of a new grant of everything that the session permits."""
        return self._add(
            session=session,
            agent=session.agent,
            parent="",
            boundary=session.boundary,
            by=session.issuer,
            purpose="",
            expires_at=session.expires_at,
        )

    def delegate(
        self,
        caller: Caller,
        session: Session,
        hops: Sequence[Hop],
        *,
        to_agent: str,
        boundary: Boundary | None,
        purpose: str,
        expires_at: datetime | None,
        now: datetime,
    ) -> str:
        """Return the token of a new grant below the chain's last. Raises `GrantRefused`.

        Only tools, effects and expiry are compared with the parent's: a grant of more resources or
        larger amounts, which the PDP refuses, is given.
        """
        problem = self.find_problem(caller, session, hops, now)
        if problem is not None:
            raise GrantRefused(f"{problem.at}: {problem.code}")
        if to_agent in [hop.agent for hop in hops]:
            raise GrantRefused("to_agent: chain.cycle")
        if len(hops) > MAX_DEPTH:
            raise GrantRefused(f"chain[{len(hops)}]: chain.too_deep")
        parent = self._grants[hops[-1].grant]
        wanted = parent.boundary if boundary is None else boundary
        for name in ("tools", "effects"):
            for index, item in enumerate(getattr(wanted, name)):
                if item not in getattr(parent.boundary, name):
                    raise GrantRefused(
                        "is wider than the grant before it permits", f"boundary.{name}[{index}]"
                    )
        until = parent.expires_at if expires_at is None else expires_at
        if until > parent.expires_at:
            raise GrantRefused("is wider than the grant before it permits", "expires_at")
        return self._add(
            session=session,
            agent=to_agent,
            parent=parent.token,
            boundary=wanted,
            by=caller.subject,
            purpose=purpose,
            expires_at=until,
        )

    def find_problem(
        self, caller: Caller, session: Session, hops: Sequence[Hop], now: datetime
    ) -> ChainProblem | None:
        """Return the first thing that is wrong with a chain; None if it proves what it says.

        Without a grant it says that the caller speaks for the session's own agent, no more.
        """
        if not hops or [(hop.agent, hop.grant) for hop in hops] == [(session.agent, "")]:
            return None if session.agent in caller.agents else ChainProblem("chain.not_holder", "chain[0]")
        above = ""
        for index, hop in enumerate(hops):
            at, grant = f"chain[{index}]", self._grants.get(hop.grant)
            if grant is None or grant.agent != hop.agent:
                return ChainProblem("chain.invalid", at)
            if grant.session_id != session.session_id:
                return ChainProblem("chain.foreign", at)
            if grant.parent != above:
                return ChainProblem("chain.invalid", at)
            if now >= grant.expires_at:
                return ChainProblem("chain.expired", at)
            if grant.revoked_at is not None:
                return ChainProblem("chain.revoked", at)
            above = grant.token
        if hops[-1].agent in caller.agents:
            return None
        return ChainProblem("chain.not_holder", f"chain[{len(hops) - 1}]")

    def names(self, caller: Caller, session: Session, hops: Sequence[Hop]) -> bool:
        """Whether a grant among the hops is one of the session for an agent that the caller speaks for."""
        shown = (self._grants.get(hop.grant) for hop in hops)
        return any(
            grant is not None and grant.session_id == session.session_id and grant.agent in caller.agents
            for grant in shown
        )

    def chain_hops(self, session: Session, hops: Sequence[Hop]) -> tuple[ChainHop, ...]:
        """Return the hops of a proven chain as a decision names them."""
        if not any(hop.grant for hop in hops):
            return (ChainHop(agent=session.agent, delegated_by=session.issuer, verified=True),)
        return tuple(
            ChainHop(
                agent=hop.agent,
                delegated_by=self._grants[hop.grant].delegated_by,
                grant_hash=self._grants[hop.grant].grant_hash,
                depth=depth,
                verified=True,
            )
            for depth, hop in enumerate(hops)
        )

    def find(self, grant_hash: str) -> FakeGrant | None:
        return next((grant for grant in self._grants.values() if grant.grant_hash == grant_hash), None)

    def is_revoked(self, chain: Sequence[ChainHop]) -> bool:
        """Whether one of the grants that a decision rests on was revoked."""
        grants = (self.find(hop.grant_hash) for hop in chain if hop.grant_hash)
        return any(grant is not None and grant.revoked_at is not None for grant in grants)

    def agents_above(self, grant: FakeGrant) -> frozenset[str]:
        """Return the grant's own agent and those of the grants that it was delegated from."""
        agents = {grant.agent}
        while grant.parent:
            grant = self._grants[grant.parent]
            agents.add(grant.agent)
        return frozenset(agents)

    def revoke(self, grant: FakeGrant, *, by: str, reason: str, now: datetime) -> FakeGrant:
        """Revoke the grant and return it as it then is; revoking again changes nothing."""
        if grant.revoked_at is None:
            grant = replace(grant, revoked_at=now, revoked_by=by, revoke_reason=reason)
            self._grants[grant.token] = grant
        return grant

    def revoke_all(self, session_id: str, *, by: str, reason: str, now: datetime) -> int:
        """Revoke every grant of the session that is not revoked yet; return how many there were."""
        alive = [
            grant
            for grant in self._grants.values()
            if grant.session_id == session_id and grant.revoked_at is None
        ]
        for grant in alive:
            self.revoke(grant, by=by, reason=reason, now=now)
        return len(alive)

    def was_proof_revoked(self, session: Session, hops: Sequence[Hop]) -> bool:
        """Whether the root of the chain was issued before all proofs of its session were revoked."""
        root, since = self._grants.get(hops[0].grant), session.proofs_revoked_at
        ended = None if root is None else root.revoked_at
        return since is not None and ended is not None and ended <= since

    def _add(
        self,
        *,
        session: Session,
        agent: str,
        parent: str,
        boundary: Boundary,
        by: str,
        purpose: str,
        expires_at: datetime,
    ) -> str:
        token = f"fake.{uuid4().hex}.grant"
        self._grants[token] = FakeGrant(
            token=token,
            session_id=session.session_id,
            agent=agent,
            parent=parent,
            boundary=boundary,
            delegated_by=by,
            purpose=purpose,
            expires_at=expires_at.replace(microsecond=0),
        )
        return token
