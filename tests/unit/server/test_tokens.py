"""Bearer tokens, really signed, and the keys that they are checked with."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
from contextlib import nullcontext
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from joserfc import jws, jwt
from joserfc.errors import SecurityWarning
from joserfc.jwk import ECKey, OKPKey, RSAKey

from pdp.config.callers import CallerMapping, JwtConfig
from pdp.errors import UnauthenticatedError
from pdp.model import Caller, Role
from pdp.server.identity.authentication import CredentialAuthenticator, PrincipalAuthenticator
from pdp.server.identity.jwks import KeySource, key_source, parse_keys
from pdp.server.identity.tokens import TokenVerifier

ISSUER, NOW = "https://id.example.org", 1_795_514_400
KEYS = {name: ECKey.generate_key("P-256", {"kid": name}) for name in ("k1", "k2")}
CLAIMS = {"iss": ISSUER, "aud": "placet", "sub": "svc-ap", "exp": NOW + 60, "scope": "pay read"}


class Issuer:
    """An issuer's keys, in memory, and a clock that the test moves."""

    def __init__(self) -> None:
        self.published = ["k1"]
        self.down = False
        self.reads = 0
        self.seconds = 0.0

    async def read(self) -> bytes:
        self.reads += 1
        if self.down:
            raise ConnectionRefusedError("down")
        return json.dumps({"keys": [KEYS[name].as_dict(private=False) for name in self.published]}).encode()


class Context:
    def __init__(self, *tokens: str) -> None:
        self._metadata = [("authorization", f"Bearer {token}") for token in tokens]

    def invocation_metadata(self) -> list[tuple[str, str]]:
        return self._metadata

    def auth_context(self) -> dict[str, Any]:
        return {}


def authenticator(
    issuer: Issuer, match: dict[str, Any] | None = None, **settings: Any
) -> CredentialAuthenticator:
    config = JwtConfig.model_validate(
        {"issuer": ISSUER, "audience": "placet", "jwks_url": f"{ISSUER}/jwks", "algorithms": ["ES256"]}
        | settings
    )
    mapping = {
        "match": match or {"issuer": ISSUER, "subject": "svc-ap"},
        "roles": ["agent"],
        "agents": ["agent:a"],
    }
    if "tenant_claim" not in settings:
        mapping["tenant"] = "acme"
    keys = KeySource(ISSUER, issuer.read, max_age=config.jwks_max_age_seconds, clock=lambda: issuer.seconds)
    tokens = TokenVerifier({ISSUER: (config, keys)}, clock=lambda: NOW)
    return CredentialAuthenticator([CallerMapping.model_validate(mapping)], tokens, clock=lambda: NOW)


def token(key: str = "k1", header: dict[str, Any] | None = None, **claims: Any) -> str:
    said = {name: value for name, value in (CLAIMS | claims).items() if value is not None}
    return jwt.encode(header or {"alg": "ES256", "kid": key}, said, KEYS[key])


def raw(header: dict[str, Any], secret: bytes = b"") -> str:
    parts = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in (header, CLAIMS)]
    signature = hmac.digest(secret, b".".join(parts), hashlib.sha256) if secret else b""
    return b".".join([*parts, base64.urlsafe_b64encode(signature).rstrip(b"=")]).decode()


def brought_along() -> str:
    """A token that is signed by a key in its own header."""
    header = {"alg": "ES256", "kid": "k1", "jwk": KEYS["k2"].as_dict(private=False)}
    return jws.serialize_compact(header, json.dumps(CLAIMS).encode(), KEYS["k2"], algorithms=["ES256"])


def with_number(literal: str) -> str:
    """A token that says a number as no writer of JSON would."""
    claims = json.dumps(CLAIMS)[:-1] + f', "level": {literal}}}'
    header = {"alg": "ES256", "kid": "k1"}
    return jws.serialize_compact(header, claims.encode(), KEYS["k1"], algorithms=["ES256"])


async def test_token_stands_for_its_caller() -> None:
    caller = await authenticator(Issuer(), claims=["level"]).authenticate(Context(token(level=3, other=1)))
    assert caller == Caller(
        tenant="acme",
        subject="svc-ap",
        roles=frozenset({Role.AGENT}),
        agents=frozenset({"agent:a"}),
        claims={"issuer": ISSUER, "scopes": ["pay", "read"], "level": 3},
        issuer=ISSUER,
    )


def office(issuer: Issuer, **settings: Any) -> PrincipalAuthenticator:
    """What proves principals where an agent, a service, and people have tokens of one issuer."""
    config = JwtConfig.model_validate(
        {"issuer": ISSUER, "audience": "placet", "jwks_url": f"{ISSUER}/jwks", "algorithms": ["ES256"]}
        | settings
    )
    subjects: dict[str, dict[str, Any]] = {
        "svc-ap": {"roles": ["agent"], "agents": ["agent:a"]},
        "svc-half": {"agents": ["agent:a"]},
        "olga": {"roles": ["operator"]},
        "anna": {},
    }
    mappings = [
        CallerMapping.model_validate(
            {"match": {"issuer": ISSUER, "subject": subject}, "tenant": "acme", "subject": f"user:{subject}"}
            | said
        )
        for subject, said in subjects.items()
    ]
    keys = KeySource(ISSUER, issuer.read, max_age=config.jwks_max_age_seconds, clock=lambda: issuer.seconds)
    tokens = TokenVerifier({ISSUER: (config, keys)}, clock=lambda: NOW)
    return PrincipalAuthenticator(CredentialAuthenticator(mappings, tokens, clock=lambda: NOW))


@pytest.mark.parametrize("sub", ["svc-ap", "svc-half", "olga"])
async def test_token_of_whoever_has_a_role_proves_no_principal(sub: str) -> None:
    proving = office(Issuer())
    assert (await proving.by_token(token(sub="anna"))).subject == "user:anna"
    with pytest.raises(UnauthenticatedError, match=r"proves nobody|not issued to prove"):
        await proving.by_token(token(sub=sub))


@pytest.mark.parametrize(
    ("sub", "aud", "proves"),
    [
        ("anna", "principals", True),
        ("olga", ["other", "principals"], True),
        ("anna", "placet", False),
        ("olga", "placet", False),
        ("svc-ap", "placet", False),
        # An agent that got hold of such a token for itself.
        ("svc-ap", "principals", False),
        ("svc-half", "principals", False),
    ],
)
async def test_token_that_proves_a_principal_has_an_audience_of_its_own(
    sub: str, aud: Any, proves: bool
) -> None:
    proving = office(Issuer(), principal_audience="principals")
    if proves:
        assert (await proving.by_token(token(sub=sub, aud=aud))).subject == f"user:{sub}"
        return
    with pytest.raises(UnauthenticatedError):
        await proving.by_token(token(sub=sub, aud=aud))


async def test_token_that_proves_a_principal_is_no_credential_of_a_caller() -> None:
    known = authenticator(Issuer(), principal_audience="principals")
    with pytest.raises(UnauthenticatedError, match="audience"):
        await known.authenticate(Context(token(aud="principals")))


async def test_claims_can_match_and_name_the_tenant() -> None:
    match = {"issuer": ISSUER, "claim": {"name": "groups", "value": "ops"}}
    known = authenticator(Issuer(), match, tenant_claim="org")
    assert (await known.authenticate(Context(token(groups=["a", "ops"], org="globex")))).tenant == "globex"
    for claims in (
        {"groups": ["o"], "org": "x"},
        {"groups": "opsx", "org": "x"},
        {"groups": "ops"},
        {"org": "x"},
    ):
        with pytest.raises(UnauthenticatedError):
            await known.authenticate(Context(token(**claims)))


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (raw({"alg": "none", "kid": "k1"}), "algorithm"),
        (raw({"alg": "HS256", "kid": "k1"}, KEYS["k1"].as_pem(private=False)), "algorithm"),
        (raw({"alg": "ES256", "kid": "k1"}, KEYS["k1"].as_pem(private=False)), "signature"),
        (token(aud="other"), "audience"),
        (token(aud=["other"]), "audience"),
        (token(aud=None), "audience"),
        (token(iss="https://evil.example"), "issuer"),
        (token(iss=None), "issuer"),
        (token(exp=NOW - 30), "expired"),
        (token(exp=None), "exp"),
        (token(exp=True), "exp"),
        (token(nbf=NOW + 31), "not valid yet"),
        (token(iat=NOW + 31), "not valid yet"),
        (token(sub=None), "nobody"),
        (token(sub="svc-other"), "no configured caller"),
        (token(header={"alg": "ES256"}), "kid"),
        (token("k2"), "not one of its issuer"),
        (token("k2", header={"alg": "ES256", "kid": "k1"}), "signature"),
        (token(header={"alg": "ES256", "kid": "k1", "typ": "placet-receipt+jwt"}), "header"),
        (raw({"alg": "ES256", "kid": "k1", "crit": []}, b"s"), "header"),
        # Nothing that a token points to, or brings along, is a key.
        (raw({"alg": "ES256", "kid": "k2", "jku": "https://evil.example/jwks"}, b"s"), "not one of its"),
        (raw({"alg": "ES256", "kid": "k1", "x5u": "https://evil.example/c"}, b"s"), "signature"),
        (brought_along(), "signature"),
        (token(scope=7), "scopes"),
        (token(scope=None, scp={"pay": True}), "scopes"),
        (token(scope=["pay", 1]), "scopes"),
        (token()[:-8] + "AAAAAAAA", "signature"),
        (with_number("1e99999999999999999999"), "signature"),
        ("x", "not a signed JWT"),
        ("a.b.c", "not a signed JWT"),
        ("W" * 9000 + ".e30.", "not a signed JWT"),
        ("e30." * 6000, "not a signed JWT"),
    ],
)
async def test_token_that_cannot_be_believed(bad: str, why: str) -> None:
    with pytest.raises(UnauthenticatedError, match=why) as caught:
        await authenticator(Issuer()).authenticate(Context(bad))
    assert bad not in str(caught.value) or len(bad) < 8


async def test_clock_skew_is_forgiven_within_the_leeway() -> None:
    known = authenticator(Issuer())
    for claims in ({"exp": NOW - 29}, {"nbf": NOW + 30}, {"iat": NOW + 29.5}):
        await known.authenticate(Context(token(**claims)))


async def test_no_token_and_two_tokens_are_refused() -> None:
    for context in (Context(), Context(token(), token())):
        with pytest.raises(UnauthenticatedError):
            await authenticator(Issuer()).authenticate(context)


async def test_rotated_key_is_fetched_once_and_rarely() -> None:
    issuer = Issuer()
    known = authenticator(issuer)
    await known.authenticate(Context(token()))
    issuer.published = ["k2"]
    with pytest.raises(UnauthenticatedError):
        await known.authenticate(Context(token("k2")))
    assert issuer.reads == 1  # too soon after the last
    issuer.seconds = 11
    await asyncio.gather(*(known.authenticate(Context(token("k2"))) for _ in range(5)))
    assert issuer.reads == 2
    with pytest.raises(UnauthenticatedError):  # withdrawn
        await known.authenticate(Context(token("k1")))
    assert issuer.reads == 2


async def test_unknown_keys_do_not_hammer_the_issuer() -> None:
    issuer = Issuer()
    known = authenticator(issuer)
    for _ in range(200):
        with pytest.raises(UnauthenticatedError):
            await known.authenticate(Context(token("k2")))
    assert issuer.reads == 1


async def test_key_is_found_among_hundreds_and_weak_ones_are_left_out() -> None:
    weak = rsa.generate_private_key(public_exponent=65537, key_size=1024).public_key().public_numbers()
    strong = RSAKey.generate_key(2048, {"kid": "strong"})
    modulus = base64.urlsafe_b64encode(weak.n.to_bytes(128)).rstrip(b"=").decode()
    many: list[Any] = [
        ECKey.generate_key("P-256", {"kid": f"n{n}"}).as_dict(private=False) for n in range(300)
    ]
    many += [
        {"kty": "RSA", "kid": "weak", "n": modulus, "e": "AQAB"},
        {"kty": "RSA", "kid": "odd", "n": "?", "e": "AQAB"},
        {"kty": "oct", "kid": "shared", "k": "c2VjcmV0"},
        {"kty": "EC", "kid": "broken", "crv": "P-256", "x": "AA", "y": "AA"},
        {"kty": "EC", "crv": "P-256"},
        KEYS["k2"].as_dict(private=False) | {"use": "enc"},
        "no key",
        strong.as_dict(private=False),
    ]
    assert set(parse_keys(json.dumps({"keys": many}).encode())) == {
        "strong",
        *(f"n{n}" for n in range(300)),
    }


async def test_name_that_configuration_gives_is_not_taken_by_a_claim() -> None:
    """A person who is known as a reviewer does not become an agent by a group either."""
    issuer = Issuer()
    config = JwtConfig.model_validate(
        {"issuer": ISSUER, "audience": "placet", "jwks_url": f"{ISSUER}/jwks", "algorithms": ["ES256"]}
    )
    keys = KeySource(ISSUER, issuer.read, max_age=3600, clock=lambda: issuer.seconds)
    mappings: list[dict[str, Any]] = [
        {
            "match": {"issuer": "https://b.example", "subject": "svc-ap"},
            "tenant": "acme",
            "roles": ["agent"],
        },
        {"match": {"spiffe_id": "spiffe://a/b"}, "tenant": "acme", "subject": "rita", "roles": ["reviewer"]},
        {"match": {"spiffe_id": "spiffe://a/c"}, "tenant": "globex", "subject": "bob", "roles": ["reviewer"]},
        {"match": group("agents"), "tenant": "acme", "roles": ["agent"]},
        {"match": group("reviewers"), "tenant": "acme", "roles": ["reviewer"]},
    ]
    known = CredentialAuthenticator(
        [CallerMapping.model_validate(each) for each in mappings],
        TokenVerifier({ISSUER: (config, keys)}, clock=lambda: NOW),
    )
    for subject in ("svc-ap", "rita"):
        with pytest.raises(UnauthenticatedError, match="another configured caller"):
            await known.authenticate(Context(token(sub=subject, groups=["agents"])))
    with pytest.raises(UnauthenticatedError, match="more than one"):
        await known.authenticate(Context(token(sub="eve", groups=["agents", "reviewers"])))
    assert (await known.authenticate(Context(token(sub="bob", groups=["agents"])))).roles == {Role.AGENT}


def group(name: str) -> dict[str, Any]:
    return {"issuer": ISSUER, "claim": {"name": "groups", "value": name}}


async def test_key_file_is_read_again_when_it_changes(tmp_path: Path) -> None:
    file, reads = tmp_path / "jwks.json", list[bool]()

    def publish(*names: str) -> None:
        (tmp_path / "new").write_text(
            json.dumps({"keys": [KEYS[name].as_dict(private=False) for name in names]})
        )
        (tmp_path / "new").replace(file)

    publish("k1")
    config = JwtConfig(issuer=ISSUER, audience="placet", jwks_file=file, algorithms=("ES256",))
    source = key_source(config, reads.append)
    assert await source.find("k1") is not None
    publish("k2")
    assert await source.find("k2") is not None
    assert await source.find("k1") is None  # withdrawn
    for spoil in (lambda: file.write_text("{"), file.unlink):
        spoil()
        for _ in range(3):
            assert await source.find("k2") is not None  # the ones before stay
    assert reads == [True, True, False, False]
    publish("k1")
    assert await source.find("k1") is not None
    await source.aclose()


async def test_known_keys_outlast_the_issuer_for_a_while() -> None:
    issuer = Issuer()
    known = authenticator(issuer)
    await known.authenticate(Context(token()))
    issuer.down = True
    for seconds in (301, 3599):
        issuer.seconds = seconds
        await known.authenticate(Context(token()))
    issuer.seconds = 3620
    with pytest.raises(UnauthenticatedError, match="cannot be read"):
        await known.authenticate(Context(token()))
    issuer.down, issuer.seconds = False, 3640
    await known.authenticate(Context(token()))


async def test_no_keys_no_callers() -> None:
    issuer = Issuer()
    issuer.down = True
    with pytest.raises(UnauthenticatedError, match="cannot be read"):
        await authenticator(issuer).authenticate(Context(token()))


async def test_keys_come_over_http_and_redirects_are_not_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")
    body = await Issuer().read()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            moved = self.path == "/moved"
            self.send_response(302 if moved else 200)
            self.send_header("Location", "/jwks")
            self.end_headers()
            self.wfile.write(b"" if moved else body)

        def log_message(self, *_: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            for path, found in (("jwks", True), ("moved", False)):
                source = key_source(
                    JwtConfig(
                        issuer=ISSUER,
                        audience="placet",
                        jwks_url=f"http://127.0.0.1:{server.server_port}/{path}",
                        algorithms=("ES256",),
                    )
                )
                if found:
                    assert await source.find("k1") is not None
                else:
                    with pytest.raises(UnauthenticatedError):
                        await source.find("k1")
                await source.aclose()
        finally:
            server.shutdown()
            thread.join()


class FixedIssuer(Issuer):
    def __init__(self, keys: bytes) -> None:
        super().__init__()
        self.keys = keys

    async def read(self) -> bytes:
        return self.keys


def edwards_token(curve: str, algorithm: str) -> tuple[str, bytes]:
    """Return a token that names its algorithm so, and the issuer's keys."""
    key = OKPKey.generate_key(curve, {"kid": "k1"})  # type: ignore[arg-type]
    with pytest.warns(SecurityWarning) if algorithm == "EdDSA" else nullcontext():
        made = jwt.encode({"alg": algorithm, "kid": "k1"}, CLAIMS, key, algorithms=[algorithm])
    return made, json.dumps({"keys": [key.as_dict(private=False)]}).encode()


@pytest.mark.parametrize("configured", ["EdDSA", "Ed25519"])
@pytest.mark.parametrize("named", ["EdDSA", "Ed25519"])
async def test_eddsa_and_ed25519_are_one_algorithm(configured: str, named: str) -> None:
    made, keys = edwards_token("Ed25519", named)
    found = await authenticator(FixedIssuer(keys), algorithms=[configured]).authenticate(Context(made))
    assert found.subject == "svc-ap"


async def test_eddsa_is_accepted_of_no_other_curve() -> None:
    made, keys = edwards_token("Ed448", "EdDSA")
    with pytest.raises(UnauthenticatedError, match="signature does not hold"):
        await authenticator(FixedIssuer(keys), algorithms=["EdDSA"]).authenticate(Context(made))


async def test_eddsa_is_refused_where_it_is_not_listed() -> None:
    made, keys = edwards_token("Ed25519", "EdDSA")
    with pytest.raises(UnauthenticatedError, match="not accepted for its issuer"):
        await authenticator(FixedIssuer(keys)).authenticate(Context(made))
