"""A stream whose bearer token expires, with real tokens and the real client."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import grpc
import grpc.aio
import pytest
from joserfc import jwt
from joserfc.jwk import ECKey

from pdp.config.callers import CallerMapping, JwtConfig
from pdp.metrics import Metrics
from pdp.server.grpc.edge import Edge
from pdp.server.identity.authentication import CredentialAuthenticator
from pdp.server.identity.jwks import KeySource
from pdp.server.identity.tokens import TokenVerifier
from placet import AsyncClient, Decision
from placet._calls.stream import DecisionStream
from placet.v1 import decision_service_pb2_grpc as stubs
from tests.support.processes import PATIENCE
from tests.unit.server.test_evaluate_stream import Judge, Service

ISSUER, NOW, LEEWAY = "https://id.example.org", 1_795_514_400, 30
KEY = ECKey.generate_key("P-256", {"kid": "k1"})


@dataclass(kw_only=True)
class Caller:
    """Credentials over a local connection; the token is what `token` says at the time."""

    token: str

    def channel_credentials(self) -> grpc.ChannelCredentials:
        return grpc.local_channel_credentials()

    def metadata(self) -> tuple[tuple[str, str], ...]:
        return (("authorization", f"Bearer {self.token}"),)


@dataclass(kw_only=True)
class Clock:
    now: float = NOW


@dataclass(kw_only=True)
class Scene:
    stream: DecisionStream
    caller: Caller
    clock: Clock
    judge: Judge = field(default_factory=Judge)


def token(expires: float) -> str:
    claims = {"iss": ISSUER, "aud": "placet", "sub": "svc", "exp": expires}
    return jwt.encode({"alg": "ES256", "kid": "k1"}, claims, KEY)


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    config = JwtConfig.model_validate(
        {"issuer": ISSUER, "audience": "placet", "jwks_url": f"{ISSUER}/jwks", "algorithms": ["ES256"]}
        | {"leeway_seconds": LEEWAY}
    )
    mapping = {"match": {"issuer": ISSUER, "subject": "svc"}, "tenant": "acme", "roles": ["agent"]}
    clock, judge, caller = Clock(), Judge(), Caller(token=token(NOW + 60))

    async def keys() -> bytes:
        return json.dumps({"keys": [KEY.as_dict(private=False)]}).encode()

    source = KeySource(ISSUER, keys, max_age=3600, clock=lambda: 0.0)
    edge = Edge(
        Metrics(),
        CredentialAuthenticator(
            [CallerMapping.model_validate(mapping)],
            TokenVerifier({ISSUER: (config, source)}, clock=lambda: clock.now),
        ),
    )
    server = grpc.aio.server(interceptors=[edge])
    stubs.add_DecisionServiceServicer_to_server(Service(edge, judge, asyncio.Event()), server)
    port = server.add_secure_port("127.0.0.1:0", grpc.local_server_credentials())
    await server.start()
    async with (
        AsyncClient(f"127.0.0.1:{port}", credentials=caller, timeout=PATIENCE) as client,
        client.stream() as stream,
    ):
        yield Scene(stream=stream, caller=caller, clock=clock, judge=judge)
    await server.stop(None)
    await source.aclose()


async def asked(scene: Scene) -> Decision:
    return await scene.stream.evaluate({"tool": "t", "arguments": {}, "tool_call_id": "c"}, session="s")


# The judge's answers carry no receipt, which the client notices once there is an answer.
ANSWERED = "client.receipt_mismatch"


async def test_token_that_expired_is_refused_at_the_next_message(scene: Scene) -> None:
    assert (await asked(scene)).reasons[0].code == ANSWERED
    scene.clock.now = NOW + 60 + LEEWAY - 1
    assert (await asked(scene)).reasons[0].code == ANSWERED
    scene.clock.now = NOW + 60 + LEEWAY
    refused = await asked(scene)
    assert refused.reasons[0].code == "client.refused"
    assert refused.failure is not None
    assert refused.failure.reason == "UNAUTHENTICATED"
    assert scene.judge.begun == 2


async def test_call_after_the_token_expired_goes_on_with_a_renewed_one(scene: Scene) -> None:
    assert (await asked(scene)).reasons[0].code == ANSWERED
    scene.clock.now = NOW + 600
    scene.caller.token = token(NOW + 660)
    assert (await asked(scene)).reasons[0].code == ANSWERED
    assert scene.judge.begun == 2
