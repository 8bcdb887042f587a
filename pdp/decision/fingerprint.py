"""Equality of actions inside the PDP, by a keyed digest that never leaves it; and salts of secrets' digests.

The receipt's digest is salted and cannot be compared; this one can, and without the key,
which lives outside the database, nobody can guess amounts out of it.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping, Sequence
from functools import lru_cache

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from pdp.model import JSON, BusinessKey, EvaluationRequest, Hop, KeyHashes, PrerequisiteKey
from placet.canonical import canonical_json

MIN_KEY_BYTES = 32


class Fingerprints:
    """Fingerprints actions under one key per tenant, derived by HKDF (RFC 5869)."""

    def __init__(self, master_key: bytes) -> None:
        """`master_key` has at least 32 bytes; every replica must hold the same."""
        if len(master_key) < MIN_KEY_BYTES:
            raise ValueError(f"a fingerprint key has at least {MIN_KEY_BYTES} bytes")
        self._master_key = master_key
        self._tenant_key = lru_cache(maxsize=1024)(self._derive)

    def of(self, request: EvaluationRequest) -> bytes:
        """Return an HMAC-SHA-256 (32 bytes) of everything that a repeat must have in common.

        That is the action with its claims, the chain of delegation, and the audience.
        The intent, which is free text, is no part of it, nor is the attempt.
        """
        return self._of(request, request.delegated_hops)

    def of_presented_root(self, request: EvaluationRequest) -> bytes:
        """Return the fingerprint that earlier servers recorded of the same request.

        It tells a root grant from none, and from another root grant.
        """
        return self._of(request, request.hops)

    def _of(self, request: EvaluationRequest, hops: tuple[Hop, ...]) -> bytes:
        action = request.action
        document = canonical_json(
            {
                "tool": action.tool,
                "arguments": action.arguments,
                "claimed_resource": action.claimed_resource,
                "provenance": action.provenance,
                "chain": [[hop.agent, hop.grant_hash] for hop in hops],
                "audience": request.audience,
            }
        )
        return hmac.digest(
            self._tenant_key(request.caller.tenant), b"placet-fingerprint/v1\0" + document, "sha256"
        )

    def secret_salt(self, tenant: str, decision_id: str) -> bytes:
        """Return the salt under which a decision's receipt digests secret arguments (32 bytes).

        It goes to whoever asked, in the answer, and is never stored: every replica derives it again.
        """
        return hmac.digest(
            self._tenant_key(tenant), b"placet-secret-salt/v1\0" + decision_id.encode(), "sha256"
        )

    def business_key(self, tenant: str, key: BusinessKey) -> KeyHashes:
        """Return the hashes of a business key as it was given and in its normal form."""
        return KeyHashes(
            normal=self._hash(tenant, "placet-business-key/v1", [key.name, list(key.normal)]),
            given=self._hash(tenant, "placet-business-key-given/v1", [key.name, list(key.given)]),
        )

    def prerequisite_key(
        self, tenant: str, tool: str, same: Sequence[str], arguments: Mapping[str, JSON]
    ) -> PrerequisiteKey:
        """Return what names an action of `tool` whose arguments named in `same` equal those in `arguments`.

        `arguments` must be comparable (`pdp.action.derivation.make_comparable`).
        """
        equal = [[name, arguments[name]] for name in sorted(same) if name in arguments]
        return PrerequisiteKey(
            tool=tool, arguments=self._hash(tenant, "placet-step/v1", [tool, sorted(same), equal])
        )

    def _hash(self, tenant: str, domain: str, document: JSON) -> str:
        return hmac.digest(
            self._tenant_key(tenant), domain.encode() + b"\0" + canonical_json(document), "sha256"
        ).hex()

    def _derive(self, tenant: str) -> bytes:
        info = b"placet-tenant/v1\0" + tenant.encode()
        return HKDF(algorithm=hashes.SHA256(), length=32, salt=None, info=info).derive(self._master_key)
