"""What a task may need."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from enum import StrEnum


class ToolEffect(StrEnum):
    """What a tool does to the world; boundaries and rules go by it."""

    READ = "read"
    WRITE = "write"
    SEND = "send"
    PAY = "pay"
    DELETE = "delete"
    SHARE = "share"
    CREDENTIAL = "credential"


class OnExceed(StrEnum):
    """What exceeding a limit means."""

    BLOCK = "block"
    ESCALATE = "escalate"

    def as_strict_as(self, other: OnExceed) -> bool:
        """True if a limit with this consequence holds back whatever one with `other` does."""
        return self is other or self is OnExceed.BLOCK


@dataclass(frozen=True, kw_only=True, slots=True)
class AttributeRule:
    """Permits the ids that stand in `attribute` of the entities of `of_type` that the boundary lists."""

    of_type: str
    attribute: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ResourceRule:
    """Permits resources of a type.

    Exactly one of `id`, `prefix`, `ids` and `attribute` is set; an empty prefix permits every id.
    """

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
    # The most that may be paid in the session, in all and to one counterparty.
    total: Decimal | None = None
    per_counterparty: Decimal | None = None
    # What exceeding `total` or `per_counterparty` means; exceeding `per_action` blocks.
    on_exceed: OnExceed = OnExceed.BLOCK


@dataclass(frozen=True, kw_only=True, slots=True)
class VelocityLimit:
    """At most `max` allowed actions in any window, of the effects that are named; of any if none is."""

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
    """What serving a task may need: an action must lie within it. An empty boundary permits nothing."""

    tools: tuple[str, ...] = ()
    effects: tuple[ToolEffect, ...] = ()
    resources: tuple[ResourceRule, ...] = ()
    amounts: tuple[AmountLimit, ...] = ()
    # Tools that are still permitted once the task is completed.
    after_completion: tuple[str, ...] = ()
    # Allowed actions in all; None: any number.
    max_actions: int | None = None
    velocity: tuple[VelocityLimit, ...] = ()
