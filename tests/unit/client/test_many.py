"""Many calls at a time without an event loop: lazy, bounded, and nothing is left behind."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from placet import Effect
from placet.testing import FakePdp, Verdict
from placet.testing.script import Received
from tests.support.processes import PATIENCE, eventually

READ = "invoices.get"


def read(call: object) -> dict[str, Any]:
    return {"tool": READ, "arguments": {"invoice": "INV-1"}, "tool_call_id": str(call)}


def streams() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "placet evaluate_many"]


def test_no_more_actions_are_taken_than_may_be_unanswered(fake_pdp: FakePdp) -> None:
    fake_pdp.allow(READ)
    taken: list[int] = []

    def actions() -> Iterator[dict[str, Any]]:
        for number in range(20):
            taken.append(number)
            yield read(number)

    with fake_pdp.client(timeout=PATIENCE) as client:
        found = {}
        for number, decision in client.evaluate_many(actions(), session=fake_pdp.session(), in_flight=3):
            found[number] = decision
            assert len(taken) <= len(found) + 3
    assert {number: decision.tool_call_id for number, decision in found.items()} == {
        number: str(number) for number in range(20)
    }
    assert all(decision.allowed for decision in found.values())


def test_answers_come_as_they_are_ready(fake_pdp: FakePdp) -> None:
    release = threading.Event()

    def judge(received: Received) -> Verdict:
        if received.action.tool_call_id == "0":
            release.wait(PATIENCE)
        return Verdict(effect=Effect.ALLOW, code="task.within_boundary")

    fake_pdp.script(READ, judge)
    with fake_pdp.client(timeout=PATIENCE) as client:
        answers = client.evaluate_many([read(0), {"tool": READ}], session=fake_pdp.session())
        first = next(answers)
        release.set()
        assert (first[0], first[1].reasons[0].code) == (1, "client.refused")
        assert next(answers)[0] == 0


def test_failure_is_a_block_under_its_number(fake_pdp: FakePdp) -> None:
    fake_pdp.allow(READ)
    fake_pdp.fail(grpc.StatusCode.INTERNAL)
    with fake_pdp.client() as client:
        actions = [read("a"), {}, read("b")]
        answers = dict(client.evaluate_many(actions, session=fake_pdp.session(), in_flight=1))
    assert [answers[number].allowed for number in range(3)] == [False, False, True]
    assert answers[0].reasons[0].code == "client.failed"
    assert answers[1].reasons[0].code == "client.refused"


def test_iteration_that_is_given_up_leaves_no_thread(fake_pdp: FakePdp) -> None:
    fake_pdp.allow(READ)
    with fake_pdp.client() as client:
        answers = client.evaluate_many([read(number) for number in range(20)], session=fake_pdp.session())
        next(answers)
        assert streams()
        answers.close()
        eventually(lambda: not streams(), "the stream's thread has ended")
        assert client.evaluate(read("last"), session=fake_pdp.session()).allowed


def test_nothing_to_ask_asks_nothing(fake_pdp: FakePdp) -> None:
    with fake_pdp.client() as client:
        assert list(client.evaluate_many([], session="s")) == []
    assert fake_pdp.received == []


@pytest.mark.parametrize("number", [0, 257, True])
def test_bound_that_makes_no_sense_is_refused(fake_pdp: FakePdp, number: int) -> None:
    with fake_pdp.client() as client, pytest.raises(ValueError, match="in_flight"):
        next(client.evaluate_many([read(1)], session="s", in_flight=number))
