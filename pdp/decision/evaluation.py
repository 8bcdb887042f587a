"""An evaluation: one action with all that policy judges it on, and what its decision does. Pure.

`prepare` says whether a request has its answer already, and otherwise what policy is asked about.
The evaluation then makes the decision of a verdict, and says what that leaves behind.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace

from pdp.action.prerequisites import Standing, find_standing
from pdp.authority.counters import add_to_buckets, group_by_counter
from pdp.authority.limits import make_guards, measure_limits
from pdp.authority.order_use import OrderUse, guard_use, measure_use
from pdp.authority.transitions import void
from pdp.decision.document import input_document
from pdp.decision.fingerprint import Fingerprints
from pdp.decision.idempotency import NewCall, StoredAnswer, judge_repeat
from pdp.decision.plan import PendingEffects, VoidedHold, obligation_to_follow
from pdp.decision.resolved_action import ActionContext
from pdp.decision.revalidation import (
    FirstJudgement,
    Renewal,
    RepeatedDecision,
    has_ground_moved,
    set_aside,
    stands,
)
from pdp.decision.ruling import make_decision
from pdp.errors import PolicyUnavailableError
from pdp.model import (
    Aggregates,
    Decision,
    Effect,
    EntityName,
    Ground,
    MeasuredLimit,
    Prerequisite,
    PrerequisiteAllow,
    PrerequisiteKey,
    PriorAnswer,
    Recording,
    Reservation,
    Session,
    SessionMove,
    ToolEffect,
    Verdict,
)
from pdp.proof.receipts import read_decision
from pdp.reasons import REPLAY_STALE, is_answer, replay_stale


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """One action with all that it is judged on."""

    context: ActionContext
    call: NewCall
    # The limits that the action meets, with what is used of them.
    limits: tuple[MeasuredLimit, ...]
    # What was paid on the record and the order of a payment.
    uses: tuple[OrderUse, ...]
    # What policy is asked about (JSON).
    document: bytes
    # What this action is to tools that name it as their prerequisite.
    own_keys: tuple[PrerequisiteKey, ...]
    # What has to come before this action, and what was answered to it.
    standings: tuple[tuple[Prerequisite, Standing], ...] = ()
    # An earlier decision on this very call, whose ground has moved; the document is judged as if that
    # decision had not been recorded. None: there is none, or nothing of it is in question.
    reconsidered: StoredAnswer | None = None
    # How the reconsidered decision, or one that no longer stands for another reason, came about.
    repeated: RepeatedDecision | None = None

    def settle(self, verdict: Verdict | None) -> Decision | StoredAnswer:
        """Return the decision that the verdict makes, as `decide`; or the earlier one, if that stands.

        Raises `PolicyUnavailableError` where an earlier decision is in question and there is no verdict.
        """
        first = None if self.repeated is None else self.repeated.first
        if self.reconsidered is None or first is None:
            return self.decide(verdict)
        if verdict is None:
            raise PolicyUnavailableError("timeout", "whether the earlier answer stands could not be judged")
        if stands(first, self.context, self.renewal(verdict)):
            return self.reconsidered
        if first.decision.effect is Effect.ESCALATE:
            return self.decide(verdict)
        stale = replay_stale(first.decision.decision_id)
        return make_decision(self.context, verdict, (stale,), limits=self.limits)

    def decide(self, verdict: Verdict | None) -> Decision:
        """Return the decision that the verdict makes; a block if there is none.

        An allow that rests on another one, whose action nobody knows to have been executed, comes after it.
        """
        return self._following(make_decision(self.context, verdict, self.call.reasons, limits=self.limits))

    def renewal(self, verdict: Verdict) -> Renewal:
        """Return what the verdict would make of the action, whatever was answered before."""
        decision = self._following(make_decision(self.context, verdict, (), limits=self.limits))
        return Renewal(
            decision=decision,
            reservation=self.reservation(decision.effect),
            consumed=tuple(
                key
                for (rule, _), key in zip(self.standings, self.context.action.prerequisite_keys, strict=True)
                if rule.consumed
            ),
        )

    def _following(self, decision: Decision) -> Decision:
        if decision.effect is not Effect.ALLOW or not self.carriers:
            return decision
        waits_for = dict.fromkeys(allow.decision_id for _, allow in self.carriers if not allow.executed)
        return replace(decision, obligations=(*decision.obligations, *map(obligation_to_follow, waits_for)))

    @property
    def carriers(self) -> tuple[tuple[Prerequisite, PrerequisiteAllow], ...]:
        """The allows of prerequisites that an allow of this action rests on, each with its rule."""
        return tuple(
            (rule, standing.carrier) for rule, standing in self.standings if standing.carrier is not None
        )

    @property
    def consumes(self) -> tuple[PrerequisiteAllow, ...]:
        """The allows of prerequisites that an allow of this action consumes, each once."""
        return tuple({allow.decision_id: allow for rule, allow in self.carriers if rule.consumed}.values())

    def with_decision_ids(self, ids: Mapping[str, str]) -> Evaluation:
        """Return the evaluation with other ids for the allows that it rests on, where `ids` names them."""
        if all(allow.decision_id not in ids for _, allow in self.carriers):
            return self
        return replace(
            self, standings=tuple((rule, standing.renamed(ids)) for rule, standing in self.standings)
        )

    def answered_keys(self, decision: Decision) -> tuple[PrerequisiteKey, ...]:
        """Return what the decision answers of what other tools have as their prerequisite."""
        return self.own_keys if is_answer(decision.effect, decision.reasons) else ()

    def pending_effects(self, decision: Decision | None = None, *, supposed_id: str = "") -> PendingEffects:
        """Return what it leaves for later items of its plan.

        Without a decision, as if it were allowed, under the id `supposed_id`.
        """
        if decision is None and self.reconsidered is not None:
            return PendingEffects(
                effect=self.reconsidered.prior.effect,
                decision_id=self.reconsidered.prior.decision_id,
                own_keys=self.own_keys,
                replayed=True,
            )
        effect = Effect.ALLOW if decision is None else decision.effect
        return PendingEffects(
            effect=effect,
            decision_id=supposed_id if decision is None else decision.decision_id,
            move=self.move(effect),
            reservation=self.reservation(effect),
            own_keys=self.own_keys if decision is None else self.answered_keys(decision),
            voided=None if decision is None else self.voided(decision),
        )

    def voided(self, decision: Decision) -> VoidedHold | None:
        """Return the hold of the allow that the decision says is stale; None if it voids none."""
        if self.repeated is None or all(reason.code != REPLAY_STALE for reason in decision.reasons):
            return None
        status = self.repeated.status
        after = void(status.hold)
        if after is None:
            return None
        return VoidedHold(
            decision_id=status.decision_id,
            recorded_at=status.recorded_at,
            before=status.hold,
            after=after,
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
        holds = key is not None or bool(self.limits) or tool.redeem_required or bool(self.consumes)
        if tool.effect is ToolEffect.READ and not holds:
            return None
        guards = (*make_guards(self.limits), *guard_use(self.uses))
        return Reservation(
            guards=guards,
            existing=frozenset(guard.key for guard in guards if guard.key in facts.counters),
            key=key,
            key_version=facts.key_version,
            redeem_required=tool.redeem_required,
            consumes=self.consumes,
        )

    def ground(self, effect: Effect) -> Ground | None:
        """Return what an allow or an escalation rests on that others can move."""
        if effect is Effect.BLOCK:
            return None
        facts, reservation = self.context.facts, self.reservation(effect)
        guards = () if reservation is None else reservation.guards
        return Ground(
            epoch=facts.epoch,
            settings=facts.data_revisions["settings"],
            signals=facts.data_revisions["signals"],
            tool=0 if facts.tool is None else facts.tool.revision,
            agents={name: agent.revision for name, agent in facts.agents.items()},
            entities=self.entity_revisions,
            counted=tuple((key, of[0].add) for key, of in group_by_counter(guards).items()),
        )

    @property
    def entity_revisions(self) -> dict[EntityName, int]:
        """The entities that the decision rests on: the call's, and those that boundaries point to."""
        return entity_revisions(self.context)


def entity_revisions(context: ActionContext) -> dict[EntityName, int]:
    """Return the revisions of the entities that an action rests on, as they were read."""
    facts = context.facts
    read = (*facts.entities.values(), *(facts.listed[name] for name in context.action.listed))
    return {entity.name: entity.revision for entity in read}


def prepare(
    context: ActionContext, fingerprints: Fingerprints, repeated: RepeatedDecision | None = None
) -> Evaluation | StoredAnswer:
    """Return what policy is to be asked about; or the answer that the request has already.

    `repeated` is the earlier allow or escalation, if the request is a repeat of one.
    """
    request = context.request
    fingerprint = fingerprints.of(request)
    call = judge_repeat(
        context.facts.prior,
        fingerprint=fingerprint,
        # Hops of which nothing was delegated were part of it.
        earlier_form=fingerprints.of_presented_root(request)
        if request.hops and not request.delegated_hops and context.facts.prior is not None
        else None,
        session=context.session,
        chain=context.chain,
        now=context.facts.now,
    )
    if isinstance(call, NewCall):
        return replace(prepare_call(context, call, fingerprints), repeated=repeated)
    if call.prior.effect is Effect.BLOCK or (repeated is not None and not _has_moved(context, repeated)):
        return call
    first = None if repeated is None else repeated.first
    new = NewCall(fingerprint=fingerprint)
    if first is None:
        if call.prior.effect is Effect.ALLOW:
            new = replace(new, reasons=(replay_stale(call.prior.decision_id),))
        return replace(prepare_call(context, new, fingerprints), repeated=repeated)
    evaluation = prepare_call(context, new, fingerprints, as_if=as_first_judged(context, first))
    return replace(evaluation, reconsidered=call, repeated=repeated)


def _has_moved(context: ActionContext, repeated: RepeatedDecision) -> bool:
    return has_ground_moved(
        repeated.status.ground,
        context.facts,
        entity_revisions(context),
        judged_by=read_decision(repeated.status.token).policy,
        policy=repeated.policy,
    )


def as_first_judged(context: ActionContext, first: FirstJudgement) -> ActionContext:
    """Return the context without what the decision left, asked by the caller as it was judged first."""
    request = context.request
    return replace(
        set_aside(context, first),
        request=replace(request, caller=first.caller, action=replace(request.action, intent=first.intent)),
    )


def prepare_call(
    context: ActionContext, call: NewCall, fingerprints: Fingerprints, *, as_if: ActionContext | None = None
) -> Evaluation:
    """Return what policy is to be asked about.

    `as_if` is the context that policy judges, where that is not the one that a decision is recorded on.
    """
    judged = as_if or context
    request, facts, session, action = judged.request, judged.facts, judged.session, judged.action
    # Who proves no part in a session learns nothing of what its tenant has done.
    limits = (
        ()
        if session is None
        else measure_limits(
            action.limits,
            facts.counters,
            int(facts.now.timestamp()),
            allowed=session.aggregates.allow,
            amount=action.derived.amount,
        )
    )
    standings = tuple(
        (rule, find_standing(_answer(judged, key), rule, action.derived.amount))
        for rule, key in action.prerequisites
    )
    uses = measure_use(facts.tool, action.derived, facts.entities, facts.counters)
    return Evaluation(
        context=context,
        call=call,
        limits=limits,
        standings=standings,
        uses=uses,
        document=input_document(
            request,
            facts if session is not None else replace(facts, holds=()),
            session=session,
            chain=judged.chain,
            derived=action.derived,
            limits=limits,
            uses=uses,
            key=action.key,
            prerequisites=standings,
        ),
        own_keys=own_prerequisite_keys(context, fingerprints),
    )


def _answer(context: ActionContext, key: PrerequisiteKey) -> PriorAnswer | None:
    """Return the answer to a prerequisite. Who proves no part in the session learns none in it."""
    return None if context.session is None else context.facts.prerequisites.get(key)


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
