"""The gate before a real HTTP server: what arrives in odd ways over a socket."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import uvicorn

from placet.capability import HEADER, CapabilityMiddleware
from placet.testing import FakePdp
from tests.support.processes import eventually
from tests.unit.client.test_capability import ARGUMENTS, TOOL, Server

BODY = json.dumps(ARGUMENTS).encode()
SECONDS = 60


class Application:
    """Remembers the bodies that reached it."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.bodies.append((await receive())["body"])
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})


@dataclass(frozen=True, kw_only=True, slots=True)
class Site:
    server: Server
    application: Application
    port: int

    def send(self, head: str, body: bytes) -> tuple[int, str]:
        """Send these very bytes; return status and reason of the answer."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=SECONDS) as line:
            request = "POST /payments HTTP/1.1\r\nHost: erp\r\nConnection: close\r\n" + head + "\r\n"
            line.sendall(request.encode("latin-1"))
            with contextlib.suppress(OSError):  # it may have heard enough, and answered
                line.sendall(body)
            with contextlib.closing(http.client.HTTPResponse(line)) as answer:
                answer.begin()
                text = answer.read()
        return answer.status, json.loads(text)["reason"] if text.startswith(b"{") else ""


@pytest.fixture
def site() -> Iterator[Site]:
    with FakePdp(signed=True) as fake, socket.create_server(("127.0.0.1", 0)) as listening:
        fake.allow(TOOL)
        server = Server(fake=fake, session=fake.session(), now=fake.now().timestamp())
        application = Application()
        app = CapabilityMiddleware(application, gate=server.gate(), tools={"/payments": TOOL})
        running = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off"))
        thread = threading.Thread(target=running.run, kwargs={"sockets": [listening]})
        thread.start()
        eventually(lambda: running.started, "the server has started")
        try:
            yield Site(server=server, application=application, port=listening.getsockname()[1])
        finally:
            running.should_exit = True
            thread.join(SECONDS)


def head(*receipts: bytes, length: int | None = None, kind: str = "application/json") -> str:
    lines = [f"Content-Type: {kind}", *(f"{HEADER}: {receipt.decode()}" for receipt in receipts)]
    lines.append("Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}")
    return "".join(f"{line}\r\n" for line in lines)


def chunked(body: bytes, size: int) -> bytes:
    parts = [body[at : at + size] for at in range(0, len(body), size)]
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


def test_body_in_one_piece_and_in_many_is_the_same(site: Site) -> None:
    assert site.send(head(site.server.receipt(), length=len(BODY)), BODY) == (204, "")
    assert site.send(head(site.server.receipt()), chunked(BODY, 5)) == (204, "")
    assert site.application.bodies == [BODY] * 2


def test_replay_over_another_connection_is_refused(site: Site) -> None:
    receipt = site.server.receipt()
    seen = [site.send(head(receipt, length=len(BODY)), BODY) for _ in range(2)]
    assert seen == [(204, ""), (403, "capability.used")]


def test_second_header_and_none_are_refused(site: Site) -> None:
    first, second = site.server.receipt(), site.server.receipt()
    for receipts in ((first, second), (second, first), ()):
        assert site.send(head(*receipts, length=len(BODY)), BODY) == (403, "capability.missing")
    assert site.application.bodies == []


def test_endless_body_is_cut_off(site: Site) -> None:
    receipt = site.server.receipt()
    endless = b"%x\r\n%s\r\n" % (1024, b" " * 1024) * 1024
    assert site.send(head(receipt), endless) == (413, "capability.too_large")
    assert site.send(head(receipt, length=len(BODY)), BODY) == (204, "")


def test_hidden_second_request_is_not_covered(site: Site) -> None:
    """What follows the body that was announced is no part of it."""
    receipt = site.server.receipt()
    hidden = b"POST /payments HTTP/1.1\r\nHost: erp\r\nContent-Length: 2\r\n\r\n{}"
    assert site.send(head(receipt, length=len(BODY)), BODY + hidden) == (204, "")
    assert site.application.bodies == [BODY]


def test_arguments_in_another_place_are_refused(site: Site) -> None:
    receipt = site.server.receipt()
    form = "application/x-www-form-urlencoded"
    refused = site.send(head(receipt, length=len(BODY), kind=form), BODY)
    assert refused == (403, "capability.request")
    other = site.send(head(receipt, length=2), b"{}")
    assert other == (403, "capability.other_action")
    assert site.application.bodies == []
