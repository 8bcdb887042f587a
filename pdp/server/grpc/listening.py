"""The addresses that the server listens on for gRPC."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import grpc

from pdp.config.server import Config, ConfigError, split_address
from pdp.metrics import Metrics
from pdp.server.identity.certificates import CertificateError, ServerCertificates


def read_certificates(config: Config, metrics: Metrics) -> ServerCertificates | None:
    """Return the certificates of all ports; None without TLS. Raises `ConfigError`."""
    if config.tls is None:
        return None
    try:
        return ServerCertificates(config.tls, metrics)
    except CertificateError as exc:
        raise ConfigError(str(exc)) from exc


def add_ports(
    server: grpc.aio.Server, config: Config, certificates: ServerCertificates | None
) -> dict[str, str]:
    """Listen for gRPC; return the addresses by name. Raises `ConfigError`."""
    tls = config.tls
    if tls is None or certificates is None:
        return {"grpc": _listening("grpc_address", config.grpc_address, server.add_insecure_port)}
    wanted = {"grpc": ("grpc_address", config.grpc_address, tls.require_client_certificate)}
    if config.grpc_token_address is not None:
        wanted["grpc_token"] = ("grpc_token_address", config.grpc_token_address, False)

    def add(address: str, *, require: bool) -> int:
        return server.add_secure_port(address, certificates.credentials(require_client_certificate=require))

    return {
        name: _listening(setting, address, partial(add, require=require))
        for name, (setting, address, require) in wanted.items()
    }


def _listening(setting: str, address: str, add: Callable[[str], int]) -> str:
    try:
        port = add(address)
    except (RuntimeError, OSError) as exc:
        raise ConfigError(f"{setting}: cannot listen on {address}: is the port in use?") from exc
    return f"{split_address(address)[0]}:{port}"
