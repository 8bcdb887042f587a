"""Operations over HTTP: /healthz, /readyz, /metrics and the public keys."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import NamedTuple

import structlog
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from pdp.config.server import ConfigError, split_address
from pdp.errors import PdpError
from pdp.metrics import CONTENT_TYPE, Metrics
from pdp.ports import KeyDirectory

_LOG = structlog.get_logger("pdp.server")
# Returns None when ready, else what is missing; raises PdpError for what it cannot find out.
Check = Callable[[], Awaitable[str | None]]


def http_application(*, metrics: Metrics, keys: KeyDirectory, checks: Mapping[str, Check]) -> Starlette:
    """`checks` are asked, all of them at once, by every call of /readyz.

    The log says what is missing whenever that changes.
    """
    reported: dict[str, str] = {}

    async def healthz(request: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def readyz(request: Request) -> Response:
        nonlocal reported
        answers = dict(zip(checks, await asyncio.gather(*map(_state, checks.values())), strict=True))
        states = {name: answer.public for name, answer in answers.items()}
        missing = {name: answer.detail for name, answer in answers.items() if answer != _WELL}
        ready = not missing
        if missing != reported:
            reported = missing
            if ready:
                _LOG.info("ready")
            else:
                _LOG.warning("not_ready", checks=missing)
        return JSONResponse({"ready": ready, "checks": states}, status_code=200 if ready else 503)

    async def metrics_page(request: Request) -> Response:
        return Response(metrics.render(), media_type=None, headers={"content-type": CONTENT_TYPE})

    async def jwks(request: Request) -> Response:
        try:
            published = [dict(key) for key in await keys.jwks()]
        except PdpError:
            return JSONResponse({"error": "the key directory does not answer"}, status_code=503)
        return JSONResponse(
            {"keys": published},
            media_type="application/jwk-set+json",
            headers={"cache-control": "public, max-age=60"},
        )

    return Starlette(
        routes=[
            Route("/healthz", healthz),
            Route("/readyz", readyz),
            Route("/metrics", metrics_page),
            Route("/.well-known/jwks.json", jwks),
        ]
    )


class _State(NamedTuple):
    """What a check found: in words for whoever asks, and for the log."""

    public: str
    detail: str


_WELL = _State("ok", "ok")


async def _state(check: Check) -> _State:
    try:
        missing = await check()
    except PdpError as exc:
        kind = type(exc).__name__
        return _State(f"{kind}: {exc.public}", f"{kind}: {exc}")
    return _State(missing, missing) if missing else _WELL


class HttpServer(uvicorn.Server):
    """uvicorn inside somebody else's event loop: signals stay with the process's own handler."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def http_server(
    application: Starlette, *, host: str, port: int, tls: ssl.SSLContext | None = None
) -> HttpServer:
    """Return the server of the application, which speaks HTTPS alone with `tls`."""
    config = uvicorn.Config(
        application, host=host, port=port, log_config=None, access_log=False, lifespan="off"
    )
    # uvicorn makes contexts of files; ours follows files that change.
    config.load()
    config.ssl = tls
    return HttpServer(config)


def listen(address: str) -> socket.socket:
    """Return a socket that listens on the address. Raises `ConfigError`."""
    host, port = split_address(address)
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as exc:
        raise ConfigError(f"http_address: cannot listen on {address}: {exc.strerror}") from exc
