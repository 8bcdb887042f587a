"""What /readyz says beside a real database and a real OPA."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest
from starlette.types import Message
from structlog.testing import capture_logs

from pdp.metrics import Metrics
from pdp.opa import OpaAdministration, OpaPolicyEngine
from pdp.postgres.store import PostgresStore
from pdp.readiness import Readiness
from pdp.server.http.operations import http_application
from pdp.signing import RotatingSigner
from pdp.skew import ClockSkew
from tests.support.fake_opa import allow_all, fake_opa
from tests.support.opa import RunningOpa

Ready = Callable[[OpaPolicyEngine], Any]


@pytest.fixture
async def ready(database_url: str, opa: RunningOpa) -> Any:
    """Yield a function that returns the application whose readiness asks the given engine."""
    async with PostgresStore.open(database_url, replica="test") as store, AsyncExitStack() as stack:
        signer = RotatingSigner(store.keys, replica="test")
        await signer.rotate()

        def application(engine: OpaPolicyEngine) -> Any:
            stack.push_async_callback(engine.aclose)
            readiness = Readiness(
                opa=OpaAdministration(opa.sidecar.admin_address, token=opa.sidecar.admin_token),
                engine=engine,
                store=store,
                signer=signer,
                skew=ClockSkew(),
                stopping=asyncio.Event(),
            )
            return http_application(metrics=Metrics(), keys=store.keys, checks=readiness.checks)

        yield application


async def readyz(application: Any) -> tuple[int, dict[str, str]]:
    """Return the status and what is missing."""
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": "/readyz", "headers": [], "query_string": b""}
    await application(scope, receive, send)
    checks = json.loads(sent[1]["body"])["checks"]
    return sent[0]["status"], {name: said for name, said in checks.items() if said != "ok"}


async def test_replica_that_can_decide_is_ready(ready: Ready, opa: RunningOpa) -> None:
    assert await readyz(ready(opa.engine())) == (200, {})


async def test_wrong_token_of_decisions_is_seen_and_logged_once(ready: Ready, opa: RunningOpa) -> None:
    application = ready(OpaPolicyEngine(opa.socket_path, token="wrong"))
    with capture_logs() as lines:
        for _ in range(2):
            status, missing = await readyz(application)
            assert (status, set(missing)) == (503, {"policy"})
            assert "OPA refuses the token of opa_token_file" in missing["policy"]
    assert [(line["event"], line["checks"]) for line in lines] == [("not_ready", missing)]


async def test_policy_that_allows_an_empty_document_is_seen(ready: Ready) -> None:
    async def allow(query: Any) -> bytes:
        return allow_all(query)

    async with fake_opa(allow) as server:
        status, missing = await readyz(ready(OpaPolicyEngine(server.socket_path)))
    assert (status, set(missing)) == (503, {"policy"})
    assert "gets the effect allow, and has to be blocked" in missing["policy"]


async def test_opa_that_is_gone_is_seen_and_its_return_is_logged(ready: Ready, own_opa: RunningOpa) -> None:
    application = ready(own_opa.engine())
    own_opa.kill()
    with capture_logs() as lines:
        status, missing = await readyz(application)
        assert (status, set(missing)) == (503, {"policy"})
        await own_opa.start()
        assert await readyz(application) == (200, {})
    assert [line["event"] for line in lines] == ["not_ready", "ready"]
