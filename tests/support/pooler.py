"""A pooler before PostgreSQL, as PgBouncer is one; in transaction mode it lends sessions by transaction."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import struct
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

from psycopg.conninfo import conninfo_to_dict, make_conninfo

# The code of a request to speak TLS or GSSAPI in place of a start-up message (protocol: Message Formats).
_ENCRYPTION_REQUESTS = (80877103, 80877104)


class _Session(NamedTuple):
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter


class Pooler:
    """Each client opens one session of the server's at its login.

    In transaction mode all sessions are then everybody's; else each client keeps its own.
    """

    def __init__(self, conninfo: str, *, transaction_mode: bool, ignores_options: bool) -> None:
        self._transaction_mode = transaction_mode
        self._ignores_options = ignores_options
        self._upstream = conninfo_to_dict(conninfo)
        self._directory = Path(tempfile.mkdtemp(prefix="placet-pooler-"))
        self.conninfo = make_conninfo(conninfo, host=str(self._directory), port=5432)
        # The session that came back last goes out first.
        self._idle: asyncio.LifoQueue[_Session] = asyncio.LifoQueue()
        self._writers: list[asyncio.StreamWriter] = []

    async def start(self) -> None:
        self._server = await asyncio.start_unix_server(self._serve, self._directory / ".s.PGSQL.5432")

    async def stop(self) -> None:
        self._server.close()
        for writer in self._writers:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
        shutil.rmtree(self._directory)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        with contextlib.suppress(asyncio.IncompleteReadError, OSError):
            session = await self._logged_in(reader, writer)
            if self._transaction_mode:
                self._idle.put_nowait(session)
            while True:
                message = await _message(reader)
                if message.startswith(b"X"):
                    return
                if self._transaction_mode:
                    session = await self._idle.get()
                await _transact(message, session, reader, writer)
                if self._transaction_mode:
                    self._idle.put_nowait(session)

    async def _logged_in(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> _Session:
        start = await _start(reader)
        while struct.unpack("!I", start[4:8])[0] in _ENCRYPTION_REQUESTS:
            writer.write(b"N")
            start = await _start(reader)
        session = await self._connected()
        session.writer.write(_without_options(start) if self._ignores_options else start)
        while not (answer := await _message(session.reader)).startswith(b"Z"):
            writer.write(answer)
            # A request for a password; 0 says that none is needed, 12 that none is needed any more.
            if answer.startswith(b"R") and struct.unpack("!I", answer[5:9])[0] not in (0, 12):
                session.writer.write(await _message(reader))
        writer.write(answer)
        return session

    async def _connected(self) -> _Session:
        host, port = str(self._upstream.get("host") or "127.0.0.1"), int(self._upstream.get("port") or 5432)
        opened = await (
            asyncio.open_unix_connection(f"{host}/.s.PGSQL.{port}")
            if host.startswith("/")
            else asyncio.open_connection(host, port)
        )
        self._writers.append(opened[1])
        return _Session(*opened)


async def _transact(
    message: bytes,
    session: _Session,
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
) -> None:
    """Pass on what comes, until the server says that it is in no transaction."""
    while True:
        session.writer.write(message)
        # A simple query, or the end of an extended one, is what the server answers.
        if message[:1] in b"QS":
            while not (answer := await _message(session.reader)).startswith(b"Z"):
                writer.write(answer)
            writer.write(answer)
            if answer.endswith(b"I"):
                return
        message = await _message(reader)


async def _start(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readexactly(4)
    return head + await reader.readexactly(struct.unpack("!I", head)[0] - 4)


def _without_options(start: bytes) -> bytes:
    """Return the start-up message without the parameter `options`."""
    words = start[8:].rstrip(b"\0").split(b"\0")
    kept = [pair for pair in zip(words[::2], words[1::2], strict=True) if pair[0] != b"options"]
    body = start[4:8] + b"".join(b"%b\0%b\0" % pair for pair in kept) + b"\0"
    return struct.pack("!I", 4 + len(body)) + body


async def _message(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readexactly(5)
    return head + await reader.readexactly(struct.unpack("!I", head[1:])[0] - 4)


@contextlib.asynccontextmanager
async def pooled(
    conninfo: str, *, transaction_mode: bool = True, ignores_options: bool = False
) -> AsyncIterator[Pooler]:
    pooler = Pooler(conninfo, transaction_mode=transaction_mode, ignores_options=ignores_options)
    await pooler.start()
    try:
        yield pooler
    finally:
        await pooler.stop()
