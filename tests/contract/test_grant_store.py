"""What every grant store promises."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from pdp.errors import SessionMovedError, StoreUnavailableError, TenantUnknownError
from pdp.model import Effect, FactsRequest, GrantRow, Session
from tests.contract.conftest import Store
from tests.support import builders
from tests.support.builders import TENANT


async def opened(store: Store) -> Session:
    await store.control_plane.put_tenant(TENANT, b"{}", by=builders.AUTHOR)
    now = await store.clock.advance(0)
    return (await store.sessions.open(TENANT, builders.session(now=now))).session


def row(session: Session, name: str, *, parent: GrantRow | None = None) -> GrantRow:
    return GrantRow(
        grant_hash=name * 64,
        session_id=session.session_id,
        parent_hash=None if parent is None else parent.grant_hash,
        agent=f"agent:{name}",
        delegated_by="svc-ap",
        depth=0 if parent is None else parent.depth + 1,
        purpose="look it up",
        issued_at=session.opened_at,
        expires_at=session.opened_at + timedelta(minutes=5),
    )


async def path(store: Store, session: Session) -> list[GrantRow]:
    """Three grants, each from the one before, stored."""
    rows: list[GrantRow] = []
    for name in "abc":
        rows.append(row(session, name, parent=rows[-1] if rows else None))
        await store.grants.add_grant(TENANT, rows[-1])
    return rows


def asks_for(session: Session, *names: str) -> FactsRequest:
    return replace(builders.facts_request(builders.key(session.session_id)), grants=names)


async def test_grant_is_found_with_all_that_it_was_delegated_from(store: Store) -> None:
    rows = await path(store, await opened(store))
    assert list(await store.grants.grant_path(TENANT, rows[-1].grant_hash)) == rows
    assert list(await store.grants.grant_path(TENANT, rows[0].grant_hash)) == rows[:1]


async def test_grant_of_nobody_is_none(store: Store) -> None:
    session = await opened(store)
    await path(store, session)
    for name in ("d" * 64, "", "a\0"):
        assert not await store.grants.grant_path(TENANT, name)
        assert await store.grants.revoke_grant(TENANT, name, by="ops", reason="") is None
    assert not await store.grants.grant_path("globex", "a" * 64)
    assert await store.grants.revoke_grant("globex", "a" * 64, by="ops", reason="") is None


async def test_grant_is_stored_once(store: Store) -> None:
    session = await opened(store)
    await store.grants.add_grant(TENANT, row(session, "a"))
    with pytest.raises(StoreUnavailableError):
        await store.grants.add_grant(TENANT, row(session, "a")._replace(agent="agent:other"))
    assert list(await store.grants.grant_path(TENANT, "a" * 64)) == [row(session, "a")]


async def test_grant_of_an_unknown_tenant_is_an_error(store: Store) -> None:
    session = await opened(store)
    with pytest.raises(TenantUnknownError):
        await store.grants.add_grant("nobody", row(session, "a"))


async def test_facts_have_the_grants_that_are_asked_for(store: Store) -> None:
    session = await opened(store)
    rows = await path(store, session)
    facts = await store.information_point.gather(asks_for(session, "c" * 64, "a" * 64, "f" * 64))
    assert facts.grants == {"a" * 64: rows[0], "c" * 64: rows[2]}
    assert (await store.information_point.gather(asks_for(session))).grants == {}


async def test_revoking_holds_from_its_answer_on_and_moves_the_epoch_once(store: Store) -> None:
    session = await opened(store)
    rows = await path(store, session)
    before = await store.information_point.gather(asks_for(session, rows[1].grant_hash))
    revoked = await store.grants.revoke_grant(TENANT, rows[1].grant_hash, by="ops", reason="stolen")
    assert revoked is not None
    assert revoked.revoked_at is not None
    assert (revoked.revoked_by, revoked.revoke_reason) == ("ops", "stolen")
    after = await store.information_point.gather(asks_for(session, rows[1].grant_hash))
    assert after.grants == {rows[1].grant_hash: revoked}
    assert after.epoch == before.epoch + 1
    again = await store.grants.revoke_grant(TENANT, rows[1].grant_hash, by="other", reason="again")
    assert again == revoked
    assert (await store.information_point.gather(asks_for(session))).epoch == after.epoch


async def test_decision_that_was_taken_before_a_revocation_does_not_commit_after_it(store: Store) -> None:
    session = await opened(store)
    rows = await path(store, session)
    key = builders.key(session.session_id, leaf_grant=rows[2].grant_hash)
    facts = await store.information_point.gather(
        replace(builders.facts_request(key), grants=(key.leaf_grant,))
    )
    await store.grants.revoke_grant(TENANT, rows[1].grant_hash, by="ops", reason="")
    with pytest.raises(SessionMovedError):
        await store.ledger.record(builders.recording(key, epoch=facts.epoch, moves=facts.session))


async def test_decisions_are_listed_by_the_grant_that_was_acted_on(store: Store) -> None:
    session = await opened(store)
    rows = await path(store, session)
    decided: list[str] = []
    calls = (("", Effect.ALLOW), ("b", Effect.ALLOW), ("b", Effect.BLOCK), ("b", Effect.ALLOW))
    for number, (grant, effect) in enumerate(calls):
        key = builders.key(session.session_id, leaf_grant=grant * 64)
        facts = await store.information_point.gather(builders.facts_request(key))
        recording = builders.recording(key, epoch=facts.epoch, moves=facts.session, effect=effect)
        decided.append(f"{session.session_id}-{number}")
        decision = replace(recording.decision, decision_id=decided[-1])
        await store.ledger.record(replace(recording, decision=decision))
    # This decision is a stranger's, who names the session and moves nothing.
    key = builders.key(session.session_id, by="svc-else")
    await store.ledger.record(builders.recording(key, epoch=facts.epoch))
    names = ["", *(each.grant_hash for each in rows)]
    found = await store.grants.grant_decisions(TENANT, session.session_id, names, limit=2)
    assert {name: list(decisions) for name, decisions in found.items()} == {
        "": [(decided[0], Effect.ALLOW)],
        "b" * 64: [(decided[3], Effect.ALLOW), (decided[2], Effect.BLOCK)],
    }
    assert not await store.grants.grant_decisions(TENANT, "another", names, limit=2)


async def test_grants_are_kept_with_what_they_permit(store: Store) -> None:
    session, bounds = await opened(store), builders.boundary()
    root = row(session, "a")
    leaf = row(session, "b", parent=root)
    await store.grants.add_grant(TENANT, root, boundary=bounds)
    # As an earlier server did.
    await store.grants.add_grant(TENANT, leaf)
    found = await store.grants.stored_grants(TENANT, leaf.grant_hash)
    assert [(each.row, each.boundary) for each in found] == [(root, bounds), (leaf, None)]
    assert list(await store.grants.stored_grants(TENANT, "nothing")) == []


async def test_grants_of_a_session_are_those_in_force(store: Store) -> None:
    session = await opened(store)
    rows = await path(store, session)
    listed = await store.grants.session_grants(TENANT, session.session_id, limit=10)
    assert [grant.row for grant in listed] == rows
    assert len(await store.grants.session_grants(TENANT, session.session_id, limit=2)) == 2
    await store.grants.revoke_grant(TENANT, rows[1].grant_hash, by="svc", reason="")
    listed = await store.grants.session_grants(TENANT, session.session_id, limit=10)
    assert [grant.row for grant in listed] == [rows[0], rows[2]]
    await store.clock.advance(600)
    for name in (session.session_id, "other", "a\0"):
        assert not await store.grants.session_grants(TENANT, name, limit=10)
