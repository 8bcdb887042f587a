"""What every information point promises."""

from __future__ import annotations

import asyncio
from decimal import Decimal

import pytest

from pdp.errors import DeadlineExceededError, SessionMovedError, TenantUnknownError
from pdp.model import Effect, FactsRequest, Session
from tests.contract.conftest import Store
from tests.support import builders
from tests.support.builders import AGENT, TENANT


@pytest.fixture
async def session(store: Store) -> Session:
    await store.control_plane.put_tenant(TENANT, b'{"trust_floor": {"pay": 0.5}}', by=builders.AUTHOR)
    await store.control_plane.put_agents(
        TENANT, [builders.agent(), builders.agent("agent:other")], by=builders.AUTHOR
    )
    await store.control_plane.put_tools(TENANT, [builders.tool()], by=builders.AUTHOR)
    now = await store.clock.advance(0)
    return (await store.sessions.open(TENANT, builders.session(now=now))).session


async def test_everything_is_known_of_a_known_action(store: Store, session: Session) -> None:
    facts = await store.information_point.gather(builders.facts_request(builders.key(session.session_id)))
    assert facts.session == session
    assert facts.tool is not None
    assert facts.agents == {AGENT: builders.agent()}
    assert facts.settings == {"trust_floor": {"pay": Decimal("0.5")}}
    assert facts.prior is None
    assert facts.now >= session.opened_at


async def test_the_sessions_own_agent_is_known_unasked(store: Store, session: Session) -> None:
    key = builders.key(session.session_id)
    facts = await store.information_point.gather(builders.facts_request(key, agents=()))
    assert facts.agents == {AGENT: builders.agent()}
    facts = await store.information_point.gather(
        builders.facts_request(key, agents=("agent:other", "agent:unknown", 'odd "name"\\{,}', ""))
    )
    assert set(facts.agents) == {AGENT, "agent:other"}


async def test_what_is_unknown_is_absent(store: Store, session: Session) -> None:
    facts = await store.information_point.gather(
        builders.facts_request(builders.key("nothing"), tool="nothing", agents=("agent:nothing",))
    )
    assert (facts.session, facts.tool, facts.prior, facts.agents) == (None, None, None, {})


async def test_other_tenants_are_invisible(store: Store, session: Session) -> None:
    await store.control_plane.put_tenant("globex", b"{}", by=builders.AUTHOR)
    key = builders.key(session.session_id, tenant="globex")
    facts = await store.information_point.gather(builders.facts_request(key))
    assert (facts.session, facts.tool, facts.agents, facts.settings) == (None, None, {}, {})


async def test_unknown_tenant_is_an_error(store: Store) -> None:
    with pytest.raises(TenantUnknownError):
        await store.information_point.gather(builders.facts_request(builders.key("s", tenant="nobody")))


async def test_past_deadline_is_an_error(store: Store, session: Session) -> None:
    with pytest.raises(DeadlineExceededError):
        await store.information_point.gather(
            builders.facts_request(builders.key(session.session_id), seconds=-0.001)
        )


async def test_many_at_once_each_get_their_own(store: Store, session: Session) -> None:
    await store.control_plane.put_tenant("globex", b'{"g": 1}', by=builders.AUTHOR)
    now = await store.clock.advance(0)
    sessions = [(await store.sessions.open(TENANT, builders.session(now=now))).session for _ in range(20)]

    async def ask(n: int) -> None:
        if n % 5 == 0:
            with pytest.raises(TenantUnknownError):
                await store.information_point.gather(
                    builders.facts_request(builders.key("s", tenant=f"nobody-{n}"))
                )
        elif n % 3 == 0:
            facts = await store.information_point.gather(
                builders.facts_request(builders.key("s", tenant="globex"))
            )
            assert facts.settings == {"g": 1}
        else:
            key = builders.key(sessions[n % 20].session_id)
            facts = await store.information_point.gather(builders.facts_request(key))
            assert facts.session == sessions[n % 20]
            assert facts.settings == {"trust_floor": {"pay": Decimal("0.5")}}

    await asyncio.gather(*(ask(n) for n in range(200)))


async def test_cancelled_caller_hurts_nobody(store: Store, session: Session) -> None:
    requests = [builders.facts_request(builders.key(session.session_id)) for _ in range(32)]
    tasks = [asyncio.create_task(_gather(store, request)) for request in requests]
    for task in tasks[::2]:
        task.cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(result == session for result in results[1::2])


async def _gather(store: Store, request: FactsRequest) -> Session | None:
    return (await store.information_point.gather(request)).session


async def test_prior_is_the_keys_latest_decision(store: Store, session: Session) -> None:
    key = builders.key(session.session_id)
    facts = await store.information_point.gather(builders.facts_request(key))
    first = builders.recording(
        key,
        epoch=facts.epoch,
        moves=facts.session,
        effect=Effect.BLOCK,
        retryable=True,
        decided_at=facts.now.replace(microsecond=0),
    )
    position = await store.ledger.record(first)
    facts = await store.information_point.gather(builders.facts_request(key))
    assert facts.prior is not None
    assert facts.prior.decision_id == first.decision.decision_id
    assert facts.prior.token == first.receipt.token
    assert facts.prior.position == position
    assert facts.prior.effect is Effect.BLOCK
    assert facts.prior.retryable
    assert facts.prior.expires_at == first.decision.expires_at
    assert facts.prior.action_fingerprint == first.action_fingerprint
    second = builders.recording(
        key, epoch=facts.epoch, moves=facts.session, prior_decision_id=facts.prior.decision_id
    )
    await store.ledger.record(second)
    facts = await store.information_point.gather(builders.facts_request(key))
    assert facts.prior is not None
    assert facts.prior.decision_id == second.decision.decision_id


@pytest.mark.parametrize(
    "other",
    [
        {"by": "svc-other"},
        {"leaf_grant": "ab" * 32},
        {"tool_call_id": "another"},
        {"review_id": "r-1"},
        {"review_id": ""},
        {"tenant": "globex"},
    ],
    ids=str,
)
async def test_another_key_has_no_prior(store: Store, session: Session, other: dict[str, str]) -> None:
    await store.control_plane.put_tenant("globex", b"{}", by=builders.AUTHOR)
    key = builders.key(session.session_id, tool_call_id="call")
    facts = await store.information_point.gather(builders.facts_request(key))
    await store.ledger.record(builders.recording(key, epoch=facts.epoch, moves=facts.session))
    another = builders.key(session.session_id, **{"tool_call_id": "call", **other})  # type: ignore[arg-type]
    assert (await store.information_point.gather(builders.facts_request(another))).prior is None
    same = builders.key(session.session_id, tool_call_id="call")
    assert (await store.information_point.gather(builders.facts_request(same))).prior is not None


async def test_nothing_stale_is_served(store: Store, session: Session) -> None:
    key = builders.key(session.session_id)
    before = await store.information_point.gather(builders.facts_request(key))
    await store.control_plane.put_agents(TENANT, [builders.agent(trust=Decimal("0.1"))], by=builders.AUTHOR)
    after = await store.information_point.gather(builders.facts_request(key))
    assert after.agents[AGENT].trust == Decimal("0.1")
    with pytest.raises(SessionMovedError):
        await store.ledger.record(builders.recording(key, epoch=before.epoch, moves=before.session))
