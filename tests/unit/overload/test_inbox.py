"""Calls that wait to be served together."""

from __future__ import annotations

import asyncio

import pytest

from pdp.errors import DeadlineExceededError, OverloadedError, StoreUnavailableError
from pdp.overload.inbox import Inbox
from pdp.overload.latency import LatencyEstimate
from tests.support import builders
from tests.support.gc_cycles import without_collector


def inbox(capacity: int = 100) -> Inbox[int, int]:
    return Inbox(capacity=capacity, overdue=lambda ticket: StoreUnavailableError("overdue"))


async def asked(box: Inbox[int, int], *values: int, seconds: float = 30.0) -> list[asyncio.Task[int]]:
    tasks = [asyncio.create_task(box.ask(value, builders.deadline(seconds))) for value in values]
    await asyncio.sleep(0)
    return tasks


async def test_calls_are_taken_in_order_and_answered() -> None:
    box = inbox()
    tasks = await asked(box, 1, 2, 3)
    first = box.take(2)
    assert [ticket.value for ticket in first] == [1, 2]
    assert len(box) == 1
    for ticket in (*first, *box.take(64)):
        ticket.answer(ticket.value * 10)
    assert await asyncio.gather(*tasks) == [10, 20, 30]
    assert box.take(64) == []


async def test_batch_ends_where_the_room_does() -> None:
    box = Inbox[int, int](
        capacity=100, overdue=lambda ticket: StoreUnavailableError("overdue"), weigh=lambda value: value
    )
    tasks = await asked(box, 5, 5, 1, 20, 1)
    batches = []
    while len(box):
        taken = box.take(64, 10)
        batches.append([ticket.value for ticket in taken])
        for ticket in taken:
            ticket.answer(ticket.value)
    # Order is kept, and one that needs more room than there is goes alone.
    assert batches == [[5, 5], [1], [20], [1]]
    assert await asyncio.gather(*tasks) == [5, 5, 1, 20, 1]
    assert box.take(64, 10) == []


async def test_waiting_ends_when_somebody_arrives() -> None:
    box = inbox()
    waiter = asyncio.create_task(box.until_any())
    await asyncio.sleep(0)
    assert not waiter.done()
    tasks = await asked(box, 1)
    await waiter
    box.take(1)[0].answer(7)
    assert await tasks[0] == 7


async def test_cancelled_caller_is_not_taken() -> None:
    box = inbox()
    tasks = await asked(box, 1, 2)
    tasks[0].cancel()
    await asyncio.gather(tasks[0], return_exceptions=True)
    assert [ticket.value for ticket in box.take(64)] == [2]
    assert len(box) == 0


async def test_caller_that_gave_up_but_has_not_run_yet_does_not_count_as_waiting() -> None:
    """Whoever serves would loop on it without end, and nobody would run again."""
    box = inbox()
    tasks = await asked(box, 1)
    tasks[0].cancel()
    assert box.take(64) == []
    assert len(box) == 0
    await asyncio.gather(tasks[0], return_exceptions=True)
    assert len(box) == 0


async def test_deadline_before_and_after_the_work_began() -> None:
    box = inbox()
    waiting = await asked(box, 1, seconds=0.01)
    with pytest.raises(DeadlineExceededError):
        await waiting[0]
    assert box.take(64) == []
    begun = await asked(box, 2, seconds=0.01)
    (ticket,) = box.take(64)
    with pytest.raises(StoreUnavailableError, match="overdue"):
        await begun[0]
    ticket.answer(5)
    assert ticket.done


async def test_full_box_turns_away_until_there_is_room() -> None:
    box = inbox(capacity=2)
    await asked(box, 1, 2)
    with pytest.raises(OverloadedError):
        await box.ask(3, builders.deadline())
    for ticket in box.take(1):
        ticket.answer(0)
    (third,) = await asked(box, 3)
    assert len(box) == 2
    box.fail_waiting(lambda: StoreUnavailableError("down"))
    with pytest.raises(StoreUnavailableError, match="down"):
        await third


async def test_given_up_calls_do_not_pile_up() -> None:
    box = inbox(capacity=5)
    for _ in range(100):
        tasks = await asked(box, *range(5))
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    assert len(box) == 0
    assert len(box._tickets) < 100


async def test_calls_that_come_in_one_by_one_are_gathered() -> None:
    box = inbox()
    tasks = await asked(box, 1, 2)
    gathered = asyncio.create_task(box.until_gathered(64))
    for value in (3, 4, 5):
        # A few turns apart, as gRPC hands calls over.
        for _ in range(4):
            await asyncio.sleep(0)
        assert not gathered.done()
        tasks += await asked(box, value)
    await gathered
    batch = box.take(64)
    assert [ticket.value for ticket in batch] == [1, 2, 3, 4, 5]
    for ticket in batch:
        ticket.answer(0)
    assert await asyncio.gather(*tasks) == [0] * 5


async def test_full_batch_is_not_held_up() -> None:
    box = inbox()
    tasks = await asked(box, 1, 2)
    gathered = asyncio.create_task(box.until_gathered(2))
    await asyncio.sleep(0)
    assert gathered.done()
    for ticket in box.take(2):
        ticket.answer(0)
    assert await asyncio.gather(*tasks) == [0, 0]


async def test_lone_call_is_not_held_up() -> None:
    box = inbox()
    for _ in range(2):
        tasks = await asked(box, 1)
        gathered = asyncio.create_task(box.until_gathered(64))
        await asyncio.sleep(0)
        assert gathered.done()
        box.take(64)[0].answer(0)
        assert await tasks[0] == 0


async def test_call_beside_one_that_is_served_waits_for_company() -> None:
    box = inbox()
    first = await asked(box, 1)
    [served] = box.take(64)
    second = await asked(box, 2)
    gathered = asyncio.create_task(box.until_gathered(64))
    await asyncio.sleep(0)
    assert not gathered.done()
    await gathered
    for ticket in (served, *box.take(64)):
        ticket.answer(0)
    assert await asyncio.gather(*first, *second) == [0, 0]


async def test_call_with_less_time_left_than_a_batch_takes_is_not_begun() -> None:
    box = inbox()
    for _ in range(100):
        box.served(builders.deadline(-10.0))
    (hurried,) = await asked(box, 1, seconds=2.0)
    (patient,) = await asked(box, 2, seconds=60.0)
    assert [ticket.value for ticket in box.take(64)] == [2]
    with pytest.raises(DeadlineExceededError, match="too little time"):
        await hurried
    assert box.load().dropped == {"late": 1}
    patient.cancel()


async def test_of_calls_that_are_all_too_late_the_last_to_expire_is_begun() -> None:
    """Otherwise nobody would ever find out that the work is fast again."""
    box = inbox()
    for _ in range(100):
        box.served(builders.deadline(-10.0))
    tasks = [(await asked(box, value, seconds=value))[0] for value in (1, 3, 2)]
    (ticket,) = box.take(64)
    assert ticket.value == 3
    ticket.answer(30)
    assert await tasks[1] == 30
    for task in (tasks[0], tasks[2]):
        with pytest.raises(DeadlineExceededError):
            await task


async def test_call_that_comes_too_late_takes_no_room_in_a_batch() -> None:
    pace = LatencyEstimate()
    for _ in range(100):
        pace.took(10.0)
    box = Inbox[int, int](
        capacity=100,
        overdue=lambda ticket: StoreUnavailableError("overdue"),
        late=StoreUnavailableError,
        weigh=lambda value: value,
        pace=pace,
    )
    (hurried,) = await asked(box, 90, seconds=2.0)
    patient = await asked(box, 40, 60, 1, seconds=60.0)
    taken = box.take(64, 100)
    assert [ticket.value for ticket in taken] == [40, 60]
    with pytest.raises(StoreUnavailableError, match="too little time"):
        await hurried
    for ticket in (*taken, *box.take(64)):
        ticket.answer(ticket.value)
    assert await asyncio.gather(*patient) == [40, 60, 1]


async def test_call_that_failed_is_gone_before_the_collector_comes() -> None:
    box = inbox()
    async with without_collector("Ticket") as gone:
        with pytest.raises(DeadlineExceededError):
            await box.ask(1, builders.deadline(0.01))
        (task,) = await asked(box, 2)
        box.take(1)[0].fail(StoreUnavailableError("gone"))
        with pytest.raises(StoreUnavailableError):
            await task
        del task
        await gone()


async def test_load_counts_who_waits_and_who_was_dropped() -> None:
    box = inbox(capacity=2)
    tasks = await asked(box, 1, 2)
    with pytest.raises(OverloadedError):
        await box.ask(3, builders.deadline())
    assert (box.load().waiting, box.load().dropped) == (2, {"full": 1})
    tasks[0].cancel()
    await asyncio.gather(tasks[0], return_exceptions=True)
    assert (box.load().waiting, box.load().dropped) == (1, {"full": 1, "gone": 1})
    tasks[1].cancel()
