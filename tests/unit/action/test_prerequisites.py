"""What counts as the answer to a prerequisite, and which allow of it carries an action."""

from __future__ import annotations

import pytest

from pdp.action.prerequisites import (
    ABSENT,
    CONSUMED,
    MAX_ALLOWS,
    Standing,
    add_use,
    end_use,
    find_standing,
    update_answer,
    without_use,
)
from pdp.model import (
    Amount,
    Effect,
    Prerequisite,
    PrerequisiteAllow,
    PrerequisiteUse,
    PriorAnswer,
)

ALLOW, BLOCK, ESCALATE = Effect.ALLOW, Effect.BLOCK, Effect.ESCALATE
ONE, TWO = Amount(minor=100, currency="EUR"), Amount(minor=200, currency="EUR")
USD = Amount(minor=100, currency="USD")
PLAIN = Prerequisite(tool="bills.approve", same=("bill",))
CONSUMING = Prerequisite(tool="bills.approve", same=("bill",), consumed=True)


def allowed(*amounts: Amount | None, waited: bool = False) -> PriorAnswer:
    """Return an answer of allows in a row, `d0` the first."""
    allows = tuple(PrerequisiteAllow(f"d{n}", amount) for n, amount in enumerate(amounts))
    return PriorAnswer(ALLOW, waited, allows)


def used(answer: PriorAnswer, *names: str, stands: bool = True) -> PriorAnswer:
    """Return the answer with those allows consumed; `stands` False: and given back."""
    for name in names:
        answer = end_use(add_use(answer, {name}, f"by {name}"), f"by {name}", version=2, stands=stands)
    return answer


@pytest.mark.parametrize(
    ("answer", "amount", "latest"),
    [
        (None, ONE, ABSENT),
        # Nothing ever waited: an allow is one, whatever it was for.
        (allowed(ONE), TWO, ALLOW),
        (allowed(None), TWO, ALLOW),
        # What waited goes on waiting for all that the allow was not for.
        (allowed(ONE, waited=True), TWO, ESCALATE),
        (allowed(ONE, waited=True), USD, ESCALATE),
        (allowed(ONE, waited=True), ONE, ALLOW),
        (allowed(TWO, waited=True), ONE, ALLOW),
        # An allow of more is not undone by one of less after it.
        (allowed(TWO, ONE, waited=True), TWO, ALLOW),
        # Where there is no amount there is nothing to ask less of.
        (allowed(None, waited=True), TWO, ALLOW),
        (allowed(ONE, waited=True), None, ALLOW),
        (PriorAnswer(ESCALATE, waited=True), ONE, ESCALATE),
        (PriorAnswer(BLOCK, waited=True), ONE, BLOCK),
        (PriorAnswer(BLOCK), None, BLOCK),
    ],
)
@pytest.mark.parametrize("rule", [PLAIN, CONSUMING], ids=["plain", "consumed"])
def test_answer_means_the_same_while_nothing_of_it_was_consumed(
    answer: PriorAnswer | None, amount: Amount | None, latest: str, rule: Prerequisite
) -> None:
    standing = find_standing(answer, rule, amount)
    assert standing.latest == latest
    assert (standing.carrier is None) is (latest != ALLOW)


def test_one_allow_carries_one_action() -> None:
    answer = used(allowed(ONE), "d0")
    assert find_standing(answer, CONSUMING, ONE) == Standing(CONSUMED)
    # Another tool that does not consume it may still come after it.
    assert find_standing(answer, PLAIN, ONE).latest == ALLOW


def test_each_allow_in_a_row_carries_one() -> None:
    answer = allowed(ONE, ONE)
    latest, carrier = find_standing(used(answer, "d1"), CONSUMING, ONE)
    assert (latest, carrier and carrier.decision_id) == (ALLOW, "d0")
    assert find_standing(used(answer, "d1", "d0"), CONSUMING, ONE) == Standing(CONSUMED)


def test_consumed_allow_that_was_large_enough_leaves_the_waiting_for_what_the_others_do_not_cover() -> None:
    answer = used(allowed(TWO, ONE, waited=True), "d0")
    assert find_standing(answer, CONSUMING, TWO).latest == ESCALATE
    assert find_standing(answer, CONSUMING, ONE).latest == ALLOW


def test_what_was_released_is_free_again_and_what_was_not_is_not() -> None:
    answer = used(allowed(ONE), "d0", stands=False)
    _, carrier = find_standing(answer, CONSUMING, ONE)
    assert carrier == PrerequisiteAllow("d0", ONE, uses=(PrerequisiteUse("by d0", 2, False),))
    again = add_use(answer, {"d0"}, "second")
    assert find_standing(again, CONSUMING, ONE) == Standing(CONSUMED)
    assert find_standing(without_use(again, "second"), CONSUMING, ONE).latest == ALLOW
    # It is not the released one's any more.
    assert find_standing(without_use(again, "by d0"), CONSUMING, ONE) == Standing(CONSUMED)


def test_allow_whose_action_was_executed_is_taken_first() -> None:
    first, second = allowed(ONE, ONE).allows
    answer = PriorAnswer(ALLOW, False, (first._replace(executed=True), second))
    for rule in (PLAIN, CONSUMING):
        _, carrier = find_standing(answer, rule, ONE)
        assert carrier is not None
        assert carrier.decision_id == "d0"


@pytest.mark.parametrize("other", [BLOCK, ESCALATE])
def test_allows_of_before_another_answer_carry_nothing_any_more(other: Effect) -> None:
    answer = update_answer(None, ALLOW, decision_id="d0", amount=ONE)
    answer = update_answer(answer, other, decision_id="d1", amount=ONE)
    assert answer.allows == ()
    answer = update_answer(answer, ALLOW, decision_id="d2", amount=ONE)
    assert [allow.decision_id for allow in answer.allows] == ["d2"]
    assert answer.waited is (other is ESCALATE)


def test_block_ends_no_waiting() -> None:
    waiting = update_answer(None, ESCALATE, decision_id="d0", amount=ONE)
    assert update_answer(waiting, BLOCK, decision_id="d1", amount=ONE) == waiting


def test_only_so_many_allows_are_remembered() -> None:
    answer = None
    for number in range(MAX_ALLOWS + 3):
        answer = update_answer(answer, ALLOW, decision_id=f"d{number}", amount=None)
    assert answer is not None
    assert [allow.decision_id for allow in answer.allows] == [f"d{n}" for n in range(3, MAX_ALLOWS + 3)]
