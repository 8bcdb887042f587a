"""Which tools a session leaves its agent, on fakes; tests/e2e/test_listing.py compares with policy."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pdp.delegation.chain import Chains
from pdp.errors import OverloadedError
from pdp.model import Caller, Hop, Session, ToolEffect
from pdp.sessions.allowed_tools import AllowedTools, Listing
from tests.fakes.store import FakeStore
from tests.support import builders, chains
from tests.support.builders import AGENT, TENANT

CALLER = builders.caller()
STRANGER = builders.caller(subject="svc-other", agents=frozenset({"agent:other"}))


class Bench:
    def __init__(self, store: FakeStore, session: Session, listing: Listing) -> None:
        self.store = store
        self.session = session
        self.listing = listing

    async def ask(self, caller: Caller = CALLER, *, hops: tuple[Hop, ...] = ()) -> AllowedTools:
        return await self.listing.allowed(caller, self.session.session_id, **builders.shown("", *hops))


@pytest.fixture
async def bench() -> Bench:
    store = FakeStore()
    await store.control_plane.put_tenant(TENANT, b"{}", by=builders.AUTHOR)
    session = (await store.sessions.open(TENANT, builders.session(now=await store.clock.now()))).session
    reading = Chains(store.information_point, await chains.new_grants(store.keys))
    return Bench(store, session, Listing(reading, store.control_plane))


async def test_tools_of_every_page_are_listed_by_name(bench: Bench) -> None:
    names = [f"read.{number:03}" for number in range(120)]
    read = builders.tool(effect=ToolEffect.READ, amount=None)
    elsewhere = builders.tool("send", effect=ToolEffect.SEND, amount=None)
    await bench.store.control_plane.put_tools(
        TENANT, [elsewhere, *(replace(read, name=name) for name in names)], by=builders.AUTHOR
    )
    allowed = await bench.ask()
    assert [tool.name for tool in allowed.tools] == names
    assert (allowed.tools_revision, allowed.session_version) == (1, bench.session.version)


async def test_stranger_is_told_of_no_session_and_no_tools(bench: Bench) -> None:
    await bench.store.control_plane.put_tools(TENANT, [builders.tool()], by=builders.AUTHOR)
    assert await bench.ask(STRANGER) == AllowedTools(tools=(), tools_revision=0, session_version=0)


async def test_chain_that_is_not_proven_leaves_no_tool(bench: Bench) -> None:
    await bench.store.control_plane.put_tools(TENANT, [builders.tool()], by=builders.AUTHOR)
    unproven = await bench.ask(hops=(Hop(agent=AGENT, grant="no grant"),))
    assert unproven == AllowedTools(tools=(), session_version=bench.session.version)


async def test_who_asks_too_often_is_turned_away_and_others_are_not(bench: Bench) -> None:
    async def ask_often() -> None:
        for _ in range(60):
            await bench.ask()

    with pytest.raises(OverloadedError):
        await ask_often()
    await bench.ask(STRANGER)
