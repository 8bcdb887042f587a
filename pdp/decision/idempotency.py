"""Repeats of a call: which get the stored answer, and which need a decision of their own.

| earlier decision under the key | the repeat |
|---|---|
| none | judged |
| any, and the caller proves no part in the session | judged, and blocked; the key stays with the first |
| of another action | judged, and blocked: `action.key_reused`; the key stays with the first |
| block, not retryable | the stored decision |
| block, retryable | judged anew |
| allow or escalate, unexpired, session and chain as then, no outcome | the stored decision, if it stands |
| escalate, otherwise | judged anew |
| allow, otherwise | judged, and blocked: `action.replay_stale`, which voids it |

Whether it stands on moved ground, `pdp.decision.revalidation` tells.

A session is still the caller's while it is open, or was completed before the decision was taken.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from datetime import datetime

from pdp.decision.fingerprint import Fingerprints
from pdp.model import (
    Chain,
    Decision,
    Effect,
    PriorDecision,
    Reason,
    Receipt,
    Session,
    SessionState,
    SignedDecision,
)
from pdp.proof.receipts import read_decision
from pdp.reasons import key_reused, replay_stale


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredAnswer:
    """An earlier decision that is the answer to a repeat, as its receipt holds it."""

    prior: PriorDecision

    @property
    def decision(self) -> Decision:
        """The decision, marked as replayed."""
        return read_decision(self.prior.token).as_replayed()

    def replay(self, fingerprints: Fingerprints, *, tenant: str) -> SignedDecision:
        """Return the decision, marked as replayed, and the receipt that it was returned with.

        Whoever repeats a call has its arguments, so the salt of its secrets comes with the receipt again.
        """
        decision = self.decision
        salt = fingerprints.secret_salt(tenant, decision.decision_id) if decision.secret_paths else b""
        receipt = Receipt(token=self.prior.token, position=self.prior.position, secret_salt=salt)
        return SignedDecision(decision, receipt)


@dataclass(frozen=True, kw_only=True, slots=True)
class NewCall:
    """A call that needs a decision of its own."""

    # The fingerprint of the action (`Fingerprints.of`).
    fingerprint: bytes
    # Reasons to block that the decision carries whatever policy says.
    reasons: tuple[Reason, ...] = ()
    # False: the idempotency key stays with an earlier decision.
    claims_key: bool = True


def judge_repeat(
    prior: PriorDecision | None,
    *,
    fingerprint: bytes,
    earlier_form: bytes | None = None,
    session: Session | None,
    chain: Chain,
    now: datetime,
) -> NewCall | StoredAnswer:
    """Return what the key's earlier decision, if there is one, makes of this request.

    `session` is the caller's own session, None if it is unknown or somebody else's; `chain` as it
    is proven now: what was revoked or has expired since lets no answer stand. Who proves no part in the
    session neither reads nor takes a key in it. `earlier_form` is the fingerprint that an earlier server
    would have recorded, where that is another one.
    """
    if session is None or not chain.proven:
        return NewCall(fingerprint=fingerprint, claims_key=False)
    if prior is None:
        return NewCall(fingerprint=fingerprint)
    equal = hmac.compare_digest(prior.action_fingerprint, fingerprint)
    if not equal and earlier_form is not None:
        equal = hmac.compare_digest(prior.action_fingerprint, earlier_form)
    if not equal:
        return NewCall(fingerprint=fingerprint, reasons=(key_reused(prior.decision_id),), claims_key=False)
    if prior.effect is Effect.BLOCK:
        return NewCall(fingerprint=fingerprint) if prior.retryable else StoredAnswer(prior=prior)
    if _is_still_good(prior, session, now):
        return StoredAnswer(prior=prior)
    if prior.effect is Effect.ESCALATE:
        return NewCall(fingerprint=fingerprint)
    return NewCall(fingerprint=fingerprint, reasons=(replay_stale(prior.decision_id),))


def _is_still_good(prior: PriorDecision, session: Session, now: datetime) -> bool:
    """Return whether the earlier answer still holds, as far as session and time go."""
    if now >= prior.expires_at or prior.has_outcome or prior.revoked:
        return False
    return is_unchanged_since(session, recorded_at=prior.recorded_at, now=now)


def is_unchanged_since(session: Session, *, recorded_at: datetime, now: datetime) -> bool:
    """Whether the session is in the same state as when a decision in it was recorded.

    It is not if its proofs were revoked since: nobody knows who had asked.
    """
    if session.proofs_revoked_at is not None and recorded_at <= session.proofs_revoked_at:
        return False
    state = session.state_at(now)
    # What was permitted before completion may not be after it.
    return state is SessionState.OPEN or (
        state is SessionState.COMPLETED
        and session.completed_at is not None
        and recorded_at >= session.completed_at
    )
