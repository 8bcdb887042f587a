"""The `KeyDirectory` of the store in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pdp.errors import InvalidFieldError
from tests.fakes.store.state import StoreState


class FakeKeyDirectory:
    def __init__(self, state: StoreState) -> None:
        self._state = state

    async def register(self, jwk: Mapping[str, str], *, replica: str) -> None:
        self._state.check_up()
        if not jwk.get("kid"):
            raise InvalidFieldError("jwk", "has no kid")
        if "d" in jwk:
            raise InvalidFieldError("jwk", "holds a private key")
        self._state.jwks.setdefault(jwk["kid"], dict(jwk))

    async def jwks(self) -> Sequence[Mapping[str, str]]:
        self._state.check_up()
        return list(self._state.jwks.values())

    async def key(self, kid: str) -> Mapping[str, str] | None:
        self._state.check_up()
        return self._state.jwks.get(kid)
