"""Verification: what a chain of grants proves, and every way to break one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pdp.delegation.tokens import GrantTokens
from pdp.model import (
    Boundary,
    ChainProblem,
    GrantRow,
    Hop,
    ResourceRule,
    ToolEffect,
    grant_hash,
)
from tests.support import builders, chains
from tests.support.chains import Link, chain_of, grant_of, link, new_grants, prove, speaker

READ = ToolEffect.READ


SESSION = builders.session(agent="agent:a")
OTHER_SESSION = builders.session(agent="agent:a")
NARROW = Boundary(tools=(), effects=(READ,), resources=(ResourceRule(type="invoice", id="INV-1001"),))


async def test_chain_of_grants_is_proven() -> None:
    grants = await new_grants()
    links = await chain_of(grants, SESSION, "agent:b", "agent:c")
    chain = await prove(grants, SESSION, links)
    assert (chain.problems, chain.proven) == ((), True)
    assert chain.path == tuple(grant_hash(link.hop.grant) for link in links)
    assert [(hop.agent, hop.depth, hop.delegated_by, hop.same_runtime) for hop in chain.hops] == [
        ("agent:a", 0, builders.ISSUER, False),
        ("agent:b", 1, "svc-agent:a", False),
        ("agent:c", 2, "svc-agent:b", False),
    ]
    assert chain.leaf == chain.hops[-1]
    assert {hop.boundary for hop in chain.hops} == {SESSION.boundary}


async def test_hop_of_the_same_credential_is_marked() -> None:
    """Credentials of the hops here: svc-x, svc-x, svc-y, svc-y."""
    grants = await new_grants()
    links: list[Link] = []
    for agent, by in (("a", None), ("b", "svc-x"), ("c", "svc-x"), ("d", "svc-y")):
        grant = grant_of(SESSION, links, agent=f"agent:{agent}", delegated_by=by)
        links.append(await link(grants, grant))
    caller = builders.caller(subject="svc-y", agents=frozenset({"agent:d"}))
    chain = await prove(grants, SESSION, links, by=caller)
    assert chain.proven
    assert [hop.same_runtime for hop in chain.hops] == [False, True, False, True]
    assert [hop.own_runtime for hop in chain.hops] == [True, False, True, False]


async def test_credential_that_comes_back_is_not_the_hops_own() -> None:
    """Credentials of the hops here: svc-x, svc-y, svc-x."""
    grants = await new_grants()
    links: list[Link] = []
    for agent, by in (("a", None), ("b", "svc-x"), ("c", "svc-y")):
        grant = grant_of(SESSION, links, agent=f"agent:{agent}", delegated_by=by)
        links.append(await link(grants, grant))
    caller = builders.caller(subject="svc-x", agents=frozenset({"agent:c"}))
    chain = await prove(grants, SESSION, links, by=caller)
    assert [hop.same_runtime for hop in chain.hops] == [False, False, False]
    assert [hop.own_runtime for hop in chain.hops] == [True, True, False]


@pytest.mark.parametrize("hops", [(), (Hop(agent="agent:a"),)])
async def test_without_grants_the_sessions_own_agent_acts(hops: tuple[Hop, ...]) -> None:
    grants = await new_grants()
    chain = await prove(grants, SESSION, (), hops=hops, by=speaker("agent:a"))
    assert chain.proven
    assert chain.path == ()
    assert [(hop.agent, hop.grant_hash) for hop in chain.hops] == [("agent:a", "")]


async def test_stranger_proves_nothing_and_learns_nothing() -> None:
    grants = await new_grants()
    for session in (SESSION, None):
        nothing = await prove(grants, session, (), by=speaker("agent:z"))
        assert (nothing.proven, nothing.problems, nothing.hops) == (False, (), ())
        for hops in ([Hop(agent="agent:a")], [Hop(agent="agent:z")], [Hop(agent="agent:a", grant="x")]):
            chain = await prove(grants, session, (), hops=hops, by=speaker("agent:z"))
            assert not chain.proven
            assert chain.problems == (ChainProblem(code="chain.invalid", at="chain[0]"),)


async def test_agent_alone_needs_to_be_the_sessions() -> None:
    grants = await new_grants()
    both = builders.caller(agents=frozenset({"agent:a", "agent:b"}))
    chain = await prove(grants, SESSION, (), hops=[Hop(agent="agent:b")], by=both)
    assert chain.problems == (ChainProblem(code="chain.invalid", at="chain[0]"),)


Broken = Callable[[GrantTokens], Awaitable[tuple[Link, ...]]]


def third(**changes: Any) -> Broken:
    """A chain of three whose last grant is not what it should be."""

    async def build(grants: GrantTokens) -> tuple[Link, ...]:
        links = await chain_of(grants, SESSION, "agent:b")
        grant = replace(grant_of(SESSION, links, agent="agent:c"), **changes)
        return (*links, await link(grants, grant))

    return build


def first(**changes: Any) -> Broken:
    async def build(grants: GrantTokens) -> tuple[Link, ...]:
        return (await link(grants, replace(grant_of(SESSION, agent="agent:a"), **changes)),)

    return build


async def _of_a_key_that_nobody_registered(grants: GrantTokens) -> tuple[Link, ...]:
    links = await chain_of(grants, SESSION, "agent:b")
    forger = await new_grants()
    return (*links, await link(forger, grant_of(SESSION, links, agent="agent:c")))


async def _cycle(grants: GrantTokens) -> tuple[Link, ...]:
    return await chain_of(grants, SESSION, "agent:b", "agent:a")


async def _too_deep(grants: GrantTokens) -> tuple[Link, ...]:
    return await chain_of(grants, SESSION, *(f"agent:{name}" for name in "bcdef"))


async def _middle_revoked(grants: GrantTokens) -> tuple[Link, ...]:
    links = await chain_of(grants, SESSION, "agent:b", "agent:c")
    return links[0], chains.revoke_link(links[1]), links[2]


async def _wider_than_its_parent(grants: GrantTokens) -> tuple[Link, ...]:
    """The last one is as wide as the first, and the one between them is not."""
    links = list(await chain_of(grants, SESSION))
    links.append(await link(grants, grant_of(SESSION, links, agent="agent:b", boundary=NARROW)))
    grant = grant_of(SESSION, links, agent="agent:c", boundary=SESSION.boundary)
    return (*links, await link(grants, grant))


async def _of_another_session(grants: GrantTokens) -> tuple[Link, ...]:
    return await chain_of(grants, OTHER_SESSION, "agent:b", "agent:c")


BREACHES: dict[str, tuple[Broken, list[tuple[str, str]]]] = {
    "a foreign key": (_of_a_key_that_nobody_registered, [("chain.invalid", "chain[2]")]),
    "another parent": (third(parent="00" * 32), [("chain.invalid", "chain[2]")]),
    "no parent": (third(parent=None), [("chain.invalid", "chain[2]")]),
    "another depth": (third(depth=1), [("chain.invalid", "chain[2]")]),
    "another task": (third(task_id="T-else"), [("chain.invalid", "chain[2]")]),
    "other actors": (third(actors=("agent:b",)), [("chain.invalid", "chain[2]")]),
    "another session": (third(session_id="s-else"), [("chain.foreign", "chain[2]")]),
    "another tenant": (third(tenant="globex"), [("chain.foreign", "chain[2]")]),
    "a chain of another session": (
        _of_another_session,
        [("chain.foreign", f"chain[{depth}]") for depth in range(3)],
    ),
    "expired": (third(expires_at=builders.NOW), [("chain.expired", "chain[2]")]),
    "longer than its parent": (
        third(expires_at=SESSION.expires_at + timedelta(seconds=1)),
        [("chain.exceeds_parent", "chain[2]")],
    ),
    "longer than its session": (
        first(expires_at=SESSION.expires_at + timedelta(seconds=1)),
        [("chain.exceeds_parent", "chain[0]")],
    ),
    "a root of another agent": (first(agent="agent:b"), [("chain.invalid", "chain[0]")]),
    "a root that is wider than its session": (
        first(boundary=replace(SESSION.boundary, effects=tuple(ToolEffect))),
        [("chain.invalid", "chain[0]")],
    ),
    "a root that is narrower, and would not be judged": (
        first(boundary=NARROW),
        [("chain.invalid", "chain[0]")],
    ),
    "wider than its parent": (_wider_than_its_parent, [("chain.exceeds_parent", "chain[2]")]),
    "an agent twice": (_cycle, [("chain.cycle", "chain[2]")]),
    "too many delegations": (_too_deep, [("chain.too_deep", "chain[5]")]),
    "revoked above": (_middle_revoked, [("chain.revoked", "chain[1]")]),
}


@pytest.mark.parametrize(("build", "problems"), BREACHES.values(), ids=list(BREACHES))
async def test_breach_is_named_with_its_hop(build: Broken, problems: list[tuple[str, str]]) -> None:
    grants = await new_grants()
    links = await build(grants)
    chain = await prove(grants, SESSION, links)
    assert [(problem.code, problem.at) for problem in chain.problems] == problems
    assert (chain.proven, chain.path, chain.leaf) == (False, (), None)
    broken_at = int(problems[0][1][6])
    assert [hop.verified for hop in chain.hops] == [index < broken_at for index in range(len(links))]
    assert all(hop.boundary == Boundary() for hop in chain.hops if not hop.verified)


async def test_grant_without_a_row_is_none() -> None:
    """A signature alone makes no grant: a stolen key would be enough otherwise."""
    grants = await new_grants()
    links = await chain_of(grants, SESSION, "agent:b", "agent:c")
    sent = [link.hop for link in links]
    chain = await prove(grants, SESSION, (links[0], links[2]), hops=sent)
    assert chain.problems == (ChainProblem(code="chain.invalid", at="chain[1]"),)


@pytest.mark.parametrize(
    "change", [{"session_id": "s-else"}, {"agent": "agent:z"}, {"depth": 0}, {"parent_hash": "00" * 32}]
)
async def test_row_that_contradicts_its_grant_proves_nothing(change: dict[str, Any]) -> None:
    grants = await new_grants()
    links = await chain_of(grants, SESSION, "agent:b")
    odd: GrantRow = links[1].row._replace(**change)
    chain = await prove(grants, SESSION, (links[0], replace(links[1], row=odd)))
    assert chain.problems == (ChainProblem(code="chain.invalid", at="chain[1]"),)


async def test_holder_of_a_grant_above_proves_nothing_by_those_below() -> None:
    grants = await new_grants()
    links = await chain_of(grants, SESSION, "agent:b", "agent:c")
    for agent in ("agent:a", "agent:b", "agent:z"):
        chain = await prove(grants, SESSION, links, by=speaker(agent))
        assert chain.problems == (ChainProblem(code="chain.not_holder", at="chain[2]"),)
        assert not chain.proven


async def test_grant_does_not_serve_another_agent_that_its_hop_names() -> None:
    grants = await new_grants()
    links = await chain_of(grants, SESSION, "agent:b", "agent:c")
    named = (links[0].hop, links[1].hop, replace(links[2].hop, agent="agent:z"))
    chain = await prove(grants, SESSION, links, hops=named, by=speaker("agent:z"))
    assert chain.problems == (ChainProblem(code="chain.invalid", at="chain[2]"),)


async def test_grant_that_contradicts_its_row_proves_nothing() -> None:
    grants = await new_grants()
    links = await chain_of(grants, SESSION, "agent:b")
    astray = await link(grants, replace(grant_of(SESSION, links, agent="agent:c"), parent="00" * 32))
    row = astray.row._replace(parent_hash=links[1].row.grant_hash)
    chain = await prove(grants, SESSION, (*links, replace(astray, row=row)))
    assert chain.problems == (ChainProblem(code="chain.invalid", at="chain[2]"),)


async def test_tenant_decides_how_long_a_chain_may_be() -> None:
    grants = await new_grants()
    links = await chain_of(grants, SESSION, "agent:b", "agent:c")
    assert (await prove(grants, SESSION, links, max_depth=2)).proven
    chain = await prove(grants, SESSION, links, max_depth=1)
    assert chain.problems == (ChainProblem(code="chain.too_deep", at="chain[2]"),)


async def test_problems_of_several_hops_are_all_named() -> None:
    grants = await new_grants()
    links = await chain_of(grants, SESSION, "agent:b", "agent:c")
    late = SESSION.expires_at
    chain = await prove(grants, SESSION, (links[0], chains.revoke_link(links[1]), links[2]), now=late)
    assert [(problem.code, problem.at) for problem in chain.problems] == [
        ("chain.expired", "chain[0]"),
        ("chain.expired", "chain[1]"),
        ("chain.revoked", "chain[1]"),
        ("chain.expired", "chain[2]"),
    ]


async def _four() -> tuple[GrantTokens, tuple[Link, ...], tuple[Link, ...]]:
    grants = await new_grants()
    own = await chain_of(grants, SESSION, "agent:b", "agent:c", "agent:d")
    return grants, own, await chain_of(grants, OTHER_SESSION, "agent:b", "agent:c", "agent:d")


GRANTS, FOUR, FOREIGN = asyncio.run(_four())
_places = st.integers(0, 3)


@st.composite
def tampered(draw: st.DrawFn) -> tuple[str, list[Hop]]:
    """The chain of four, changed in one way."""
    hops = [link.hop for link in FOUR]
    way = draw(st.sampled_from(["bit", "left out", "swapped", "order", "twice", "foreign", "cut", "agent"]))
    i, j = draw(_places), draw(_places)
    match way:
        case "bit":
            text = hops[i].grant.encode()
            at, bit = draw(st.integers(0, len(text) - 1)), draw(st.integers(0, 6))
            flipped = text[:at] + bytes([text[at] ^ (1 << bit)]) + text[at + 1 :]
            hops[i] = replace(hops[i], grant=flipped.decode())
        case "left out":
            del hops[i]
        case "swapped":
            hops[i], hops[(i + 1 + j % 3) % 4] = hops[(i + 1 + j % 3) % 4], hops[i]
        case "order":
            hops = draw(st.permutations(hops).filter(lambda order: order != hops))
        case "twice":
            hops.insert(j, hops[i])
        case "foreign":
            hops[i] = FOREIGN[i].hop
        case "cut":
            hops[i] = replace(hops[i], grant=hops[i].grant[: draw(st.integers(0, len(hops[i].grant) - 1))])
        case "agent":
            hops[i] = replace(hops[i], agent=hops[(i + 1) % 4].agent)
    return way, hops


@given(tampered())
@settings(max_examples=300, deadline=None)
def test_chain_that_was_changed_proves_nothing(change: tuple[str, list[Hop]]) -> None:
    _, hops = change
    chain = asyncio.run(prove(GRANTS, SESSION, (*FOUR, *FOREIGN), hops=hops, by=speaker("agent:d")))
    assert chain.problems
    assert (chain.proven, chain.path) == (False, ())


def test_chain_that_was_not_changed_is_proven() -> None:
    chain = asyncio.run(prove(GRANTS, SESSION, FOUR))
    assert chain.proven
