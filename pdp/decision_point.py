"""The pipeline: enrich, decide, sign, record, return. Read `evaluate` first."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta

from pdp.admission import Admission
from pdp.attribute_rules import pointed_to
from pdp.budgets import guards, judged, limits
from pdp.delegation import verify_chain
from pdp.document import input_document
from pdp.errors import (
    DeadlineExceededError,
    OverloadedError,
    PolicyUnavailableError,
    SessionContendedError,
    SessionMovedError,
)
from pdp.fingerprint import Fingerprints, leaf_grant_hash
from pdp.idempotency import Repeat, judge_repeat
from pdp.limits import count
from pdp.load import Load
from pdp.model import (
    Aggregates,
    Boundary,
    CounterKey,
    Decision,
    DecisionKey,
    Derived,
    Effect,
    EntityName,
    EvaluationRequest,
    Facts,
    FactsRequest,
    Hop,
    KeyHashes,
    Limit,
    Obligation,
    PolicyRevision,
    Prerequisite,
    Reason,
    Receipt,
    Recording,
    Reservation,
    Session,
    SessionMove,
    Simulation,
    Step,
    ToolEffect,
    Verdict,
)
from pdp.pace import Pace
from pdp.ports import InformationPoint, Ledger, PolicyEngine, Signer
from pdp.reasons import POLICY_UNAVAILABLE, REVIEW_UNKNOWN, is_retryable, model_text
from pdp.receipts import Basis, read_decision, sign_receipt
from pdp.registry import derive
from pdp.settings import allow_ttl, max_chain_depth
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
        fingerprints: Fingerprints,
        issuer: str,
        admission: Admission | None = None,
    ) -> None:
        """`issuer` is the receipts' `iss`. `admission`: who decides what is begun at all."""
        self._information = information
        self._engine = engine
        self._signer = signer
        self._ledger = ledger
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

        1. Enrich   the action with trust, session history, settings and signals.
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
                    return await self._settled(request)

    def turns(self) -> Load:
        """The calls that wait for earlier actions of their session."""
        return self._turns.load()

    async def _settled(self, request: EvaluationRequest) -> tuple[Decision, Receipt]:
        """Judge until nothing has moved meanwhile."""
        for attempt in range(_MAX_JUDGEMENTS):
            try:
                return await self._judge(request)
            except SessionMovedError:
                await _back_off(attempt, request.deadline)
        raise SessionContendedError(retry_after=1.0)

    async def _judge(self, request: EvaluationRequest) -> tuple[Decision, Receipt]:
        facts, plan = await self._gather(request)  # 1
        derived = plan.derived
        began = time.monotonic()
        session = _own_session(request, facts)
        fingerprint = self._fingerprints.of(request)
        repeat = judge_repeat(facts.prior, fingerprint=fingerprint, session=session, now=facts.now)
        if repeat.stored is not None:
            stored = repeat.stored
            return (
                read_decision(stored.token).as_replayed(),
                Receipt(token=stored.token, position=stored.position),
            )
        hops, met, document = _premises(request, facts, session, plan)

        verdict = await self._verdict(document, request)  # 2
        decision = _decision(request, facts, session, verdict, repeat)

        receipt = await sign_receipt(  # 3
            decision,
            Basis(
                request=request,
                facts=facts,
                session=session,
                hops=hops,
                derived=derived,
                verdict=verdict,
                input_document=document,
                issuer=self._issuer,
            ),
            self._signer,
        )

        position = await self._ledger.record(  # 4
            Recording(
                key=_key(request),
                decision=decision,
                receipt=receipt,
                action_fingerprint=fingerprint,
                input_document=document,
                epoch=facts.epoch,
                prior_decision_id=None if facts.prior is None else facts.prior.decision_id,
                claims_key=repeat.claims_key,
                move=None if session is None else _move(session, facts, decision.effect),
                deadline=request.deadline,
                entities=_revisions(facts, plan),
                reservation=_reservation(decision.effect, facts, met, plan.key),
                steps=() if session is None else self._steps(request, facts, derived),
            )
        )
        self._rest.took(time.monotonic() - began)
        return decision, replace(receipt, position=position)

    async def simulate(self, request: EvaluationRequest) -> Simulation:
        """Return what the decision on a new such call would be now, and leave no trace of it."""
        facts, plan = await self._gather(request)
        session = _own_session(request, facts)
        _, _, document = _premises(request, facts, session, plan)
        verdict = await self._verdict(document, request)
        decision = _decision(request, facts, session, verdict, Repeat())
        return Simulation(
            would_be=decision.effect,
            reasons=decision.reasons,
            policy=decision.policy,
            data_revisions=decision.data_revisions,
            input_document=document,
            obligations=decision.obligations,
            retry_after=decision.retry_after,
        )

    async def _gather(self, request: EvaluationRequest) -> tuple[Facts, _Plan]:
        """Return what is known of the action, and what the registry and the limits make of it.

        What to read of entities, counters and holds, the tool's registration, the session and
        the settings say. So that one read is enough, it is asked with those that were read last;
        if they are no longer it, the read is repeated with what was found. Nothing is ever
        judged on a hint.
        """
        hint = (request.caller.tenant, request.session_id, request.action.tool)
        plan = self._plan(request, self._hints.get(hint))
        for _ in range(_MAX_READS):
            facts = await self._information.gather(
                _facts_request(request, plan, self._facts_deadline(request))
            )
            found = self._plan(request, facts)
            if not found.reads_more_than(plan):
                self._hints.keep(hint, facts)
                return facts, found
            plan = found
        raise SessionMovedError("what the action rests on moved between reads")

    def _plan(self, request: EvaluationRequest, facts: Facts | None) -> _Plan:
        """What to read, as far as `facts` tell."""
        tool = None if facts is None else facts.tool
        session = None if facts is None else _own_session(request, facts)
        derived = derive(request.action, tool)
        tenant = request.caller.tenant
        agents = tuple(hop.agent for hop in request.hops) or (() if session is None else (session.agent,))
        return _Plan(
            derived=derived,
            limits=()
            if facts is None
            else limits(session, facts.settings, tool, derived, agents=agents, entities=facts.entities),
            key=None
            if derived.business_key is None
            else self._fingerprints.business_key(tenant, derived.business_key),
            prerequisites=()
            if tool is None
            else tuple(
                (rule, self._fingerprints.step(tenant, rule.tool, rule.same, derived.arguments))
                for rule in tool.prerequisites
            ),
            listed=()
            if session is None or derived.resource is None
            else pointed_to(_boundaries(session), derived.resource.type),
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

    async def _verdict(self, document: bytes, request: EvaluationRequest) -> Verdict | None:
        """Return the engine's verdict; None when there is none in time to record it."""
        now = time.monotonic()
        share = min((request.deadline - now) * (1 - _RECORDING_SHARE), _MAX_ENGINE_SECONDS)
        try:
            return await self._engine.decide(document, deadline=now + share, tenant=request.caller.tenant)
        except PolicyUnavailableError:
            return None


@dataclass(frozen=True, kw_only=True, slots=True)
class _Plan:
    """What the registry and the limits make of an action."""

    derived: Derived
    limits: tuple[Limit, ...]
    key: KeyHashes | None
    prerequisites: tuple[tuple[Prerequisite, Step], ...]
    listed: tuple[EntityName, ...]

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


def _facts_request(request: EvaluationRequest, plan: _Plan, deadline: float) -> FactsRequest:
    return FactsRequest(
        key=_key(request),
        tool=request.action.tool,
        agents=tuple(hop.agent for hop in request.hops),
        deadline=deadline,
        entities=plan.derived.entities,
        counters=plan.counters,
        business_key=None if plan.key is None else plan.key.normal,
        prerequisites=tuple(step for _, step in plan.prerequisites),
        listed=plan.listed,
    )


def _revisions(facts: Facts, plan: _Plan) -> dict[EntityName, int]:
    """What the decision rests on of entities: those of the call, and those that boundaries point to."""
    read = (*facts.entities.values(), *(facts.listed[name] for name in plan.listed))
    return {entity.name: entity.revision for entity in read}


def _boundaries(session: Session) -> tuple[Boundary, ...]:
    return (session.boundary,) if session.template is None else (session.boundary, session.template)


def _premises(
    request: EvaluationRequest, facts: Facts, session: Session | None, plan: _Plan
) -> tuple[tuple[Hop, ...], tuple[Limit, ...], bytes]:
    """What policy is asked about: the chain, the limits as they stand, and the document."""
    hops = request.hops or (() if session is None else (Hop(agent=session.agent),))
    # Of the grants, none is read yet.
    chain = verify_chain(
        request.hops,
        grants={},
        rows={},
        session=facts.session,
        tenant=request.caller.tenant,
        caller=request.caller,
        now=facts.now,
        max_depth=max_chain_depth(facts.settings),
    )
    met = judged(plan.limits, facts.counters, int(facts.now.timestamp()))
    document = input_document(
        request,
        facts,
        session=session,
        chain=chain,
        derived=plan.derived,
        limits=met,
        key=plan.key,
        prerequisites=plan.prerequisites,
    )
    return hops, met, document


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


def _own_session(request: EvaluationRequest, facts: Facts) -> Session | None:
    """The session, if the caller may speak for its agent. To a stranger it does not exist."""
    session = facts.session
    return session if session is not None and session.agent in request.caller.agents else None


def _decision(
    request: EvaluationRequest,
    facts: Facts,
    session: Session | None,
    verdict: Verdict | None,
    repeat: Repeat,
) -> Decision:
    # No review exists yet, so whatever id is named is made up.
    unknown = () if request.review_id is None else (REVIEW_UNKNOWN,)
    effect, reasons = _effect(verdict, (*repeat.reasons, *unknown))
    decided_at = facts.now.replace(microsecond=0)
    expires_at = decided_at + timedelta(seconds=allow_ttl(facts.settings))
    if session is not None:
        # An answer does not outlive its session.
        expires_at = max(decided_at, min(expires_at, session.expires_at.replace(microsecond=0)))
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
    )


def _obligations(facts: Facts, verdict: Verdict | None, effect: Effect) -> tuple[Obligation, ...]:
    if verdict is None or effect is Effect.BLOCK:
        return ()
    if effect is Effect.ALLOW and facts.tool is not None and facts.tool.redeem_required:
        return (*verdict.obligations, REDEEM)
    return verdict.obligations


def _effect(verdict: Verdict | None, found: tuple[Reason, ...]) -> tuple[Effect, tuple[Reason, ...]]:
    """Policy's verdict, overridden by what the PDP itself found; found reasons all block."""
    if verdict is None:
        return Effect.BLOCK, (*found, POLICY_UNAVAILABLE)
    if found:
        restricting = tuple(reason for reason in verdict.reasons if reason.effect is not Effect.ALLOW)
        return Effect.BLOCK, (*found, *restricting)
    return verdict.effect, verdict.reasons


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


async def _back_off(attempt: int, deadline: float) -> None:
    """Wait a little, at random, so that replicas that race do not race in step."""
    limit = min(_BACKOFF * 2**attempt, _MAX_BACKOFF)
    pause = random.uniform(0, limit)
    if time.monotonic() + pause >= deadline:
        raise DeadlineExceededError("the session moved under every attempt until the deadline")
    await asyncio.sleep(pause)


class _Hints:
    """The latest `_MAX_HINTS` facts, by tenant, session and tool."""

    def __init__(self) -> None:
        self._facts: OrderedDict[tuple[str, str, str], Facts] = OrderedDict()

    def get(self, key: tuple[str, str, str]) -> Facts | None:
        return self._facts.get(key)

    def keep(self, key: tuple[str, str, str], facts: Facts) -> None:
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
    async def take(self, request: EvaluationRequest) -> AsyncIterator[None]:
        """Hold the turn. Raises `DeadlineExceededError` when it does not come in time, and
        `OverloadedError` when too many wait for it.

        The caller is part of the key: a stranger who names a session must not queue
        before its owner. Correctness never rests on turns, only on versions.
        """
        key = (request.caller.tenant, request.session_id, request.caller.subject)
        lock, users = self._locks.get(key, (asyncio.Lock(), 0))
        if users >= self._admission.of_a_session:
            self._dropped["full"] += 1
            raise OverloadedError(self._admission.hint())
        self._locks[key] = (lock, users + 1)
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
            if users == 1:
                del self._locks[key]
            else:
                self._locks[key] = (lock, users - 1)

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
