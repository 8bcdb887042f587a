"""Who is told what of a failure: callers what they can act on, the log the rest."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import psycopg
import pytest
from structlog.testing import capture_logs

from pdp.control.entities import EntityPoint
from pdp.control.point import ControlPoint
from pdp.metrics import Metrics
from pdp.postgres.store import PostgresStore
from pdp.server.grpc.admin_service import AdminService
from pdp.server.grpc.edge import Edge
from pdp.server.identity.authentication import (
    Authenticator,
    CredentialAuthenticator,
    InsecureAuthenticator,
)
from pdp.server.identity.tokens import TokenVerifier
from placet.v1 import admin_service_pb2, admin_service_pb2_grpc

METADATA = [("placet-tenant", "acme"), ("placet-subject", "olga"), ("placet-roles", "operator")]
Admin = admin_service_pb2_grpc.AdminServiceStub


@asynccontextmanager
async def admin(database_url: str, authenticator: Authenticator) -> AsyncIterator[Any]:
    """Yield a stub of AdminService over this database."""
    async with PostgresStore.open(database_url, replica="test") as store:
        server = grpc.aio.server(interceptors=[Edge(Metrics(), authenticator)])
        admin_service_pb2_grpc.add_AdminServiceServicer_to_server(
            AdminService(ControlPoint(store.control_plane), EntityPoint(store.entities)), server
        )
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        try:
            async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
                yield Admin(channel)
        finally:
            await server.stop(None)


def breaking(statement: str) -> Callable[[str], None]:
    def harm(url: str) -> None:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(statement.encode())

    return harm


@pytest.mark.parametrize(
    ("harm", "logged"),
    [
        (breaking("REVOKE ALL ON placet.tenants FROM placet_server"), "permission denied for table tenants"),
        (breaking("ALTER TABLE placet.tenants ADD CHECK (tenant <> 'acme')"), "CheckViolation: 23514"),
    ],
)
async def test_words_of_the_database_are_for_the_log_alone(
    database_url: str, harm: Callable[[str], None], logged: str
) -> None:
    harm(database_url)
    async with admin(database_url, InsecureAuthenticator()) as stub:
        request = admin_service_pb2.PutTenantRequest(settings=b'{"trust_floor": {"pay": 0.123}}')
        with capture_logs() as lines, pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub.PutTenant(request, metadata=METADATA)
    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
    assert refused.value.details() == "the database is not available; the server's log says why"
    told = repr(refused.value.trailing_metadata()) + refused.value.debug_error_string()
    assert not any(word in told for word in ("permission", "tenants", "Violation", "23514", "constraint"))
    (line,) = [line for line in lines if line["event"] == "rpc_failed"]
    assert logged in line["detail"]
    assert "0.123" not in json.dumps(line)


async def test_caller_that_nobody_believes_is_logged_with_address_and_cause(database_url: str) -> None:
    authenticator = CredentialAuthenticator([], TokenVerifier({}))
    async with admin(database_url, authenticator) as stub:
        with capture_logs() as lines:
            for token in ("no-token-at-all", "e30.e30.secret"):
                with pytest.raises(grpc.aio.AioRpcError) as refused:
                    await stub.PutTenant(
                        admin_service_pb2.PutTenantRequest(),
                        metadata=[("authorization", f"Bearer {token}")],
                    )
                assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert [line["detail"] for line in lines] == [
        "the token is not a signed JWT",
        "the token's issuer (iss) is not configured",
    ]
    assert all(line["peer"].startswith("ipv4:127.0.0.1:") for line in lines)
    assert not any(token in json.dumps(lines) for token in ("no-token-at-all", "e30"))
