"""A replica whose clock is off from the database's says so, and serves nobody until it is right again."""

from __future__ import annotations

import json
import urllib.error
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import psycopg
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from pdp.dev.local_postgres import LOGIN, SUPERUSER
from placet import Client, TlsCredentials, UnavailableError
from tests.e2e.scene import AGENT, BOUNDARY, PRINCIPAL, TOOLS, codes, read
from tests.support.credentials import Authority
from tests.support.processes import PATIENCE, eventually
from tests.support.secured import SecuredReplica, configuration, secured_replica, tls
from tests.support.stack import RealPdp, running_stack

ROLES = {"ops": "operator", "tasks": "session_issuer", "runtime": "agent"}


class Site:
    """A replica that demands credentials, on a database whose clock this test alone moves."""

    def __init__(self, pdp: RealPdp, replica: SecuredReplica, authority: Authority, folder: Path) -> None:
        self.replica = replica
        self._url = configuration(pdp)["database_url"].replace(LOGIN, SUPERUSER)
        self._authority = authority
        self._folder = folder

    def credentials(self, name: str) -> TlsCredentials:
        files = self._authority.issue(dns=f"{name}.example").write(self._folder, name)
        return TlsCredentials(ca_file=self._folder / "ca.pem", **files)

    @contextmanager
    def client(self, name: str) -> Iterator[Client]:
        with Client(self.replica.target, credentials=self.credentials(name), timeout=PATIENCE) as client:
            yield client

    def set_clock(self, seconds: float) -> None:
        """Put the database's clock ahead of everybody's by so much."""
        with psycopg.connect(self._url) as database:
            database.execute("UPDATE placet.clock SET shift = make_interval(secs => %s)", [seconds])

    def ready(self) -> dict[str, Any]:
        try:
            with self.replica.get("/readyz") as answer:
                body = answer.read()
        except urllib.error.HTTPError as refused:
            with refused:
                body = refused.read()
        checks: dict[str, Any] = json.loads(body)
        return checks

    def events(self, name: str) -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in self.replica.log.splitlines() if line.startswith("{")]
        return [line for line in lines if line["event"] == name]

    def health(self) -> int:
        issued = self._authority.issue(dns="ops.example")
        credentials = grpc.ssl_channel_credentials(self._authority.pem, issued.key_pem, issued.pem)
        with grpc.secure_channel(self.replica.target, credentials) as channel:
            request = health_pb2.HealthCheckRequest()
            answer = health_pb2_grpc.HealthStub(channel).Check(request, timeout=PATIENCE)
        status: int = answer.status
        return status


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder, authority = tmp_path_factory.mktemp("clock"), Authority()
    callers = [
        {
            "match": {"dns_name": f"{name}.example"},
            "tenant": "acme",
            "roles": [role],
            "agents": [AGENT] if role == "agent" else [],
        }
        for name, role in ROLES.items()
    ]
    with running_stack() as stack:
        pdp, settings = RealPdp(stack=stack), {"tls": tls(authority, folder), "callers": callers}
        with secured_replica(pdp, folder, settings) as replica:
            yield Site(pdp, replica, authority, folder)


@pytest.mark.parametrize("seconds", [30.0, -30.0])
def test_replica_whose_clock_is_off_serves_nobody_until_it_is_right_again(site: Site, seconds: float) -> None:
    with site.client("ops") as ops, site.client("tasks") as tasks, site.client("runtime") as runtime:
        ops.put_tenant({})
        ops.put_agents([{"agent": AGENT, "owner": "ap", "trust": 0.8}])
        ops.put_tools(TOOLS)
        session = tasks.open_session(
            task=f"T{seconds:.0f}", principal=PRINCIPAL, agent=AGENT, boundary=BOUNDARY, expires_in=3600
        )
        assert runtime.evaluate(read(), session=session).allowed
        before = len(site.events("clock_off"))
        site.set_clock(seconds)
        eventually(lambda: not site.ready()["ready"], "the replica is not ready any more")
        assert "clock is" in site.ready()["checks"]["clock"]
        assert site.health() == health_pb2.HealthCheckResponse.NOT_SERVING
        (said,) = site.events("clock_off")[before:]
        assert said["seconds_ahead"] == pytest.approx(-seconds, abs=1.0)
        assert site.replica.metric("placet_clock_ahead_seconds") == pytest.approx(-seconds, abs=1.0)
        for client, call in ((ops, "put_signals"), (tasks, "get_session"), (runtime, "get_session")):
            argument: Any = [] if call == "put_signals" else session
            with pytest.raises(UnavailableError) as refused:
                getattr(client, call)(argument, timeout=2)
            assert refused.value.reason == "CLOCK_SKEW"
        decision = runtime.evaluate(read(), session=session, timeout=2)
        assert codes(decision) == ["client.unreachable"]
        site.set_clock(0)
        eventually(lambda: site.ready()["ready"], "the replica is ready again")
        assert site.health() == health_pb2.HealthCheckResponse.SERVING
        assert len(site.events("clock_right")) == before + 1
        assert runtime.evaluate(read(), session=session).allowed
