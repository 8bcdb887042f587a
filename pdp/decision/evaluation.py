"""An evaluation: one action with all that policy judges it on, and what its decision does. Pure.

`prepare` says whether a request has its answer already, and otherwise what policy is asked about.
The evaluation then makes the decision of a verdict, and says what that leaves behind.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

from pdp.authority.counters import add_to_buckets
from pdp.authority.limits import make_guards, measure_limits
from pdp.decision.document import input_document
from pdp.decision.fingerprint import Fingerprints
from pdp.decision.idempotency import NewCall, StoredAnswer, judge_repeat
from pdp.decision.plan import PendingEffects, obligation_to_follow
from pdp.decision.resolved_action import ActionContext
from pdp.decision.ruling import make_decision
from pdp.model import (
    Aggregates,
    Decision,
    Effect,
    EntityName,
    MeasuredLimit,
    PrerequisiteKey,
    Recording,
    Reservation,
    Session,
    SessionMove,
    ToolEffect,
    Verdict,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """One action with all that it is judged on."""

    context: ActionContext
    call: NewCall
    # The limits that the action meets, with what is used of them.
    limits: tuple[MeasuredLimit, ...]
    # What policy is asked about (JSON).
    document: bytes
    # What this action is to tools that name it as their prerequisite.
    own_keys: tuple[PrerequisiteKey, ...]

    def decide(self, verdict: Verdict | None, *, waits_for: Sequence[str] = ()) -> Decision:
        """Return the decision that the verdict makes; a block if there is none.

        `waits_for`: decisions on earlier items of the plan that have to be executed before an allow is.
        """
        decision = make_decision(self.context, verdict, self.call.reasons)
        if decision.effect is not Effect.ALLOW or not waits_for:
            return decision
        return replace(decision, obligations=(*decision.obligations, *map(obligation_to_follow, waits_for)))

    def pending_effects(self, decision: Decision | None = None) -> PendingEffects:
        """Return what it leaves for later items of its plan; without a decision, as if it were allowed."""
        effect = Effect.ALLOW if decision is None else decision.effect
        return PendingEffects(
            effect=effect,
            decision_id="" if decision is None else decision.decision_id,
            move=self.move(effect),
            reservation=self.reservation(effect),
            own_keys=self.own_keys,
        )

    def move(self, effect: Effect) -> SessionMove | None:
        """Return what a decision of this effect does to the session's history, as absolute values."""
        session, facts = self.context.session, self.context.facts
        if session is None:
            return None
        before = session.aggregates
        allow, block, escalate, pay = before.allow, before.block, before.escalate, before.pay
        match effect:
            case Effect.ALLOW:
                allow += 1
                if facts.tool is not None and facts.tool.effect is ToolEffect.PAY:
                    pay = add_to_buckets(pay, int(facts.now.timestamp()))
            case Effect.BLOCK:
                block += 1
            case Effect.ESCALATE:
                escalate += 1
        return SessionMove(
            session_id=session.session_id,
            version=session.version,
            expires_at=session.expires_at,
            aggregates=Aggregates(allow=allow, block=block, escalate=escalate, pay=pay),
            must_be_live=effect is Effect.ALLOW,
        )

    def reservation(self, effect: Effect) -> Reservation | None:
        """Return what an allow leaves behind. Reading reserves nothing but what is counted of it."""
        facts, key = self.context.facts, self.context.action.key
        tool = facts.tool
        if effect is not Effect.ALLOW or tool is None:
            return None
        if tool.effect is ToolEffect.READ and key is None and not self.limits and not tool.redeem_required:
            return None
        guards = make_guards(self.limits)
        return Reservation(
            guards=guards,
            existing=frozenset(guard.key for guard in guards if guard.key in facts.counters),
            key=key,
            key_version=facts.key_version,
            redeem_required=tool.redeem_required,
        )

    @property
    def entity_revisions(self) -> dict[EntityName, int]:
        """The entities that the decision rests on: the call's, and those that boundaries point to."""
        facts = self.context.facts
        read = (*facts.entities.values(), *(facts.listed[name] for name in self.context.action.listed))
        return {entity.name: entity.revision for entity in read}


def prepare(context: ActionContext, fingerprints: Fingerprints) -> Evaluation | StoredAnswer:
    """Return what policy is to be asked about; or the answer that the request has already."""
    request = context.request
    call = judge_repeat(
        context.facts.prior,
        fingerprint=fingerprints.of(request),
        # Hops of which nothing was delegated were part of it.
        earlier_form=fingerprints.of_presented_root(request)
        if request.hops and not request.delegated_hops and context.facts.prior is not None
        else None,
        session=context.session,
        chain=context.chain,
        now=context.facts.now,
    )
    if isinstance(call, StoredAnswer):
        return call
    return prepare_call(context, call, fingerprints)


def prepare_call(context: ActionContext, call: NewCall, fingerprints: Fingerprints) -> Evaluation:
    """Return what policy is to be asked about."""
    request, facts, session, action = context.request, context.facts, context.session, context.action
    limits = measure_limits(
        action.limits,
        facts.counters,
        int(facts.now.timestamp()),
        allowed=0 if session is None else session.aggregates.allow,
        amount=action.derived.amount,
    )
    return Evaluation(
        context=context,
        call=call,
        limits=limits,
        document=input_document(
            request,
            facts,
            session=session,
            chain=context.chain,
            derived=action.derived,
            limits=limits,
            key=action.key,
            prerequisites=action.prerequisites,
        ),
        own_keys=own_prerequisite_keys(context, fingerprints),
    )


def own_prerequisite_keys(context: ActionContext, fingerprints: Fingerprints) -> tuple[PrerequisiteKey, ...]:
    """Return what names this action where other tools have it as their prerequisite."""
    if context.session is None:
        return ()
    request, derived = context.request, context.action.derived
    tenant, tool = request.caller.tenant, request.action.tool
    keys = (
        fingerprints.prerequisite_key(tenant, tool, same, derived.comparable)
        for same in context.facts.prerequisite_of
    )
    return tuple(replace(key, amount=derived.amount) for key in keys)


def apply_recording(session: Session | None, recording: Recording) -> Session | None:
    """Return the session once the recording is made. It may be another caller's; it is moved all the same."""
    move = recording.move
    if session is None or move is None:
        return session
    return replace(
        session,
        version=move.version + 1,
        aggregates=move.aggregates,
        last_receipt=hashlib.sha256(recording.receipt.signed).digest(),
    )
