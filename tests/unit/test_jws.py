"""The bytes of a signed token: others name it by its hash, so that its spelling never changes."""

from __future__ import annotations

import json

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

from pdp.errors import SignerUnavailableError
from pdp.jws import sign_compact
from pdp.signing import Es256Key, RotatingSigner
from placet.receipt import TYP, b64url_decode, encode_header
from placet.verify import public_key, verify_es256
from tests.fakes.signer import FixedSigner
from tests.fakes.store import FakeStore


async def test_header_and_payload_are_spelled_one_way() -> None:
    signer = FixedSigner(key_id="the-key")
    compact = await sign_compact(signer, typ="a-type", claims={"b": 1, "a": ["é", None, {"z": True}]})
    header, payload, signature = compact.split(".")
    assert b64url_decode(header) == b'{"alg":"ES256","kid":"the-key","typ":"a-type"}'
    assert b64url_decode(payload) == '{"b":1,"a":["é",null,{"z":true}]}'.encode()
    assert b64url_decode(signature) == FixedSigner.SIGNATURE
    assert signer.signed == f"{header}.{payload}".encode()


async def test_receipts_header_is_the_one_that_its_format_has() -> None:
    compact = await sign_compact(FixedSigner(key_id="k"), typ=TYP, claims={})
    assert compact.split(".")[0] == encode_header(alg="ES256", kid="k")


async def test_each_token_is_signed_by_the_key_that_is_active_then() -> None:
    directory = FakeStore().keys
    signer = RotatingSigner(directory, replica="r")
    for _ in range(2):
        await signer.rotate()
        active = signer.active()
        assert isinstance(active, Es256Key)
        signing_input, _, signature = (await sign_compact(signer, typ="t", claims={})).rpartition(".")
        assert json.loads(b64url_decode(signing_input.split(".")[0]))["kid"] == active.key_id
        key = public_key(active.jwk)
        assert isinstance(key, EllipticCurvePublicKey)
        verify_es256(key, signing_input.encode(), b64url_decode(signature))


async def test_without_a_key_nothing_is_signed() -> None:
    with pytest.raises(SignerUnavailableError):
        await sign_compact(RotatingSigner(FakeStore().keys, replica="r"), typ="t", claims={})
