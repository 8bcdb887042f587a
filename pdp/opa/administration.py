"""Reads OPA's own state, for readiness and diagnosis. Decisions go through `pdp/opa/engine.py`.

`opa-python-client` knows OPA's administration, but no unix socket: it asks OPA's loopback address,
with the admin token. Its retries are off, because the caller decides whether to ask again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any

import aiohttp
from opa_client.opa_async import AsyncOpaClient

from pdp.errors import PolicyUnavailableError


@dataclass(frozen=True, kw_only=True, slots=True)
class OpaStatus:
    """What OPA says of one bundle."""

    # Empty while no bundle is active.
    revision: str
    # The latest refusal or failed download; the bundle that was active goes on serving.
    error: str

    @property
    def active(self) -> bool:
        return bool(self.revision)


class OpaAdministration:
    """Reads an OPA's health, status and policies."""

    def __init__(self, address: str, *, token: str, bundle: str = "placet", timeout: float = 2.0) -> None:
        """`address` is host:port or http://host:port; `timeout` is in seconds, for each question."""
        host, _, port = address.removeprefix("http://").rstrip("/").rpartition(":")
        self._host = host
        self._port = int(port)
        self._token = token
        self._bundle = bundle
        self._timeout = timeout

    async def healthy(self) -> bool:
        """Return whether OPA answers and has activated its bundle once. Unknown health is unhealthy."""
        async with self._client() as client:
            answer: bool = await client.check_health({"bundles": "true", "plugins": "true"})
            return answer

    async def status(self) -> OpaStatus:
        """Return what is active now, and what was refused. Raises `PolicyUnavailableError`."""
        try:
            async with self._client() as client:
                answer = await client.get_status()
        except (aiohttp.ClientError, TimeoutError, ValueError) as exc:
            raise _unavailable(exc) from exc
        bundle = _member(_member(_member(answer, "result"), "bundles"), self._bundle)
        return OpaStatus(
            revision=str(bundle.get("active_revision") or ""),
            error=_error(bundle),
        )

    async def policies(self) -> list[str]:
        """Return the ids of the policy files in force. Raises `PolicyUnavailableError`."""
        try:
            async with self._client() as client:
                return [str(policy) for policy in await client.get_policies_list()]
        except (aiohttp.ClientError, TimeoutError, ValueError) as exc:
            raise _unavailable(exc) from exc

    def _client(self) -> AbstractAsyncContextManager[Any]:
        client: AbstractAsyncContextManager[Any] = AsyncOpaClient(
            host=self._host, port=self._port, token=self._token, retries=0, timeout=self._timeout
        )
        return client


def _member(value: object, key: str) -> Mapping[str, Any]:
    member = value.get(key) if isinstance(value, Mapping) else None
    return member if isinstance(member, Mapping) else {}


def _error(bundle: Mapping[str, Any]) -> str:
    parts = [str(bundle.get("message") or "")]
    errors = bundle.get("errors")
    parts += [str(error) for error in errors] if isinstance(errors, list) else []
    return "; ".join(part for part in parts if part)


def _unavailable(exc: Exception) -> PolicyUnavailableError:
    if isinstance(exc, aiohttp.ClientResponseError):
        return PolicyUnavailableError("status", str(exc.status))
    if isinstance(exc, asyncio.TimeoutError):
        return PolicyUnavailableError("timeout", "OPA's status")
    if isinstance(exc, ValueError):
        return PolicyUnavailableError("malformed", str(exc))
    return PolicyUnavailableError("connection", str(exc))
