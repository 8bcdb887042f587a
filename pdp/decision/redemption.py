"""What a redemption is judged on: whether the allow that is to be used still stands on the ground of now."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from dataclasses import dataclass, replace

from pdp.decision.evaluation import as_first_judged, entity_revisions, prepare_call
from pdp.decision.fingerprint import Fingerprints
from pdp.decision.idempotency import NewCall
from pdp.decision.pipeline import engine_deadline
from pdp.decision.resolved_action import NO_INPUTS, ActionContext, resolve_action, resolve_on_facts
from pdp.decision.revalidation import FirstJudgement, has_ground_moved, read_first_judgement, stands
from pdp.delegation.chain import PresentedChain, read_stored_chain
from pdp.errors import NotRedeemableError, SessionMovedError
from pdp.model import (
    JSON,
    Action,
    DecisionStatus,
    Effect,
    EntityName,
    EvaluationRequest,
    Hop,
    PolicyRevision,
)
from pdp.ports import DecisionHistory, GrantStore, InformationPoint, PolicyEngine
from pdp.proof.receipts import read_decision

_MAX_READS = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class CurrentGround:
    """The ground on which an allow was found to stand."""

    epoch: int
    entities: Mapping[EntityName, int]
    policy: PolicyRevision
    # The revisions of "settings", "tools", "agents", "signals" and "entities".
    data_revisions: Mapping[str, int]


class RedemptionCheck:
    """Tells whether an allow stands on the ground of now. What it finds, the ledger compares once more."""

    def __init__(
        self,
        *,
        information: InformationPoint,
        engine: PolicyEngine,
        history: DecisionHistory,
        grants: GrantStore,
        fingerprints: Fingerprints,
    ) -> None:
        self._information = information
        self._engine = engine
        self._history = history
        self._grants = grants
        self._fingerprints = fingerprints

    async def find_ground(
        self,
        status: DecisionStatus,
        *,
        tool: str,
        arguments: Mapping[str, JSON],
        audience: str,
        deadline: float,
    ) -> CurrentGround:
        """Return the ground that the allow stands on now, judged again if it has moved.

        The action is the very one that was allowed, which the caller has to have compared. `deadline` is an
        instant of `time.monotonic()`. Raises `NotRedeemableError` with the codes of the reasons if it would
        not be allowed now, `PolicyUnavailableError` if nobody can tell, `SessionMovedError` to ask again.
        """
        policy = await self._engine.policy(deadline=engine_deadline(deadline))
        decision, ground = read_decision(status.token), status.ground
        is_unmoved = ground is not None and ground.epoch == status.epoch and not status.entities_moved
        if ground is not None and is_unmoved and policy == decision.policy:
            return CurrentGround(
                epoch=ground.epoch,
                entities=ground.entities,
                policy=policy,
                data_revisions=decision.data_revisions,
            )
        recorded = await self._history.decision(status.key.tenant, status.decision_id)
        first = None if recorded is None else read_first_judgement(status, recorded)
        if first is None:
            raise NotRedeemableError("what it rests on has moved, and it can no longer be judged again")
        context = await self._read_facts(
            first,
            Action(
                tool=tool,
                arguments=arguments,
                tool_call_id=status.key.tool_call_id,
                intent=first.intent,
                claimed_resource=first.claimed_resource,
                provenance=first.provenance,
            ),
            audience,
            deadline,
        )
        entities = entity_revisions(context)
        found = CurrentGround(
            epoch=context.facts.epoch,
            entities=entities,
            policy=policy,
            data_revisions=context.facts.data_revisions,
        )
        if not has_ground_moved(ground, context.facts, entities, judged_by=decision.policy, policy=policy):
            return found
        verdict_policy = await self._judge_again(first, context, deadline)
        return replace(found, policy=verdict_policy)

    async def _judge_again(
        self, first: FirstJudgement, context: ActionContext, deadline: float
    ) -> PolicyRevision:
        """Return the policy that allows it again. Raises `NotRedeemableError`, `PolicyUnavailableError`."""
        judged = as_first_judged(context, first)
        call = NewCall(fingerprint=self._fingerprints.of(context.request))
        evaluation = prepare_call(context, call, self._fingerprints, as_if=judged)
        verdict = await self._engine.decide(
            evaluation.document, deadline=engine_deadline(deadline), tenant=first.status.key.tenant
        )
        again = evaluation.renewal(verdict)
        if not stands(first, context, again):
            codes = tuple(
                reason.code for reason in again.decision.reasons if reason.effect is not Effect.ALLOW
            )
            raise NotRedeemableError(
                "what it rests on has moved, and it would not be allowed now"
                + (f": {', '.join(codes)}" if codes else ", for this very act"),
                codes=codes,
            )
        return verdict.policy

    async def _read_facts(
        self, first: FirstJudgement, action: Action, audience: str, deadline: float
    ) -> ActionContext:
        """Return the action, as it was asked for first, on fresh facts."""
        presented = await self._read_chain(first)
        request = self._first_request(first, action, presented.hops, audience, deadline)
        known = resolve_action(request, presented, NO_INPUTS, self._fingerprints)
        for _ in range(_MAX_READS):
            facts = await self._information.gather(known.facts_request(request, engine_deadline(deadline)))
            context = resolve_on_facts(request, presented, facts, self._fingerprints, earlier=known)
            if not context.action.reads_more_than(known):
                return context
            known = context.action
        raise SessionMovedError("what the action rests on moved between reads")

    async def _read_chain(self, first: FirstJudgement) -> PresentedChain:
        """Return the chain on which it was asked for. The root's authority needs no grant."""
        status = first.status
        if len(first.decision.chain) <= 1 or status.session is None:
            return PresentedChain(hops=(), grants={})
        path = await self._grants.stored_grants(status.key.tenant, first.decision.chain[-1].grant_hash)
        chain = read_stored_chain(path, status.session, status.key.tenant)
        named = tuple(hop.grant_hash for hop in first.decision.chain)
        if chain is None or chain.hashes != named:
            raise NotRedeemableError("what it rests on has moved, and its chain cannot be judged again")
        return chain

    def _first_request(
        self,
        first: FirstJudgement,
        action: Action,
        hops: tuple[Hop, ...],
        audience: str,
        deadline: float,
    ) -> EvaluationRequest:
        """Return the request as it was made first. Raises `NotRedeemableError` if it was another one."""
        request = EvaluationRequest(
            caller=first.caller,
            action=action,
            session_id=first.status.key.session_id,
            deadline=deadline,
            hops=hops,
            review_id=first.status.key.review_id,
            audience=audience,
            # It had shown its proof then, or there would be no allow.
            proof_supposed=True,
        )
        # An audience that was left out was filled in by the registry.
        for asked in (request, replace(request, audience="")):
            if hmac.compare_digest(self._fingerprints.of(asked), first.status.action_fingerprint):
                return asked
        raise NotRedeemableError("what it rests on has moved, and its request cannot be told any more")
