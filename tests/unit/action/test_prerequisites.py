"""What counts as the answer to a prerequisite."""

from __future__ import annotations

import pytest

from pdp.action.prerequisites import effect_for
from pdp.model import Amount, Effect, PriorAnswer

ALLOW, BLOCK, ESCALATE = Effect.ALLOW, Effect.BLOCK, Effect.ESCALATE
ONE, TWO = Amount(minor=100, currency="EUR"), Amount(minor=200, currency="EUR")


@pytest.mark.parametrize(
    ("answer", "amount", "effect"),
    [
        # Nothing ever waited: an allow is one, whatever it was for.
        (PriorAnswer(ALLOW, amount=ONE), TWO, ALLOW),
        (PriorAnswer(ALLOW), TWO, ALLOW),
        # What waited goes on waiting for all that the allow was not for.
        (PriorAnswer(ALLOW, waited=True, amount=ONE), TWO, ESCALATE),
        (PriorAnswer(ALLOW, waited=True, amount=ONE), Amount(minor=100, currency="USD"), ESCALATE),
        (PriorAnswer(ALLOW, waited=True, amount=ONE), ONE, ALLOW),
        (PriorAnswer(ALLOW, waited=True, amount=TWO), ONE, ALLOW),
        # Where there is no amount there is nothing to ask less of.
        (PriorAnswer(ALLOW, waited=True), TWO, ALLOW),
        (PriorAnswer(ALLOW, waited=True, amount=ONE), None, ALLOW),
        (PriorAnswer(ESCALATE, waited=True), ONE, ESCALATE),
        (PriorAnswer(BLOCK, waited=True), ONE, BLOCK),
        (PriorAnswer(BLOCK), None, BLOCK),
    ],
)
def test_allow_stands_for_no_more_than_it_was_for_once_something_waited(
    answer: PriorAnswer, amount: Amount | None, effect: Effect
) -> None:
    assert effect_for(answer, amount) is effect
