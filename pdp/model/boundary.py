"""What a task may need."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum


class ToolEffect(StrEnum):
    READ = "read"
    WRITE = "write"
    SEND = "send"
    PAY = "pay"
    DELETE = "delete"
    SHARE = "share"
    CREDENTIAL = "credential"


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
