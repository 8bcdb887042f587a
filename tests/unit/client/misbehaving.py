"""gRPC servers that answer with given bytes, whatever they are asked."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc

from placet import Client, DevIdentity

IDENTITY = DevIdentity(tenant="test", subject="test", roles=["agent"], agents=["agent:test"])
Handler = Callable[[bytes, Any], bytes]


class _Raw(grpc.GenericRpcHandler):  # type: ignore[misc]  # grpc ships no type for its base
    def __init__(self, handler: Handler) -> None:
        self._handler = handler

    def service(self, details: Any) -> Any:
        return grpc.unary_unary_rpc_method_handler(self._handler)


@contextmanager
def serving(handler: Handler) -> Iterator[str]:
    """Yield the target of a server whose every method is `handler`."""
    server = grpc.server(
        ThreadPoolExecutor(4),
        handlers=[_Raw(handler)],
        options=[("grpc.max_send_message_length", -1)],
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(grace=None).wait()


@contextmanager
def answering(data: bytes) -> Iterator[Client]:
    """A client of a server that answers everything with `data`."""
    with (
        serving(lambda request, context: data) as target,
        Client(target, identity=IDENTITY, timeout=30) as pdp,
    ):
        yield pdp
