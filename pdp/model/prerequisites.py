"""Actions that others have as their prerequisite, and what was answered to them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from pdp.model.action import Amount
from placet.model import Effect


@dataclass(frozen=True, kw_only=True, slots=True)
class PrerequisiteKey:
    """An action as others name it as their prerequisite: tool, and hash of the equal arguments."""

    tool: str
    arguments: str
    # The action's amount, if it has one. It is no part of the key.
    amount: Amount | None = field(default=None, compare=False)


class PrerequisiteUse(NamedTuple):
    """An allow that an allowed prerequisite carries, or carried until its hold was released."""

    decision_id: str
    # The version of its hold.
    version: int
    # False: the hold was released, so that the prerequisite is free again.
    stands: bool


class PrerequisiteAllow(NamedTuple):
    """An allow of an action that another one has as its prerequisite."""

    decision_id: str
    # What it was for; None: no amount.
    amount: Amount | None = None
    # The action counts as done (`pdp.authority.transitions.was_executed`).
    executed: bool = False
    # The actions that it carries, or carried, where it carries no more than one.
    uses: tuple[PrerequisiteUse, ...] = ()

    @property
    def is_free(self) -> bool:
        return not any(use.stands for use in self.uses)


class PriorAnswer(NamedTuple):
    """The latest answer to an action that another one has as its prerequisite."""

    effect: Effect
    # This answer, or one before it, was an escalation.
    waited: bool = False
    # If it is an allow: it, and the allows before it since any other answer; oldest first.
    allows: tuple[PrerequisiteAllow, ...] = ()
