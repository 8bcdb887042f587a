"""Limits: which of them are kept at all, and what counts against them."""

from __future__ import annotations

from decimal import Decimal
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pdp.authority.limits import Limits, drop_implied_limits, measure_limits
from pdp.model import (
    Amount,
    AmountLimit,
    Boundary,
    Counter,
    CounterKey,
    Limit,
    MeasuredLimit,
    OnExceed,
    ToolEffect,
    VelocityLimit,
)
from tests.support.narrowing import judge, situation, some_boundary, vary

PARENT = Boundary(
    amounts=(
        AmountLimit(currency="EUR", per_action=Decimal(50), total=Decimal(100), per_counterparty=Decimal(60)),
    ),
    max_actions=10,
    velocity=(VelocityLimit(effects=(ToolEffect.PAY,), max=3, window_seconds=60),),
)


@given(st.integers())
@settings(max_examples=60, deadline=None)
def test_path_is_judged_the_same(seed: int) -> None:
    chance = Random(seed)
    for _ in range(60):
        path = [some_boundary(chance)]
        while len(path) < chance.randint(1, 4):
            path.append(vary(path[-1], chance) if chance.random() < 0.8 else some_boundary(chance))
        own = drop_implied_limits(tuple(path))
        for _ in range(30):
            # What counted for one boundary counted for all before it.
            history = [situation(chance)]
            for _ in path[1:]:
                above = history[-1]
                history.append(
                    above
                    | {
                        "spent": chance.randint(0, above["spent"]),
                        "spent_on_party": chance.randint(0, above["spent_on_party"]),
                        "earlier": [one for one in above["earlier"] if chance.random() < 0.7],
                    }
                )
            whole, counted = (min(map(judge, each, history)) for each in (path, own))
            assert whole == counted, (path, own, history)


def test_equal_boundary_has_no_limits_of_its_own() -> None:
    first, second = drop_implied_limits((PARENT, PARENT))
    assert first == PARENT
    assert (second.max_actions, second.velocity) == (None, ())
    assert second.amounts == (AmountLimit(currency="EUR", per_action=Decimal(50)),)


def test_tighter_limits_are_its_own() -> None:
    child = Boundary(
        amounts=(
            AmountLimit(
                currency="EUR", per_action=Decimal(50), total=Decimal(99), per_counterparty=Decimal(60)
            ),
        ),
        max_actions=9,
        velocity=(VelocityLimit(effects=(ToolEffect.PAY,), max=2, window_seconds=60), *PARENT.velocity),
    )
    _, own = drop_implied_limits((PARENT, child))
    assert (own.max_actions, own.velocity) == (9, child.velocity[:1])
    assert own.amounts == (AmountLimit(currency="EUR", per_action=Decimal(50), total=Decimal(99)),)


def test_limit_that_escalates_implies_none_that_blocks() -> None:
    def total(on_exceed: OnExceed) -> Boundary:
        limit = AmountLimit(currency="EUR", per_action=Decimal(1), total=Decimal(100), on_exceed=on_exceed)
        return Boundary(amounts=(limit,))

    escalates, blocks = total(OnExceed.ESCALATE), total(OnExceed.BLOCK)
    assert drop_implied_limits((escalates, blocks))[1] == blocks
    assert drop_implied_limits((blocks, escalates))[1].amounts[0].total is None


EUROS = CounterKey(scope="s", unit="EUR")
TOTAL = Limit(
    code="boundary.total", of="session", on_exceed=OnExceed.BLOCK, adds_amount=True, maximum=100, key=EUROS
)


def measured(limit: Limit, *, paid: int = 0, amount: int | None = 30) -> MeasuredLimit:
    (result,) = measure_limits(
        Limits(met=(limit,)),
        {EUROS: Counter(total=paid)},
        0,
        allowed=7,
        amount=None if amount is None else Amount(minor=amount, currency="EUR"),
    )
    return result


def test_payment_counts_with_its_amount_and_an_action_as_one() -> None:
    assert measured(TOTAL, paid=50) == MeasuredLimit(TOTAL, add=30, used=50)
    actions = TOTAL._replace(adds_amount=False, key=None)
    assert measured(actions) == MeasuredLimit(actions, add=1, used=7)


def test_limit_is_exceeded_by_more_than_is_left_of_it() -> None:
    assert [(one.left, one.exceeded) for one in (measured(TOTAL, paid=70), measured(TOTAL, paid=71))] == [
        (0, False),
        (-1, True),
    ]


@pytest.mark.parametrize(
    "unknown",
    [
        measured(TOTAL, amount=None),
        measured(TOTAL._replace(key=None)),
        measured(TOTAL._replace(maximum=None)),
    ],
)
def test_limit_of_which_a_number_is_unknown_counts_as_exceeded(unknown: MeasuredLimit) -> None:
    assert (unknown.left, unknown.exceeded) == (None, True)
