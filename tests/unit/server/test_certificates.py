"""Certificates and authorities that are replaced under a running server."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health

from pdp.config.callers import TlsConfig
from pdp.metrics import Metrics
from pdp.server.http.operations import http_application, http_server, listen
from pdp.server.identity.certificates import CertificateError, ServerCertificates
from tests.fakes.store import FakeStore
from tests.support.credentials import HOUR, Authority, Issued

TIMEOUT = 30.0
# Servers that are believed, own certificate: whether the call is answered.
Ask = Callable[[Authority, Issued | None], Awaitable[bool]]


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def old() -> Authority:
    return Authority("old")


@pytest.fixture
def tls(old: Authority, tmp_path: Path) -> TlsConfig:
    (tmp_path / "ca.pem").write_bytes(old.pem)
    return TlsConfig(
        **old.issue(dns="localhost").write(tmp_path, "server"),
        client_ca_file=tmp_path / "ca.pem",
        require_client_certificate=True,
    )


@pytest.fixture
async def ask(tls: TlsConfig, metrics: Metrics) -> AsyncIterator[Ask]:
    server = grpc.aio.server()
    health_pb2_grpc.add_HealthServicer_to_server(health.HealthServicer(), server)
    credentials = ServerCertificates(tls, metrics).credentials(require_client_certificate=True)
    port = server.add_secure_port("127.0.0.1:0", credentials)
    await server.start()

    async def asked(believed: Authority, client: Issued | None) -> bool:
        own = (client.key_pem, client.pem) if client else (None, None)
        # A connection of its own: channels to one address share theirs otherwise.
        options = [("grpc.use_local_subchannel_pool", 1)]
        credentials = grpc.ssl_channel_credentials(believed.pem, *own)
        async with grpc.aio.secure_channel(f"127.0.0.1:{port}", credentials, options=options) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            code = await stub.Check(health_pb2.HealthCheckRequest(), timeout=TIMEOUT).code()
            assert code in (grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE)
            return code is grpc.StatusCode.OK

    yield asked
    await server.stop(None)


def reads(metrics: Metrics, outcome: str) -> float | None:
    labels = {"source": "tls", "outcome": outcome}
    return metrics.registry.get_sample_value("placet_credentials_reads_total", labels)


async def test_new_certificate_and_authority_hold_without_a_restart(
    ask: Ask, old: Authority, tls: TlsConfig, tmp_path: Path, metrics: Metrics
) -> None:
    new, client = Authority("new"), old.issue(uri="spiffe://test/a")
    assert await ask(old, client)
    # The authorities of clients first, both for a while; then the server's own.
    (tmp_path / "ca.pem").write_bytes(old.pem + new.pem)
    assert await ask(old, client)
    assert await ask(old, new.issue(uri="spiffe://test/a"))
    renewed = new.issue(dns="localhost")
    renewed.write(tmp_path, "server")
    assert await ask(new, client)
    assert not await ask(old, client)
    (tmp_path / "ca.pem").write_bytes(new.pem)
    assert not await ask(new, client)
    assert not await ask(new, None)
    assert await ask(new, new.issue(uri="spiffe://test/a"))
    assert (reads(metrics, "ok"), reads(metrics, "failed")) == (4, None)
    assert (
        metrics.registry.get_sample_value("placet_certificate_expiry_timestamp_seconds")
        == renewed.certificate.not_valid_after_utc.timestamp()
    )


async def test_bad_files_leave_the_ones_before_in_use_and_are_told_once(
    ask: Ask, old: Authority, tls: TlsConfig, metrics: Metrics, capsys: pytest.CaptureFixture[str]
) -> None:
    client, other = old.issue(uri="spiffe://test/a"), old.issue(dns="localhost")
    bad = [
        (tls.certificate_file, b"", "certificate_file"),
        (tls.certificate_file, other.pem, "is not the key of"),
        (tls.certificate_file, old.issue(until=datetime.now(UTC) - HOUR).pem, "not valid at this time"),
        (tls.key_file, b"secret-ish", "key_file"),
        (tls.client_ca_file, b"-----BEGIN CERTIFICATE-----", "client_ca_file"),
    ]
    for number, (file, content, why) in enumerate(bad, start=1):
        assert file is not None
        good = file.read_bytes()
        file.write_bytes(content)
        assert await ask(old, client)
        assert await ask(old, client)
        told = capsys.readouterr().out
        assert (told.count("certificates_unusable"), why in told) == (1, True), told
        assert "secret-ish" not in told
        assert reads(metrics, "failed") == number
        file.write_bytes(good)
        assert await ask(old, client)
    tls.key_file.unlink()
    assert await ask(old, client)
    assert reads(metrics, "failed") == len(bad) + 1


def test_bad_files_stop_the_start(old: Authority, tls: TlsConfig) -> None:
    tls.key_file.write_bytes(old.issue().key_pem)
    with pytest.raises(CertificateError, match=r"tls\.key_file: is not the key"):
        ServerCertificates(tls, Metrics())


async def test_http_speaks_tls_alone_with_the_certificate_of_the_moment(
    old: Authority, tls: TlsConfig, tmp_path: Path, metrics: Metrics
) -> None:
    application = http_application(metrics=metrics, keys=FakeStore().keys, checks={})
    context = ServerCertificates(tls, metrics).http_context()
    listening = listen("127.0.0.1:0")
    port = listening.getsockname()[1]
    server = http_server(application, host="127.0.0.1", port=port, tls=context)
    serving = asyncio.create_task(server.serve(sockets=[listening]))

    async def healthy(believed: Authority | None) -> bool:
        trusted = ssl.create_default_context(cadata=believed.pem.decode()) if believed else None
        try:
            async with asyncio.timeout(TIMEOUT):
                reader, writer = await asyncio.open_connection(
                    "127.0.0.1", port, ssl=trusted, server_hostname="localhost" if trusted else None
                )
                writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                answer = await reader.read()
                writer.close()
        except (ssl.SSLError, ConnectionError):
            return False
        return b" 200 " in answer

    try:
        new = Authority("new")
        assert await healthy(old)
        assert not await healthy(None)
        assert not await healthy(new)
        new.issue(dns="localhost").write(tmp_path, "server")
        assert await healthy(new)
        assert not await healthy(old)
        tls.key_file.write_bytes(b"no key")
        assert await healthy(new)
    finally:
        server.should_exit = True
        await serving
        listening.close()
