"""Keys that are fetched: again for a new key, never for an old trick, never too often."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from pdp.signing import Es256Key
from placet.receipt import ReceiptError, assemble, b64url_encode, encode_header
from placet.verify import RefreshingVerifier, UnknownKeyError, fetch_jwks


class Keys:
    """A key directory that counts how often it is asked."""

    def __init__(self, *keys: Es256Key) -> None:
        self.keys = list(keys)
        self.asked = 0
        self.down = False

    def fetch(self) -> Mapping[str, Any]:
        self.asked += 1
        if self.down:
            raise OSError("connection refused")
        return {"keys": [key.jwk for key in self.keys]}


class Clock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


async def receipt(key: Es256Key) -> bytes:
    signing_input = f"{encode_header(alg='ES256', kid=key.key_id)}.{b64url_encode(b'{}')}".encode()
    return assemble(signing_input, await key.sign(signing_input), [])


async def test_new_key_is_fetched_once_and_old_ones_stay_known() -> None:
    old, new, clock = Es256Key(), Es256Key(), Clock()
    keys = Keys(old)
    verifier = RefreshingVerifier(keys.fetch, clock=clock)
    for _ in range(3):
        verifier.verify(await receipt(old))
    assert keys.asked == 1
    keys.keys.append(new)
    clock.seconds += 10
    for key in (new, old, new):
        verifier.verify(await receipt(key))
    assert keys.asked == 2


async def test_made_up_keys_do_not_make_it_ask_without_end() -> None:
    keys, clock = Keys(Es256Key()), Clock()
    verifier = RefreshingVerifier(keys.fetch, clock=clock)
    for _ in range(20):
        with pytest.raises(UnknownKeyError):
            verifier.verify(await receipt(Es256Key()))
    assert keys.asked == 1


async def test_keys_that_cannot_be_fetched_prove_nothing() -> None:
    key, clock = Es256Key(), Clock()
    keys = Keys(key)
    keys.down = True
    verifier = RefreshingVerifier(keys.fetch, clock=clock)
    with pytest.raises(ReceiptError, match="cannot be fetched"):
        verifier.verify(await receipt(key))
    keys.down = False
    clock.seconds += 10
    verifier.verify(await receipt(key))
    keys.down = True
    verifier.verify(await receipt(key))


def test_only_http_is_fetched() -> None:
    with pytest.raises(ValueError, match="no http"):
        fetch_jwks("file:///etc/passwd")
