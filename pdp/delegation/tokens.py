"""Grants as they travel: compact JWS (RFC 7515 §3.1), `typ` placet-grant+jwt.

The replica that issues a grant signs it, and every other one can read it, since all public keys are
in the key directory. `pdp.delegation.grant` is about what a grant says; only the table of grants knows
that it was ever issued, and whether it was revoked.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Mapping
from functools import partial

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec

from pdp.delegation.grant import grant_claims, read_claims
from pdp.jws import ALG, sign_compact
from pdp.model import Grant
from pdp.ports import KeyDirectory, Signer
from placet.canonical import parse_object
from placet.receipt import b64url_decode
from placet.verify import JwksError, public_key, thumbprint, verify_es256

TYP = "placet-grant+jwt"
MAX_BYTES = 64 * 1024
_MAX_HEADER = 512
# Characters of the grants whose readings are kept: some 8,000 of usual ones, 256 of the longest.
MAX_KEPT = 8 * 1024 * 1024
_MAX_KEYS = 1024
# Characters of a SHA-256 in base64url.
_KID_LENGTH = 43


class GrantTokens:
    """Issues grants, and reads those that any replica issued."""

    def __init__(self, signer: Signer, directory: KeyDirectory) -> None:
        self._signer = signer
        self._directory = directory
        # Grants that were read, by their exact bytes: a signature over fixed bytes never changes.
        # What was no grant is not kept.
        self._readings: OrderedDict[str, Grant] = OrderedDict()
        self._kept = 0
        self._keys: OrderedDict[str, ec.EllipticCurvePublicKey] = OrderedDict()
        self._lookups: dict[str, asyncio.Task[ec.EllipticCurvePublicKey | None]] = {}

    async def issue(self, grant: Grant) -> str:
        """Return the signed grant. Raises `SignerUnavailableError`."""
        return await sign_compact(self._signer, typ=TYP, claims=grant_claims(grant))

    def known(self, compact: str) -> Grant | None:
        """Return what a grant says that was read not long ago; None means that only `read` can tell."""
        known = self._readings.get(compact)
        if known is not None:
            self._readings.move_to_end(compact)
        return known

    async def read(self, compact: str) -> Grant | None:
        """Return what a grant says; None unless a key of ours signed exactly these bytes.

        Raises `StoreUnavailableError` when the key cannot be looked up.
        """
        known = self.known(compact)
        if known is not None:
            return known
        grant = await self._read(compact)
        if grant is not None and compact not in self._readings:
            self._readings[compact] = grant
            self._kept += len(compact)
            while self._kept > MAX_KEPT:
                self._kept -= len(self._readings.popitem(last=False)[0])
        return grant

    async def _read(self, compact: str) -> Grant | None:
        segments = compact.split(".")
        if len(compact) > MAX_BYTES or not compact.isascii() or len(segments) != 3:
            return None
        try:
            key = await self._key(_kid(segments[0]))
            if key is None:
                return None
            signing_input = compact.rpartition(".")[0].encode("ascii")
            verify_es256(key, signing_input, b64url_decode(segments[2]))
            # Only what one of us wrote is worth parsing.
            claims = parse_object(b64url_decode(segments[1]), field="claims", max_bytes=MAX_BYTES)
            return read_claims(claims)
        except (InvalidSignature, ValueError):
            return None

    async def _key(self, kid: str) -> ec.EllipticCurvePublicKey | None:
        """Return the key that has this thumbprint; None if no replica ever had it.

        However many calls ask for one key at a time, the directory is asked once.
        """
        known = self._keys.get(kid)
        if known is not None:
            self._keys.move_to_end(kid)
            return known
        lookup = self._lookups.get(kid)
        if lookup is None:
            lookup = asyncio.create_task(self._look_up(kid))
            self._lookups[kid] = lookup
            lookup.add_done_callback(partial(self._looked_up, kid))
        # A caller that goes away must not take the others' answer with it.
        try:
            return await asyncio.shield(lookup)
        finally:
            # No reference cycles on the failure path (docs/decisions/0012-no-cycles-on-failure.md).
            del lookup

    def _looked_up(self, kid: str, lookup: asyncio.Task[ec.EllipticCurvePublicKey | None]) -> None:
        del self._lookups[kid]
        if not lookup.cancelled():
            # Taken note of even if every caller has gone away.
            lookup.exception()

    async def _look_up(self, kid: str) -> ec.EllipticCurvePublicKey | None:
        jwk = await self._directory.key(kid)
        key = None if jwk is None else _es256_key(kid, jwk)
        if key is not None:
            self._keys[kid] = key
            if len(self._keys) > _MAX_KEYS:
                self._keys.popitem(last=False)
        return key


def _kid(header: str) -> str:
    """Return the header's `kid`. Raises ValueError unless it is exactly the header of a grant."""
    members = parse_object(b64url_decode(header), field="header", max_bytes=_MAX_HEADER)
    kid = members.get("kid")
    if members != {"alg": ALG, "kid": kid, "typ": TYP}:
        raise ValueError("a header has exactly alg, kid and typ")
    if not isinstance(kid, str) or len(kid) != _KID_LENGTH:
        raise ValueError("kid must be a thumbprint")
    return kid


def _es256_key(kid: str, jwk: Mapping[str, str]) -> ec.EllipticCurvePublicKey | None:
    """Return the key if it is P-256 and `kid` is its thumbprint: the directory is not believed either."""
    try:
        key = public_key(jwk) if thumbprint(jwk) == kid else None
    except JwksError:
        return None
    return key if isinstance(key, ec.EllipticCurvePublicKey) else None
