"""The pipeline: enrich, decide, sign, record, return. Read `evaluate` first."""

from __future__ import annotations

import asyncio
import random
import time
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta

from pdp.document import input_document
from pdp.errors import (
    DeadlineExceededError,
    PolicyUnavailableError,
    SessionContendedError,
    SessionMovedError,
)
from pdp.fingerprint import Fingerprints, leaf_grant_hash
from pdp.idempotency import Repeat, judge_repeat
from pdp.limits import count
from pdp.model import (
    Aggregates,
    Decision,
    DecisionKey,
    Derived,
    Effect,
    EvaluationRequest,
    Facts,
    FactsRequest,
    Hop,
    PolicyRevision,
    Reason,
    Receipt,
    Recording,
    Session,
    SessionMove,
    Simulation,
    Tool,
    ToolEffect,
    Verdict,
)
from pdp.ports import InformationPoint, Ledger, PolicyEngine, Signer
from pdp.reasons import POLICY_UNAVAILABLE, REVIEW_UNKNOWN, is_retryable, model_text
from pdp.receipts import Basis, read_decision, sign_receipt
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
    ) -> None:
        """`issuer` is the receipts' `iss`."""
        self._information = information
        self._engine = engine
        self._signer = signer
        self._ledger = ledger
        self._fingerprints = fingerprints
        self._issuer = issuer
        self._turns = _Turns()
        # Each tool's registration as it was read last: a hint of what to read next.
        self._tools = _Hints()

    async def evaluate(self, request: EvaluationRequest) -> tuple[Decision, Receipt]:
        """Return the decision and its signed receipt.

        1. Enrich   the action with trust, session history, settings and signals.
        2. Decide   by policy. An engine that cannot answer blocks.
        3. Sign     the decision with everything it rested on.
        4. Record   receipt, session event and key in one transaction.

        Nothing is returned before step 4 has committed, so no agent can act on a
        decision that the ledger does not hold. Raises `PdpError` if it cannot finish.
        """
        async with self._turns.take(request):
            for attempt in range(_MAX_JUDGEMENTS):
                try:
                    return await self._judge(request)
                except SessionMovedError:
                    await _back_off(attempt, request.deadline)
        raise SessionContendedError(retry_after=1.0)

    async def _judge(self, request: EvaluationRequest) -> tuple[Decision, Receipt]:
        facts, derived = await self._gather(request)  # 1
        session = _own_session(request, facts)
        fingerprint = self._fingerprints.of(request)
        repeat = judge_repeat(facts.prior, fingerprint=fingerprint, session=session, now=facts.now)
        if repeat.stored is not None:
            stored = repeat.stored
            return (
                read_decision(stored.token).as_replayed(),
                Receipt(token=stored.token, position=stored.position),
            )
        hops = request.hops or (() if session is None else (Hop(agent=session.agent),))
        document = input_document(request, facts, session=session, hops=hops, derived=derived)

        verdict = await self._verdict(document, request.deadline)  # 2
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
                entities={entity.name: entity.revision for entity in facts.entities.values()},
            )
        )
        return decision, replace(receipt, position=position)

    async def simulate(self, request: EvaluationRequest) -> Simulation:
        """Return what the decision on a new such call would be now, and leave no trace of it."""
        facts, derived = await self._gather(request)
        session = _own_session(request, facts)
        hops = request.hops or (() if session is None else (Hop(agent=session.agent),))
        document = input_document(request, facts, session=session, hops=hops, derived=derived)
        verdict = await self._verdict(document, request.deadline)
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

    async def _gather(self, request: EvaluationRequest) -> tuple[Facts, Derived]:
        """Return what is known of the action, its entities included, and what the registry says of it.

        Which entities an action is about, its tool's registration says. So that one read is
        enough, it is asked with the registration that was read last; if that is no longer it,
        the read is repeated with the one that was found. Nothing is ever judged on the hint.
        """
        hint = (request.caller.tenant, request.action.tool)
        tool = self._tools.get(hint)
        derived = derive(request.action, tool)
        for _ in range(_MAX_READS):
            facts = await self._information.gather(_facts_request(request, derived))
            if facts.tool != tool:
                tool, asked = facts.tool, derived.entities
                self._tools.keep(hint, tool)
                derived = derive(request.action, tool)
                if derived.entities != asked:
                    continue
            return facts, derived
        raise SessionMovedError("the tool's registration moved between reads")

    async def _verdict(self, document: bytes, deadline: float) -> Verdict | None:
        """Return the engine's verdict; None when there is none in time to record it."""
        now = time.monotonic()
        share = min((deadline - now) * (1 - _RECORDING_SHARE), _MAX_ENGINE_SECONDS)
        try:
            return await self._engine.decide(document, deadline=now + share)
        except PolicyUnavailableError:
            return None


def _facts_request(request: EvaluationRequest, derived: Derived) -> FactsRequest:
    return FactsRequest(
        key=_key(request),
        tool=request.action.tool,
        agents=tuple(hop.agent for hop in request.hops),
        deadline=request.deadline,
        entities=derived.entities,
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
    retryable = is_retryable(effect, reasons)
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
        obligations=() if verdict is None or effect is Effect.BLOCK else verdict.obligations,
        retry_after=verdict.retry_after if verdict is not None and retryable else None,
        session_version=0 if session is None else session.version + 1,
        retryable=retryable,
        attempt_id=request.attempt_id,
    )


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
    """The latest `_MAX_HINTS` tools that were read, by tenant and name."""

    def __init__(self) -> None:
        self._tools: OrderedDict[tuple[str, str], Tool] = OrderedDict()

    def get(self, key: tuple[str, str]) -> Tool | None:
        return self._tools.get(key)

    def keep(self, key: tuple[str, str], tool: Tool | None) -> None:
        if tool is None:
            self._tools.pop(key, None)
            return
        self._tools[key] = tool
        if len(self._tools) > _MAX_HINTS:
            self._tools.popitem(last=False)


class _Turns:
    """One undecided action of a caller's session at a time; order is arrival."""

    def __init__(self) -> None:
        self._locks: dict[tuple[str, str, str], tuple[asyncio.Lock, int]] = {}

    @asynccontextmanager
    async def take(self, request: EvaluationRequest) -> AsyncIterator[None]:
        """Hold the turn. Raises `DeadlineExceededError` when it does not come in time.

        The caller is part of the key: a stranger who names a session must not queue
        before its owner. Correctness never rests on turns, only on versions.
        """
        key = (request.caller.tenant, request.session_id, request.caller.subject)
        lock, users = self._locks.get(key, (asyncio.Lock(), 0))
        self._locks[key] = (lock, users + 1)
        try:
            try:
                if users == 0:
                    # Nobody to wait for, so no timer to set.
                    await lock.acquire()
                else:
                    async with asyncio.timeout(request.deadline - time.monotonic()):
                        await lock.acquire()
            except TimeoutError as exc:
                raise DeadlineExceededError("earlier actions of this session took all the time") from exc
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
