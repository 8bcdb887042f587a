"""Proxies before PostgreSQL and OPA that can cut, stall, delay and refuse."""

from __future__ import annotations

import asyncio
import contextlib
import re
import shutil
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

from psycopg.conninfo import conninfo_to_dict, make_conninfo

from tests.support.opa import short_directory

COMMIT = b"COMMIT\0"
# A COMMIT that psycopg prepares: nothing is committed yet, and from then on it is sent by this name alone
# (protocol: Parse, Bind).
_PREPARED = re.compile(rb"(_pg3_\d+)\0COMMIT\0")
# The COMMIT of a transaction that is no pipeline (protocol: Query): the ledger has none.
_SIMPLE = b"Q\0\0\0\x0bCOMMIT\0"


class Proxy:
    """Forwards between clients on a Unix socket and the server of `conninfo`.

    The COMMITs that it knows are the ledger's.
    """

    def __init__(self, conninfo: str) -> None:
        self._upstream = conninfo_to_dict(conninfo)
        self._directory = Path(tempfile.mkdtemp(prefix="placet-proxy-"))
        self.conninfo = make_conninfo(conninfo, host=str(self._directory), port=5432)
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        # Once: the next COMMIT is not passed on, and its connection is cut.
        self.cut_before_commit = False
        # Once: the next COMMIT is passed on; its answer is not, and its connection is cut.
        self.cut_after_commit = False
        # Set when the server has answered that COMMIT.
        self.was_cut = asyncio.Event()
        # Once, and before any cut: the next COMMIT is passed on when `release` is set.
        self.hold_commit = False
        self.release = asyncio.Event()
        # Seconds that every answer takes longer.
        self.delay = 0.0
        self.refusing = False
        # Refuse from the moment of a cut on.
        self.refuse_after_cut = False

    async def start(self) -> None:
        self._server = await asyncio.start_unix_server(self._accept, self._directory / ".s.PGSQL.5432")

    async def stop(self) -> None:
        self._server.close()
        self._flowing.set()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for writer in list(self._writers):
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
        shutil.rmtree(self._directory)

    def stall(self) -> None:
        """Pass nothing on, as a server that hangs."""
        self._flowing.clear()

    def resume(self) -> None:
        self._flowing.set()

    def _cut(self) -> None:
        self.refusing = self.refusing or self.refuse_after_cut
        self.was_cut.set()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        if self.refusing:
            writer.close()
            return
        host, port = str(self._upstream.get("host") or "127.0.0.1"), int(self._upstream.get("port") or 5432)
        if host.startswith("/"):
            up_reader, up_writer = await asyncio.open_unix_connection(f"{host}/.s.PGSQL.{port}")
        else:
            up_reader, up_writer = await asyncio.open_connection(host, port)
        self._writers.add(up_writer)
        swallow = asyncio.Event()
        forward = asyncio.create_task(self._forward(reader, up_writer, swallow))
        back = asyncio.create_task(self._back(up_reader, writer, swallow))
        try:
            await asyncio.wait({forward, back}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            forward.cancel()
            back.cancel()
            await asyncio.gather(forward, back, return_exceptions=True)
            for end in (writer, up_writer):
                end.close()

    async def _forward(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, swallow: asyncio.Event
    ) -> None:
        names: set[bytes] = set()
        while chunk := await reader.read(65536):
            await self._flowing.wait()
            names.update(_PREPARED.findall(chunk))
            sent = _PREPARED.sub(b"", chunk).replace(_SIMPLE, b"")
            commits = COMMIT in sent or any(b"\0%b\0" % name in sent for name in names)
            if commits and self.hold_commit:
                self.hold_commit = False
                await self.release.wait()
            elif commits and self.cut_before_commit:
                self.cut_before_commit = False
                self._cut()
                return
            elif commits and self.cut_after_commit:
                self.cut_after_commit = False
                swallow.set()
            writer.write(chunk)
            await writer.drain()

    async def _back(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, swallow: asyncio.Event
    ) -> None:
        while chunk := await reader.read(65536):
            await self._flowing.wait()
            if swallow.is_set():
                # CommandComplete of the COMMIT (protocol: Message Formats).
                if COMMIT in chunk:
                    self._cut()
                    return
                continue
            await asyncio.sleep(self.delay)
            writer.write(chunk)
            await writer.drain()


@contextlib.asynccontextmanager
async def proxied(conninfo: str) -> AsyncIterator[Proxy]:
    proxy = Proxy(conninfo)
    await proxy.start()
    try:
        yield proxy
    finally:
        await proxy.stop()


class OpaProxy:
    """Forwards between clients on a Unix socket and OPA's."""

    def __init__(self, upstream: str, socket_path: Path) -> None:
        self._upstream = upstream
        self.socket_path = socket_path
        # Seconds that every answer takes longer.
        self.delay = 0.0
        # Requests in which this stands are passed on when `release` is set.
        self.held: bytes | None = None
        self.release = asyncio.Event()
        # Set when there is such a request.
        self.holding = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        up_reader, up_writer = await asyncio.open_unix_connection(self._upstream)
        forward = asyncio.create_task(self._forward(reader, up_writer))
        back = asyncio.create_task(self._back(up_reader, writer))
        try:
            await asyncio.wait({forward, back}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            forward.cancel()
            back.cancel()
            await asyncio.gather(forward, back, return_exceptions=True)
            writer.close()
            up_writer.close()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        before = b""
        while chunk := await reader.read(65536):
            if self.held is not None and self.held in before + chunk:
                self.holding.set()
                await self.release.wait()
            before = chunk[-256:]
            writer.write(chunk)
            await writer.drain()

    async def _back(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while chunk := await reader.read(65536):
            await asyncio.sleep(self.delay)
            writer.write(chunk)
            await writer.drain()


@contextlib.asynccontextmanager
async def proxied_opa(upstream: str) -> AsyncIterator[OpaProxy]:
    with short_directory() as directory:
        proxy = OpaProxy(upstream, directory / "opa.sock")
        server = await asyncio.start_unix_server(proxy.serve, proxy.socket_path)
        try:
            yield proxy
        finally:
            server.close()
            proxy.release.set()
