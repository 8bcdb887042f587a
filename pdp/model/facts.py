"""Everything known about an action at one instant."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple

from pdp.model.action import Amount
from pdp.model.decisions import DecisionKey, Effect, PriorDecision
from pdp.model.delegation import GrantRow
from pdp.model.entities import EntityName, EntityQuery, KnownEntity
from pdp.model.holds import Hold
from pdp.model.json import JSON
from pdp.model.limits import Counter, CounterKey
from pdp.model.sessions import Session
from pdp.model.tools import Tool


@dataclass(frozen=True, kw_only=True, slots=True)
class PrerequisiteKey:
    """An action as others name it as their prerequisite: tool, and hash of the equal arguments."""

    tool: str
    arguments: str
    # The action's own, if it has one; the step is the same whatever it is.
    amount: Amount | None = field(default=None, compare=False)


class PriorAnswer(NamedTuple):
    """What a prerequisite was answered, last."""

    effect: Effect
    # An answer before it, or it, was an escalation.
    waited: bool = False
    # What an allow was for; None: no amount.
    amount: Amount | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Agent:
    """`trust` absent: the prior."""

    agent: str
    owner: str = ""
    trust: Decimal | None = None
    trust_explanation: str = ""
    model: str = ""
    version: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Signal:
    name: str
    value: JSON
    expires_at: datetime | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class FactsRequest:
    """What to read for one action. `agents` are all agents on the chain."""

    key: DecisionKey
    tool: str
    agents: tuple[str, ...]
    deadline: float
    entities: tuple[EntityQuery, ...] = ()
    counters: tuple[CounterKey, ...] = ()
    # Hash of the normalised business key.
    business_key: str | None = None
    prerequisites: tuple[PrerequisiteKey, ...] = ()
    # Those that boundaries list and point to.
    listed: tuple[EntityName, ...] = ()
    # Hashes of the grants that the request presents.
    grants: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Facts:
    """Everything known about an action at one instant, `now`, of the database's clock."""

    now: datetime
    # Moves with every change of the tenant's settings, agents, tools or signals.
    epoch: int
    settings: Mapping[str, JSON]
    # "settings", "tools", "agents", "signals", "entities".
    data_revisions: Mapping[str, int]
    session: Session | None
    tool: Tool | None
    agents: Mapping[str, Agent]
    signals: Mapping[str, JSON]
    prior: PriorDecision | None
    # By the name that the tool gives them. What has no entry could not be read: its id is not known.
    entities: Mapping[str, KnownEntity] = field(default_factory=dict)
    # A counter that never moved is absent.
    counters: Mapping[CounterKey, Counter] = field(default_factory=dict)
    # Those of the business key that are not released.
    holds: tuple[Hold, ...] = ()
    key_version: int = 0
    # The answer to each prerequisite in this session; one that was never asked for is absent.
    prerequisites: Mapping[PrerequisiteKey, PriorAnswer] = field(default_factory=dict)
    # The sets of arguments by which other tools name this one as their prerequisite.
    prerequisite_of: tuple[tuple[str, ...], ...] = ()
    # All that were asked for as `listed`.
    listed: Mapping[EntityName, KnownEntity] = field(default_factory=dict)
    # By hash; one that was never issued is absent.
    grants: Mapping[str, GrantRow] = field(default_factory=dict)
