"""Grants as they travel: what one replica signs every other one reads, and nothing else is read."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from datetime import UTC, datetime

import pytest

from pdp.delegation.tokens import GrantTokens
from pdp.errors import SignerUnavailableError, StoreUnavailableError
from pdp.model import Boundary, Grant, ToolEffect
from pdp.signing import Es256Key, RotatingSigner
from placet.receipt import b64url_decode, b64url_encode
from placet.verify import P256_ORDER
from tests.fakes.signer import FixedSigner
from tests.fakes.store.keys import FakeKeyDirectory
from tests.fakes.store.state import StoreState
from tests.support import builders
from tests.support.chains import grant_of, new_grants

SESSION = builders.session(agent="agent:a")
GRANT = grant_of(SESSION, agent="agent:a")


class Directory(FakeKeyDirectory):
    """Counts what it is asked, and answers when it may."""

    def __init__(self) -> None:
        self.state = StoreState()
        super().__init__(self.state)
        self.asked: list[str] = []
        self.was_asked = asyncio.Event()
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def key(self, kid: str) -> Mapping[str, str] | None:
        self.asked.append(kid)
        self.was_asked.set()
        await self.may_answer.wait()
        return await super().key(kid)


async def test_what_one_replica_issues_another_reads() -> None:
    directory = Directory()
    first, second = await new_grants(directory), await new_grants(directory)
    compact = await first.issue(GRANT)
    assert await second.read(compact) == GRANT
    header = json.loads(b64url_decode(compact.split(".")[0]))
    assert set(header) == {"alg", "kid", "typ"}
    assert (header["alg"], header["typ"]) == ("ES256", "placet-grant+jwt")


async def test_grant_is_spelled_one_way() -> None:
    grant = Grant(
        issuer="https://pdp.test",
        tenant="acme",
        grant_id="g-1",
        agent="agent:b",
        session_id="s-1",
        task_id="t-1",
        depth=1,
        boundary=Boundary(tools=("mail.send",), effects=(ToolEffect.SEND,), resources=(), amounts=()),
        parent="00" * 32,
        actors=("agent:a", "agent:root"),
        delegated_by="svc-a",
        purpose="write to them",
        issued_at=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
        expires_at=datetime(2026, 1, 2, 4, 4, 5, tzinfo=UTC),
    )
    compact = await GrantTokens(FixedSigner("the-key"), Directory()).issue(grant)
    header, claims, signature = map(b64url_decode, compact.split("."))
    assert header == b'{"alg":"ES256","kid":"the-key","typ":"placet-grant+jwt"}'
    assert claims == (
        b'{"iss":"https://pdp.test","tenant":"acme","jti":"g-1","sub":"agent:b","session":"s-1",'
        b'"task":"t-1","depth":1,"boundary":{"tools":["mail.send"],"effects":["send"],"resources":[],'
        b'"amounts":[],"after_completion":[]},"dlg":"svc-a","purpose":"write to them",'
        b'"iat":1767323045,"exp":1767326645,"parent":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",'
        b'"act":{"sub":"agent:a","act":{"sub":"agent:root"}}}'
    )
    assert signature == FixedSigner.SIGNATURE


async def test_grant_of_a_key_that_was_rotated_away_is_still_read() -> None:
    directory = Directory()
    signer = RotatingSigner(directory, replica="r")
    await signer.rotate()
    compact = await GrantTokens(signer, directory).issue(GRANT)
    await signer.rotate()
    assert await GrantTokens(signer, directory).read(compact) == GRANT


async def test_key_is_looked_up_once_however_many_ask() -> None:
    directory = Directory()
    issuer, reader = await new_grants(directory), await new_grants(directory)
    compacts = [await issuer.issue(GRANT) for _ in range(8)] + [
        await issuer.issue(grant_of(SESSION, agent=f"agent:{n}")) for n in range(8)
    ]
    directory.may_answer.clear()
    reading = [asyncio.create_task(reader.read(compact)) for compact in compacts]
    await directory.was_asked.wait()
    # One of those who wait goes away; the others get their answer.
    reading.pop(0).cancel()
    directory.may_answer.set()
    assert None not in await asyncio.gather(*reading)
    assert len(directory.asked) == 1
    assert await reader.read(compacts[0]) is not None
    assert len(directory.asked) == 1


async def test_key_that_nobody_registered_is_looked_up_again_the_next_time() -> None:
    """It may be that of a replica that is just starting."""
    here, elsewhere = Directory(), Directory()
    compact = await (await new_grants(elsewhere)).issue(GRANT)
    reader = await new_grants(here)
    assert await reader.read(compact) is None
    for jwk in await elsewhere.jwks():
        await here.register(jwk, replica="late")
    assert await reader.read(compact) == GRANT


async def test_look_up_that_fails_is_a_failure() -> None:
    """Not a chain that is invalid: nobody knows whether it is."""
    directory = Directory()
    compact = await (await new_grants(directory)).issue(GRANT)
    reader = await new_grants(directory)
    directory.state.fault = StoreUnavailableError("gone")
    with pytest.raises(StoreUnavailableError):
        await reader.read(compact)
    directory.state.fault = None
    assert await reader.read(compact) == GRANT


async def test_directory_is_not_believed() -> None:
    directory, thief = Directory(), Es256Key()
    grants = await new_grants(directory)
    compact = await grants.issue(GRANT)
    [jwk] = await directory.jwks()
    for swapped in (thief.jwk | {"kid": jwk["kid"]}, {"kid": jwk["kid"], "kty": "EC"}, {"kid": jwk["kid"]}):
        forged = Directory()
        await forged.register(swapped, replica="r")
        assert await GrantTokens(RotatingSigner(forged, replica="r"), forged).read(compact) is None


async def test_nothing_is_issued_without_a_key() -> None:
    directory = Directory()
    with pytest.raises(SignerUnavailableError):
        await GrantTokens(RotatingSigner(directory, replica="r"), directory).issue(GRANT)


def encoded(value: object) -> str:
    return b64url_encode(json.dumps(value).encode())


async def test_only_the_very_bytes_are_read() -> None:
    directory, key = Directory(), Es256Key()
    await directory.register(key.jwk, replica="r")
    grants = await new_grants(directory)
    header, claims, signature = (await grants.issue(GRANT)).split(".")

    async def signed(header: object, claims: str = claims) -> str:
        signing_input = f"{header if isinstance(header, str) else encoded(header)}.{claims}"
        return f"{signing_input}.{b64url_encode(await key.sign(signing_input.encode()))}"

    good = {"alg": "ES256", "kid": key.key_id, "typ": "placet-grant+jwt"}
    assert await grants.read(await signed(good)) == GRANT

    r, s = b64url_decode(signature)[:32], int.from_bytes(b64url_decode(signature)[32:], "big")
    high = b64url_encode(r + (P256_ORDER - s).to_bytes(32, "big"))
    odd = [
        "",
        "..",
        "é",
        header,
        f"{header}.{claims}",
        f"{header}.{claims}.",
        f"{header}.{claims}.{signature}=",
        f"{header}.{claims}.{signature}.",
        f"{header}.{claims}.{signature}~",
        f" {header}.{claims}.{signature}",
        f"{header}.{claims}.{high}",
        f"{header}.{claims}.{b64url_encode(b64url_decode(signature) + bytes(1))}",
        f"{header}.{claims}.{b64url_encode(bytes(64))}",
        await signed(good | {"alg": "none"}),
        await signed(good | {"alg": "HS256"}),
        await signed(good | {"typ": "placet-receipt+sd-jwt"}),
        await signed(good | {"typ": "JWT"}),
        await signed(good | {"crit": []}),
        await signed(good | {"jwk": key.jwk}),
        await signed({"alg": "ES256", "typ": "placet-grant+jwt"}),
        await signed(good | {"kid": 7}),
        await signed(good | {"kid": "k"}),
        await signed([good]),
        await signed("e30"),
        await signed(good, encoded({"sub": "agent:a"})),
        await signed(good, encoded([])),
        await signed(good, b64url_encode(b"\xff")),
        await signed(good, b64url_encode(b'{"sub":1,"sub":2}')),
        await signed(good, "!"),
        await signed(good, claims + "A" * 70_000),
    ]
    assert [text for text in odd if await grants.read(text) is not None] == []
    assert {kid for kid in directory.asked if len(kid) != 43} == set()


async def test_readings_are_kept_up_to_a_sum_of_characters(monkeypatch: pytest.MonkeyPatch) -> None:
    grants = await new_grants()
    compacts = [await grants.issue(grant_of(SESSION, agent="agent:a")) for _ in range(6)]
    monkeypatch.setattr("pdp.delegation.tokens.MAX_KEPT", 3 * max(map(len, compacts)))
    first = [await grants.read(compact) for compact in compacts]
    again = [await grants.read(compact) for compact in reversed(compacts)]
    assert again == first[::-1]
    # The latest three were kept; the others are read anew.
    assert [new is old for new, old in zip(again, first[::-1], strict=True)] == [True] * 3 + [False] * 3
