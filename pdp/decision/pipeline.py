"""The steps of an evaluation, each by itself: enrich, decide, sign. `DecisionPoint` puts them in order."""

from __future__ import annotations

import time

from pdp.authority.transitions import find_recounts
from pdp.decision.evaluation import Evaluation
from pdp.decision.fingerprint import Fingerprints
from pdp.decision.hints import Hints
from pdp.decision.resolved_action import ActionContext, decision_key, resolve_action, resolve_on_facts
from pdp.decision.revalidation import RepeatedDecision, read_first_judgement
from pdp.delegation.chain import read_chain
from pdp.delegation.tokens import GrantTokens
from pdp.errors import PolicyUnavailableError, SessionMovedError, StoreUnavailableError
from pdp.model import Caller, Decision, Effect, Entry, EntryKind, EvaluationRequest, Recording, Verdict
from pdp.overload.latency import LatencyEstimate
from pdp.ports import DecisionHistory, InformationPoint, PolicyEngine, Signer
from pdp.proof.entries import sign_entry
from pdp.proof.receipts import ReceiptInputs, sign_receipt
from pdp.uuid7 import uuid7

# One, and one more after a tool was registered anew; a third is nearly unheard of.
_MAX_READS = 3
# The share of the time left that is kept for signing and recording when the engine does not answer.
_RECORDING_SHARE = 0.4
_MAX_ENGINE_SECONDS = 5.0


class Pipeline:
    """Enriches actions, asks policy about them, and signs what was decided."""

    def __init__(
        self,
        *,
        information: InformationPoint,
        engine: PolicyEngine,
        signer: Signer,
        grants: GrantTokens,
        fingerprints: Fingerprints,
        history: DecisionHistory,
        issuer: str,
    ) -> None:
        """`issuer` is the receipts' `iss`."""
        self._information = information
        self._engine = engine
        self._signer = signer
        self._grants = grants
        self._fingerprints = fingerprints
        self._history = history
        self._issuer = issuer
        self._hints = Hints()
        # How long all takes that comes after enriching.
        self._rest = LatencyEstimate()

    async def enrich(self, request: EvaluationRequest) -> ActionContext:
        """Return what is known of the action, and what registry, chain and limits make of it.

        Which entities, counters and holds to read depends on the tool's registration, the session
        and the settings, which have to be read as well. So that one read is enough, it asks for what
        was right for the last action like this one; if the facts show that this was not all, it
        reads again with what they show. What is returned rests on the facts alone. Raises
        `SessionMovedError` if every read shows something else, and as `InformationPoint.gather`.
        """
        presented = await read_chain(request.hops, self._grants, deadline=self._facts_deadline(request))
        known = resolve_action(request, presented, self._hints.get(request), self._fingerprints)
        for _ in range(_MAX_READS):
            facts = await self._information.gather(
                known.facts_request(request, self._facts_deadline(request))
            )
            context = resolve_on_facts(request, presented, facts, self._fingerprints, earlier=known)
            if not context.action.reads_more_than(known):
                self._hints.keep(request, context.action.inputs)
                return context
            known = context.action
        raise SessionMovedError("what the action rests on moved between reads")

    async def find_repeated(self, context: ActionContext) -> RepeatedDecision | None:
        """Return the earlier allow or escalation that the call may be a repeat of; None if there is none.

        Raises `PolicyUnavailableError` if it is not known which policy judges now, and
        `StoreUnavailableError`.
        """
        prior = context.facts.prior
        if prior is None or prior.effect is Effect.BLOCK:
            return None
        if context.session is None or not context.chain.proven:
            return None
        tenant = context.request.caller.tenant
        policy = await self._engine.policy(deadline=engine_deadline(context.request.deadline))
        status = await self._history.status(tenant, decision_id=prior.decision_id)
        recorded = await self._history.decision(tenant, prior.decision_id)
        if status is None or recorded is None:
            raise StoreUnavailableError("a decision that a key points at is not there")
        return RepeatedDecision(status=status, policy=policy, first=read_first_judgement(status, recorded))

    async def decide(self, evaluation: Evaluation, *, until: float) -> Verdict | None:
        """Return policy's verdict; None if the engine gave none that can be used by `until`."""
        tenant = evaluation.context.request.caller.tenant
        try:
            return await self._engine.decide(evaluation.document, deadline=until, tenant=tenant)
        except PolicyUnavailableError:
            return None

    async def sign(self, evaluation: Evaluation, decision: Decision, verdict: Verdict | None) -> Recording:
        """Sign the decision; return it ready for the ledger. Raises `SignerUnavailableError`."""
        context = evaluation.context
        request, facts, tenant = context.request, context.facts, context.request.caller.tenant
        receipt = await sign_receipt(
            decision,
            ReceiptInputs(
                request=request,
                facts=facts,
                session=context.session,
                chain=context.chain,
                derived=context.action.derived,
                verdict=verdict,
                input_document=evaluation.document,
                issuer=self._issuer,
                secret_salt=self._fingerprints.secret_salt(tenant, decision.decision_id)
                if decision.secret_paths
                else b"",
            ),
            self._signer,
        )
        return Recording(
            key=decision_key(request),
            decision=decision,
            receipt=receipt,
            action_fingerprint=evaluation.call.fingerprint,
            input_document=evaluation.document,
            epoch=facts.epoch,
            prior_decision_id=None if facts.prior is None else facts.prior.decision_id,
            claims_key=evaluation.call.claims_key,
            move=evaluation.move(decision.effect),
            deadline=request.deadline,
            entities=evaluation.entity_revisions,
            reservation=evaluation.reservation(decision.effect),
            own_keys=evaluation.answered_keys(decision),
            acted_on=request.leaf_grant_hash,
            ground=evaluation.ground(decision.effect),
            voids=await self._sign_void(evaluation, decision),
        )

    async def _sign_void(self, evaluation: Evaluation, decision: Decision) -> Entry | None:
        """Return the entry that voids the allow which the decision says is stale; None if there is none."""
        repeated, voided, facts = evaluation.repeated, evaluation.voided(decision), evaluation.context.facts
        if repeated is None or voided is None:
            return None
        status, after = repeated.status, voided.after
        # It is the server's own finding, whoever asked.
        itself = Caller(tenant=status.key.tenant, subject=self._issuer, roles=frozenset(), agents=frozenset())
        entry_id = uuid7(facts.now)
        token = await sign_entry(
            self._signer,
            issuer=self._issuer,
            entry_id=entry_id,
            kind=EntryKind.OUTCOME,
            about=status.decision_id,
            receipt=status.token.split(b"~", 1)[0],
            by=itself,
            now=facts.now,
            state=after.state,
            outcome=after.outcome,
        )
        return Entry(
            entry_id=entry_id,
            kind=EntryKind.OUTCOME,
            token=token,
            caller=itself.subject,
            about=status,
            hold=after,
            recounts=find_recounts(status.hold, after),
            deadline=evaluation.context.request.deadline,
        )

    def note_rest(self, seconds: float) -> None:
        """Take note of how long one decision took from its facts to its recording."""
        self._rest.took(seconds)

    def _facts_deadline(self, request: EvaluationRequest) -> float:
        """Return until when facts are of use: when they come, there must be time for the rest.

        The estimate of the rest may be wrong, so the rest gets half of the time at most.
        """
        left = request.deadline - time.monotonic()
        return request.deadline - min(self._rest.seconds(), left / 2)


def engine_deadline(deadline: float) -> float:
    """Return until when the engine is waited for, so that there is time to record that it did not answer."""
    now = time.monotonic()
    return now + min((deadline - now) * (1 - _RECORDING_SHARE), _MAX_ENGINE_SECONDS)
