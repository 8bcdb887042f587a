"""Receipts of the fake: always well formed, and really signed if the test asks for it."""

from __future__ import annotations

import json
import secrets
from collections.abc import Collection, Mapping
from typing import Any, Protocol

from placet._calls.jsontext import json_text
from placet.canonical import action_digest
from placet.model import ChainHop, Decision, Effect
from placet.receipt import (
    SECRETS_VERSION,
    VERSION,
    assemble,
    b64url_encode,
    disclosure_digest,
    encode_disclosure,
    encode_header,
)
from placet.secret_paths import hide, secrets_digest

ISSUER = "placet-fake"


class Signer(Protocol):
    """What receipts are signed with. `kid` names its key."""

    kid: str

    def sign(self, data: bytes) -> bytes:
        """Return 64 bytes: the signature, r then s (RFC 7518, section 3.4)."""
        ...

    def jwks(self) -> dict[str, Any]:
        """Return the JWK Set (RFC 7517, section 5) that verifies what it signs."""
        ...


class NoSigner:
    """Puts zeros where a signature belongs: no verifier accepts them."""

    kid = "unsigned"

    def sign(self, data: bytes) -> bytes:
        return bytes(64)

    def jwks(self) -> dict[str, Any]:
        return {"keys": []}


class Es256Signer:
    """Signs with a key of its own. Needs the extra `placet[verify]`."""

    def __init__(self) -> None:
        from cryptography.hazmat.primitives.asymmetric import ec

        from placet.verify import thumbprint

        self._key = ec.generate_private_key(ec.SECP256R1())
        numbers = self._key.public_key().public_numbers()
        self._jwk = {
            "kty": "EC",
            "crv": "P-256",
            "x": b64url_encode(numbers.x.to_bytes(32, "big")),
            "y": b64url_encode(numbers.y.to_bytes(32, "big")),
        }
        self.kid = thumbprint(self._jwk)

    def sign(self, data: bytes) -> bytes:
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

        from placet.verify import P256_ORDER

        r, s = decode_dss_signature(self._key.sign(data, ec.ECDSA(hashes.SHA256())))
        return r.to_bytes(32, "big") + min(s, P256_ORDER - s).to_bytes(32, "big")

    def jwks(self) -> dict[str, Any]:
        return {"keys": [{**self._jwk, "kid": self.kid, "alg": "ES256", "use": "sig"}]}


def _hop_claim(hop: ChainHop) -> dict[str, Any]:
    if not hop.verified:
        return {"unverified": hop.unverified}
    claim: dict[str, Any] = {"agent": hop.agent, "delegated_by": hop.delegated_by, "depth": hop.depth}
    if hop.grant_hash:
        claim["grant"] = hop.grant_hash
    if hop.effect is not None:
        claim["effect"] = hop.effect
    return claim


def make_receipt(
    decision: Decision,
    *,
    signer: Signer,
    tenant: str,
    caller: str,
    tool: str,
    resource: str,
    arguments: Mapping[str, Any],
    arguments_text: bytes,
    audience: str,
    secret_paths: Collection[str] = (),
    secret_salt: bytes = b"",
) -> bytes:
    """Return the receipt of a decision: the format of docs/receipts.md, with the claims that the fake knows.

    Among these is everything that a tool server checks. There is no `sub`, `agent`, `task`, `principal`,
    `trust`, `durability`, `prev`, `input_digest` and `intent`; a reason has no `at`, and a hop of `chain`
    no `scope_digest`, `same_runtime` and `human_reviewed`.

    `arguments` is what `arguments_text` says. What is secret of them, by `secret_paths`, is digested under
    `secret_salt`.
    """
    salt = secrets.token_bytes(16)
    disclosures: list[str] = []

    def hidden(**values: Any) -> list[str]:
        new = [encode_disclosure(secrets.token_bytes(16), name, value) for name, value in values.items()]
        disclosures.extend(new)
        return sorted(disclosure_digest(disclosure) for disclosure in new)

    assert decision.decided_at is not None
    assert decision.expires_at is not None
    secret = hide(arguments, secret_paths)
    digest = action_digest(tool=tool, resource=resource, arguments=secret.rest, salt=salt)
    act: dict[str, Any] = {"tool": tool, "method": "call", "resource": resource, "ad": b64url_encode(digest)}
    if secret.paths:
        arguments_text = json_text(secret.shown, "arguments")
        apart = secrets_digest(tool=tool, resource=resource, arguments=arguments, salt=secret_salt)
        act |= {"secrets": list(secret.paths), "secrets_digest": b64url_encode(apart)}
    claims: dict[str, Any] = {
        "jti": decision.decision_id,
        "iss": ISSUER,
        "tenant": tenant,
        "kind": "decision",
        "ver": SECRETS_VERSION if secret.paths else VERSION,
        "effect": decision.effect,
        "iat": int(decision.decided_at.timestamp()),
        "exp": int(decision.expires_at.timestamp()),
        "nonce": b64url_encode(secrets.token_bytes(16)),
        "caller": caller,
        "session": decision.session_id,
        "session_version": decision.session_version,
        "tool_call_id": decision.tool_call_id,
        "attempt": decision.attempt_id,
        "act": act,
        "chain": [_hop_claim(hop) for hop in decision.chain],
        "policy": {"bundle": decision.policy.bundle, "revision": decision.policy.revision},
        "data": dict(decision.data_revisions),
        "engine": "fake",
        "reasons": [
            {"code": reason.code, "effect": reason.effect, "_sd": hidden(message=reason.message)}
            for reason in decision.reasons
        ],
        "obligations": [
            {"id": item.id, "properties": dict(item.properties)} for item in decision.obligations
        ],
        "retryable": decision.retryable,
        "_sd_alg": "sha-256",
        "_sd": hidden(arguments=arguments_text, ad_salt=b64url_encode(salt)),
    }
    if decision.retry_after is not None:
        claims["retry_after"] = int(decision.retry_after.total_seconds())
    if audience:
        claims["aud"] = audience
    if decision.effect is Effect.ALLOW:
        claims["use"] = "once"
    payload = json.dumps(claims, ensure_ascii=False, separators=(",", ":")).encode("utf-8")
    signing_input = (encode_header(alg="ES256", kid=signer.kid) + "." + b64url_encode(payload)).encode(
        "ascii"
    )
    return assemble(signing_input, signer.sign(signing_input), disclosures)
