"""`Gate`: the check, and single use.

A receipt without the obligations `redeem` and `after` is used up in `uses`, which is this process's
own unless a shared one is given. One with them is redeemed at the PDP, which knows of every use anywhere.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from placet._calls.jsontext import object_text
from placet.capability.check import Capability, CapabilityError, check
from placet.capability.uses import MemoryUses, Uses
from placet.errors import NotFoundError, PlacetError, PreconditionError

if TYPE_CHECKING:
    from placet._calls.answers import Verifier
    from placet.client import AsyncClient, Client


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
        """`client`, of an identity with the role tool, redeems; without one, what has to be redeemed
        is refused. `fulfils`: obligations that this server meets itself. Raises ValueError."""
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
        self._lock = threading.Lock()

    def admit(
        self, receipt: bytes, *, tool: str, arguments: Mapping[str, Any] | bytes, session: str = ""
    ) -> Capability:
        """Use the receipt up for this action. Raises `CapabilityError`: then do not act.

        Not for a gate with an `AsyncClient`.
        """
        if inspect.iscoroutinefunction(getattr(self._client, "redeem", None)):
            raise TypeError("a gate with an AsyncClient is passed with admit_async()")
        text, now, capability = self._checked(receipt, tool, arguments, session)
        if not capability.must_redeem:
            self._claim(capability, now)
            return capability
        with _errors_as_reasons():
            self._redeemer().redeem(
                capability.decision_id, tool=tool, arguments=text, audience=self._audience
            )
        return capability

    async def admit_async(
        self, receipt: bytes, *, tool: str, arguments: Mapping[str, Any] | bytes, session: str = ""
    ) -> Capability:
        """`admit`, without blocking the event loop."""
        # On a thread: a verifier may fetch keys, and a shared memory may be far away.
        text, now, capability = await asyncio.to_thread(self._checked, receipt, tool, arguments, session)
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
        return capability

    def _checked(
        self, receipt: bytes, tool: str, arguments: Mapping[str, Any] | bytes, session: str
    ) -> tuple[bytes, float, Capability]:
        """What is checked is what is redeemed: the arguments as one text, the time as one instant."""
        now = self._now()
        try:
            text = object_text(arguments, "arguments")
        except PlacetError as exc:
            raise CapabilityError("capability.arguments", str(exc)) from exc
        return (
            text,
            now,
            check(
                receipt,
                tool=tool,
                arguments=text,
                audience=self._audience,
                tenant=self._tenant,
                verifier=self._verifier,
                now=now,
                session=session,
                fulfils=self._fulfils,
            ),
        )

    def _now(self) -> float:
        """Never back: a receipt whose use was forgotten must not come to life again."""
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
    """What the PDP answers, as a reason."""
    try:
        yield
    except (PreconditionError, NotFoundError) as exc:
        raise CapabilityError("capability.not_redeemed", str(exc)) from exc
    except PlacetError as exc:
        raise CapabilityError("capability.unavailable", str(exc)) from exc
