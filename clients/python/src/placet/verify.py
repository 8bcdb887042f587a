"""Offline verification of receipts. Needs the extra `placet[verify]`.

What is checked, in order:

1. The header has exactly `alg`, `kid`, `typ`, in their one spelling; `typ` is ours.
2. `kid` names a key of the given JWKS, and is that key's RFC 7638 thumbprint. No key or
   address found in a receipt is ever used.
3. `alg` is the one that this type of key is pinned to, not what the receipt would like.
4. The signature covers header and payload. ES256 signatures have a low s, so that a
   receipt has one spelling.
5. Every disclosure belongs to a digest in the signed payload.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Mapping
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from placet._http import open_url
from placet._locks import ForkLock
from placet.receipt import (
    ParsedReceipt,
    ReceiptError,
    SplitReceipt,
    b64url_decode,
    b64url_encode,
    split,
)

# Order of the group of P-256 (FIPS 186-5, SP 800-186 §3.2.1.3).
P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_PINNED = {("EC", "P-256"): frozenset({"ES256"}), ("OKP", "Ed25519"): frozenset({"EdDSA", "Ed25519"})}
_ES256 = ec.ECDSA(hashes.SHA256())

PublicKey = ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey


class JwksError(ValueError):
    """A JWK Set cannot be used."""


def thumbprint(jwk: Mapping[str, Any]) -> str:
    """Return the thumbprint (RFC 7638, SHA-256, base64url) of an EC or OKP key. Raises `JwksError`."""
    names = {"EC": ("crv", "kty", "x", "y"), "OKP": ("crv", "kty", "x")}.get(jwk.get("kty", ""))
    if names is None or not all(isinstance(jwk.get(name), str) for name in names):
        raise JwksError("a key must be EC or OKP, with its members as strings")
    members = ",".join(f'"{name}":"{jwk[name]}"' for name in names)
    return b64url_encode(hashlib.sha256(f"{{{members}}}".encode()).digest())


class UnknownKeyError(ReceiptError):
    """The receipt was signed with a key that the JWKS does not have."""


class Verifier:
    """Checks receipts against the keys of one JWK Set (RFC 7517), and nothing else."""

    def __init__(self, jwks: Mapping[str, Any], *, issuer: str | None = None) -> None:
        """`issuer`, if given, must be the receipt's `iss`. Raises `JwksError`."""
        keys = jwks.get("keys")
        if not isinstance(keys, list):
            raise JwksError("a JWK Set has a list `keys`")
        self._keys: dict[str, tuple[PublicKey, frozenset[str]]] = {}
        self._issuer = issuer
        for jwk in keys:
            if not isinstance(jwk, Mapping):
                raise JwksError("a key must be an object")
            pinned = _PINNED.get((str(jwk.get("kty")), str(jwk.get("crv"))))
            if pinned is None:
                continue  # A key of an unknown type is ignored (RFC 7517 §5).
            kid = thumbprint(jwk)
            if jwk.get("kid", kid) != kid:
                raise JwksError(f"kid {jwk['kid']!r} is not the thumbprint of its key")
            self._keys[kid] = (public_key(jwk), pinned)

    def verify(self, token: bytes) -> ParsedReceipt:
        """Return the receipt, proven. Raises `ReceiptError`, which names the part."""
        receipt = split(token)  # 1
        self._check_signature(receipt)
        if self._issuer is not None and receipt.payload.get("iss") != self._issuer:
            raise ReceiptError("payload", f"iss is not {self._issuer}")
        return receipt.disclose()  # 5

    def _check_signature(self, receipt: SplitReceipt) -> None:
        kid, alg = receipt.header["kid"], receipt.header["alg"]
        if kid not in self._keys:
            raise UnknownKeyError("header", f"no key of the JWKS has kid {kid!r}")  # 2
        key, pinned = self._keys[kid]
        if alg not in pinned:
            raise ReceiptError("header", f"alg {alg} does not belong to the type of key {kid}")  # 3
        changed = "it does not cover this header and payload; the payload or the signature was changed"
        try:  # 4
            if isinstance(key, ed25519.Ed25519PublicKey):
                key.verify(receipt.signature, receipt.signing_input)
            else:
                verify_es256(key, receipt.signing_input, receipt.signature)
        except InvalidSignature as exc:
            raise ReceiptError("signature", f"{changed} ({exc})" if str(exc) else changed) from exc


class RefreshingVerifier:
    """A `Verifier` whose keys are fetched, and again when a receipt names a key not seen before.

    Replicas make new keys when they start and every few hours. The address is the
    deployer's, never a receipt's; it is asked at most once every `pause` seconds.
    """

    def __init__(
        self,
        fetch: Callable[[], Mapping[str, Any]],
        *,
        pause: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`fetch` returns a JWK Set, or raises OSError or ValueError."""
        self._fetch = fetch
        self._pause = pause
        self._clock = clock
        self._verifier = Verifier({"keys": []})
        self._fetched = -math.inf
        self._turn = ForkLock()

    def verify(self, token: bytes) -> ParsedReceipt:
        """Verify as `Verifier.verify` does. Raises `ReceiptError` also where keys cannot be fetched."""
        seen = self._verifier
        try:
            return seen.verify(token)
        except UnknownKeyError:
            self._refresh(seen)
        return self._verifier.verify(token)

    def _refresh(self, seen: Verifier) -> None:
        with self._turn:
            if self._verifier is not seen or self._clock() - self._fetched < self._pause:
                return
            self._fetched = self._clock()
            try:
                self._verifier = Verifier(self._fetch())
            except (OSError, ValueError) as exc:
                raise ReceiptError(
                    "header", f"its key is not known, and keys cannot be fetched: {exc}"
                ) from exc


def fetch_jwks(url: str, *, timeout: float = 2.0) -> Mapping[str, Any]:
    """Return the JWK Set at an http or https address. Raises OSError or ValueError.

    `timeout` is in seconds; at most 1 MiB is read. No proxy stands before this machine's own addresses.
    """
    if not url.startswith(("http://", "https://")):
        raise ValueError(f"{url!r} is no http or https address")
    with open_url(url, timeout=timeout) as answer:
        jwks = json.loads(answer.read(1024 * 1024))
    if not isinstance(jwks, dict):
        raise ValueError("a JWK Set is a JSON object")
    return jwks


def verify_es256(key: ec.EllipticCurvePublicKey, signing_input: bytes, signature: bytes) -> None:
    """Check a signature as in RFC 7518 §3.4, and that it has a low s. Raises `InvalidSignature`."""
    if len(signature) != 64:
        raise InvalidSignature("not 64 bytes")
    r = int.from_bytes(signature[:32], "big")
    s = int.from_bytes(signature[32:], "big")
    if s > P256_ORDER // 2:
        raise InvalidSignature("high s")
    key.verify(encode_dss_signature(r, s), signing_input, _ES256)


def public_key(jwk: Mapping[str, Any]) -> PublicKey:
    """Return the key of an EC or OKP JWK. Raises `JwksError`."""
    try:
        x = b64url_decode(jwk["x"])
        if jwk["kty"] == "OKP":
            return ed25519.Ed25519PublicKey.from_public_bytes(x)
        y = b64url_decode(jwk["y"])
        if len(x) != 32 or len(y) != 32:
            raise ValueError("a P-256 coordinate has 32 bytes")
        return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), b"\x04" + x + y)
    except ValueError as exc:
        raise JwksError(f"a key of the JWKS cannot be read: {exc}") from exc
