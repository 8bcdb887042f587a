"""Prerequisites: what counts as the answer to an action that another one needs, and what carries it. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

from pdp.model import Amount, Effect, Prerequisite, PrerequisiteAllow, PrerequisiteUse, PriorAnswer

# How many allows in a row are remembered of one prerequisite. Older ones carry nothing any more.
MAX_ALLOWS = 16
# What an answer means where it is no effect: nobody asked; every allow carries another action already.
ABSENT, CONSUMED = "absent", "consumed"


class Standing(NamedTuple):
    """What a prerequisite means for the action that it comes before."""

    # An effect, or `ABSENT`, or `CONSUMED`.
    latest: str
    # The allow that the action rests on; None unless `latest` is an allow.
    carrier: PrerequisiteAllow | None = None

    def renamed(self, ids: Mapping[str, str]) -> Standing:
        """Return it with another id for the allow that the action rests on, where `ids` names that."""
        if self.carrier is None or self.carrier.decision_id not in ids:
            return self
        return self._replace(carrier=self.carrier._replace(decision_id=ids[self.carrier.decision_id]))


def update_answer(
    before: PriorAnswer | None, effect: Effect, *, decision_id: str, amount: Amount | None
) -> PriorAnswer:
    """Return what counts after one more answer, which is about an action of this amount.

    An action that waits for a person goes on waiting when it is asked for again and blocked: else an
    agent could end the waiting by asking for what cannot be allowed. Of the allows before this one those
    since any other answer stay.
    """
    if before is not None and before.effect is Effect.ESCALATE and effect is Effect.BLOCK:
        return before
    allows: tuple[PrerequisiteAllow, ...] = ()
    if effect is Effect.ALLOW:
        allows = () if before is None else before.allows
        allows = (*allows, PrerequisiteAllow(decision_id, amount))[-MAX_ALLOWS:]
    return PriorAnswer(
        effect=effect,
        waited=effect is Effect.ESCALATE or (before is not None and before.waited),
        allows=allows,
    )


def find_standing(answer: PriorAnswer | None, rule: Prerequisite, amount: Amount | None) -> Standing:
    """Return what the answer means for an action of this amount that comes after it.

    Once something had to wait for a person, an allow stands for no more than it was for: else an
    agent could end the waiting by asking for less. Where one allow carries one action, those that carry
    another are passed over. Of several that are left, one whose action was executed is taken first, since
    whoever rests on it need not wait.
    """
    if answer is None:
        return Standing(ABSENT)
    if answer.effect is not Effect.ALLOW:
        return Standing(answer.effect)
    left = [allow for allow in reversed(answer.allows) if allow.is_free or not rule.consumed]
    if not left:
        return Standing(CONSUMED)
    covering = [allow for allow in left if not answer.waited or _covers(allow.amount, amount)]
    if not covering:
        return Standing(Effect.ESCALATE)
    return Standing(Effect.ALLOW, next((allow for allow in covering if allow.executed), covering[0]))


def add_use(answer: PriorAnswer, consumed: Collection[str], by: str) -> PriorAnswer:
    """Return the answer once the allow `by` has consumed those allows of it that `consumed` names."""
    return answer._replace(
        allows=tuple(
            allow._replace(uses=(*allow.uses, PrerequisiteUse(by, 0, True)))
            if allow.decision_id in consumed
            else allow
            for allow in answer.allows
        )
    )


def end_use(answer: PriorAnswer, by: str, *, version: int, stands: bool) -> PriorAnswer:
    """Return the answer once the hold of the allow `by` is at this version, and was released or `stands`."""
    return answer._replace(
        allows=tuple(
            allow._replace(
                uses=tuple(
                    PrerequisiteUse(by, version, stands) if use.decision_id == by else use
                    for use in allow.uses
                )
            )
            for allow in answer.allows
        )
    )


def without_use(answer: PriorAnswer, by: str) -> PriorAnswer:
    """Return the answer as if the allow `by` had consumed nothing of it."""
    return answer._replace(
        allows=tuple(
            allow._replace(uses=tuple(use for use in allow.uses if use.decision_id != by))
            for allow in answer.allows
        )
    )


def _covers(approved: Amount | None, amount: Amount | None) -> bool:
    if approved is None or amount is None:
        return True
    return approved.currency == amount.currency and approved.minor >= amount.minor
