"""Callers by certificate, over a real server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import pytest

from pdp.config.callers import CallerMapping, TlsConfig
from pdp.metrics import Metrics
from pdp.server.grpc.edge import Edge
from pdp.server.identity.authentication import CredentialAuthenticator
from pdp.server.identity.caller import current_caller
from pdp.server.identity.certificates import ServerCertificates
from pdp.server.identity.tokens import TokenVerifier
from placet.v1 import session_service_pb2, session_service_pb2_grpc
from tests.support.credentials import HOUR, Authority, Issued

RUNTIME, HOST = "spiffe://example.org/runtime", "tasks.example.org"
MAPPINGS = [
    {
        "match": {"spiffe_id": RUNTIME},
        "tenant": "acme",
        "roles": ["agent"],
        "agents": ["agent:payer"],
    },
    {"match": {"dns_name": HOST}, "tenant": "acme", "subject": "tasks", "roles": ["session_issuer"]},
]
TIMEOUT = 30.0


class WhoAmI(session_service_pb2_grpc.SessionServiceServicer):
    """Answers with the caller's tenant, subject and agents."""

    async def GetSession(self, request: Any, context: Any) -> session_service_pb2.GetSessionResponse:
        caller = current_caller()
        response = session_service_pb2.GetSessionResponse()
        response.session.session_id = f"{caller.tenant}/{caller.subject}"
        response.session.agent = ",".join(caller.agents)
        return response


Connect = Callable[[Issued | None], AbstractAsyncContextManager[Any]]


@pytest.fixture
def authority() -> Authority:
    return Authority()


@pytest.fixture
async def connect(authority: Authority, tmp_path: Path) -> AsyncIterator[Connect]:
    (tmp_path / "ca.pem").write_bytes(authority.pem)
    tls = TlsConfig(
        **authority.issue(dns="localhost").write(tmp_path, "server"),
        client_ca_file=tmp_path / "ca.pem",
        require_client_certificate=True,
    )
    mappings = [CallerMapping.model_validate(mapping) for mapping in MAPPINGS]
    server = grpc.aio.server(
        interceptors=[Edge(Metrics(), CredentialAuthenticator(mappings, TokenVerifier({})))]
    )
    session_service_pb2_grpc.add_SessionServiceServicer_to_server(WhoAmI(), server)
    credentials = ServerCertificates(tls, Metrics()).credentials(require_client_certificate=True)
    port = server.add_secure_port("127.0.0.1:0", credentials)
    await server.start()

    @asynccontextmanager
    async def connected(client: Issued | None) -> AsyncIterator[Any]:
        credentials = grpc.ssl_channel_credentials(
            authority.pem, client.key_pem if client else None, client.pem if client else None
        )
        async with grpc.aio.secure_channel(f"127.0.0.1:{port}", credentials) as channel:
            yield session_service_pb2_grpc.SessionServiceStub(channel)

    yield connected
    await server.stop(None)


async def who(stub: Any, **options: Any) -> tuple[str, str]:
    answer = await stub.GetSession(session_service_pb2.GetSessionRequest(), timeout=TIMEOUT, **options)
    return answer.session.session_id, answer.session.agent


async def refusal(stub: Any, **options: Any) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await who(stub, **options)
    return caught.value.code(), str(caught.value.details())


async def test_certificates_stand_for_their_callers(connect: Connect, authority: Authority) -> None:
    async with connect(authority.issue(uri=RUNTIME)) as stub:
        assert await who(stub) == (f"acme/{RUNTIME}", "agent:payer")
    async with connect(authority.issue(dns=HOST)) as stub:
        assert await who(stub) == ("acme/tasks", "")


async def test_certificates_that_tls_refuses(connect: Connect, authority: Authority) -> None:
    expired = authority.issue(uri=RUNTIME, until=datetime.now(UTC) - HOUR)
    for client in (None, expired, Authority().issue(uri=RUNTIME), Authority("other").issue(uri=RUNTIME)):
        async with connect(client) as stub:
            code, _ = await refusal(stub)
            assert code is grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize(
    "names", [{"uri": RUNTIME + "/other"}, {"dns": RUNTIME}, {"dns": "x." + HOST}, {}, {"uri": f"dns:{HOST}"}]
)
async def test_certificates_of_nobody(connect: Connect, authority: Authority, names: dict[str, str]) -> None:
    async with connect(authority.issue(**names)) as stub:
        code, text = await refusal(stub)
        assert code is grpc.StatusCode.UNAUTHENTICATED
        assert "no configured caller" in text


async def test_certificate_of_two_callers_is_refused(connect: Connect, authority: Authority) -> None:
    async with connect(authority.issue(uri=RUNTIME, dns=HOST)) as stub:
        code, text = await refusal(stub)
        assert (code, "more than one" in text) == (grpc.StatusCode.UNAUTHENTICATED, True)


async def test_metadata_and_bad_token_do_not_help(connect: Connect, authority: Authority) -> None:
    named = [("placet-tenant", "other"), ("placet-subject", "root"), ("placet-roles", "operator")]
    async with connect(authority.issue(uri=RUNTIME)) as stub:
        assert (await who(stub, metadata=named))[0] == f"acme/{RUNTIME}"
        for value in ("Bearer x.y.z", "Bearer ", "Basic eDp5"):
            code, text = await refusal(stub, metadata=[("authorization", value)])
            assert code is grpc.StatusCode.UNAUTHENTICATED
            assert "x.y.z" not in text
