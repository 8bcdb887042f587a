"""The public keys of an issuer, from a file or an address, with rotation."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
import urllib.request
from base64 import urlsafe_b64decode
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any

import structlog
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, Key, OKPKey, RSAKey, import_key

from pdp.config.callers import JwtConfig
from pdp.errors import UnauthenticatedError
from pdp.server.identity.certificates import file_state

_LOG = structlog.get_logger("pdp.server")
_MAX_BYTES = 1024 * 1024
_FETCH_SECONDS = 5.0
# Keys are read again when they are this old, and when a key id is unknown.
_REFRESH_SECONDS = 300.0
# At least this lies between two readings, unless it is known that there is something new to read.
_PAUSE_SECONDS = 10.0
_MIN_RSA_BITS = 2048


class KeySource:
    """An issuer's public keys, by their id.

    All calls share one reading, and readings are rate limited. A call waits for a reading only if it
    cannot go on with the keys that are there.
    """

    def __init__(
        self,
        issuer: str,
        read: Callable[[], Awaitable[bytes]],
        *,
        max_age: float,
        version: Callable[[], object] = lambda: None,
        report: Callable[[bool], None] = lambda ok: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`max_age` is for how many seconds keys may be used while they cannot be read again.

        `version` returns another value once there is something new to read, as far as that can be told
        without reading. `report` is told after each reading whether it went well.
        """
        self._issuer = issuer
        self._read = read
        self._max_age = max_age
        self._version = version
        self._tried_version: object = None
        self._report = report
        self._clock = clock
        self._keys: Mapping[str, Key] = {}
        self._read_at = self._tried_at = float("-inf")
        self._reading: asyncio.Task[None] | None = None

    async def find(self, key_id: str) -> Key | None:
        """Return the key, or None if the issuer has none of this id.

        Raises `UnauthenticatedError` while there are no keys to go by.
        """
        changed = self._version() != self._tried_version
        if changed or self._age() > _REFRESH_SECONDS or key_id not in self._keys:
            self._start(at_once=changed)
        needed = changed or self._age() > self._max_age or key_id not in self._keys
        if self._reading is not None and needed:
            # A caller that gives up must not end the reading of the others.
            await asyncio.shield(self._reading)
        if self._age() > self._max_age:
            raise UnauthenticatedError("the keys of the token's issuer cannot be read at present")
        return self._keys.get(key_id)

    async def aclose(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._reading

    def _age(self) -> float:
        return self._clock() - self._read_at

    def _start(self, *, at_once: bool) -> None:
        if self._reading is None and (at_once or self._clock() - self._tried_at >= _PAUSE_SECONDS):
            self._tried_at = self._clock()
            self._tried_version = self._version()
            self._reading = asyncio.create_task(self._refresh())

    async def _refresh(self) -> None:
        try:
            async with asyncio.timeout(_FETCH_SECONDS):
                self._keys = parse_keys(await self._read())
            self._read_at = self._clock()
            self._report(True)
        except (OSError, ValueError) as exc:  # TimeoutError and URLError are OSErrors
            _LOG.warning("jwks_unavailable", issuer=self._issuer, error=str(exc), kind=type(exc).__name__)
            self._report(False)
        finally:
            self._reading = None


def key_source(config: JwtConfig, report: Callable[[bool], None] = lambda ok: None) -> KeySource:
    """Return the keys of a configured issuer. A file is read again as soon as it changes."""
    if config.jwks_file is not None:
        return KeySource(
            config.issuer,
            partial(asyncio.to_thread, config.jwks_file.read_bytes),
            max_age=config.jwks_max_age_seconds,
            version=partial(file_state, config.jwks_file),
            report=report,
        )
    read = partial(asyncio.to_thread, _fetch, str(config.jwks_url))
    return KeySource(config.issuer, read, max_age=config.jwks_max_age_seconds, report=report)


def parse_keys(data: bytes) -> Mapping[str, Key]:
    """Return a JWK Set's keys that check signatures, by id. Raises ValueError.

    Keys of kinds that we do not know are left out, as RFC 7517 section 5 says, and so are
    RSA keys that are too short (RFC 7518 section 3.3).
    """
    document = json.loads(data)
    if not isinstance(document, dict) or not isinstance(document.get("keys"), list):
        raise ValueError("is not a JWK Set")
    keys: dict[str, Key] = {}
    for member in document["keys"]:
        if not isinstance(member, dict) or member.get("use", "sig") != "sig":
            continue
        key_id = member.get("kid")
        if not isinstance(key_id, str) or member.get("kty") not in ("EC", "RSA", "OKP"):
            continue
        if key_id in keys:
            raise ValueError("two keys have one id")
        if member["kty"] == "RSA" and _bits(member.get("n")) < _MIN_RSA_BITS:
            continue
        try:
            key = import_key(member)
        except (JoseError, ValueError, TypeError, KeyError):
            continue
        if isinstance(key, ECKey | RSAKey | OKPKey):
            keys[key_id] = key
    return keys


def _bits(modulus: object) -> int:
    """Return the length of an RSA modulus in bits; 0 for a value that is not one."""
    if not isinstance(modulus, str):
        return 0
    try:
        return int.from_bytes(urlsafe_b64decode(modulus + "=" * (-len(modulus) % 4))).bit_length()
    except ValueError:
        return 0


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


def _fetch(url: str) -> bytes:
    """Return the body. Raises OSError, ValueError."""
    opener = urllib.request.build_opener(_NoRedirects)
    with opener.open(url, timeout=_FETCH_SECONDS) as response:
        body: bytes = response.read(_MAX_BYTES + 1)
    if len(body) > _MAX_BYTES:
        raise ValueError(f"has more than {_MAX_BYTES} bytes")
    return body
