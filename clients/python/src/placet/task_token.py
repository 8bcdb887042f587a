"""Task tokens: a task that its issuer has signed, so that whoever carries it may open the session.

A compact JWS (RFC 7515 §3.1) whose header has exactly `alg`, `kid` and `typ`
(`placet-task+jwt`), and whose claims are exactly those of `CLAIMS`: what a reader does not
know it must not pass over, since it may have been meant to narrow. Making and checking
tokens needs the extra `placet[verify]`.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from placet._calls.fields import text
from placet._calls.sessions import open_session_request
from placet._wire.boundary import message_json
from placet.canonical import CanonicalError, canonical_json, parse_object
from placet.errors import invalid
from placet.model import Boundary, Task
from placet.receipt import b64url_decode, b64url_encode

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    PrivateKey = EllipticCurvePrivateKey | Ed25519PrivateKey

TYP = "placet-task+jwt"
# The longest token, since a boundary may have a thousand rules.
MAX_BYTES = 256 * 1024
# The most seconds from issuing to expiry. The session may last longer.
MAX_LIFETIME = 3600
REQUIRED = frozenset({"iss", "aud", "sub", "jti", "iat", "exp", "task", "agent", "boundary"})
CLAIMS = REQUIRED | {"expires_at"}
# Ed25519 is the newer name of what EdDSA is with this curve (RFC 9864).
ALGORITHMS = {("EC", "P-256"): ("ES256",), ("OKP", "Ed25519"): ("EdDSA", "Ed25519")}


class TaskTokenError(ValueError):
    """A token is not what it should be, or nobody stands for it. The message tells none of its contents."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskToken:
    """A token taken apart. Parsing proves nothing: see `check_signature`."""

    algorithm: str
    key_id: str
    issuer: str
    # The names are those of `CLAIMS`; of the values only the issuer's has been looked at.
    claims: Mapping[str, Any]
    signing_input: bytes
    signature: bytes


def parse(token: str) -> TaskToken:
    """Take a token apart, strictly. Raises `TaskTokenError`."""
    if len(token) > MAX_BYTES:
        raise TaskTokenError(f"is longer than {MAX_BYTES} characters")
    parts = token.split(".")
    if len(parts) != 3:
        raise TaskTokenError("is no compact JWS: three parts, joined by dots")
    header, claims = _object(parts[0], "header"), _object(parts[1], "payload")
    if header.get("typ") != TYP:
        raise TaskTokenError(f"is of another type (typ) than {TYP}")
    if set(header) != {"alg", "kid", "typ"}:
        raise TaskTokenError("must have exactly alg, kid and typ in its header")
    algorithm, key_id, issuer = header["alg"], header["kid"], claims.get("iss")
    if not (isinstance(algorithm, str) and isinstance(key_id, str) and isinstance(issuer, str)):
        raise TaskTokenError("has an alg, kid or iss that is no text")
    if missing := REQUIRED - set(claims):
        raise TaskTokenError(f"lacks the claims {', '.join(sorted(missing))}")
    if set(claims) - CLAIMS:
        raise TaskTokenError(f"has other claims than {', '.join(sorted(CLAIMS))}")
    try:
        signature = b64url_decode(parts[2])
    except ValueError as exc:
        raise TaskTokenError(f"has a signature that {exc}") from exc
    return TaskToken(
        algorithm=algorithm,
        key_id=key_id,
        issuer=issuer,
        claims=claims,
        signing_input=f"{parts[0]}.{parts[1]}".encode("ascii"),
        signature=signature,
    )


def check_signature(token: TaskToken, keys: Mapping[str, Mapping[str, Any]]) -> None:
    """Check that the key that the token names, among its issuer's `keys` by id, has signed it.

    The algorithm is the key's, never the token's choice. Raises `TaskTokenError`; `JwksError`
    if the key cannot be used.
    """
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
    from cryptography.hazmat.primitives.hashes import SHA256

    from placet.verify import public_key

    jwk = keys.get(token.key_id)
    if jwk is None:
        raise TaskTokenError("is signed with a key (kid) that is none of its issuer's")
    if token.algorithm not in ALGORITHMS.get((str(jwk.get("kty")), str(jwk.get("crv"))), ()):
        raise TaskTokenError("is signed by another algorithm (alg) than its key is for")
    key = public_key(jwk)
    try:
        if len(token.signature) != 64:
            raise InvalidSignature
        if isinstance(key, Ed25519PublicKey):
            key.verify(token.signature, token.signing_input)
        else:
            r, s = (int.from_bytes(half, "big") for half in (token.signature[:32], token.signature[32:]))
            key.verify(encode_dss_signature(r, s), token.signing_input, ECDSA(SHA256()))
    except InvalidSignature as exc:
        raise TaskTokenError("has a signature that does not hold") from exc


def sign(
    key: PrivateKey,
    *,
    issuer: str,
    tenant: str,
    task: Task | Mapping[str, Any] | str,
    principal: str,
    agent: str,
    boundary: Boundary | Mapping[str, Any],
    session_expires_at: datetime | None = None,
    expires_in: timedelta | float = 300,
    key_id: str = "",
    token_id: str = "",
    issued_at: float | None = None,
) -> str:
    """Return a task token. `issuer` is the name that the tenant's operator registered the key under.

    `expires_in` is the token's own lifetime, an hour at most; without `session_expires_at` the
    session lasts an hour. `key_id` is the key's RFC 7638 thumbprint if not given, and
    `token_id` a new UUID. `issued_at` is in Unix seconds; None: now. Raises
    `InvalidRequestError`, which names the field.
    """
    lifetime = expires_in.total_seconds() if isinstance(expires_in, timedelta) else float(expires_in)
    if not 1 <= lifetime <= MAX_LIFETIME:
        raise invalid("expires_in", f"must be 1 to {MAX_LIFETIME} seconds")
    asked = open_session_request(
        task=task,
        principal=principal,
        agent=agent,
        boundary=boundary,
        expires_in=None,
        expires_at=session_expires_at,
    )
    now = int(time.time() if issued_at is None else issued_at)
    claims: dict[str, Any] = {
        "iss": text(issuer, "issuer"),
        "aud": text(tenant, "tenant"),
        "sub": asked.principal,
        "jti": text(token_id, "token_id") or str(uuid.uuid4()),
        "iat": now,
        "exp": now + int(lifetime),
        "task": {"id": asked.task.id, "description": asked.task.description, "prompt": asked.task.prompt},
        "agent": asked.agent,
        # What is absent is the same as what is empty.
        "boundary": {name: part for name, part in message_json(asked.boundary).items() if part != []},
    }
    if asked.HasField("expires_at"):
        claims["expires_at"] = asked.expires_at.seconds
    jwk = public_jwk(key, key_id=key_id)
    header = {"alg": jwk["alg"], "kid": jwk["kid"], "typ": TYP}
    signing_input = ".".join(b64url_encode(canonical_json(part)) for part in (header, claims)).encode("ascii")
    token = f"{signing_input.decode('ascii')}.{b64url_encode(_signature(key, signing_input))}"
    if len(token) > MAX_BYTES:
        raise invalid("boundary", f"makes a token of more than {MAX_BYTES} characters")
    return token


def public_jwk(key: PrivateKey, *, key_id: str = "") -> dict[str, str]:
    """Return the public half of an issuer's key (P-256 or Ed25519), for `put_issuer_keys`."""
    from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    from placet.verify import thumbprint

    if isinstance(key, Ed25519PrivateKey):
        raw = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        jwk = {"kty": "OKP", "crv": "Ed25519", "x": b64url_encode(raw), "alg": "EdDSA"}
    elif isinstance(key.curve, SECP256R1):
        point = key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        x, y = b64url_encode(point[1:33]), b64url_encode(point[33:])
        jwk = {"kty": "EC", "crv": "P-256", "x": x, "y": y, "alg": "ES256"}
    else:
        raise invalid("key", "must be of P-256 or Ed25519")
    return jwk | {"use": "sig", "kid": key_id or thumbprint(jwk)}


def _signature(key: PrivateKey, signing_input: bytes) -> bytes:
    from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
    from cryptography.hazmat.primitives.hashes import SHA256

    if isinstance(key, Ed25519PrivateKey):
        return key.sign(signing_input)
    r, s = decode_dss_signature(key.sign(signing_input, ECDSA(SHA256())))
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def _object(part: str, name: str) -> dict[str, Any]:
    try:
        return parse_object(b64url_decode(part), field=name, max_bytes=MAX_BYTES)
    except CanonicalError as exc:
        raise TaskTokenError(f"has a {name} that is no JSON of this format") from exc
    except ValueError as exc:
        raise TaskTokenError(f"has a {name} that {exc}") from exc
