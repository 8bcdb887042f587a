"""Repeats of a call: what a repeat gets, and what it can no longer get.

| earlier decision under the key | the repeat |
|---|---|
| none | judged |
| of another action | judged, and blocked: `action.key_reused`; the key stays with the first |
| block, not retryable | the stored decision |
| block, retryable | judged anew |
| allow or escalate, unexpired, session and chain still the caller's, no outcome | the stored decision |
| escalate, otherwise | judged anew |
| allow, otherwise | judged, and blocked: `action.replay_stale` |

A session is as it was while it is open, or completed and the decision was taken after that.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from datetime import datetime

from pdp.model import Chain, Effect, PriorDecision, Reason, Session, SessionState
from pdp.reasons import key_reused, replay_stale


@dataclass(frozen=True, kw_only=True, slots=True)
class Repeat:
    """How to go on. `stored` is set when the earlier decision is the answer."""

    stored: PriorDecision | None = None
    # Reasons that the new decision carries whatever policy says.
    reasons: tuple[Reason, ...] = ()
    # False: the key stays with the earlier decision.
    claims_key: bool = True


def judge_repeat(
    prior: PriorDecision | None,
    *,
    fingerprint: bytes,
    session: Session | None,
    chain: Chain,
    now: datetime,
) -> Repeat:
    """Return what the key's earlier decision means for this request.

    `session` is the caller's own session, None if it is unknown or somebody else's; `chain` as it
    is proven now: what was revoked or has expired since lets no answer stand.
    """
    if prior is None:
        return Repeat()
    if not hmac.compare_digest(prior.action_fingerprint, fingerprint):
        return Repeat(reasons=(key_reused(prior.decision_id),), claims_key=False)
    if prior.effect is Effect.BLOCK:
        return Repeat() if prior.retryable else Repeat(stored=prior)
    if session is not None and chain.proven and _stands(session, prior, now):
        return Repeat(stored=prior)
    if prior.effect is Effect.ESCALATE:
        return Repeat()
    return Repeat(reasons=(replay_stale(prior.decision_id),))


def _stands(session: Session, prior: PriorDecision, now: datetime) -> bool:
    """Whether what led to the earlier answer still does, as far as session and time go."""
    if now >= prior.expires_at or prior.has_outcome:
        return False
    return is_unchanged_since(session, recorded_at=prior.recorded_at, now=now)


def is_unchanged_since(session: Session, *, recorded_at: datetime, now: datetime) -> bool:
    """Whether the session still is as it was when a decision in it was recorded."""
    state = session.state_at(now)
    # What was permitted before completion may not be after it.
    return state is SessionState.OPEN or (
        state is SessionState.COMPLETED
        and session.completed_at is not None
        and recorded_at >= session.completed_at
    )
