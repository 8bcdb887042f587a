"""Entries, byte for byte: the ledger holds those of every release."""

from __future__ import annotations

from datetime import UTC, datetime

from pdp.model import EntryKind, HoldState, Outcome, Role
from pdp.proof.entries import sign_entry
from placet.receipt import b64url_decode
from tests.fakes.signer import FixedSigner
from tests.support import builders

NOW = datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=UTC)
_START = (
    b'{"jti":"e-1","iss":"https://pdp.test","tenant":"acme","kind":"%s","about":"d-1",'
    b'"receipt":"MAomZLy6qQuerO_7t-QPAZosybBQt7yNFI1M18KN9dk","iat":1767323045,"caller":"svc-erp",'
    b'"roles":["agent","tool"],"hold":"committed"'
)


async def test_outcome_says_what_happened_and_names_its_output_by_hash() -> None:
    assert await _entry(EntryKind.OUTCOME, outcome=Outcome.EXECUTED, output=b"paid") == (
        _START % b"outcome" + b',"outcome":"executed","output":"JorXDrW8RzeirigWLLyjARjMlFIOSe8axfcshdPyyqk"}'
    )


async def test_redemption_names_who_redeems() -> None:
    assert await _entry(EntryKind.REDEMPTION, audience="erp") == _START % b"redemption" + b',"aud":"erp"}'


async def _entry(kind: EntryKind, **options: object) -> bytes:
    """Sign an entry with fixed values; return its payload."""
    token = await sign_entry(
        FixedSigner(key_id="the-key"),
        issuer="https://pdp.test",
        entry_id="e-1",
        kind=kind,
        about="d-1",
        receipt=b"h.p.s",
        by=builders.caller(subject="svc-erp", roles=frozenset({Role.TOOL, Role.AGENT})),
        now=NOW,
        state=HoldState.COMMITTED,
        **options,  # type: ignore[arg-type]
    )
    header, payload, signature = token.decode("ascii").split(".")
    assert b64url_decode(header) == b'{"alg":"ES256","kid":"the-key","typ":"placet-entry+jwt"}'
    assert b64url_decode(signature) == FixedSigner.SIGNATURE
    return b64url_decode(payload)
