"""What guards know of where they are called goes with `copy_context` to where context variables do not."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from typing import Any

import pytest

from placet import Client, ReplayedAllow, copy_context, current_decision, decided, tool_call
from placet.receipt import ParsedReceipt, parse
from placet.testing import FakePdp
from tests.unit.client.misbehaving import IDENTITY

Call = Callable[..., Any]


def in_pool(call: Call, *words: Any) -> Any:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(call, *words).result()


def in_thread(call: Call, *words: Any) -> Any:
    ended: list[Any] = []

    def work() -> None:
        try:
            ended.append(call(*words))
        except BaseException as exc:  # noqa: BLE001 - raised again in the thread that asked
            ended.append(exc)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    if isinstance(ended[0], BaseException):
        raise ended[0]
    return ended[0]


def in_executor(call: Call, *words: Any) -> Any:
    async def work() -> Any:
        return await asyncio.get_running_loop().run_in_executor(None, call, *words)

    return asyncio.run(work())


def by_to_thread(call: Call, *words: Any) -> Any:
    return asyncio.run(asyncio.to_thread(call, *words))


ELSEWHERE = [in_pool, in_thread, in_executor]


@pytest.mark.parametrize("elsewhere", ELSEWHERE)
def test_repeated_call_runs_the_tool_once(fake_pdp: FakePdp, elsewhere: Call) -> None:
    fake_pdp.allow()
    ran: list[str] = []
    with fake_pdp.client() as pdp:
        pay = pdp.guard(session=fake_pdp.session(), tool="payments.create")(
            lambda invoice: ran.append(invoice)
        )
        with tool_call("call-1"):
            elsewhere(copy_context().run, pay, "INV-1")
        with tool_call("call-1"), pytest.raises(ReplayedAllow):
            elsewhere(copy_context().run, pay, "INV-1")
        with tool_call("call-2"):
            # Without it the thread knows of no call: this is another one, with an id of its own.
            elsewhere(pay, "INV-1")
        with tool_call("call-3"):
            by_to_thread(pay, "INV-1")
    assert ran == ["INV-1"] * 3
    *_, lost, carried = (each.action.tool_call_id for each in fake_pdp.received)
    assert carried == "call-3"
    assert lost != "call-2"


@pytest.mark.parametrize("elsewhere", ELSEWHERE)
def test_decision_that_is_given_is_acted_on_once(fake_pdp: FakePdp, elsewhere: Call) -> None:
    fake_pdp.allow()
    session = fake_pdp.session()
    with fake_pdp.client() as pdp:
        pay = pdp.guard(session=session, tool="payments.create")(lambda invoice: current_decision())
        action = {"tool": "payments.create", "arguments": {"invoice": "INV-1"}, "tool_call_id": "a"}
        (decision,) = pdp.evaluate_plan([action], session=session)
        with decided(decision):
            context = copy_context()
            assert elsewhere(context.run, pay, "INV-1").decision_id == decision.decision_id
            assert elsewhere(context.run, pay, "INV-1").decision_id != decision.decision_id
            assert pay("INV-1").decision_id != decision.decision_id


def test_threads_use_one_context_at_once(fake_pdp: FakePdp) -> None:
    fake_pdp.allow()
    session = fake_pdp.session()
    together = threading.Barrier(4)
    with fake_pdp.client() as pdp, ThreadPoolExecutor(4) as pool:
        pay = pdp.guard(session=session, tool="payments.create")(lambda invoice: current_decision())
        action = {"tool": "payments.create", "arguments": {"invoice": "INV-1"}, "tool_call_id": "a"}
        (decision,) = pdp.evaluate_plan([action], session=session)

        def work() -> str:
            together.wait(30)
            return str(pay("INV-1").decision_id)

        with decided(decision):
            context = copy_context()
            ids = [done.result() for done in [pool.submit(context.run, work) for _ in range(4)]]
    assert ids.count(decision.decision_id) == 1
    assert len(set(ids)) == 4


def test_tool_hands_its_decision_on(fake_pdp: FakePdp) -> None:
    fake_pdp.allow()
    with fake_pdp.client() as pdp:

        @pdp.guard(session=fake_pdp.session(), tool="t")
        def pay() -> tuple[bytes, bytes]:
            there = in_pool(copy_context().run, lambda: current_decision().receipt)
            return current_decision().receipt, there

        here, there = pay()
    assert here == there != b""
    with pytest.raises(LookupError):
        copy_context().run(current_decision)


def test_coroutine_runs_with_it_too(fake_pdp: FakePdp) -> None:
    fake_pdp.allow()
    with fake_pdp.client() as pdp:

        @pdp.guard(session=fake_pdp.session(), tool="payments.create")
        async def pay() -> str:
            return current_decision().tool_call_id

        with tool_call("call-1"):
            context = copy_context()
        assert in_pool(lambda: asyncio.run(context.run(pay))) == "call-1"
    with pytest.raises(LookupError):
        current_decision()


WHO: ContextVar[str] = ContextVar("who", default="nobody")


def test_thread_of_evaluate_many_knows_where_it_was_begun(fake_pdp: FakePdp) -> None:
    fake_pdp.allow()
    seen: list[str] = []

    class Noting:
        def verify(self, token: bytes) -> ParsedReceipt:
            seen.append(WHO.get())
            return parse(token)

    action = {"tool": "t", "arguments": {}, "tool_call_id": "c"}
    with Client(fake_pdp.target, identity=IDENTITY, timeout=30, verifier=Noting()) as pdp:
        token = WHO.set("me")
        try:
            ((_, decision),) = pdp.evaluate_many([action], session=fake_pdp.session())
        finally:
            WHO.reset(token)
    assert decision.allowed
    assert seen == ["me"]
