"""What an allow reserves until its outcome is known."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from pdp.model.limits import ACTIONS, CounterKey, Guard
from pdp.model.prerequisites import PrerequisiteAllow
from placet.model import HoldState as HoldState
from placet.model import Outcome as Outcome


@dataclass(frozen=True, kw_only=True, slots=True)
class Hold:
    """An allowed action that stands in the way of its own repetition."""

    decision_id: str
    state: HoldState
    # Keyed hash of its business key as it was given.
    given: str


@dataclass(frozen=True, kw_only=True, slots=True)
class KeyHashes:
    """Keyed hashes (hex) of a business key: who holds the database learns no argument."""

    normal: str
    given: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Reservation:
    """What an allow leaves behind until its outcome is known."""

    # What it adds to counters.
    guards: tuple[Guard, ...] = ()
    # Counters that existed when the decision was taken; others of the guards are created.
    existing: frozenset[CounterKey] = frozenset()
    # The business key that it holds; None: it has none.
    key: KeyHashes | None = None
    # Version of the key that the decision was taken on; 0: it had never been held.
    key_version: int = 0
    redeem_required: bool = False
    # The allows of prerequisites that it consumes.
    consumes: tuple[PrerequisiteAllow, ...] = ()

    @property
    def totals(self) -> tuple[tuple[CounterKey, int], ...]:
        """What a release gives back: sums of money. Counts stay, and leave their windows."""
        return tuple(
            {
                guard.key: guard.add
                for guard in self.guards
                if guard.add and not guard.key.unit.startswith(ACTIONS)
            }.items()
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class HoldRecord:
    """A hold as the table has it. `version` 0: there is none yet."""

    state: HoldState
    expires_at: datetime
    key: str | None = None
    redeem_required: bool = False
    redeemed: bool = False
    outcome: Outcome | None = None
    # Whoever reported `outcome` can be believed about money.
    believed: bool = False
    # Later reports that contradict `outcome`, and whether each can be believed; each once.
    conflicts: tuple[tuple[Outcome, bool], ...] = ()
    # What it added to counters of money, and a release gives back.
    totals: tuple[tuple[CounterKey, int], ...] = ()
    version: int = 0
