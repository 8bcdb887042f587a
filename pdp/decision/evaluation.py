"""One action with all that it is judged on, and what its decision does. Pure.

`meaning` says what an action is, as far as facts tell, and so what has to be read of it; `evaluation_of`
what policy is asked about; the case then makes the decision of a verdict, and says what it leaves.
"""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

from pdp.action.derivation import derive
from pdp.authority.attribute_rules import entities_pointed_to
from pdp.authority.counters import add_to_buckets
from pdp.authority.limits import Limits, find_limits, make_guards, measure_limits
from pdp.authority.settings import allow_ttl
from pdp.decision.document import input_document
from pdp.decision.fingerprint import Fingerprints
from pdp.decision.idempotency import Repeat, judge_repeat
from pdp.decision.plan import PendingEffects, obligation_to_follow
from pdp.delegation.chain import PresentedChain, own_session
from pdp.model import (
    Aggregates,
    Boundary,
    Chain,
    CounterKey,
    Decision,
    DecisionKey,
    Derived,
    Effect,
    EntityName,
    EvaluationRequest,
    Facts,
    FactsRequest,
    KeyHashes,
    MeasuredLimit,
    Obligation,
    PolicyRevision,
    Prerequisite,
    PrerequisiteKey,
    PriorDecision,
    Reason,
    Receipt,
    Recording,
    Reservation,
    Session,
    SessionMove,
    Tool,
    ToolEffect,
    Verdict,
)
from pdp.proof.receipts import chain_hops, read_decision
from pdp.reasons import POLICY_UNAVAILABLE, REVIEW_UNKNOWN, chain_refused, is_retryable, model_text
from pdp.uuid7 import uuid7

# The tool's own side redeems the decision before it acts.
REDEEM = Obligation(id="redeem")


@dataclass(frozen=True, kw_only=True, slots=True)
class ResolvedAction:
    """What chain, registry and limits make of an action."""

    presented: PresentedChain
    # As it is proven.
    chain: Chain
    tool: Tool | None
    derived: Derived
    limits: Limits
    key: KeyHashes | None
    prerequisites: tuple[tuple[Prerequisite, PrerequisiteKey], ...]
    listed: tuple[EntityName, ...]

    @property
    def steps(self) -> tuple[PrerequisiteKey, ...]:
        """What has to come before the action."""
        return tuple(step for _, step in self.prerequisites)

    @property
    def counters(self) -> tuple[CounterKey, ...]:
        return self.limits.counters

    def reads_more_than(self, other: ResolvedAction) -> bool:
        return (
            self.derived.entities != other.derived.entities
            or self.key != other.key
            or self.prerequisites != other.prerequisites
            or _more(self.counters, other.counters)
            or _more(self.listed, other.listed)
        )

    def facts_request(self, request: EvaluationRequest, deadline: float) -> FactsRequest:
        """What to read, with all that the action means so far."""
        return FactsRequest(
            key=decision_key(request),
            tool=request.action.tool,
            agents=tuple(hop.agent for hop in request.hops),
            deadline=deadline,
            entities=self.derived.entities,
            counters=self.counters,
            business_key=None if self.key is None else self.key.normal,
            prerequisites=self.steps,
            listed=self.listed,
            grants=self.presented.hashes,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """One action with all that it is judged on."""

    request: EvaluationRequest
    facts: Facts
    meaning: ResolvedAction
    fingerprint: bytes
    repeat: Repeat
    # The limits, with what is used of them.
    met: tuple[MeasuredLimit, ...]
    document: bytes
    # What this action is to tools that name it as their prerequisite.
    steps: tuple[PrerequisiteKey, ...]

    @property
    def session(self) -> Session | None:
        return own_session(self.request.caller, self.facts, self.meaning.chain)

    @property
    def stored(self) -> PriorDecision | None:
        """The decision that is the answer already."""
        return self.repeat.stored

    def replay(self) -> tuple[Decision, Receipt]:
        stored = self.repeat.stored
        assert stored is not None  # nobody asks otherwise
        return (
            read_decision(stored.token).as_replayed(),
            Receipt(token=stored.token, position=stored.position),
        )

    def decision(self, verdict: Verdict | None, *, rests_on: Sequence[str] = ()) -> Decision:
        """Return the decision that the verdict makes, or the stored one.

        `rests_on`: earlier items of the plan that have to be executed before an allow.
        """
        if self.stored is not None:
            return self.replay()[0]
        decision = self._decision(verdict, self.repeat)
        if decision.effect is not Effect.ALLOW:
            return decision
        return replace(decision, obligations=(*decision.obligations, *map(obligation_to_follow, rests_on)))

    def anew(self, decision: Decision) -> Decision:
        """The same answer as a decision of its own, if it is a stored one."""
        if self.stored is None:
            return decision
        fresh = self._decision(None, Repeat())
        return replace(fresh, effect=decision.effect, reasons=decision.reasons)

    def leaves(self, decision: Decision | None) -> PendingEffects:
        """What it leaves for later items of its plan; without a decision, if it is allowed."""
        if self.stored is not None:
            return PendingEffects(
                effect=self.stored.effect,
                decision_id=self.stored.decision_id,
                steps=self.steps,
                replayed=True,
            )
        effect = Effect.ALLOW if decision is None else decision.effect
        return PendingEffects(
            effect=effect,
            decision_id="" if decision is None else decision.decision_id,
            move=self.move(effect),
            reservation=self.reservation(effect),
            steps=self.steps,
        )

    def move(self, effect: Effect) -> SessionMove | None:
        """What a decision of this effect does to the session's history, as absolute values."""
        session = self.session
        if session is None:
            return None
        tool, before = self.facts.tool, session.aggregates
        allowed = effect is Effect.ALLOW
        pays = allowed and tool is not None and tool.effect is ToolEffect.PAY
        return SessionMove(
            session_id=session.session_id,
            version=session.version,
            expires_at=session.expires_at,
            aggregates=Aggregates(
                allow=before.allow + allowed,
                block=before.block + (effect is Effect.BLOCK),
                escalate=before.escalate + (effect is Effect.ESCALATE),
                pay=add_to_buckets(before.pay, int(self.facts.now.timestamp())) if pays else before.pay,
            ),
            must_be_live=allowed,
        )

    def reservation(self, effect: Effect) -> Reservation | None:
        """What an allow leaves behind. Reading reserves nothing but what is counted of it."""
        tool, key = self.facts.tool, self.meaning.key
        if effect is not Effect.ALLOW or tool is None:
            return None
        if tool.effect is ToolEffect.READ and key is None and not self.met and not tool.redeem_required:
            return None
        moved = make_guards(self.met)
        return Reservation(
            guards=moved,
            existing=frozenset(guard.key for guard in moved if guard.key in self.facts.counters),
            key=key,
            key_version=self.facts.key_version,
            redeem_required=tool.redeem_required,
        )

    @property
    def revisions(self) -> dict[EntityName, int]:
        """What it rests on of entities: those of the call, and those that boundaries point to."""
        facts = self.facts
        read = (*facts.entities.values(), *(facts.listed[name] for name in self.meaning.listed))
        return {entity.name: entity.revision for entity in read}

    def _decision(self, verdict: Verdict | None, repeat: Repeat) -> Decision:
        return _decision(self.request, self.facts, self.session, self.meaning.chain, verdict, repeat)

    def numbered(self, decision: Decision) -> Decision:
        """The decision with the version of the session that it makes."""
        session = self.session
        return replace(decision, session_version=0 if session is None else session.version + 1)


def meaning(
    request: EvaluationRequest,
    presented: PresentedChain,
    facts: Facts | None,
    fingerprints: Fingerprints,
    *,
    before: ResolvedAction | None = None,
    chain: Chain | None = None,
) -> ResolvedAction:
    """What the action is, as far as `facts` tell: what they do not yet hold is to be read.

    What the registration alone says is taken from what it meant `before`, if that had the same.
    `chain` is given for a hint only: what is judged is proven by its own facts.
    """
    tool = None if facts is None else facts.tool
    if chain is None:
        chain = Chain() if facts is None else presented.verified(request.caller, facts)
    session = None if facts is None else own_session(request.caller, facts, chain)
    same = before if before is not None and before.tool == tool else None
    derived = derive(request.action, tool) if same is None else same.derived
    return ResolvedAction(
        presented=presented,
        tool=tool,
        chain=chain,
        derived=derived,
        limits=Limits()
        if facts is None
        else find_limits(
            session,
            facts.settings,
            tool,
            derived,
            agents=[hop.agent for hop in chain.hops],
            # The root's authority is the session's own, and counted as such.
            grants=[(hop.grant_hash, hop.boundary) for hop in chain.hops[1:]] if chain.proven else (),
            entities=facts.entities,
        ),
        key=_business_key(request, derived, fingerprints) if same is None else same.key,
        prerequisites=_prerequisites(request, tool, derived, fingerprints)
        if same is None
        else same.prerequisites,
        listed=()
        if session is None or derived.resource is None
        else entities_pointed_to(_boundaries(session, chain), derived.resource.type),
    )


def _business_key(
    request: EvaluationRequest, derived: Derived, fingerprints: Fingerprints
) -> KeyHashes | None:
    if derived.business_key is None:
        return None
    return fingerprints.business_key(request.caller.tenant, derived.business_key)


def _prerequisites(
    request: EvaluationRequest, tool: Tool | None, derived: Derived, fingerprints: Fingerprints
) -> tuple[tuple[Prerequisite, PrerequisiteKey], ...]:
    if tool is None:
        return ()
    step = fingerprints.step
    tenant = request.caller.tenant
    return tuple(
        (rule, step(tenant, rule.tool, rule.same, derived.comparable)) for rule in tool.prerequisites
    )


def _more(names: tuple[Hashable, ...], known: tuple[Hashable, ...]) -> bool:
    return names != known and not set(names) <= set(known)


def evaluation_of(
    request: EvaluationRequest, facts: Facts, meaning: ResolvedAction, fingerprints: Fingerprints
) -> Evaluation:
    """Return what policy is asked about."""
    session = own_session(request.caller, facts, meaning.chain)
    fingerprint = fingerprints.of(request)
    met = measure_limits(
        meaning.limits,
        facts.counters,
        int(facts.now.timestamp()),
        allowed=0 if session is None else session.aggregates.allow,
        amount=meaning.derived.amount,
    )
    return Evaluation(
        request=request,
        facts=facts,
        meaning=meaning,
        fingerprint=fingerprint,
        repeat=judge_repeat(
            facts.prior, fingerprint=fingerprint, session=session, chain=meaning.chain, now=facts.now
        ),
        met=met,
        document=input_document(
            request,
            facts,
            session=session,
            chain=meaning.chain,
            derived=meaning.derived,
            limits=met,
            key=meaning.key,
            prerequisites=meaning.prerequisites,
        ),
        steps=()
        if session is None
        else tuple(
            replace(
                fingerprints.step(
                    request.caller.tenant, request.action.tool, same, meaning.derived.comparable
                ),
                amount=meaning.derived.amount,
            )
            for same in facts.prerequisite_of
        ),
    )


def session_after(session: Session | None, recording: Recording) -> Session | None:
    """The session once the recording is made; `session` is whosever it is."""
    move = recording.move
    if session is None or move is None:
        return session
    return replace(
        session,
        version=move.version + 1,
        aggregates=move.aggregates,
        last_receipt=hashlib.sha256(recording.receipt.signed).digest(),
    )


def decision_key(request: EvaluationRequest) -> DecisionKey:
    return DecisionKey(
        tenant=request.caller.tenant,
        session_id=request.session_id,
        caller=request.caller.subject,
        leaf_grant=request.leaf_grant_hash,
        tool_call_id=request.action.tool_call_id,
        review_id=request.review_id,
    )


def _boundaries(session: Session, chain: Chain) -> tuple[Boundary, ...]:
    """All that the action must lie within. The root grant's is the session's own."""
    own = (session.boundary,) if session.template is None else (session.boundary, session.template)
    return (*own, *(hop.boundary for hop in chain.hops[1:] if hop.verified))


def _decision(
    request: EvaluationRequest,
    facts: Facts,
    session: Session | None,
    chain: Chain,
    verdict: Verdict | None,
    repeat: Repeat,
) -> Decision:
    # No review exists yet, so whatever id is named is made up.
    unknown = () if request.review_id is None else (REVIEW_UNKNOWN,)
    effect, reasons = _effect(verdict, (*repeat.reasons, *unknown), chain)
    decided_at = facts.now.replace(microsecond=0)
    expires_at = decided_at + timedelta(seconds=allow_ttl(facts.settings))
    if session is not None:
        # An answer does not outlive its session, nor a grant that it rests on.
        ends = [session.expires_at, *(facts.grants[name].expires_at for name in chain.path)]
        expires_at = max(decided_at, min(expires_at, min(ends).replace(microsecond=0)))
    decision_id = uuid7(facts.now)
    retry_after = None if verdict is None else verdict.retry_after
    retryable = is_retryable(effect, reasons, retry_after)
    return Decision(
        decision_id=decision_id,
        effect=effect,
        reasons=reasons,
        session_id=request.session_id,
        tool_call_id=request.action.tool_call_id,
        decided_at=decided_at,
        expires_at=expires_at,
        policy=PolicyRevision() if verdict is None else verdict.policy,
        data_revisions=facts.data_revisions,
        model_text=model_text(effect, decision_id, reasons, retryable=retryable),
        obligations=_obligations(facts, verdict, effect),
        retry_after=retry_after if retryable else None,
        session_version=0 if session is None else session.version + 1,
        retryable=retryable,
        attempt_id=request.attempt_id,
        chain=chain_hops(request.hops, chain),
    )


def _obligations(facts: Facts, verdict: Verdict | None, effect: Effect) -> tuple[Obligation, ...]:
    if verdict is None or effect is Effect.BLOCK:
        return ()
    if effect is Effect.ALLOW and facts.tool is not None and facts.tool.redeem_required:
        return (*verdict.obligations, REDEEM)
    return verdict.obligations


def _effect(
    verdict: Verdict | None, found: tuple[Reason, ...], chain: Chain
) -> tuple[Effect, tuple[Reason, ...]]:
    """Policy's verdict, overridden by what the PDP itself found; found reasons all block.

    What is wrong with the chain blocks whatever policy says of it, and so does a caller of whom
    nothing is proven.
    """
    if verdict is None:
        return Effect.BLOCK, (*found, POLICY_UNAVAILABLE)
    # Policy names a problem; the first hop that has it is where to look.
    places = {problem.code: problem.at for problem in reversed(chain.problems)}
    reasons = tuple(replace(r, at=places[r.code]) if r.code in places else r for r in verdict.reasons)
    said = {reason.code for reason in reasons if reason.effect is Effect.BLOCK}
    found += tuple(chain_refused(code, at) for code, at in places.items() if code not in said)
    if not chain.proven and not found and verdict.effect is not Effect.BLOCK:
        found = (chain_refused("chain.unproven", ""),)
    if found:
        restricting = tuple(reason for reason in reasons if reason.effect is not Effect.ALLOW)
        return Effect.BLOCK, (*found, *restricting)
    return verdict.effect, reasons
