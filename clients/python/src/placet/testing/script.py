"""What a script of the fake is given, and what it says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from placet.errors import blocked_text
from placet.model import Action, Effect, Hop, Obligation


@dataclass(frozen=True, kw_only=True, slots=True)
class Caller:
    tenant: str
    subject: str
    roles: frozenset[str]
    agents: frozenset[str]


@dataclass(frozen=True, kw_only=True, slots=True)
class Received:
    """A request to Evaluate, as the fake received it. `action.arguments` is parsed."""

    caller: Caller
    action: Action
    session_id: str
    hops: tuple[Hop, ...]
    review_id: str
    attempt_id: str
    audience: str
    # What was left of the caller's deadline, in seconds; None: the caller set none.
    time_remaining: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """What a script says. `resource` is what the registry would derive: "invoice:INV-1"."""

    effect: Effect
    code: str
    message: str = "Scripted."
    obligations: tuple[Obligation, ...] = ()
    retry_after: timedelta | None = None
    retryable: bool = False
    resource: str = ""


Script = Callable[[Received], Verdict]


def model_text(verdict: Verdict, decision_id: str) -> str:
    """Return short text that is safe for a model, as the PDP words it."""
    match verdict.effect:
        case Effect.ALLOW:
            return f"POLICY_ALLOWED decision_id={decision_id}."
        case Effect.ESCALATE:
            return (
                f"POLICY_ESCALATED decision_id={decision_id} reason_code={verdict.code} retryable=false. "
                "The tool was not executed. A person would have to approve this, and nobody can "
                "resolve it yet. Do not retry this call; tell the user."
            )
        case Effect.BLOCK:
            return blocked_text(decision_id, verdict.code, retryable=verdict.retryable)
