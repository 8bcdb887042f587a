"""`CapabilityMiddleware`: a gate before an ASGI application (asgi.readthedocs.io, HTTP 2.5).

    app = CapabilityMiddleware(app, gate=gate, tools={"/payments": "payments.create"})

A request passes if it has exactly one header `Placet-Receipt`, whose receipt permits the path's tool with
the request's body as its arguments. Secrets that the receipt names are compared by the salt in the header
`Placet-Secret-Salt`, which is not passed on; without it the receipt is redeemed. The body is read whole
first, and passed on as it was. Any other request is answered 403 with `application/problem+json` (RFC 9457),
whose member `reason` is one of `placet.capability.REASONS`; 413 for a body that is too large; 503 when the
PDP cannot be asked.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

from placet.canonical import MAX_BYTES
from placet.capability.check import HEADER, REASONS, SALT_HEADER, CapabilityError, read_salt
from placet.capability.gate import Gate

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]
# Takes a request's scope and body; returns the tool that it asks for, and the arguments. Raises
# `CapabilityError`.
Resolver = Callable[[Mapping[str, Any], bytes], tuple[str, Mapping[str, Any] | bytes]]

# The key in its scope under which the application finds the `Capability`.
SCOPE_KEY = "placet.capability"
_LOG = logging.getLogger("placet.capability")
_STATUS = {"capability.too_large": 413, "capability.unavailable": 503}


class CapabilityMiddleware:
    """Lets in the requests that receipts permit. Lifespan events pass; WebSockets are refused."""

    def __init__(
        self,
        app: Application,
        *,
        gate: Gate,
        tools: Mapping[str, str] | None = None,
        resolve: Resolver | None = None,
        max_body: int = MAX_BYTES,
    ) -> None:
        """`tools` names the tool of each path: a POST to exactly this path, with the arguments as its
        JSON body. Another path or method, a query string or another content type is refused.
        `resolve` reads requests of another shape; whatever the application acts on beside what that
        returns is covered by no receipt. Raises ValueError unless exactly one of the two is given.
        `max_body` is in bytes."""
        if tools and resolve is None:
            resolve = _resolve_by_path(dict(tools))
        elif tools or resolve is None:
            raise ValueError("give exactly one of tools and resolve")
        self._app = app
        self._gate = gate
        self._resolve = resolve
        self._max_body = max_body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            # A WebSocket that is closed before it was accepted is refused.
            await send({"type": "websocket.close", "code": 1008})
            return
        try:
            body = await self._read_body(receive)
            if body is None:
                return
            receipt = _read_receipt(scope)
            salt = _read_salt(scope)
            tool, arguments = self._resolve(scope, body)
            capability = await self._gate.admit_async(
                receipt, tool=tool, arguments=arguments, secret_salt=salt
            )
        except CapabilityError as exc:
            _LOG.info("refused: %s", exc)
            await _refuse(send, exc.reason)
            return
        passed = {**scope, "headers": _without_salt(scope), SCOPE_KEY: capability}
        await self._app(passed, _replay_body(body, receive), send)

    async def _read_body(self, receive: Receive) -> bytes | None:
        """Return the whole body; None when the client has gone."""
        parts: list[bytes] = []
        size, more = 0, True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            part = message.get("body", b"")
            size += len(part)
            if size > self._max_body:
                raise CapabilityError("capability.too_large")
            parts.append(part)
            more = message.get("more_body", False)
        return b"".join(parts)


def _resolve_by_path(tools: Mapping[str, str]) -> Resolver:
    def resolve(scope: Mapping[str, Any], body: bytes) -> tuple[str, bytes]:
        tool = tools.get(scope["path"])
        if tool is None or scope["method"] != "POST":
            raise CapabilityError("capability.request", "path or method")
        if scope.get("query_string"):
            raise CapabilityError("capability.request", "a query string")
        kinds = _headers(scope, b"content-type")
        if len(kinds) > 1 or not _is_json(b"".join(kinds).decode("latin-1")):
            raise CapabilityError("capability.request", "content-type")
        if any(value.strip().lower() != b"identity" for value in _headers(scope, b"content-encoding")):
            raise CapabilityError("capability.request", "content-encoding")
        return tool, body

    return resolve


def _is_json(content_type: str) -> bool:
    """Whether the content type leaves no reading but JSON in UTF-8."""
    kind, *parameters = (part.strip().lower() for part in content_type.split(";"))
    return kind == "application/json" and all(
        parameter.replace('"', "") == "charset=utf-8" for parameter in parameters
    )


def _read_receipt(scope: Mapping[str, Any]) -> bytes:
    found = _headers(scope, HEADER.lower().encode("ascii"))
    if len(found) != 1:
        raise CapabilityError("capability.missing", f"{len(found)} headers")
    return found[0]


def _read_salt(scope: Mapping[str, Any]) -> bytes:
    """Return the salt of the receipt's secrets; empty without one."""
    found = _headers(scope, SALT_HEADER.lower().encode("ascii"))
    if len(found) > 1:
        raise CapabilityError("capability.request", f"{len(found)} headers {SALT_HEADER}")
    return read_salt(found[0]) if found else b""


def _without_salt(scope: Mapping[str, Any]) -> list[tuple[bytes, bytes]]:
    """Return the headers for the application, which may log them: the salt is not among them."""
    return [(name, value) for name, value in scope["headers"] if name.lower() != SALT_HEADER.lower().encode()]


def _headers(scope: Mapping[str, Any], name: bytes) -> list[bytes]:
    return [value for key, value in scope["headers"] if key.lower() == name]


def _replay_body(body: bytes, receive: Receive) -> Receive:
    """Return a `receive` that gives the body once more, and then whatever comes."""
    sent = False

    async def again() -> Message:
        nonlocal sent
        if sent:
            return await receive()
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


async def _refuse(send: Send, reason: str) -> None:
    status = _STATUS.get(reason, 403)
    problem = {"type": "about:blank", "title": REASONS[reason], "status": status, "reason": reason}
    body = json.dumps(problem).encode()
    await send(
        {
            "type": "http.response.start",
            "status": status,
            "headers": [
                (b"content-type", b"application/problem+json"),
                (b"content-length", str(len(body)).encode("ascii")),
                (b"cache-control", b"no-store"),
            ],
        }
    )
    await send({"type": "http.response.body", "body": body})
