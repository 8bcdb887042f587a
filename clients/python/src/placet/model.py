"""The client's values: frozen, and free of gRPC."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Any

from placet._clock import SteadyClock, steady
from placet._executed import Executed
from placet.errors import Blocked, Escalated, ExpiredAllow, OutOfOrder, PdpUnavailable, ReplayedAllow

# The PDP's reason for a repeat of a call that was allowed and is over.
SPENT = "action.replay_stale"
# What an argument may be. A float is sent as the decimal text that Python prints for it.
JSON = None | bool | int | float | Decimal | str | Sequence["JSON"] | Mapping[str, "JSON"]


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


class SessionState(StrEnum):
    OPEN = "open"
    COMPLETED = "completed"
    CLOSED = "closed"
    EXPIRED = "expired"
    HALTED = "halted"


class ReceiptStatus(StrEnum):
    # There is none, or it is not for this answer.
    NONE = "none"
    # It says what the answer says; whether the PDP signed it was not checked.
    UNVERIFIED = "unverified"
    # The signature was checked too.
    VERIFIED = "verified"


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    id: str
    description: str = ""
    prompt: str = ""


class OnExceed(StrEnum):
    """What exceeding a limit means."""

    BLOCK = "block"
    ESCALATE = "escalate"

    def as_strict_as(self, other: OnExceed) -> bool:
        """True if a limit with this consequence holds back whatever one with `other` does."""
        return self is other or self is OnExceed.BLOCK


class Outcome(StrEnum):
    """What became of an allow."""

    EXECUTED = "executed"
    # It was tried, and had no effect.
    FAILED = "failed"
    # It was never tried.
    NOT_EXECUTED = "not_executed"
    UNKNOWN = "unknown"
    # The answer came too late or never; the caller will not act on it.
    VOIDED = "voided"
    # It had to be redeemed before it expired, and was not. The server's own finding, never a report.
    LAPSED = "lapsed"


class HoldState(StrEnum):
    """What an allow holds of its limits and its business key."""

    RESERVED = "reserved"
    COMMITTED = "committed"
    UNRESOLVED = "unresolved"
    RELEASED = "released"


@dataclass(frozen=True, kw_only=True, slots=True)
class Reported:
    """What an allow holds after a report, and whether that report differs from the one that counts."""

    decision_id: str
    hold: HoldState
    conflict: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class OpenDecision:
    """An expired allow whose outcome nobody reported."""

    decision_id: str
    session_id: str
    tool_call_id: str
    hold: HoldState
    redeemed: bool
    expires_at: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class AttributeRule:
    """The ids that `attribute` holds, of the entities of type `of_type` that the boundary lists."""

    of_type: str
    attribute: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ResourceRule:
    """Exactly one of `id`, `prefix`, `ids` and `attribute` is set; an empty prefix is every id."""

    type: str
    id: str | None = None
    prefix: str | None = None
    ids: tuple[str, ...] | None = None
    attribute: AttributeRule | None = None


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
    """At most `max` allowed actions of the effects (none: of any) in any window."""

    max: int
    # Whole seconds.
    window: timedelta
    effects: tuple[ToolEffect, ...] = ()
    on_exceed: OnExceed = OnExceed.BLOCK

    @property
    def window_seconds(self) -> int:
        return self.window // timedelta(seconds=1)


@dataclass(frozen=True, kw_only=True, slots=True)
class Boundary:
    """What serving a task may need. Empty permits nothing."""

    tools: tuple[str, ...] = ()
    effects: tuple[ToolEffect, ...] = ()
    resources: tuple[ResourceRule, ...] = ()
    amounts: tuple[AmountLimit, ...] = ()
    # Tools that are still permitted once the task is completed.
    after_completion: tuple[str, ...] = ()
    # Allowed actions in all; None: any number.
    max_actions: int | None = None
    velocity: tuple[VelocityLimit, ...] = ()


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
    completed_at: datetime | None = None
    closed_at: datetime | None = None
    # The tenant's template: actions must lie within it too.
    template: Boundary | None = None
    # Decisions so far, by effect.
    decisions: Mapping[str, int] = field(default_factory=dict)
    # The root grant, from open_session only: what the session's agent delegates from.
    grant: str = field(default="", compare=False, repr=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class Action:
    """One tool call.

    `arguments` is a mapping of JSON values, or the JSON text of an object as bytes (then a
    number never passes through a float). A float is sent as `repr` writes it; NaN and
    infinities are refused. `tool_call_id` is the framework's id of this call: a repeat of it
    is a repeat of the call. `intent` is for people and never trusted.
    """

    tool: str
    arguments: Mapping[str, Any] | bytes
    tool_call_id: str
    intent: str = ""
    resource: str = ""
    provenance: Mapping[str, Any] | bytes = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Hop:
    agent: str
    grant: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Grant:
    """What was delegated. Whoever speaks for its agent acts with `chain`."""

    # Compact JWS.
    token: str = field(repr=False)
    # Its name in receipts, and for revoke_grant.
    grant_hash: str
    # Root first; the last hop is the new one.
    chain: tuple[Hop, ...] = field(repr=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class ChainHop:
    """A hop of a decision's chain; of one that was not `verified`, a hash alone is known."""

    agent: str = ""
    # The credential that gave the agent its grant.
    delegated_by: str = ""
    # Empty for the session's own agent without a grant.
    grant_hash: str = ""
    # How many delegations lie before it.
    depth: int = 0
    # What was decided; on the last hop only.
    effect: Effect | None = None
    human_reviewed: bool = False
    # It acts through the same credential as the hop before it.
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


@dataclass(frozen=True, kw_only=True, slots=True)
class Reason:
    code: str
    effect: Effect
    message: str = ""
    at: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Obligation:
    id: str
    properties: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Review:
    review_id: str
    reviewers: tuple[str, ...] = ()
    expires_at: datetime | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class PolicyRevision:
    bundle: str = ""
    revision: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Position:
    """Where the ledger holds the receipt."""

    writer: str
    seq: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Decision:
    """The answer to one action, or the block that this client made of a failure.

    `failure` is None for an answer of the PDP. Only `allowed` and `require_allowed()` say
    whether to act: an allow can have expired, or belong to another attempt.
    """

    effect: Effect
    reasons: tuple[Reason, ...]
    model_text: str
    decision_id: str = ""
    obligations: tuple[Obligation, ...] = ()
    retry_after: timedelta | None = None
    review: Review | None = None
    session_id: str = ""
    tool_call_id: str = ""
    decided_at: datetime | None = None
    # By the PDP's clock, for people; `valid_until` is what counts here.
    expires_at: datetime | None = None
    policy: PolicyRevision = PolicyRevision()
    data_revisions: Mapping[str, int] = field(default_factory=dict)
    session_version: int = 0
    # A block that asking again, with the same call, may lift.
    retryable: bool = False
    attempt_id: str = ""
    # The stored answer to an earlier, equal request.
    replayed: bool = False
    # The receipt's bytes: store and pass them on as they are.
    receipt: bytes = b""
    receipt_status: ReceiptStatus = ReceiptStatus.NONE
    position: Position | None = None
    chain: tuple[ChainHop, ...] = ()
    # What policy judged (JSON); from get_decision, for operators and auditors only.
    input_document: bytes = b""
    # What became of it, as far as anybody said; from get_decision.
    outcome: Outcome | None = None
    redeemed: bool = False
    failure: PdpUnavailable | None = field(default=None, compare=False)
    # Instant of `clock` after which an allow is void. -inf: this is not the answer to an
    # attempt of this process, so nothing may be done on it.
    valid_until: float = field(default=-math.inf, repr=False, compare=False)
    clock: SteadyClock = field(default=steady, repr=False, compare=False)
    # What the client that asked knows to have been executed.
    executed: Executed = field(default_factory=Executed, repr=False, compare=False)

    @property
    def allowed(self) -> bool:
        """True while the tool may run on this decision."""
        return self._stands and all(earlier in self.executed for earlier in self.after)

    @property
    def after(self) -> tuple[str, ...]:
        """The decisions, of earlier actions of a plan, that have to be executed before this one."""
        return tuple(
            str(obligation.properties.get("decision_id", ""))
            for obligation in self.obligations
            if obligation.id == "after"
        )

    @property
    def _stands(self) -> bool:
        return self.effect is Effect.ALLOW and self.failure is None and self.clock() < self.valid_until

    def require_allowed(self) -> None:
        """Return if the tool may run now.

        Raises `PdpUnavailable`, `Escalated`, `ReplayedAllow`, `ExpiredAllow`, `OutOfOrder` or
        `Blocked`; all of them are `Blocked`.
        """
        if self.allowed:
            return
        if self.failure is not None:
            failure = self.failure
            raise PdpUnavailable(
                str(failure),
                decision=self,
                code=failure.code,
                reason=failure.reason,
                violations=failure.violations,
                retry_after=failure.retry_after,
                request_id=failure.request_id,
            ) from failure.__cause__
        codes = ", ".join(reason.code for reason in self.reasons)
        if self.effect is Effect.ESCALATE:
            raise Escalated(
                f"escalated ({codes}): a person would have to approve this, and nobody can resolve it yet",
                decision=self,
                retry_after=self.retry_after,
            )
        # The second: what became of the first attempt is known already.
        spent = self.effect is Effect.BLOCK and SPENT in (reason.code for reason in self.reasons)
        if spent or (self.effect is Effect.ALLOW and self.valid_until == -math.inf):
            raise ReplayedAllow(
                f"decision {self.decision_id}: another attempt at this call was allowed, "
                "which may have run the tool",
                decision=self,
            )
        if self._stands:
            raise OutOfOrder(
                f"decision {self.decision_id} comes after {', '.join(self.after)}, "
                "which this client does not know to have been executed",
                decision=self,
            )
        if self.effect is Effect.ALLOW:
            raise ExpiredAllow(f"the allow {self.decision_id} has expired", decision=self)
        raise Blocked(f"blocked ({codes})", decision=self, retry_after=self.retry_after)

    def __reduce__(self) -> tuple[Any, ...]:
        # The instant means nothing on another machine: what was packed allows nothing. Not by
        # __getstate__, which dataclasses with slots overwrite in early releases of Python 3.11.
        packed = replace(self, valid_until=-math.inf, clock=steady)
        names = (item.name for item in fields(packed) if item.name != "executed")
        return _unpacked, ({name: getattr(packed, name) for name in names},)


@dataclass(frozen=True, kw_only=True, slots=True)
class Simulation:
    """What a decision would be: an answer to a policy author's question, and no permission."""

    would_be: Effect
    reasons: tuple[Reason, ...]
    obligations: tuple[Obligation, ...] = ()
    retry_after: timedelta | None = None
    policy: PolicyRevision = PolicyRevision()
    data_revisions: Mapping[str, int] = field(default_factory=dict)
    # The document that policy judged (JSON).
    input_document: bytes = b""


@dataclass(frozen=True, kw_only=True, slots=True)
class AllowedTool:
    """A tool that may still be allowed, with some arguments. Ask before each call."""

    name: str
    description: str = ""
    # JSON Schema (2020-12) of the arguments, as it was registered; empty: no arguments.
    arguments_schema: bytes = b""


def _unpacked(members: dict[str, Any]) -> Decision:
    return Decision(**members)


# --- what operators write ------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class Agent:
    """`trust` absent: the prior, which permits no effect that has a trust floor."""

    agent: str
    owner: str = ""
    trust: float | None = None
    trust_explanation: str = ""
    model: str = ""
    version: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class AmountRole:
    """How a call's amount is read. `unit`: "major" or "minor"; at most one currency_… is set."""

    argument: str
    unit: str = ""
    currency_argument: str | None = None
    currency_code: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Tool:
    name: str
    effect: ToolEffect
    # Template over arguments: "invoice:{invoice}".
    resource: str = ""
    # JSON Schema (2020-12) of the arguments; None: no arguments.
    arguments_schema: Mapping[str, Any] | bytes | None = None
    amount: AmountRole | None = None
    secret_arguments: tuple[str, ...] = ()
    description: str = ""
    reversible: bool = False
    # The parts below are plain values; `placet._calls.toolform` and docs/tools.md have their form.
    argument_roles: Mapping[str, str] = field(default_factory=dict)
    normalise: Mapping[str, Sequence[str]] = field(default_factory=dict)
    entities: Sequence[Mapping[str, Any]] = ()
    business_key: Mapping[str, Any] | None = None
    prerequisites: Sequence[Mapping[str, Any]] = ()
    output: Mapping[str, Any] | None = None
    # "required", or empty.
    redeem: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class ToolRevision:
    """One change of the registry: names of the tools that it wrote and removed."""

    revision: int
    written_at: datetime
    written: tuple[str, ...]
    removed: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class IssuerKeys:
    """The public keys of an issuer of task tokens; a set without keys: all are revoked."""

    issuer: str
    # JWK Set.
    jwks: Mapping[str, Any]
    revision: int
    written_at: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class Entity:
    """Something that actions are about, at one revision of the tenant's entities."""

    type: str
    id: str
    # None: it was deleted.
    attributes: Mapping[str, Any] | None
    revision: int
    written_by: str
    written_at: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class Signal:
    name: str
    value: JSON
    expires_at: datetime | None = None
