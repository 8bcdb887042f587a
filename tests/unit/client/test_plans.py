"""What a client makes of answers to a plan that are not as they must be: blocks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import grpc
import pytest

from placet import Decision, Obligation
from placet.testing import FakePdp
from placet.v1 import decision_service_pb2 as decisions


def actions(number: int = 3) -> list[dict[str, Any]]:
    return [{"tool": "invoices.get", "arguments": {"n": n}, "tool_call_id": f"c-{n}"} for n in range(number)]


def ask(fake: FakePdp, **options: Any) -> tuple[Decision, ...]:
    fake.allow("invoices.get")
    with fake.client() as pdp:
        return pdp.evaluate_plan(actions(), session=fake.session(), **options)


def first_codes(answered: tuple[Decision, ...]) -> list[str]:
    return [decision.reasons[0].code for decision in answered]


def _drop(answer: decisions.EvaluateBatchResponse) -> None:
    del answer.decisions[1]


def _add(answer: decisions.EvaluateBatchResponse) -> None:
    answer.decisions.append(answer.decisions[0])


def _empty(answer: decisions.EvaluateBatchResponse) -> None:
    answer.Clear()


@pytest.mark.parametrize("alter", [_drop, _add, _empty])
def test_answer_to_another_number_of_actions_blocks_all(
    fake_pdp: FakePdp, alter: Callable[[decisions.EvaluateBatchResponse], None]
) -> None:
    fake_pdp.alter_plan = alter
    answered = ask(fake_pdp)
    assert first_codes(answered) == ["client.malformed"] * 3
    assert [decision.tool_call_id for decision in answered] == ["c-0", "c-1", "c-2"]
    assert not any(decision.allowed for decision in answered)


def test_answers_in_another_order_are_blocks(fake_pdp: FakePdp) -> None:
    def swap(answer: decisions.EvaluateBatchResponse) -> None:
        first, second = answer.decisions[0], answer.decisions[1]
        kept = type(first).FromString(first.SerializeToString())
        first.CopyFrom(second)
        second.CopyFrom(kept)

    fake_pdp.alter_plan = swap
    answered = ask(fake_pdp)
    assert first_codes(answered) == ["client.receipt_mismatch"] * 2 + ["task.within_boundary"]
    assert [decision.allowed for decision in answered] == [False, False, True]


def test_plan_of_all_or_nothing_of_which_one_answer_fails_is_blocked(fake_pdp: FakePdp) -> None:
    def forge(answer: decisions.EvaluateBatchResponse) -> None:
        answer.decisions[2].session_id = "another"

    fake_pdp.alter_plan = forge
    answered = ask(fake_pdp, all_or_nothing=True)
    assert first_codes(answered) == ["client.malformed"] * 2 + ["client.receipt_mismatch"]
    assert not any(decision.allowed for decision in answered)


def test_obligation_to_wait_for_another_decision_than_the_receipt_says_blocks(fake_pdp: FakePdp) -> None:
    def free(answer: decisions.EvaluateBatchResponse) -> None:
        answer.decisions[0].obligations[0].properties = b'{"decision_id": "other"}'

    fake_pdp.alter_plan = free
    fake_pdp.allow("invoices.get", obligations=[Obligation(id="after", properties={"decision_id": "first"})])
    with fake_pdp.client() as pdp:
        answered = pdp.evaluate_plan(actions(2), session=fake_pdp.session())
    assert first_codes(answered) == ["client.receipt_mismatch", "task.within_boundary"]
    assert [decision.allowed for decision in answered] == [False, False]


def test_failure_is_a_block_for_each_action_and_the_attempt_can_go_on(fake_pdp: FakePdp) -> None:
    fake_pdp.allow("invoices.get")
    session = fake_pdp.session()
    with fake_pdp.client() as pdp:
        fake_pdp.fail(grpc.StatusCode.UNAVAILABLE, times=100, method="EvaluateBatch")
        failed = pdp.evaluate_plan(actions(), session=session, timeout=0.5)
        assert {decision.effect.value for decision in failed} == {"block"}
        assert len({decision.attempt_id for decision in failed}) == 1
        fake_pdp.fail(grpc.StatusCode.UNAVAILABLE, times=0, method="EvaluateBatch")
        again = pdp.evaluate_plan(actions(), session=session, attempt_id=failed[0].attempt_id)
    assert all(decision.allowed for decision in again)


def test_async_client_asks_the_same(fake_pdp: FakePdp) -> None:
    fake_pdp.allow("invoices.get")

    async def asked() -> tuple[Decision, ...]:
        async with fake_pdp.async_client() as pdp:
            return await pdp.evaluate_plan(actions(), session=fake_pdp.session(), all_or_nothing=True)

    assert all(decision.allowed for decision in asyncio.run(asked()))
