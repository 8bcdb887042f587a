"""OPA as the sidecar: its files, its command line, and when it is ready.

Pure up to `write()`; whoever supervises processes runs `command()` and restarts it. Three doors:

- the unix socket (mode 660): decisions, with the decision token;
- a loopback address: reading health, status and what is active, with the admin token;
- a diagnostic loopback address: health and metrics only, read-only by OPA's own making.

Nobody can write policy or data over any of them: policy changes by a signed bundle alone.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import secrets
import shlex
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

BUNDLE_NAME = "placet"

# A unix socket's address is at most 107 bytes on Linux (unix(7), sun_path).
_SOCKET_PATH_BYTES = 107
_POLL_SECONDS = 0.02
_PROBE_SECONDS = 1.0

_AUTHORIZATION = """\
package system.authz

default allow := false

allow if {{
	input.method == "POST"
	input.path in [
		["v1", "data", "placet", "decision", "decision"],
		["v1", "data", "placet", "decision", "batch"],
	]
	crypto.sha256(input.identity) == "{decision_token_hash}"
}}

allow if {{
	input.method == "GET"
	input.path == ["health"]
}}

# Only reading: no token can change policy or data.
allow if {{
	input.method == "GET"
	input.path[0] in {{"v1", "metrics"}}
	crypto.sha256(input.identity) == "{admin_token_hash}"
}}
"""


class SidecarError(Exception):
    """The sidecar cannot be set up, or did not become ready; the message says what to do."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BundleSource:
    """Where OPA takes its policy from, and the only signature that it accepts there."""

    # Path of a bundle file, which OPA reads once; or an http(s) URL, which it polls.
    location: str
    key_id: str
    # PEM, SubjectPublicKeyInfo, of a P-256 key (ES256; OPA refuses EdDSA).
    public_key: str
    scope: str
    poll_min_seconds: int = 5
    poll_max_seconds: int = 10


@dataclass(frozen=True, kw_only=True, slots=True)
class SidecarCommand:
    """What to run. `environment` is all of it: nothing of ours is inherited."""

    argv: tuple[str, ...]
    environment: Mapping[str, str]


@dataclass(frozen=True, kw_only=True, slots=True)
class OpaSidecar:
    """One OPA process, described. `directory` holds its files and its socket."""

    opa: Path
    directory: Path
    bundle: BundleSource
    # host:port on loopback.
    admin_address: str
    diagnostic_address: str
    decision_token: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)
    admin_token: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)
    # OPA waits so long for its first bundle before it listens, then gives up; 0 listens at once.
    ready_seconds: int = 30
    shutdown_seconds: int = 10
    # The collector is off until the heap reaches this (measured: a third to a half less CPU a decision).
    memory_limit_mib: int = 512
    log_level: str = "error"

    def __post_init__(self) -> None:
        if len(os.fsencode(self.socket_path)) > _SOCKET_PATH_BYTES:
            raise SidecarError(
                f"{self.socket_path}: longer than {_SOCKET_PATH_BYTES} bytes, which no unix socket may be; "
                "choose a shorter directory"
            )
        for address in (self.admin_address, self.diagnostic_address):
            if not address.startswith(("127.0.0.1:", "[::1]:", "localhost:")):
                raise SidecarError(f"{address}: OPA must listen on loopback only")

    @property
    def socket_path(self) -> Path:
        return self.directory / "opa.sock"

    @property
    def config_path(self) -> Path:
        return self.directory / "opa.json"

    @property
    def authorization_path(self) -> Path:
        return self.directory / "authz.rego"

    def config(self) -> dict[str, Any]:
        """Return OPA's configuration. Decision logs stay off: they can drop events and hold arguments."""
        bundle: dict[str, Any] = {
            "signing": {"keyid": self.bundle.key_id, "scope": self.bundle.scope},
            "persist": False,
        }
        config: dict[str, Any] = {
            "keys": {self.bundle.key_id: {"algorithm": "ES256", "key": self.bundle.public_key}},
            "bundles": {BUNDLE_NAME: bundle},
            # GET /v1/status exists only with a status plugin.
            "status": {"prometheus": True},
        }
        url = urlsplit(self.bundle.location)
        if url.scheme in ("http", "https"):
            config["services"] = {"policy": {"url": f"{url.scheme}://{url.netloc}"}}
            bundle["service"] = "policy"
            bundle["resource"] = url.path
            bundle["polling"] = {
                "min_delay_seconds": self.bundle.poll_min_seconds,
                "max_delay_seconds": self.bundle.poll_max_seconds,
            }
        else:
            bundle["resource"] = Path(self.bundle.location).resolve().as_uri()
        return config

    def authorization(self) -> str:
        """Return the `system.authz` policy. It holds the tokens' hashes, not the tokens."""
        return _AUTHORIZATION.format(
            decision_token_hash=hashlib.sha256(self.decision_token.encode()).hexdigest(),
            admin_token_hash=hashlib.sha256(self.admin_token.encode()).hexdigest(),
        )

    def write(self) -> None:
        """Write the files that `command()` names, and remove a socket that an OPA left behind."""
        self.write_files()
        self.socket_path.unlink(missing_ok=True)

    def write_files(self) -> None:
        """Write the files that `command()` names. An OPA that runs goes on with those of before."""
        self.directory.mkdir(parents=True, exist_ok=True)
        self.config_path.write_text(json.dumps(self.config(), indent=1), encoding="utf-8")
        self.authorization_path.write_text(self.authorization(), encoding="utf-8")

    def script(self) -> str:
        """Return a shell script that becomes OPA, each time from the same start."""
        command = self.command()
        variables = [f"{name}={value}" for name, value in command.environment.items()]
        words = ["exec", "env", "-i", *map(shlex.quote, variables), *map(shlex.quote, command.argv)]
        # OPA does not start where an OPA that was killed has left its socket.
        return "\n".join(
            (
                "#!/bin/sh",
                "# Written by `pdp sidecar`.",
                f"rm -f {shlex.quote(str(self.socket_path))}",
                " \\\n  ".join([" ".join(words[:3]), *words[3:]]),
                "",
            )
        )

    def command(self) -> SidecarCommand:
        """Return the command line and environment, which are the same each time."""
        return SidecarCommand(
            argv=(
                str(self.opa.resolve()),
                "run",
                "--server",
                f"--addr=unix://{self.socket_path}",
                "--unix-socket-perm=660",
                f"--addr={self.admin_address}",
                f"--diagnostic-addr={self.diagnostic_address}",
                f"--config-file={self.config_path}",
                "--authentication=token",
                "--authorization=basic",
                "--optimize-store-for-read-speed",
                "--skip-version-check",
                f"--ready-timeout={self.ready_seconds}",
                f"--shutdown-grace-period={self.shutdown_seconds}",
                f"--log-level={self.log_level}",
                "--log-format=json",
                str(self.authorization_path),
            ),
            environment={
                "GOGC": "off",
                "GOMEMLIMIT": f"{self.memory_limit_mib}MiB",
                "HOME": str(self.directory),
                "TZ": "UTC",
            },
        )

    async def wait_until_ready(self, *, deadline: float) -> None:
        """Return once OPA answers on its socket with the bundle active.

        `deadline` is an instant of `time.monotonic()`. Raises `SidecarError` when it has passed.
        """
        answer = "nothing listens"
        while (left := deadline - time.monotonic()) > 0:
            try:
                async with asyncio.timeout(min(left, _PROBE_SECONDS)):
                    answer = await _health(self.socket_path)
            except (OSError, TimeoutError) as exc:
                answer = f"{type(exc).__name__} {exc}".strip()
            if answer == "200":
                return
            await asyncio.sleep(_POLL_SECONDS)
        raise SidecarError(f"OPA on {self.socket_path} did not become ready: {answer}")


async def _health(socket_path: Path) -> str:
    """Return the HTTP status of OPA's health, bundles and plugins included."""
    reader, writer = await asyncio.open_unix_connection(str(socket_path))
    try:
        writer.write(b"GET /health?bundles&plugins HTTP/1.1\r\nHost: opa\r\nConnection: close\r\n\r\n")
        line = await reader.readline()
    finally:
        writer.close()
    parts = line.decode("latin-1").split(" ", 2)
    return parts[1] if len(parts) > 1 else "no HTTP"
