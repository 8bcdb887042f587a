"""What all calls of one client share: where they go, as whom, by when, and how answers are judged."""

from __future__ import annotations

import asyncio
import math
import os
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, TypeVar

from placet._calls.action import session_token_of
from placet._calls.answers import AnswerChecks, Attempts
from placet._calls.call import Call
from placet._calls.fields import text
from placet._calls.receipts import Verifier
from placet._clock import SteadyClock
from placet._transport.channel import Connection, Credentials, Metadata
from placet.credentials import token_from
from placet.errors import DeadlineError, invalid
from placet.identity import DevIdentity
from placet.model import Session

R = TypeVar("R")

# Longer than anybody waits for a decision; a larger number is in milliseconds, or a mistake.
MAX_TIMEOUT = 3600.0
# Every caller fulfils these two. The tool's own side redeems: the caller only hands the receipt on. And
# `Decision.allowed` is False until the action that an action comes after was executed.
ALWAYS_UNDERSTOOD = frozenset({"redeem", "after"})


class CallContext:
    """The checked settings of one client, and what it remembers of its attempts."""

    def __init__(
        self,
        *,
        target: str,
        identity: DevIdentity | None,
        credentials: Credentials | None,
        timeout: float,
        jwks: Mapping[str, Any] | str | None,
        verifier: Verifier | None,
        understands: Iterable[str],
        clock: SteadyClock,
        session_token: str | Callable[[], str] | None = None,
    ) -> None:
        """Raises ValueError for settings that make no sense together."""
        if not target:
            raise ValueError("target: where is the PDP? for example localhost:7433")
        if (identity is None) == (credentials is None):
            raise ValueError("give exactly one of identity and credentials: the PDP must know who calls")
        if isinstance(understands, str):
            raise ValueError("understands must be a list of obligations, not one string")
        self._timeout = _seconds(timeout)
        self._session_token = _default_session_token() if session_token is None else session_token
        # The caller's tenant; empty if only its credential knows.
        self.tenant = identity.tenant if identity is not None else ""
        self.connection = Connection(
            target=target,
            metadata=identity.metadata
            if credentials is None and identity is not None
            else _metadata(credentials),
            credentials=credentials.channel_credentials() if credentials is not None else None,
        )
        self.attempts = Attempts(clock)
        # Keys at an address are fetched while an answer is read.
        self._reading_waits = isinstance(jwks, str)
        self.checks = AnswerChecks(
            clock=clock,
            verifier=_verifier(jwks, verifier),
            understood=frozenset(understands) | ALWAYS_UNDERSTOOD,
            tenant=self.tenant,
        )

    def session_token(self, session: Session | str) -> str:
        """Return the token that proves part in a session: its own, or else the client's; empty without one.

        Raises `InvalidRequestError` if a file that should have it cannot be read.
        """
        own = session_token_of(session)
        if own:
            return own
        if isinstance(self._session_token, str):
            return self._session_token
        try:
            return text(self._session_token(), "session_token")
        except (OSError, UnicodeError) as exc:
            raise invalid("session_token", f"cannot be read: {type(exc).__name__}") from exc

    def prove(self, call: Call[R]) -> Call[R]:
        """Return the call with the client's session token, if it takes one and has none.

        Raises as `session_token`.
        """
        request: Any = call.request
        if "session_token" in request.DESCRIPTOR.fields_by_name and not request.session_token:
            request.session_token = self.session_token("")
        return call

    def deadline(self, timeout: float | None) -> float:
        """Return how many seconds a call may take; `timeout` None: as many as the client was told.

        Raises `DeadlineError` when no time is left, `InvalidRequestError` for no number.
        """
        if timeout is None:
            return self._timeout
        try:
            return _seconds(timeout)
        except ValueError as exc:
            if isinstance(timeout, int | float) and timeout <= 0:
                raise DeadlineError("no time is left to ask in") from exc
            raise invalid("timeout", str(exc)) from exc

    async def read(self, call: Call[R], data: bytes, within: float) -> R:
        """Read an answer without holding up the event loop, in so many seconds.

        Raises `AnswerError`, or `DeadlineError` when keys to check it with are too long in coming.
        """
        if not self._reading_waits:
            return call.read(data)
        try:
            async with asyncio.timeout(within):
                return await asyncio.to_thread(call.read, data)
        except TimeoutError as exc:
            raise DeadlineError("no keys in time to check the answer with") from exc


def _default_session_token() -> str | Callable[[], str]:
    """Return the token of PLACET_SESSION_TOKEN, or else what reads it from PLACET_SESSION_TOKEN_FILE."""
    file = os.environ.get("PLACET_SESSION_TOKEN_FILE", "")
    if os.environ.get("PLACET_SESSION_TOKEN") or not file:
        return os.environ.get("PLACET_SESSION_TOKEN", "")
    return token_from(file)


def _seconds(timeout: Any) -> float:
    if isinstance(timeout, bool) or not isinstance(timeout, int | float):
        raise ValueError("timeout must be a number of seconds: a call without a deadline may hang for ever")
    if not math.isfinite(timeout) or not 0 < timeout <= MAX_TIMEOUT:
        raise ValueError(f"timeout must be more than 0 and at most {MAX_TIMEOUT:.0f} seconds")
    return float(timeout)


def _metadata(credentials: Credentials | None) -> Callable[[], Metadata]:
    assert credentials is not None
    return credentials.metadata


def _verifier(jwks: Mapping[str, Any] | str | None, verifier: Verifier | None) -> Verifier | None:
    if jwks is None:
        return verifier
    if verifier is not None:
        raise ValueError("give jwks or verifier, not both")
    try:
        from placet.verify import RefreshingVerifier, fetch_jwks
        from placet.verify import Verifier as JwksVerifier
    except ImportError as exc:
        raise ValueError("checking signatures needs the extra: pip install 'placet[verify]'") from exc
    if isinstance(jwks, str):
        return RefreshingVerifier(partial(fetch_jwks, jwks))
    return JwksVerifier(jwks)
