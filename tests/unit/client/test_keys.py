"""The asynchronous client and a key directory that takes its time: nobody else waits for it."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from placet import AsyncClient, Decision
from placet.testing import FakePdp
from tests.support.processes import PATIENCE

READ = "invoices.get"


def read(call: str) -> dict[str, Any]:
    return {"tool": READ, "arguments": {"invoice": "INV-1"}, "tool_call_id": call}


@dataclass(slots=True)
class Directory:
    """Answers once it is told to."""

    url: str
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    may_answer: threading.Event = field(default_factory=threading.Event)


@contextmanager
def directory(pdp: FakePdp) -> Iterator[Directory]:
    loop = asyncio.get_running_loop()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            loop.call_soon_threadsafe(found.asked.set)
            found.may_answer.wait(PATIENCE)
            body = json.dumps(pdp.jwks()).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        found = Directory(f"http://127.0.0.1:{server.server_port}/jwks.json")
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        try:
            yield found
        finally:
            found.may_answer.set()
            server.shutdown()
            serving.join()


@pytest.fixture
def signed() -> Iterator[FakePdp]:
    with FakePdp(signed=True) as pdp:
        pdp.allow(READ)
        yield pdp


@pytest.mark.parametrize("streamed", [False, True], ids=["call", "stream"])
async def test_keys_are_fetched_without_holding_up_the_loop(signed: FakePdp, streamed: bool) -> None:
    session = signed.session()

    async def ask(client: AsyncClient) -> Decision:
        if not streamed:
            return await client.evaluate(read("c-1"), session=session, timeout=PATIENCE)
        async with client.stream() as stream:
            return await stream.evaluate(read("c-1"), session=session, timeout=PATIENCE)

    with directory(signed) as keys:
        async with signed.async_client(jwks=keys.url) as client:
            asking = asyncio.create_task(ask(client))
            await asyncio.wait_for(keys.asked.wait(), PATIENCE)
            keys.may_answer.set()
            decision = await asking
    assert (decision.allowed, decision.receipt_status) == (True, "verified")


async def test_keys_that_come_too_late_are_a_block_in_time(signed: FakePdp) -> None:
    with directory(signed) as keys:
        async with signed.async_client(jwks=keys.url) as client:
            decision = await client.evaluate(read("c-1"), session=signed.session(), timeout=0.2)
            assert not keys.may_answer.is_set()
    assert (decision.allowed, decision.reasons[0].code) == (False, "client.deadline")
