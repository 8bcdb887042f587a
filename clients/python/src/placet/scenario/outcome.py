"""What came of a step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from placet.errors import PlacetError
from placet.model import Decision, Session


@dataclass(kw_only=True, slots=True)
class Outcome:
    """An answer or an error.

    A block that the client made of a failure is an error: it must not pass for policy's.
    """

    decision: Decision | None = None
    session: Session | None = None
    error: PlacetError | None = None
    # Decision and session as JSON, for the paths of expectations.
    values: dict[str, Any] = field(default_factory=dict)
    # By check, why it does not hold; empty: it holds.
    receipt_checks: dict[str, str] = field(default_factory=dict)
    claims: Mapping[str, Any] = field(default_factory=dict)
    # Those of an earlier call that this one is compared with.
    earlier_claims: Mapping[str, Any] = field(default_factory=dict)
    # What came of each time, of a step that runs many times.
    many: list[Outcome] = field(default_factory=list)
    # For tables, when there is no decision to tell of.
    told: str = ""

    @property
    def answer(self) -> str:
        """allow, block or escalate; ok for other calls; or error."""
        if self.error is not None:
            return "error"
        return str(self.decision.effect) if self.decision is not None else "ok"

    @property
    def because(self) -> str:
        """Why, in a line."""
        if self.error is not None:
            return str(self.error)
        if self.decision is None:
            return self.told
        # A payment that is blocked may be large, too; what decided is enough to tell.
        decisive = [reason for reason in self.decision.reasons if reason.effect == self.decision.effect]
        because = "; ".join(f"{reason.code}: {reason.message}" for reason in decisive)
        return f"{because} (replayed)" if self.decision.replayed else because
