"""Whose actions wait for each other's turn."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest

from pdp.errors import OverloadedError
from pdp.model import EvaluationRequest
from pdp.overload.admission import Admission
from pdp.overload.turns import SessionTurns
from tests.support.builders import caller, evaluation

SESSION = "session-1"
STRANGER = caller(subject="svc-stranger")


async def turn_comes_at_once(turns: SessionTurns, request: EvaluationRequest) -> bool:
    """Whether nothing has to end before this action is judged."""
    taking = turns.take(request)
    entered = asyncio.ensure_future(taking.__aenter__())
    await asyncio.sleep(0)
    if not entered.done():
        entered.cancel()
        await asyncio.gather(entered, return_exceptions=True)
        return False
    await entered
    await taking.__aexit__(None, None, None)
    return True


async def test_action_waits_for_the_callers_earlier_one_in_the_session_and_for_no_other() -> None:
    turns = SessionTurns(Admission())
    async with turns.take(evaluation(SESSION)):
        assert not await turn_comes_at_once(turns, evaluation(SESSION))
        assert await turn_comes_at_once(turns, evaluation("session-2"))
        assert await turn_comes_at_once(turns, evaluation(SESSION, by=caller(tenant="other")))
    assert await turn_comes_at_once(turns, evaluation(SESSION))


async def test_stranger_who_names_a_session_does_not_queue_before_its_owner() -> None:
    turns = SessionTurns(Admission())
    async with turns.take(evaluation(SESSION, by=STRANGER)):
        assert await turn_comes_at_once(turns, evaluation(SESSION))


async def test_stranger_who_names_a_session_cannot_fill_its_owners_line() -> None:
    admission = Admission(max_in_flight=8)
    turns = SessionTurns(admission)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(turns.take(evaluation(SESSION, by=STRANGER), admission.of_a_session))
        with pytest.raises(OverloadedError):
            await stack.enter_async_context(turns.take(evaluation(SESSION, by=STRANGER)))
        assert await turn_comes_at_once(turns, evaluation(SESSION))
    assert turns.load().dropped == {"full": 1}
