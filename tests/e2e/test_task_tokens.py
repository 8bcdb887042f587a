"""Sessions that agents open with what an issuer has signed: on real processes, on two replicas."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass, replace
from datetime import UTC
from typing import Any
from uuid import uuid4

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from placet import (
    AlreadyExistsError,
    AsyncClient,
    InvalidRequestError,
    NotFoundError,
    PermissionDeniedError,
    PlacetError,
    Session,
    SessionState,
)
from placet.task_token import public_jwk, sign
from tests.e2e.scene import AGENT, BOUNDARY, HELPER, PRINCIPAL, READ, Scene, codes, pay, read

pytestmark = pytest.mark.asyncio(loop_scope="session")

ISSUER = "https://tasks.example.org"


@dataclass(kw_only=True)
class Office:
    """Gives out signed tasks in a scene's tenant."""

    scene: Scene
    key: ec.EllipticCurvePrivateKey
    # Seconds by which the database's clock has been moved.
    ahead: float

    async def register(self, *keys: ec.EllipticCurvePrivateKey, issuer: str = ISSUER) -> int:
        operator = await self.scene.operator()
        return await operator.put_issuer_keys(issuer, {"keys": [public_jwk(key) for key in keys]})

    def token(self, **options: Any) -> str:
        said: dict[str, Any] = {
            "task": f"T-{uuid4().hex}",
            "principal": PRINCIPAL,
            "agent": AGENT,
            "boundary": BOUNDARY,
        }
        said |= {"issuer": ISSUER, "tenant": self.scene.tenant, "issued_at": time.time() + self.ahead}
        return sign(self.key, **(said | options))

    async def open(self, token: str, *, replica: int = 1, **beside: Any) -> Session:
        return await (await self.scene.agent(replica=replica)).open_session(task_token=token, **beside)


@pytest.fixture
async def office(scene: Scene) -> Office:
    ahead = (await scene.advance(0.001)).replace(tzinfo=UTC).timestamp() - time.time()
    office = Office(scene=scene, key=ec.generate_private_key(ec.SECP256R1()), ahead=ahead)
    await office.register(office.key)
    return office


async def test_agent_opens_the_session_that_an_issuer_signed(office: Office) -> None:
    session = await office.open(office.token(), replica=2)
    assert (session.principal, session.agent, session.issuer) == (PRINCIPAL, AGENT, f"task:{ISSUER}")
    assert (await office.scene.ask(read(), session)).allowed
    assert codes(await office.scene.ask(pay(7000), session)) == ["boundary.amount", "payment.large"]


async def test_token_opens_one_session_however_often_and_wherever(office: Office) -> None:
    token = office.token(task="T-1")
    opened = await asyncio.gather(*(office.open(token, replica=1 + n % 2) for n in range(6)))
    assert len({session.session_id for session in opened}) == 1
    # Another token of the issuer for the same task and boundary, too; with another one never.
    assert (await office.open(office.token(task="T-1"))).session_id == opened[0].session_id
    with pytest.raises(AlreadyExistsError):
        await office.open(office.token(task="T-1", boundary=BOUNDARY | {"tools": []}))
    # It cannot be opened again once it has ended either.
    await (await office.scene.operator()).close_session(opened[0])
    assert (await office.open(token)).state is SessionState.CLOSED


async def test_agent_without_a_token_opens_nothing(office: Office) -> None:
    agent = await office.scene.agent()
    with pytest.raises(PermissionDeniedError, match="task_token"):
        await agent.open_session(task="T", principal=PRINCIPAL, agent=AGENT, boundary=BOUNDARY)


async def test_token_says_everything(office: Office) -> None:
    said: dict[str, Any] = {"task": "T-9", "principal": PRINCIPAL, "agent": AGENT, "boundary": BOUNDARY}
    token = office.token(**said)
    assert (await office.open(token, **said)).task.id == "T-9"
    for field, other in (
        ("task", "T-8"),
        ("task", {"id": "T-9", "prompt": "and some more"}),
        ("principal", "user:bob"),
        ("agent", HELPER),
        ("boundary", {"effects": ["pay"]}),
        ("expires_in", 7200),
    ):
        with pytest.raises(InvalidRequestError) as refused:
            await office.open(token, **{field: other})
        (violation,) = refused.value.violations
        assert violation.field == ("expires_at" if field == "expires_in" else field)


async def test_token_is_for_who_speaks_for_its_agent(office: Office) -> None:
    stolen = office.token()
    stranger = await office.scene.client("svc-else", "agent", agents=(HELPER,))
    with pytest.raises(PermissionDeniedError, match="do not speak for"):
        await stranger.open_session(task_token=stolen)
    for role in ("tool", "operator", "auditor"):
        with pytest.raises(PermissionDeniedError):
            await (await office.scene.client("svc-else", role)).open_session(task_token=stolen)
    # An issuer may hand it in as well.
    assert (await (await office.scene.issuer()).open_session(task_token=stolen)).issuer == f"task:{ISSUER}"


async def test_token_of_another_tenant_of_nobody_and_of_old_keys(office: Office) -> None:
    async def denied(token: str, said: str) -> None:
        with pytest.raises(PermissionDeniedError, match=said):
            await office.open(token)

    await denied(office.token(tenant="globex"), "another tenant")
    await denied(office.token(issuer="https://nobody.example.org"), "none of its issuer's")
    other = replace(office, key=ec.generate_private_key(ec.SECP256R1()))
    await denied(other.token(), "none of its issuer's")
    # The key of one issuer does not stand for another one.
    await other.register(other.key, issuer="https://other.example.org")
    await denied(other.token(), "none of its issuer's")
    await office.register(other.key)
    await denied(office.token(), "none of its issuer's")
    assert (await office.open(other.token())).issuer == f"task:{ISSUER}"
    token = other.token(expires_in=60)
    await office.scene.advance(61)
    await denied(token, "expired")


async def test_nothing_opens_on_keys_after_they_were_revoked(office: Office) -> None:
    """Whatever is asked on whichever replica while it happens."""
    opened: list[Session] = []
    busy, stop = asyncio.Event(), asyncio.Event()

    async def keep_opening(replica: int) -> None:
        while not stop.is_set():
            try:
                opened.append(await office.open(office.token(), replica=replica))
            except PermissionDeniedError:
                assert stop.is_set() or revoked.is_set()
                return
            if len(opened) >= 8:
                busy.set()

    revoked = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        for replica in (1, 2):
            group.create_task(keep_opening(replica))
        await busy.wait()
        revoked.set()
        await office.register()
        before = len(opened)
        stop.set()
    for replica in (1, 2):
        with pytest.raises(PermissionDeniedError):
            await office.open(office.token(), replica=replica)
    # What had been opened stays; at most those whose answer was under way came in afterwards.
    assert before <= len(opened) <= before + 2
    assert (await office.scene.ask(read(), opened[0])).allowed


async def test_issuers_are_listed_with_their_keys(office: Office) -> None:
    operator, auditor = await office.scene.operator(), await office.scene.auditor()
    revision = await office.register(issuer="https://gone.example.org")
    for client in (operator, auditor):
        gone, known = await client.list_issuer_keys()
        assert (gone.issuer, gone.jwks, gone.revision) == ("https://gone.example.org", {"keys": []}, revision)
        assert [key["kid"] for key in known.jwks["keys"]] == [public_jwk(office.key)["kid"]]
    secret = {"keys": [public_jwk(office.key) | {"d": "AAAA"}]}
    with pytest.raises(InvalidRequestError, match="secret"):
        await operator.put_issuer_keys(ISSUER, secret)


async def test_agent_delegates_in_a_session_that_it_opened_by_a_token(office: Office) -> None:
    scene = office.scene
    await (await scene.operator()).put_agents([{"agent": HELPER, "trust": 0.8}])
    session = await office.open(office.token())
    reads = {"tools": [READ], "resources": ["invoice:*"]}
    grant = await (await scene.agent()).delegate(session, to_agent=HELPER, boundary=reads)
    helper = await scene.client("svc-helper", "agent", agents=(HELPER,), replica=2)
    assert (await helper.evaluate(read(), session=session, chain=grant.chain)).allowed
    assert not (await helper.evaluate(pay(), session=session, chain=grant.chain)).allowed


async def test_no_credential_is_the_issuer_of_a_token(office: Office) -> None:
    """A caller who is called like one neither owns its sessions nor opens any that look like its."""
    session = await office.open(office.token())
    double: AsyncClient = await office.scene.client(f"task:{ISSUER}", "session_issuer")
    for call in (double.get_session, double.close_session, double.complete_task):
        with pytest.raises(NotFoundError):
            await call(session)
    with pytest.raises(PermissionDeniedError, match="issuers of task tokens"):
        await double.open_session(task="T", principal=PRINCIPAL, agent=AGENT, boundary=BOUNDARY)
    principal = await office.scene.client(PRINCIPAL)
    assert (await principal.complete_task(session)).state is SessionState.COMPLETED


async def test_principal_token_is_refused_where_it_cannot_be_checked(office: Office) -> None:
    issuer = await office.scene.issuer()
    for options in ({"principal": PRINCIPAL}, {}):
        with pytest.raises(InvalidRequestError) as refused:
            await issuer.open_session(
                task="T", agent=AGENT, boundary=BOUNDARY, principal_token="a.b.c", **options
            )
        assert [violation.field for violation in refused.value.violations] == ["principal_token"]


async def test_broken_tokens_are_answered_and_open_nothing(office: Office) -> None:
    good = office.token(task="T-broken")
    header, payload, signature = good.split(".")
    for token in (
        "x",
        "..",
        f"{header}.{payload}.",
        f"{header}.{payload}",
        f"{header}..{signature}",
        f"{payload}.{header}.{signature}",
        good + "A",
        good + "=",
        "é" + good,
        json.dumps({"protected": header, "payload": payload, "signature": signature}),
    ):
        with pytest.raises(PlacetError) as refused:
            await office.open(token)
        assert refused.value.code is not None
        assert refused.value.code.name == "PERMISSION_DENIED", token
    assert (await office.open(good)).task.id == "T-broken"
