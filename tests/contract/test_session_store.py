"""What every session store promises."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal

import pytest

from pdp.errors import (
    InvalidFieldError,
    PermissionDeniedError,
    SessionMovedError,
    TaskExistsError,
    TenantUnknownError,
)
from pdp.model import (
    AmountLimit,
    Boundary,
    GrantRow,
    Session,
    SessionState,
    StoredOpening,
    Task,
    TokenIssue,
)
from tests.contract.conftest import Store
from tests.support import builders
from tests.support.builders import TENANT


async def fresh(store: Store, **changes: object) -> Session:
    await store.control_plane.put_tenant(TENANT, b"{}", by=builders.AUTHOR)
    now = await store.clock.advance(0)
    return builders.session(now=now, **changes)  # type: ignore[arg-type]


async def test_opened_session_is_returned_and_found(store: Store) -> None:
    session = await fresh(store)
    assert (await store.sessions.open(TENANT, session)).session == session
    found = await store.sessions.get(TENANT, session.session_id)
    assert found is not None
    assert found.session == session
    assert found.now == await store.clock.advance(0) or found.now >= session.opened_at


async def test_empty_boundary_stays_empty(store: Store) -> None:
    session = await fresh(store, bounds=Boundary())
    assert (await store.sessions.open(TENANT, session)).session.boundary == Boundary()


async def test_same_task_again_returns_its_session(store: Store) -> None:
    session = await fresh(store)
    await store.sessions.open(TENANT, session)
    again = replace(session, session_id="another", expires_at=session.expires_at + timedelta(hours=1))
    assert (await store.sessions.open(TENANT, again)).session == session


async def test_amounts_are_compared_by_value(store: Store) -> None:
    session = await fresh(store)
    await store.sessions.open(TENANT, session)
    limits = (AmountLimit(currency="EUR", per_action=Decimal(5000)),)
    again = replace(session, session_id="another", boundary=replace(session.boundary, amounts=limits))
    assert (await store.sessions.open(TENANT, again)).session.session_id == session.session_id


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
    assert len({one.session.session_id for one in opened}) == 1


async def test_tasks_of_two_tenants_are_two(store: Store) -> None:
    session = await fresh(store)
    await store.control_plane.put_tenant("globex", b"{}", by=builders.AUTHOR)
    await store.sessions.open(TENANT, session)
    other = replace(session, principal="user:zoe")
    assert (await store.sessions.open("globex", other)).session == other
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
    assert (await store.sessions.open(TENANT, replace(session, session_id="another"))).session == closed


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
    opened = (await store.sessions.open(TENANT, session)).session
    assert opened.template == Boundary(tools=("invoices.get",))
    await store.control_plane.put_tenant(TENANT, b'{"boundary_template": {}}', by=builders.AUTHOR)
    assert (await store.sessions.open(TENANT, replace(session, session_id="another"))).session == opened
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
    assert (await store.sessions.open(TENANT, session, epoch=epoch + 1)).session == session


# --- Proofs ---


def issue(name: str, *, task_issued_at: datetime | None = None) -> TokenIssue:
    return TokenIssue(token_hash=name, by=builders.AUTHOR, task_issued_at=task_issued_at)


async def lives(store: Store, session: Session, name: str) -> bool:
    asked = builders.facts_request(builders.key(session.session_id))
    return (await store.information_point.gather(replace(asked, session_token_hash=name))).token_lives


async def test_ninth_token_ends_the_oldest_and_says_so(store: Store) -> None:
    session = await fresh(store)
    for number in range(8):
        opened = await store.sessions.open(TENANT, session, token=issue(f"t-{number}"))
        assert opened == StoredOpening(session, ended_tokens=0)
    assert (await store.sessions.open(TENANT, session, token=issue("t-8"))).ended_tokens == 1
    assert [await lives(store, session, f"t-{number}") for number in range(9)] == [False] + [True] * 8


async def test_revoked_proofs_are_gone_until_the_session_is_opened_again(store: Store) -> None:
    session = await fresh(store)
    await store.sessions.open(TENANT, session, token=issue("t-1"))
    await store.sessions.open(TENANT, session, token=issue("t-2"))
    grant = GrantRow(
        grant_hash="a" * 64,
        session_id=session.session_id,
        parent_hash=None,
        agent=session.agent,
        delegated_by="svc-ap",
        depth=0,
        purpose="",
        issued_at=session.opened_at,
        expires_at=session.expires_at,
    )
    await store.grants.add_grant(TENANT, grant, opened=session)
    revoked = await store.sessions.revoke_proofs(TENANT, session.session_id, by=builders.AUTHOR)
    assert revoked is not None
    assert (revoked.tokens, revoked.grants) == (2, 1)
    found = await store.sessions.get(TENANT, session.session_id)
    assert found is not None
    assert found.session == replace(
        session,
        version=session.version + 1,
        token_required=True,
        proofs_revoked_at=revoked.revoked_at,
        proofs_ended=True,
    )
    assert not await lives(store, session, "t-1")
    (row,) = await store.grants.grant_path(TENANT, "a" * 64)
    assert row.revoked_at is not None
    assert row.revoked_at <= revoked.revoked_at
    assert (row.revoked_by, row.revoke_reason) == (builders.AUTHOR.subject, builders.AUTHOR.reason)
    # Whoever opened it before gets no root grant any more.
    with pytest.raises(SessionMovedError):
        await store.grants.add_grant(TENANT, grant._replace(grant_hash="b" * 64), opened=session)
    assert not await store.grants.grant_path(TENANT, "b" * 64)

    again = await store.sessions.open(TENANT, session, token=issue("t-3"))
    assert again.session == replace(found.session, proofs_ended=False)
    assert await lives(store, session, "t-3")
    await store.grants.add_grant(TENANT, grant._replace(grant_hash="b" * 64), opened=again.session)
    more = await store.sessions.revoke_proofs(TENANT, session.session_id, by=builders.AUTHOR)
    assert more is not None
    assert (more.tokens, more.grants) == (1, 1)
    assert more.revoked_at >= revoked.revoked_at


async def test_proofs_of_no_session_are_not_revoked(store: Store) -> None:
    session = await fresh(store)
    await store.sessions.open(TENANT, session, token=issue("t-1"))
    for tenant, name in ((TENANT, "nothing"), (TENANT, "a\0"), ("globex", session.session_id)):
        assert await store.sessions.revoke_proofs(tenant, name, by=builders.AUTHOR) is None
    assert await lives(store, session, "t-1")


async def test_task_that_was_signed_before_the_revocation_opens_nothing(store: Store) -> None:
    session = await fresh(store)
    now = await store.clock.advance(0)
    await store.sessions.open(TENANT, session, token=issue("t-1", task_issued_at=now))
    revoked = await store.sessions.revoke_proofs(TENANT, session.session_id, by=builders.AUTHOR)
    assert revoked is not None
    for signed_at in (now, revoked.revoked_at):
        with pytest.raises(PermissionDeniedError, match="before"):
            await store.sessions.open(TENANT, session, token=issue("t-2", task_issued_at=signed_at))
    found = await store.sessions.get(TENANT, session.session_id)
    assert found is not None
    assert found.session.proofs_ended
    later = revoked.revoked_at + timedelta(seconds=1)
    opened = await store.sessions.open(TENANT, session, token=issue("t-3", task_issued_at=later))
    assert not opened.session.proofs_ended


async def test_decision_that_was_taken_before_its_proof_was_revoked_does_not_commit(store: Store) -> None:
    session = await fresh(store)
    await store.sessions.open(TENANT, session, token=issue("t-1"))
    key = builders.key(session.session_id)
    facts = await store.information_point.gather(builders.facts_request(key))
    await store.sessions.revoke_proofs(TENANT, session.session_id, by=builders.AUTHOR)
    with pytest.raises(SessionMovedError):
        await store.ledger.record(builders.recording(key, epoch=facts.epoch, moves=facts.session))
