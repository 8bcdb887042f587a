"""HTTP/1.1 to OPA over a unix socket: a small pool of keep-alive connections.

A general HTTP client costs several times more CPU a call than the call's work is worth. One
request is under way on a connection at a time, and a connection that did anything odd, or whose
answer was not awaited to its end, is closed: no answer can ever reach another request.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import cast

import httptools

from pdp.errors import PolicyUnavailableError


class _StaleConnectionError(Exception):
    """A kept connection was closed before it carried any of the answer."""


class OpaTransport:
    """Posts to OPA. Connections are opened when they are needed, kept, and replaced when they are lost."""

    def __init__(self, socket_path: str, *, token: str, max_answer_bytes: int, max_idle: int) -> None:
        self._socket_path = socket_path
        self._authorization = f"Authorization: Bearer {token}\r\n" if token else ""
        self._max_answer_bytes = max_answer_bytes
        self._max_idle = max_idle
        self._idle: list[_Connection] = []
        self._open: set[_Connection] = set()

    def head(self, target: str) -> bytes:
        """Return the start of a request to `target`, up to the value of its content length."""
        return (
            f"POST {target} HTTP/1.1\r\nHost: opa\r\n{self._authorization}"
            "Content-Type: application/json\r\nContent-Length: "
        ).encode("ascii")

    async def post(self, head: bytes, body: bytes, *, deadline: float) -> bytes:
        """Return the body of the answer, whose status was 200.

        `deadline` is an instant of `time.monotonic()`. Raises `PolicyUnavailableError`: timeout,
        connection, status, malformed. A kept connection that OPA had closed meanwhile is replaced
        once: asking policy changes nothing, so the request may go again.
        """
        request = b"%b%d\r\n\r\n%b" % (head, len(body), body)
        kept = self._idle.pop() if self._idle else None
        if kept is not None:
            try:
                return await self._exchange(kept, request, deadline)
            except _StaleConnectionError:
                pass
        fresh = await self._connect(deadline)
        try:
            return await self._exchange(fresh, request, deadline)
        except _StaleConnectionError as exc:
            raise PolicyUnavailableError("connection", "closed without an answer") from exc

    def close(self) -> None:
        """Close every connection; requests under way fail."""
        for connection in tuple(self._open):
            connection.abort()
        self._idle.clear()

    async def _connect(self, deadline: float) -> _Connection:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(max(deadline - time.monotonic(), 0)):
                _, connection = await loop.create_unix_connection(
                    lambda: _Connection(self._max_answer_bytes, self._lost), self._socket_path
                )
        except TimeoutError as exc:
            raise PolicyUnavailableError("timeout", "connecting") from exc
        except OSError as exc:
            raise PolicyUnavailableError("connection", str(exc)) from exc
        self._open.add(connection)
        return connection

    async def _exchange(self, connection: _Connection, request: bytes, deadline: float) -> bytes:
        try:
            status, body = await connection.exchange(request, deadline)
        except BaseException:
            # The request was cancelled, late or broken: whatever still comes belongs to nobody.
            connection.abort()
            raise
        if connection.reusable and len(self._idle) < self._max_idle:
            self._idle.append(connection)
        else:
            connection.abort()
        if status != 200:
            raise PolicyUnavailableError("status", str(status))
        return body

    def _lost(self, connection: _Connection) -> None:
        self._open.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)


class _Connection(asyncio.Protocol):
    """One connection, with at most one request under way."""

    def __init__(self, max_answer_bytes: int, on_lost: Callable[[_Connection], None]) -> None:
        self._max_answer_bytes = max_answer_bytes
        self._on_lost = on_lost
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._waiter: asyncio.Future[tuple[int, bytes]] | None = None
        self._body: list[bytes] = []
        self._size = 0
        self._began = False
        self._complete = False
        self._alive = False

    @property
    def reusable(self) -> bool:
        return self._alive and self._transport is not None and not self._transport.is_closing()

    async def exchange(self, request: bytes, deadline: float) -> tuple[int, bytes]:
        """Send a request and return the answer's status and body."""
        if self._transport is None or self._transport.is_closing():
            raise _StaleConnectionError
        loop = asyncio.get_running_loop()
        self._waiter = loop.create_future()
        self._body.clear()
        self._size = 0
        self._began = self._complete = self._alive = False
        self._transport.write(request)
        timer = loop.call_later(max(deadline - time.monotonic(), 0), self._fail, "timeout", "waiting for OPA")
        try:
            return await self._waiter
        finally:
            timer.cancel()
            self._waiter = None

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    # --- asyncio.Protocol ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclass of asyncio's.
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if self._waiter is None or self._waiter.done():
            # More came than was asked for: the stream can no longer be trusted.
            self.abort()
            return
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as exc:
            self._fail("malformed", f"not HTTP: {exc}")
            return
        # The answer is given only after all that came has been read: a second answer spoils the first.
        if self._complete and not self._waiter.done():
            self._waiter.set_result((self._parser.get_status_code(), b"".join(self._body)))

    def connection_lost(self, exc: Exception | None) -> None:
        if self._waiter is not None and not self._waiter.done():
            if self._began:
                self._fail("connection", "closed within an answer")
            else:
                self._waiter.set_exception(_StaleConnectionError())
        self._on_lost(self)

    # --- httptools.HttpResponseParser ---

    def on_message_begin(self) -> None:
        if self._complete:
            self._fail("malformed", "a second answer")
        self._began = True

    def on_body(self, body: bytes) -> None:
        self._size += len(body)
        if self._size > self._max_answer_bytes:
            self._fail("malformed", f"an answer of more than {self._max_answer_bytes} bytes")
        else:
            self._body.append(body)

    def on_message_complete(self) -> None:
        self._complete = True
        self._alive = self._parser.should_keep_alive()

    def _fail(self, cause: str, detail: str) -> None:
        self._alive = False
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(PolicyUnavailableError(cause, detail))
        self.abort()
