"""No proxy stands before this machine's own addresses; it does before all others."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import grpc
import pytest
from typer.testing import CliRunner

from placet import Client
from placet._addresses import is_own_target, is_own_url
from placet.cli.app import app
from placet.testing import FakePdp
from placet.verify import fetch_jwks
from tests.unit.client.misbehaving import IDENTITY

ACTION = {"tool": "t", "arguments": {}, "tool_call_id": "c"}
VARIABLES = ("grpc_proxy", "https_proxy", "http_proxy", "all_proxy")


@pytest.mark.parametrize(
    "target",
    [
        "localhost:7433",
        "LOCALHOST:7433",
        "localhost",
        "localhost.:7433",
        "pdp.localhost:7433",
        "127.0.0.1:7433",
        "127.8.9.10:7433",
        "127.1:7433",
        "0.0.0.0:7433",
        "[::1]:7433",
        "::1",
        "[::ffff:127.0.0.1]:7433",
        "dns:localhost:7433",
        "dns:///localhost:7433",
        "dns://8.8.8.8/localhost:7433",
        "passthrough:///127.0.0.1:7433",
        "ipv4:127.0.0.1:7433",
        "ipv4:127.0.0.1:7433,127.0.0.2:7433",
        "ipv6:[::1]:7433",
        "ipv6:%5B::1%5D:7433",
        "unix:/run/placet.sock",
        "unix:///run/placet.sock",
        "unix-abstract:placet",
    ],
)
def test_own_targets(target: str) -> None:
    assert is_own_target(target)


@pytest.mark.parametrize(
    "target",
    [
        "pdp.internal:7433",
        "localhost.example.org:7433",
        "notlocalhost:7433",
        "127.0.0.1.example.org:7433",
        "10.0.0.1:7433",
        "[2001:db8::1]:7433",
        "dns:///pdp.internal:7433",
        "dns://127.0.0.1/pdp.internal:7433",
        "ipv4:127.0.0.1:7433,10.0.0.1:7433",
        "",
    ],
)
def test_other_targets(target: str) -> None:
    assert not is_own_target(target)


def test_urls() -> None:
    assert is_own_url("http://localhost:7434/jwks")
    assert is_own_url("http://[::1]/jwks")
    assert not is_own_url("https://localhost@keys.example.org/jwks")


class _Proxy(BaseHTTPRequestHandler):
    """Refuses whatever it is asked, and notes it."""

    def do_CONNECT(self) -> None:
        self.server.asked.append(self.path)  # type: ignore[attr-defined]
        self.send_error(502)

    do_GET = do_CONNECT

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def _serving(handler: type[BaseHTTPRequestHandler]) -> Iterator[HTTPServer]:
    server = HTTPServer(("127.0.0.1", 0), handler)
    server.asked = []  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def proxied(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What a proxy of the whole environment was asked for."""
    for name in [name for name in os.environ if "proxy" in name.lower()]:
        monkeypatch.delenv(name)
    with _serving(_Proxy) as proxy:
        for name in VARIABLES:
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.server_port}")
        yield proxy.asked  # type: ignore[attr-defined]


def test_calls_for_this_machine_go_to_it(fake_pdp: FakePdp, proxied: list[str]) -> None:
    fake_pdp.allow()
    port = fake_pdp.target.rpartition(":")[2]
    session = fake_pdp.session()
    for number, target in enumerate((fake_pdp.target, f"localhost:{port}", f"dns:///127.0.0.1:{port}")):
        action = ACTION | {"tool_call_id": f"c-{number}"}
        client = fake_pdp.client()
        with Client(target, identity=IDENTITY, timeout=30) as pdp, client:
            decision = pdp.evaluate(action, session=session)
            assert decision.allowed, decision.failure
            for _, many in client.evaluate_many([action | {"tool_call_id": f"m-{number}"}], session=session):
                assert many.allowed, many.failure
    assert proxied == []


def test_calls_for_sockets_go_to_them(proxied: list[str], tmp_path: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    server = grpc.server(ThreadPoolExecutor(1))
    server.add_insecure_port(f"unix:{tmp_path}/s")
    server.start()
    with Client(f"unix:{tmp_path}/s", identity=IDENTITY, timeout=30) as pdp:
        decision = pdp.evaluate(ACTION, session="s")
    server.stop(None).wait()
    assert "UNIMPLEMENTED" in str(decision.failure)
    assert proxied == []


def test_calls_for_others_go_through_the_proxy(proxied: list[str]) -> None:
    with Client("pdp.example.org:7433", identity=IDENTITY, timeout=30) as pdp:
        assert pdp.evaluate(ACTION, session="s").reasons[0].code == "client.unreachable"
    assert set(proxied) == {"pdp.example.org:7433"}


class _Keys(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps({"keys": []}).encode())

    def log_message(self, format: str, *args: object) -> None:
        pass


def test_keys_are_fetched_alike(proxied: list[str], tmp_path: Path) -> None:
    (tmp_path / "receipt").write_text("no receipt")
    with _serving(_Keys) as keys:
        url = f"http://localhost:{keys.server_port}/jwks"
        assert fetch_jwks(url) == {"keys": []}
        result = CliRunner().invoke(app, ["receipt", "verify", str(tmp_path / "receipt"), "--jwks", url])
        assert "cannot be fetched" not in result.output, result.output
    assert proxied == []
    with pytest.raises(OSError, match="502"):
        fetch_jwks("http://keys.example.org/jwks")
    assert proxied == ["http://keys.example.org/jwks"]
