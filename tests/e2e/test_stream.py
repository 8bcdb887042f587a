"""EvaluateStream on real processes: many sessions on one stream, without policy, and at SIGTERM."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from pdp.dev.stack import Stack
from placet import Effect
from tests.e2e.scene import Scene, codes, pay, read, until

pytestmark = pytest.mark.asyncio(loop_scope="session")

SESSIONS, MESSAGES = 20, 500


async def test_five_hundred_mixed_actions_of_many_sessions_are_answered_each(scene: Scene) -> None:
    sessions = [await scene.session() for _ in range(SESSIONS)]
    kinds = (
        (lambda call: read(call=call), Effect.ALLOW, "task.within_boundary"),
        (lambda call: pay(3000, call=call), Effect.ESCALATE, "payment.large"),
        (lambda call: pay(9000, call=call), Effect.BLOCK, "boundary.amount"),
        (lambda call: read(call=call) | {"tool": "shell.run"}, Effect.BLOCK, "registry.unknown_tool"),
        (lambda call: read(call=f" {call}"), Effect.BLOCK, "client.refused"),
    )
    client = await scene.agent()
    async with client.stream() as stream:
        answers = await asyncio.gather(
            *(
                stream.evaluate(
                    kinds[number % len(kinds)][0](f"c-{number}"), session=sessions[number % SESSIONS]
                )
                for number in range(MESSAGES)
            )
        )
    for number, decision in enumerate(answers):
        _, effect, code = kinds[number % len(kinds)]
        assert (decision.session_id, decision.tool_call_id.strip()) == (
            sessions[number % SESSIONS].session_id,
            f"c-{number}",
        )
        assert decision.effect is effect, decision
        assert code in codes(decision)
    recorded = [decision for decision in answers if decision.decision_id]
    assert len({decision.decision_id for decision in recorded}) == MESSAGES * 4 // 5
    for decision in recorded[::40]:
        assert (await scene.recorded(decision.decision_id)).receipt == decision.receipt


async def test_stream_without_policy_blocks_and_goes_on_with_it(stack: Stack, scene: Scene) -> None:
    session = await scene.session()
    client = await scene.agent()
    async with client.stream() as stream:
        assert (await stream.evaluate(read(), session=session)).allowed
        opa = stack.supervisor.pid("opa")
        assert opa is not None
        os.kill(opa, signal.SIGSTOP)
        try:
            blocked = await stream.evaluate(read(), session=session, timeout=5.0)
        finally:
            os.kill(opa, signal.SIGCONT)
        assert codes(blocked) == ["pdp.policy_unavailable"]
        assert (blocked.allowed, blocked.failure) == (False, None)

        async def allowed() -> bool:
            return (await stream.evaluate(read(), session=session)).allowed

        await until(allowed, "policy judges again")
