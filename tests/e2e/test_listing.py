"""ListAllowedTools is sound: what is not listed is blocked, whatever its arguments."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from placet import Client, DevIdentity, Effect, OverloadedError
from placet._calls.action import Hops
from placet.model import Session
from tests.e2e.scene import AGENT, HELPER, PAY, PRINCIPAL, READ, TOOLS, TRANSFER, new_call
from tests.support.processes import PATIENCE
from tests.support.stack import RealPdp

NAMES = [READ, PAY, TRANSFER]
ARGUMENTS: list[dict[str, Any]] = [
    {"invoice": "INV-1"},
    {"invoice": "INV-1", "amount": "1.00", "currency": "EUR"},
    {"invoice": "X", "amount": 0, "currency": "USD"},
    {"invoice": "INV-1", "amount": "1", "currency": "EUR", "pin": "1"},
]
boundaries = st.fixed_dictionaries(
    {
        "tools": st.lists(st.sampled_from(NAMES), unique=True),
        "effects": st.lists(st.sampled_from(["read", "pay", "write"]), unique=True, max_size=1),
        "resources": st.lists(st.sampled_from(["invoice:*", "invoice:INV-1", "vendor:*"]), max_size=2),
        "amounts": st.sampled_from([{}, {"EUR": "100.00"}]),
        "after_completion": st.lists(st.sampled_from(NAMES), max_size=1),
    }
)


@pytest.fixture
def tenant(real_pdp: RealPdp) -> str:
    return real_pdp.fresh_tenant()


def found_sound(ops: Client, session: Session, listed: set[str], *, agent: str, chain: Hops = ()) -> set[str]:
    """Return the tools that some arguments are allowed for; what is not listed is blocked for all."""
    allowed = set()
    for tool in NAMES:
        effects = {
            ops.simulate(
                {"tool": tool, "arguments": arguments, "tool_call_id": new_call()},
                session=session,
                subject="svc",
                agents=[agent],
                chain=chain,
            ).would_be
            for arguments in ARGUMENTS
        }
        if tool not in listed:
            assert effects == {Effect.BLOCK}, tool
        if Effect.ALLOW in effects:
            allowed.add(tool)
    return allowed


def test_what_is_not_listed_is_blocked_for_all_arguments(real_pdp: RealPdp, tenant: str) -> None:
    def client(subject: str, *roles: str) -> Client:
        identity = DevIdentity(tenant=tenant, subject=subject, roles=roles, agents=[AGENT])
        return Client(real_pdp.target, identity=identity, timeout=PATIENCE)

    with client("ops", "operator", "session_issuer", "policy_author") as ops:
        ops.put_tenant({})
        ops.put_agents([{"agent": AGENT, "trust": 0.9}])
        ops.put_tools(TOOLS)
        numbers = iter(range(10_000))
        allowed: set[str] = set()

        @settings(max_examples=25, deadline=None, database=None, suppress_health_check=list(HealthCheck))
        @given(boundaries, st.booleans())
        def sound(boundary: dict[str, Any], completed: bool) -> None:
            session = ops.open_session(
                task=f"T-{next(numbers)}", principal=PRINCIPAL, agent=AGENT, boundary=boundary
            )
            if completed:
                ops.complete_task(session)
            with client(new_call(), "agent") as agent:
                listed = {tool.name for tool in agent.list_allowed_tools(session)}
            allowed.update(found_sound(ops, session, listed, agent=AGENT))

        sound()
        assert allowed, "nothing was ever allowed, so nothing was shown"


def test_what_a_grant_does_not_list_is_blocked_on_its_chain_for_all_arguments(
    real_pdp: RealPdp, tenant: str
) -> None:
    def client(subject: str, agent: str, *roles: str) -> Client:
        identity = DevIdentity(tenant=tenant, subject=subject, roles=roles, agents=[agent])
        return Client(real_pdp.target, identity=identity, timeout=PATIENCE)

    everything = {
        "tools": NAMES,
        "effects": ["read", "pay", "write"],
        "resources": ["invoice:*", "vendor:*"],
        "amounts": {"EUR": "100.00"},
        "after_completion": NAMES,
    }
    with (
        client("ops", AGENT, "operator", "session_issuer", "policy_author") as ops,
        client("owner", AGENT, "agent") as owner,
    ):
        ops.put_tenant({})
        ops.put_agents([{"agent": agent, "trust": 0.9} for agent in (AGENT, HELPER)])
        ops.put_tools(TOOLS)
        numbers = iter(range(10_000))
        allowed: set[str] = set()

        @settings(max_examples=25, deadline=None, database=None, suppress_health_check=list(HealthCheck))
        @given(boundaries, st.booleans())
        def sound(boundary: dict[str, Any], completed: bool) -> None:
            session = ops.open_session(
                task=f"T-{next(numbers)}", principal=PRINCIPAL, agent=AGENT, boundary=everything
            )
            chain = owner.delegate(session, to_agent=HELPER, boundary=boundary).chain
            if completed:
                ops.complete_task(session)
            with client(new_call(), HELPER, "agent") as helper:
                listed = {tool.name for tool in helper.list_allowed_tools(session, chain=chain)}
            allowed.update(found_sound(ops, session, listed, agent=HELPER, chain=chain))

        sound()
        assert allowed, "nothing was ever allowed, so nothing was shown"


def test_stranger_is_listed_nothing_and_who_asks_too_often_is_turned_away(
    real_pdp: RealPdp, tenant: str
) -> None:
    identity = DevIdentity(tenant=tenant, subject="ops", roles=["operator", "session_issuer"])
    with Client(real_pdp.target, identity=identity, timeout=PATIENCE) as ops:
        ops.put_tenant({})
        ops.put_tools(TOOLS)
        session = ops.open_session(
            task="T", principal=PRINCIPAL, agent=AGENT, boundary={"tools": NAMES, "resources": ["invoice:*"]}
        )
    stranger = DevIdentity(tenant=tenant, subject="stranger", roles=["agent"], agents=["agent:other"])
    with Client(real_pdp.target, identity=stranger, timeout=PATIENCE) as other:
        assert other.list_allowed_tools(session) == ()

        def too_often() -> None:
            for _ in range(1000):
                other.list_allowed_tools(session)

        with pytest.raises(OverloadedError) as refused:
            too_often()
    assert refused.value.retry_after is not None
