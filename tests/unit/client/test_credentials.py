"""The client and the command prove who calls, to a real server over TLS."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from joserfc import jwt
from joserfc.jwk import ECKey
from typer.testing import CliRunner

from pdp.config.callers import CallerMapping, JwtConfig, TlsConfig
from pdp.delegation.chain import Chains
from pdp.delegation.point import DelegationPoint
from pdp.delegation.tokens import GrantTokens
from pdp.metrics import Metrics
from pdp.server.grpc.edge import Edge
from pdp.server.grpc.session_service import SessionService
from pdp.server.identity.authentication import CredentialAuthenticator
from pdp.server.identity.certificates import ServerCertificates
from pdp.server.identity.jwks import key_source
from pdp.server.identity.tokens import TokenVerifier
from pdp.sessions.limits import SessionLimits
from pdp.sessions.point import SessionPoint
from pdp.sessions.proof import Proofs
from pdp.signing import RotatingSigner
from placet import AsyncClient, Client, TlsCredentials, UnauthenticatedError, UnavailableError
from placet.cli.app import app
from placet.credentials import token_from
from placet.errors import NotFoundError
from placet.v1 import session_service_pb2_grpc
from tests.fakes.store import FakeStore
from tests.support.credentials import Authority

RUNTIME, ISSUER = "spiffe://example.org/runtime", "https://id.example.org"
SESSION = "0199b1f0-0000-7000-8000-000000000001"
KEY = ECKey.generate_key("P-256", {"kid": "k1"})
TOKEN = jwt.encode(
    {"alg": "ES256", "kid": "k1"}, {"iss": ISSUER, "aud": "placet", "sub": "svc", "exp": 4_000_000_000}, KEY
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Served:
    mutual: str
    plain: str
    ca: Path
    certificate: dict[str, Any]


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    """Two ports of one server: one demands a client certificate."""
    authority = Authority()
    (tmp_path / "ca.pem").write_bytes(authority.pem)
    (tmp_path / "jwks.json").write_text(json.dumps({"keys": [KEY.as_dict(private=False)]}))
    own = authority.issue(dns="pdp.example.org").write(tmp_path, "server")
    mutual = TlsConfig(**own, client_ca_file=tmp_path / "ca.pem", require_client_certificate=True)
    issuer = JwtConfig(
        issuer=ISSUER, audience="placet", jwks_file=tmp_path / "jwks.json", algorithms=("ES256",)
    )
    mappings = [
        {"match": {"spiffe_id": RUNTIME}, "tenant": "acme", "roles": ["agent"]},
        {"match": {"issuer": ISSUER, "subject": "svc"}, "tenant": "acme", "roles": ["agent"]},
    ]
    started: list[int] = []
    ready = threading.Event()
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()

    async def run() -> None:
        store, keys = FakeStore(), key_source(issuer)
        edge = Edge(
            Metrics(),
            CredentialAuthenticator(
                [CallerMapping.model_validate(each) for each in mappings],
                TokenVerifier({ISSUER: (issuer, keys)}),
            ),
        )
        server = grpc.aio.server(interceptors=[edge])
        grants = GrantTokens(RotatingSigner(store.keys, replica="test"), store.keys)
        chains = Chains(store.information_point, grants)
        delegations = DelegationPoint(chains=chains, store=store.grants, grants=grants, issuer="test")
        sessions = SessionPoint(
            sessions=store.sessions,
            clock=store.clock,
            control_plane=store.control_plane,
            grants=store.grants,
            delegations=delegations,
            proofs=Proofs(chains),
            limits=SessionLimits(information=store.information_point, grants=store.grants),
        )
        service = SessionService(sessions, delegations)
        session_service_pb2_grpc.add_SessionServiceServicer_to_server(service, server)
        certificates = ServerCertificates(mutual, Metrics())
        for require in (True, False):
            credentials = certificates.credentials(require_client_certificate=require)
            started.append(server.add_secure_port("127.0.0.1:0", credentials))
        await server.start()
        ready.set()
        await stop.wait()
        await server.stop(None)
        await keys.aclose()

    thread = threading.Thread(target=loop.run_until_complete, args=(run(),))
    thread.start()
    assert ready.wait(30)
    try:
        yield Served(
            mutual=f"127.0.0.1:{started[0]}",
            plain=f"127.0.0.1:{started[1]}",
            ca=tmp_path / "ca.pem",
            certificate=authority.issue(uri=RUNTIME).write(tmp_path, "client"),
        )
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()


def ask(target: str, **credentials: Any) -> None:
    with Client(target, credentials=TlsCredentials(**credentials), timeout=30) as pdp:
        pdp.get_session(SESSION)


def test_certificate_and_token_are_believed(served: Served) -> None:
    for target, proof in (
        (served.mutual, served.certificate),
        (served.plain, {"token": TOKEN}),
        (served.plain, {"token": lambda: TOKEN}),
        (served.mutual, {**served.certificate, "token": TOKEN}),
    ):
        with pytest.raises(NotFoundError):  # known, and asks for what is not there
            ask(target, ca_file=served.ca, **proof)


async def test_async_client_too(served: Served) -> None:
    credentials = TlsCredentials(ca_file=served.ca, token=TOKEN)
    async with AsyncClient(served.plain, credentials=credentials, timeout=30) as pdp:
        with pytest.raises(NotFoundError):
            await pdp.get_session(SESSION)


def test_token_file_is_read_for_each_call(served: Served, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("a.b.c")
    credentials = TlsCredentials(ca_file=served.ca, token=token_from(file))
    with Client(served.plain, credentials=credentials, timeout=30) as pdp:
        with pytest.raises(UnauthenticatedError):
            pdp.get_session(SESSION)
        file.write_text(TOKEN)
        with pytest.raises(NotFoundError):
            pdp.get_session(SESSION)
        file.unlink()
        with pytest.raises(UnauthenticatedError):
            pdp.get_session(SESSION)


def test_bad_proof_is_refused(served: Served, tmp_path: Path) -> None:
    def broken() -> str:
        raise OSError("gone")

    for token in ("a.b.c", TOKEN[:-8] + "AAAAAAAA", broken, lambda: "a b"):
        with pytest.raises(UnauthenticatedError):
            ask(served.plain, ca_file=served.ca, token=token)
    with pytest.raises(UnavailableError):
        ask(served.mutual, ca_file=served.ca, token=TOKEN)


def test_server_of_another_authority_or_name_is_not_called(served: Served, tmp_path: Path) -> None:
    (tmp_path / "other.pem").write_bytes(Authority().pem)
    with pytest.raises(UnavailableError):
        ask(served.plain, ca_file=tmp_path / "other.pem", token=TOKEN)
    with pytest.raises(UnavailableError):  # its certificate is for 127.0.0.1
        ask(served.plain.replace("127.0.0.1", "localhost"), ca_file=served.ca, token=TOKEN)


def test_evaluate_without_a_token_is_a_block() -> None:
    def broken() -> str:
        raise OSError("gone")

    with Client("127.0.0.1:1", credentials=TlsCredentials(token=broken)) as pdp:
        action = {"tool": "t", "tool_call_id": "c", "arguments": {}}
        decision = pdp.evaluate(action, session=SESSION)
    assert not decision.allowed
    assert decision.reasons[0].code == "client.refused"


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"certificate_file": "x"},
        {"key_file": "x", "token": "t"},
        {"ca_file": "/nowhere/ca", "token": "t"},
        {"token": ""},
        {"token": "a\nb"},
    ],
)
def test_credentials_that_make_no_sense(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"file|token"):
        TlsCredentials(**arguments)


def test_command_presents_both(served: Served, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(TOKEN + "\n")
    certificate = ["--cert", str(served.certificate["certificate_file"])]
    certificate += ["--key", str(served.certificate["key_file"])]
    show = ["session", "show", SESSION, "--ca", str(served.ca), "--timeout", "30", "--json"]
    run = CliRunner().invoke
    for target, proof in (
        (served.mutual, certificate),
        (served.plain, ["--token-file", str(tmp_path / "token")]),
        (served.plain, ["--token", TOKEN]),
        (served.mutual, [*certificate, "--token-file", str(tmp_path / "token")]),
        (served.mutual, [*certificate, "--token", TOKEN]),
    ):
        result = run(app, [*show, "--target", target, *proof])
        assert "NOT_FOUND" in result.output, result.output
    result = run(app, [*show, "--target", served.plain], env={"PLACET_TOKEN": TOKEN})
    assert "NOT_FOUND" in result.output, result.output
    twice = run(app, [*show, "--token", TOKEN, "--token-file", str(tmp_path / "token")])
    assert "not both" in twice.output
    mixed = run(app, [*show, "--target", served.plain, *certificate, "--tenant", "acme"])
    assert "insecure-dev" in mixed.output
    nobody = run(app, [*show, "--target", served.plain])
    assert nobody.exit_code != 0
    assert "certificate or a token" in nobody.output
