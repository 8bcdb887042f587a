"""A client's stream: what breaks becomes a block, and the next call has a stream again."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import grpc
import pytest

from placet import AsyncClient, Effect
from placet.testing import FakePdp, Verdict
from placet.testing.script import Received
from tests.support.processes import PATIENCE

READ = "invoices.get"


def read(call: str, **members: Any) -> dict[str, Any]:
    return {"tool": READ, "arguments": {"invoice": "INV-1"}, "tool_call_id": call} | members


async def test_call_that_gets_no_answer_in_time_is_a_block_and_the_others_go_on(fake_pdp: FakePdp) -> None:
    fake_pdp.allow(READ)
    session = fake_pdp.session()
    async with fake_pdp.async_client() as client, client.stream() as stream:
        with fake_pdp.hung():
            patient = asyncio.create_task(stream.evaluate(read("c-1"), session=session))
            hasty = await stream.evaluate(read("c-2"), session=session, timeout=0.1)
            assert (hasty.reasons[0].code, hasty.retryable) == ("client.deadline", True)
            assert not patient.done()
        assert (await patient).allowed


async def test_cancelled_call_leaves_the_stream_to_the_others(fake_pdp: FakePdp) -> None:
    fake_pdp.allow(READ)
    session = fake_pdp.session()
    async with fake_pdp.async_client() as client, client.stream() as stream:
        with fake_pdp.hung():
            cancelled = asyncio.create_task(stream.evaluate(read("c-1"), session=session))
            patient = asyncio.create_task(stream.evaluate(read("c-2"), session=session))
            await asyncio.sleep(0)
            cancelled.cancel()
            with pytest.raises(asyncio.CancelledError):
                await cancelled
        assert (await patient).allowed


async def test_failure_that_may_pass_is_asked_again_as_the_same_attempt(fake_pdp: FakePdp) -> None:
    fake_pdp.allow(READ)
    fake_pdp.fail(grpc.StatusCode.UNAVAILABLE, times=2)
    async with fake_pdp.async_client() as client, client.stream() as stream:
        decision = await stream.evaluate(read("c-1"), session=fake_pdp.session(), attempt_id="a-1")
    assert decision.allowed
    assert decision.attempt_id == "a-1"


async def test_failure_that_stays_is_a_block_that_says_why(fake_pdp: FakePdp) -> None:
    fake_pdp.allow(READ)
    session = fake_pdp.session()
    async with fake_pdp.async_client() as client, client.stream() as stream:
        for code, block in (
            (grpc.StatusCode.UNAVAILABLE, "client.unreachable"),
            (grpc.StatusCode.RESOURCE_EXHAUSTED, "client.overloaded"),
            (grpc.StatusCode.INTERNAL, "client.failed"),
        ):
            fake_pdp.fail(code, times=3 if code is grpc.StatusCode.UNAVAILABLE else 1)
            decision = await stream.evaluate(read("c-1"), session=session)
            assert (decision.effect, decision.reasons[0].code) == (Effect.BLOCK, block)
            assert decision.failure is not None
            assert (decision.failure.code, decision.failure.reason) == (code, "SCRIPTED")
        assert (await stream.evaluate(read("c-1"), session=session)).allowed


async def test_stream_to_nobody_blocks_and_one_to_a_server_that_is_back_answers(fake_pdp: FakePdp) -> None:
    fake_pdp.allow(READ)
    session = fake_pdp.session()
    async with fake_pdp.async_client() as client, client.stream() as stream:
        assert (await stream.evaluate(read("c-1"), session=session)).allowed
        await asyncio.to_thread(fake_pdp.stop)
        gone = await stream.evaluate(read("c-2"), session=session)
        assert (gone.allowed, gone.reasons[0].code) == (False, "client.unreachable")
        await asyncio.to_thread(fake_pdp.start)
        for attempt in range(200):
            decision = await stream.evaluate(read(f"d-{attempt}"), session=session)
            if decision.allowed:
                break
        assert decision.allowed


async def test_answer_to_another_action_is_a_block(fake_pdp: FakePdp) -> None:
    fake_pdp.allow(READ)
    fake_pdp.alter = lambda answer: setattr(answer.decision, "tool_call_id", "other")
    async with fake_pdp.async_client() as client, client.stream() as stream:
        decision = await stream.evaluate(read("c-1"), session=fake_pdp.session())
    assert (decision.allowed, decision.reasons[0].code) == (False, "client.receipt_mismatch")


async def test_message_that_no_server_takes_is_refused_and_ends_nothing(fake_pdp: FakePdp) -> None:
    fake_pdp.allow(READ)
    session = fake_pdp.session()
    async with fake_pdp.async_client() as client, client.stream() as stream:
        large = await stream.evaluate(read("c-1", intent="x" * 1024 * 1024), session=session)
        assert large.reasons[0].code == "client.refused"
        assert (await stream.evaluate(read("c-2"), session=session)).allowed


async def test_no_more_than_asked_for_are_in_flight(fake_pdp: FakePdp) -> None:
    counting = threading.Lock()
    asked: list[str] = []

    def judge(received: Received) -> Verdict:
        with counting:
            asked.append(received.action.tool_call_id)
        return Verdict(effect=Effect.ALLOW, code="task.within_boundary")

    fake_pdp.script(READ, judge)
    session = fake_pdp.session()
    async with fake_pdp.async_client() as client, client.stream(in_flight=2) as stream:
        with fake_pdp.hung():
            held = [
                asyncio.create_task(stream.evaluate(read(f"c-{n}"), session=session, timeout=PATIENCE))
                for n in (0, 1)
            ]
            await asyncio.sleep(0)
            late = [stream.evaluate(read(f"c-{n}"), session=session, timeout=0.2) for n in (2, 3, 4)]
            codes = {decision.reasons[0].code for decision in await asyncio.gather(*late)}
            assert codes == {"client.deadline"}
        assert all(decision.allowed for decision in await asyncio.gather(*held))
        assert (await stream.evaluate(read("c-9"), session=session)).allowed
    # Actions that found no place were never sent.
    assert set(asked) <= {"c-0", "c-1", "c-9"}


@pytest.mark.parametrize("number", [0, 257, True])
async def test_bound_that_makes_no_sense_is_refused(fake_pdp: FakePdp, number: int) -> None:
    client: AsyncClient
    async with fake_pdp.async_client() as client:
        with pytest.raises(ValueError, match="in_flight"):
            client.stream(in_flight=number)
