"""A server without insecure-dev: callers are who their certificates and tokens prove, on the whole path.

It runs the configuration that docs/operations.md shows, with a policy that has a rule on claims.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import json
import shutil
import socket
import ssl
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import grpc
import pytest
import yaml
from joserfc import jwt
from joserfc.jwk import ECKey

from pdp.dev.ports import free_ports
from pdp.opa.bundle import build, ensure_signing_key, policy_sources
from placet import (
    Client,
    DevIdentity,
    NotFoundError,
    PermissionDeniedError,
    PlacetError,
    TlsCredentials,
    UnauthenticatedError,
    UnavailableError,
)
from placet.v1 import session_service_pb2, session_service_pb2_grpc
from tests.e2e.scene import AGENT, BOUNDARY, PRINCIPAL, TOOLS, codes, read
from tests.support.credentials import Authority
from tests.support.markdown import blocks, section, text_of
from tests.support.opa import RunningOpa, describe, opa_binary, short_directory
from tests.support.processes import PATIENCE, eventually
from tests.support.secured import SecuredReplica, secured_replica, tls
from tests.support.stack import RealPdp

RUNTIME, TASKS = {"uri": "spiffe://example.org/runtime"}, {"dns": "tasks.example.org"}
ISSUER, SVC = "https://id.example.org", "svc-token"
RULE = """package placet.rules.caller

# METADATA
# scope: rule
# title: Scope missing
# description: The token does not carry the scope that actions need.
# custom:
#   remediation: Ask the issuer for the scope.
block contains "caller.scope_missing" if {
	input.caller.claims.issuer
	not scope_missing_disproven
}

scope_missing_disproven if {
	"actions" in input.caller.claims.scopes
	input.caller.claims.department == "ap"
}
"""


class Issuer:
    """An issuer of tokens, with its keys over HTTP."""

    def __init__(self) -> None:
        self.keys = [ECKey.generate_key("P-256", {"kid": "k1"})]
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.end_headers()
                keys = [key.as_dict(private=False) for key in issuer.keys]
                self.wfile.write(json.dumps({"keys": keys}).encode())

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/jwks.json"

    def token(self, key: ECKey | None = None, **claims: Any) -> str:
        key = key or self.keys[-1]
        said = {"iss": ISSUER, "aud": "placet", "sub": SVC, "exp": int(time.time()) + 3600} | claims
        return jwt.encode({"alg": "ES256", "kid": key.kid}, said, key)


@dataclass(kw_only=True)
class Site:
    replica: SecuredReplica
    token_target: str
    tenant: str
    authority: Authority
    issuer: Issuer
    folder: Path
    _numbers: list[int] = field(default_factory=list)

    def by_certificate(self, names: dict[str, str], *, target: str = "", **more: Any) -> Client:
        self._numbers.append(1)
        files = self.authority.issue(**names).write(self.folder, f"client-{len(self._numbers)}")
        credentials = TlsCredentials(ca_file=self.folder / "believed.pem", **files, **more)
        return Client(target or self.replica.target, credentials=credentials, timeout=PATIENCE)

    def by_token(self, token: str, *, target: str = "") -> Client:
        credentials = TlsCredentials(ca_file=self.folder / "believed.pem", token=token)
        return Client(target or self.token_target, credentials=credentials, timeout=PATIENCE)

    def operator(self) -> Client:
        return self.by_token(self.issuer.token(sub="olga", groups=["staff", "placet-operators"]))


def documented(replaced: dict[str, str]) -> dict[str, Any]:
    """The example of the document, with what is a reader's own replaced."""
    (text,) = blocks(section(text_of("docs/operations.md"), "Callers"), "yaml")
    for said, ours in replaced.items():
        assert said in text, said
        text = text.replace(said, ours)
    example: dict[str, Any] = yaml.safe_load(text)
    return example


def opa_with_rule(directory: Path, folder: Path) -> RunningOpa:
    """An OPA, started, whose policy has `RULE` besides what is shipped."""
    shutil.copytree(policy_sources(), folder / "rego")
    (folder / "rego/placet/rules/caller").mkdir()
    (folder / "rego/placet/rules/caller/scope_missing.rego").write_text(RULE)
    key = ensure_signing_key(folder / "bundle.pem")
    built = build(opa=opa_binary(), key=key, output=folder / "bundle.tar.gz", sources=folder / "rego")
    running = RunningOpa(describe(opa_binary(), directory, built))
    running.launch()
    return running


@pytest.fixture(scope="module")
def site(steady_pdp: RealPdp, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder, authority, issuer = tmp_path_factory.mktemp("callers"), Authority(), Issuer()
    tenant, (token_port,) = steady_pdp.fresh_tenant(), free_ports(1)
    files = tls(authority, folder)
    (folder / "believed.pem").write_bytes(authority.pem)
    settings = documented(
        {
            "/etc/placet/tls.crt": files["certificate_file"],
            "/etc/placet/tls.key": files["key_file"],
            "/etc/placet/clients.pem": files["client_ca_file"],
            f"{ISSUER}/jwks.json": issuer.url,
            "tenant: acme": f"tenant: {tenant}",
        }
    )
    settings["callers"].append(
        {"match": {"issuer": ISSUER, "subject": SVC}, "tenant": tenant, "roles": ["agent"], "agents": [AGENT]}
    )
    thread = Thread(target=issuer.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    with short_directory() as directory:
        opa = opa_with_rule(directory, folder)
        (folder / "opa.token").write_text(opa.sidecar.decision_token)
        (folder / "admin.token").write_text(opa.sidecar.admin_token)
        settings |= {
            "grpc_token_address": f"127.0.0.1:{token_port}",
            "opa_socket": str(opa.socket_path),
            "opa_token_file": str(folder / "opa.token"),
            "opa_admin_url": f"http://{opa.sidecar.admin_address}",
            "opa_admin_token_file": str(folder / "admin.token"),
        }
        try:
            with secured_replica(steady_pdp, folder, settings) as replica:
                site = Site(
                    replica=replica,
                    token_target=settings["grpc_token_address"],
                    tenant=tenant,
                    authority=authority,
                    issuer=issuer,
                    folder=folder,
                )
                with site.operator() as operator:
                    operator.put_tenant({})
                    operator.put_tools(TOOLS)
                yield site
        finally:
            opa.kill()
            issuer.server.shutdown()
            issuer.server.server_close()
            thread.join()


def opened(site: Site, task: str) -> Any:
    with site.by_certificate(TASKS) as tasks:
        return tasks.open_session(task=task, principal=PRINCIPAL, agent=AGENT, boundary=BOUNDARY)


def test_documented_configuration_knows_its_callers(site: Site) -> None:
    session = opened(site, "T-1")
    assert session.issuer == TASKS["dns"]
    with site.by_certificate(RUNTIME) as runtime:
        assert runtime.evaluate(read(), session=session).allowed
        with pytest.raises(PermissionDeniedError):
            runtime.put_tenant({})
    with site.by_certificate(TASKS) as tasks:
        refused = tasks.evaluate(read(), session=session)
        assert (refused.allowed, refused.reasons[0].code) == (False, "client.refused")
    with site.operator() as operator:
        assert operator.get_session(session).principal == PRINCIPAL
        with pytest.raises(PermissionDeniedError):
            operator.put_tenant({}, tenant="another")
    # Who merely names itself is nobody here.
    named = DevIdentity(tenant=site.tenant, subject="svc", roles=["agent"], agents=[AGENT])
    for target in (site.replica.target, site.token_target):
        with Client(target, identity=named, timeout=2.0) as stranger:
            assert not stranger.evaluate(read(), session=session).allowed


def test_rule_sees_scopes_and_claims_of_a_token(site: Site) -> None:
    session = opened(site, "T-2")
    for claims, expected in (
        ({"scope": "read actions", "department": "ap"}, ["task.within_boundary"]),
        ({"scope": "read", "department": "ap"}, ["caller.scope_missing"]),
        ({"department": "ap"}, ["caller.scope_missing"]),
        ({"scope": "actions", "department": "hr"}, ["caller.scope_missing"]),
        # A claim that configuration does not list reaches no rule, whatever it is called.
        ({"scopes": ["actions"], "department": "ap"}, ["caller.scope_missing"]),
    ):
        with site.by_token(site.issuer.token(**claims)) as agent:
            decision = agent.evaluate(read(), session=session)
            assert (decision.allowed, codes(decision)) == (
                expected == ["task.within_boundary"],
                expected,
            ), decision
    with site.operator() as operator:
        document = json.loads(operator.get_decision(decision.decision_id).input_document)
    assert document["caller"]["claims"] == {"issuer": ISSUER, "scopes": [], "department": "ap"}


def forged(site: Site, algorithm: str, secret: bytes) -> str:
    """The claims of a good token under another header."""
    header = base64.urlsafe_b64encode(json.dumps({"alg": algorithm, "kid": "k1"}).encode()).rstrip(b"=")
    signed = header + b"." + site.issuer.token().split(".")[1].encode()
    signature = hmac.digest(secret, signed, hashlib.sha256) if secret else b""
    return (signed + b"." + base64.urlsafe_b64encode(signature).rstrip(b"=")).decode()


def test_tokens_that_cannot_be_believed_are_refused_on_the_wire(site: Site) -> None:
    now, key = int(time.time()), site.issuer.keys[0]
    other = ECKey.generate_key("P-256", {"kid": "k1"})
    for token in (
        forged(site, "none", b""),
        forged(site, "HS256", key.as_pem(private=False)),
        site.issuer.token(other),
        site.issuer.token(aud="other"),
        site.issuer.token(iss="https://evil.example"),
        site.issuer.token(exp=now - 3600),
        site.issuer.token(nbf=now + 3600),
        site.issuer.token(iat=now + 3600),
        site.issuer.token(sub="nobody"),
        site.issuer.token(sub="x", groups=["placet-operators-too"]),
    ):
        with site.by_token(token) as client, pytest.raises(UnauthenticatedError) as caught:
            client.get_session("any")
        assert token not in str(caught.value)
    for token in ("e30." * 3000, "x" * 100_000):
        with site.by_token(token) as client, pytest.raises(PlacetError):
            client.get_session("any")
    with site.by_token(site.issuer.token()) as client, pytest.raises(NotFoundError):
        client.get_session("any")


def test_two_authorization_headers_are_refused(site: Site) -> None:
    header = ("authorization", f"Bearer {site.issuer.token()}")
    credentials = grpc.ssl_channel_credentials(site.authority.pem)
    with grpc.secure_channel(site.token_target, credentials) as channel:
        stub = session_service_pb2_grpc.SessionServiceStub(channel)
        request = session_service_pb2.GetSessionRequest(session_id="any")
        for metadata, code in (
            ([header], grpc.StatusCode.NOT_FOUND),
            ([header, header], grpc.StatusCode.UNAUTHENTICATED),
            ([header, ("authorization", "Bearer x.y.z")], grpc.StatusCode.UNAUTHENTICATED),
        ):
            with pytest.raises(grpc.RpcError) as caught:
                stub.GetSession(request, metadata=metadata, timeout=PATIENCE)
            error: Any = caught.value
            assert error.code() is code, error.details()


def test_each_address_demands_its_proof(site: Site) -> None:
    good = site.issuer.token()
    with site.by_token(good, target=site.replica.target) as client, pytest.raises(UnavailableError):
        client.get_session("any")
    # Where nobody asks for a certificate, it is no proof.
    with (
        site.by_certificate(RUNTIME, target=site.token_target) as client,
        pytest.raises(UnauthenticatedError),
    ):
        client.get_session("any")
    # A token that is refused is not replaced by the certificate beside it.
    with site.by_certificate(RUNTIME, token=good + "A") as client, pytest.raises(UnauthenticatedError):
        client.get_session("any")


def test_keys_and_certificates_rotate_under_a_running_server(site: Site) -> None:
    before = site.issuer.keys[0]
    site.issuer.keys = [ECKey.generate_key("P-256", {"kid": "k2"})]

    def known(token: str) -> bool:
        with site.by_token(token) as client, pytest.raises(PlacetError) as caught:
            client.get_session("any")
        return isinstance(caught.value, NotFoundError)

    # The issuer is asked every ten seconds at most.
    eventually(lambda: known(site.issuer.token()), "the issuer's new key is known")
    assert not known(site.issuer.token(before))

    failed = 'placet_credentials_reads_total{outcome="failed",source="tls"}'
    (site.folder / "ca.pem").write_text("not a certificate")
    with site.by_certificate(RUNTIME) as client, pytest.raises(NotFoundError):
        client.get_session("any")
    assert site.replica.metric(failed) == 1
    assert "certificates_unusable" in site.replica.log

    new = Authority("new")
    new.issue(dns="localhost").write(site.folder, "server")
    (site.folder / "ca.pem").write_bytes(new.pem)
    with site.by_certificate(RUNTIME) as client, pytest.raises(UnavailableError):
        client.get_session("any")
    (site.folder / "believed.pem").write_bytes(new.pem)
    with site.by_certificate(RUNTIME) as client, pytest.raises(UnavailableError):
        client.get_session("any")
    site.authority = new
    with site.by_certificate(RUNTIME) as client, pytest.raises(NotFoundError):
        client.get_session("any")


def test_handshakes_that_fail_and_callers_that_prove_nothing_are_in_the_log_with_peer_and_cause(
    site: Site,
) -> None:
    def logged(event: str, peer: str) -> list[dict[str, Any]]:
        found = [json.loads(line) for line in site.replica.log.splitlines()]
        return [line for line in found if line["event"] == event and line["peer"] == peer]

    def failed(peer: str) -> dict[str, Any]:
        (line,) = eventually(lambda: logged("tls_handshake_failed", peer), f"the failure of {peer} is logged")
        found: dict[str, Any] = line
        return found

    host, _, port = site.replica.target.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=PATIENCE) as plain:
        peer = "ipv4:{}:{}".format(*plain.getsockname())
        plain.sendall(b"GET / HTTP/1.1\r\n\r\n")
        assert "does not speak TLS" in failed(peer)["cause"]
    with socket.create_connection((host, int(port)), timeout=PATIENCE) as gone:
        peer = "ipv4:{}:{}".format(*gone.getsockname())
    assert (failed(peer)["level"], failed(peer)["address"]) == ("info", f"ipv4:{host}:{port}")

    def shake(said: str, **files: Path) -> None:
        context = ssl.create_default_context(cafile=site.folder / "believed.pem")
        context.check_hostname = False
        context.set_alpn_protocols(["h2"])
        if files:
            context.load_cert_chain(files["certificate_file"], files["key_file"])
        with socket.create_connection((host, int(port)), timeout=PATIENCE) as connection:
            peer = "ipv4:{}:{}".format(*connection.getsockname())
            # In TLS 1.3 the server refuses after the client's handshake is over.
            with contextlib.suppress(OSError), context.wrap_socket(connection) as secured:
                secured.recv(1)
        assert said in failed(peer)["cause"]

    shake("shows no certificate")
    stranger = Authority("other").issue(**RUNTIME).write(site.folder, "stranger")
    shake("no authority in client_ca_file", **stranger)
    past = datetime.now(UTC) - timedelta(minutes=5)
    shake("has expired", **site.authority.issue(**RUNTIME, until=past).write(site.folder, "late"))

    # Whoever comes so far is known by its call: there the credential is the cause.
    with site.by_token("x.y.z") as nobody, pytest.raises(UnauthenticatedError):
        nobody.get_session("s")
    lines = [json.loads(line) for line in site.replica.log.splitlines()]
    refused = [line for line in lines if line["event"] == "rpc_failed" and line["reason"].endswith("TICATED")]
    assert refused[-1]["peer"].startswith("ipv4:127.0.0.1:")
    assert "token" in refused[-1]["detail"]
