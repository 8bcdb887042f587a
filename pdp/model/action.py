"""One call of a tool, and what the registry derives of it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from pdp.model.entities import EntityQuery
from pdp.model.identity import Caller
from pdp.model.json import JSON


@dataclass(frozen=True, kw_only=True, slots=True)
class Resource:
    type: str
    id: str

    def __str__(self) -> str:
        return f"{self.type}:{self.id}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Action:
    """One tool call, validated. `arguments` is parsed; numbers are int or Decimal."""

    tool: str
    arguments: Mapping[str, JSON]
    tool_call_id: str
    intent: str = ""
    claimed_resource: str = ""
    provenance: Mapping[str, JSON] = field(default_factory=dict)


def grant_hash(compact: str) -> str:
    """Hex SHA-256 of a grant's bytes: how everything else names it."""
    return hashlib.sha256(compact.encode("utf-8", "surrogatepass")).hexdigest()


@dataclass(frozen=True, kw_only=True, slots=True)
class Hop:
    agent: str
    grant: str = ""
    # Empty without a grant.
    grant_hash: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "grant_hash", grant_hash(self.grant) if self.grant else "")


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluationRequest:
    """`deadline` is an instant of `time.monotonic()`."""

    caller: Caller
    action: Action
    session_id: str
    deadline: float
    hops: tuple[Hop, ...] = ()
    review_id: str | None = None
    attempt_id: str = ""
    audience: str = ""

    @property
    def leaf_grant_hash(self) -> str:
        """Of the grant that the caller acts on; empty without one."""
        return self.hops[-1].grant_hash if self.hops else ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Amount:
    """An amount of money in integer minor units of an ISO 4217 currency."""

    minor: int
    currency: str


@dataclass(frozen=True, kw_only=True, slots=True)
class BusinessKey:
    """What makes two calls the same piece of business; equal `normal` under one `name`."""

    name: str
    # Canonical texts of the key's arguments, normalised and as they were given.
    normal: tuple[str, ...]
    given: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Derived:
    """What the registry says of one call (`pdp.action.derivation.derive`)."""

    resource: Resource | None = None
    amount: Amount | None = None
    # Normalised; secrets included.
    arguments: Mapping[str, JSON] = field(default_factory=dict)
    # The same arguments, equal where they mean the same (`pdp.action.derivation.make_comparable`).
    comparable: Mapping[str, JSON] = field(default_factory=dict)
    # What to read of the entities that the call is about.
    entities: tuple[EntityQuery, ...] = ()
    business_key: BusinessKey | None = None
    # Reason codes of what could not be derived, or differs from a claim.
    problems: tuple[str, ...] = ()
    # The arguments without secrets: what policy, receipts and people see.
    shown_arguments: Mapping[str, JSON] = field(default_factory=dict)
