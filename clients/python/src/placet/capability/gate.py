"""`Gate`: the check, and single use.

A receipt without the obligations `redeem` and `after` is used up in `uses`, which only this process
knows unless a shared one is given. A receipt with one of them is redeemed at the PDP, which knows of
every use anywhere; so is one that names secrets, where their salt did not come with it: the PDP compares
them.
"""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from placet._calls.jsontext import object_text
from placet._locks import ForkLock
from placet.capability.check import Capability, CapabilityError, check
from placet.capability.uses import MemoryUses, Uses
from placet.errors import NotFoundError, PlacetError, PreconditionError

if TYPE_CHECKING:
    from placet._calls.receipts import Verifier
    from placet.client import AsyncClient, Client


class _Checked(NamedTuple):
    """What was checked, to be redeemed as it is: the arguments as one text, the time in Unix seconds."""

    arguments: bytes
    now: float
    capability: Capability


class Gate:
    """What one tool server lets in. Safe to share between threads."""

    def __init__(
        self,
        *,
        audience: str,
        tenant: str,
        verifier: Verifier,
        client: Client | AsyncClient | None = None,
        uses: Uses | None = None,
        fulfils: Iterable[str] = (),
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`client`, of an identity with the role tool, redeems; without one, a receipt that has to be
        redeemed is refused. `fulfils` names the obligations that this server meets itself. `clock`
        returns Unix seconds. Raises ValueError for an empty audience or tenant."""
        if not audience or not tenant:
            raise ValueError("a gate needs an audience and a tenant: a receipt must be meant for it")
        self._audience = audience
        self._tenant = tenant
        self._verifier = verifier
        self._client = client
        self._uses = uses or MemoryUses()
        self._fulfils = frozenset(fulfils)
        self._clock = clock
        self._latest = float("-inf")
        self._lock = ForkLock()

    def admit(
        self,
        receipt: str | bytes,
        *,
        tool: str,
        arguments: Mapping[str, Any] | bytes,
        session: str = "",
        secret_salt: bytes = b"",
    ) -> Capability:
        """Use the receipt up for this action. Raises `CapabilityError`: then do not act.

        `secret_salt` is the salt that came with the receipt, if one did (`read_salt`). Raises TypeError if
        the gate has an `AsyncClient`: use `admit_async` then.
        """
        if inspect.iscoroutinefunction(getattr(self._client, "redeem", None)):
            raise TypeError("a gate with an AsyncClient is passed with admit_async()")
        text, now, capability = self._check(receipt, tool, arguments, session, secret_salt)
        if not capability.must_redeem:
            self._claim(capability, now)
            return capability
        with _errors_as_reasons():
            self._redeemer().redeem(
                capability.decision_id, tool=tool, arguments=text, audience=self._audience
            )
        if not capability.secrets_compared:
            # Whoever has the salt is let in without redeeming, so that use is remembered here.
            self._claim(capability, now)
        return capability

    async def admit_async(
        self,
        receipt: str | bytes,
        *,
        tool: str,
        arguments: Mapping[str, Any] | bytes,
        session: str = "",
        secret_salt: bytes = b"",
    ) -> Capability:
        """Do what `admit` does, without blocking the event loop."""
        # On a thread, since a verifier may fetch keys, and shared `uses` may be asked over a network.
        text, now, capability = await asyncio.to_thread(
            self._check, receipt, tool, arguments, session, secret_salt
        )
        if not capability.must_redeem:
            await asyncio.to_thread(self._claim, capability, now)
            return capability
        redeem = self._redeemer().redeem
        with _errors_as_reasons():
            if inspect.iscoroutinefunction(redeem):
                await redeem(capability.decision_id, tool=tool, arguments=text, audience=self._audience)
            else:
                await asyncio.to_thread(
                    redeem, capability.decision_id, tool=tool, arguments=text, audience=self._audience
                )
        if not capability.secrets_compared:
            await asyncio.to_thread(self._claim, capability, now)
        return capability

    def _check(
        self,
        receipt: str | bytes,
        tool: str,
        arguments: Mapping[str, Any] | bytes,
        session: str,
        secret_salt: bytes,
    ) -> _Checked:
        """Check the receipt offline. Raises `CapabilityError`."""
        now = self._now()
        try:
            text = object_text(arguments, "arguments")
        except PlacetError as exc:
            raise CapabilityError("capability.arguments", str(exc)) from exc
        capability = check(
            receipt,
            tool=tool,
            arguments=text,
            audience=self._audience,
            tenant=self._tenant,
            verifier=self._verifier,
            now=now,
            session=session,
            fulfils=self._fulfils,
            secret_salt=secret_salt,
        )
        return _Checked(text, now, capability)

    def _now(self) -> float:
        """Return the time, which never goes back: else a receipt whose use was forgotten when it expired
        could be used again."""
        with self._lock:
            self._latest = max(self._latest, self._clock())
            return self._latest

    def _claim(self, capability: Capability, now: float) -> None:
        if not self._uses.claim(capability.decision_id, until=capability.expires_at.timestamp(), now=now):
            raise CapabilityError("capability.used")

    def _redeemer(self) -> Any:
        if self._client is None:
            raise CapabilityError("capability.not_redeemed", "this gate has no client to redeem with")
        return self._client


@contextmanager
def _errors_as_reasons() -> Iterator[None]:
    """Raise what the PDP refuses, and that it cannot be asked, as a `CapabilityError`."""
    try:
        yield
    except (PreconditionError, NotFoundError) as exc:
        raise CapabilityError("capability.not_redeemed", str(exc)) from exc
    except PlacetError as exc:
        raise CapabilityError("capability.unavailable", str(exc)) from exc
