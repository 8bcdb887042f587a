"""A proxy before PostgreSQL that can cut, stall and refuse."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

from psycopg.conninfo import conninfo_to_dict, make_conninfo

COMMIT = b"COMMIT\0"


class Proxy:
    """Forwards between clients on a Unix socket and the server of `conninfo`."""

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
        while chunk := await reader.read(65536):
            await self._flowing.wait()
            if COMMIT in chunk and self.cut_before_commit:
                self.cut_before_commit = False
                self._cut()
                return
            if COMMIT in chunk and self.cut_after_commit:
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
