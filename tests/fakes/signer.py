"""A signer whose signatures are no secret: for tests of the bytes that are signed."""

from __future__ import annotations


class FixedSigner:
    """`pdp.ports.Signer` and its only `SigningKey`: every signature is the same 64 bytes."""

    SIGNATURE = b"\x07" * 64

    def __init__(self, key_id: str) -> None:
        self.key_id = key_id
        # What was signed last.
        self.signed = b""

    def active(self) -> FixedSigner:
        return self

    async def sign(self, signing_input: bytes) -> bytes:
        self.signed = signing_input
        return self.SIGNATURE
