"""Revalidation: whether an allow or an escalation that was recorded would be given again now. Pure.

What it rests on may have moved since: settings, the tool, an agent, signals, policy, an entity. Then it is
judged once more on fresh facts, as if it alone had not been recorded. Whatever is in doubt counts against it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from pdp.action.prerequisites import without_use
from pdp.authority.counters import group_by_counter
from pdp.decision.plan import AFTER
from pdp.decision.resolved_action import ActionContext
from pdp.model import (
    JSON,
    Amount,
    Bucket,
    Caller,
    Counter,
    Decision,
    DecisionStatus,
    Effect,
    EntityName,
    Facts,
    Ground,
    Obligation,
    PolicyRevision,
    PrerequisiteKey,
    PriorAnswer,
    RecordedDecision,
    Reservation,
    Role,
    Session,
    ToolEffect,
)
from pdp.proof.receipts import read_decision
from placet.receipt import parse


@dataclass(frozen=True, kw_only=True, slots=True)
class FirstJudgement:
    """How an action was judged first, as far as its decision and its stored document tell."""

    decision: Decision
    status: DecisionStatus
    # The caller as it was then, with the roles and claims that policy saw.
    caller: Caller
    intent: str
    claimed_resource: str
    provenance: Mapping[str, JSON]
    # What the registry made of the action.
    effect: ToolEffect
    resource: str
    amount: Amount | None
    # Whom the receipt is for; empty: nobody.
    audience: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Renewal:
    """What the answer would be now, and what it would leave behind."""

    decision: Decision
    # None: it reserves nothing.
    reservation: Reservation | None = None
    # The prerequisites of which it would consume an allow.
    consumed: tuple[PrerequisiteKey, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class RepeatedDecision:
    """An earlier allow or escalation of the very action that is asked for again."""

    status: DecisionStatus
    # The policy that judges now.
    policy: PolicyRevision
    # None: its document was erased, or cannot be read, and so it cannot be judged again.
    first: FirstJudgement | None


def read_first_judgement(status: DecisionStatus, recorded: RecordedDecision) -> FirstJudgement | None:
    """Return how the decision came about; None if its document was erased or is not what it should be."""
    if recorded.input_document is None:
        return None
    try:
        document: Any = json.loads(recorded.input_document, parse_float=Decimal)
        caller, claimed, action = document["caller"], document["claimed"], document["action"]
        resource, amount = action.get("resource"), action.get("amount")
        return FirstJudgement(
            decision=read_decision(status.token),
            status=status,
            caller=Caller(
                tenant=status.key.tenant,
                subject=caller["subject"],
                roles=frozenset(map(Role, caller["roles"])),
                agents=frozenset(caller["agents"]),
                claims=caller["claims"],
            ),
            intent=claimed["intent"],
            claimed_resource=claimed["resource"],
            provenance=claimed["provenance"],
            effect=ToolEffect(action["tool"]["effect"]),
            resource="" if resource is None else f"{resource['type']}:{resource['id']}",
            amount=None if amount is None else Amount(minor=amount["minor"], currency=amount["currency"]),
            audience=parse(status.token).claims.get("aud", ""),
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def has_ground_moved(
    ground: Ground | None,
    facts: Facts,
    entities: Mapping[EntityName, int],
    *,
    judged_by: PolicyRevision,
    policy: PolicyRevision,
) -> bool:
    """Return whether anything differs that the decision rests on.

    `entities` are those that the action rests on now, with their revisions; `judged_by` is the policy that
    judged then, `policy` the one that judges now. While the epoch is the same, only these can differ.
    """
    if ground is None or policy != judged_by or dict(entities) != dict(ground.entities):
        return True
    if facts.epoch == ground.epoch:
        return False
    agents = {name: agent.revision for name, agent in facts.agents.items()}
    return (
        facts.data_revisions["settings"] != ground.settings
        or facts.data_revisions["signals"] != ground.signals
        or (0 if facts.tool is None else facts.tool.revision) != ground.tool
        or agents != dict(ground.agents)
    )


def set_aside(context: ActionContext, first: FirstJudgement) -> ActionContext:
    """Return the context as if that decision had not been recorded, and all others had.

    What it reserved is given back: its hold, what it added to counters and windows, its place in the
    history of the session, and the prerequisites that it consumed. What is not known for certain to be its
    own stays counted.
    """
    facts, session, status = context.facts, context.session, first.status
    if session is None:
        return context
    recorded = int(status.recorded_at.timestamp())
    counted = () if status.ground is None else status.ground.counted
    # What entities' figures contain of it was not known when it was recorded.
    posted = (own for own in status.hold.totals if own[0] not in {key for key, _ in counted})
    counters = dict(facts.counters)
    for key, add in (*counted, *posted):
        if key in counters:
            counters[key] = _without(counters[key], add, recorded)
    # Whether an earlier answer would be known if this one were not, nobody can tell.
    own = _own_prerequisites(context)
    prerequisites = {
        key: PriorAnswer(effect=Effect.ESCALATE) if key in own else without_use(answer, status.decision_id)
        for key, answer in facts.prerequisites.items()
    }
    fresh = replace(
        facts,
        session=_history_without(session, first),
        counters=counters,
        holds=tuple(hold for hold in facts.holds if hold.decision_id != status.decision_id),
        prerequisites=prerequisites,
    )
    return context.with_facts(fresh)


def stands(first: FirstJudgement, context: ActionContext, again: Renewal) -> bool:
    """Return whether the first decision would be given again: `again` is what it would be now.

    An allow stands only for what it was given for. Where the registry makes another act of the call now
    (another effect, resource, amount, audience, business key or secret), or another reservation, what was
    signed and reserved is not what would be; where there is an obligation that the first one did not name,
    its holder knows nothing of it. `context` has everything that was recorded.
    """
    now = again.decision
    if now.effect is not first.decision.effect or not _same_act(first, context):
        return False
    tool_moved = first.status.ground is None or _tool_revision(context) != first.status.ground.tool
    # What the allow comes after is known by its prerequisites, of which others may have been allowed since.
    obliged = now.obligations if tool_moved else tuple(o for o in now.obligations if o.id != AFTER)
    if not _obliges_to_no_more(obliged, first.decision.obligations):
        return False
    if now.effect is not Effect.ALLOW:
        return _restrictions(now) == _restrictions(first.decision)
    return _same_hold(first, again) and (not tool_moved or _same_reservation(first, context, again))


def _tool_revision(context: ActionContext) -> int:
    return 0 if context.facts.tool is None else context.facts.tool.revision


def _same_act(first: FirstJudgement, context: ActionContext) -> bool:
    derived, tool = context.action.derived, context.facts.tool
    return (
        tool is not None
        and tool.effect is first.effect
        and ("" if derived.resource is None else str(derived.resource)) == first.resource
        and derived.amount == first.amount
        and derived.audience == first.audience
        and derived.secret_paths == first.decision.secret_paths
    )


def _same_hold(first: FirstJudgement, again: Renewal) -> bool:
    """Whether the hold would be of the same business key, and be given back on the same terms."""
    hold, would = first.status.hold, again.reservation or Reservation()
    key = None if would.key is None else would.key.normal
    return key == hold.key and would.redeem_required == hold.redeem_required


def _same_reservation(first: FirstJudgement, context: ActionContext, again: Renewal) -> bool:
    """Whether all that a new registration of the tool counts and consumes of the action was, then."""
    for key in again.consumed:
        answer = context.facts.prerequisites.get(key)
        uses = () if answer is None else (use for allow in answer.allows for use in allow.uses)
        if all(use.decision_id != first.status.decision_id for use in uses):
            return False
    ground = first.status.ground
    if ground is None:
        return True
    guards = () if again.reservation is None else again.reservation.guards
    counted = {key: of[0].add for key, of in group_by_counter(guards).items() if of[0].add}
    return counted == {key: add for key, add in ground.counted if add}


def _obliges_to_no_more(now: tuple[Obligation, ...], then: tuple[Obligation, ...]) -> bool:
    known = [(obligation.id, dict(obligation.properties)) for obligation in then]
    return all((obligation.id, dict(obligation.properties)) in known for obligation in now)


def _restrictions(decision: Decision) -> set[tuple[str, Effect, str]]:
    return {
        (reason.code, reason.effect, reason.at)
        for reason in decision.reasons
        if reason.effect is not Effect.ALLOW
    }


def _own_prerequisites(context: ActionContext) -> frozenset[PrerequisiteKey]:
    """Return the prerequisites that calls of this very tool answer."""
    return frozenset(
        key for key in context.action.prerequisite_keys if key.tool == context.request.action.tool
    )


def _history_without(session: Session, first: FirstJudgement) -> Session:
    before = session.aggregates
    if first.decision.effect is Effect.ESCALATE:
        return replace(session, aggregates=replace(before, escalate=max(0, before.escalate - 1)))
    pay = before.pay
    if first.effect is ToolEffect.PAY:
        # The history counts at the time of the facts, which is the decision's own.
        pay = _buckets_without(pay, 1, int(first.decision.decided_at.timestamp()))
    return replace(session, aggregates=replace(before, allow=max(0, before.allow - 1), pay=pay))


def _without(counter: Counter, add: int, at: int) -> Counter:
    return counter._replace(
        total=max(0, counter.total - add), buckets=_buckets_without(counter.buckets, add, at)
    )


def _buckets_without(buckets: tuple[Bucket, ...], add: int, at: int) -> tuple[Bucket, ...]:
    """Return the buckets without what was counted at `at` (Unix seconds).

    Where several reach over that instant, nobody knows which one has it. It is taken from the one that
    leaves every window first, so that none ever counts too little.
    """
    reaching = [place for place, b in enumerate(buckets) if b.start <= at < b.start + b.width]
    if not reaching:
        return buckets
    place = min(reaching, key=lambda index: buckets[index].start + buckets[index].width)
    left = buckets[place].number - add
    kept = () if left <= 0 else (buckets[place]._replace(number=left),)
    return (*buckets[:place], *kept, *buckets[place + 1 :])
