"""The client and an overloaded server's hint."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from placet import AsyncClient, Client
from placet._transport.channel import CALLS_AT_ONCE
from placet._transport.failures import DETAILS_KEY, DOMAIN
from placet._transport.patience import OverloadNotice, pause
from placet.errors import PlacetError
from placet.v1 import decision_service_pb2 as messages
from tests.support.clock import ManualClock
from tests.unit.client.misbehaving import IDENTITY, serving

ACTION = {"tool": "invoices.get", "arguments": {"invoice": "INV-1"}, "tool_call_id": "c-1"}


def refuse(context: Any, seconds: float, reason: str = "OVERLOADED", others: str = "") -> None:
    code = grpc.StatusCode.RESOURCE_EXHAUSTED
    status = status_pb2.Status(code=code.value[0], message="too much work is waiting")
    about = error_details_pb2.ErrorInfo(reason=reason, domain=DOMAIN, metadata={"others": others})
    status.details.add().Pack(about)
    hint = error_details_pb2.RetryInfo()
    hint.retry_delay.FromTimedelta(timedelta(seconds=seconds))
    status.details.add().Pack(hint)
    context.set_trailing_metadata(((DETAILS_KEY, status.SerializeToString()),))
    context.abort(code, status.message)


@contextmanager
def refusing(times: int, seconds: float, others: str = "") -> Iterator[tuple[str, list[bytes]]]:
    """A server that is overloaded for so many calls, and then at fault otherwise; and what it was sent."""
    seen: list[bytes] = []

    def answer(request: bytes, context: Any) -> bytes:
        seen.append(request)
        if len(seen) <= times:
            refuse(context, seconds, others=others)
        context.abort(grpc.StatusCode.INTERNAL, "enough")
        return b""

    with serving(answer) as target:
        yield target, seen


def test_hint_is_obeyed_and_the_same_attempt_sent_again() -> None:
    with refusing(3, 0.01) as (target, seen), Client(target, identity=IDENTITY, timeout=60) as pdp:
        decision = pdp.evaluate(ACTION, session="s")
    assert decision.reasons[0].code == "client.failed"
    assert len(seen) == 4
    assert len(set(seen)) == 1
    assert messages.EvaluateRequest.FromString(seen[0]).attempt_id


async def test_hint_is_obeyed_by_the_asynchronous_client() -> None:
    with refusing(3, 0.01) as (target, seen):
        async with AsyncClient(target, identity=IDENTITY, timeout=60) as pdp:
            decision = await pdp.evaluate(ACTION, session="s")
    assert decision.reasons[0].code == "client.failed"
    assert len(seen) == 4


def test_hint_beyond_the_deadline_is_a_block_at_once() -> None:
    with refusing(1, 3600.0) as (target, seen), Client(target, identity=IDENTITY, timeout=60) as pdp:
        decision = pdp.evaluate(ACTION, session="s")
    assert (decision.allowed, decision.reasons[0].code) == (False, "client.overloaded")
    assert decision.retry_after == timedelta(hours=1)
    assert len(seen) == 1


@pytest.mark.parametrize(
    ("reason", "hint", "left", "waits"),
    [
        ("OVERLOADED", 1.0, 60.0, True),
        ("SESSION_CONTENDED", 1.0, 60.0, True),
        ("OVERLOADED", 1.0, 0.9, False),
        ("OVERLOADED", None, 60.0, False),
        ("INTERNAL", 1.0, 60.0, False),
        ("", 1.0, 60.0, False),
    ],
)
def test_pause_is_no_shorter_than_the_hint(reason: str, hint: float | None, left: float, waits: bool) -> None:
    error = PlacetError("no", reason=reason, retry_after=None if hint is None else timedelta(seconds=hint))
    found = {pause(error, left) for _ in range(50)}
    if waits:
        assert all(wait is not None and 1.0 <= wait <= 1.5 for wait in found)
    else:
        assert found == {None}


def test_pause_without_end_is_impossible() -> None:
    error = PlacetError("no", reason="OVERLOADED", retry_after=timedelta(0))
    assert all((pause(error, 60.0) or 0) >= 0.01 for _ in range(50))


def overloaded(hint: float, others: str, reason: str = "OVERLOADED") -> PlacetError:
    return PlacetError("no", reason=reason, retry_after=timedelta(seconds=hint), others=others)


def test_refusal_of_all_holds_every_call_until_the_hint_has_passed() -> None:
    clock = ManualClock()
    overload = OverloadNotice(clock)
    assert overload.seconds(0.1) == 0
    overload.note(overloaded(2.0, "all"), left=0.5)
    for left in (0.1, 0.5, 60.0):
        assert all(2.0 <= overload.seconds(left) <= 3.0 for _ in range(50))
    clock.advance(1.5)
    assert all(0.5 <= overload.seconds(60.0) <= 1.5 for _ in range(50))
    clock.advance(0.6)
    assert overload.seconds(0.1) == 0


def test_refusal_of_the_hurried_holds_nobody_who_has_more_time() -> None:
    overload = OverloadNotice(ManualClock())
    overload.note(overloaded(2.0, "hurried"), left=0.5)
    assert overload.seconds(0.4) > 0
    assert overload.seconds(0.5) > 0
    assert overload.seconds(1.0) == 0


@pytest.mark.parametrize(
    "error",
    [
        overloaded(2.0, ""),
        overloaded(2.0, "everybody"),
        overloaded(2.0, "all", reason="SESSION_CONTENDED"),
        PlacetError("no", reason="OVERLOADED", others="all"),
    ],
)
def test_failure_that_says_nothing_about_others_holds_nobody(error: PlacetError) -> None:
    overload = OverloadNotice(ManualClock())
    overload.note(error, left=0.5)
    assert overload.seconds(0.1) == 0


def test_no_server_holds_a_client_for_long() -> None:
    overload = OverloadNotice(ManualClock())
    overload.note(overloaded(3600.0, "all"), left=0.5)
    assert overload.seconds(60.0) <= 7.5


async def test_hundred_callers_who_know_that_the_server_is_full_do_not_each_ask() -> None:
    with refusing(10**6, 3600.0, "all") as (target, seen):
        async with AsyncClient(target, identity=IDENTITY, timeout=2.0) as pdp:
            await pdp.evaluate(ACTION, session="s")
            assert len(seen) == 1
            decisions = await asyncio.gather(*(pdp.evaluate(ACTION, session="s") for _ in range(100)))
    assert {decision.reasons[0].code for decision in decisions} == {"client.overloaded"}
    assert all(decision.retryable and decision.retry_after for decision in decisions)
    assert len(seen) == 1


async def test_callers_who_wait_for_their_turn_hear_what_those_before_them_were_told() -> None:
    with refusing(10**6, 3600.0, "all") as (target, seen):
        async with AsyncClient(target, identity=IDENTITY, timeout=4.0) as pdp:
            await asyncio.gather(*(pdp.evaluate(ACTION, session="s") for _ in range(10 * CALLS_AT_ONCE)))
    assert len(seen) <= CALLS_AT_ONCE


def test_threads_of_a_client_wait_for_what_one_of_them_was_told() -> None:
    """Nobody asks before the hint has passed, and then everybody gets an answer."""
    with refusing(1, 0.5, "all") as (target, seen), Client(target, identity=IDENTITY, timeout=60) as pdp:
        first = pdp.evaluate(ACTION, session="s", timeout=0.2)
        assert first.reasons[0].code == "client.overloaded"
        told = time.monotonic()
        with ThreadPoolExecutor(16) as threads:
            asked = [threads.submit(pdp.evaluate, ACTION, session="s") for _ in range(16)]
            answers = [each.result() for each in asked]
        assert time.monotonic() - told > 0.4
    assert {answer.reasons[0].code for answer in answers} == {"client.failed"}
    assert len(seen) == 17


def test_calls_that_take_no_decision_do_not_wait_for_those_that_do() -> None:
    with refusing(1, 3600.0, "all") as (target, seen), Client(target, identity=IDENTITY, timeout=2.0) as pdp:
        pdp.evaluate(ACTION, session="s")
        with pytest.raises(PlacetError) as failed:
            pdp.get_session("s")
        assert failed.value.code is grpc.StatusCode.INTERNAL
    assert len(seen) == 2


async def test_simulation_obeys_the_hint_like_a_decision() -> None:
    with refusing(2, 0.01, "all") as (target, seen):
        async with AsyncClient(target, identity=IDENTITY, timeout=60) as pdp:
            with pytest.raises(PlacetError) as failed:
                await pdp.simulate(ACTION, session="s", subject="svc", agents=["a"])
    assert failed.value.code is grpc.StatusCode.INTERNAL
    assert len(seen) == 3
