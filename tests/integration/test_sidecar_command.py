"""`pdp sidecar`: what it writes starts an OPA that the server can ask."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from pdp.model import Effect
from pdp.opa import OpaAdministration, OpaPolicyEngine
from pdp.opa.bundle import BuiltBundle
from pdp.opa.sidecar import OpaSidecar
from tests.support.opa import READY_SECONDS, describe, free_address, short_directory

Written = dict[str, Any]


def sidecar(*options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pdp", "sidecar", *options], capture_output=True, text=True, timeout=60
    )


@pytest.fixture
def options(opa_path: Path, signed_bundle: BuiltBundle, tmp_path: Path) -> Iterator[list[str]]:
    (tmp_path / "key.pub").write_text(signed_bundle.public_key)
    with short_directory() as directory:
        yield [
            *(
                "--opa",
                str(opa_path),
                "--directory",
                str(directory / "new"),
                "--bundle",
                str(signed_bundle.path),
            ),
            *("--public-key", str(tmp_path / "key.pub"), "--admin-address", free_address()),
            *("--diagnostic-address", free_address()),
        ]


@contextmanager
def started(settings: Written) -> Iterator[Path]:
    """Run the script that was written; yield OPA's socket."""
    socket = Path(settings["opa_socket"])
    process = subprocess.Popen([str(socket.with_name("run.sh"))], stderr=subprocess.DEVNULL)
    try:
        yield socket
    finally:
        process.kill()
        process.wait()


def tokens_of(settings: Written) -> list[str]:
    return [Path(settings[name]).read_text() for name in ("opa_token_file", "opa_admin_token_file")]


async def until_ready(socket: Path, like: OpaSidecar) -> None:
    assert socket == like.socket_path
    await like.wait_until_ready(deadline=time.monotonic() + READY_SECONDS)


async def test_written_sidecar_serves_with_the_written_settings(
    options: list[str], opa_path: Path, signed_bundle: BuiltBundle
) -> None:
    written = sidecar(*options)
    assert written.returncode == 0, written.stderr
    settings = yaml.safe_load(written.stdout)
    decision, admin = (Path(settings[name]) for name in ("opa_token_file", "opa_admin_token_file"))
    assert {stat.S_IMODE(os.stat(file).st_mode) for file in (decision, admin)} == {0o600}
    like = describe(opa_path, Path(settings["opa_socket"]).parent, signed_bundle)
    # The second start finds the socket that the first, killed, has left.
    for _ in range(2):
        with started(settings) as socket:
            await until_ready(socket, like)
            engine = OpaPolicyEngine(socket, token=decision.read_text())
            verdict = await engine.decide(b"{}", deadline=time.monotonic() + 10)
            await engine.aclose()
            assert (verdict.effect, verdict.policy.revision) == (Effect.BLOCK, signed_bundle.revision)
            status = await OpaAdministration(settings["opa_admin_url"], token=admin.read_text()).status()
            assert status.revision == signed_bundle.revision


async def test_writing_again_keeps_tokens_and_the_opa_that_runs(
    options: list[str], opa_path: Path, signed_bundle: BuiltBundle
) -> None:
    settings = yaml.safe_load(sidecar(*options).stdout)
    tokens = tokens_of(settings)
    like = describe(opa_path, Path(settings["opa_socket"]).parent, signed_bundle)
    with started(settings) as socket:
        await until_ready(socket, like)
        assert yaml.safe_load(sidecar(*options).stdout) == settings
        await until_ready(socket, like)
    assert tokens_of(settings) == tokens


def test_what_cannot_be_set_up_is_said_in_words(options: list[str], tmp_path: Path) -> None:
    beyond = sidecar(*options, "--admin-address", "0.0.0.0:8181")
    assert (beyond.returncode, beyond.stdout) == (2, "")
    assert "OPA must listen on loopback only" in beyond.stderr
    (tmp_path / "key.pub").write_text("no key")
    other = sidecar(*options)
    assert (other.returncode, other.stdout) == (2, "")
    assert "key.pub: not a readable PEM public key" in other.stderr
