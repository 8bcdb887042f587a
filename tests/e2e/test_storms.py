"""Operators write as often as a tenant may, and everybody who asks meanwhile gets an answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from placet import AsyncClient, DeadlineError, Effect, OverloadedError
from tests.e2e.scene import PAY, Scene, codes, pay, read

CALLS, WRITERS = 48, 4
# The same calls are allowed under both.
SETTINGS: tuple[dict[str, Any], ...] = tuple(
    {
        "large_amount": {"EUR": amount},
        "velocity": {"payments": {"max": 100, "window_seconds": 60, "on_exceed": "escalate"}},
    }
    for amount in ("3000", "4000")
)


@dataclass
class Storm:
    """How many writes were made, and how many refused."""

    written: int = 0
    refused: int = 0


@asynccontextmanager
async def storm(operator: AsyncClient) -> AsyncIterator[Storm]:
    """Write settings from all sides without a pause but for what the tenant's quota demands."""
    found, loop = Storm(), asyncio.get_running_loop()

    async def write() -> None:
        while True:
            try:
                await operator.put_tenant(SETTINGS[found.written % 2], timeout=0.05)
                found.written += 1
            except OverloadedError as exc:
                found.refused += 1
                await asyncio.sleep(exc.retry_after or 0.1)
            except DeadlineError:
                found.refused += 1

    began = loop.time()
    tasks = [asyncio.create_task(write()) for _ in range(WRITERS)]
    try:
        yield found
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    assert found.refused
    assert 1 <= found.written <= 10 + 10 * (loop.time() - began + 1)


@pytest.mark.parametrize("sessions", [1, CALLS], ids=["one session", "many sessions"])
async def test_every_action_is_decided_while_operators_write(scene: Scene, sessions: int) -> None:
    opened = [await scene.session() for _ in range(sessions)]
    agents = [await scene.agent(replica=number) for number in (1, 2)]
    operator = await scene.operator()
    async with storm(operator):
        answers = await asyncio.gather(
            *(agents[n % 2].evaluate(read(), session=opened[n % sessions]) for n in range(CALLS))
        )
    assert {answer.effect for answer in answers} == {Effect.ALLOW}, [codes(answer) for answer in answers]
    last = await operator.put_tenant(SETTINGS[0])
    assert {answer.data_revisions["settings"] for answer in answers} <= set(range(last))


async def test_every_payment_redemption_and_plan_is_decided_while_operators_write(scene: Scene) -> None:
    session = await scene.session()
    agents = [await scene.agent(replica=number) for number in (1, 2)]
    tools = [await scene.tool_server(replica=number) for number in (1, 2)]
    operator = await scene.operator()
    await operator.put_tenant(SETTINGS[0])

    async def pay_and_redeem(number: int) -> None:
        action, side = pay(number + 1), number % 2
        allow = await agents[side].evaluate(action, session=session)
        assert (allow.effect, allow.failure) == (Effect.ALLOW, None), codes(allow)
        await tools[side].redeem(allow.decision_id, tool=PAY, arguments=action["arguments"], audience="erp")

    async with storm(operator):
        await asyncio.gather(*(pay_and_redeem(number) for number in range(12)))
        plan = await agents[0].evaluate_plan([read(f"INV-{n}") for n in range(8)], session=session)
    assert all(decision.allowed for decision in plan)
