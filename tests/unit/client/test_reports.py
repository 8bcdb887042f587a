"""What guards report of their calls: by themselves, and never in the way of a result."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import Any

import grpc
import pytest

from placet import (
    ArgumentsChanged,
    Blocked,
    Client,
    DevIdentity,
    ExpiredAllow,
    NotExecuted,
    Obligation,
    Outcome,
    PdpUnavailable,
    ReplayedAllow,
    current_decision,
    tool_call,
)
from placet._guard.reports import MAX_OUTPUT, MAX_WAITING, output_text
from placet.testing import FakePdp
from placet.v1 import decision_service_pb2 as decisions
from tests.support.processes import eventually
from tests.unit.client.sessions import known_session
from tests.unit.client.test_expiry import SetClock


@contextmanager
def guarded(fake: FakePdp, work: Callable[..., Any], **client: Any) -> Iterator[Callable[..., Any]]:
    """The guarded `work`; what it has to report has been sent when the block is left."""
    fake.allow()
    with fake.client(**client) as pdp:
        yield pdp.guard(session=fake.session(), tool="payments.create")(work)


def said(fake: FakePdp) -> list[str]:
    return [outcome for _, outcome in fake.outcomes]


def test_what_was_returned_is_reported(fake_pdp: FakePdp) -> None:
    with guarded(fake_pdp, lambda amount: {"id": 7, "amount": amount}) as pay:
        pay(Decimal("1.50"))
    ((decision_id, outcome),) = fake_pdp.outcomes
    assert outcome == "executed"
    assert fake_pdp.outputs == {decision_id: b'{"id":7,"amount":1.50}'}


class Odd:
    """Nothing that JSON knows; whoever looks at it closely is sorry."""

    def __iter__(self) -> Any:
        raise AssertionError("looked at")


DEEP: list[Any] = []
for _ in range(5000):
    DEEP = [DEEP]


@pytest.mark.parametrize(
    "result",
    [
        Odd(),
        [Odd()],
        {1: 2},
        b"bytes",
        float("nan"),
        "\ud800",
        DEEP,
        "x" * (MAX_OUTPUT + 1),
        [1] * MAX_OUTPUT,
    ],
    ids=["object", "object inside", "key", "bytes", "nan", "surrogate", "deep", "long", "many"],
)
def test_result_that_is_no_json_of_a_bounded_size_is_left_out(fake_pdp: FakePdp, result: Any) -> None:
    with guarded(fake_pdp, lambda: result) as pay:
        assert pay() is result
    assert (said(fake_pdp), fake_pdp.outputs) == (["executed"], {})


@pytest.mark.parametrize("value", [None, True, 1, 1.5, "é", [1, (2,)], {"a": [{}]}, Decimal("0.10")])
def test_plain_result_is_its_json(value: Any) -> None:
    assert json.loads(output_text(value)) == json.loads(json.dumps(value, default=float))


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (OSError("the line went dead"), "unknown"),
        (NotExecuted("nothing was sent"), "not_executed"),
        (KeyboardInterrupt(), "unknown"),
        (StopIteration(), "unknown"),
        (Blocked("by something inside"), "unknown"),
    ],
)
def test_exception_is_reported_and_goes_on(fake_pdp: FakePdp, error: BaseException, outcome: str) -> None:
    def work() -> None:
        raise error

    with guarded(fake_pdp, work) as pay, pytest.raises(type(error)) as raised:
        pay()
    assert raised.value is error
    assert said(fake_pdp) == [outcome]


def test_function_that_only_returned_a_coroutine_may_have_begun(fake_pdp: FakePdp) -> None:
    async def later() -> None:
        pass

    with guarded(fake_pdp, lambda: later()) as pay, pytest.raises(TypeError, match="coroutine"):
        pay()
    assert said(fake_pdp) == ["unknown"]


def test_nothing_is_said_of_what_was_not_allowed(fake_pdp: FakePdp) -> None:
    with guarded(fake_pdp, lambda: None) as pay:
        for verdict in (fake_pdp.block, fake_pdp.escalate):
            verdict("payments.create")
            with pytest.raises(Blocked):
                pay()
        fake_pdp.fail(grpc.StatusCode.INVALID_ARGUMENT)
        with pytest.raises(PdpUnavailable):
            pay()
    assert said(fake_pdp) == []


def test_nothing_is_said_of_an_allow_of_another_attempt(fake_pdp: FakePdp) -> None:
    inside, done = threading.Event(), threading.Event()

    def work() -> None:
        inside.set()
        done.wait(30)

    with guarded(fake_pdp, work) as pay:
        first = threading.Thread(target=lambda: pay(tool_call_id="call-1"))
        first.start()
        assert inside.wait(30)
        with tool_call("call-1"), pytest.raises(ReplayedAllow):
            pay()
        done.set()
        first.join()
    assert said(fake_pdp) == ["executed"]


def test_repeat_after_the_report_is_a_replay_too(fake_pdp: FakePdp) -> None:
    with guarded(fake_pdp, lambda: None) as pay, tool_call("call-1"):
        pay()
        eventually(lambda: fake_pdp.outcomes, "the report")
        with pytest.raises(ReplayedAllow) as raised:
            pay()
    assert raised.value.decision is not None
    assert raised.value.decision.reasons[0].code == "action.replay_stale"
    assert said(fake_pdp) == ["executed"]


# --- allows that are not acted on ---------------------------------------------------


def test_answer_that_came_too_late_is_voided(fake_pdp: FakePdp) -> None:
    heard = threading.Event()
    fake_pdp.alter = lambda answer: heard.wait(30) and None
    with guarded(fake_pdp, lambda: pytest.fail("it ran"), timeout=0.5) as pay:
        with pytest.raises(PdpUnavailable):
            pay()
        eventually(lambda: fake_pdp.outcomes, "the report")
        heard.set()
    assert said(fake_pdp) == ["voided"]


def test_void_waits_for_a_decision_that_is_still_being_recorded(fake_pdp: FakePdp) -> None:
    with guarded(fake_pdp, lambda: pytest.fail("it ran"), timeout=0.5) as pay:
        with fake_pdp.hung(), pytest.raises(PdpUnavailable):
            pay()
        eventually(lambda: fake_pdp.outcomes, "the report")
    assert said(fake_pdp) == ["voided"]


def _garble(answer: decisions.EvaluateResponse) -> None:
    answer.decision.receipt.token = b"eyJ9~"


def test_answer_that_cannot_be_relied_on_is_voided(fake_pdp: FakePdp) -> None:
    fake_pdp.alter = _garble
    with guarded(fake_pdp, lambda: pytest.fail("it ran")) as pay, pytest.raises(PdpUnavailable):
        pay()
    assert said(fake_pdp) == ["voided"]


def test_allow_with_an_unknown_obligation_is_voided(fake_pdp: FakePdp) -> None:
    with guarded(fake_pdp, lambda: pytest.fail("it ran")) as pay:
        fake_pdp.allow("payments.create", obligations=[Obligation(id="notify")])
        with pytest.raises(PdpUnavailable):
            pay()
    assert said(fake_pdp) == ["voided"]


def test_allow_that_expired_on_the_way_is_voided(fake_pdp: FakePdp) -> None:
    clock = SetClock()

    def late(answer: decisions.EvaluateResponse) -> None:
        clock.now += 61

    fake_pdp.alter = late
    with guarded(fake_pdp, lambda: pytest.fail("it ran"), clock=clock) as pay, pytest.raises(ExpiredAllow):
        pay()
    assert said(fake_pdp) == ["voided"]


def test_allow_of_arguments_that_were_changed_is_voided(fake_pdp: FakePdp) -> None:
    lines = [1]
    fake_pdp.alter = lambda answer: lines.append(2)
    with (
        guarded(fake_pdp, lambda lines: pytest.fail("it ran")) as pay,
        pytest.raises(ArgumentsChanged),
    ):
        pay(lines)
    assert said(fake_pdp) == ["voided"]


async def test_cancelled_call_is_voided(fake_pdp: FakePdp) -> None:
    fake_pdp.allow()
    reached, heard = threading.Event(), threading.Event()

    def wait(answer: decisions.EvaluateResponse) -> None:
        reached.set()
        heard.wait(30)

    fake_pdp.alter = wait
    async with fake_pdp.async_client() as pdp:

        @pdp.guard(session=fake_pdp.session(), tool="payments.create")
        async def pay() -> None:
            pytest.fail("it ran")

        asked = asyncio.create_task(pay())
        await asyncio.to_thread(reached.wait, 30)
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked
        await asyncio.to_thread(eventually, lambda: fake_pdp.outcomes, "the report")
        heard.set()
    assert said(fake_pdp) == ["voided"]


async def test_async_guard_reports_what_was_returned_and_a_cancelled_run(fake_pdp: FakePdp) -> None:
    fake_pdp.allow()
    inside = asyncio.Event()
    async with fake_pdp.async_client() as pdp:

        @pdp.guard(session=fake_pdp.session(), tool="payments.create")
        async def pay(amount: int) -> dict[str, int]:
            if amount == 2:
                inside.set()
                await asyncio.sleep(3600)
            return {"amount": amount}

        assert await pay(1) == {"amount": 1}
        running = asyncio.create_task(pay(2))
        await inside.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
    assert sorted(said(fake_pdp)) == ["executed", "unknown"]
    assert list(fake_pdp.outputs.values()) == [b'{"amount":1}']


# --- in the background --------------------------------------------------------------


def test_report_is_tried_again_while_the_server_is_away(fake_pdp: FakePdp) -> None:
    with guarded(fake_pdp, lambda: None) as pay:
        fake_pdp.fail(grpc.StatusCode.RESOURCE_EXHAUSTED, method="ReportOutcome", times=2)
        pay()
        eventually(lambda: fake_pdp.outcomes, "the report")
    assert said(fake_pdp) == ["executed"]


def test_report_that_fails_changes_no_result_and_is_counted(
    fake_pdp: FakePdp, caplog: pytest.LogCaptureFixture
) -> None:
    fake_pdp.allow()
    fake_pdp.fail(grpc.StatusCode.PERMISSION_DENIED, method="ReportOutcome")
    with caplog.at_level(logging.WARNING, "placet.reports"), fake_pdp.client() as pdp:
        assert pdp.guard(session=fake_pdp.session(), tool="payments.create")(lambda: "paid")() == "paid"
        eventually(lambda: pdp.unreported, "the failure")
        assert pdp.unreported == 1
    assert "executed was not reported" in caplog.text


def test_void_of_what_was_never_recorded_is_no_failure(fake_pdp: FakePdp) -> None:
    with fake_pdp.client() as pdp:
        fake_pdp.fail(grpc.StatusCode.INTERNAL)
        with pytest.raises(PdpUnavailable):
            pdp.guard(session=fake_pdp.session(), tool="payments.create")(lambda: None)()
    assert (pdp.unreported, fake_pdp.outcomes) == (0, [])


def test_what_waits_is_bounded_and_closing_gives_it_up(caplog: pytest.LogCaptureFixture) -> None:
    """A server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as silent, caplog.at_level(logging.ERROR, "placet.reports"):
        identity = DevIdentity(tenant="test", subject="test", roles=["agent"])
        pdp = Client(f"127.0.0.1:{silent.getsockname()[1]}", identity=identity)
        for number in range(MAX_WAITING + 100):
            pdp._reports.outcome(f"d-{number}", Outcome.EXECUTED, session="", chain=())
        # A few are on their way to nowhere.
        assert 84 <= pdp.unreported <= 100
        pdp._reports.close(seconds=0)
        assert pdp.unreported >= MAX_WAITING
        pdp.close()
        pdp._reports.outcome("d-late", Outcome.EXECUTED, session="", chain=())
        eventually(lambda: pdp.unreported == MAX_WAITING + 101, "all are accounted for")


def test_function_knows_the_decision_that_it_runs_on(fake_pdp: FakePdp) -> None:
    with guarded(fake_pdp, lambda: current_decision()) as pay:
        decision = pay()
    assert decision.allowed
    assert decision.receipt
    with pytest.raises(LookupError):
        current_decision()


def test_script_that_ends_without_closing_has_reported(fake_pdp: FakePdp) -> None:
    fake_pdp.allow()
    source = f"""
from placet import Client, DevIdentity
identity = DevIdentity(tenant="test", subject="test", roles=["agent"], agents=["agent:test"])
pdp = Client({fake_pdp.target!r}, identity=identity, timeout=30)
pdp.guard(session={known_session(fake_pdp)!r}, tool="payments.create")(lambda: None)()
raise SystemExit(7)
"""
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (7, "")
    assert said(fake_pdp) == ["executed"]


def test_forked_child_reports_for_itself(fake_pdp: FakePdp) -> None:
    fake_pdp.allow()
    source = f"""
import os
from placet import Client, DevIdentity
identity = DevIdentity(tenant="test", subject="test", roles=["agent"], agents=["agent:test"])
pdp = Client({fake_pdp.target!r}, identity=identity, timeout=30)
work = pdp.guard(session={known_session(fake_pdp)!r}, tool="payments.create")(os.getpid)
work()
child = os.fork()
work()
pdp.close()
if child:
    assert os.waitpid(child, 0)[1] == 0
    print(os.getpid(), child)
os._exit(0 if not pdp.unreported else 1)
"""
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    eventually(lambda: len(fake_pdp.outcomes) == 3, "each process has reported")
    assert said(fake_pdp) == ["executed"] * 3
