"""Bearer tokens: JWTs (RFC 7519) that a configured issuer signed, for this server and this time.

A token only chooses among the configured issuers and their keys. No address that stands in it is followed.
"""

from __future__ import annotations

import base64
import binascii
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jws import JWSRegistry

from pdp.config.callers import JwtConfig
from pdp.errors import UnauthenticatedError
from pdp.model import JSON
from pdp.server.identity.jwks import KeySource

_MAX_BYTES = 16 * 1024
# `typ` of access tokens as RFC 9068 has it, and as most issuers write it. A token may also have none.
_TYPES = frozenset({"jwt", "at+jwt", "application/at+jwt"})
# EdDSA is accepted for one curve alone, where RFC 9864 gives it the name Ed25519.
_ALGORITHMS = {**JWSRegistry.algorithms, "EdDSA": JWSRegistry.algorithms["Ed25519"]}


@dataclass(frozen=True, kw_only=True, slots=True)
class VerifiedToken:
    """A token whose signature, issuer, audience and times hold."""

    issuer: JwtConfig
    # `sub` is among them, and is text.
    claims: Mapping[str, JSON]

    def policy_claims(self) -> Mapping[str, JSON]:
        """Return what policy sees: the issuer, the scopes, and the claims that configuration lists."""
        listed = {name: self.claims[name] for name in self.issuer.claims if name in self.claims}
        return {**listed, "issuer": self.issuer.issuer, "scopes": _scopes(self.claims)}


class TokenVerifier:
    """Checks the tokens of the configured issuers."""

    def __init__(
        self, issuers: Mapping[str, tuple[JwtConfig, KeySource]], *, clock: Callable[[], float] = time.time
    ) -> None:
        """`clock` tells Unix seconds."""
        self._issuers = issuers
        self._clock = clock

    async def verify(self, token: str, *, principal: bool = False) -> VerifiedToken:
        """Return what the token says. Raises `UnauthenticatedError`, without the token's contents.

        `principal`: it is to prove a principal, and is for the audience that its issuer gives such
        tokens, if it gives them one.
        """
        header, unverified = _parts(token)
        issuer, keys = self._issuers.get(str(unverified.get("iss")), (None, None))
        if issuer is None or keys is None:
            raise UnauthenticatedError("the token's issuer (iss) is not configured")
        algorithm, key_id = header.get("alg"), header.get("kid")
        if _one_name(algorithm) not in map(_one_name, issuer.algorithms):
            raise UnauthenticatedError("the token's algorithm (alg) is not accepted for its issuer")
        if str(header.get("typ", "jwt")).lower() not in _TYPES or "crit" in header:
            raise UnauthenticatedError("the token's header (typ, crit) is not that of an access token")
        if not isinstance(key_id, str) or not key_id:
            raise UnauthenticatedError("the token does not name its key (kid)")
        key = await keys.find(key_id)
        if key is None:
            raise UnauthenticatedError("the token's key (kid) is not one of its issuer's")
        if key.alg is not None and _one_name(key.alg) != _one_name(algorithm):
            raise UnauthenticatedError("the token's algorithm (alg) is not that of its key")
        try:
            claims = jwt.decode(token, key, registry=_signatures(str(algorithm)), decoder_cls=_Decoder).claims
        except (JoseError, ValueError, ArithmeticError, RecursionError) as exc:
            raise UnauthenticatedError("the token's signature does not hold") from exc
        self._check(claims, issuer, (principal and issuer.principal_audience) or issuer.audience)
        return VerifiedToken(issuer=issuer, claims=claims)

    def _check(self, claims: Mapping[str, Any], issuer: JwtConfig, expected: str) -> None:
        now, leeway = self._clock(), issuer.leeway_seconds
        if claims.get("iss") != issuer.issuer:
            raise UnauthenticatedError("the token's issuer (iss) is another than its signer")
        audience = claims.get("aud")
        if expected not in (audience if isinstance(audience, list) else [audience]):
            raise UnauthenticatedError("the token is for another audience (aud)")
        if not isinstance(claims.get("sub"), str) or not claims["sub"]:
            raise UnauthenticatedError("the token names nobody (sub)")
        _scopes(claims)
        if _time(claims, "exp", required=True) <= now - leeway:
            raise UnauthenticatedError("the token has expired (exp)")
        if _time(claims, "nbf") > now + leeway or _time(claims, "iat") > now + leeway:
            raise UnauthenticatedError("the token is not valid yet (nbf, iat)")


def _signatures(algorithm: str) -> JWSRegistry:
    """Return what checks signatures of this algorithm alone."""
    registry = JWSRegistry(algorithms=[algorithm])
    registry.algorithms = _ALGORITHMS
    return registry


def _one_name(algorithm: object) -> object:
    """Return one name for an algorithm that has two."""
    return "Ed25519" if algorithm == "EdDSA" else algorithm


class _Decoder(json.JSONDecoder):
    def __init__(self) -> None:
        super().__init__(parse_float=Decimal, parse_constant=_refuse)


def _refuse(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _scopes(claims: Mapping[str, JSON]) -> list[str]:
    """Return `scope` (one text, RFC 8693 section 4.2) or else `scp`, which is a list at some issuers."""
    scopes = claims.get("scope", claims.get("scp", ""))
    found = scopes.split() if isinstance(scopes, str) else scopes
    if not isinstance(found, list) or not all(isinstance(scope, str) for scope in found):
        raise UnauthenticatedError("the token's scopes (scope, scp) are not a list of names")
    return found


def _time(claims: Mapping[str, Any], name: str, *, required: bool = False) -> int | Decimal:
    value = claims.get(name)
    if value is None and not required:
        return 0
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        raise UnauthenticatedError(f"the token's {name} is not a time")
    return value


def _parts(token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return header and claims, of which nothing has been verified yet."""
    parts = token.split(".")
    if len(token) > _MAX_BYTES or len(parts) != 3:
        raise UnauthenticatedError("the token is not a signed JWT")
    found = []
    for part in parts[:2]:
        try:
            value = json.loads(base64.b64decode(part + "=" * (-len(part) % 4), altchars="-_", validate=True))
        except (binascii.Error, ValueError, RecursionError) as exc:
            raise UnauthenticatedError("the token is not a signed JWT") from exc
        if not isinstance(value, dict):
            raise UnauthenticatedError("the token is not a signed JWT")
        found.append(value)
    return found[0], found[1]
