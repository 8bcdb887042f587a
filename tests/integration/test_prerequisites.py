"""Answers to prerequisites on a real database, where an earlier server writes beside this one."""

from __future__ import annotations

from collections.abc import AsyncIterator

import psycopg
import pytest

from pdp.model import Amount, Effect, Outcome, PrerequisiteAllow, PriorAnswer, Session
from pdp.postgres.rows import MAX_USES
from pdp.postgres.store import PostgresStore
from tests.contract.test_entries import say
from tests.contract.test_prerequisites import OWN, answered, consume, free, latest
from tests.support import builders
from tests.support.builders import TENANT

EUR = Amount(minor=100, currency="EUR")
# What that server writes of an answer: it knows no `allows`.
_ANSWER_OF_BEFORE = """
    INSERT INTO placet.prerequisites AS p
        (tenant, session_id, tool, arguments, effect, decision_id, waited, minor, currency)
    VALUES (%s, %s, %s, %s, %s, %s, false, %s, %s)
    ON CONFLICT (tenant, session_id, tool, arguments)
    DO UPDATE SET effect = EXCLUDED.effect, decision_id = EXCLUDED.decision_id,
                  waited = p.waited OR EXCLUDED.waited, minor = EXCLUDED.minor, currency = EXCLUDED.currency
"""


@pytest.fixture
async def store(database_url: str) -> AsyncIterator[PostgresStore]:
    async with PostgresStore.open(database_url, replica="one") as store:
        await store.control_plane.put_tenant(TENANT, b"{}", by=builders.AUTHOR)
        yield store


@pytest.fixture
async def session(store: PostgresStore) -> Session:
    now = await store.clock.now()
    return (await store.sessions.open(TENANT, builders.session(now=now))).session


def answer_as_before(
    database_url: str, session: Session, effect: Effect, decision_id: str, amount: Amount | None = None
) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(
            _ANSWER_OF_BEFORE,
            [
                TENANT,
                session.session_id,
                OWN.tool,
                OWN.arguments,
                effect.value,
                decision_id,
                None if amount is None else amount.minor,
                None if amount is None else amount.currency,
            ],
        )


async def test_allow_that_an_earlier_server_writes_counts_alone(
    database_url: str, store: PostgresStore, session: Session
) -> None:
    answer_as_before(database_url, session, Effect.ALLOW, "old-1", EUR)
    assert await latest(store, session) == PriorAnswer(
        Effect.ALLOW, allows=(PrerequisiteAllow("old-1", EUR),)
    )
    added = await answered(store, session)
    found = await latest(store, session)
    assert found is not None
    assert [allow.decision_id for allow in found.allows] == ["old-1", added.decision.decision_id]
    # It does not know of those that came before.
    answer_as_before(database_url, session, Effect.ALLOW, "old-2")
    assert await latest(store, session) == PriorAnswer(Effect.ALLOW, allows=(PrerequisiteAllow("old-2"),))


async def test_allow_that_an_earlier_server_wrote_is_consumed_once(
    database_url: str, store: PostgresStore, session: Session
) -> None:
    answer_as_before(database_url, session, Effect.ALLOW, "old-1")
    await consume(store, session, await free(store, session))
    assert not (await free(store, session)).is_free


@pytest.mark.parametrize("other", [Effect.BLOCK, Effect.ESCALATE])
async def test_other_answer_of_an_earlier_server_ends_the_allows(
    database_url: str, store: PostgresStore, session: Session, other: Effect
) -> None:
    await answered(store, session)
    answer_as_before(database_url, session, other, "old-1")
    assert await latest(store, session) == PriorAnswer(other)
    again = await answered(store, session)
    found = await latest(store, session)
    assert found is not None
    assert [allow.decision_id for allow in found.allows] == [again.decision.decision_id]


async def test_allow_that_carried_too_many_actions_to_read_is_free_no_more(
    store: PostgresStore, session: Session
) -> None:
    """Every one of them was released; but no more than so many are looked at."""
    await answered(store, session)
    for _ in range(MAX_USES + 1):
        paid = await consume(store, session, await free(store, session))
        await say(store, paid, Outcome.FAILED)
    assert not (await free(store, session)).is_free
