"""Operators write as often as a tenant may, and everybody who asks meanwhile gets an answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from placet import AsyncClient, Effect, OverloadedError
from tests.e2e.scene import PAY, Scene, codes, pay, read

CALLS = 48
# The same calls are allowed under both.
SETTINGS: tuple[dict[str, Any], ...] = tuple(
    {
        "large_amount": {"EUR": amount},
        "velocity": {"payments": {"max": 100, "window_seconds": 60, "on_exceed": "escalate"}},
    }
    for amount in ("3000", "4000")
)


@asynccontextmanager
async def storm(operator: AsyncClient) -> AsyncIterator[list[int]]:
    """Write settings without a pause but for what the tenant's quota demands; yield their revisions."""
    written: list[int] = []

    async def write() -> None:
        while True:
            try:
                written.append(await operator.put_tenant(SETTINGS[len(written) % 2]))
            except OverloadedError as exc:
                await asyncio.sleep(exc.retry_after or 0.1)

    task = asyncio.create_task(write())
    try:
        yield written
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.mark.parametrize("sessions", [1, CALLS], ids=["one session", "many sessions"])
async def test_every_action_is_decided_while_operators_write(scene: Scene, sessions: int) -> None:
    opened = [await scene.session() for _ in range(sessions)]
    agents = [await scene.agent(replica=number) for number in (1, 2)]
    async with storm(await scene.operator()) as written:
        answers = await asyncio.gather(
            *(agents[n % 2].evaluate(read(), session=opened[n % sessions]) for n in range(CALLS))
        )
    assert {answer.effect for answer in answers} == {Effect.ALLOW}, [codes(answer) for answer in answers]
    assert len(written) > 1
    assert {answer.data_revisions["settings"] for answer in answers} <= set(range(written[-1] + 2))


async def test_every_redemption_and_plan_is_decided_while_operators_write(scene: Scene) -> None:
    session, number = await scene.session(), 12
    operator, tool, agent = await scene.operator(), await scene.tool_server(), await scene.agent()
    await operator.put_tenant(SETTINGS[0])
    allows = [await scene.ask(pay(n + 1), session) for n in range(number)]
    assert {allow.effect for allow in allows} == {Effect.ALLOW}, [codes(allow) for allow in allows]
    async with storm(operator) as written:
        await asyncio.gather(
            *(
                tool.redeem(allow.decision_id, tool=PAY, arguments=pay(n + 1)["arguments"], audience="erp")
                for n, allow in enumerate(allows)
            )
        )
        plan = await agent.evaluate_plan([read(f"INV-{n}") for n in range(8)], session=session)
    assert all(decision.allowed for decision in plan)
    assert written
