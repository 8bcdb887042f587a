"""A server without insecure-dev: callers are who their certificates prove, on the whole path."""

from __future__ import annotations

import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from pdp.dev.ports import free_ports
from placet import Client, DevIdentity, PermissionDeniedError, TlsCredentials
from tests.credentials import Authority
from tests.e2e.scene import AGENT, BOUNDARY, PRINCIPAL, TOOLS, read
from tests.processes import PATIENCE, eventually
from tests.stack import ROOT, RealPdp

RUNTIME, TASKS, OPS = "spiffe://test/runtime", "spiffe://test/tasks", "spiffe://test/ops"


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    authority = Authority()
    (tmp_path / "ca.pem").write_bytes(authority.pem)
    return authority


@pytest.fixture
def replica(real_pdp: RealPdp, authority: Authority, tmp_path: Path) -> Iterator[tuple[str, str]]:
    """One more replica of the stack, with TLS: its address and the callers' tenant."""
    grpc_port, http_port = free_ports(2)
    tenant = real_pdp.fresh_tenant()
    config: dict[str, Any] = yaml.safe_load((real_pdp.stack.data_dir / "pdp-1.yaml").read_text())
    del config["insecure_dev"]
    server = authority.issue(dns="localhost").write(tmp_path, "server")
    config |= {
        "grpc_address": f"127.0.0.1:{grpc_port}",
        "http_address": f"127.0.0.1:{http_port}",
        "replica": "tls",
        "tls": {
            **{name: str(path) for name, path in server.items()},
            "client_ca_file": str(tmp_path / "ca.pem"),
            "require_client_certificate": True,
        },
        "callers": [
            {"match": {"spiffe_id": RUNTIME}, "tenant": tenant, "roles": ["agent"], "agents": [AGENT]},
            {"match": {"spiffe_id": TASKS}, "tenant": tenant, "roles": ["session_issuer"]},
            {"match": {"spiffe_id": OPS}, "tenant": tenant, "roles": ["operator"]},
        ],
    }
    file, log = tmp_path / "pdp.yaml", tmp_path / "pdp.log"
    file.write_text(yaml.safe_dump(config))

    def ready() -> bool:
        assert process.poll() is None, log.read_text()
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{http_port}/readyz", timeout=PATIENCE) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    argv = [sys.executable, "-m", "pdp", "serve", "--config", str(file)]
    with log.open("w") as output, subprocess.Popen(argv, cwd=ROOT, stderr=output) as process:
        try:
            eventually(ready, "the replica with TLS is ready")
            yield f"127.0.0.1:{grpc_port}", tenant
        finally:
            process.terminate()


def test_certificate_is_the_caller_from_session_to_decision(
    replica: tuple[str, str], authority: Authority, tmp_path: Path
) -> None:
    target, tenant = replica

    def client(uri: str) -> Client:
        files = authority.issue(uri=uri).write(tmp_path, uri.rpartition("/")[2])
        credentials = TlsCredentials(ca_file=tmp_path / "ca.pem", **files)
        return Client(target, credentials=credentials, timeout=PATIENCE)

    with client(OPS) as operator, client(TASKS) as tasks, client(RUNTIME) as runtime:
        operator.put_tenant({}, tenant=tenant)
        operator.put_tools(TOOLS)
        session = tasks.open_session(task="T-1", principal=PRINCIPAL, agent=AGENT, boundary=BOUNDARY)
        assert session.issuer == TASKS
        assert runtime.evaluate(read(), session=session).allowed
        with pytest.raises(PermissionDeniedError):
            runtime.put_tenant({}, tenant=tenant)
        refused = tasks.evaluate(read(), session=session)
        assert (refused.allowed, refused.reasons[0].code) == (False, "client.refused")
    # Who merely names itself is nobody here.
    named = DevIdentity(tenant="any", subject="svc", roles=["agent"], agents=[AGENT])
    with Client(target, identity=named, timeout=2.0) as stranger:
        assert not stranger.evaluate(read(), session=session).allowed
