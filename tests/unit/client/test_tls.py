"""Each way in which TLS fails is named in words that an operator can act on."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography.hazmat.primitives import serialization

from placet import AsyncClient, Client, DevIdentity, TlsCredentials
from placet._transport.handshakes import connection_problem
from tests.support.credentials import Authority, Issued

ACTION = {"tool": "t", "arguments": {}, "tool_call_id": "c"}
PAST = datetime.now(UTC) - timedelta(minutes=5)


@contextmanager
def listening(
    issued: Issued | None, clients_of: Authority | None = None, host: str = "127.0.0.1"
) -> Iterator[int]:
    """Yield the port of a server that has no method; without a certificate, it speaks no TLS."""
    server = grpc.server(ThreadPoolExecutor(2), options=[("grpc.so_reuseport", 0)])
    if issued is None:
        port = server.add_insecure_port(f"{host}:0")
    else:
        credentials = grpc.ssl_server_credentials(
            [(issued.key_pem, issued.pem)],
            root_certificates=clients_of.pem if clients_of is not None else None,
            require_client_auth=clients_of is not None,
        )
        port = server.add_secure_port(f"{host}:0", credentials)
    server.start()
    try:
        yield port
    finally:
        server.stop(grace=None).wait()


@dataclass(frozen=True, kw_only=True, slots=True)
class Servers:
    good: int
    expired: int
    misnamed: int
    mutual: int
    plain: int


@pytest.fixture(scope="module")
def ours() -> Authority:
    return Authority()


@pytest.fixture(scope="module")
def servers(ours: Authority) -> Iterator[Servers]:
    with ExitStack() as stack:
        yield Servers(
            good=stack.enter_context(listening(ours.issue())),
            expired=stack.enter_context(listening(ours.issue(until=PAST))),
            misnamed=stack.enter_context(listening(ours.issue(), host="127.0.0.2")),
            mutual=stack.enter_context(listening(ours.issue(), clients_of=ours)),
            plain=stack.enter_context(listening(None)),
        )


def failure(target: str, **proof: Any) -> str:
    """Return what both clients say of a call; it is the same but for numbers of ports."""
    with Client(target, timeout=30, **proof) as pdp:
        decision = pdp.evaluate(ACTION, session="s")

    async def ask() -> tuple[str, str]:
        async with AsyncClient(target, timeout=30, **proof) as client, client.stream() as stream:
            alone = await client.evaluate(ACTION, session="s")
            streamed = await stream.evaluate(ACTION, session="s")
            return str(alone.failure), str(streamed.failure)

    assert decision.reasons[0].code == "client.unreachable"
    said = str(decision.failure)
    for other in asyncio.run(ask()):
        assert other.partition("(")[0] == said.partition("(")[0]
    return said


def trusting(folder: Path, authority: Authority, **proof: Any) -> TlsCredentials:
    (folder / "ca.pem").write_bytes(authority.pem)
    return TlsCredentials(ca_file=folder / "ca.pem", **(proof or {"token": "t"}))


def test_server_that_is_not_believed(servers: Servers, ours: Authority, tmp_path: Path) -> None:
    for credentials in (trusting(tmp_path, Authority("other")), TlsCredentials(token="t")):
        said = failure(f"127.0.0.1:{servers.good}", credentials=credentials)
        assert "give the authority's certificate as ca_file" in said
        assert "CERTIFICATE_VERIFY_FAILED" in said, "gRPC's own words are kept"
    said = failure(f"127.0.0.2:{servers.misnamed}", credentials=trusting(tmp_path, ours))
    assert "the server's certificate is not for this host name" in said
    said = failure(f"127.0.0.1:{servers.expired}", credentials=trusting(tmp_path, ours))
    assert "has expired: renew it" in said


def test_client_that_is_not_believed(servers: Servers, ours: Authority, tmp_path: Path) -> None:
    target = f"127.0.0.1:{servers.mutual}"
    stranger = Authority("other").issue(uri="spiffe://a/b").write(tmp_path, "stranger")
    late = ours.issue(uri="spiffe://a/b", until=PAST).write(tmp_path, "late")
    for proof in ({"token": "t"}, stranger, late):
        said = failure(target, credentials=trusting(tmp_path, ours, **proof))
        assert "it may demand a client certificate (certificate_file and key_file" in said


def test_one_side_speaks_no_tls(servers: Servers, ours: Authority, tmp_path: Path) -> None:
    said = failure(f"127.0.0.1:{servers.plain}", credentials=trusting(tmp_path, ours))
    assert "the server does not speak TLS on this port" in said
    said = failure(f"127.0.0.1:{servers.good}", identity=DevIdentity(tenant="t", subject="s"))
    assert "it may speak TLS on this port, for which a client needs credentials" in said


def test_what_is_not_about_tls_is_left_as_it_is() -> None:
    gone = "connections to all backends failing; last error: UNKNOWN: ipv4:1.2.3.4:5: Connection refused"
    for details in (gone, "Socket closed", "no revision of the bundle", ""):
        assert connection_problem(details, tls=True) == connection_problem(details, tls=False) == ""
    early = "Tls handshake failed: CERTIFICATE_VERIFY_FAILED: certificate is not yet valid"
    assert "is not valid yet" in connection_problem(early, tls=True)


def test_files_that_are_no_credentials_are_refused_by_name(ours: Authority, tmp_path: Path) -> None:
    one = ours.issue().write(tmp_path, "one")
    two = ours.issue().write(tmp_path, "two")
    issued = ours.issue()
    locked = tmp_path / "locked.key"
    locked.write_bytes(
        issued.key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    (tmp_path / "locked.crt").write_bytes(issued.pem)
    text = tmp_path / "text"
    text.write_text("no PEM")
    with pytest.raises(ValueError, match=r"ca_file: .*text holds no certificate"):
        TlsCredentials(ca_file=text, token="t")
    for certificate, key in (
        (one["certificate_file"], two["key_file"]),
        (text, one["key_file"]),
        (one["certificate_file"], text),
        (tmp_path / "locked.crt", locked),
    ):
        with pytest.raises(ValueError, match=r"certificate_file and key_file: .* its own key, in PEM"):
            TlsCredentials(certificate_file=certificate, key_file=key)
    with pytest.raises(ValueError, match=r"key_file: cannot read"):
        TlsCredentials(certificate_file=one["certificate_file"], key_file=tmp_path / "nowhere")
