"""Channels: made when first used, one per process, with what every call has in common."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from placet._transport.forks import FORKS  # before gRPC, whose support of forks it turns on

# isort: split
import grpc
import grpc.aio
from google.protobuf.message import Message

from placet._addresses import is_own_target
from placet._transport.failures import placet_error
from placet._transport.methods import RETRIED, method_of
from placet._transport.patience import OverloadNotice
from placet.errors import DeadlineError, PlacetError, UnavailableError, invalid

# Further calls wait here, within their deadlines. A server resets what a connection opens beyond its
# `calls_per_connection`, twice this by default: to it a call is over somewhat later than to us.
CALLS_AT_ONCE = 32
# How many seconds closing may take, or wait for a fork.
_CLOSING = 5.0
MAX_ANSWER_BYTES = 2 * 1024 * 1024
MAX_REQUEST_BYTES = 4 * 1024 * 1024


def _config_name(request: type[Message]) -> dict[str, str]:
    _, service, method = method_of(request).split("/")
    return {"service": service, "method": method}


SERVICE_CONFIG = json.dumps(
    {
        "loadBalancingConfig": [{"round_robin": {}}],
        "retryThrottling": {"maxTokens": 10, "tokenRatio": 0.1},
        "methodConfig": [
            {
                "name": [_config_name(request) for request in RETRIED],
                "retryPolicy": {
                    "maxAttempts": 3,
                    "initialBackoff": "0.05s",
                    "maxBackoff": "0.5s",
                    "backoffMultiplier": 2,
                    # DEADLINE_EXCEEDED is never among them: there is no time left to use an answer.
                    "retryableStatusCodes": ["UNAVAILABLE"],
                },
            }
        ],
    }
)
OPTIONS: tuple[tuple[str, Any], ...] = (
    ("grpc.service_config", SERVICE_CONFIG),
    # What a name service says about retries must not replace the above.
    ("grpc.service_config_disable_resolution", 1),
    ("grpc.enable_retries", 1),
    ("grpc.max_send_message_length", MAX_REQUEST_BYTES),
    ("grpc.max_receive_message_length", MAX_ANSWER_BYTES),
    # Servers accept a ping in five minutes at most. A dead peer is noticed sooner: what it
    # does not acknowledge within the timeout closes the connection (TCP_USER_TIMEOUT).
    ("grpc.keepalive_time_ms", 300_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    # A server that comes back is found within a second or two, not two minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    ("grpc.primary_user_agent", "placet-python/0.1.0"),
)

Metadata = tuple[tuple[str, str], ...]


class Credentials(Protocol):
    """How a channel proves who calls and whom it calls."""

    def channel_credentials(self) -> grpc.ChannelCredentials: ...

    def metadata(self) -> Metadata:
        """Return the metadata of a call; it is asked for anew for each."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Connection:
    """Where and as whom to call; without `credentials` there is no TLS."""

    target: str
    metadata: Callable[[], Metadata]
    credentials: grpc.ChannelCredentials | None = None

    def open(self, module: Any) -> Any:
        """Return a new channel of `grpc` or `grpc.aio`. It goes through no proxy to this machine itself."""
        options = (*OPTIONS, ("grpc.enable_http_proxy", 0)) if is_own_target(self.target) else OPTIONS
        if self.credentials is None:
            return module.insecure_channel(self.target, options=options)
        return module.secure_channel(self.target, self.credentials, options=options)

    def failure(self, error: Any) -> PlacetError:
        """Return the error for a call (a `grpc.RpcError` of either API) that failed on such a channel."""
        return placet_error(error, tls=self.credentials is not None)


@dataclass(slots=True)
class _Opened:
    """The channels of one process, by event loop; a client without a loop has its channel under None.

    The lock is the process's own: one that was held during a fork would be held for ever.
    """

    lock: threading.Lock = field(default_factory=threading.Lock)
    channels: dict[asyncio.AbstractEventLoop | None, Any] = field(default_factory=dict)
    # For each channel, how many more calls may be under way: an `asyncio.Semaphore` where it has a loop.
    places: dict[asyncio.AbstractEventLoop | None, Any] = field(default_factory=dict)


class _Link:
    """What both links share: which channel belongs to this process."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        # What the calls of this link know of an overloaded server.
        self.overload = OverloadNotice()
        self._opened: dict[int, _Opened] = {}
        self._closed = False

    def _channel(self, module: Any, loop: asyncio.AbstractEventLoop | None) -> tuple[Any, Any]:
        """Return this process's channel and its free places.

        Raises `UnavailableError` if gRPC cannot be used here.
        """
        if self._closed:
            raise UnavailableError("the client is closed")
        FORKS.check(on_loop=loop is not None)
        opened = self._opened.setdefault(FORKS.generation, _Opened())
        with opened.lock:
            if loop not in opened.channels:
                # A channel works on the loop that it was made on; those of closed loops are done.
                for gone in [each for each in opened.channels if each is not None and each.is_closed()]:
                    del opened.channels[gone], opened.places[gone]
                opened.channels[loop] = self._connection.open(module)
                opened.places[loop] = (
                    threading.Semaphore(CALLS_AT_ONCE) if loop is None else asyncio.Semaphore(CALLS_AT_ONCE)
                )
            return opened.channels[loop], opened.places[loop]

    def _take_channels(self) -> dict[asyncio.AbstractEventLoop | None, Any]:
        """Mark as closed; return the channels that this process has to close."""
        self._closed = True
        opened = self._opened.pop(FORKS.generation, None)
        return {} if opened is None or FORKS.stranded else opened.channels


class SyncLink(_Link):
    """Sends calls and waits for their answers; safe to share between threads."""

    def send(self, method: str, request: bytes, timeout: float, *, admitted: bool = False) -> bytes:
        """Return the answer's bytes. Raises a `PlacetError`.

        `admitted`: an overloaded server turns such calls away, so it heeds what others heard.
        """
        _check_size(request)
        channel, places = self._channel(grpc, None)
        began = time.monotonic()
        if not places.acquire(timeout=timeout):
            raise _no_place()
        try:
            left = timeout - (time.monotonic() - began)
            if admitted:
                self.overload.check(left)
            metadata = self._connection.metadata()
            FORKS.enter(left)
            try:
                left = timeout - (time.monotonic() - began)
                answer: bytes = channel.unary_unary(method)(request, timeout=left, metadata=metadata)
            finally:
                FORKS.leave()
        except grpc.RpcError as exc:
            error = self._connection.failure(exc)
            if admitted:
                self.overload.note(error, left)
            raise error from exc
        except ValueError as exc:  # what gRPC raises for a channel that was closed meanwhile
            raise UnavailableError("the client is closed") from exc
        finally:
            places.release()
        return answer

    def close(self) -> None:
        FORKS.enter(_CLOSING)
        try:
            for channel in self._take_channels().values():
                channel.close()
        finally:
            FORKS.leave()


class AsyncLink(_Link):
    """Sends calls without blocking the event loop; one channel per loop."""

    async def send(
        self,
        method: str,
        request: bytes,
        timeout: float,
        *,
        admitted: bool = False,
    ) -> bytes:
        """See `SyncLink.send`."""
        _check_size(request)
        channel, places = self._channel(grpc.aio, asyncio.get_running_loop())
        began = time.monotonic()
        try:
            async with asyncio.timeout(timeout if places.locked() else None):
                await places.acquire()
        except TimeoutError as exc:
            raise _no_place() from exc
        try:
            left = timeout - (time.monotonic() - began)
            if admitted:
                self.overload.check(left)
            metadata = self._connection.metadata()
            await FORKS.enter_on_loop(left)
            try:
                left = timeout - (time.monotonic() - began)
                call: Awaitable[bytes] = channel.unary_unary(method)(request, timeout=left, metadata=metadata)
                return await call
            finally:
                FORKS.leave()
        except grpc.RpcError as exc:
            error = self._connection.failure(exc)
            if admitted:
                self.overload.note(error, left)
            raise error from exc
        except grpc.aio.UsageError as exc:
            raise UnavailableError("the client is closed") from exc
        finally:
            places.release()

    def failure(self, error: Any) -> PlacetError:
        """Return the error for a stream (`stream`) that failed with a `grpc.RpcError`."""
        return self._connection.failure(error)

    def stream(self, method: str) -> Any:
        """Open a stream of bytes in both directions, as whom the credentials say now.

        Raises a `PlacetError`.
        """
        channel, _ = self._channel(grpc.aio, asyncio.get_running_loop())
        try:
            call = channel.stream_stream(method)(metadata=self._connection.metadata())
            FORKS.enter_stream(call)
            return call
        except grpc.aio.UsageError as exc:
            raise UnavailableError("the client is closed") from exc

    async def close(self) -> None:
        """Close this loop's channel; those of other loops end with their last call."""
        channel = self._take_channels().get(asyncio.get_running_loop())
        if channel is not None:
            await FORKS.enter_on_loop(_CLOSING)
            try:
                await channel.close()
            finally:
                FORKS.leave()


def _no_place() -> DeadlineError:
    return DeadlineError(f"not sent in time: {CALLS_AT_ONCE} calls of this client are under way")


def _check_size(request: bytes) -> None:
    if len(request) > MAX_REQUEST_BYTES:
        raise invalid("request", f"is {len(request)} bytes long; at most {MAX_REQUEST_BYTES} are sent")
