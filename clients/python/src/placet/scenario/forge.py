"""Chains of grants as an attacker would send them: a PDP must refuse every one."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from placet.model import Hop
from placet.receipt import b64url_decode, b64url_encode

Forgery = Literal["left_out", "wrong_parent", "flipped_signature", "self_signed", "reordered"]
# Order of the group of P-256. A signature whose s is in the upper half is refused for that alone.
_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


def forge_chain(
    kind: Forgery, hops: Sequence[Hop], *, other_root: str = "", claims: Mapping[str, Any] | None = None
) -> list[Hop]:
    """Return the chain, forged in one way.

    `other_root` is another root grant of the session, for wrong_parent; `claims` replace those of the
    last grant, for self_signed. Raises ValueError for grants that are no compact JWS.
    """
    first, *rest = hops
    *before, last = hops
    match kind:
        case "left_out":
            return [replace(first, grant=""), *rest]
        case "wrong_parent":
            return [replace(first, grant=other_root), *rest]
        case "reordered":
            return list(reversed(hops))
        case "flipped_signature":
            return [*before, replace(last, grant=_flip_signature(last.grant))]
        case "self_signed":
            return [*before, replace(last, grant=_sign_anew(last.grant, claims or {}))]


def _flip_signature(grant: str) -> str:
    header, payload, signature = grant.split(".")
    # The last bit of r is flipped, so that s stays in its lower half.
    changed = bytearray(b64url_decode(signature))
    changed[31] ^= 1
    return f"{header}.{payload}.{b64url_encode(bytes(changed))}"


def _sign_anew(grant: str, claims: Mapping[str, Any]) -> str:
    """Return a grant with other claims under the same header, key id included, signed with another key."""
    header, payload, _ = grant.split(".")
    said = json.loads(b64url_decode(payload)) | dict(claims)
    text = json.dumps(said, separators=(",", ":"), default=str).encode()
    signing_input = f"{header}.{b64url_encode(text)}"
    key = ec.generate_private_key(ec.SECP256R1())
    r, s = decode_dss_signature(key.sign(signing_input.encode(), ec.ECDSA(hashes.SHA256())))
    signature = r.to_bytes(32, "big") + min(s, _ORDER - s).to_bytes(32, "big")
    return f"{signing_input}.{b64url_encode(signature)}"
