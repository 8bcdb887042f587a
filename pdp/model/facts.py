"""Everything known about an action at one instant."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal

from pdp.model.decisions import DecisionKey, PriorDecision
from pdp.model.delegation import GrantRow
from pdp.model.entities import EntityName, EntityQuery, KnownEntity
from pdp.model.holds import Hold
from pdp.model.json import JSON
from pdp.model.limits import Counter, CounterKey
from pdp.model.prerequisites import PrerequisiteKey, PriorAnswer
from pdp.model.sessions import Session
from pdp.model.tools import Tool


@dataclass(frozen=True, kw_only=True, slots=True)
class Agent:
    """What operators say of an agent."""

    agent: str
    owner: str = ""
    # From 0 to 1. None: there is no score, and no trust floor is cleared.
    trust: Decimal | None = None
    trust_explanation: str = ""
    # What the agent runs, for receipts.
    model: str = ""
    version: str = ""
    # The revision at which operators last wrote it; no part of what they say.
    revision: int = field(default=0, compare=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class Signal:
    """A fact of the moment that operators set for rules to read, such as an incident."""

    name: str
    value: JSON
    # None: until it is replaced.
    expires_at: datetime | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class FactsRequest:
    """What to read for one action."""

    # What its decision is stored under, and so also an earlier decision on the same call.
    key: DecisionKey
    tool: str
    # All agents that the request's chain names.
    agents: tuple[str, ...]
    # An instant of `time.monotonic()`.
    deadline: float
    entities: tuple[EntityQuery, ...] = ()
    counters: tuple[CounterKey, ...] = ()
    # Hash of the normalised business key.
    business_key: str | None = None
    prerequisites: tuple[PrerequisiteKey, ...] = ()
    # The entities that boundaries list, and whose attributes say what they permit.
    listed: tuple[EntityName, ...] = ()
    # Hashes of the grants that the request presents.
    grants: tuple[str, ...] = ()
    # Hex SHA-256 of the session token that the request presents; empty without one.
    session_token_hash: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Facts:
    """Everything known about an action at one instant, `now`, of the database's clock."""

    now: datetime
    # Moves with every change of the tenant's settings, agents, tools, signals or issuers' keys, and with
    # every revocation of a grant; entities do not move it.
    epoch: int
    settings: Mapping[str, JSON]
    # The revisions of "settings", "tools", "agents", "signals" and "entities".
    data_revisions: Mapping[str, int]
    # The session that the request names, whoever may use it; None: there is none.
    session: Session | None
    # None: it is not registered.
    tool: Tool | None
    # Registered agents of the chain, by name.
    agents: Mapping[str, Agent]
    # The values of the signals that have not expired, by name.
    signals: Mapping[str, JSON]
    # None: the key has no decision yet.
    prior: PriorDecision | None
    # By the names that the tool gives them. An entity whose id is not known has no entry.
    entities: Mapping[str, KnownEntity] = field(default_factory=dict)
    # A counter that never moved is absent.
    counters: Mapping[CounterKey, Counter] = field(default_factory=dict)
    # What earlier allows hold of the business key, and did not release.
    holds: tuple[Hold, ...] = ()
    # The version of the business key; 0: it was never held.
    key_version: int = 0
    # The answer to each prerequisite in this session; one that was never asked for is absent.
    prerequisites: Mapping[PrerequisiteKey, PriorAnswer] = field(default_factory=dict)
    # The sets of arguments by which other tools name this one as their prerequisite.
    prerequisite_of: tuple[tuple[str, ...], ...] = ()
    # Every entity that was asked for as `listed`.
    listed: Mapping[EntityName, KnownEntity] = field(default_factory=dict)
    # The grants that were asked for, by hash; one that was never issued is absent.
    grants: Mapping[str, GrantRow] = field(default_factory=dict)
    # The session token that was asked for is the session's, and has not ended.
    token_lives: bool = False
