"""Deadlines, retries, forks, threads and event loops."""

from __future__ import annotations

import asyncio
import pickle
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest

from placet import AsyncClient, Client, DevIdentity, Effect, PlacetError, UnavailableError
from placet.testing import FakePdp
from tests.unit.client.misbehaving import IDENTITY, serving

ACTION = {"tool": "t", "arguments": {}, "tool_call_id": "c"}
PATIENCE = 60


# --- deadlines ------------------------------------------------------------------


def test_server_is_told_the_deadline(fake_pdp: FakePdp) -> None:
    fake_pdp.allow()
    with fake_pdp.client(timeout=17) as pdp:
        pdp.evaluate(ACTION, session=fake_pdp.session())
        pdp.evaluate(ACTION, session=fake_pdp.session(), timeout=40)
    first, second = (received.time_remaining for received in fake_pdp.received)
    assert first is not None
    # gRPC rounds what it sends, by less than a second here.
    assert 0 < first <= 18
    assert second is not None
    assert 18 < second <= 41


def test_deadline_is_a_second_unless_told_otherwise(fake_pdp: FakePdp) -> None:
    fake_pdp.allow()
    seen: list[float] = []

    def handler(request: bytes, context: Any) -> bytes:
        seen.append(context.time_remaining())
        return b""

    with serving(handler) as target, Client(target, identity=IDENTITY) as pdp:
        pdp.evaluate(ACTION, session="s")
    # Nothing if the machine stalled for all of the second: then it was refused in time.
    # gRPC rounds what it sends.
    assert all(0 < remaining <= 1.1 for remaining in seen)


# --- retries --------------------------------------------------------------------


class Failing:
    """Counts calls, and fails each with a status."""

    def __init__(self, code: grpc.StatusCode) -> None:
        self.code = code
        self.requests: list[bytes] = []

    def __call__(self, request: bytes, context: Any) -> bytes:
        self.requests.append(request)
        context.abort(self.code, "no")
        raise AssertionError


def test_unavailable_is_asked_three_times_as_one_attempt() -> None:
    failing = Failing(grpc.StatusCode.UNAVAILABLE)
    with serving(failing) as target, Client(target, identity=IDENTITY, timeout=30) as pdp:
        decision = pdp.evaluate(ACTION, session="s")
    assert decision.reasons[0].code == "client.unreachable"
    assert len(failing.requests) == 3
    assert len(set(failing.requests)) == 1, "an attempt id is unchanged over the client's own retries"


@pytest.mark.parametrize(
    "code",
    [
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.CANCELLED,
    ],
)
def test_nothing_else_is_retried(code: grpc.StatusCode) -> None:
    failing = Failing(code)
    with serving(failing) as target, Client(target, identity=IDENTITY, timeout=30) as pdp:
        pdp.evaluate(ACTION, session="s")
    assert len(failing.requests) == 1


@pytest.mark.parametrize(
    ("call", "times"),
    [
        (lambda pdp: pdp.get_session("s"), 3),
        (lambda pdp: pdp.close_session("s"), 3),
        (lambda pdp: pdp.get_decision("d"), 3),
        (lambda pdp: pdp.open_session(task="t", principal="p", agent="a", boundary={}), 3),
        # A repeated Put could undo what another operator wrote in between.
        (lambda pdp: pdp.put_tenant({}), 1),
        (lambda pdp: pdp.put_agents([{"agent": "a"}]), 1),
        (lambda pdp: pdp.put_tools([{"name": "t", "effect": "read"}]), 1),
        (lambda pdp: pdp.put_signals([{"name": "s", "value": 1}]), 1),
    ],
)
def test_only_what_may_be_repeated_is_retried(call: Callable[[Client], object], times: int) -> None:
    failing = Failing(grpc.StatusCode.UNAVAILABLE)
    with (
        serving(failing) as target,
        Client(target, identity=IDENTITY, timeout=30) as pdp,
        pytest.raises(UnavailableError),
    ):
        call(pdp)
    assert len(failing.requests) == times


def test_pdp_that_comes_back_is_found_again(fake_pdp: FakePdp) -> None:
    fake_pdp.allow()
    session = fake_pdp.session()
    with fake_pdp.client() as pdp:
        assert pdp.evaluate(ACTION, session=session).allowed
        fake_pdp.stop()
        decision = pdp.evaluate(ACTION | {"tool_call_id": "c-2"}, session=session)
        assert decision.reasons[0].code == "client.unreachable"
        fake_pdp.start()
        for number in range(100):
            decision = pdp.evaluate(ACTION | {"tool_call_id": f"d-{number}"}, session=session)
            if decision.allowed:
                break
            threading.Event().wait(0.1)
        assert decision.allowed


# --- threads and loops ------------------------------------------------------------


def test_threads_share_a_client(fake_pdp: FakePdp) -> None:
    fake_pdp.allow()
    session = fake_pdp.session()
    with fake_pdp.client() as pdp, ThreadPoolExecutor(8) as pool:

        def ask(number: int) -> bool:
            return pdp.evaluate(ACTION | {"tool_call_id": f"c-{number}"}, session=session).allowed

        assert all(pool.map(ask, range(64)))


def test_one_async_client_serves_one_loop_after_another(fake_pdp: FakePdp) -> None:
    fake_pdp.allow()
    session = fake_pdp.session()
    pdp = fake_pdp.async_client()

    async def ask(call: str) -> bool:
        return (await pdp.evaluate(ACTION | {"tool_call_id": call}, session=session)).allowed

    assert asyncio.run(ask("c-1"))
    assert asyncio.run(ask("c-2"))

    async def end() -> None:
        await pdp.close()
        assert not await ask("c-3")

    asyncio.run(end())


def test_one_async_client_serves_two_loops_at_once(fake_pdp: FakePdp) -> None:
    fake_pdp.allow()
    session = fake_pdp.session()
    pdp = fake_pdp.async_client()

    async def ask(thread: int) -> bool:
        actions = [ACTION | {"tool_call_id": f"c-{thread}-{number}"} for number in range(16)]
        decisions = [await pdp.evaluate(action, session=session) for action in actions]
        await pdp.close() if thread == 9 else None
        return all(decision.allowed for decision in decisions)

    with ThreadPoolExecutor(2) as pool:
        assert all(pool.map(lambda thread: asyncio.run(ask(thread)), range(2)))
    assert asyncio.run(ask(9))


async def test_concurrent_questions_are_answered_each_for_itself(fake_pdp: FakePdp) -> None:
    fake_pdp.allow("read")
    fake_pdp.block("pay")
    session = fake_pdp.session()
    async with fake_pdp.async_client() as pdp:
        answers = await asyncio.gather(
            *(
                pdp.evaluate(
                    ACTION | {"tool": ("read", "pay")[n % 2], "tool_call_id": f"c-{n}"}, session=session
                )
                for n in range(32)
            )
        )
    assert [answer.effect for answer in answers] == [Effect.ALLOW, Effect.BLOCK] * 16


async def test_cancelled_question_raises_cancelled(fake_pdp: FakePdp) -> None:
    async with fake_pdp.async_client() as pdp:
        with fake_pdp.hung():
            asking = asyncio.create_task(pdp.evaluate(ACTION, session=fake_pdp.session()))
            await asyncio.sleep(0)
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking


# --- construction -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"identity": None}, "who calls"),
        ({"target": ""}, "where is the PDP"),
        ({"timeout": None}, "timeout"),
        ({"timeout": 0}, "timeout"),
        ({"understands": "notify"}, "understands"),
        ({"jwks": {"keys": []}, "verifier": object()}, "not both"),
        ({"jwks": {}}, "keys"),
    ],
)
def test_settings_that_make_no_sense_are_refused(options: dict[str, Any], message: str) -> None:
    settings: dict[str, Any] = {"target": "localhost:1", "identity": IDENTITY} | options
    for kind in (Client, AsyncClient):
        with pytest.raises(ValueError, match=message):
            kind(**settings)


@pytest.mark.parametrize(
    "names",
    [
        {"tenant": ""},
        {"tenant": "a\nb"},
        {"subject": "ünï"},
        {"roles": "agent"},
        {"agents": ["a,b"]},
        {"agents": [" a"]},
        {"tools": "erp.pay"},
        {"tools": ["a,b"]},
        {"audiences": [""]},
    ],
)
def test_names_that_cannot_be_sent_are_refused(names: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(names))):
        DevIdentity(**({"tenant": "t", "subject": "s"} | names))


def test_errors_and_decisions_survive_pickling_and_allow_nothing_then(fake_pdp: FakePdp) -> None:
    fake_pdp.allow()
    with fake_pdp.client() as pdp:
        allowed = pdp.evaluate(ACTION, session=fake_pdp.session())
        blocked = pdp.evaluate(ACTION | {"tool": ""}, session="s")
        with pytest.raises(PlacetError) as raised:
            pdp.get_session("nope")
    packed = pickle.loads(pickle.dumps(allowed))
    assert packed == allowed
    assert allowed.allowed
    assert not packed.allowed
    failure = pickle.loads(pickle.dumps(blocked)).failure
    assert failure.field == "action.tool"
    assert pickle.loads(pickle.dumps(raised.value)).reason == "NOT_FOUND"
