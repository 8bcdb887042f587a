"""What a signer and its keys promise, with the directory in memory and with the one in the database.

There is one `Signer`. tests/fakes/signer.py has another, which promises less on purpose: its signatures are
constant and stand for nobody, so that a test can state the bytes that were signed.
"""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

from pdp.errors import SignerUnavailableError
from pdp.signing import RotatingSigner
from placet.verify import P256_ORDER, public_key, thumbprint, verify_es256
from tests.contract.conftest import Store


async def test_nothing_is_signed_before_a_key_is_registered(store: Store) -> None:
    with pytest.raises(SignerUnavailableError):
        RotatingSigner(store.keys, replica="r").active()


async def test_active_key_is_in_the_directory_and_its_signatures_hold(store: Store) -> None:
    signer = RotatingSigner(store.keys, replica="r")
    for _ in range(2):
        await signer.rotate()
        active = signer.active()
        jwk = await store.keys.key(active.key_id)
        assert jwk is not None
        assert thumbprint(jwk) == active.key_id
        key = public_key(jwk)
        assert isinstance(key, EllipticCurvePublicKey)
        for message in (b"", b"one", b"another"):
            signature = await active.sign(message)
            assert len(signature) == 64
            assert int.from_bytes(signature[32:], "big") <= P256_ORDER // 2
            verify_es256(key, message, signature)


async def test_retired_keys_stay_in_the_directory(store: Store) -> None:
    signer = RotatingSigner(store.keys, replica="r")
    made = []
    for _ in range(3):
        made.append(await signer.rotate())
        await store.clock.advance(1)
    assert [jwk["kid"] for jwk in await store.keys.jwks()] == made
    assert signer.active().key_id == made[-1]
