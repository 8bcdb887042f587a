"""What is decided, and the keys under which it is found again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import NamedTuple

from pdp.model.holds import Outcome
from pdp.model.json import JSON
from placet.model import Effect as Effect


@dataclass(frozen=True, kw_only=True, slots=True)
class Position:
    writer: str
    seq: int


class DecisionEffect(NamedTuple):
    """How one decision turned out."""

    decision_id: str
    effect: Effect


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


class SignedDecision(NamedTuple):
    """A decision with the receipt that proves it."""

    decision: Decision
    receipt: Receipt


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
