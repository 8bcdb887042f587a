"""The domain's values: frozen, parsed once at the edge, without I/O."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import NamedTuple

from placet.normalise import NormalisationStep

# A parsed JSON value: numbers are int or Decimal, never float (docs/architecture.md, Numbers).
JSON = None | bool | int | Decimal | str | Sequence["JSON"] | Mapping[str, "JSON"]


class Effect(StrEnum):
    ALLOW = "allow"
    BLOCK = "block"
    ESCALATE = "escalate"


class ToolEffect(StrEnum):
    READ = "read"
    WRITE = "write"
    SEND = "send"
    PAY = "pay"
    DELETE = "delete"
    SHARE = "share"
    CREDENTIAL = "credential"


class Role(StrEnum):
    SESSION_ISSUER = "session_issuer"
    AGENT = "agent"
    TOOL = "tool"
    REVIEWER = "reviewer"
    AUDITOR = "auditor"
    POLICY_AUTHOR = "policy_author"
    OPERATOR = "operator"


class SessionState(StrEnum):
    OPEN = "open"
    COMPLETED = "completed"
    CLOSED = "closed"
    EXPIRED = "expired"
    HALTED = "halted"


class AmountUnit(StrEnum):
    MAJOR = "major"
    MINOR = "minor"


@dataclass(frozen=True, kw_only=True, slots=True)
class Caller:
    """Who speaks, as the transport proved it. Never read from a message."""

    tenant: str
    subject: str
    roles: frozenset[Role]
    # The agents that this credential may speak for.
    agents: frozenset[str]
    # Verified scopes and claims; input to policy.
    claims: Mapping[str, JSON] = field(default_factory=dict)


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


# --- limits ------------------------------------------------------------------


# The unit of counters of actions; those of money have their currency.
ACTIONS = "actions"


# A decision makes dozens of these, of limits and of guards: tuples are made four times as fast.
class CounterKey(NamedTuple):
    """Names one counter of a tenant. `unit` is a currency, or what is counted."""

    scope: str
    unit: str


class Counter(NamedTuple):
    """What was allowed so far: in all, and in a window's buckets, oldest first."""

    total: int = 0
    buckets: tuple[Bucket, ...] = ()


class BudgetScope(StrEnum):
    """Whose payments a budget adds up."""

    TENANT = "tenant"
    PRINCIPAL = "principal"
    AGENT = "agent"
    TASK = "task"
    COUNTERPARTY = "counterparty"


@dataclass(frozen=True, kw_only=True, slots=True)
class Budget:
    """A tenant's limit on payments in one currency, counted from when it is set.

    `maximum` is in minor units; `window_seconds` None: for good.
    """

    name: str
    scope: BudgetScope
    currency: str
    maximum: int
    window_seconds: int | None
    on_exceed: OnExceed


@dataclass(frozen=True, kw_only=True, slots=True)
class Ceiling:
    """`maximum` in minor units."""

    maximum: int
    on_exceed: OnExceed


class Limit(NamedTuple):
    """A limit that an action meets. What is None could not be derived, and restricts.

    `key` None with `used` given: the session's own history counts, under its version.
    """

    # The reason for exceeding it.
    code: str
    # Whose limit it is, for people.
    of: str
    on_exceed: OnExceed
    add: int | None
    maximum: int | None
    key: CounterKey | None = None
    window_seconds: int | None = None
    used: int | None = None


class Guard(NamedTuple):
    """What an allow adds to a counter, and what must still hold when it is recorded.

    `ceiling` None: the limit was exceeded with an approval, and the counter only moves.
    `window_seconds` None: the limit is on the total.
    """

    key: CounterKey
    add: int
    ceiling: int | None
    window_seconds: int | None


class HoldState(StrEnum):
    RESERVED = "reserved"
    COMMITTED = "committed"
    UNRESOLVED = "unresolved"
    RELEASED = "released"


class Outcome(StrEnum):
    EXECUTED = "executed"
    FAILED = "failed"
    NOT_EXECUTED = "not_executed"
    UNKNOWN = "unknown"
    # The caller never got the answer in time, and will not act on it.
    VOIDED = "voided"
    # It had to be redeemed before it expired, and was not. The server's own finding, never a report.
    LAPSED = "lapsed"


@dataclass(frozen=True, kw_only=True, slots=True)
class Hold:
    """An allowed action that stands in the way of its own repetition."""

    decision_id: str
    state: HoldState
    # Keyed hash of the business key as it was given.
    given: str


@dataclass(frozen=True, kw_only=True, slots=True)
class KeyHashes:
    """Keyed hashes (hex) of a business key: who holds the database learns no argument."""

    normal: str
    given: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Reservation:
    """What an allow leaves behind until its outcome is known."""

    guards: tuple[Guard, ...] = ()
    # Counters that existed when the decision was taken; others of the guards are created.
    existing: frozenset[CounterKey] = frozenset()
    key: KeyHashes | None = None
    # Version of the key that the decision was taken on; 0: it had never been held.
    key_version: int = 0
    redeem_required: bool = False

    @property
    def totals(self) -> tuple[tuple[CounterKey, int], ...]:
        """What a release gives back: sums of money. Counts stay, and leave their windows."""
        return tuple(
            {guard.key: guard.add for guard in self.guards if not guard.key.unit.startswith(ACTIONS)}.items()
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """An action as others name it as their prerequisite: tool, and hash of the equal arguments."""

    tool: str
    arguments: str
    # The action's own, if it has one; the step is the same whatever it is.
    amount: Amount | None = field(default=None, compare=False)


class Answer(NamedTuple):
    """What a prerequisite was answered, last."""

    effect: Effect
    # An answer before it, or it, was an escalation.
    waited: bool = False
    # What an allow was for; None: no amount.
    amount: Amount | None = None


# --- what is known -----------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    id: str
    description: str = ""
    prompt: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class AttributeRule:
    """The ids that `attribute` holds, of the entities of type `of_type` that a boundary lists."""

    of_type: str
    attribute: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ResourceRule:
    """Exactly one of `id`, `prefix`, `ids` and `attribute` is set."""

    type: str
    id: str | None = None
    prefix: str | None = None
    ids: tuple[str, ...] | None = None
    attribute: AttributeRule | None = None


class OnExceed(StrEnum):
    """What exceeding a limit means."""

    BLOCK = "block"
    ESCALATE = "escalate"

    def as_strict_as(self, other: OnExceed) -> bool:
        return self is other or self is OnExceed.BLOCK


@dataclass(frozen=True, kw_only=True, slots=True)
class AmountLimit:
    """Limits of one currency, in major units. None: no such limit."""

    currency: str
    per_action: Decimal
    # Of everything that is paid, in all and to one counterparty.
    total: Decimal | None = None
    per_counterparty: Decimal | None = None
    # For `total` and `per_counterparty`.
    on_exceed: OnExceed = OnExceed.BLOCK


@dataclass(frozen=True, kw_only=True, slots=True)
class VelocityLimit:
    """At most `maximum` allowed actions of the effects (none: of any) in any `window_seconds`."""

    effects: tuple[ToolEffect, ...]
    maximum: int
    window_seconds: int
    on_exceed: OnExceed = OnExceed.BLOCK


@dataclass(frozen=True, kw_only=True, slots=True)
class Boundary:
    """What a task may need. Empty permits nothing."""

    tools: tuple[str, ...] = ()
    effects: tuple[ToolEffect, ...] = ()
    resources: tuple[ResourceRule, ...] = ()
    amounts: tuple[AmountLimit, ...] = ()
    # Tools that are still permitted once the task is completed.
    after_completion: tuple[str, ...] = ()
    # Allowed actions in all; None: any number.
    max_actions: int | None = None
    velocity: tuple[VelocityLimit, ...] = ()
    _hash: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        # Looked up by value several times a decision, and may be long.
        parts = (self.tools, self.effects, self.resources, self.amounts, self.after_completion)
        object.__setattr__(self, "_hash", hash((*parts, self.max_actions, self.velocity)))

    def __hash__(self) -> int:
        return self._hash


class Bucket(NamedTuple):
    """`number` actions, or minor units, in the `width` seconds from `start` (Unix seconds)."""

    start: int
    width: int
    number: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Aggregates:
    """A session's history in numbers. Kept up by the recording transaction only."""

    allow: int = 0
    block: int = 0
    escalate: int = 0
    # Allowed actions of effect `pay`, oldest first.
    pay: tuple[Bucket, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Session:
    session_id: str
    task: Task
    principal: str
    agent: str
    issuer: str
    boundary: Boundary
    state: SessionState
    version: int
    opened_at: datetime
    expires_at: datetime
    closed_at: datetime | None = None
    completed_at: datetime | None = None
    # The tenant's template as it stood at opening; None: it had none.
    template: Boundary | None = None
    aggregates: Aggregates = Aggregates()
    # SHA-256 of the signed part of the session's latest receipt.
    last_receipt: bytes | None = None

    def state_at(self, now: datetime) -> SessionState:
        """The state, with expiry taken into account."""
        if self.state in (SessionState.OPEN, SessionState.COMPLETED) and now >= self.expires_at:
            return SessionState.EXPIRED
        return self.state


# --- delegation --------------------------------------------------------------


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
    # Delegations above it; 0: the session's own agent's.
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


@dataclass(frozen=True, kw_only=True, slots=True)
class ChainProblem:
    """Why a chain proves nothing. `code` is a reason's, `at` the hop: "chain[1]"."""

    code: str
    at: str


@dataclass(frozen=True, kw_only=True, slots=True)
class VerifiedHop:
    """A hop after verification. Unless `verified`, all but the hash is a claim, and worth nothing."""

    agent: str
    # Hash of its grant; empty for the session's own agent without one.
    grant_hash: str
    depth: int
    # Subject of the credential that gave it its authority.
    delegated_by: str
    boundary: Boundary
    # It acts by the same credential as the hop above it.
    same_runtime: bool
    # It, and every hop above it, is proven.
    verified: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Chain:
    """The agents on whose behalf an action is taken, root first, as far as they are proven."""

    hops: tuple[VerifiedHop, ...] = ()
    problems: tuple[ChainProblem, ...] = ()

    @property
    def proven(self) -> bool:
        return bool(self.hops) and not self.problems and all(hop.verified for hop in self.hops)

    @property
    def leaf(self) -> VerifiedHop | None:
        """Who acts; None unless the chain is proven."""
        return self.hops[-1] if self.proven else None

    @property
    def path(self) -> tuple[str, ...]:
        """Hashes of the grants from root to leaf; none unless the chain is proven."""
        return tuple(hop.grant_hash for hop in self.hops if hop.grant_hash) if self.proven else ()


# --- what is registered ------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class Opening:
    """What a session is to be opened with."""

    issuer: str
    task: Task
    principal: str
    agent: str
    boundary: Boundary
    # None: an hour from opening.
    expires_at: datetime | None
    # Of the task token that asked for it; empty without one.
    token_id: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class IssuerKeys:
    """The public keys (JWK members) that an issuer signs task tokens with; none: all are revoked."""

    issuer: str
    keys: tuple[Mapping[str, str], ...]
    revision: int = 0
    written_at: datetime | None = None

    def by_id(self) -> dict[str, Mapping[str, str]]:
        return {key["kid"]: key for key in self.keys}


@dataclass(frozen=True, kw_only=True, slots=True)
class AmountRole:
    """How a call's amount is read. `unit` absent: every amount is a problem."""

    argument: str
    unit: AmountUnit | None
    currency_argument: str | None = None
    currency_code: str | None = None


class ArgumentRole(StrEnum):
    DESTINATION = "destination"
    SELECTOR = "selector"
    CONTENT = "content"
    ATTACHMENT = "attachment"
    SECRET = "secret"
    PROFILE = "profile"
    OTHER = "other"


class EntityRole(StrEnum):
    RECORD = "record"
    COUNTERPARTY = "counterparty"
    ORDER = "order"
    OTHER = "other"


class OutputFormat(StrEnum):
    JSON = "json"
    YAML = "yaml"
    PYTHON_LITERAL = "python-literal"
    TEXT = "text"


class FieldTrust(StrEnum):
    RECORD = "record"
    FREE_TEXT = "free-text"
    TRUSTED = "trusted"


@dataclass(frozen=True, kw_only=True, slots=True)
class Normalisation:
    """How one argument is spelt before anything is derived from it."""

    argument: str
    steps: tuple[NormalisationStep, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class EntityAttribute:
    """An attribute of the entity that the tool's reference `entity` names."""

    entity: str
    attribute: str


@dataclass(frozen=True, kw_only=True, slots=True)
class EntityRef:
    """An entity that a tool's calls are about. Exactly one of `id` and `via` is set."""

    name: str
    type: str
    # Template over normalised arguments: "{vendor}".
    id: str | None = None
    # The id stands in an attribute of an entity that has an `id`.
    via: EntityAttribute | None = None
    role: EntityRole = EntityRole.OTHER
    amount_attribute: str = ""
    currency_attribute: str = ""
    status_attribute: str = "status"
    # This entity's id must equal that attribute.
    must_match: EntityAttribute | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class BusinessKeyRule:
    """Calls of tools with one `name` and equal `arguments` are the same piece of business."""

    name: str
    arguments: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Prerequisite:
    """An action of `tool` with the `same` arguments that comes before."""

    tool: str
    same: tuple[str, ...]
    required: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class OutputField:
    name: str
    trust: FieldTrust


@dataclass(frozen=True, kw_only=True, slots=True)
class Output:
    """How a tool's output is read. A field that is not listed is free text."""

    format: OutputFormat = OutputFormat.TEXT
    fields: tuple[OutputField, ...] = ()
    author_field: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Tool:
    """What the registry says of a tool. `revision` identifies this very content."""

    name: str
    effect: ToolEffect
    # Template over arguments: "invoice:{invoice}".
    resource: str
    # JSON text of the schema of the arguments; empty: no arguments.
    arguments_schema: str = ""
    amount: AmountRole | None = None
    # Those of the role SECRET among them.
    secret_arguments: tuple[str, ...] = ()
    description: str = ""
    reversible: bool = False
    argument_roles: Mapping[str, ArgumentRole] = field(default_factory=dict)
    normalise: tuple[Normalisation, ...] = ()
    entities: tuple[EntityRef, ...] = ()
    business_key: BusinessKeyRule | None = None
    prerequisites: tuple[Prerequisite, ...] = ()
    output: Output | None = None
    # The tool itself redeems each decision before it acts.
    redeem_required: bool = False
    revision: int = 0

    def entity_of(self, role: EntityRole) -> EntityRef | None:
        """The tool's entity of a role; there is one at most, but for OTHER."""
        return next((ref for ref in self.entities if ref.role is role), None)


@dataclass(frozen=True, kw_only=True, slots=True)
class ToolRevision:
    """One change of a tenant's registry: names of the tools that it wrote and removed."""

    revision: int
    written_at: datetime
    written: tuple[str, ...]
    removed: tuple[str, ...] = ()


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
class EntityName:
    type: str
    id: str

    def __str__(self) -> str:
        return f"{self.type}:{self.id}"


@dataclass(frozen=True, kw_only=True, slots=True)
class EntityQuery:
    """An entity to read, under the name that the tool gives it.

    `via` absent: the one called `id`. Else the one whose id stands in the attribute `via` of
    the entity (`of`, `id`).
    """

    name: str
    type: str
    id: str
    of: str = ""
    via: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class KnownEntity:
    """An entity as it was read. `revision` 0: it was never written."""

    name: EntityName
    revision: int
    # None: there is none.
    attributes: Mapping[str, JSON] | None


@dataclass(frozen=True, kw_only=True, slots=True)
class EntityVersion:
    """What one write said of an entity. `attributes` None: it was deleted."""

    name: EntityName
    revision: int
    attributes: Mapping[str, JSON] | None
    written_by: str
    written_at: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class Derived:
    """What the registry says of one call (registry.derive)."""

    resource: Resource | None = None
    amount: Amount | None = None
    # Normalised; secrets included.
    arguments: Mapping[str, JSON] = field(default_factory=dict)
    # The same with one form for what is equal (registry.comparable).
    comparable: Mapping[str, JSON] = field(default_factory=dict)
    # What to read of the entities that the call is about.
    entities: tuple[EntityQuery, ...] = ()
    business_key: BusinessKey | None = None
    # Reason codes of what could not be derived, or differs from a claim.
    problems: tuple[str, ...] = ()
    # The arguments without secrets: what policy, receipts and people see.
    shown_arguments: Mapping[str, JSON] = field(default_factory=dict)


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
class Position:
    writer: str
    seq: int


@dataclass(frozen=True, kw_only=True, slots=True)
class DecisionKey:
    """Requests with an equal key are repeats of one call (contract: Idempotency)."""

    tenant: str
    session_id: str
    caller: str
    # Hex SHA-256 of the leaf grant; empty without one.
    leaf_grant: str
    tool_call_id: str
    review_id: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class PriorDecision:
    """The latest decision recorded under a key."""

    decision_id: str
    effect: Effect
    action_fingerprint: bytes
    recorded_at: datetime
    expires_at: datetime
    retryable: bool
    # Full receipt, disclosures included.
    token: bytes
    position: Position
    # Somebody said what became of it.
    has_outcome: bool = False


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
    prerequisites: tuple[Step, ...] = ()
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
    prerequisites: Mapping[Step, Answer] = field(default_factory=dict)
    # The sets of arguments by which other tools name this one as their prerequisite.
    prerequisite_of: tuple[tuple[str, ...], ...] = ()
    # All that were asked for as `listed`.
    listed: Mapping[EntityName, KnownEntity] = field(default_factory=dict)
    # By hash; one that was never issued is absent.
    grants: Mapping[str, GrantRow] = field(default_factory=dict)


# --- what is decided ---------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class Reason:
    code: str
    effect: Effect
    message: str = ""
    at: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Obligation:
    id: str
    properties: Mapping[str, JSON] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class PolicyRevision:
    """Names the policy that judged; empty when the engine was not asked."""

    bundle: str = ""
    revision: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """What the engine answered, checked for shape."""

    effect: Effect
    reasons: tuple[Reason, ...]
    policy: PolicyRevision
    obligations: tuple[Obligation, ...] = ()
    retry_after: timedelta | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class ChainHop:
    """A hop of a decision's chain, as its receipt names it."""

    # SHA-256 over agent and grant as they came, base64url; with it, nothing else is said.
    unverified: str = ""
    agent: str = ""
    delegated_by: str = ""
    # Empty for the session's own agent without a grant.
    grant_hash: str = ""
    depth: int = 0
    human_reviewed: bool = False
    same_runtime: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Decision:
    decision_id: str
    effect: Effect
    reasons: tuple[Reason, ...]
    session_id: str
    tool_call_id: str
    decided_at: datetime
    expires_at: datetime
    policy: PolicyRevision
    data_revisions: Mapping[str, int]
    model_text: str
    obligations: tuple[Obligation, ...] = ()
    retry_after: timedelta | None = None
    # 0: moved no session.
    session_version: int = 0
    retryable: bool = False
    attempt_id: str = ""
    replayed: bool = False
    # Root first.
    chain: tuple[ChainHop, ...] = ()

    def as_replayed(self) -> Decision:
        return replace(self, replayed=True)


@dataclass(frozen=True, kw_only=True, slots=True)
class Simulation:
    """What a decision would be. Nobody may act on it."""

    would_be: Effect
    reasons: tuple[Reason, ...]
    policy: PolicyRevision
    data_revisions: Mapping[str, int]
    # The exact document that the engine judged (JSON).
    input_document: bytes
    obligations: tuple[Obligation, ...] = ()
    retry_after: timedelta | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Receipt:
    """`token` is the full receipt; its signed part ends before the first `~`."""

    token: bytes
    position: Position | None = None

    @property
    def signed(self) -> bytes:
        return self.token.split(b"~", 1)[0]


@dataclass(frozen=True, kw_only=True, slots=True)
class SessionMove:
    """What recording does to the session: from `version` to `version + 1`."""

    session_id: str
    version: int
    expires_at: datetime
    aggregates: Aggregates
    # True for an allow: the session must not have expired at commit.
    must_be_live: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Recording:
    """One decision, ready for the ledger, with what it was taken on."""

    key: DecisionKey
    decision: Decision
    receipt: Receipt
    action_fingerprint: bytes
    # The exact document that the engine judged (JSON).
    input_document: bytes
    # The tenant's epoch that the facts were read at.
    epoch: int
    # Id of the key's latest decision when the facts were read.
    prior_decision_id: str | None
    # False leaves the key pointing at the earlier decision: a call that reuses the id of
    # another action must not displace the answer to that action.
    claims_key: bool
    # None for a decision that moves no session (a stranger's, an unknown session's).
    move: SessionMove | None
    deadline: float
    # Every entity that was read, with its revision.
    entities: Mapping[EntityName, int] = field(default_factory=dict)
    # None unless the action is allowed, and has anything to reserve.
    reservation: Reservation | None = None
    # What this action is to tools that name it as their prerequisite.
    steps: tuple[Step, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class RecordedDecision:
    """A decision as the ledger holds it."""

    key: DecisionKey
    token: bytes
    position: Position
    input_document: bytes | None
    # What became of it, as far as anybody said.
    outcome: Outcome | None = None
    redeemed: bool = False


# --- what became of it -------------------------------------------------------


class EntryKind(StrEnum):
    OUTCOME = "outcome"
    CONFLICT = "outcome.conflict"
    REDEMPTION = "redemption"


@dataclass(frozen=True, kw_only=True, slots=True)
class HoldRecord:
    """A hold as the table has it. `version` 0: there is none yet."""

    state: HoldState
    expires_at: datetime
    key: str | None = None
    redeem_required: bool = False
    redeemed: bool = False
    outcome: Outcome | None = None
    # Who reported `outcome` can be believed about money.
    believed: bool = False
    # Later reports that contradict `outcome`, and whether each can be believed; each once.
    conflicts: tuple[tuple[Outcome, bool], ...] = ()
    totals: tuple[tuple[CounterKey, int], ...] = ()
    version: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Standing:
    """A recorded decision and what became of it until `now`, of the database's clock."""

    decision_id: str
    key: DecisionKey
    token: bytes
    effect: Effect
    recorded_at: datetime
    hold: HoldRecord
    session: Session | None
    # A grant that it was taken on, or one before that, was revoked since.
    revoked: bool
    now: datetime
    epoch: int


@dataclass(frozen=True, kw_only=True, slots=True)
class OpenDecision:
    """An allow whose outcome nobody reported."""

    decision_id: str
    session_id: str
    tool_call_id: str
    state: HoldState
    redeemed: bool
    expires_at: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One signed entry about an earlier decision, ready for the ledger."""

    entry_id: str
    kind: EntryKind
    # Compact JWS.
    token: bytes
    caller: str
    # What it was taken on.
    about: Standing
    # The hold afterwards.
    hold: HoldRecord
    # What is added to counters; less than 0 is given back.
    recounts: tuple[tuple[CounterKey, int], ...]
    deadline: float

    @property
    def key(self) -> DecisionKey:
        return self.about.key
