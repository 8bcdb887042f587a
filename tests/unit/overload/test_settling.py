"""While operators write, few judgements of a tenant go on at once, and the others lose nothing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import pytest

from pdp.errors import DeadlineExceededError, GroundMovedError, SessionContendedError, SessionMovedError
from pdp.overload import settling
from pdp.overload.settling import CALM, FEW, MAX_JUDGEMENTS, Settling

TENANT = "acme"


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Judge:
    """Judgements that end when the test says so."""

    def __init__(self) -> None:
        self.ends: list[asyncio.Future[None]] = []
        self.began = asyncio.Condition()

    async def __call__(self) -> str:
        end: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        async with self.began:
            self.ends.append(end)
            self.began.notify_all()
        await end
        return "judged"

    async def begun(self, number: int) -> None:
        async with self.began, asyncio.timeout(30):
            await self.began.wait_for(lambda: len(self.ends) >= number)

    @property
    def under_way(self) -> int:
        return sum(not end.done() for end in self.ends)


def later(seconds: float = 30.0) -> float:
    return time.monotonic() + seconds


def loses(times: int, error: Callable[[str], Exception]) -> Callable[[], Awaitable[str]]:
    left = [times]

    async def judge() -> str:
        if left[0]:
            left[0] -= 1
            raise error("moved")
        return "judged"

    return judge


async def ask(point: Settling, judge: Judge, number: int, *, tenant: str = TENANT) -> list[asyncio.Task[str]]:
    tasks = [asyncio.create_task(point.settle(judge, tenant=tenant, deadline=later())) for _ in range(number)]
    await turns_of_the_loop()
    return tasks


async def turns_of_the_loop() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def unsettle(point: Settling, tenant: str = TENANT) -> None:
    judge = loses(1, GroundMovedError)
    assert await point.settle(judge, tenant=tenant, deadline=later()) == "judged"


async def test_nobody_waits_while_nothing_moves() -> None:
    point, judge = Settling(), Judge()
    tasks = await ask(point, judge, 200)
    assert judge.under_way == 200
    for end in judge.ends:
        end.set_result(None)
    assert await asyncio.gather(*tasks) == ["judged"] * 200


async def test_after_a_write_few_are_judged_at_once_and_in_order() -> None:
    point, judge = Settling(clock=Clock()), Judge()
    await unsettle(point)
    tasks = await ask(point, judge, 50)
    assert 1 <= judge.under_way <= FEW
    assert point.load().waiting == 50 - judge.under_way
    for number in range(50):
        await judge.begun(number + 1)
        assert judge.under_way <= FEW
        judge.ends[number].set_result(None)
    assert await asyncio.gather(*tasks) == ["judged"] * 50
    assert point.load().waiting == 0


async def test_other_tenants_do_not_wait() -> None:
    point, judge = Settling(clock=Clock()), Judge()
    await unsettle(point)
    tasks = await ask(point, judge, 50, tenant="globex")
    assert judge.under_way == 50
    for end in judge.ends:
        end.set_result(None)
    await asyncio.gather(*tasks)


async def test_another_replicas_decisions_hold_nobody_back() -> None:
    """A race over a session's version is between those two alone."""
    point, judge = Settling(clock=Clock()), Judge()
    lost = loses(3, SessionMovedError)
    assert await point.settle(lost, tenant=TENANT, deadline=later()) == "judged"
    tasks = await ask(point, judge, 50)
    assert judge.under_way == 50
    for end in judge.ends:
        end.set_result(None)
    await asyncio.gather(*tasks)


async def test_each_write_halves_the_width_and_successes_widen_it_again() -> None:
    clock = Clock()
    point = Settling(clock=clock)
    for _ in range(10):
        clock.now += 0.1
        lost = loses(1, GroundMovedError)
        assert await point.settle(lost, tenant=TENANT, deadline=later()) == "judged"
    narrow = Judge()
    tasks = await ask(point, narrow, 20)
    assert narrow.under_way < FEW
    for number in range(20):
        await narrow.begun(number + 1)
        narrow.ends[number].set_result(None)
    await asyncio.gather(*tasks)
    for _ in range(FEW * FEW):
        await point.settle(loses(0, GroundMovedError), tenant=TENANT, deadline=later())
    wide = Judge()
    tasks = await ask(point, wide, 20)
    assert wide.under_way == FEW
    for number in range(20):
        await wide.begun(number + 1)
        wide.ends[number].set_result(None)
    await asyncio.gather(*tasks)


async def test_ground_that_stands_still_lets_everybody_go_on_and_is_forgotten() -> None:
    clock = Clock()
    point, judge = Settling(clock=clock), Judge()
    for name in ("a", "b", TENANT):
        await unsettle(point, name)
    clock.now += CALM + 0.01
    tasks = await ask(point, judge, 50)
    assert judge.under_way == 50
    for end in judge.ends:
        end.set_result(None)
    await asyncio.gather(*tasks)
    await unsettle(point)
    assert set(point._gates) == {TENANT}


async def test_who_waits_longer_than_its_deadline_is_told_so_and_leaves_no_place_taken() -> None:
    point, judge = Settling(clock=Clock()), Judge()
    await unsettle(point)
    tasks = await ask(point, judge, FEW)
    with pytest.raises(DeadlineExceededError):
        await point.settle(judge, tenant=TENANT, deadline=later(0.05))
    assert point.load().dropped == {"late": 1}
    for number in range(FEW):
        await judge.begun(number + 1)
        judge.ends[number].set_result(None)
    await asyncio.gather(*tasks)


async def test_who_goes_away_gives_its_place_back() -> None:
    point, judge = Settling(clock=Clock()), Judge()
    await unsettle(point)
    tasks = await ask(point, judge, 50)
    inside = judge.under_way
    for task in tasks[: 50 - 1]:
        task.cancel()
    await asyncio.gather(*tasks[:-1], return_exceptions=True)
    assert all(task.cancelled() for task in tasks[:-1])
    await judge.begun(inside + 1)
    judge.ends[-1].set_result(None)
    assert await tasks[-1] == "judged"


async def test_what_never_stands_still_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settling, "_MAX_BACKOFF", 0.001)
    point = Settling(clock=Clock())
    lost = loses(MAX_JUDGEMENTS, GroundMovedError)
    with pytest.raises(SessionContendedError) as caught:
        await point.settle(lost, tenant=TENANT, deadline=later())
    assert caught.value.retry_after > 0
