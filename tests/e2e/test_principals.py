"""Principals prove themselves by tokens of their own: two issuers, one name, on real sockets."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from joserfc import jwt
from joserfc.jwk import ECKey

from pdp.dev.ports import free_ports
from placet import (
    AlreadyExistsError,
    Client,
    InvalidRequestError,
    NotFoundError,
    PermissionDeniedError,
    Session,
    SessionState,
    TlsCredentials,
)
from placet.task_token import public_jwk, sign
from tests.e2e.scene import AGENT, BOUNDARY, TOOLS, read
from tests.support.credentials import Authority
from tests.support.processes import PATIENCE
from tests.support.secured import SecuredReplica, secured_replica, tls
from tests.support.stack import RealPdp

STAFF, GUESTS = "https://staff.example.org", "https://guests.example.org"
TASKS, RUNTIME, OPS = (f"spiffe://test/{name}" for name in ("tasks", "runtime", "ops"))
KEYS = {STAFF: ECKey.generate_key("P-256", {"kid": "s"}), GUESTS: ECKey.generate_key("P-256", {"kid": "g"})}
PREFIXES = {STAFF: "staff:", GUESTS: "guest:"}
ANNA, ANNA_THE_GUEST = "staff:anna", "guest:anna"


def token(issuer: str = STAFF, *, key: ECKey | None = None, **claims: Any) -> str:
    said = {"iss": issuer, "aud": "placet", "sub": "anna", "exp": int(time.time()) + 3600}
    key = key or KEYS[issuer]
    return jwt.encode({"alg": "ES256", "kid": key.kid}, said | {"groups": ["people"]} | claims, key)


@dataclass(kw_only=True)
class Site:
    """A replica where principals have to prove themselves, or may."""

    replica: SecuredReplica
    token_target: str
    tenant: str
    authority: Authority
    folder: Path

    def service(self, uri: str) -> Client:
        files = self.authority.issue(uri=uri).write(self.folder, uri.rpartition("/")[2])
        credentials = TlsCredentials(ca_file=self.folder / "ca.pem", **files)
        return Client(self.replica.target, credentials=credentials, timeout=PATIENCE)

    def person(self, bearer: str) -> Client:
        credentials = TlsCredentials(ca_file=self.folder / "ca.pem", token=bearer)
        return Client(self.token_target, credentials=credentials, timeout=PATIENCE)

    def open(self, **options: Any) -> Session:
        with self.service(TASKS) as tasks:
            return tasks.open_session(
                **({"task": f"T-{uuid4().hex}", "agent": AGENT, "boundary": BOUNDARY} | options)
            )


@contextmanager
def running(steady_pdp: RealPdp, folder: Path, principal_tokens: str) -> Iterator[Site]:
    authority = Authority()
    tenant, (token_port,) = steady_pdp.fresh_tenant(), free_ports(1)
    issuers = []
    for name, key in KEYS.items():
        file = folder / f"{key.kid}.jwks"
        file.write_text(json.dumps({"keys": [key.as_dict(private=False)]}))
        issuers.append(
            {
                "issuer": name,
                "audience": "placet",
                "jwks_file": str(file),
                "algorithms": ["ES256"],
                "subject_prefix": PREFIXES[name],
            }
        )
    roles = {TASKS: ["session_issuer"], RUNTIME: ["agent"], OPS: ["operator"]}
    people = {"name": "groups", "value": "people"}
    callers: list[dict[str, Any]] = [
        {
            "match": {"spiffe_id": uri},
            "tenant": tenant,
            "roles": held,
            "agents": [AGENT] if uri == RUNTIME else [],
        }
        for uri, held in roles.items()
    ]
    callers += [{"match": {"issuer": name, "claim": people}, "tenant": tenant} for name in KEYS]
    callers.append(
        {"match": {"issuer": STAFF, "claim": {"name": "groups", "value": "elsewhere"}}, "tenant": "another"}
    )
    callers += [
        {
            "match": {"issuer": STAFF, "subject": sub},
            "tenant": tenant,
            "roles": [role],
            "agents": [AGENT] if role == "agent" else [],
        }
        for sub, role in (("svc-agent", "agent"), ("olga", "operator"))
    ]
    settings = {
        "tls": tls(authority, folder),
        "jwt": issuers,
        "callers": callers,
        "grpc_token_address": f"127.0.0.1:{token_port}",
        "principal_tokens": principal_tokens,
    }
    with secured_replica(steady_pdp, folder, settings) as replica:
        site = Site(
            replica=replica,
            token_target=settings["grpc_token_address"],
            tenant=tenant,
            authority=authority,
            folder=folder,
        )
        with site.service(OPS) as operator:
            operator.put_tenant({})
            operator.put_tools(TOOLS)
        yield site


@pytest.fixture(scope="module")
def site(steady_pdp: RealPdp, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with running(steady_pdp, tmp_path_factory.mktemp("principals"), "required") as site:
        yield site


def test_principal_that_proved_itself_owns_its_session(site: Site) -> None:
    session = site.open(principal_token=token())
    assert session.principal == ANNA
    assert site.open(principal=ANNA, principal_token=token()).principal == ANNA
    with site.service(RUNTIME) as runtime:
        assert runtime.evaluate(read(), session=session).allowed
    with site.person(token()) as anna:
        assert anna.get_session(session).principal == ANNA
        assert anna.complete_task(session, reason="done").state is SessionState.COMPLETED
        assert anna.close_session(session).state is SessionState.CLOSED


def test_somebody_of_the_same_name_elsewhere_is_somebody_else(site: Site) -> None:
    hers, theirs = site.open(principal_token=token()), site.open(principal_token=token(GUESTS))
    assert (hers.principal, theirs.principal) == (ANNA, ANNA_THE_GUEST)
    for bearer, own, other in ((token(), hers, theirs), (token(GUESTS), theirs, hers)):
        with site.person(bearer) as person:
            assert person.get_session(own).session_id == own.session_id
            for call in (person.get_session, person.complete_task, person.close_session):
                with pytest.raises(NotFoundError):
                    call(other)
    # A task is one person's.
    with pytest.raises(AlreadyExistsError):
        site.open(task=hers.task.id, principal_token=token(GUESTS))


def test_no_session_without_proof_where_it_is_required(site: Site) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        site.open(principal=ANNA)
    assert refused.value.field == "principal_token"
    for other in ("anna", ANNA_THE_GUEST, "user:bob"):
        with pytest.raises(InvalidRequestError) as refused:
            site.open(principal=other, principal_token=token())
        assert refused.value.field == "principal"


def test_tokens_that_prove_nobody_are_refused(site: Site) -> None:
    now = int(time.time())
    forged = ECKey.generate_key("P-256", {"kid": "s"})
    for bearer in (
        token(key=forged),
        token(key=KEYS[GUESTS]),
        token(aud="another"),
        token(exp=now - 3600),
        token(nbf=now + 3600),
        token(iss="https://evil.example.org"),
        token(groups=["strangers"]),
        token(groups=["elsewhere"]),
        token(groups=["people", "elsewhere"]),
        # What an agent and an operator call with.
        token(sub="svc-agent", groups=[]),
        token(sub="olga", groups=[]),
        "no.to.ken",
    ):
        with pytest.raises(PermissionDeniedError, match="principal_token") as refused:
            site.open(principal_token=bearer)
        assert bearer not in str(refused.value)


def test_signed_task_is_proof_enough_and_agrees_with_a_token_beside_it(site: Site) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    with site.service(OPS) as operator:
        operator.put_issuer_keys("erp", {"keys": [public_jwk(key)]})

    def signed(principal: str) -> str:
        return sign(
            key,
            issuer="erp",
            tenant=site.tenant,
            task=f"T-{uuid4().hex}",
            principal=principal,
            agent=AGENT,
            boundary=BOUNDARY,
            # The time is that of a clock that other tests move forward.
            expires_in=3600,
        )

    with site.service(RUNTIME) as runtime:
        session = runtime.open_session(task_token=signed(ANNA))
        assert runtime.open_session(task_token=signed(ANNA), principal_token=token()).principal == ANNA
        with pytest.raises(InvalidRequestError) as refused:
            runtime.open_session(task_token=signed(ANNA), principal_token=token(GUESTS))
        assert refused.value.field == "principal_token"
        # The agent may not give itself a task, whoever stands by.
        with pytest.raises(PermissionDeniedError):
            runtime.open_session(task="T", agent=AGENT, boundary=BOUNDARY, principal_token=token())
    with site.person(token()) as anna:
        assert anna.close_session(session).state is SessionState.CLOSED


def test_proof_that_is_optional_counts_where_it_is_given(steady_pdp: RealPdp, tmp_path: Path) -> None:
    with running(steady_pdp, tmp_path, "optional") as site:
        assert site.open(principal=ANNA).principal == ANNA
        assert site.open(principal_token=token()).principal == ANNA
        with pytest.raises(InvalidRequestError) as refused:
            site.open(principal="user:bob", principal_token=token())
        assert refused.value.field == "principal"
        with pytest.raises(PermissionDeniedError):
            site.open(principal=ANNA, principal_token=token(exp=1))
