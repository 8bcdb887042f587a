"""Task tokens: what is proven opens a session, and everything else names what is wrong."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from hypothesis import given, settings
from hypothesis import strategies as st
from joserfc import jws, jwt
from joserfc.jwk import ECKey, RSAKey

from pdp.authority.boundary import parse_boundary
from pdp.errors import InvalidFieldError, PermissionDeniedError
from pdp.model import IssuerKeys, SessionTerms
from pdp.sessions import task_tokens
from placet import InvalidRequestError, task_token
from placet._wire.boundary import boundary_json
from placet.receipt import b64url_decode, b64url_encode
from placet.task_token import TYP, public_jwk, sign
from tests.unit.authority.test_boundary import boundaries

NOW = datetime.now(UTC).replace(microsecond=0)
ISSUER, TENANT = "https://tasks.example.org", "acme"
P256, ED25519 = ec.generate_private_key(ec.SECP256R1()), ed25519.Ed25519PrivateKey.generate()
TASK: dict[str, Any] = {
    "task": {"id": "T-1", "description": "Pay", "prompt": "pay it"},
    "principal": "user:anna",
    "agent": "agent:payer",
    "boundary": {"tools": ["payments.create"], "resources": ["invoice:INV-*"], "amounts": {"EUR": "5000.00"}},
}
# A key of the issuer as another library has it.
FOREIGN = ECKey.generate_key("P-256", {"kid": "k1"})
CLAIMS: dict[str, Any] = {
    "iss": ISSUER,
    "aud": TENANT,
    "sub": "user:anna",
    "jti": "1",
    "iat": int(NOW.timestamp()),
    "exp": int(NOW.timestamp()) + 300,
    "task": {"id": "T-1"},
    "agent": "agent:payer",
    "boundary": {"tools": ["payments.create"]},
}


def registered(*jwks: Mapping[str, Any]) -> IssuerKeys:
    keys = task_tokens.issuer_keys(json.dumps({"keys": list(jwks)}).encode())
    return IssuerKeys(issuer=ISSUER, keys=keys)


KEYS = registered(public_jwk(P256), public_jwk(ED25519), FOREIGN.as_dict(private=False))


def proven(token: str, keys: IssuerKeys | None = KEYS, *, now: datetime = NOW) -> SessionTerms:
    return task_tokens.prove(task_tokens.read(token), keys, tenant=TENANT, now=now)


def fresh(token: str) -> SessionTerms:
    """What a token says that was signed just now; the rest of this file stands still at `NOW`."""
    return proven(token, now=datetime.now(UTC))


def foreign(claims: Mapping[str, Any] = CLAIMS, **header: Any) -> str:
    """A token that another library made."""
    return jws.serialize_compact(
        {"alg": "ES256", "kid": "k1", "typ": TYP} | header, json.dumps(claims), FOREIGN
    )


def changed(**claims: Any) -> str:
    return foreign({name: value for name, value in (CLAIMS | claims).items() if value is not ...})


@pytest.mark.parametrize("key", [P256, ED25519], ids=["ES256", "EdDSA"])
def test_what_the_issuer_signed_comes_out(key: Any) -> None:
    at = NOW + timedelta(hours=2)
    token = sign(key, issuer=ISSUER, tenant=TENANT, session_expires_at=at, token_id="t-1", **TASK)
    assert fresh(token) == SessionTerms(
        issuer=f"task:{ISSUER}",
        task=fresh(token).task,
        principal="user:anna",
        agent="agent:payer",
        boundary=parse_boundary(
            {
                "tools": ["payments.create"],
                "resources": [{"type": "invoice", "prefix": "INV-"}],
                "amounts": [{"currency": "EUR", "per_action": "5000.00"}],
            },
            "b",
        ),
        expires_at=at,
        token_id="t-1",
        issued_at=fresh(token).issued_at,
    )
    assert (fresh(token).task.id, fresh(token).task.prompt) == ("T-1", "pay it")
    assert fresh(sign(key, issuer=ISSUER, tenant=TENANT, **TASK)).expires_at is None


def test_token_of_another_library_is_as_good() -> None:
    assert proven(foreign()).boundary.tools == ("payments.create",)
    # So is one whose header stands in another order, and whose s is high.
    assert proven(jwt.encode({"typ": TYP, "kid": "k1", "alg": "ES256"}, CLAIMS, FOREIGN)).task.id == "T-1"


@settings(max_examples=30)
@given(boundaries)
def test_every_boundary_that_can_be_opened_can_be_signed(boundary: Any) -> None:
    form = boundary_json(boundary)
    assert proven(changed(boundary=form)).boundary == boundary
    token = sign(P256, issuer=ISSUER, tenant=TENANT, **(TASK | {"boundary": form}))
    assert fresh(token).boundary == boundary


def signed_by(algorithm: str, signature: Callable[[bytes], bytes]) -> str:
    """The good claims under a header of another algorithm."""
    header = json.dumps({"alg": algorithm, "kid": "k1", "typ": TYP}).encode()
    signed = f"{b64url_encode(header)}.{foreign().split('.')[1]}"
    return f"{signed}.{b64url_encode(signature(signed.encode()))}"


def other_curve() -> Any:
    return ec.generate_private_key(ec.SECP384R1())


def flipped(token: str, part: int) -> str:
    parts = token.split(".")
    data = bytearray(b64url_decode(parts[part]))
    data[len(data) // 2] ^= 1
    parts[part] = b64url_encode(bytes(data))
    return ".".join(parts)


DENIED: dict[str, tuple[Callable[[], str], str]] = {
    "no token": (lambda: "token", "no compact JWS"),
    "too long": (lambda: "x" * (task_token.MAX_BYTES + 1), "longer"),
    "no JSON": (lambda: "e30.bm90.AAAA", "payload"),
    "not base64url": (lambda: "a+b.e30.AAAA", "base64url"),
    "detached": (lambda: ".".join((foreign().split(".")[0], "", foreign().split(".")[2])), "payload"),
    "a receipt's type": (lambda: foreign(typ="placet-receipt+sd-jwt"), "type"),
    "an access token's type": (lambda: foreign(typ="JWT"), "type"),
    "no type": (lambda: jws.serialize_compact({"alg": "ES256", "kid": "k1"}, b"{}", FOREIGN), "type"),
    "a key of its own": (lambda: foreign(jwk=FOREIGN.as_dict(private=False)), "exactly alg, kid and typ"),
    "no signature": (lambda: signed_by("none", lambda _: b""), "algorithm"),
    "the public key as a secret": (
        lambda: signed_by(
            "HS256", lambda data: hmac.digest(FOREIGN.as_pem(private=False), data, hashlib.sha256)
        ),
        "algorithm",
    ),
    "EdDSA with the key of ES256": (lambda: signed_by("EdDSA", ED25519.sign), "algorithm"),
    "an unknown key": (lambda: foreign(kid="k2"), "none of its issuer's"),
    "somebody else's key": (
        lambda: jws.serialize_compact(
            {"alg": "ES256", "kid": "k1", "typ": TYP}, json.dumps(CLAIMS), ECKey.generate_key("P-256")
        ),
        "does not hold",
    ),
    "a changed payload": (
        lambda: ".".join(
            (foreign().split(".")[0], changed(sub="user:bob").split(".")[1], foreign().split(".")[2])
        ),
        "does not hold",
    ),
    "a changed signature": (lambda: flipped(foreign(), 2), "does not hold"),
    "a short signature": (lambda: foreign().rpartition(".")[0] + ".AAAA", "does not hold"),
    "another tenant": (lambda: changed(aud="globex"), "aud"),
    "a list of tenants": (lambda: changed(aud=[TENANT]), "aud"),
    "expired": (lambda: changed(exp=int(NOW.timestamp())), "expired"),
    "from the future": (lambda: changed(iat=int(NOW.timestamp()) + 61), "not valid yet"),
    "for too long": (lambda: changed(exp=int(NOW.timestamp()) + 3601), "3600 s"),
    "long ago issued": (lambda: changed(iat=int(NOW.timestamp()) - 3400), "3600 s"),
    "a fraction of a second": (lambda: changed(exp=NOW.timestamp() + 300.5), "whole seconds"),
    "exp as text": (lambda: changed(exp="2030-01-01"), "whole seconds"),
    "iat as truth": (lambda: changed(iat=True), "whole seconds"),
    "without exp": (lambda: changed(exp=...), "lacks the claims exp"),
    "without boundary": (lambda: changed(boundary=...), "lacks the claims boundary"),
    "without jti": (lambda: changed(jti=...), "lacks the claims jti"),
    "with a claim that nobody knows": (lambda: changed(max_amount=5), "other claims"),
    "iss that is no text": (lambda: changed(iss=7), "no text"),
}


@pytest.mark.parametrize(("token", "said"), DENIED.values(), ids=list(DENIED))
def test_what_proves_nothing_is_denied(token: Callable[[], str], said: str) -> None:
    made = token()
    with pytest.raises(PermissionDeniedError, match=said) as denied:
        proven(made)
    assert "user:anna" not in str(denied.value)


@settings(max_examples=300)
@given(st.data())
def test_no_other_spelling_of_a_token_is_one(data: st.DataObject) -> None:
    good = foreign()
    at = data.draw(st.integers(0, len(good) - 1))
    other = data.draw(st.sampled_from("ABZaz09-_.=+/ ~\0é") | st.just(""))
    spelt = good[:at] + other + good[at + (1 if data.draw(st.booleans()) else 0) :]
    if spelt != good:
        with pytest.raises(PermissionDeniedError):
            proven(spelt)


@given(st.text() | st.lists(st.binary().map(b64url_encode), min_size=3, max_size=3).map(".".join))
def test_garbage_is_denied(garbage: str) -> None:
    with pytest.raises(PermissionDeniedError):
        task_tokens.read(garbage)


def test_revoked_and_unknown_issuers_are_denied() -> None:
    for keys in (None, IssuerKeys(issuer=ISSUER, keys=())):
        with pytest.raises(PermissionDeniedError, match="none of its issuer's"):
            proven(foreign(), keys)


def test_token_is_good_until_it_expires() -> None:
    proven(foreign(), now=NOW + timedelta(seconds=299))
    with pytest.raises(PermissionDeniedError, match="expired"):
        proven(foreign(), now=NOW + timedelta(seconds=300))


@pytest.mark.parametrize(
    ("claims", "field"),
    [
        ({"task": "T-1"}, "task_token.task"),
        ({"task": {}}, "task_token.task.id"),
        ({"task": {"id": "T-1", "owner": "x"}}, "task_token.task.owner"),
        ({"task": {"id": 1}}, "task_token.task.id"),
        ({"task": {"id": "T-1", "prompt": "x" * 32769}}, "task_token.task.prompt"),
        ({"sub": ""}, "task_token.sub"),
        ({"sub": "x" * 257}, "task_token.sub"),
        ({"sub": ["user:anna"]}, "task_token.sub"),
        ({"agent": None}, "task_token.agent"),
        ({"jti": ""}, "task_token.jti"),
        ({"boundary": []}, "task_token.boundary"),
        ({"boundary": {"tool": ["a"]}}, "task_token.boundary.tool"),
        ({"boundary": {"amounts": {"EUR": "5"}}}, "task_token.boundary.amounts"),
        ({"boundary": {"amounts": [{"currency": "EUR", "per_action": 5}]}}, "task_token.boundary.amounts[0]"),
        ({"expires_at": "2030-01-01"}, "task_token.expires_at"),
        ({"expires_at": 10**15}, "task_token.expires_at"),
    ],
)
def test_what_is_proven_and_odd_is_refused_by_name(claims: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidFieldError) as refused:
        proven(changed(**claims))
    assert refused.value.field.startswith(field)


PUBLIC = public_jwk(P256)


@pytest.mark.parametrize(
    ("jwks", "field"),
    [
        (b"", "jwks"),
        (b"[]", "jwks"),
        ({}, "jwks"),
        ({"keys": {}}, "jwks"),
        ({"keys": [PUBLIC | {"kid": str(n)} for n in range(17)]}, "jwks.keys"),
        ({"keys": ["key"]}, "jwks.keys[0]"),
        ({"keys": [FOREIGN.as_dict(private=True)]}, "jwks.keys[0].d"),
        ({"keys": [PUBLIC, RSAKey.generate_key(2048, {"kid": "r"}).as_dict(private=False)]}, "jwks.keys[1]"),
        ({"keys": [{"kty": "oct", "kid": "s", "k": "c2VjcmV0"}]}, "jwks.keys[0].k"),
        ({"keys": [ECKey.generate_key("P-384", {"kid": "p"}).as_dict(private=False)]}, "jwks.keys[0]"),
        ({"keys": [PUBLIC | {"use": "enc"}]}, "jwks.keys[0].use"),
        ({"keys": [PUBLIC | {"alg": "ES384"}]}, "jwks.keys[0].alg"),
        ({"keys": [{name: value for name, value in PUBLIC.items() if name != "kid"}]}, "jwks.keys[0].kid"),
        ({"keys": [PUBLIC | {"kid": 7}]}, "jwks.keys[0].kid"),
        ({"keys": [PUBLIC, PUBLIC]}, "jwks.keys[1].kid"),
        ({"keys": [PUBLIC | {"x": PUBLIC["y"]}]}, "jwks.keys[0]"),
        ({"keys": [PUBLIC | {"y": None}]}, "jwks.keys[0].y"),
    ],
)
def test_keys_that_cannot_be_used_are_refused_by_name(jwks: Any, field: str) -> None:
    data = jwks if isinstance(jwks, bytes) else json.dumps(jwks).encode()
    with pytest.raises(InvalidFieldError) as refused:
        task_tokens.issuer_keys(data)
    assert refused.value.field == field


def test_of_a_key_is_kept_what_counts() -> None:
    jwk = PUBLIC | {"kid": "k", "x5c": ["…"], "note": "of the ERP"}
    assert task_tokens.issuer_keys(json.dumps({"keys": [jwk]}).encode()) == (
        {"kty": "EC", "crv": "P-256", "x": PUBLIC["x"], "y": PUBLIC["y"], "kid": "k"},
    )
    assert task_tokens.issuer_keys(b'{"keys": []}') == ()


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"expires_in": 3601}, "expires_in"),
        ({"expires_in": 0}, "expires_in"),
        ({"boundary": {"tool": []}}, "boundary"),
        ({"principal": ""}, "principal"),
        ({"boundary": {"tools": ["x" * 300] * 1000}}, "boundary"),
        ({"boundary": {"amounts": {"EUR": Decimal("NaN")}}}, "boundary.amounts.EUR"),
    ],
)
def test_issuer_hears_at_once_of_what_cannot_be_signed(change: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        sign(P256, **({"issuer": ISSUER, "tenant": TENANT} | TASK | change))
    assert [violation.field for violation in refused.value.violations] == [field]


def test_key_of_another_curve_signs_nothing() -> None:
    with pytest.raises(InvalidRequestError, match="P-256 or Ed25519"):
        sign(other_curve(), issuer=ISSUER, tenant=TENANT, **TASK)
