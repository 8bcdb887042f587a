"""What every session store promises."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest

from pdp.errors import InvalidFieldError, SessionMovedError, TaskExistsError, TenantUnknownError
from pdp.model import AmountLimit, Boundary, Session, SessionState, Task
from tests.contract.conftest import Store
from tests.support import builders
from tests.support.builders import TENANT


async def fresh(store: Store, **changes: object) -> Session:
    await store.control_plane.put_tenant(TENANT, b"{}", by=builders.AUTHOR)
    now = await store.clock.advance(0)
    return builders.session(now=now, **changes)  # type: ignore[arg-type]


async def test_opened_session_is_returned_and_found(store: Store) -> None:
    session = await fresh(store)
    assert await store.sessions.open(TENANT, session) == session
    found = await store.sessions.get(TENANT, session.session_id)
    assert found is not None
    assert found.session == session
    assert found.now == await store.clock.advance(0) or found.now >= session.opened_at


async def test_empty_boundary_stays_empty(store: Store) -> None:
    session = await fresh(store, bounds=Boundary())
    assert (await store.sessions.open(TENANT, session)).boundary == Boundary()


async def test_same_task_again_returns_its_session(store: Store) -> None:
    session = await fresh(store)
    await store.sessions.open(TENANT, session)
    again = replace(session, session_id="another", expires_at=session.expires_at + timedelta(hours=1))
    assert await store.sessions.open(TENANT, again) == session


async def test_amounts_are_compared_by_value(store: Store) -> None:
    session = await fresh(store)
    await store.sessions.open(TENANT, session)
    limits = (AmountLimit(currency="EUR", per_action=Decimal(5000)),)
    again = replace(session, session_id="another", boundary=replace(session.boundary, amounts=limits))
    assert (await store.sessions.open(TENANT, again)).session_id == session.session_id


@pytest.mark.parametrize(
    "change",
    [
        {"issuer": "other"},
        {"principal": "user:bob"},
        {"agent": "agent:other"},
        {"boundary": Boundary()},
    ],
    ids=lambda change: next(iter(change)),
)
async def test_same_task_with_something_else_is_refused(store: Store, change: dict[str, object]) -> None:
    session = await fresh(store)
    await store.sessions.open(TENANT, session)
    with pytest.raises(TaskExistsError):
        await store.sessions.open(TENANT, replace(session, session_id="another", **change))  # type: ignore[arg-type]


async def test_one_of_many_at_once_opens_the_task(store: Store) -> None:
    session = await fresh(store)
    opened = await asyncio.gather(
        *(store.sessions.open(TENANT, replace(session, session_id=f"s-{n}")) for n in range(8))
    )
    assert len({one.session_id for one in opened}) == 1


async def test_tasks_of_two_tenants_are_two(store: Store) -> None:
    session = await fresh(store)
    await store.control_plane.put_tenant("globex", b"{}", by=builders.AUTHOR)
    await store.sessions.open(TENANT, session)
    other = replace(session, principal="user:zoe")
    assert await store.sessions.open("globex", other) == other
    found = await store.sessions.get(TENANT, session.session_id)
    assert found is not None
    assert found.session == session


async def test_unknown_tenant_is_an_error(store: Store) -> None:
    now = await store.clock.advance(0)
    with pytest.raises(TenantUnknownError):
        await store.sessions.open("nobody", builders.session(now=now))


async def test_expiry_in_the_past_is_refused(store: Store) -> None:
    session = await fresh(store, lifetime=timedelta(seconds=-1))
    with pytest.raises(InvalidFieldError) as caught:
        await store.sessions.open(TENANT, session)
    assert caught.value.field == "expires_at"
    assert await store.sessions.get(TENANT, session.session_id) is None


async def test_unknown_session_is_none(store: Store) -> None:
    await fresh(store)
    assert await store.sessions.get(TENANT, "nothing") is None
    assert await store.sessions.close(TENANT, "nothing", "") is None


async def test_close_moves_the_version_once(store: Store) -> None:
    session = await fresh(store, task=Task(id="T-close"))
    await store.sessions.open(TENANT, session)
    closed = await store.sessions.close(TENANT, session.session_id, "done")
    assert closed is not None
    assert (closed.state, closed.version) == (SessionState.CLOSED, session.version + 1)
    assert closed.closed_at is not None
    assert await store.sessions.close(TENANT, session.session_id, "again") == closed


async def test_closed_session_is_still_its_tasks(store: Store) -> None:
    session = await fresh(store)
    await store.sessions.open(TENANT, session)
    closed = await store.sessions.close(TENANT, session.session_id, "done")
    assert await store.sessions.open(TENANT, replace(session, session_id="another")) == closed


async def test_completing_moves_the_version_once(store: Store) -> None:
    session = await fresh(store)
    await store.sessions.open(TENANT, session)
    completed = await store.sessions.complete(TENANT, session.session_id, "paid")
    assert completed is not None
    assert (completed.state, completed.version) == (SessionState.COMPLETED, session.version + 1)
    assert completed.completed_at is not None
    assert await store.sessions.complete(TENANT, session.session_id, "again") == completed


async def test_completed_session_can_be_closed_and_not_the_other_way_round(store: Store) -> None:
    session = await fresh(store)
    await store.sessions.open(TENANT, session)
    await store.sessions.complete(TENANT, session.session_id, "paid")
    closed = await store.sessions.close(TENANT, session.session_id, "done")
    assert closed is not None
    assert closed.state is SessionState.CLOSED
    assert await store.sessions.complete(TENANT, session.session_id, "again") == closed


async def test_expired_session_cannot_be_completed(store: Store) -> None:
    session = await fresh(store, lifetime=timedelta(seconds=5))
    await store.sessions.open(TENANT, session)
    now = await store.clock.advance(6)
    untouched = await store.sessions.complete(TENANT, session.session_id, "late")
    assert untouched is not None
    assert untouched.version == session.version
    assert untouched.state_at(now) is SessionState.EXPIRED


async def test_session_keeps_the_template_that_it_was_opened_under(store: Store) -> None:
    session = await fresh(store)
    await store.control_plane.put_tenant(
        TENANT, b'{"boundary_template": {"tools": ["invoices.get"]}}', by=builders.AUTHOR
    )
    opened = await store.sessions.open(TENANT, session)
    assert opened.template == Boundary(tools=("invoices.get",))
    await store.control_plane.put_tenant(TENANT, b'{"boundary_template": {}}', by=builders.AUTHOR)
    assert await store.sessions.open(TENANT, replace(session, session_id="another")) == opened
    found = await store.sessions.get(TENANT, session.session_id)
    assert found is not None
    assert found.session.template == opened.template


async def test_session_opens_on_the_epoch_that_it_rests_on_or_not_at_all(store: Store) -> None:
    session = await fresh(store)
    _, epoch = await store.control_plane.keys_of(TENANT, "tasks")
    await store.control_plane.put_issuer_keys(TENANT, "tasks", [], by=builders.AUTHOR)
    with pytest.raises(SessionMovedError):
        await store.sessions.open(TENANT, session, epoch=epoch)
    assert await store.sessions.get(TENANT, session.session_id) is None
    assert await store.sessions.open(TENANT, session, epoch=epoch + 1) == session
