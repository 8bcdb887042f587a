"""The client and an overloaded server's hint."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from placet import AsyncClient, Client
from placet.errors import PlacetError
from placet.failures import DETAILS_KEY, DOMAIN
from placet.patience import pause
from placet.v1 import decision_service_pb2 as messages
from tests.unit.misbehaving import IDENTITY, serving

ACTION = {"tool": "invoices.get", "arguments": {"invoice": "INV-1"}, "tool_call_id": "c-1"}


def refuse(context: Any, seconds: float, reason: str = "OVERLOADED") -> None:
    code = grpc.StatusCode.RESOURCE_EXHAUSTED
    status = status_pb2.Status(code=code.value[0], message="too much work is waiting")
    status.details.add().Pack(error_details_pb2.ErrorInfo(reason=reason, domain=DOMAIN))
    hint = error_details_pb2.RetryInfo()
    hint.retry_delay.FromTimedelta(timedelta(seconds=seconds))
    status.details.add().Pack(hint)
    context.set_trailing_metadata(((DETAILS_KEY, status.SerializeToString()),))
    context.abort(code, status.message)


@contextmanager
def refusing(times: int, seconds: float) -> Iterator[tuple[str, list[bytes]]]:
    """A server that is overloaded for so many calls, and then at fault otherwise; and what it was sent."""
    seen: list[bytes] = []

    def answer(request: bytes, context: Any) -> bytes:
        seen.append(request)
        if len(seen) <= times:
            refuse(context, seconds)
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
