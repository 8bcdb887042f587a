"""What must hold before traffic may come to a replica."""

from __future__ import annotations

import asyncio
import time

from pdp.errors import PolicyUnavailableError
from pdp.model import Effect
from pdp.opa import OpaAdministration
from pdp.ports import PolicyEngine, Signer
from pdp.postgres.store import PostgresStore
from pdp.skew import MAX_SKEW, ClockSkew

# A document without anything in it. Whatever the policy is, nothing in it may be allowed.
_EMPTY = b"{}"
_EVALUATION_SECONDS = 2.0


class Readiness:
    """Checks, by name, that a replica can decide now.

    Each returns what is missing, None when nothing is, or raises the `PdpError` that says it.
    """

    def __init__(
        self,
        *,
        opa: OpaAdministration,
        engine: PolicyEngine,
        store: PostgresStore,
        signer: Signer,
        skew: ClockSkew,
        stopping: asyncio.Event,
    ) -> None:
        """`engine` is another than the one that decides, so that the check waits behind no decisions."""
        self._opa = opa
        self._engine = engine
        self._store = store
        self._signer = signer
        self._skew = skew
        self._stopping = stopping
        self.checks = {
            "bundle": self._bundle,
            "policy": self._policy,
            "database": self._database,
            "signer": self._can_sign,
            "clock": self._clock,
            "lifecycle": self._lifecycle,
        }

    async def _bundle(self) -> str | None:
        status = await self._opa.status()
        return None if status.revision else f"no bundle is active: {status.error or 'none was loaded'}"

    async def _policy(self) -> str | None:
        """Have the policy judge, the way that decisions take."""
        try:
            verdict = await self._engine.decide(_EMPTY, deadline=time.monotonic() + _EVALUATION_SECONDS)
        except PolicyUnavailableError as exc:
            if str(exc) in ("status: 401", "status: 403"):
                return f"OPA refuses the token of opa_token_file ({exc})"
            raise
        if verdict.effect is not Effect.BLOCK:
            return f"an empty document gets the effect {verdict.effect}, and has to be blocked"
        return None

    async def _database(self) -> str | None:
        await self._store.ping_writable()
        return None

    async def _can_sign(self) -> str | None:
        self._signer.active()
        return None

    async def _clock(self) -> str | None:
        if not self._skew.is_off:
            return None
        return (
            f"this machine's clock is {self._skew.ahead:+.1f} s off from the database's; "
            f"at most {MAX_SKEW:g} s are borne"
        )

    async def _lifecycle(self) -> str | None:
        return "draining" if self._stopping.is_set() else None
