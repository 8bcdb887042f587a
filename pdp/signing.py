"""Signing keys of a replica: made in memory, registered before first use, rotated.

A private key never leaves the process. Its public half stays in the key directory for
good, so that old receipts can be verified after the replica is gone.
"""

from __future__ import annotations

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from pdp.errors import SignerUnavailableError
from pdp.ports import KeyDirectory, SigningKey
from placet.receipt import b64url_encode
from placet.verify import P256_ORDER, thumbprint

# Nonces by RFC 6979, so that a signature does not depend on the quality of randomness at that moment.
_ES256 = ec.ECDSA(hashes.SHA256(), deterministic_signing=True)


class Es256Key:
    """One P-256 key in memory."""

    def __init__(self) -> None:
        self._private_key = ec.generate_private_key(ec.SECP256R1())
        numbers = self._private_key.public_key().public_numbers()
        jwk = {
            "kty": "EC",
            "crv": "P-256",
            "x": b64url_encode(numbers.x.to_bytes(32, "big")),
            "y": b64url_encode(numbers.y.to_bytes(32, "big")),
        }
        self.key_id = thumbprint(jwk)
        # Public JWK (RFC 7517 §4) with its RFC 7638 thumbprint as kid.
        self.jwk = {**jwk, "kid": self.key_id, "alg": "ES256", "use": "sig"}

    async def sign(self, signing_input: bytes) -> bytes:
        """Return the ES256 signature (RFC 7518 §3.4): r and s, 32 bytes each, with a low s."""
        r, s = decode_dss_signature(self._private_key.sign(signing_input, _ES256))
        return r.to_bytes(32, "big") + min(s, P256_ORDER - s).to_bytes(32, "big")


class RotatingSigner:
    """Signs with the key that was registered last."""

    def __init__(self, directory: KeyDirectory, *, replica: str) -> None:
        self._directory = directory
        self._replica = replica
        self._active: Es256Key | None = None

    def active(self) -> SigningKey:
        """Return the key to sign with. Raises `SignerUnavailableError` before the first is registered."""
        if self._active is None:
            raise SignerUnavailableError("no key is registered yet")
        return self._active

    async def rotate(self) -> str:
        """Make a key, register it, and only then sign with it. Returns its id.

        Raises `StoreUnavailableError`; the key before it, if any, stays active.
        """
        key = Es256Key()
        await self._directory.register(key.jwk, replica=self._replica)
        self._active = key
        return key.key_id
