"""What is decided, and the keys under which it is found again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import NamedTuple

from pdp.model.holds import Outcome
from pdp.model.json import JSON
from placet.model import Effect as Effect
from placet.model import Figures as Figures
from placet.model import LimitStatus as LimitStatus
from placet.model import Reason as Reason
from placet.model import Remedy as Remedy
from placet.model import SchemaViolation as SchemaViolation


@dataclass(frozen=True, kw_only=True, slots=True)
class Position:
    """Where the ledger holds a record: the `seq`th of its writer's stream, counted from 1 without gaps."""

    writer: str
    seq: int


class DecisionEffect(NamedTuple):
    """How one decision turned out."""

    decision_id: str
    effect: Effect


@dataclass(frozen=True, kw_only=True, slots=True)
class DecisionKey:
    """Names one call. Requests with equal keys are repeats of it (docs/decisions/0006-idempotency-key.md)."""

    tenant: str
    session_id: str
    # Subject of the caller's credential.
    caller: str
    # Hex SHA-256 of the leaf grant; empty for the session's own agent, with or without a root grant.
    leaf_grant: str
    tool_call_id: str
    review_id: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class PriorDecision:
    """The latest decision recorded under a key: what a repeat of the call is compared with."""

    decision_id: str
    effect: Effect
    # Keyed hash of the action that was decided.
    action_fingerprint: bytes
    recorded_at: datetime
    expires_at: datetime
    retryable: bool
    # Full receipt, disclosures included.
    token: bytes
    position: Position
    # Somebody said what became of it.
    has_outcome: bool = False
    # It was taken on a root grant that was revoked since.
    revoked: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Obligation:
    """What the caller has to do, or to wait for, if it acts on the decision."""

    # The kind of obligation: "redeem", "after".
    id: str
    properties: Mapping[str, JSON] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class PolicyRevision:
    """Names the policy that judged; empty when the engine was not asked."""

    bundle: str = ""
    revision: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """What policy says of one document, checked for shape: an effect, and at least one reason for it."""

    effect: Effect
    reasons: tuple[Reason, ...]
    policy: PolicyRevision
    obligations: tuple[Obligation, ...] = ()
    # None: policy does not know when asking again makes sense.
    retry_after: timedelta | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class ChainHop:
    """A hop of a decision's chain, as its receipt names it."""

    # SHA-256 (base64url) over agent and grant as they came, if the hop is not proven; then nothing
    # else of it is said. Empty for a proven hop.
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
    """The answer to one request, as its receipt holds it. Only an ALLOW may be acted on, until it expires."""

    # UUIDv7.
    decision_id: str
    effect: Effect
    # At least one; `effect` is that of the strongest.
    reasons: tuple[Reason, ...]
    session_id: str
    tool_call_id: str
    # Whole seconds, by the database's clock.
    decided_at: datetime
    expires_at: datetime
    policy: PolicyRevision
    # The revisions of what the decision rested on: "settings", "tools", "agents", "signals", "entities".
    data_revisions: Mapping[str, int]
    # What an agent's model may be told: codes and ids only.
    model_text: str
    obligations: tuple[Obligation, ...] = ()
    # When asking again makes sense; None unless `retryable`, and where nobody knows.
    retry_after: timedelta | None = None
    # The session's version after the decision; 0: it moved no session.
    session_version: int = 0
    # A block that asking again, with the same call, may lift.
    retryable: bool = False
    attempt_id: str = ""
    # The stored answer to a repeat.
    replayed: bool = False
    # Root first.
    chain: tuple[ChainHop, ...] = ()
    # The paths of the secret arguments that the receipt names (`placet.secret_paths`).
    secret_paths: tuple[str, ...] = ()

    def as_replayed(self) -> Decision:
        """Return the same decision, as the answer to a repeat."""
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
    """What proves a decision (docs/receipts.md)."""

    # The full receipt: a compact JWS, then its disclosures, each after a `~`.
    token: bytes
    # None: it is not recorded yet.
    position: Position | None = None
    # The salt of the secrets' digest, for whoever asked and nobody else; empty where it names no secrets. It
    # is no part of the token, and stored nowhere: `pdp.decision.fingerprint` derives it again.
    secret_salt: bytes = field(default=b"", repr=False)

    @property
    def signed(self) -> bytes:
        """The signed part: all before the first `~`."""
        return self.token.split(b"~", 1)[0]


class SignedDecision(NamedTuple):
    """A decision with the receipt that proves it."""

    decision: Decision
    receipt: Receipt


@dataclass(frozen=True, kw_only=True, slots=True)
class RecordedDecision:
    """A decision as the ledger holds it."""

    key: DecisionKey
    # Full receipt, disclosures included.
    token: bytes
    position: Position
    # The exact document that the engine judged (JSON); None: it was erased.
    input_document: bytes | None
    # What became of it, as far as anybody said.
    outcome: Outcome | None = None
    redeemed: bool = False
