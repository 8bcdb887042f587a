"""Plans: what an item is judged on after the items before it, and what of it depends on them. Pure.

The items of a plan are judged before any of them is recorded. What each leaves is applied here in
process, as the recording transaction applies it to the rows; there all of it is checked again.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime

from pdp.action.prerequisites import add_use, end_use, update_answer
from pdp.authority.counters import add_to_counter, apply_recount, group_by_counter
from pdp.authority.transitions import find_recounts
from pdp.model import (
    Counter,
    Decision,
    Effect,
    Facts,
    Hold,
    HoldRecord,
    HoldState,
    KeyHashes,
    Obligation,
    PrerequisiteKey,
    Reason,
    Reservation,
    SessionMove,
)
from pdp.reasons import not_whole
from placet.model._wording import model_text

# Id of the obligation to wait for an earlier action.
AFTER = "after"


@dataclass(frozen=True, kw_only=True, slots=True)
class VoidedHold:
    """An earlier allow's hold, before and after it is voided."""

    decision_id: str
    recorded_at: datetime
    before: HoldRecord
    after: HoldRecord


@dataclass(frozen=True, kw_only=True, slots=True)
class PendingEffects:
    """What an item leaves for those after it."""

    effect: Effect
    # A made-up one while the item is only supposed to be allowed (`supposed_id`).
    decision_id: str = ""
    move: SessionMove | None = None
    reservation: Reservation | None = None
    # What the item is to tools that name it as their prerequisite.
    own_keys: tuple[PrerequisiteKey, ...] = ()
    # The item says of an earlier allow that it stands no more.
    voided: VoidedHold | None = None
    # The item was answered before: nothing of it is new, but it may be what a later item waits for.
    replayed: bool = False


def supposed_id(place: int) -> str:
    """Return the id that the allow of the plan's item at `place` goes by until it has been given."""
    return f"items[{place}]"


def apply_earlier_items(facts: Facts, earlier: Iterable[PendingEffects], key: KeyHashes | None) -> Facts:
    """Return the facts as they are for an item once the earlier ones are recorded.

    `key`: the item's own business key, whose holds it is judged on.
    """
    session, counters, holds = facts.session, dict(facts.counters), list(facts.holds)
    version, prerequisites = facts.key_version, dict(facts.prerequisites)
    now = int(facts.now.timestamp())
    for effects in earlier:
        if effects.replayed:
            continue
        if effects.move is not None and session is not None:
            session = replace(session, version=effects.move.version + 1, aggregates=effects.move.aggregates)
        if effects.voided is not None:
            voided = effects.voided
            holds = [_void_hold(hold, voided) for hold in holds if not _is_released(hold, voided)]
            version += key is not None and voided.before.key == key.normal
            released = voided.after.state is HoldState.RELEASED
            for key_of, answer in prerequisites.items():
                prerequisites[key_of] = end_use(
                    answer, voided.decision_id, version=voided.before.version + 1, stands=not released
                )
            for counter, add in find_recounts(voided.before, voided.after):
                recounted = apply_recount(
                    counters.get(counter, Counter()), add, int(voided.recorded_at.timestamp())
                )
                counters[counter] = recounted
        for own in effects.own_keys:
            prerequisites[own] = update_answer(
                prerequisites.get(own),
                effects.effect,
                decision_id=effects.decision_id,
                amount=own.amount,
            )
        if effects.reservation is None:
            continue
        for counter, guards in group_by_counter(effects.reservation.guards).items():
            counters[counter] = add_to_counter(counters.get(counter, Counter()), guards, now)
        consumed = {allow.decision_id for allow in effects.reservation.consumes}
        if consumed:
            for key_of, answer in prerequisites.items():
                prerequisites[key_of] = add_use(answer, consumed, effects.decision_id)
        held = effects.reservation.key
        if held is not None and key is not None and held.normal == key.normal:
            holds.append(Hold(decision_id=effects.decision_id, state=HoldState.RESERVED, given=held.given))
            version += 1
    return replace(
        facts,
        session=session,
        counters=counters,
        holds=tuple(holds),
        key_version=version,
        prerequisites=prerequisites,
    )


def _is_released(hold: Hold, voided: VoidedHold) -> bool:
    return hold.decision_id == voided.decision_id and voided.after.state is HoldState.RELEASED


def _void_hold(hold: Hold, voided: VoidedHold) -> Hold:
    return replace(hold, state=voided.after.state) if hold.decision_id == voided.decision_id else hold


def obligation_to_follow(decision_id: str) -> Obligation:
    """Return the obligation to act only once the action of that decision was executed."""
    return Obligation(id=AFTER, properties={"decision_id": decision_id})


def as_plan_block(decision: Decision, item: int) -> Decision:
    """Return the decision as a block, because the plan's item at the place `item` is not allowed."""
    own = tuple(reason for reason in decision.reasons if reason.effect is not Effect.ALLOW)
    reasons: tuple[Reason, ...] = (not_whole(item), *own)
    return replace(
        decision,
        effect=Effect.BLOCK,
        reasons=reasons,
        obligations=(),
        retryable=True,
        retry_after=None,
        model_text=model_text(Effect.BLOCK, decision.decision_id, reasons, retryable=True),
    )
