"""The sidecar's doors: who may ask what of OPA, and what it is started with."""

from __future__ import annotations

import asyncio
import functools
import http.client
import http.server
import json
import os
import socket
import stat
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import pytest

from pdp.errors import PolicyUnavailableError
from pdp.opa import OpaAdministration
from pdp.opa.bundle import BuiltBundle, build, ensure_signing_key
from pdp.opa.sidecar import BundleSource, OpaSidecar, SidecarError
from tests.support.documents import encode, payment_document
from tests.support.opa import RunningOpa, free_address

T = TypeVar("T")

DECISION = "/v1/data/placet/decision/decision"
BATCH = "/v1/data/placet/decision/batch"
INPUT = b'{"input":' + encode(payment_document()) + b"}"


def ask(
    address: str | Path, method: str, target: str, *, token: str = "", body: bytes | None = None
) -> tuple[int, bytes]:
    """One request, to a unix socket (a path) or to host:port."""
    if isinstance(address, Path):
        connection = http.client.HTTPConnection("opa", timeout=30)
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.connect(str(address))
    else:
        connection = http.client.HTTPConnection(address, timeout=30)
    try:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        connection.request(method, target, body=body, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


@pytest.fixture(params=["socket", "admin address", "diagnostic address"])
def door(request: pytest.FixtureRequest, opa: RunningOpa) -> str | Path:
    sidecar = opa.sidecar
    return {
        "socket": sidecar.socket_path,
        "admin address": sidecar.admin_address,
        "diagnostic address": sidecar.diagnostic_address,
    }[request.param]


async def test_socket_is_for_its_owner_and_group(opa: RunningOpa) -> None:
    assert stat.S_IMODE(opa.socket_path.stat().st_mode) == 0o660


@pytest.mark.parametrize("target", [DECISION, BATCH])
async def test_decisions_need_the_decision_token(opa: RunningOpa, target: str) -> None:
    body = INPUT if target == DECISION else b'{"input":{"items":{}}}'

    assert ask(opa.socket_path, "POST", target, token=opa.sidecar.decision_token, body=body)[0] == 200
    for token in ("", "wrong", opa.sidecar.admin_token):
        assert ask(opa.socket_path, "POST", target, token=token, body=body)[0] == 401


@pytest.mark.parametrize("token", ["none", "decision", "admin"])
@pytest.mark.parametrize(
    ("method", "target", "body"),
    [
        ("PUT", "/v1/policies/evil", b"package placet.rules.evil\n"),
        ("DELETE", "/v1/policies/evil", None),
        ("PUT", "/v1/data/placet/defaults", b"{}"),
        ("PATCH", "/v1/data/placet/defaults", b"[]"),
        ("DELETE", "/v1/data/placet", None),
        ("POST", "/v1/data", b"{}"),
        ("POST", "/v1/data/placet", b"{}"),
        ("POST", "/v1/data/placet/rules", b"{}"),
        ("POST", "/v1/data/system/authz", b"{}"),
        ("POST", "/v1/query", b'{"query":"data"}'),
        ("POST", "/v1/compile", b'{"query":"data.placet"}'),
        ("POST", "/v0/data/placet/decision/decision", b"{}"),
        ("POST", "/", b"{}"),
        ("POST", DECISION + "/effect", b"{}"),
    ],
)
async def test_nobody_may_change_policy_or_ask_anything_else(
    opa: RunningOpa, door: str | Path, token: str, method: str, target: str, body: bytes | None
) -> None:
    tokens = {"none": "", "decision": opa.sidecar.decision_token, "admin": opa.sidecar.admin_token}
    status, said = ask(door, method, target, token=tokens[token], body=body)
    assert status in (401, 404, 405)
    assert b"result" not in said


@pytest.mark.parametrize("target", ["/v1/status", "/v1/policies", "/v1/data/placet/defaults", "/v1/config"])
async def test_reading_needs_the_admin_token(opa: RunningOpa, target: str) -> None:
    address = opa.sidecar.admin_address

    assert ask(address, "GET", target, token=opa.sidecar.admin_token)[0] == 200
    for token in ("", "wrong", opa.sidecar.decision_token):
        assert ask(address, "GET", target, token=token)[0] == 401


async def test_health_needs_no_token(opa: RunningOpa, door: str | Path) -> None:
    assert ask(door, "GET", "/health?bundles&plugins")[0] == 200


async def test_tokens_are_not_in_the_files(opa: RunningOpa) -> None:
    for path in (opa.sidecar.config_path, opa.sidecar.authorization_path):
        text = path.read_text()
        assert opa.sidecar.decision_token not in text
        assert opa.sidecar.admin_token not in text
    command = opa.sidecar.command()
    assert opa.sidecar.admin_token not in repr((command, opa.sidecar))


async def test_environment_is_not_inherited(opa: RunningOpa, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgres://secret")
    assert dict(opa.sidecar.command().environment) == {
        "GOGC": "off",
        "GOMEMLIMIT": "512MiB",
        "HOME": str(opa.sidecar.directory),
        "TZ": "UTC",
    }


async def test_socket_that_a_killed_opa_left_is_no_obstacle(own_opa: RunningOpa) -> None:
    own_opa.kill()
    assert own_opa.socket_path.exists()
    await own_opa.start()


async def test_waiting_for_an_opa_that_never_comes_says_so(opa: RunningOpa, tmp_path: Path) -> None:
    absent = replace(opa.sidecar, directory=tmp_path / "x", opa=Path(os.devnull))
    with pytest.raises(SidecarError, match="did not become ready"):
        await absent.wait_until_ready(deadline=time.monotonic() + 0.1)


def test_directory_that_leaves_no_room_for_a_socket_is_refused(
    opa_path: Path, signed_bundle: BuiltBundle
) -> None:
    with pytest.raises(SidecarError, match="choose a shorter directory"):
        sidecar_of(opa_path, signed_bundle, directory=Path("/tmp") / ("x" * 100))


def test_address_beyond_loopback_is_refused(opa_path: Path, signed_bundle: BuiltBundle) -> None:
    with pytest.raises(SidecarError, match="loopback only"):
        sidecar_of(opa_path, signed_bundle, admin_address="0.0.0.0:8181")


def sidecar_of(opa: Path, bundle: BuiltBundle, **changes: object) -> OpaSidecar:
    source = BundleSource(
        location=str(bundle.path), key_id=bundle.key_id, public_key=bundle.public_key, scope=bundle.scope
    )
    fields: dict[str, object] = {
        "opa": opa,
        "directory": Path("/tmp/placet-never"),
        "bundle": source,
        "admin_address": "127.0.0.1:1",
        "diagnostic_address": "127.0.0.1:2",
    }
    return OpaSidecar(**(fields | changes))  # type: ignore[arg-type]


# --- administration ---


async def test_administration_tells_health_revision_and_policies(
    opa: RunningOpa, signed_bundle: BuiltBundle
) -> None:
    admin = OpaAdministration(f"http://{opa.sidecar.admin_address}", token=opa.sidecar.admin_token)

    assert await admin.healthy()
    status = await admin.status()
    assert status.active
    assert status.revision == signed_bundle.revision
    assert status.error == ""
    assert any(policy.endswith("placet/rules/boundary/tool.rego") for policy in await admin.policies())


async def test_administration_with_a_wrong_token_or_nobody_there_is_unavailable(opa: RunningOpa) -> None:
    for address, cause in ((opa.sidecar.admin_address, "status"), (free_address(), "connection")):
        admin = OpaAdministration(address, token="wrong")
        for question in (admin.status, admin.policies):
            with pytest.raises(PolicyUnavailableError) as caught:
                await question()
            assert caught.value.cause == cause
    assert not await OpaAdministration(free_address(), token="wrong").healthy()


async def test_administration_of_a_hung_opa_times_out(own_opa: RunningOpa) -> None:
    own_opa.pause()
    admin = OpaAdministration(own_opa.sidecar.admin_address, token=own_opa.sidecar.admin_token, timeout=0.2)
    assert not await admin.healthy()
    with pytest.raises(PolicyUnavailableError) as caught:
        await admin.status()
    assert caught.value.cause == "timeout"
    own_opa.resume()


# --- a bundle service over HTTP ---


@contextmanager
def bundle_service(directory: Path) -> Iterator[str]:
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None: ...

    handler = functools.partial(Quiet, directory=str(directory))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


async def eventually(look: Callable[[], Awaitable[T]], wanted: Callable[[T], bool]) -> None:
    async with asyncio.timeout(60):
        while not wanted(await look()):  # noqa: ASYNC110  (another process)
            await asyncio.sleep(0.05)


async def test_bad_bundle_is_refused_while_the_old_one_serves_and_a_good_one_replaces_it(
    opa_path: Path, tmp_path: Path, signed_bundle: BuiltBundle, new_opa: Callable[..., RunningOpa]
) -> None:
    served = tmp_path / "served"
    served.mkdir()
    (served / "placet.tar.gz").write_bytes(signed_bundle.path.read_bytes())
    stranger = build(opa=opa_path, key=ensure_signing_key(tmp_path / "s.pem"), output=tmp_path / "s.tar.gz")
    key = ensure_signing_key(signed_bundle.path.parent / "signing.pem")
    newer = build(opa=opa_path, key=key, output=tmp_path / "n.tar.gz", revision="newer")

    with bundle_service(served) as url:
        running = new_opa(
            signed_bundle, location=f"{url}/placet.tar.gz", poll_min_seconds=1, poll_max_seconds=1
        )
        await running.start()
        engine = running.engine()
        admin = OpaAdministration(running.sidecar.admin_address, token=running.sidecar.admin_token)

        async def revision() -> str:
            verdict = await engine.decide(encode(payment_document()), deadline=time.monotonic() + 30)
            return verdict.policy.revision

        assert await revision() == signed_bundle.revision

        (served / "placet.tar.gz").write_bytes(stranger.path.read_bytes())
        await eventually(admin.status, lambda status: bool(status.error))
        assert await revision() == signed_bundle.revision

        (served / "placet.tar.gz").write_bytes(newer.path.read_bytes())
        await eventually(revision, lambda now: now == "newer")
        assert (await admin.status()).error == ""
        await engine.aclose()


async def test_config_names_the_key_and_the_scope(opa: RunningOpa, signed_bundle: BuiltBundle) -> None:
    config = json.loads(opa.sidecar.config_path.read_text())
    assert config["bundles"]["placet"]["signing"] == {"keyid": signed_bundle.key_id, "scope": "placet"}
    assert config["keys"][signed_bundle.key_id]["algorithm"] == "ES256"
    assert "decision_logs" not in config
