"""What a task may need."""

from __future__ import annotations

from dataclasses import dataclass, field

from placet.model import AmountLimit as AmountLimit
from placet.model import AttributeRule as AttributeRule
from placet.model import OnExceed as OnExceed
from placet.model import ResourceRule as ResourceRule
from placet.model import ToolEffect as ToolEffect


@dataclass(frozen=True, kw_only=True, slots=True)
class VelocityLimit:
    """At most `max` allowed actions of the effects (none: of any) in any `window_seconds`."""

    effects: tuple[ToolEffect, ...]
    max: int
    window_seconds: int
    on_exceed: OnExceed = OnExceed.BLOCK


@dataclass(frozen=True, kw_only=True, slots=True)
class Boundary:
    """What a task may need. An empty boundary permits nothing.

    An action lies within it if its tool, or the tool's effect, is listed, and a rule permits its
    resource; a payment, if its currency is listed and its amount within the limit for one action.
    """

    # Tools that are permitted by name, and effects whose tools are all permitted.
    tools: tuple[str, ...] = ()
    effects: tuple[ToolEffect, ...] = ()
    resources: tuple[ResourceRule, ...] = ()
    # At most one for each currency; a currency without one is blocked.
    amounts: tuple[AmountLimit, ...] = ()
    # Tools that are still permitted once the task is completed.
    after_completion: tuple[str, ...] = ()
    # Allowed actions in all; None: any number.
    max_actions: int | None = None
    velocity: tuple[VelocityLimit, ...] = ()
    _hash: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        # A boundary is looked up by value several times in a decision, and may be long.
        parts = (self.tools, self.effects, self.resources, self.amounts, self.after_completion)
        object.__setattr__(self, "_hash", hash((*parts, self.max_actions, self.velocity)))

    def __hash__(self) -> int:
        return self._hash
