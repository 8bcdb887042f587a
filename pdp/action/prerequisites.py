"""Prerequisites: what counts as the answer to an action that another one needs. Pure."""

from __future__ import annotations

from pdp.model import Amount, Effect, PriorAnswer


def update_answer(before: PriorAnswer | None, effect: Effect, amount: Amount | None) -> PriorAnswer:
    """Return what counts after one more answer, which is about an action of this amount.

    An action that waits for a person goes on waiting when it is asked for again and blocked: else an
    agent could end the waiting by asking for what cannot be allowed.
    """
    if before is not None and before.effect is Effect.ESCALATE and effect is Effect.BLOCK:
        return before
    return PriorAnswer(
        effect=effect,
        waited=effect is Effect.ESCALATE or (before is not None and before.waited),
        amount=amount if effect is Effect.ALLOW else None,
    )


def effect_for(answer: PriorAnswer, amount: Amount | None) -> Effect:
    """Return what the answer means for an action of this amount that comes after it.

    Once something had to wait for a person, an allow stands for no more than it was for: else an
    agent could end the waiting by asking for less.
    """
    if answer.effect is not Effect.ALLOW or not answer.waited or answer.amount is None or amount is None:
        return answer.effect
    covered = answer.amount.currency == amount.currency and answer.amount.minor >= amount.minor
    return Effect.ALLOW if covered else Effect.ESCALATE
