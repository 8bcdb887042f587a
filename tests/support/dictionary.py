"""The attack on secrets: every value that one could have is tried against every digest that is known."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from placet.canonical import canonical_action
from placet.receipt import b64url_decode, parse


def find_by_dictionary(token: bytes, candidates: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the candidates for a call's arguments, secrets included, that a whole receipt confirms.

    What the formats of docs/receipts.md digest is tried under everything in the receipt that could be a salt.
    """
    receipt = parse(token)
    act = receipt.claims["act"]
    digests = {_bytes(text) for text in _texts(receipt.payload)}
    salts = {b"", *map(_bytes, _texts(receipt.claims))}
    for disclosure in receipt.disclosures:
        salts.add(b64url_decode(json.loads(b64url_decode(disclosure))[0]))
    found = []
    for candidate in candidates:
        action = canonical_action(tool=act["tool"], resource=act["resource"], arguments=candidate)
        tried = set()
        for salt in salts:
            tried.add(hashlib.sha256(b"placet-action/v1\0" + salt + action).digest())
            tried.add(hmac.digest(salt, b"placet-secrets/v1\0" + action, "sha256"))
        if tried & digests:
            found.append(candidate)
    return found


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)


def _bytes(text: str) -> bytes:
    try:
        return b64url_decode(text)
    except ValueError:
        return text.encode()
