"""The policy on OPA's own container image, of the version that this project pins."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest
from testcontainers.core.container import DockerContainer

from pdp.model import Effect
from pdp.opa.bundle import BuiltBundle
from tests.support.documents import encode, payment_document
from tests.support.opa import READY_SECONDS, RunningOpa, describe, short_directory

GO_MOD = Path(__file__).parents[2] / "tools" / "opa" / "go.mod"


def pinned() -> str:
    found = re.search(r"github\.com/open-policy-agent/opa v(\S+)", GO_MOD.read_text())
    assert found is not None
    return found.group(1)


@pytest.mark.docker
async def test_payment_is_allowed_by_the_official_image(opa_path: Path, signed_bundle: BuiltBundle) -> None:
    with short_directory() as directory:
        sidecar = describe(opa_path, directory, signed_bundle)
        sidecar.write()
        command = sidecar.command()
        container = DockerContainer(f"openpolicyagent/opa:{pinned()}-static", user="0")
        # The same paths inside as outside: socket, configuration, bundle.
        for folder in {directory, signed_bundle.path.parent}:
            container = container.with_volume_mapping(str(folder), str(folder), "rw")
        for name, value in command.environment.items():
            container = container.with_env(name, value)
        with container.with_command(list(command.argv[1:])):
            deadline = time.monotonic() + READY_SECONDS
            await sidecar.wait_until_ready(deadline=deadline)
            engine = RunningOpa(sidecar).engine()
            verdict = await engine.decide(encode(payment_document()), deadline=deadline)
            await engine.aclose()
    assert verdict.effect is Effect.ALLOW
