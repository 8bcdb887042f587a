"""What must hold before traffic may come to a replica."""

from __future__ import annotations

import asyncio

from pdp.opa import OpaAdministration
from pdp.ports import Signer
from pdp.postgres.store import PostgresStore


class Readiness:
    """Checks, by name, that a replica can decide now.

    Each returns what is missing, None when nothing is, or raises the `PdpError` that says it.
    """

    def __init__(
        self, *, opa: OpaAdministration, store: PostgresStore, signer: Signer, stopping: asyncio.Event
    ) -> None:
        self._opa = opa
        self._store = store
        self._signer = signer
        self._stopping = stopping
        self.checks = {
            "bundle": self._bundle,
            "database": self._database,
            "signer": self._can_sign,
            "lifecycle": self._lifecycle,
        }

    async def _bundle(self) -> str | None:
        status = await self._opa.status()
        return None if status.revision else f"no bundle is active: {status.error or 'none was loaded'}"

    async def _database(self) -> str | None:
        await self._store.ping_writable()
        return None

    async def _can_sign(self) -> str | None:
        self._signer.active()
        return None

    async def _lifecycle(self) -> str | None:
        return "draining" if self._stopping.is_set() else None
