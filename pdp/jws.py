"""The compact JWS that Placet signs (RFC 7515 §3.1): ES256, and a header of exactly alg, kid and typ."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import orjson

from pdp.ports import Signer
from placet.receipt import b64url_encode

ALG = "ES256"


async def sign_compact(signer: Signer, *, typ: str, claims: Mapping[str, Any]) -> str:
    """Return `claims` as a signed token: `header.payload.signature`, each part in base64url.

    Members stand in the order of the mapping, without white space. `typ` says what kind of token it
    is, so that none can be taken for one of another kind (RFC 8725 §3.11). Raises
    `SignerUnavailableError`.
    """
    key = signer.active()
    signing_input = f"{_header(key.key_id, typ)}.{b64url_encode(orjson.dumps(claims))}"
    signature = await key.sign(signing_input.encode("ascii"))
    return f"{signing_input}.{b64url_encode(signature)}"


@lru_cache(maxsize=64)
def _header(kid: str, typ: str) -> str:
    """Return the protected header, encoded. Keys rotate, and there are few kinds of tokens."""
    return b64url_encode(orjson.dumps({"alg": ALG, "kid": kid, "typ": typ}))
