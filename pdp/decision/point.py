"""The decision point: enrich, decide, sign, record, return. Read `DecisionPoint.evaluate` first."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from pdp.decision.evaluation import prepare, prepare_call
from pdp.decision.fingerprint import Fingerprints
from pdp.decision.idempotency import NewCall, StoredAnswer
from pdp.decision.pipeline import Pipeline, engine_deadline
from pdp.decision.plan_point import PlanPoint
from pdp.delegation.tokens import GrantTokens
from pdp.model import EvaluationRequest, SignedDecision, Simulation
from pdp.overload.admission import Admission
from pdp.overload.queue_stats import QueueStats
from pdp.overload.settling import Settling
from pdp.overload.turns import SessionTurns
from pdp.ports import InformationPoint, Ledger, PolicyEngine, Signer


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
        settling: Settling | None = None,
    ) -> None:
        """`issuer` is the receipts' `iss`. `admission` decides which calls are begun at all."""
        self._pipeline = Pipeline(
            information=information,
            engine=engine,
            signer=signer,
            grants=grants,
            fingerprints=fingerprints,
            history=ledger,
            issuer=issuer,
        )
        self._plans = PlanPoint(self._pipeline, ledger, fingerprints)
        self._ledger = ledger
        self._fingerprints = fingerprints
        self._admission = admission or Admission()
        self._turns = SessionTurns(self._admission)
        self._settling = settling or Settling()

    async def evaluate(self, request: EvaluationRequest) -> SignedDecision:
        """Return the decision and its signed receipt.

        1. Enrich   the action with its chain, trust, session history, settings and signals.
        2. Decide   by policy. An engine that cannot answer blocks.
        3. Sign     the decision with everything it rested on.
        4. Record   receipt, session event and key in one transaction.

        Nothing is returned before step 4 has committed, so no agent can act on a
        decision that the ledger does not hold. Raises `PdpError` if it cannot finish, at once
        if it is clear beforehand (see `pdp.overload.admission`).
        """
        async with self._turns.take(request):
            return await self._settling.settle(
                partial(self._judge, request), tenant=request.caller.tenant, deadline=request.deadline
            )

    async def _judge(self, request: EvaluationRequest) -> SignedDecision:
        context = await self._pipeline.enrich(request)  # 1
        began = time.monotonic()
        repeated = await self._pipeline.find_repeated(context)
        evaluation = prepare(context, self._fingerprints, repeated)
        if isinstance(evaluation, StoredAnswer):
            return evaluation.replay(self._fingerprints, tenant=request.caller.tenant)

        verdict = await self._pipeline.decide(evaluation, until=engine_deadline(request.deadline))  # 2
        decision = evaluation.settle(verdict)
        if isinstance(decision, StoredAnswer):
            return decision.replay(self._fingerprints, tenant=request.caller.tenant)
        recording = await self._pipeline.sign(evaluation, decision, verdict)  # 3
        position = await self._ledger.record(recording)  # 4
        self._pipeline.note_rest(time.monotonic() - began)
        return SignedDecision(recording.decision, replace(recording.receipt, position=position))

    async def evaluate_plan(
        self, requests: Sequence[EvaluationRequest], *, all_or_nothing: bool
    ) -> list[SignedDecision]:
        """Return the decisions on the next actions of one session, in order, each with its receipt.

        The requests have one caller, session, chain, audience and deadline, and distinct
        `tool_call_id`s. Each item is judged on what those before it leave, as `evaluate` would one
        after the other, and all are recorded in one transaction. `all_or_nothing`: if not all are
        allowed, each is recorded as a block, and nothing is reserved. Raises as `evaluate` does;
        then nothing was recorded, unless the outcome is unknown.
        """
        async with self._turns.take(requests[0], len(requests)):
            judge = partial(self._plans.judge, requests, all_or_nothing=all_or_nothing)
            return await self._settling.settle(
                judge, tenant=requests[0].caller.tenant, deadline=requests[0].deadline
            )

    async def simulate(self, request: EvaluationRequest) -> Simulation:
        """Return what the decision on a new such call would be now, and leave no trace of it.

        Begun under the conditions of `evaluate`, and raises as it does.
        """
        # It takes a place among the calls in flight, but is not timed: without a recording it would
        # make decisions seem faster than they are.
        with self._admission.enter(request.deadline):
            context = await self._pipeline.enrich(request)
            call = NewCall(fingerprint=self._fingerprints.of(request))
            evaluation = prepare_call(context, call, self._fingerprints)
            verdict = await self._pipeline.decide(evaluation, until=engine_deadline(request.deadline))
            decision = evaluation.decide(verdict)
            return Simulation(
                would_be=decision.effect,
                reasons=decision.reasons,
                policy=decision.policy,
                data_revisions=decision.data_revisions,
                input_document=evaluation.document,
                obligations=decision.obligations,
                retry_after=decision.retry_after,
            )

    def turns(self) -> QueueStats:
        """Return how many calls wait for earlier actions of their session."""
        return self._turns.load()
