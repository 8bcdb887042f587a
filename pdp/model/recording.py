"""What the ledger is given: decisions, and entries about them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

from pdp.model.decisions import Decision, DecisionKey, Effect, Receipt
from pdp.model.entities import EntityName
from pdp.model.ground import Ground
from pdp.model.holds import HoldRecord, HoldState, Reservation
from pdp.model.limits import CounterKey
from pdp.model.prerequisites import PrerequisiteKey
from pdp.model.sessions import Session, SessionMove


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
    # None: the session is unknown or somebody else's, and stays as it is.
    move: SessionMove | None
    # An instant of `time.monotonic()`.
    deadline: float
    # Every entity that was read, with its revision.
    entities: Mapping[EntityName, int] = field(default_factory=dict)
    # None unless the action is allowed, and has anything to reserve.
    reservation: Reservation | None = None
    # What this action is to tools that name it as their prerequisite.
    own_keys: tuple[PrerequisiteKey, ...] = ()
    # Hash of the grant that the caller acted on, a root grant included; empty without one.
    acted_on: str = ""
    # What an allow or an escalation rests on; None for a block.
    ground: Ground | None = None
    # Voids an earlier allow in the same transaction; None: the decision leaves all others as they are.
    voids: Entry | None = None


class EntryKind(StrEnum):
    """What an entry about an earlier decision says."""

    OUTCOME = "outcome"
    CONFLICT = "outcome.conflict"
    REDEMPTION = "redemption"


@dataclass(frozen=True, kw_only=True, slots=True)
class DecisionStatus:
    """A recorded decision and what became of it until `now`, of the database's clock."""

    decision_id: str
    key: DecisionKey
    token: bytes
    effect: Effect
    recorded_at: datetime
    hold: HoldRecord
    session: Session | None
    # A grant that the decision rests on was revoked since.
    revoked: bool
    now: datetime
    epoch: int
    # What the decision rests on; None for a block, and where an earlier server did not keep it.
    ground: Ground | None = None
    # Keyed hash of the action that was decided.
    action_fingerprint: bytes = b""
    # An entity of the ground was written since.
    entities_moved: bool = False
    # The session token that was asked with is the session's, and has not ended.
    token_lives: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class OpenDecision:
    """An allow whose outcome nobody reported."""

    decision_id: str
    session_id: str
    tool_call_id: str
    state: HoldState
    redeemed: bool
    expires_at: datetime


class LapsedDecision(NamedTuple):
    """An allow that had to be redeemed before it expired, and was not."""

    tenant: str
    decision_id: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One signed entry about an earlier decision, ready for the ledger."""

    entry_id: str
    kind: EntryKind
    # Compact JWS.
    token: bytes
    # Subject of whoever reported or redeemed.
    caller: str
    # The decision that it is about, with what was known of it.
    about: DecisionStatus
    # The hold afterwards.
    hold: HoldRecord
    # What is added to counters; less than 0 is given back.
    recounts: tuple[tuple[CounterKey, int], ...]
    deadline: float
    # The entities that a redemption was judged on, with their revisions.
    entities: Mapping[EntityName, int] = field(default_factory=dict)

    @property
    def key(self) -> DecisionKey:
        """The key of the decision that it is about."""
        return self.about.key
