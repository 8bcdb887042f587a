"""Signed entries about earlier decisions: compact JWS, `typ` placet-entry+jwt."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from pdp.jws import sign_compact
from pdp.model import Caller, EntryKind, HoldState, Outcome, PolicyRevision
from pdp.ports import Signer
from placet.receipt import b64url_encode

TYP = "placet-entry+jwt"


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
    policy: PolicyRevision | None = None,
    data_revisions: Mapping[str, int] | None = None,
) -> bytes:
    """Return the signed entry about the decision `about`. Raises `SignerUnavailableError`.

    `receipt` is the signed part of that decision's receipt, which the entry names by its SHA-256.
    `output`, if there is any, is not in the entry either, only its SHA-256. `state` is that of the hold
    after the entry. `policy` and `data_revisions` are those that a redemption was judged on.
    """
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
    if policy is not None:
        claims["policy"] = {"bundle": policy.bundle, "revision": policy.revision}
    if data_revisions is not None:
        claims["data"] = dict(data_revisions)
    return (await sign_compact(signer, typ=TYP, claims=claims)).encode("ascii")
