"""What was decided, and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from typing import Any


class Effect(StrEnum):
    """What a decision says. Only an allow lets a tool run; escalate asks for a person."""

    ALLOW = "allow"
    BLOCK = "block"
    ESCALATE = "escalate"


class Remedy(StrEnum):
    """What can help when an action is not allowed."""

    # The call is wrong, and may be sent again, corrected, as a new call.
    CHANGE_CALL = "change_call"
    # Something else has to be done first.
    FIRST = "first"
    # Time helps.
    WAIT = "wait"
    # A person has to approve, grant, enter or correct something.
    ASK = "ask"
    # Nothing: the action must not be tried again.
    NONE = "none"


@dataclass(frozen=True, kw_only=True, slots=True)
class Figures:
    """What was measured against a limit.

    Numbers are decimal text, amounts in the major unit of their currency; one that is not known, or not for
    the caller to see, is empty.
    """

    # Whose limit it is: "session", "template", "grant", "settings", "budget:monthly"; or what it is measured
    # by: "record", "order".
    of: str
    # Where that stands, if it is a hop: "chain[1]".
    at: str = ""
    # What is counted: a currency (ISO 4217), or "actions".
    unit: str = ""
    # What counted already, before this action.
    used: str = ""
    # What this action adds.
    added: str = ""
    # What all of it may come to.
    limit: str = ""
    # What the record or order has open.
    open: str = ""
    # What of `used` the figures of the record or order do not contain yet, so that it is not open either.
    unposted: str = ""
    # How far back the limit looks; None: for good.
    window: timedelta | None = None
    # When there is room for this action again; None: that is not known.
    retry_after: timedelta | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class LimitStatus:
    """A limit that applies, whether it is met or not."""

    # The reason's code that exceeding it gives: "boundary.total".
    code: str
    # `figures.added` is empty where no action is asked about.
    figures: Figures
    # What is left, after the action if there is one; less than 0 if it exceeds the limit. Empty where that is
    # not known, or not for the caller to see.
    left: str = ""
    # What exceeding it means.
    on_exceed: Effect | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class SchemaViolation:
    """One place at which arguments do not fit their tool's schema. It holds no value of an argument."""

    # The argument: "arguments.items[0].amount".
    at: str
    # The keyword of JSON Schema that failed ("required", "type"), or "normalise" where the registry's normal
    # spelling could not be made.
    rule: str
    # What the keyword demands: "string", "100". Empty where that says nothing, and for secrets.
    demanded: str = ""
    # The alternative of `anyOf` or `oneOf` that it is of, counted from 1; 0: there is none.
    alternative: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Reason:
    """Why policy decided as it did.

    `code` is stable ("boundary.amount"; docs/policies.md has all) and `message` is constant text for people.
    `at` is what the reason is about: an argument ("arguments.amount"), a hop ("chain[1]"), a boundary
    ("session"), an entity of the call ("entities.vendor"), a tool that comes first, a field of the request;
    or empty. `remediation` is what the rule's author advises, `remedy` what can help (None: nobody says).
    `figures` are what was measured against what, and `violations` where the arguments do not fit the schema,
    as far as they are listed; there are `more_violations` beyond these.
    """

    code: str
    effect: Effect
    message: str = ""
    at: str = ""
    remediation: str = ""
    remedy: Remedy | None = None
    figures: tuple[Figures, ...] = ()
    violations: tuple[SchemaViolation, ...] = ()
    more_violations: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Obligation:
    """What whoever acts on the decision has to do as well. One that is not understood blocks."""

    id: str
    properties: Mapping[str, Any] = field(default_factory=dict)
