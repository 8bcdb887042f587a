"""An OPA double on a unix socket, which answers policy queries as a test tells it to."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.opa import short_directory

PROVENANCE = {"bundles": {"placet": {"revision": "r-1"}}}
ALLOWED = {
    "effect": "allow",
    "reasons": [{"code": "task.within_boundary", "effect": "allow", "message": "Within."}],
    "obligations": [],
}


@dataclass(kw_only=True, slots=True)
class Query:
    """One request. `batch` says whether it came to the entrypoint for many; `documents` are by id, which
    is empty for one that came alone."""

    batch: bool
    documents: dict[str, Any]


# Returns the bytes to send, or None to close without an answer.
Script = Callable[[Query], Awaitable[bytes | None]]


def http(body: bytes, status: str = "200 OK") -> bytes:
    return b"HTTP/1.1 %b\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (
        status.encode(),
        len(body),
        body,
    )


def answer(result: Any, **top: Any) -> bytes:
    return http(json.dumps({"result": result, "provenance": PROVENANCE} | top).encode())


def allow_all(query: Query) -> bytes:
    return answer(dict.fromkeys(query.documents, ALLOWED) if query.batch else ALLOWED)


@dataclass(slots=True)
class FakeOpa:
    """Answers by `script`. `queries` are those that came in; `connections` counts connections."""

    socket_path: Path
    script: Script
    queries: list[Query] = field(default_factory=list)
    connections: int = 0
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.add(writer)
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = next(
                    int(line.split(b":")[1])
                    for line in head.split(b"\r\n")
                    if line.lower().startswith(b"content-length:")
                )
                body = json.loads(await reader.readexactly(length))["input"]
                batch = b"/decision/batch" in head.split(b"\r\n", 1)[0]
                query = Query(batch=batch, documents=body["items"] if batch else {"": body})
                self.queries.append(query)
                said = await self.script(query)
                if said is None:
                    return
                writer.write(said)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            self._writers.discard(writer)
            writer.close()

    def close_connections(self) -> None:
        for writer in tuple(self._writers):
            writer.close()


@asynccontextmanager
async def fake_opa(script: Script) -> AsyncIterator[FakeOpa]:
    with short_directory() as directory:
        running = FakeOpa(directory / "opa.sock", script)
        server = await asyncio.start_unix_server(running.serve, running.socket_path)
        try:
            yield running
        finally:
            server.close()
            running.close_connections()
            await server.wait_closed()
