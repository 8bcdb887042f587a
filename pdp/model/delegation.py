"""Grants and chains of them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from pdp.model.action import Hop
from pdp.model.boundary import Boundary

# Delegations between the session's own agent and the one that acts, whatever settings say.
MAX_CHAIN_DEPTH = 16


@dataclass(frozen=True, kw_only=True, slots=True)
class Grant:
    """What a grant says: that `agent` may act in a session, within a boundary."""

    issuer: str
    tenant: str
    grant_id: str
    agent: str
    session_id: str
    task_id: str
    # How many delegations lie above it; 0: it is the session's own agent's.
    depth: int
    boundary: Boundary
    # Hash of the grant that it was delegated from; None at the root.
    parent: str | None
    # The agents above it, nearest first (RFC 8693 §4.1, `act`).
    actors: tuple[str, ...]
    # Subject of the credential that delegated; the session's issuer at the root.
    delegated_by: str
    purpose: str
    # Whole seconds.
    issued_at: datetime
    expires_at: datetime


class GrantRow(NamedTuple):
    """A grant as the table has it. Without a row no signature makes a grant."""

    # Hex SHA-256 of the grant's bytes.
    grant_hash: str
    session_id: str
    parent_hash: str | None
    agent: str
    delegated_by: str
    depth: int
    purpose: str
    issued_at: datetime
    expires_at: datetime
    revoked_at: datetime | None = None
    revoked_by: str = ""
    revoke_reason: str = ""


class StoredGrant(NamedTuple):
    """A grant as the table has it, with what it permits."""

    row: GrantRow
    # None: an earlier server issued it, and kept no boundary.
    boundary: Boundary | None


@dataclass(frozen=True, kw_only=True, slots=True)
class SessionProof:
    """What a call shows to prove the caller's part in a session. Nothing of it is proven yet."""

    # Hex SHA-256 of the session token; empty without one.
    token_hash: str = ""
    # A chain, root first; without grants it proves nothing.
    hops: tuple[Hop, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class ChainProblem:
    """Why a chain proves nothing. `code` is a reason's, `at` the hop: "chain[1]"."""

    code: str
    at: str


@dataclass(frozen=True, kw_only=True, slots=True)
class VerifiedHop:
    """A hop after verification. Unless it is `verified`, all but its hash is a mere claim."""

    agent: str
    # Hash of its grant; empty for the session's own agent without one.
    grant_hash: str
    depth: int
    # Subject of the credential that gave it its authority.
    delegated_by: str
    boundary: Boundary
    # The hop acts by the same credential as the one above it.
    same_runtime: bool
    # No hop above it acts by its credential.
    own_runtime: bool
    # The hop and every one above it are proven.
    verified: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Chain:
    """The agents on whose behalf an action is taken, root first, as far as they are proven."""

    hops: tuple[VerifiedHop, ...] = ()
    problems: tuple[ChainProblem, ...] = ()

    @property
    def proven(self) -> bool:
        """Whether every hop is verified, and there is one."""
        return bool(self.hops) and not self.problems and all(hop.verified for hop in self.hops)

    @property
    def leaf(self) -> VerifiedHop | None:
        """Who acts; None unless the chain is proven."""
        return self.hops[-1] if self.proven else None

    @property
    def path(self) -> tuple[str, ...]:
        """The hashes of the grants from root to leaf; none unless the chain is proven."""
        return tuple(hop.grant_hash for hop in self.hops if hop.grant_hash) if self.proven else ()
