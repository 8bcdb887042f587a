"""What runs beside a stack for comparison: further OPAs, PDPs on them, the naive design, Cerbos."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from bench.stack import ROOT, StackError
from bench.stack import Stack as BenchStack
from pdp.dev import ports
from pdp.dev.stack import find_opa, write_secret
from pdp.opa import bundle, sidecar

START_PATIENCE = 60.0
STOP_PATIENCE = 20.0
# The variables and the flag that the PDP starts OPA with; OPA as shipped has neither.
TUNED_ENVIRONMENT = ("GOGC", "GOMEMLIMIT")
TUNED_FLAG = "--optimize-store-for-read-speed"


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """A process and where it listens: host:port, or the path of a socket."""

    address: str
    pid: int


@contextlib.contextmanager
def opa(
    stack: BenchStack, name: str, *, sources: Path | None = None, shipped: bool = False
) -> Iterator[Part]:
    """Run an OPA with the stack's tokens and a bundle of `sources` (by default the product's policy).

    `shipped`: with OPA's own defaults instead of those that the PDP runs it with.
    """
    binary = asyncio.run(find_opa())
    with tempfile.TemporaryDirectory(prefix="pb-") as folder:
        directory = Path(folder)
        keys = stack.directory / "keys"
        built = bundle.build(
            opa=binary,
            key=bundle.ensure_signing_key(keys / "bundle.pem"),
            output=directory / "bundle.tar.gz",
            sources=sources,
        )
        admin, diagnostic = (f"{ports.HOST}:{port}" for port in ports.free_ports(2))
        described = sidecar.OpaSidecar(
            opa=binary,
            directory=directory,
            bundle=sidecar.BundleSource(
                location=str(built.path), key_id=built.key_id, public_key=built.public_key, scope=built.scope
            ),
            admin_address=admin,
            diagnostic_address=diagnostic,
            decision_token=(keys / "opa-decision.token").read_text(encoding="ascii"),
            admin_token=(keys / "opa-admin.token").read_text(encoding="ascii"),
        )
        described.write()
        command = described.command()
        argv = [part for part in command.argv if not (shipped and part == TUNED_FLAG)]
        environment = {
            k: v for k, v in command.environment.items() if not (shipped and k in TUNED_ENVIRONMENT)
        }
        (directory / "admin").write_text(f"http://{admin}", encoding="ascii")
        with process(name, argv, stack.directory, environment=environment) as child:
            # It listens only once its bundle is active.
            until_listening(child, str(described.socket_path))
            yield Part(address=str(described.socket_path), pid=child.pid)


@contextlib.contextmanager
def pdp(stack: BenchStack, opa_part: Part, name: str) -> Iterator[Part]:
    """Run a further replica of the stack's PDP, on another OPA."""
    grpc_port, http_port = ports.free_ports(2)
    settings = yaml.safe_load((stack.directory / "pdp-1.yaml").read_text(encoding="utf-8"))
    settings |= {
        "replica": name,
        "grpc_address": f"{ports.HOST}:{grpc_port}",
        "http_address": f"{ports.HOST}:{http_port}",
        "opa_socket": opa_part.address,
        "opa_admin_url": (Path(opa_part.address).parent / "admin").read_text(encoding="ascii"),
    }
    config = stack.directory / f"{name}.yaml"
    write_secret(config, yaml.safe_dump(settings))
    with process(
        name, [sys.executable, "-m", "pdp", "serve", "--config", str(config)], stack.directory
    ) as child:
        until_listening(child, settings["grpc_address"])
        yield Part(address=settings["grpc_address"], pid=child.pid)


@contextlib.contextmanager
def naive(stack: BenchStack, opa_part: Part) -> Iterator[Part]:
    """Run the naive design on the stack's database."""
    address = f"{ports.HOST}:{ports.free_ports(1)[0]}"
    argv = [
        sys.executable,
        "-m",
        "bench.naive",
        str(stack.directory / "pdp-1.yaml"),
        opa_part.address,
        address,
    ]
    with process("naive", argv, stack.directory) as child:
        until_listening(child, address)
        yield Part(address=address, pid=child.pid)


@contextlib.contextmanager
def process(
    name: str, argv: Sequence[str], logs: Path, *, environment: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program, its output in a log; end it afterwards."""
    with (logs / f"{name}.log").open("wb") as log:
        child = subprocess.Popen(
            argv,
            cwd=ROOT,
            env=dict(os.environ if environment is None else environment),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            yield child
        except StackError as exc:
            said = (logs / f"{name}.log").read_text(encoding="utf-8", errors="replace")
            raise StackError(f"{name}: {exc}; it said\n{said}") from exc
        finally:
            child.send_signal(signal.SIGTERM)
            try:
                child.wait(STOP_PATIENCE)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()


def until_listening(child: subprocess.Popen[bytes], address: str) -> None:
    """Wait until somebody answers at `address`. Raises `StackError`."""
    deadline = time.monotonic() + START_PATIENCE
    while time.monotonic() < deadline:
        if child.poll() is not None:
            raise StackError(f"it ended with {child.returncode}")
        try:
            if address.startswith("/"):
                with socket.socket(socket.AF_UNIX) as probe:
                    probe.connect(address)
            else:
                host, _, port = address.rpartition(":")
                socket.create_connection((host, int(port)), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise StackError(f"nobody listens on {address} after {START_PATIENCE:.0f} s")
