"""What counts as the answer to a prerequisite."""

from __future__ import annotations

import pytest

from pdp.action.prerequisites import effect_for
from pdp.model import Amount, Answer, Effect

ALLOW, BLOCK, ESCALATE = Effect.ALLOW, Effect.BLOCK, Effect.ESCALATE
ONE, TWO = Amount(minor=100, currency="EUR"), Amount(minor=200, currency="EUR")


@pytest.mark.parametrize(
    ("answer", "amount", "effect"),
    [
        # Nothing ever waited: an allow is one, whatever it was for.
        (Answer(ALLOW, amount=ONE), TWO, ALLOW),
        (Answer(ALLOW), TWO, ALLOW),
        # What waited goes on waiting for all that the allow was not for.
        (Answer(ALLOW, waited=True, amount=ONE), TWO, ESCALATE),
        (Answer(ALLOW, waited=True, amount=ONE), Amount(minor=100, currency="USD"), ESCALATE),
        (Answer(ALLOW, waited=True, amount=ONE), ONE, ALLOW),
        (Answer(ALLOW, waited=True, amount=TWO), ONE, ALLOW),
        # Where there is no amount there is nothing to ask less of.
        (Answer(ALLOW, waited=True), TWO, ALLOW),
        (Answer(ALLOW, waited=True, amount=ONE), None, ALLOW),
        (Answer(ESCALATE, waited=True), ONE, ESCALATE),
        (Answer(BLOCK, waited=True), ONE, BLOCK),
        (Answer(BLOCK), None, BLOCK),
    ],
)
def test_allow_stands_for_no_more_than_it_was_for_once_something_waited(
    answer: Answer, amount: Amount | None, effect: Effect
) -> None:
    assert effect_for(answer, amount) is effect
