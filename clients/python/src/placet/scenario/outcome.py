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
    # Why each check of the receipt fails, by its name; empty where it holds.
    receipt_checks: dict[str, str] = field(default_factory=dict)
    claims: Mapping[str, Any] = field(default_factory=dict)
    # The claims of the earlier call that this one is compared with.
    earlier_claims: Mapping[str, Any] = field(default_factory=dict)
    # The outcome of each time, for a step that runs many times.
    many: list[Outcome] = field(default_factory=list)
    # What tables show of a step without a decision.
    told: str = ""

    @property
    def answer(self) -> str:
        """The effect of a decision; "ok" for the answer to another call; or "error"."""
        if self.error is not None:
            return "error"
        return str(self.decision.effect) if self.decision is not None else "ok"

    @property
    def because(self) -> str:
        """Why it came out so, in one line."""
        if self.error is not None:
            return str(self.error)
        if self.decision is None:
            return self.told
        # Only the reasons that decided: a payment that is blocked may also be large enough to escalate.
        decisive = [reason for reason in self.decision.reasons if reason.effect == self.decision.effect]
        because = "; ".join(f"{reason.code}: {reason.message}" for reason in decisive)
        return f"{because} (replayed)" if self.decision.replayed else because
