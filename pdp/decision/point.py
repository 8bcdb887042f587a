"""The pipeline: enrich, decide, sign, record, return. Read `evaluate` first."""

from __future__ import annotations

import asyncio
import random
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple, TypeVar

from pdp.decision.evaluation import (
    Evaluation,
    ResolvedAction,
    decision_key,
    evaluation_of,
    meaning,
    session_after,
)
from pdp.decision.fingerprint import Fingerprints
from pdp.decision.idempotency import Repeat
from pdp.decision.plan import PendingEffects, apply_earlier_items, as_plan_block, find_allows_needed
from pdp.delegation.chain import read_chain
from pdp.delegation.tokens import GrantTokens
from pdp.errors import (
    DeadlineExceededError,
    PolicyUnavailableError,
    SessionContendedError,
    SessionMovedError,
)
from pdp.model import (
    Chain,
    Decision,
    Effect,
    EvaluationRequest,
    Facts,
    Position,
    Receipt,
    Recording,
    Simulation,
    Verdict,
)
from pdp.overload.admission import Admission
from pdp.overload.latency import LatencyEstimate
from pdp.overload.queue_stats import QueueStats
from pdp.overload.turns import SessionTurns
from pdp.ports import InformationPoint, Ledger, PolicyEngine, Signer
from pdp.proof.receipts import ReceiptInputs, sign_receipt

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


class DecisionPoint:
    """Answers whether an agent should take an action, now, in this context."""

    def __init__(
        self,
        *,
        information: InformationPoint,
        engine: PolicyEngine,
        signer: Signer,
        ledger: Ledger,
        grants: GrantTokens,
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
        self._turns = SessionTurns(self._admission)
        # Steps 2 to 4.
        self._rest = LatencyEstimate()
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
        if it is clear beforehand (see `pdp.overload.admission`).
        """
        with self._admission.enter(request.deadline):
            async with self._turns.take(request):
                with self._admission.judging(request.deadline):
                    return await _settled(partial(self._judge, request), request.deadline)

    def turns(self) -> QueueStats:
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
        facts, found = await self._gather(request)  # 1
        began = time.monotonic()
        case = evaluation_of(request, facts, found, self._fingerprints)
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
                decision = as_plan_block(case.anew(decision), broken_by)
                case = replace(case, steps=())
            elif case.stored is not None:
                continue
            # Some that were judged after allows come after blocks now; each receipt names the one before.
            case = replace(case, facts=replace(case.facts, session=session))
            recordings[index] = await self._signed(case, case.numbered(decision), verdict)
            session = session_after(session, recordings[index])
        positions: Sequence[Position] = ()
        if recordings:
            positions = await self._ledger.record_together(list(recordings.values()))  # 4
        answers = {
            index: (recording.decision, replace(recording.receipt, position=position))
            for (index, recording), position in zip(recordings.items(), positions, strict=True)
        }
        return [answers.get(index) or judged[index].case.replay() for index in range(len(judged))]

    async def _judge_in_order(
        self, requests: Sequence[EvaluationRequest], gathered: Sequence[tuple[Facts, ResolvedAction]]
    ) -> list[_Judged]:
        """Judge each item on what those before it leave."""
        judged: list[_Judged] = []
        traces: list[PendingEffects] = []
        until = _engine_deadline(requests[0].deadline)
        # How many items to ask about at once; few after one that was not allowed, then more again.
        window = len(requests)
        while len(judged) < len(requests):
            supposed, cases = list(traces), []
            for index in range(len(judged), min(len(judged) + window, len(requests))):
                request, (facts, found) = requests[index], gathered[index]
                if supposed:
                    facts = apply_earlier_items(facts, supposed, found.key)
                    found = meaning(request, found.presented, facts, self._fingerprints, before=found)
                case = evaluation_of(request, facts, found, self._fingerprints)
                supposed.append(case.leaves(None))
                cases.append(case)
            verdicts = await _all(self._verdict(case, until) for case in cases)
            window *= 2
            for case, verdict in zip(cases, verdicts, strict=True):
                decision = case.decision(verdict, rests_on=find_allows_needed(case.meaning.steps, traces))
                judged.append(_Judged(case, decision, verdict))
                traces.append(case.leaves(decision))
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
        facts, found = await self._gather(request)
        case = replace(evaluation_of(request, facts, found, self._fingerprints), repeat=Repeat())
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

    async def _signed(self, case: Evaluation, decision: Decision, verdict: Verdict | None) -> Recording:
        """Sign the decision; return it ready for the ledger."""
        request, facts, session = case.request, case.facts, case.session
        receipt = await sign_receipt(
            decision,
            ReceiptInputs(
                request=request,
                facts=facts,
                session=session,
                chain=case.meaning.chain,
                derived=case.meaning.derived,
                verdict=verdict,
                input_document=case.document,
                issuer=self._issuer,
            ),
            self._signer,
        )
        return Recording(
            key=decision_key(request),
            decision=decision,
            receipt=receipt,
            action_fingerprint=case.fingerprint,
            input_document=case.document,
            epoch=facts.epoch,
            prior_decision_id=None if facts.prior is None else facts.prior.decision_id,
            claims_key=case.repeat.claims_key and case.stored is None,
            move=case.move(decision.effect),
            deadline=request.deadline,
            entities=case.revisions,
            reservation=case.reservation(decision.effect),
            steps=case.steps,
        )

    async def _gather(self, request: EvaluationRequest) -> tuple[Facts, ResolvedAction]:
        """Return what is known of the action, and what registry, chain and limits make of it.

        What to read of entities, counters and holds, the tool's registration, the session and
        the settings say. So that one read is enough, it is asked with those that were read last;
        if they are no longer it, the read is repeated with what was found. Nothing is ever
        judged on a hint.
        """
        presented = await read_chain(request.hops, self._grants, deadline=self._facts_deadline(request))
        hint = (request.caller.tenant, request.session_id, request.leaf_grant_hash, request.action.tool)
        hinted, chain = self._hints.get(hint)
        known = meaning(request, presented, hinted, self._fingerprints, chain=chain)
        for _ in range(_MAX_READS):
            facts = await self._information.gather(
                known.facts_request(request, self._facts_deadline(request))
            )
            found = meaning(request, presented, facts, self._fingerprints, before=known)
            if not found.reads_more_than(known):
                self._hints.keep(hint, facts, found.chain)
                return facts, found
            known = found
        raise SessionMovedError("what the action rests on moved between reads")

    def _facts_deadline(self, request: EvaluationRequest) -> float:
        """Facts that come when no time is left for the rest are of no use.

        The estimate may be wrong, so it gets half of the time at most.
        """
        left = request.deadline - time.monotonic()
        return request.deadline - min(self._rest.seconds(), left / 2)

    async def _verdict(self, case: Evaluation, until: float) -> Verdict | None:
        """Return the engine's verdict; None when there is none in time, or none is needed."""
        if case.stored is not None:
            return None
        try:
            return await self._engine.decide(case.document, deadline=until, tenant=case.request.caller.tenant)
        except PolicyUnavailableError:
            return None


class _Judged(NamedTuple):
    """An item of a plan. `verdict` None: there is none, or the decision is a stored one."""

    case: Evaluation
    decision: Decision
    verdict: Verdict | None


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
    failure = next(filter(_failed, results), None)
    if failure is None:
        return results  # type: ignore[return-value]  # none is an exception
    try:
        raise failure  # type: ignore[misc]  # it is one
    finally:
        # Its traceback holds this frame.
        del results, failure


def _failed(result: object) -> bool:
    return isinstance(result, BaseException)


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
    """The latest `_MAX_HINTS` facts and what they proved of the chain, by tenant, session, grant and tool."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[str, str, str, str], tuple[Facts, Chain]] = OrderedDict()

    def get(self, key: tuple[str, str, str, str]) -> tuple[Facts, Chain] | tuple[None, None]:
        return self._kept.get(key, (None, None))

    def keep(self, key: tuple[str, str, str, str], facts: Facts, chain: Chain) -> None:
        self._kept[key] = facts, chain
        self._kept.move_to_end(key)
        if len(self._kept) > _MAX_HINTS:
            self._kept.popitem(last=False)
