"""The pipeline: enrich, decide, sign, record, return. Read `evaluate` first."""

from __future__ import annotations

import asyncio
import hashlib
import random
import time
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from typing import NamedTuple, TypeVar

from pdp.admission import Admission
from pdp.attribute_rules import pointed_to
from pdp.budgets import guards, judged, limits
from pdp.chain import Presented, own_session, present
from pdp.document import input_document
from pdp.errors import (
    DeadlineExceededError,
    OverloadedError,
    PolicyUnavailableError,
    SessionContendedError,
    SessionMovedError,
)
from pdp.fingerprint import Fingerprints, leaf_grant_hash
from pdp.grants import Grants
from pdp.idempotency import Repeat, judge_repeat
from pdp.limits import count
from pdp.load import Load
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
    Limit,
    Obligation,
    PolicyRevision,
    Position,
    Prerequisite,
    PriorDecision,
    Reason,
    Receipt,
    Recording,
    Reservation,
    Session,
    SessionMove,
    Simulation,
    Step,
    Tool,
    ToolEffect,
    Verdict,
)
from pdp.pace import Pace
from pdp.planning import Trace, after, blocked, following, rests_on
from pdp.ports import InformationPoint, Ledger, PolicyEngine, Signer
from pdp.reasons import POLICY_UNAVAILABLE, REVIEW_UNKNOWN, chain_refused, is_retryable, model_text
from pdp.receipts import Basis, chain_hops, read_decision, sign_receipt
from pdp.registry import derive
from pdp.settings import allow_ttl
from pdp.uuid7 import uuid7

# Against another replica a judgement wins about every second time; 32 losses in a row
# mean that something else is wrong.
_MAX_JUDGEMENTS = 32
# One, and one more after a tool was registered anew; a third is nearly unheard of.
_MAX_READS = 3
_MAX_HINTS = 4096
_BACKOFF = 0.002
_MAX_BACKOFF = 0.1
# What signing and recording may need after the engine has used up its share.
_RECORDING_SHARE = 0.4
_MAX_ENGINE_SECONDS = 5.0

T = TypeVar("T")

# The tool's own side redeems the decision before it acts.
REDEEM = Obligation(id="redeem")


class DecisionPoint:
    """Answers whether an agent should take an action, now, in this context."""

    def __init__(
        self,
        *,
        information: InformationPoint,
        engine: PolicyEngine,
        signer: Signer,
        ledger: Ledger,
        grants: Grants,
        fingerprints: Fingerprints,
        issuer: str,
        admission: Admission | None = None,
    ) -> None:
        """`issuer` is the receipts' `iss`. `admission`: who decides what is begun at all."""
        self._information = information
        self._engine = engine
        self._signer = signer
        self._ledger = ledger
        self._grants = grants
        self._fingerprints = fingerprints
        self._issuer = issuer
        self._admission = admission or Admission()
        self._turns = _Turns(self._admission)
        # Steps 2 to 4.
        self._rest = Pace()
        # What was read last for a session and tool: a hint of what to read next.
        self._hints = _Hints()

    async def evaluate(self, request: EvaluationRequest) -> tuple[Decision, Receipt]:
        """Return the decision and its signed receipt.

        1. Enrich   the action with its chain, trust, session history, settings and signals.
        2. Decide   by policy. An engine that cannot answer blocks.
        3. Sign     the decision with everything it rested on.
        4. Record   receipt, session event and key in one transaction.

        Nothing is returned before step 4 has committed, so no agent can act on a
        decision that the ledger does not hold. Raises `PdpError` if it cannot finish, at once
        if it is clear beforehand (see `pdp.admission`).
        """
        with self._admission.enter(request.deadline):
            async with self._turns.take(request):
                with self._admission.judging(request.deadline):
                    return await _settled(partial(self._judge, request), request.deadline)

    def turns(self) -> Load:
        """The calls that wait for earlier actions of their session."""
        return self._turns.load()

    async def evaluate_plan(
        self, requests: Sequence[EvaluationRequest], *, all_or_nothing: bool
    ) -> list[tuple[Decision, Receipt]]:
        """Return the decisions on the next actions of one session, in order, each with its receipt.

        The requests have one caller, session, chain, audience and deadline, and distinct
        `tool_call_id`s. Each item is judged on what those before it leave, as `evaluate` would one
        after the other, and all are recorded in one transaction. `all_or_nothing`: if not all are
        allowed, each is recorded as a block, and nothing is reserved. Raises as `evaluate` does;
        then nothing was recorded, unless the outcome is unknown.
        """
        deadline, places = requests[0].deadline, len(requests)
        with self._admission.enter(deadline, places):
            async with self._turns.take(requests[0], places):
                with self._admission.judging(deadline, places):
                    return await _settled(
                        partial(self._judge_plan, requests, all_or_nothing=all_or_nothing), deadline
                    )

    async def _judge(self, request: EvaluationRequest) -> tuple[Decision, Receipt]:
        facts, plan = await self._gather(request)  # 1
        began = time.monotonic()
        case = self._case(request, facts, plan)
        if case.stored is not None:
            return case.replay()

        verdict = await self._verdict(case, _engine_deadline(request.deadline))  # 2
        recording = await self._signed(case, case.decision(verdict), verdict)  # 3
        position = await self._ledger.record(recording)  # 4
        self._rest.took(time.monotonic() - began)
        return recording.decision, replace(recording.receipt, position=position)

    async def _judge_plan(
        self, requests: Sequence[EvaluationRequest], *, all_or_nothing: bool
    ) -> list[tuple[Decision, Receipt]]:
        """The steps of `evaluate`, each for all items.

        Policy is asked about many items at once, each as if all before it were allowed. After the
        first that is not, the rest is judged again.
        """
        gathered = await _all(self._gather(request) for request in requests)  # 1
        _agree([facts for facts, _ in gathered])
        judged = await self._judge_in_order(requests, gathered)  # 2
        broken_by = None
        if all_or_nothing:
            broken_by = next(
                (i for i, (_, decision, _) in enumerate(judged) if decision.effect is not Effect.ALLOW), None
            )
        recordings: dict[int, Recording] = {}  # 3
        session = gathered[0][0].session
        for index, (case, decision, verdict) in enumerate(judged):
            if broken_by is not None and decision.effect is not Effect.BLOCK:
                decision = blocked(case.anew(decision), broken_by)
                case = replace(case, steps=())
            elif case.stored is not None:
                continue
            # Some that were judged after allows come after blocks now; each receipt names the one before.
            case = replace(case, facts=replace(case.facts, session=session))
            recordings[index] = await self._signed(case, case.numbered(decision), verdict)
            session = _session_after(session, recordings[index])
        positions: Sequence[Position] = ()
        if recordings:
            positions = await self._ledger.record_together(list(recordings.values()))  # 4
        answers = {
            index: (recording.decision, replace(recording.receipt, position=position))
            for (index, recording), position in zip(recordings.items(), positions, strict=True)
        }
        return [answers.get(index) or judged[index].case.replay() for index in range(len(judged))]

    async def _judge_in_order(
        self, requests: Sequence[EvaluationRequest], gathered: Sequence[tuple[Facts, _Plan]]
    ) -> list[_Judged]:
        """Judge each item on what those before it leave."""
        judged: list[_Judged] = []
        traces: list[Trace] = []
        until = _engine_deadline(requests[0].deadline)
        # How many items to ask about at once; few after one that was not allowed, then more again.
        window = len(requests)
        while len(judged) < len(requests):
            supposed, cases = list(traces), []
            for index in range(len(judged), min(len(judged) + window, len(requests))):
                request, (facts, plan) = requests[index], gathered[index]
                if supposed:
                    facts = following(facts, supposed, plan.key)
                    plan = self._plan(request, plan.presented, facts)
                case = self._case(request, facts, plan)
                supposed.append(self._trace(case, None))
                cases.append(case)
            verdicts = await _all(self._verdict(case, until) for case in cases)
            window *= 2
            for case, verdict in zip(cases, verdicts, strict=True):
                decision = case.decision(verdict, rests_on=rests_on(case.plan.steps, traces))
                judged.append(_Judged(case, decision, verdict))
                traces.append(self._trace(case, decision))
                if case.stored is None and decision.effect is not Effect.ALLOW:
                    window = 1
                    break
        return judged

    async def simulate(self, request: EvaluationRequest) -> Simulation:
        """Return what the decision on a new such call would be now, and leave no trace of it.

        Begun under the conditions of `evaluate`, and raises as it does.
        """
        # It holds a place, and says nothing about how long decisions take: it records none.
        with self._admission.enter(request.deadline):
            return await self._simulated(request)

    async def _simulated(self, request: EvaluationRequest) -> Simulation:
        facts, plan = await self._gather(request)
        case = replace(self._case(request, facts, plan), repeat=Repeat())
        verdict = await self._verdict(case, _engine_deadline(request.deadline))
        decision = case.decision(verdict)
        return Simulation(
            would_be=decision.effect,
            reasons=decision.reasons,
            policy=decision.policy,
            data_revisions=decision.data_revisions,
            input_document=case.document,
            obligations=decision.obligations,
            retry_after=decision.retry_after,
        )

    def _case(self, request: EvaluationRequest, facts: Facts, plan: _Plan) -> _Case:
        """Return what policy is asked about."""
        session = own_session(request.caller, facts, plan.chain)
        fingerprint = self._fingerprints.of(request)
        met, document = _premises(request, facts, session, plan)
        return _Case(
            request=request,
            facts=facts,
            plan=plan,
            fingerprint=fingerprint,
            repeat=judge_repeat(
                facts.prior, fingerprint=fingerprint, session=session, chain=plan.chain, now=facts.now
            ),
            met=met,
            document=document,
            steps=() if session is None else self._steps(request, facts, plan.derived),
        )

    async def _signed(self, case: _Case, decision: Decision, verdict: Verdict | None) -> Recording:
        """Sign the decision; return it ready for the ledger."""
        request, facts, session = case.request, case.facts, case.session
        receipt = await sign_receipt(
            decision,
            Basis(
                request=request,
                facts=facts,
                session=session,
                chain=case.plan.chain,
                derived=case.plan.derived,
                verdict=verdict,
                input_document=case.document,
                issuer=self._issuer,
            ),
            self._signer,
        )
        return Recording(
            key=_key(request),
            decision=decision,
            receipt=receipt,
            action_fingerprint=case.fingerprint,
            input_document=case.document,
            epoch=facts.epoch,
            prior_decision_id=None if facts.prior is None else facts.prior.decision_id,
            claims_key=case.repeat.claims_key and case.stored is None,
            move=None if session is None else _move(session, facts, decision.effect),
            deadline=request.deadline,
            entities=_revisions(facts, case.plan),
            reservation=_reservation(decision.effect, facts, case.met, case.plan.key),
            steps=case.steps,
        )

    async def _gather(self, request: EvaluationRequest) -> tuple[Facts, _Plan]:
        """Return what is known of the action, and what registry, chain and limits make of it.

        What to read of entities, counters and holds, the tool's registration, the session and
        the settings say. So that one read is enough, it is asked with those that were read last;
        if they are no longer it, the read is repeated with what was found. Nothing is ever
        judged on a hint.
        """
        presented = await present(request.hops, self._grants)
        hint = (request.caller.tenant, request.session_id, leaf_grant_hash(request), request.action.tool)
        plan = self._plan(request, presented, self._hints.get(hint))
        for _ in range(_MAX_READS):
            facts = await self._information.gather(
                _facts_request(request, plan, self._facts_deadline(request))
            )
            found = self._plan(request, presented, facts, before=plan)
            if not found.reads_more_than(plan):
                self._hints.keep(hint, facts)
                return facts, found
            plan = found
        raise SessionMovedError("what the action rests on moved between reads")

    def _plan(
        self,
        request: EvaluationRequest,
        presented: Presented,
        facts: Facts | None,
        *,
        before: _Plan | None = None,
    ) -> _Plan:
        """What the action is, as far as `facts` tell: what they do not yet hold is to be read.

        What the registration alone says is taken from the plan `before`, if that had the same.
        """
        tool = None if facts is None else facts.tool
        chain = Chain() if facts is None else presented.verified(request.caller, facts)
        session = None if facts is None else own_session(request.caller, facts, chain)
        same = before if before is not None and before.tool == tool else None
        derived = derive(request.action, tool) if same is None else same.derived
        return _Plan(
            presented=presented,
            tool=tool,
            chain=chain,
            derived=derived,
            limits=()
            if facts is None
            else limits(
                session,
                facts.settings,
                tool,
                derived,
                agents=[hop.agent for hop in chain.hops],
                # The root's authority is the session's own, and counted as such.
                grants=[(hop.grant_hash, hop.boundary) for hop in chain.hops[1:]] if chain.proven else (),
                entities=facts.entities,
            ),
            key=self._business_key(request, derived) if same is None else same.key,
            prerequisites=self._prerequisites(request, tool, derived) if same is None else same.prerequisites,
            listed=()
            if session is None or derived.resource is None
            else pointed_to(_boundaries(session, chain), derived.resource.type),
        )

    def _business_key(self, request: EvaluationRequest, derived: Derived) -> KeyHashes | None:
        if derived.business_key is None:
            return None
        return self._fingerprints.business_key(request.caller.tenant, derived.business_key)

    def _prerequisites(
        self, request: EvaluationRequest, tool: Tool | None, derived: Derived
    ) -> tuple[tuple[Prerequisite, Step], ...]:
        if tool is None:
            return ()
        step = self._fingerprints.step
        tenant = request.caller.tenant
        return tuple(
            (rule, step(tenant, rule.tool, rule.same, derived.arguments)) for rule in tool.prerequisites
        )

    def _trace(self, case: _Case, decision: Decision | None) -> Trace:
        """What the case leaves by this decision; without one, if it is allowed."""
        if case.stored is not None:
            return Trace(
                effect=case.stored.effect,
                decision_id=case.stored.decision_id,
                steps=case.steps,
                replayed=True,
            )
        effect = Effect.ALLOW if decision is None else decision.effect
        return Trace(
            effect=effect,
            decision_id="" if decision is None else decision.decision_id,
            move=None if case.session is None else _move(case.session, case.facts, effect),
            reservation=_reservation(effect, case.facts, case.met, case.plan.key),
            steps=case.steps,
        )

    def _steps(self, request: EvaluationRequest, facts: Facts, derived: Derived) -> tuple[Step, ...]:
        tenant, tool = request.caller.tenant, request.action.tool
        return tuple(
            self._fingerprints.step(tenant, tool, same, derived.arguments) for same in facts.prerequisite_of
        )

    def _facts_deadline(self, request: EvaluationRequest) -> float:
        """Facts that come when no time is left for the rest are of no use.

        The estimate may be wrong, so it gets half of the time at most.
        """
        left = request.deadline - time.monotonic()
        return request.deadline - min(self._rest.seconds(), left / 2)

    async def _verdict(self, case: _Case, until: float) -> Verdict | None:
        """Return the engine's verdict; None when there is none in time, or none is needed."""
        if case.stored is not None:
            return None
        try:
            return await self._engine.decide(case.document, deadline=until, tenant=case.request.caller.tenant)
        except PolicyUnavailableError:
            return None


@dataclass(frozen=True, kw_only=True, slots=True)
class _Plan:
    """What chain, registry and limits make of an action."""

    presented: Presented
    # As it is proven.
    chain: Chain
    tool: Tool | None
    derived: Derived
    limits: tuple[Limit, ...]
    key: KeyHashes | None
    prerequisites: tuple[tuple[Prerequisite, Step], ...]
    listed: tuple[EntityName, ...]

    @property
    def steps(self) -> tuple[Step, ...]:
        """What has to come before the action."""
        return tuple(step for _, step in self.prerequisites)

    @property
    def counters(self) -> tuple[CounterKey, ...]:
        return tuple(dict.fromkeys(limit.key for limit in self.limits if limit.key is not None))

    def reads_more_than(self, other: _Plan) -> bool:
        return (
            self.derived.entities != other.derived.entities
            or self.key != other.key
            or self.prerequisites != other.prerequisites
            or not set(self.counters) <= set(other.counters)
            or not set(self.listed) <= set(other.listed)
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Case:
    """One action with all that it is judged on."""

    request: EvaluationRequest
    facts: Facts
    plan: _Plan
    fingerprint: bytes
    repeat: Repeat
    # The limits, with what is used of them.
    met: tuple[Limit, ...]
    document: bytes
    # What this action is to tools that name it as their prerequisite.
    steps: tuple[Step, ...]

    @property
    def session(self) -> Session | None:
        return own_session(self.request.caller, self.facts, self.plan.chain)

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
        return replace(decision, obligations=(*decision.obligations, *map(after, rests_on)))

    def anew(self, decision: Decision) -> Decision:
        """The same answer as a decision of its own, if it is a stored one."""
        if self.stored is None:
            return decision
        fresh = self._decision(None, Repeat())
        return replace(fresh, effect=decision.effect, reasons=decision.reasons)

    def _decision(self, verdict: Verdict | None, repeat: Repeat) -> Decision:
        return _decision(self.request, self.facts, self.session, self.plan.chain, verdict, repeat)

    def numbered(self, decision: Decision) -> Decision:
        """The decision with the version of the session that it makes."""
        session = self.session
        return replace(decision, session_version=0 if session is None else session.version + 1)


class _Judged(NamedTuple):
    """An item of a plan. `verdict` None: there is none, or the decision is a stored one."""

    case: _Case
    decision: Decision
    verdict: Verdict | None


def _facts_request(request: EvaluationRequest, plan: _Plan, deadline: float) -> FactsRequest:
    return FactsRequest(
        key=_key(request),
        tool=request.action.tool,
        agents=tuple(hop.agent for hop in request.hops),
        deadline=deadline,
        entities=plan.derived.entities,
        counters=plan.counters,
        business_key=None if plan.key is None else plan.key.normal,
        prerequisites=plan.steps,
        listed=plan.listed,
        grants=plan.presented.hashes,
    )


def _revisions(facts: Facts, plan: _Plan) -> dict[EntityName, int]:
    """What the decision rests on of entities: those of the call, and those that boundaries point to."""
    read = (*facts.entities.values(), *(facts.listed[name] for name in plan.listed))
    return {entity.name: entity.revision for entity in read}


def _boundaries(session: Session, chain: Chain) -> tuple[Boundary, ...]:
    """All that the action must lie within. The root grant's is the session's own."""
    own = (session.boundary,) if session.template is None else (session.boundary, session.template)
    return (*own, *(hop.boundary for hop in chain.hops[1:] if hop.verified))


def _premises(
    request: EvaluationRequest, facts: Facts, session: Session | None, plan: _Plan
) -> tuple[tuple[Limit, ...], bytes]:
    """What policy is asked about: the limits as they stand, and the document."""
    met = judged(plan.limits, facts.counters, int(facts.now.timestamp()))
    document = input_document(
        request,
        facts,
        session=session,
        chain=plan.chain,
        derived=plan.derived,
        limits=met,
        key=plan.key,
        prerequisites=plan.prerequisites,
    )
    return met, document


def _reservation(
    effect: Effect, facts: Facts, met: tuple[Limit, ...], key: KeyHashes | None
) -> Reservation | None:
    """What an allow leaves behind. Reading reserves nothing but what is counted of it."""
    tool = facts.tool
    if effect is not Effect.ALLOW or tool is None:
        return None
    if tool.effect is ToolEffect.READ and key is None and not met and not tool.redeem_required:
        return None
    return Reservation(
        guards=guards(met),
        key=key,
        key_version=facts.key_version,
        redeem_required=tool.redeem_required,
    )


def _key(request: EvaluationRequest) -> DecisionKey:
    return DecisionKey(
        tenant=request.caller.tenant,
        session_id=request.session_id,
        caller=request.caller.subject,
        leaf_grant=leaf_grant_hash(request),
        tool_call_id=request.action.tool_call_id,
        review_id=request.review_id,
    )


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


def _move(session: Session, facts: Facts, effect: Effect) -> SessionMove:
    """What this decision does to the session's history, as absolute values."""
    before = session.aggregates
    allowed = effect is Effect.ALLOW
    pays = allowed and facts.tool is not None and facts.tool.effect is ToolEffect.PAY
    return SessionMove(
        session_id=session.session_id,
        version=session.version,
        expires_at=session.expires_at,
        aggregates=Aggregates(
            allow=before.allow + allowed,
            block=before.block + (effect is Effect.BLOCK),
            escalate=before.escalate + (effect is Effect.ESCALATE),
            pay=count(before.pay, int(facts.now.timestamp())) if pays else before.pay,
        ),
        must_be_live=allowed,
    )


def _session_after(session: Session | None, recording: Recording) -> Session | None:
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


def _agree(gathered: Sequence[Facts]) -> None:
    """Raise `SessionMovedError` unless all were read of one state of tenant and session."""
    first = gathered[0]
    if any((facts.epoch, facts.session) != (first.epoch, first.session) for facts in gathered):
        raise SessionMovedError("the session moved between reads")


def _engine_deadline(deadline: float) -> float:
    """Until when the engine is waited for, so that there is time to record that it did not answer."""
    now = time.monotonic()
    return now + min((deadline - now) * (1 - _RECORDING_SHARE), _MAX_ENGINE_SECONDS)


async def _all(calls: Iterable[Awaitable[T]]) -> list[T]:
    """Await all; raise the first failure once all have ended."""
    results = await asyncio.gather(*calls, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return results  # type: ignore[return-value]  # none is an exception


async def _settled(judge: Callable[[], Awaitable[T]], deadline: float) -> T:
    """Judge until nothing has moved meanwhile."""
    for attempt in range(_MAX_JUDGEMENTS):
        try:
            return await judge()
        except SessionMovedError:
            await _back_off(attempt, deadline)
    raise SessionContendedError(retry_after=1.0)


async def _back_off(attempt: int, deadline: float) -> None:
    """Wait a little, at random, so that replicas that race do not race in step."""
    limit = min(_BACKOFF * 2**attempt, _MAX_BACKOFF)
    pause = random.uniform(0, limit)
    if time.monotonic() + pause >= deadline:
        raise DeadlineExceededError("the session moved under every attempt until the deadline")
    await asyncio.sleep(pause)


class _Hints:
    """The latest `_MAX_HINTS` facts, by tenant, session, grant and tool."""

    def __init__(self) -> None:
        self._facts: OrderedDict[tuple[str, str, str, str], Facts] = OrderedDict()

    def get(self, key: tuple[str, str, str, str]) -> Facts | None:
        return self._facts.get(key)

    def keep(self, key: tuple[str, str, str, str], facts: Facts) -> None:
        self._facts[key] = facts
        self._facts.move_to_end(key)
        if len(self._facts) > _MAX_HINTS:
            self._facts.popitem(last=False)


class _Turns:
    """One undecided action of a caller's session at a time; order is arrival."""

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self._locks: dict[tuple[str, str, str], tuple[asyncio.Lock, int]] = {}
        self._waiting = 0
        self._dropped: Counter[str] = Counter()

    def load(self) -> Load:
        return Load(waiting=self._waiting, dropped=dict(self._dropped))

    @asynccontextmanager
    async def take(self, request: EvaluationRequest, places: int = 1) -> AsyncIterator[None]:
        """Hold the turn, for so many actions. Raises `DeadlineExceededError` when it does not come in
        time, and `OverloadedError` when too many wait for it.

        The caller is part of the key: a stranger who names a session must not queue
        before its owner. Correctness never rests on turns, only on versions.
        """
        key = (request.caller.tenant, request.session_id, request.caller.subject)
        lock, users = self._locks.get(key, (asyncio.Lock(), 0))
        places = min(places, self._admission.of_a_session)
        if users + places > self._admission.of_a_session:
            self._dropped["full"] += 1
            raise OverloadedError(self._admission.hint())
        self._locks[key] = (lock, users + places)
        try:
            if users:
                await self._wait(lock, request.deadline)
            else:
                await lock.acquire()
            try:
                yield
            finally:
                lock.release()
        finally:
            lock, users = self._locks[key]
            if users == places:
                del self._locks[key]
            else:
                self._locks[key] = (lock, users - places)

    async def _wait(self, lock: asyncio.Lock, deadline: float) -> None:
        self._waiting += 1
        try:
            async with asyncio.timeout(deadline - time.monotonic()):
                await lock.acquire()
        except TimeoutError as exc:
            self._dropped["late"] += 1
            raise DeadlineExceededError("earlier actions of this session took all the time") from exc
        except asyncio.CancelledError:
            self._dropped["gone"] += 1
            raise
        finally:
            self._waiting -= 1
