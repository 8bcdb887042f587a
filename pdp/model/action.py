"""One call of a tool, and what the registry derives of it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from pdp.model.entities import EntityQuery
from pdp.model.identity import Caller
from pdp.model.json import JSON
from placet.model import SchemaViolation


@dataclass(frozen=True, kw_only=True, slots=True)
class Resource:
    """The thing that an action is done to, as the tool's template names it: `invoice:INV-1001`."""

    type: str
    id: str

    def __str__(self) -> str:
        return f"{self.type}:{self.id}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Action:
    """One tool call, validated. Only tool and arguments count; the rest is what the caller claims."""

    tool: str
    # Parsed JSON; numbers are int or Decimal. Arguments may be secret, and so may be in no text of a failure.
    arguments: Mapping[str, JSON] = field(repr=False)
    # The caller's own id of the call: one id is one call, however often it is asked about.
    tool_call_id: str
    # Why the agent wants it, in free text.
    intent: str = field(default="", repr=False)
    # "type:id"; a claim that differs from the resource that is derived blocks.
    claimed_resource: str = ""
    # Where the arguments came from, by their names.
    provenance: Mapping[str, JSON] = field(default_factory=dict, repr=False)


def grant_hash(compact: str) -> str:
    """Return the hex SHA-256 of a grant's bytes, by which everything else names it."""
    return hashlib.sha256(compact.encode("utf-8", "surrogatepass")).hexdigest()


@dataclass(frozen=True, kw_only=True, slots=True)
class Hop:
    """One agent of a chain as a request presents it, with the grant that it acts on. Nothing is proven."""

    agent: str
    # Compact JWS; empty for the session's own agent, which needs none.
    grant: str = ""
    # Hex SHA-256 of the grant; empty without one. It is given only where the grant itself is not at hand.
    grant_hash: str = field(default="", repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.grant:
            object.__setattr__(self, "grant_hash", grant_hash(self.grant))


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluationRequest:
    """One question: may this caller take this action, in this session, on behalf of this chain?"""

    caller: Caller
    action: Action
    session_id: str
    # An instant of `time.monotonic()`.
    deadline: float
    # The chain of delegation, root first; none: the session's own agent acts.
    hops: tuple[Hop, ...] = ()
    # The review that approves the action; None: none is claimed.
    review_id: str | None = None
    # The caller's name for this attempt at the call, which the answer repeats.
    attempt_id: str = ""
    # Whom the receipt is to be for: the tool server that checks it. Empty: whomever the registry names.
    audience: str = ""
    # Hex SHA-256 of the session token that proves the caller's part in the session; empty without one.
    session_token_hash: str = ""
    # The caller is supposed to have the proof that it does not show: in a simulation, and where its allow
    # is judged again.
    proof_supposed: bool = False

    @property
    def leaf_grant_hash(self) -> str:
        """The hash of the grant that the caller acts on; empty without one."""
        return self.hops[-1].grant_hash if self.hops else ""

    @property
    def delegated_hops(self) -> tuple[Hop, ...]:
        """The hops, root first, if anything is delegated on them; none where the session's own agent acts.

        That agent's authority is one, whether it presents no grant, a root grant or another root grant.
        """
        return self.hops if len(self.hops) > 1 else ()


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
    normal: tuple[str, ...] = field(repr=False)
    given: tuple[str, ...] = field(repr=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class Derived:
    """What the registry says of one call (`pdp.action.derivation.derive`)."""

    # Whom receipts for the tool are meant for; empty: for nobody.
    audience: str = ""
    resource: Resource | None = None
    amount: Amount | None = None
    # The arguments in their normal spelling, secrets included.
    arguments: Mapping[str, JSON] = field(default_factory=dict, repr=False)
    # The same arguments, equal where they mean the same (`pdp.action.derivation.make_comparable`).
    comparable: Mapping[str, JSON] = field(default_factory=dict, repr=False)
    # What to read of the entities that the call is about.
    entities: tuple[EntityQuery, ...] = ()
    business_key: BusinessKey | None = None
    # Reason codes of what could not be derived, or differs from a claim.
    problems: tuple[str, ...] = ()
    # Where the arguments do not fit the schema, and how many such places are not listed.
    violations: tuple[SchemaViolation, ...] = ()
    more_violations: int = 0
    # The arguments without their secrets: what the action digest of the receipt covers.
    open_arguments: Mapping[str, JSON] = field(default_factory=dict)
    # The same with "[secret]" in the place of each secret: what policy, receipts and people see.
    shown_arguments: Mapping[str, JSON] = field(default_factory=dict)
    # The paths that lead to a secret in this call (`placet.secret_paths`).
    secret_paths: tuple[str, ...] = ()
    # The texts by which secrets are recognised in what the caller says beside the arguments.
    secret_texts: tuple[str, ...] = field(default=(), repr=False)
