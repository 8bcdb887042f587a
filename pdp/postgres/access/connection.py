"""One connection to the database: how it is opened, bounded in time and given up.

A psycopg call must not be cancelled: on cancellation psycopg asks the server to cancel the
query and waits for it, for ever if the server hangs. `bounded` shuts the socket down instead.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import socket
import time
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

import psycopg
from psycopg import AsyncConnection
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from pdp.errors import InvalidFieldError, StoreUnavailableError
from pdp.postgres.access import arrays

T = TypeVar("T")
# Longest time, in seconds, after which a connection's plans are made anew.
_PLANS_SECONDS = 60.0

# Everything here looks rows up by key. A generic plan made while a table was small must not
# scan it when it is large; and JIT would take the penalties below for real cost.
_PLANNER = {
    "jit": "off",
    "plan_cache_mode": "force_generic_plan",
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
}


class Connection(AsyncConnection[tuple[Any, ...]]):
    """A connection that knows how old its plans are."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._opened = time.monotonic()
        # Instant of `time.monotonic()`.
        self.plan_anew_at = self._opened + 1.0

    async def plan_anew(self) -> None:
        """Have statements planned anew as often as the connection's age doubles, and each minute.

        A plan made while tables were empty may use an index that has only the tenant in common with the
        question, and reads all of a tenant's rows once there are many. It would stay until the server
        happens to analyse the table.
        """
        now = time.monotonic()
        if now >= self.plan_anew_at:
            self.plan_anew_at = now + min(now - self._opened, _PLANS_SECONDS)
            await self.execute("DISCARD PLANS")


@dataclass(frozen=True, kw_only=True, slots=True)
class Access:
    """How to reach the database. Times are in seconds."""

    conninfo: str
    role: str = "placet_server"
    # This holds for each host that the conninfo names.
    connect_timeout: float = 5.0
    # It is short, because a whole batch waits for what one call in it needs.
    lock_timeout: float = 0.5
    statement_timeout: float = 10.0
    # Between two statements of a transaction we only compute: a replica that stopped there holds locks.
    idle_timeout: float = 2.0
    # This bounds calls whose port names no deadline.
    call_timeout: float = 10.0

    def arguments(self, application: str) -> str:
        """Return the conninfo with our start-up options added to the given ones."""
        given = conninfo_to_dict(self.conninfo)
        ours = {
            "role": self.role,
            "lock_timeout": f"{self.lock_timeout * 1000:.0f}",
            "statement_timeout": f"{self.statement_timeout * 1000:.0f}",
            "idle_in_transaction_session_timeout": f"{self.idle_timeout * 1000:.0f}",
            "timezone": "UTC",
            "default_transaction_isolation": r"read\ committed",
            **_PLANNER,
        }
        options = " ".join([str(given.get("options") or ""), *(f"-c {k}={v}" for k, v in ours.items())])
        return make_conninfo(
            self.conninfo,
            options=options.strip(),
            application_name=application,
            # This holds for each host; libpq tries one after the other.
            connect_timeout=max(2, round(self.connect_timeout)),
        )

    @property
    def patience(self) -> float:
        """Seconds that connecting may take, with every host tried."""
        given = conninfo_to_dict(self.conninfo)
        return self.connect_timeout * (1 + str(given.get("host") or given.get("hostaddr") or "").count(","))


async def connect(access: Access, application: str) -> Connection:
    """Open a connection within `access.patience`. Raises `StoreUnavailableError`."""
    try:
        async with asyncio.timeout(access.patience):
            connection = await Connection.connect(
                access.arguments(application), autocommit=True, prepare_threshold=1
            )
    except TimeoutError as exc:
        raise StoreUnavailableError(f"no connection within {access.patience:g} s") from exc
    except (psycopg.Error, OSError) as exc:
        raise StoreUnavailableError(f"cannot connect: {exc}") from exc
    arrays.register(connection)
    return connection


async def bounded(connection: Connection, work: Coroutine[Any, Any, T], seconds: float) -> T:
    """Return what `work`, which uses `connection`, returns, if it does within `seconds`.

    Otherwise, and when the caller is cancelled, the connection is given up: `work` ends with
    a psycopg error, and TimeoutError or CancelledError is raised.
    """
    task = asyncio.ensure_future(work)
    try:
        done, _ = await asyncio.wait({task}, timeout=max(seconds, 0.0))
    except asyncio.CancelledError:
        await _give_up(connection, task)
        raise
    if not done:
        await _give_up(connection, task)
        # It may have finished in the last moment.
        if not task.cancelled() and task.exception() is None:
            return task.result()
        raise TimeoutError from task.exception()
    try:
        return task.result()
    finally:
        # No reference cycles on the failure path (docs/decisions/0012-no-cycles-on-failure.md).
        del task, done


async def _give_up(connection: Connection, task: asyncio.Future[Any]) -> None:
    shut(connection)
    await asyncio.wait({task})
    if not task.cancelled():
        task.exception()


def shut(connection: Connection) -> None:
    """Shut the socket down: whoever waits on it sees the end of the stream at once."""
    with (
        contextlib.suppress(OSError, psycopg.Error),
        socket.socket(fileno=os.dup(connection.fileno())) as dup,
    ):
        dup.shutdown(socket.SHUT_RDWR)


def stale(connection: Connection) -> bool:
    """True when an idle connection cannot be used: closed, or the server has said something.

    Costs no round trip. An idle server speaks when it ends (or, rarely, when its settings
    are reloaded, and a new connection is then no loss).
    """
    if connection.closed or connection.broken:
        return True
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN | select.POLLERR | select.POLLHUP)
    return bool(poll.poll(0))


def lost(connection: Connection, exc: BaseException) -> bool:
    """True when `exc` may mean that the server's answer never came."""
    if connection.closed or connection.broken:
        return True
    severity = exc.diag.severity_nonlocalized if isinstance(exc, psycopg.Error) else None
    return severity != "ERROR"


def storable(field: str, text: str) -> str:
    """Return `text` if PostgreSQL can hold it; raises `InvalidFieldError`."""
    if "\0" in text:
        raise InvalidFieldError(field, "holds a NUL character")
    try:
        text.encode()
    except UnicodeEncodeError as exc:
        raise InvalidFieldError(field, "holds a lone surrogate") from exc
    return text


def unavailable(exc: psycopg.Error) -> StoreUnavailableError:
    """Return the failure that a database error is to callers, for `raise … from exc`.

    Its text is for the log, so it quotes no row: the database puts rows into details, and into the messages
    of data and constraint errors (SQLSTATE classes 22 and 23).
    """
    state = exc.sqlstate or ""
    words = exc.diag.message_primary or ("" if state else str(exc))
    if state.startswith(("22", "23")):
        words = ""
    return StoreUnavailableError(": ".join(part for part in (type(exc).__name__, state, words) if part))
