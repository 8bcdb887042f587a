"""One more replica of a running stack, where callers have to prove who they are."""

from __future__ import annotations

import ssl
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from pdp.dev.ports import free_ports
from tests.support.credentials import Authority
from tests.support.processes import PATIENCE, eventually
from tests.support.stack import ROOT, RealPdp


@dataclass(frozen=True, kw_only=True, slots=True)
class SecuredReplica:
    target: str
    http_url: str
    log_file: Path

    @property
    def log(self) -> str:
        return self.log_file.read_text(encoding="utf-8")

    def get(self, path: str) -> Any:
        """Open a path over HTTP. Whose the certificate is, tests of TLS itself look at."""
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return urllib.request.urlopen(f"{self.http_url}{path}", timeout=PATIENCE, context=context)

    def metric(self, series: str) -> float:
        """Return the value of a series, which is named as Prometheus writes it; 0 while there is none."""
        with self.get("/metrics") as answer:
            for line in answer.read().decode().splitlines():
                if line.startswith(f"{series} "):
                    return float(line.rpartition(" ")[2])
        return 0.0


def configuration(steady_pdp: RealPdp) -> dict[str, Any]:
    """Return the configuration of the stack's first replica without --insecure-dev.

    A replica with credentials runs on a clock that nobody moves.
    """
    text = (steady_pdp.stack.data_dir / "pdp-1.yaml").read_text(encoding="utf-8")
    config: dict[str, Any] = yaml.safe_load(text)
    del config["insecure_dev"]
    return config


def tls(authority: Authority, folder: Path) -> dict[str, Any]:
    """Write certificates for localhost into `folder`, and return the settings of TLS that name them."""
    (folder / "ca.pem").write_bytes(authority.pem)
    server = authority.issue(dns="localhost").write(folder, "server")
    return {
        **{name: str(path) for name, path in server.items()},
        "client_ca_file": str(folder / "ca.pem"),
        "require_client_certificate": True,
    }


@contextmanager
def secured_replica(
    steady_pdp: RealPdp, folder: Path, settings: Mapping[str, Any]
) -> Iterator[SecuredReplica]:
    """Yield a ready replica with these settings beside those of the stack, on free ports."""
    grpc_port, http_port = free_ports(2)
    addresses = {"grpc_address": f"127.0.0.1:{grpc_port}", "http_address": f"127.0.0.1:{http_port}"}
    config = configuration(steady_pdp) | addresses | {"replica": "secured"} | dict(settings)
    file, log = folder / "pdp.yaml", folder / "pdp.log"
    file.write_text(yaml.safe_dump(config))
    replica = SecuredReplica(
        target=config["grpc_address"],
        http_url=f"{'https' if config.get('tls') else 'http'}://localhost:{http_port}",
        log_file=log,
    )

    def ready() -> bool:
        assert process.poll() is None, replica.log
        try:
            with replica.get("/readyz") as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    argv = [sys.executable, "-m", "pdp", "serve", "--config", str(file)]
    with log.open("w") as output, subprocess.Popen(argv, cwd=ROOT, stderr=output) as process:
        try:
            eventually(ready, "the secured replica is ready")
            yield replica
        finally:
            process.terminate()
