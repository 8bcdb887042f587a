"""A real OPA for tests: the signed bundle, built once, and sidecars that serve it.

A missing OPA is an error, never a skip: tools are built by the project (.tools/bin/opa).
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from pdp.opa import OpaPolicyEngine
from pdp.opa.bundle import BuiltBundle, build, ensure_signing_key
from pdp.opa.sidecar import BundleSource, OpaSidecar

# Generous: the disk stalls for seconds now and then.
READY_SECONDS = 60.0


def opa_binary() -> Path:
    path = Path(os.environ.get("PLACET_OPA", Path(__file__).parents[2] / ".tools" / "bin" / "opa"))
    assert path.is_file(), f"{path} is missing: build the tools first"
    return path


def free_address() -> str:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{listener.getsockname()[1]}"


class RunningOpa:
    """An OPA process that a test may kill, pause and start again."""

    def __init__(self, sidecar: OpaSidecar) -> None:
        self.sidecar = sidecar
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def socket_path(self) -> Path:
        return self.sidecar.socket_path

    def engine(self, **options: object) -> OpaPolicyEngine:
        return OpaPolicyEngine(self.socket_path, token=self.sidecar.decision_token, **options)  # type: ignore[arg-type]

    def launch(self) -> None:
        self.sidecar.write()
        command = self.sidecar.command()
        with (self.sidecar.directory / "opa.log").open("ab") as log:
            self._process = subprocess.Popen(
                command.argv, env=dict(command.environment), stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    async def start(self) -> None:
        self.launch()
        await self.sidecar.wait_until_ready(deadline=time.monotonic() + READY_SECONDS)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def pause(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def log(self) -> str:
        return (self.sidecar.directory / "opa.log").read_text(encoding="utf-8")


@pytest.fixture(scope="session")
def opa_path() -> Path:
    return opa_binary()


@pytest.fixture(scope="session")
def signed_bundle(opa_path: Path, tmp_path_factory: pytest.TempPathFactory) -> BuiltBundle:
    """Return the shipped policy, built and signed as `pdp` does it."""
    directory = tmp_path_factory.mktemp("bundle")
    key = ensure_signing_key(directory / "signing.pem")
    return build(opa=opa_path, key=key, output=directory / "placet.tar.gz")


@pytest.fixture(scope="session")
def shared_opa(opa_path: Path, signed_bundle: BuiltBundle) -> Iterator[RunningOpa]:
    """Yield one OPA for all tests that leave it as it is. It is started, and perhaps not ready yet."""
    with short_directory() as directory:
        running = RunningOpa(describe(opa_path, directory, signed_bundle))
        running.launch()
        try:
            yield running
        finally:
            running.kill()


@pytest.fixture
async def opa(shared_opa: RunningOpa) -> RunningOpa:
    """Return the shared OPA once it is ready."""
    await shared_opa.sidecar.wait_until_ready(deadline=time.monotonic() + READY_SECONDS)
    return shared_opa


@pytest.fixture
async def own_opa(opa_path: Path, signed_bundle: BuiltBundle) -> AsyncIterator[RunningOpa]:
    """Yield an OPA of the test's own that is ready."""
    with short_directory() as directory:
        running = RunningOpa(describe(opa_path, directory, signed_bundle))
        try:
            await running.start()
            yield running
        finally:
            running.kill()


@pytest.fixture
def new_opa(opa_path: Path) -> Iterator[Callable[..., RunningOpa]]:
    """Yield a function that describes an OPA for a bundle; what the test launches is killed after it."""
    made: list[RunningOpa] = []

    with short_directory() as root:

        def make(bundle: BuiltBundle, **changes: object) -> RunningOpa:
            directory = root / str(len(made))
            made.append(RunningOpa(describe(opa_path, directory, bundle, **changes)))
            return made[-1]

        try:
            yield make
        finally:
            for running in made:
                running.kill()


class short_directory:
    """A temporary directory whose path leaves room for a socket's name."""

    def __enter__(self) -> Path:
        self._path = Path(tempfile.mkdtemp(prefix="placet-"))
        return self._path

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self._path, ignore_errors=True)


def describe(opa: Path, directory: Path, bundle: BuiltBundle, **changes: object) -> OpaSidecar:
    """Return the sidecar for `bundle`; `changes` replace fields of it or of its bundle's source."""
    source: dict[str, object] = {
        "location": str(bundle.path),
        "key_id": bundle.key_id,
        "public_key": bundle.public_key,
        "scope": bundle.scope,
    }
    sidecar: dict[str, object] = {}
    for name, value in changes.items():
        (source if name in BundleSource.__dataclass_fields__ else sidecar)[name] = value
    return OpaSidecar(
        opa=opa,
        directory=directory,
        bundle=BundleSource(**source),  # type: ignore[arg-type]
        admin_address=free_address(),
        diagnostic_address=free_address(),
        **sidecar,  # type: ignore[arg-type]
    )
