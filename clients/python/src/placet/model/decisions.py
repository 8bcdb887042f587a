"""Actions, and the answers to them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from placet._clock import SteadyClock, steady
from placet._executed import Executed
from placet.errors import Blocked, Escalated, ExpiredAllow, OutOfOrder, PdpUnavailable, ReplayedAllow
from placet.model._wording import reason_text, remedy_of
from placet.model.delegation import ChainHop
from placet.model.outcomes import Outcome
from placet.model.reasons import Effect, LimitStatus, Obligation, Reason, Remedy

# The PDP's reason for a repeat of a call that was allowed and is over.
SPENT = "action.replay_stale"


@dataclass(frozen=True, kw_only=True, slots=True)
class Action:
    """One tool call.

    `arguments` is a mapping of JSON values, or the JSON text of an object as bytes (then a
    number never passes through a float). A float is sent as `repr` writes it; NaN and
    infinities are refused. `tool_call_id` is the framework's id of this call: a repeat of it
    is a repeat of the call. `intent` is for people and never trusted.
    """

    tool: str
    # Arguments, and what is said beside them, may hold secrets: they are shown in no log that has the action.
    arguments: Mapping[str, Any] | bytes = field(repr=False)
    tool_call_id: str
    intent: str = field(default="", repr=False)
    resource: str = ""
    provenance: Mapping[str, Any] | bytes = field(default_factory=dict, repr=False)


class ReceiptStatus(StrEnum):
    """What the client knows of a decision's receipt."""

    # There is no receipt, or it is not for this answer.
    NONE = "none"
    # The receipt says what the answer says; whether the PDP signed it was not checked.
    UNVERIFIED = "unverified"
    # The receipt says what the answer says, and its signature was checked.
    VERIFIED = "verified"


@dataclass(frozen=True, kw_only=True, slots=True)
class Review:
    """Who is asked to approve an action that was escalated, and until when."""

    review_id: str
    reviewers: tuple[str, ...] = ()
    expires_at: datetime | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class PolicyRevision:
    """Which policy decided: the bundle's name and its revision."""

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
    # The salt of the secrets' digest, where the receipt names secret arguments: only the answer to the call
    # has it. Hand it to the tool's side (`placet.capability.presented_headers`), and store it nowhere: with
    # it and the receipt, secrets of few possible values can be guessed.
    secret_salt: bytes = field(default=b"", repr=False, compare=False)
    position: Position | None = None
    chain: tuple[ChainHop, ...] = ()
    # The document that policy judged (JSON). Only get_decision gives it, to operators and auditors.
    input_document: bytes = b""
    # What became of the action, as far as anybody reported; only get_decision gives it.
    outcome: Outcome | None = None
    redeemed: bool = False
    # The action's amount, in the major unit of its currency, and the limits that it met as they
    # stood then; only get_decision gives them.
    amount: str = ""
    currency: str = ""
    limits: tuple[LimitStatus, ...] = ()
    failure: PdpUnavailable | None = field(default=None, compare=False)
    # Instant of `clock` after which an allow is void. -inf: the decision is not the answer to an
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
    def remedy(self) -> Remedy | None:
        """What can help against all reasons together; None for an allow, and where nobody says."""
        return remedy_of(self.effect, self.reasons, retryable=self.retryable)

    @property
    def after(self) -> tuple[str, ...]:
        """The decisions on earlier actions that have to be executed before this one."""
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
        codes = ", ".join(reason_text(reason) for reason in self.reasons)
        if self.effect is Effect.ESCALATE:
            raise Escalated(
                f"escalated ({codes}): a person would have to approve this, and nobody can resolve it yet",
                decision=self,
                retry_after=self.retry_after,
            )
        # The PDP blocks the repeat of a call whose first attempt is over; an allow of another attempt
        # that may still be under way comes without an instant until which it is valid.
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
        # The salt of secrets is written nowhere.
        names = (item.name for item in fields(packed) if item.name not in ("executed", "secret_salt"))
        return _unpack, ({name: getattr(packed, name) for name in names},)


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


def _unpack(members: dict[str, Any]) -> Decision:
    return Decision(**members)
