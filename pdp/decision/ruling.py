"""The ruling: the decision that a verdict makes, with what the PDP itself found. Pure.

What the PDP found always blocks, whatever policy said; nothing that it found ever permits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from pdp.authority.settings import allow_ttl
from pdp.decision.explanation import explain
from pdp.decision.resolved_action import ActionContext
from pdp.model import (
    Chain,
    Decision,
    Effect,
    Facts,
    MeasuredLimit,
    Obligation,
    PolicyRevision,
    Reason,
    Verdict,
)
from pdp.proof.receipts import chain_hops
from pdp.reasons import (
    POLICY_UNAVAILABLE,
    REVIEW_UNKNOWN,
    SESSION_UNPROVEN,
    chain_refused,
    is_retryable,
)
from pdp.uuid7 import uuid7
from placet.model._wording import model_text

# The tool's own side redeems the decision before it acts.
REDEEM = Obligation(id="redeem")


def make_decision(
    context: ActionContext,
    verdict: Verdict | None,
    found: tuple[Reason, ...],
    *,
    limits: Sequence[MeasuredLimit] = (),
) -> Decision:
    """Return the decision on an action, under a new id.

    `verdict` None: the engine gave none, and the decision is a block. `found` are the reasons that
    its being a repeat gives, `limits` those that the action meets.
    """
    request, facts, session = context.request, context.facts, context.session
    # No review exists yet, so whatever id is named is made up.
    unknown = () if request.review_id is None else (REVIEW_UNKNOWN,)
    unproven = (SESSION_UNPROVEN,) if context.unproven else ()
    effect, reasons = _effect(
        verdict, (*unproven, *found, *unknown), context.chain, proves_nothing=context.proves_nothing
    )
    reasons = explain(reasons, context, limits)
    decided_at = facts.now.replace(microsecond=0)
    decision_id = uuid7(facts.now)
    retry_after = None if verdict is None else verdict.retry_after
    retryable = is_retryable(effect, reasons, retry_after)
    retry_after = retry_after if retryable else None
    return Decision(
        decision_id=decision_id,
        effect=effect,
        reasons=reasons,
        session_id=request.session_id,
        tool_call_id=request.action.tool_call_id,
        decided_at=decided_at,
        expires_at=_expiry(context, decided_at),
        policy=PolicyRevision() if verdict is None else verdict.policy,
        data_revisions=facts.data_revisions,
        model_text=model_text(effect, decision_id, reasons, retryable=retryable, retry_after=retry_after),
        obligations=_obligations(facts, verdict, effect),
        retry_after=retry_after,
        session_version=0 if session is None else session.version + 1,
        retryable=retryable,
        attempt_id=request.attempt_id,
        chain=chain_hops(request.hops, context.chain),
        secret_paths=context.action.derived.secret_paths,
    )


def _expiry(context: ActionContext, decided_at: datetime) -> datetime:
    """Return when the answer ends. It does not outlive its session, nor a grant that it rests on."""
    facts, session = context.facts, context.session
    expires_at = decided_at + timedelta(seconds=allow_ttl(facts.settings))
    if session is None:
        return expires_at
    ends = [session.expires_at, *(facts.grants[name].expires_at for name in context.chain.path)]
    return max(decided_at, min(expires_at, min(ends).replace(microsecond=0)))


def _obligations(facts: Facts, verdict: Verdict | None, effect: Effect) -> tuple[Obligation, ...]:
    if verdict is None or effect is Effect.BLOCK:
        return ()
    if effect is Effect.ALLOW and facts.tool is not None and facts.tool.redeem_required:
        return (*verdict.obligations, REDEEM)
    return verdict.obligations


def _effect(
    verdict: Verdict | None, found: tuple[Reason, ...], chain: Chain, *, proves_nothing: bool
) -> tuple[Effect, tuple[Reason, ...]]:
    """Return policy's verdict, overridden by what the PDP itself found; found reasons all block.

    What is wrong with the chain blocks whatever policy says of it, and so does a caller of whom
    nothing is proven. `proves_nothing`: it speaks for an agent of the session, and so is no stranger to it.
    """
    if verdict is None:
        return Effect.BLOCK, (*found, POLICY_UNAVAILABLE)
    # Policy names a problem; the first hop that has it is where to look.
    places = {problem.code: problem.at for problem in reversed(chain.problems)}
    reasons = tuple(replace(r, at=places[r.code]) if r.code in places else r for r in verdict.reasons)
    if proves_nothing and (chain.problems or SESSION_UNPROVEN in found):
        # Policy is told of no session, for the caller has proven no part in any. It may know better: that it
        # is the proof which is missing, or what is wrong with the chain.
        reasons = tuple(reason for reason in reasons if reason.code != "session.unknown")
    said = {reason.code for reason in reasons if reason.effect is Effect.BLOCK}
    found += tuple(chain_refused(code, at) for code, at in places.items() if code not in said)
    if not chain.proven and not found and verdict.effect is not Effect.BLOCK:
        found = (chain_refused("chain.unproven", ""),)
    if found:
        restricting = tuple(reason for reason in reasons if reason.effect is not Effect.ALLOW)
        return Effect.BLOCK, (*found, *restricting)
    return verdict.effect, reasons
