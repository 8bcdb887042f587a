"""Signed entries about earlier decisions: compact JWS, `typ` placet-entry+jwt."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import orjson

from pdp.model import Caller, EntryKind, HoldState, Outcome
from pdp.ports import Signer
from placet.receipt import b64url_encode

TYP = "placet-entry+jwt"
ALG = "ES256"


async def sign_entry(
    signer: Signer,
    *,
    issuer: str,
    entry_id: str,
    kind: EntryKind,
    about: str,
    receipt: bytes,
    by: Caller,
    now: datetime,
    state: HoldState,
    outcome: Outcome | None = None,
    output: bytes = b"",
    audience: str = "",
) -> bytes:
    """Return the entry. Of an output it has the SHA-256. Raises `SignerUnavailableError`.

    `receipt` is the signed part of the decision's receipt, which the entry names by its hash.
    """
    key = signer.active()
    claims: dict[str, Any] = {
        "jti": entry_id,
        "iss": issuer,
        "tenant": by.tenant,
        "kind": kind,
        "about": about,
        "receipt": b64url_encode(hashlib.sha256(receipt).digest()),
        "iat": int(now.timestamp()),
        "caller": by.subject,
        "roles": sorted(by.roles),
        "hold": state,
    }
    if outcome is not None:
        claims["outcome"] = outcome
    if output:
        claims["output"] = b64url_encode(hashlib.sha256(output).digest())
    if audience:
        claims["aud"] = audience
    parts: Sequence[dict[str, Any]] = ({"alg": ALG, "kid": key.key_id, "typ": TYP}, claims)
    signing_input = ".".join(b64url_encode(orjson.dumps(part)) for part in parts).encode("ascii")
    signature = await key.sign(signing_input)
    return signing_input + b"." + b64url_encode(signature).encode("ascii")
