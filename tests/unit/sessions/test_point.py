"""Sessions on fakes: who may open, see and end them, and what moves meanwhile."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from pdp.delegation.chain import Chains
from pdp.delegation.point import Delegation, DelegationPoint
from pdp.delegation.tokens import GrantTokens
from pdp.errors import (
    InvalidFieldError,
    NotFoundError,
    OverloadedError,
    PermissionDeniedError,
    SessionContendedError,
    SessionOverError,
    SessionUnprovenError,
    TaskExistsError,
    UnauthenticatedError,
)
from pdp.model import (
    Caller,
    Hop,
    IssuerKeysSnapshot,
    Role,
    Session,
    SessionState,
    StoredOpening,
    Task,
    grant_hash,
)
from pdp.ports import ControlPlane, SessionStore, TokenAuthenticator
from pdp.sessions import task_tokens
from pdp.sessions.limits import SessionLimits
from pdp.sessions.opening import OpeningRequest
from pdp.sessions.point import OpenedSession, SessionPoint
from pdp.sessions.proof import Proofs
from placet.task_token import public_jwk, sign
from tests.fakes.store import FakeStore
from tests.fakes.store.control_plane import FakeControlPlane
from tests.fakes.store.sessions import FakeSessionStore
from tests.fakes.store.state import START, StoreState
from tests.support import builders, chains
from tests.support.builders import AGENT, ISSUER, PRINCIPAL, TENANT

TOKEN_ISSUER = "https://tasks.example.org"
KEY = ec.generate_private_key(ec.SECP256R1())
ISSUING = builders.caller(subject=ISSUER, roles=frozenset({Role.SESSION_ISSUER}), agents=frozenset())
RUNTIME = builders.caller()
OPERATOR = builders.caller(subject="ops", roles=frozenset({Role.OPERATOR}), agents=frozenset())
ANNA = builders.caller(subject=PRINCIPAL, roles=frozenset(), agents=frozenset())
STRANGER = builders.caller(subject="svc-other", agents=frozenset({"agent:other"}))


class People:
    """Tokens that are the names of whom they stand for, followed by their tenant."""

    async def by_token(self, token: str) -> Caller:
        subject, _, tenant = token.partition("@")
        if not tenant:
            raise UnauthenticatedError("the token is no token")
        return builders.caller(tenant=tenant, subject=subject, roles=frozenset(), agents=frozenset())


class MovingControlPlane(FakeControlPlane):
    """Runs something between the reading of an issuer's keys and the opening."""

    def __init__(self, state: StoreState, meanwhile: Callable[[], Awaitable[object]], *, times: int) -> None:
        super().__init__(state)
        self.meanwhile = meanwhile
        self.times = times

    async def keys_of(self, tenant: str, issuer: str) -> IssuerKeysSnapshot:
        found = await super().keys_of(tenant, issuer)
        if self.times:
            self.times -= 1
            await self.meanwhile()
        return found


@dataclass
class Bench:
    store: FakeStore
    tokens: GrantTokens

    def point(
        self,
        *,
        sessions: SessionStore | None = None,
        control_plane: ControlPlane | None = None,
        principals: TokenAuthenticator | None = None,
        principal_required: bool = False,
    ) -> SessionPoint:
        return SessionPoint(
            sessions=sessions or self.store.sessions,
            clock=self.store.clock,
            control_plane=control_plane or self.store.control_plane,
            grants=self.store.grants,
            delegations=self.delegations(),
            proofs=Proofs(Chains(self.store.information_point, self.tokens)),
            limits=SessionLimits(information=self.store.information_point, grants=self.store.grants),
            principals=principals,
            principal_required=principal_required,
        )

    def delegations(self) -> DelegationPoint:
        return DelegationPoint(
            chains=Chains(self.store.information_point, self.tokens),
            store=self.store.grants,
            grants=self.tokens,
            issuer="test",
        )

    async def open(self, **change: Any) -> OpenedSession:
        return await self.point().open(ISSUING, asked(**change))

    async def put_keys(self, *jwks: Mapping[str, Any]) -> int:
        keys = task_tokens.issuer_keys(json.dumps({"keys": list(jwks)}).encode())
        return await self.store.control_plane.put_issuer_keys(TENANT, TOKEN_ISSUER, keys, by=builders.AUTHOR)

    async def delegate(self, opened: OpenedSession, to_agent: str) -> Hop:
        return await self.delegations().delegate(
            RUNTIME,
            Delegation(
                session_id=opened.session.session_id,
                hops=(Hop(agent=AGENT, grant=opened.grant),),
                to_agent=to_agent,
                boundary=None,
                purpose="",
                expires_at=None,
            ),
            deadline=builders.deadline(),
        )


@pytest.fixture
async def bench() -> Bench:
    store = FakeStore()
    await store.control_plane.put_tenant(TENANT, b"{}", by=builders.AUTHOR)
    return Bench(store=store, tokens=await chains.new_grants(store.keys))


def asked(**change: Any) -> OpeningRequest:
    stated = OpeningRequest(
        task=Task(id=builders.unique("T")),
        principal=PRINCIPAL,
        agent=AGENT,
        boundary=builders.boundary(),
    )
    return replace(stated, **change)


def task_token(**claims: Any) -> str:
    said: dict[str, Any] = {
        "issuer": TOKEN_ISSUER,
        "tenant": TENANT,
        "task": {"id": builders.unique("T")},
        "principal": PRINCIPAL,
        "agent": AGENT,
        "boundary": {"tools": ["payments.create"]},
        "issued_at": START.timestamp(),
    }
    return sign(KEY, **(said | claims))


# --- Opening ---


async def test_session_is_opened_with_a_grant_that_is_stored(bench: Bench) -> None:
    opened = await bench.open()
    assert (opened.session.issuer, opened.session.state) == (ISSUER, SessionState.OPEN)
    assert opened.session.session_id
    assert await bench.store.sessions.get(TENANT, opened.session.session_id) == (opened.session, opened.now)
    [root] = await bench.store.grants.grant_path(TENANT, grant_hash(opened.grant))
    assert (root.agent, root.session_id) == (AGENT, opened.session.session_id)


async def test_task_has_one_session(bench: Bench) -> None:
    task = Task(id="T-1")
    first, again = await bench.open(task=task), await bench.open(task=task)
    assert again.session == first.session
    assert again.grant != first.grant
    with pytest.raises(TaskExistsError):
        await bench.open(task=task, agent="agent:other")


@pytest.mark.parametrize("caller", [RUNTIME, ANNA, OPERATOR])
async def test_who_is_no_issuer_needs_a_task_token(bench: Bench, caller: Caller) -> None:
    with pytest.raises(PermissionDeniedError, match="needs the role session_issuer"):
        await bench.point().open(caller, asked())


async def test_nobody_passes_for_an_issuer_of_task_tokens(bench: Bench) -> None:
    with pytest.raises(PermissionDeniedError, match="you are none"):
        await bench.point().open(replace(ISSUING, subject=f"task:{TOKEN_ISSUER}"), asked())


async def test_principal_token_says_who_the_principal_is(bench: Bench) -> None:
    point = bench.point(principals=People(), principal_required=True)
    opened = await point.open(ISSUING, asked(principal="", principal_token=f"staff:anna@{TENANT}"))
    assert opened.session.principal == "staff:anna"
    for token, refusal in (("anna", "is no token"), ("anna@elsewhere", "of another tenant")):
        with pytest.raises(PermissionDeniedError, match=f"principal_token: .*{refusal}"):
            await point.open(ISSUING, asked(principal_token=token))


async def test_principal_token_can_be_required_and_cannot_be_ignored(bench: Bench) -> None:
    for point, request, refusal in (
        (bench.point(principals=People(), principal_required=True), asked(), "is required here"),
        (bench.point(), asked(principal_token=f"anna@{TENANT}"), "cannot be checked"),
    ):
        with pytest.raises(InvalidFieldError, match=refusal) as caught:
            await point.open(ISSUING, request)
        assert caught.value.field == "principal_token"
    optional = await bench.point(principals=People()).open(ISSUING, asked())
    assert optional.session.principal == PRINCIPAL


@pytest.mark.parametrize("caller", [RUNTIME, ISSUING])
async def test_task_token_opens_what_its_issuer_signed(bench: Bench, caller: Caller) -> None:
    await bench.put_keys(public_jwk(KEY))
    opened = await bench.point().open(caller, OpeningRequest(task_token=task_token(token_id="t-1")))
    assert opened.session.issuer == f"task:{TOKEN_ISSUER}"
    assert opened.session.principal == PRINCIPAL
    assert (bool(opened.grant), opened.token_id) == (True, "t-1")


async def test_task_token_is_worth_nothing_to_another_agent(bench: Bench) -> None:
    await bench.put_keys(public_jwk(KEY))
    with pytest.raises(PermissionDeniedError, match="an agent that you do not speak for"):
        await bench.point().open(STRANGER, OpeningRequest(task_token=task_token()))


async def test_principal_token_beside_a_task_token_names_the_same_person(bench: Bench) -> None:
    await bench.put_keys(public_jwk(KEY))
    point = bench.point(principals=People(), principal_required=True)
    token = task_token()
    with pytest.raises(InvalidFieldError, match="of another principal"):
        await point.open(RUNTIME, OpeningRequest(task_token=token, principal_token=f"bob@{TENANT}"))
    opened = await point.open(
        RUNTIME, OpeningRequest(task_token=token, principal_token=f"{PRINCIPAL}@{TENANT}")
    )
    assert opened.session.principal == PRINCIPAL


async def test_what_operators_write_meanwhile_has_the_token_proven_again(bench: Bench) -> None:
    await bench.put_keys(public_jwk(KEY))
    moving = MovingControlPlane(
        bench.store.state,
        lambda: bench.store.control_plane.put_signals(TENANT, [], by=builders.AUTHOR),
        times=3,
    )
    opened = await bench.point(control_plane=moving).open(RUNTIME, OpeningRequest(task_token=task_token()))
    assert moving.times == 0
    assert opened.session.state is SessionState.OPEN


async def test_key_that_is_revoked_meanwhile_opens_nothing(bench: Bench) -> None:
    await bench.put_keys(public_jwk(KEY))
    moving = MovingControlPlane(bench.store.state, bench.put_keys, times=1)
    with pytest.raises(PermissionDeniedError):
        await bench.point(control_plane=moving).open(RUNTIME, OpeningRequest(task_token=task_token()))


async def test_opening_that_never_finds_the_tenant_at_rest_is_given_up(bench: Bench) -> None:
    await bench.put_keys(public_jwk(KEY))
    moving = MovingControlPlane(
        bench.store.state,
        lambda: bench.store.control_plane.put_signals(TENANT, [], by=builders.AUTHOR),
        times=1_000,
    )
    with pytest.raises(SessionContendedError):
        await bench.point(control_plane=moving).open(RUNTIME, OpeningRequest(task_token=task_token()))
    assert moving.times > 900


# --- Seeing and ending ---


@pytest.mark.parametrize("caller", [ANNA, ISSUING, RUNTIME, OPERATOR])
async def test_session_is_shown_to_whom_it_concerns(bench: Bench, caller: Caller) -> None:
    opened = await bench.open()
    await bench.store.clock.advance(60)
    found = await bench.point().get(caller, opened.session.session_id, **builders.shown(opened.session_token))
    assert found.session == opened.session
    assert found.now == opened.now + timedelta(minutes=1)


@pytest.mark.parametrize(
    "caller",
    [
        STRANGER,
        replace(OPERATOR, roles=frozenset({Role.REVIEWER})),
        replace(OPERATOR, tenant="another"),
        replace(ISSUING, roles=frozenset({Role.TOOL})),
        replace(RUNTIME, roles=frozenset({Role.TOOL})),
    ],
)
async def test_session_does_not_exist_for_anybody_else(bench: Bench, caller: Caller) -> None:
    session_id = (await bench.open()).session.session_id
    point = bench.point()
    for call in (
        point.get(caller, session_id, **builders.shown()),
        point.complete(caller, session_id, "done"),
        point.close(caller, session_id, "done", **builders.shown()),
    ):
        with pytest.raises(NotFoundError):
            await call
    stored = await bench.store.sessions.get(TENANT, session_id)
    assert stored is not None
    assert stored.session.state is SessionState.OPEN


@pytest.mark.parametrize("caller", [ANNA, ISSUING])
async def test_task_is_completed_by_who_asked_for_it(bench: Bench, caller: Caller) -> None:
    session_id = (await bench.open()).session.session_id
    first = await bench.point().complete(caller, session_id, "done")
    assert first.session.state is SessionState.COMPLETED
    assert (await bench.point().complete(caller, session_id, "again")).session == first.session


@pytest.mark.parametrize("caller", [RUNTIME, OPERATOR])
async def test_who_sees_a_session_may_close_it_and_not_complete_its_task(
    bench: Bench, caller: Caller
) -> None:
    opened = await bench.open()
    session_id = opened.session.session_id
    with pytest.raises(NotFoundError, match="whose task you may complete"):
        await bench.point().complete(caller, session_id, "done")
    closed = await bench.point().close(caller, session_id, "over", **builders.shown(opened.session_token))
    assert closed.session.state is SessionState.CLOSED


async def test_task_of_a_session_that_is_over_cannot_be_completed(bench: Bench) -> None:
    closed, expired = (await bench.open()).session, (await bench.open()).session
    await bench.point().close(ANNA, closed.session_id, "", **builders.shown())
    with pytest.raises(SessionOverError, match="closed"):
        await bench.point().complete(ANNA, closed.session_id, "")
    await bench.store.clock.advance(3600)
    with pytest.raises(SessionOverError, match="expired"):
        await bench.point().complete(ANNA, expired.session_id, "")


async def test_session_that_is_gone_when_it_is_ended_is_not_found(bench: Bench) -> None:
    class Forgetful(FakeSessionStore):
        async def complete(self, tenant: str, session_id: str, reason: str) -> Session | None:
            return None

        close = complete

    session_id = (await bench.open()).session.session_id
    point = bench.point(sessions=Forgetful(bench.store.state))
    with pytest.raises(NotFoundError):
        await point.complete(ANNA, session_id, "")
    with pytest.raises(NotFoundError):
        await point.close(ANNA, session_id, "", **builders.shown())


# --- Revoking ---


async def test_grant_is_revoked_once_and_keeps_the_first_reason(bench: Bench) -> None:
    opened = await bench.open()
    leaf = await bench.delegate(opened, "agent:helper")
    session_id = opened.session.session_id
    first = await bench.point().revoke_grant(
        ANNA, session_id, leaf.grant_hash, reason="lost", **builders.shown()
    )
    assert (first.grant_hash, first.revoked_by, first.revoke_reason) == (leaf.grant_hash, PRINCIPAL, "lost")
    again = await bench.point().revoke_grant(
        OPERATOR, session_id, leaf.grant_hash, reason="another", **builders.shown()
    )
    assert again == first


async def test_grant_is_revoked_by_whom_it_came_from_and_not_by_others(bench: Bench) -> None:
    opened = await bench.open()
    helper = builders.caller(subject="svc-helper", agents=frozenset({"agent:helper"}))
    session_id, root = opened.session.session_id, grant_hash(opened.grant)
    for caller in (helper, RUNTIME, ISSUING, OPERATOR):
        leaf = await bench.delegate(opened, "agent:helper")
        for other in (STRANGER, replace(caller, roles=frozenset({Role.AUDITOR}))):
            with pytest.raises(NotFoundError):
                await bench.point().revoke_grant(
                    other, session_id, leaf.grant_hash, reason="", **builders.shown()
                )
        proof = builders.shown(opened.session_token)
        if caller is helper:
            proof = builders.shown("", Hop(agent=AGENT, grant=opened.grant), leaf)
        revoked = await bench.point().revoke_grant(caller, session_id, leaf.grant_hash, reason="", **proof)
        assert revoked.revoked_by == caller.subject
        await bench.store.clock.advance(1)
    with pytest.raises(NotFoundError):
        await bench.point().revoke_grant(helper, session_id, root, reason="", **builders.shown())


async def test_grant_of_another_session_is_no_grant_of_this_one(bench: Bench) -> None:
    one, other = await bench.open(), await bench.open()
    for session_id, named in (
        (one.session.session_id, grant_hash(other.grant)),
        (one.session.session_id, "0" * 64),
        ("unknown", grant_hash(one.grant)),
    ):
        with pytest.raises(NotFoundError, match="that you may revoke"):
            await bench.point().revoke_grant(OPERATOR, session_id, named, reason="", **builders.shown())


async def test_who_revokes_too_often_is_turned_away_and_operators_are_not(bench: Bench) -> None:
    point = bench.point()

    async def revoke_many(caller: Caller) -> None:
        for _ in range(60):
            opened = await bench.open()
            await point.revoke_grant(
                caller, opened.session.session_id, grant_hash(opened.grant), reason="", **builders.shown()
            )

    await revoke_many(OPERATOR)
    with pytest.raises(OverloadedError):
        await revoke_many(ANNA)


# --- Revoking proofs ---


@pytest.mark.parametrize("caller", [ANNA, ISSUING, OPERATOR])
async def test_proofs_are_revoked_by_who_asked_for_the_task_and_by_operators(
    bench: Bench, caller: Caller
) -> None:
    opened = await bench.open()
    session_id = opened.session.session_id
    leaf = await bench.delegate(opened, "agent:helper")
    revoked = await bench.point().revoke_proofs(caller, session_id, reason="it leaked")
    assert (revoked.tokens, revoked.grants) == (1, 2)
    root = Hop(agent=AGENT, grant=opened.grant)
    helper = builders.caller(subject="svc-helper", agents=frozenset({"agent:helper"}))
    for agent, proof in (
        (RUNTIME, builders.shown(opened.session_token)),
        (RUNTIME, builders.shown("", root)),
        (RUNTIME, builders.shown(opened.session_token, root)),
        (helper, builders.shown("", root, leaf)),
    ):
        with pytest.raises((SessionUnprovenError, NotFoundError)):
            await bench.point().get(agent, session_id, **proof)
    shown = await bench.point().get(caller, session_id, **builders.shown())
    assert (shown.session.proofs_ended, shown.session.proofs_revoked_at) == (True, revoked.revoked_at)


async def test_proofs_are_revoked_by_nobody_else(bench: Bench) -> None:
    opened = await bench.open()
    session_id = opened.session.session_id
    other_tenant = replace(OPERATOR, tenant="globex")
    no_issuer = replace(ISSUING, roles=frozenset())
    for caller in (RUNTIME, STRANGER, other_tenant, no_issuer):
        with pytest.raises(NotFoundError, match="whose proofs you may revoke"):
            await bench.point().revoke_proofs(caller, session_id, reason="")
    with pytest.raises(NotFoundError):
        await bench.point().revoke_proofs(OPERATOR, "unknown", reason="")
    assert await bench.point().get(RUNTIME, session_id, **builders.shown(opened.session_token))


async def test_session_is_usable_again_once_its_issuer_has_opened_it(bench: Bench) -> None:
    asking = asked()
    opened = await bench.point().open(ISSUING, asking)
    session_id = opened.session.session_id
    await bench.point().revoke_proofs(ANNA, session_id, reason="")
    again = await bench.point().open(ISSUING, asking)
    assert (again.session.session_id, again.session.proofs_ended) == (session_id, False)
    for proof in (
        builders.shown(again.session_token),
        builders.shown("", Hop(agent=AGENT, grant=again.grant)),
    ):
        assert await bench.point().get(RUNTIME, session_id, **proof)
    with pytest.raises(SessionUnprovenError):
        await bench.point().get(RUNTIME, session_id, **builders.shown(opened.session_token))


async def test_id_is_no_proof_either_once_proofs_were_revoked(bench: Bench) -> None:
    await bench.store.control_plane.put_tenant(TENANT, b'{"session_proof": "id"}', by=builders.AUTHOR)
    asking = asked()
    opened = await bench.point().open(ISSUING, asking)
    session_id = opened.session.session_id
    assert await bench.point().get(RUNTIME, session_id, **builders.shown())
    await bench.point().revoke_proofs(OPERATOR, session_id, reason="")
    with pytest.raises(SessionUnprovenError):
        await bench.point().get(RUNTIME, session_id, **builders.shown())
    await bench.point().open(ISSUING, asking)
    assert await bench.point().get(RUNTIME, session_id, **builders.shown())


async def test_task_token_opens_after_a_revocation_what_it_was_issued_for_since(bench: Bench) -> None:
    await bench.put_keys(public_jwk(KEY))
    before = task_token(task={"id": "T-1"})
    session_id = (await bench.point().open(RUNTIME, OpeningRequest(task_token=before))).session.session_id
    await bench.store.clock.advance(1)
    await bench.point().revoke_proofs(ANNA, session_id, reason="")
    with pytest.raises(PermissionDeniedError, match="before the"):
        await bench.point().open(RUNTIME, OpeningRequest(task_token=before))
    await bench.store.clock.advance(1)
    after = task_token(task={"id": "T-1"}, issued_at=START.timestamp() + 2)
    assert (await bench.point().open(RUNTIME, OpeningRequest(task_token=after))).session_token


async def test_opening_whose_proofs_are_revoked_before_it_is_done_is_asked_for_again(bench: Bench) -> None:
    class Revoking(FakeSessionStore):
        async def open(self, tenant: str, session: Session, **options: Any) -> StoredOpening:
            stored = await super().open(tenant, session, **options)
            await self.revoke_proofs(tenant, stored.session.session_id, by=builders.AUTHOR)
            return stored

    with pytest.raises(SessionContendedError):
        await bench.point(sessions=Revoking(bench.store.state)).open(ISSUING, asked())


async def test_who_revokes_proofs_too_often_is_turned_away_and_operators_are_not(bench: Bench) -> None:
    point, session_id = bench.point(), (await bench.open()).session.session_id
    for _ in range(60):
        await point.revoke_proofs(OPERATOR, session_id, reason="")

    async def revoke_many() -> None:
        for _ in range(60):
            await point.revoke_proofs(ANNA, session_id, reason="")

    with pytest.raises(OverloadedError, match="10 revocations a second"):
        await revoke_many()
