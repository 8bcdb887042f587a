"""What every directory of receipt keys promises."""

from __future__ import annotations

import pytest

from pdp.errors import InvalidFieldError
from tests.contract.conftest import Store

NEWER = {"kid": "a", "kty": "EC", "crv": "P-256", "x": "AQ", "y": "Ag"}
OLDER = {"kid": "b", "kty": "EC", "crv": "P-256", "x": "Aw", "y": "BA"}


async def test_registered_key_is_found_as_it_was_given(store: Store) -> None:
    await store.keys.register(OLDER, replica="r1")
    assert await store.keys.key("b") == OLDER
    assert await store.keys.jwks() == [OLDER]


async def test_key_that_nobody_registered_is_none(store: Store) -> None:
    assert await store.keys.key("b") is None
    assert list(await store.keys.jwks()) == []


async def test_keys_are_listed_oldest_first(store: Store) -> None:
    await store.keys.register(OLDER, replica="r1")
    await store.clock.advance(1)
    await store.keys.register(NEWER, replica="r2")
    assert await store.keys.jwks() == [OLDER, NEWER]


async def test_registering_again_changes_nothing(store: Store) -> None:
    await store.keys.register(OLDER, replica="r1")
    await store.clock.advance(1)
    await store.keys.register(NEWER, replica="r1")
    await store.keys.register(OLDER | {"x": "Bg"}, replica="r2")
    assert await store.keys.jwks() == [OLDER, NEWER]
    assert await store.keys.key("b") == OLDER


@pytest.mark.parametrize("bad", [OLDER | {"kid": ""}, OLDER | {"d": "secret"}], ids=["no kid", "private"])
async def test_key_without_a_name_and_private_key_are_refused(store: Store, bad: dict[str, str]) -> None:
    with pytest.raises(InvalidFieldError) as caught:
        await store.keys.register(bad, replica="r1")
    assert caught.value.field == "jwk"
    assert list(await store.keys.jwks()) == []
