"""Plans: the steps of an evaluation, each for all items, recorded together."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple, TypeVar

from pdp.decision.evaluation import (
    Evaluation,
    apply_recording,
    own_prerequisite_keys,
    prepare,
    prepare_call,
)
from pdp.decision.fingerprint import Fingerprints
from pdp.decision.idempotency import NewCall, StoredAnswer
from pdp.decision.pipeline import Pipeline, engine_deadline
from pdp.decision.plan import PendingEffects, apply_earlier_items, as_plan_block, supposed_id
from pdp.decision.resolved_action import ActionContext
from pdp.decision.revalidation import RepeatedDecision
from pdp.errors import SessionMovedError
from pdp.model import Decision, Effect, EvaluationRequest, Facts, Recording, SignedDecision, Verdict
from pdp.ports import Ledger

T = TypeVar("T")


class PlanPoint:
    """Judges the next actions of one session together."""

    def __init__(self, pipeline: Pipeline, ledger: Ledger, fingerprints: Fingerprints) -> None:
        self._pipeline = pipeline
        self._ledger = ledger
        self._fingerprints = fingerprints

    async def judge(
        self, requests: Sequence[EvaluationRequest], *, all_or_nothing: bool
    ) -> list[SignedDecision]:
        """Do the steps of `DecisionPoint.evaluate`, each for all items.

        Raises `SessionMovedError`, with nothing recorded, if it has to be done again.
        """
        contexts = await _gather_all(self._pipeline.enrich(request) for request in requests)  # 1
        _check_agreement([context.facts for context in contexts])
        repeated = await _gather_all(self._pipeline.find_repeated(context) for context in contexts)
        judged = await self._judge_in_order(contexts, repeated)  # 2
        if all_or_nothing:
            judged = self._as_one(judged)
        recordings = await self._sign_in_order(judged)  # 3
        positions = await self._ledger.record_together(recordings) if recordings else ()  # 4
        recorded = iter(
            [
                SignedDecision(recording.decision, replace(recording.receipt, position=position))
                for recording, position in zip(recordings, positions, strict=True)
            ]
        )
        tenant = requests[0].caller.tenant
        return [
            item.answer.replay(self._fingerprints, tenant=tenant)
            if isinstance(item.answer, StoredAnswer)
            else next(recorded)
            for item in judged
        ]

    async def _judge_in_order(
        self, contexts: Sequence[ActionContext], repeated: Sequence[RepeatedDecision | None]
    ) -> list[_Judged]:
        """Judge each item on what those before it leave. `repeated`: what each may be a repeat of.

        Policy is asked about many items at once, each as if all before it were allowed. After the
        first that is not, the rest is judged again.
        """
        judged: list[_Judged] = []
        earlier: list[PendingEffects] = []
        until = engine_deadline(contexts[0].request.deadline)
        # How many items to ask about at once; one after one that was not allowed, then more again.
        window = len(contexts)
        while len(judged) < len(contexts):
            ahead = slice(len(judged), len(judged) + window)
            items = self._prepare(contexts[ahead], repeated[ahead], earlier)
            verdicts = await _gather_all(self._decide(item, until) for item in items)
            window *= 2
            for item, verdict in zip(items, verdicts, strict=True):
                item, decision = _settle_item(item, verdict, earlier)
                judged.append(_Judged(item.context, item.answer, decision, verdict))
                earlier.append(self._effects_of(item, decision, len(earlier)))
                if isinstance(item.answer, Evaluation) and (
                    decision.effect is not Effect.ALLOW or item.answer.reconsidered is not None
                ):
                    window = 1
                    break
        return judged

    def _prepare(
        self,
        contexts: Sequence[ActionContext],
        repeated: Sequence[RepeatedDecision | None],
        earlier: Sequence[PendingEffects],
    ) -> list[_Item]:
        """Prepare items to be judged after the earlier ones, each as if those before it were allowed."""
        supposed, items = list(earlier), []
        for context, before in zip(contexts, repeated, strict=True):
            if supposed:
                facts = apply_earlier_items(context.facts, supposed, context.action.key)
                context = context.with_facts(facts)
            item = _Item(context, prepare(context, self._fingerprints, before))
            supposed.append(self._effects_of(item, None, len(supposed)))
            items.append(item)
        return items

    async def _decide(self, item: _Item, until: float) -> Verdict | None:
        if isinstance(item.answer, StoredAnswer):
            return None
        return await self._pipeline.decide(item.answer, until=until)

    def _effects_of(self, item: _Item, decision: Decision | None, place: int) -> PendingEffects:
        """Return what the plan's item at `place` leaves for later ones.

        Without a decision, as if it were allowed.
        """
        if isinstance(item.answer, Evaluation):
            return item.answer.pending_effects(decision, supposed_id=supposed_id(place))
        prior = item.answer.prior
        return PendingEffects(
            effect=prior.effect,
            decision_id=prior.decision_id,
            own_keys=own_prerequisite_keys(item.context, self._fingerprints),
            replayed=True,
        )

    def _as_one(self, judged: list[_Judged]) -> list[_Judged]:
        """Return all items as blocks if one of them is not allowed; what is a block already stays so."""
        effects = [item.decision.effect for item in judged]
        broken_by = next((place for place, effect in enumerate(effects) if effect is not Effect.ALLOW), None)
        if broken_by is None:
            return judged
        return [
            item if effect is Effect.BLOCK else self._as_block(item, broken_by)
            for item, effect in zip(judged, effects, strict=True)
        ]

    def _as_block(self, item: _Judged, broken_by: int) -> _Judged:
        """Return the item as a block of its own, because another item is not allowed."""
        evaluation, decision = item.answer, item.decision
        if isinstance(evaluation, StoredAnswer):
            # The key goes on naming the answer that was given before.
            call = NewCall(fingerprint=evaluation.prior.action_fingerprint, claims_key=False)
            stored, evaluation = decision, prepare_call(item.context, call, self._fingerprints)
            decision = replace(evaluation.decide(None), effect=stored.effect, reasons=stored.reasons)
        return item._replace(answer=evaluation, decision=as_plan_block(decision, broken_by))

    async def _sign_in_order(self, judged: Sequence[_Judged]) -> list[Recording]:
        """Sign what has no answer yet, each decision on the session as the one before it leaves it.

        Items may have been judged after allows that are blocks now; each receipt names the one before.
        """
        recordings: list[Recording] = []
        session = judged[0].context.facts.session
        for item in judged:
            if isinstance(item.answer, StoredAnswer):
                continue
            context = item.answer.context
            context = context.with_facts(replace(context.facts, session=session))
            version = 0 if context.session is None else context.session.version + 1
            recording = await self._pipeline.sign(
                replace(item.answer, context=context),
                replace(item.decision, session_version=version),
                item.verdict,
            )
            recordings.append(recording)
            session = apply_recording(session, recording)
        return recordings


class _Item(NamedTuple):
    """An item of a plan, ready to be judged on what those before it leave."""

    context: ActionContext
    answer: Evaluation | StoredAnswer


class _Judged(NamedTuple):
    """An item of a plan that was judged. `verdict` None: there is none, or none was needed."""

    context: ActionContext
    answer: Evaluation | StoredAnswer
    decision: Decision
    verdict: Verdict | None


def _settle_item(
    item: _Item, verdict: Verdict | None, earlier: Sequence[PendingEffects]
) -> tuple[_Item, Decision]:
    """Return the item with its decision; its answer is the stored one if that turns out to stand.

    It was judged as if the earlier ones were allowed. So they were, and their allows have ids now.
    """
    if isinstance(item.answer, Evaluation):
        ids = {supposed_id(place): effects.decision_id for place, effects in enumerate(earlier)}
        evaluation = item.answer.with_decision_ids(ids)
        settled = evaluation.settle(verdict)
        item = item._replace(answer=evaluation if isinstance(settled, Decision) else settled)
        if isinstance(settled, Decision):
            return item, settled
    assert isinstance(item.answer, StoredAnswer)  # it is one, or was made one just now
    return item, item.answer.decision


def _check_agreement(facts: Sequence[Facts]) -> None:
    """Raise `SessionMovedError` unless all were read of one state of tenant and session."""
    first = facts[0]
    if any((each.epoch, each.session) != (first.epoch, first.session) for each in facts):
        raise SessionMovedError("the session moved between reads")


async def _gather_all(calls: Iterable[Awaitable[T]]) -> list[T]:
    """Await all; raise the first failure once all have ended."""
    results = await asyncio.gather(*calls, return_exceptions=True)
    failure = next(filter(_is_failure, results), None)
    if failure is None:
        return results  # type: ignore[return-value]  # none is an exception
    try:
        raise failure  # type: ignore[misc]  # it is one
    finally:
        # No reference cycles on the failure path (docs/decisions/0012-no-cycles-on-failure.md).
        del results, failure


def _is_failure(result: object) -> bool:
    return isinstance(result, BaseException)
