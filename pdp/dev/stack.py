"""Everything on one machine: PostgreSQL, OPA with a signed bundle, and PDP replicas.

All of it lives in one data directory and survives there: sessions, decisions, keys. The order of
starting is the order of needing; stopping is the reverse.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import yaml

from pdp.dev import local_postgres, ports
from pdp.dev.supervise import Change, Child, ChildError, Supervisor
from pdp.opa import bundle, sidecar

ROOT = Path(__file__).resolve().parents[2]
GRPC_PORT, HTTP_PORT = 7433, 7434
OPA_SOCKET = "opa.sock"
SERVER_ROLE = "placet_server"
# `pdp serve` ends with this code when its configuration is at fault.
CONFIGURATION_FAULT = 2


class StackError(Exception):
    """The stack cannot start. The message says what to do."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StackOptions:
    """What to run. Replica n listens on the given ports plus 2 n, or on free ones."""

    data_dir: Path
    replicas: int = 1
    grpc_port: int = GRPC_PORT
    http_port: int = HTTP_PORT
    any_ports: bool = False
    manual_clock: bool = False
    # What runs a replica; `--config FILE` is added.
    serve: tuple[str, ...] = (sys.executable, "-m", "pdp", "serve")


@dataclass(frozen=True, kw_only=True, slots=True)
class Replica:
    name: str
    grpc_address: str
    http_address: str

    @property
    def http_url(self) -> str:
        return f"http://{self.http_address}"


@dataclass(slots=True)
class Stack:
    """A stack that runs in this process's event loop. Use `running()`."""

    options: StackOptions
    say: Callable[[str], None]
    replicas: tuple[Replica, ...] = ()
    supervisor: Supervisor = field(init=False)
    # Set when a child was given up; its message is then in `failure`.
    failed: asyncio.Event = field(default_factory=asyncio.Event)
    failure: str = ""
    _described: dict[str, Any] = field(default_factory=dict)
    _lock: IO[str] | None = None
    _started: float = field(default_factory=time.monotonic)
    _up: bool = False

    def __post_init__(self) -> None:
        self.supervisor = Supervisor(self._report)

    @property
    def directory(self) -> Path:
        return self.options.data_dir.resolve()

    @property
    def description(self) -> Path:
        """Addresses, process ids and paths as JSON, current while the stack runs."""
        return self.directory / "stack.json"

    async def start(self) -> None:
        """Start everything, and return when it serves. Raises `StackError`."""
        try:
            self._lock = take_lock(self.directory)
            self.replicas = choose_ports(self.options)
            database_url = await self._start_database()
            opa_settings = await self._start_opa()
            for replica in self.replicas:
                await self._start_replica(replica, {"database_url": database_url, **opa_settings})
        except (ChildError, local_postgres.PostgresError, bundle.BundleError, sidecar.SidecarError) as exc:
            raise StackError(str(exc)) from exc
        except PermissionError as exc:
            raise StackError(
                f"{exc.filename}: {exc.strerror}.\n"
                "  Run as the user who owns it, or choose another --data-dir."
            ) from exc
        self._up = True
        self._describe()

    async def stop(self) -> None:
        await self.supervisor.stop()
        # Without the lock, directory and description belong to another process.
        if self._lock is not None:
            self.description.unlink(missing_ok=True)
            self._lock.close()

    # --- the parts -----------------------------------------------------------

    async def _start_database(self) -> str:
        """Start PostgreSQL unless DATABASE_URL names one; migrate it; return its address for replicas."""
        if given := os.environ.get("DATABASE_URL"):
            self.say("Using the database that DATABASE_URL names")
            await self._migrate(given)
            return given
        log = self.directory / "logs" / "postgres.log"
        local = await asyncio.to_thread(
            local_postgres.prepare, self.directory / "postgres", log=log, say=self.say
        )
        await self.supervisor.start(local.child())
        await local.create_database()
        self._described["postgres"] = {"sockets": str(local.sockets), "data": str(local.data)}
        await self._migrate(local.url())
        return await local.create_login(SERVER_ROLE)

    async def _migrate(self, owner_url: str) -> None:
        from pdp.postgres.migrate import migrate

        await migrate(owner_url, server_role=SERVER_ROLE, manual_clock=self.options.manual_clock)

    async def _start_opa(self) -> dict[str, Any]:
        """Start OPA; return what the replicas must know of it."""
        opa = await find_opa()
        key = bundle.ensure_signing_key(private(self.directory / "keys") / "bundle.pem")
        built = await asyncio.to_thread(
            bundle.build, opa=opa, key=key, output=self.directory / "bundle.tar.gz"
        )
        admin, diagnostic = (f"{ports.HOST}:{port}" for port in ports.free_ports(2))
        described = sidecar.OpaSidecar(
            opa=opa,
            directory=short_directory(self.directory / "opa", OPA_SOCKET),
            bundle=sidecar.BundleSource(
                location=str(built.path), key_id=built.key_id, public_key=built.public_key, scope=built.scope
            ),
            admin_address=admin,
            diagnostic_address=diagnostic,
        )
        tokens = private(self.directory / "keys")
        decision_token, admin_token = tokens / "opa-decision.token", tokens / "opa-admin.token"
        write_secret(decision_token, described.decision_token)
        write_secret(admin_token, described.admin_token)
        command = described.command()

        async def ready() -> bool:
            try:
                await described.wait_until_ready(deadline=time.monotonic() + 0.5)
            except sidecar.SidecarError:
                return False
            return True

        async def prepare() -> None:
            described.write()

        await self.supervisor.start(
            Child(
                name="opa",
                argv=command.argv,
                environment=command.environment,
                log=self.directory / "logs" / "opa.log",
                ready=ready,
                prepare=prepare,
            )
        )
        self._described["opa"] = {
            "socket": str(described.socket_path),
            "diagnostic": f"http://{diagnostic}",
            "revision": built.revision,
        }
        return {
            "opa_socket": str(described.socket_path),
            "opa_token_file": str(decision_token),
            "opa_admin_url": f"http://{admin}",
            "opa_admin_token_file": str(admin_token),
        }

    async def _start_replica(self, replica: Replica, shared: dict[str, Any]) -> None:
        fingerprint_key = private(self.directory / "keys") / "fingerprint.key"
        if not fingerprint_key.exists():
            write_secret(fingerprint_key, secrets.token_hex(32))
        settings = {
            **shared,
            "grpc_address": replica.grpc_address,
            "http_address": replica.http_address,
            "fingerprint_key_file": str(fingerprint_key),
            "issuer": "placet-dev",
            "replica": replica.name,
            "insecure_dev": True,
            "reflection": True,
            "clock": "manual" if self.options.manual_clock else "system",
        }
        config = self.directory / f"{replica.name}.yaml"
        write_secret(config, yaml.safe_dump(settings, sort_keys=True))

        async def ready() -> bool:
            return await answers_ok(replica.http_address, "/readyz")

        await self.supervisor.start(
            Child(
                name=replica.name,
                argv=(*self.options.serve, "--config", str(config)),
                log=self.directory / "logs" / f"{replica.name}.log",
                # The replica is configured by its file alone, whatever our own environment says.
                environment={k: v for k, v in os.environ.items() if not k.startswith("PLACET_")},
                ready=ready,
                fatal_codes=frozenset({CONFIGURATION_FAULT}),
            )
        )

    # --- what the world sees -------------------------------------------------

    def _report(self, change: Change) -> None:
        if change.what == "failed":
            self.failure = change.detail
            self.failed.set()
        elif change.what == "died":
            self.say(f"{change.child} died ({change.detail}); starting it again")
        elif change.what == "not ready":
            self.say(f"{change.child} did not come up, trying again: {change.detail}")
        elif change.what == "ready":
            elapsed = time.monotonic() - self._started
            self.say(f"{change.child} serves" + ("" if self._up else f" after {elapsed:.1f} s"))
        if self._up:
            self._describe()

    def _describe(self) -> None:
        def pid(name: str) -> int | None:
            return self.supervisor.pid(name)

        described = {
            "pid": os.getpid(),
            "data_dir": str(self.directory),
            "logs": str(self.directory / "logs"),
            "manual_clock": self.options.manual_clock,
            "replicas": [
                {
                    "name": replica.name,
                    "grpc": replica.grpc_address,
                    "http": replica.http_url,
                    "metrics": f"{replica.http_url}/metrics",
                    "jwks": f"{replica.http_url}/.well-known/jwks.json",
                    "pid": pid(replica.name),
                }
                for replica in self.replicas
            ],
            "opa": {**self._described["opa"], "pid": pid("opa")},
            "postgres": {**self._described["postgres"], "pid": pid("postgres")}
            if "postgres" in self._described
            else None,
        }
        fresh = self.description.with_suffix(".new")
        fresh.write_text(json.dumps(described, indent=1), encoding="utf-8")
        fresh.replace(self.description)


def take_lock(directory: Path) -> IO[str]:
    """Hold the data directory for this process. Raises `StackError` if another holds it."""
    directory.mkdir(parents=True, exist_ok=True)
    lock = (directory / "lock").open("a+", encoding="utf-8")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as exc:
        lock.seek(0)
        holder = lock.read().strip() or "unknown"
        lock.close()
        raise StackError(
            f"Another stack (process {holder}) uses {directory}.\n"
            f"  Stop it (Ctrl-C in its terminal, or `kill {holder}`), or choose another --data-dir."
        ) from exc
    lock.truncate(0)
    lock.write(f"{os.getpid()}\n")
    lock.flush()
    return lock


def choose_ports(options: StackOptions) -> tuple[Replica, ...]:
    """Give each replica its addresses. Raises `StackError` for a port that is in use."""
    if options.any_ports:
        free = ports.free_ports(2 * options.replicas)
        pairs = list(zip(free[::2], free[1::2], strict=True))
    else:
        pairs = [(options.grpc_port + 2 * n, options.http_port + 2 * n) for n in range(options.replicas)]
        for port in [port for pair in pairs for port in pair]:
            try:
                free_now = ports.is_free(port)
            except (OSError, OverflowError) as exc:
                raise StackError(f"Port {port} cannot be used: {exc}.\n  Choose another.") from exc
            if not free_now:
                raise StackError(
                    f"Port {port} is in use by another program.\n"
                    f"  Stop that program (`ss -ltnp 'sport = :{port}'` shows it), or choose other ports:\n"
                    "  --ports auto, or --grpc-port and --http-port"
                    ' (with make: make run ARGS="--ports auto").'
                )
    return tuple(
        Replica(name=f"pdp-{n}", grpc_address=f"{ports.HOST}:{grpc}", http_address=f"{ports.HOST}:{http}")
        for n, (grpc, http) in enumerate(pairs, start=1)
    )


async def find_opa() -> Path:
    """Return the pinned OPA in a checkout, built if need be, and the one on PATH elsewhere.

    A build ends when this is cancelled.
    """
    builder = ROOT / "tools" / "build.py"
    if builder.exists():
        building = await asyncio.create_subprocess_exec(
            sys.executable, str(builder), "opa", "--print", stdout=asyncio.subprocess.PIPE
        )
        try:
            said, _ = await building.communicate()
        except asyncio.CancelledError:
            with contextlib.suppress(ProcessLookupError):
                building.terminate()
            await building.wait()
            raise
        if building.returncode != 0:
            raise StackError("OPA cannot be had; the message above says why")
        return Path(said.decode().strip())
    if found := shutil.which("opa"):
        return Path(found)
    raise StackError(
        "OPA was not found on PATH.\n  Install version 1.22.2 or newer: https://www.openpolicyagent.org/docs"
    )


def private(directory: Path) -> Path:
    """Make a directory that nobody else may enter."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    return directory


def write_secret(path: Path, text: str) -> None:
    """Write a file, whole or not at all, that nobody else may read."""
    fresh = path.with_name(f".{path.name}.new")
    fresh.unlink(missing_ok=True)
    with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
    fresh.replace(path)


def short_directory(directory: Path, socket_name: str) -> Path:
    """Return `directory`, or one in /tmp if the path of a socket in it would be too long."""
    if len(os.fsencode(directory / socket_name)) <= local_postgres.LONGEST_SOCKET_PATH:
        return directory
    pointer = directory.with_suffix(".elsewhere")
    if not pointer.exists() or not Path(pointer.read_text(encoding="utf-8")).is_dir():
        write_secret(pointer, tempfile.mkdtemp(prefix="placet-"))
    return Path(pointer.read_text(encoding="utf-8"))


async def answers_ok(address: str, path: str, *, within: float = 2.0) -> bool:
    """Return whether an HTTP GET is answered with 200."""
    host, _, port = address.rpartition(":")
    try:
        async with asyncio.timeout(within):
            reader, writer = await asyncio.open_connection(host, int(port))
            try:
                writer.write(f"GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n".encode())
                return b" 200 " in await reader.readline()
            finally:
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()
    except (OSError, TimeoutError):
        return False
