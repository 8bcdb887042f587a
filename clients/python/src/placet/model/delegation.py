"""On whose behalf an agent acts."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from placet.model.reasons import Effect


@dataclass(frozen=True, kw_only=True, slots=True)
class Hop:
    """An agent of the chain that acts, and the grant (a compact JWS) that it acts on.

    Without a grant it is the session's own agent.
    """

    agent: str
    grant: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Grant:
    """What was delegated. Whoever speaks for the agent that it names acts with `chain`."""

    # A compact JWS.
    token: str = field(repr=False)
    # What the grant is called in receipts, and may be called in revoke_grant.
    grant_hash: str
    # Root first; the last hop is the new one.
    chain: tuple[Hop, ...] = field(repr=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class ChainHop:
    """A hop of a decision's chain.

    Of a hop that was not `verified` only `unverified` is set: a SHA-256 (base64url) over its agent and grant.
    """

    agent: str = ""
    # The credential that gave the agent its grant.
    delegated_by: str = ""
    # Hex SHA-256 of the grant; empty for the session's own agent without one.
    grant_hash: str = ""
    # How many delegations lie before this hop.
    depth: int = 0
    # What was decided; on the last hop only.
    effect: Effect | None = None
    human_reviewed: bool = False
    # This hop acts through the same credential as the hop before it.
    same_runtime: bool = False
    verified: bool = False
    unverified: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class ChainLink:
    """A hop, its grant as it stands now, and what was decided for calls on that grant, latest first."""

    hop: ChainHop
    purpose: str = ""
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    revoked_by: str = ""
    revoke_reason: str = ""
    # Decision id and effect.
    decisions: tuple[tuple[str, Effect], ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Chain:
    """Through whose hands a decision came, root first."""

    decision_id: str
    session_id: str
    task_id: str
    principal: str
    links: tuple[ChainLink, ...]
