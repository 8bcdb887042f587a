"""Whether a connection of ours is a session of the server's own, or shares sessions through a pooler."""

from __future__ import annotations

from pdp.postgres.access.connection import Access, Connection, bounded, connect

# Poolers hand out the session that came back last, or the one that came back first, and other clients
# take some meanwhile.
_ROUNDS = 3
_ADVICE = "connect to PostgreSQL directly, not through a pooler such as PgBouncer"


async def session_faults(access: Access, connection: Connection) -> list[str]:
    """Return in words why `connection` has no session of its own; empty where it has one.

    The server sets a connection up once, and prepares statements on it. Through a pooler in transaction
    mode the next transaction runs in another session, where neither holds. Raises psycopg.Error,
    TimeoutError and `StoreUnavailableError`.
    """
    other = await connect(access, "pdp start-up")
    try:
        if await bounded(other, _sessions_are_shared(connection, other), access.call_timeout):
            return [
                "connections share the server's sessions, as through a pooler in transaction mode: what is "
                f"set and prepared on one would be lost or meet another; {_ADVICE}"
            ]
    finally:
        await other.close()
    cursor = await connection.execute(
        "SELECT current_setting('role') = %s AND current_setting('plan_cache_mode') = 'force_generic_plan'",
        [access.role],
        prepare=False,
    )
    if await cursor.fetchone() != (True,):
        return [f"what the server sets at connection is not in force, as behind a pooler; {_ADVICE}"]
    return []


def refuses_settings(error: Exception) -> str | None:
    """Return in words that a pooler refused the settings of a connection; None for any other failure."""
    if "unsupported startup parameter" not in str(error):
        return None
    return f"a pooler refuses what the server sets at connection ({error}); {_ADVICE}"


async def _sessions_are_shared(one: Connection, other: Connection) -> bool:
    # A pooler with one session for all would keep the second of two open transactions waiting.
    if await _process(one) == await _process(other):
        return True
    for _ in range(_ROUNDS):
        found = []
        for connection in (one, other):
            await connection.execute("BEGIN", prepare=False)
            found.append(await _process(connection))
        for connection in (one, other):
            await connection.execute("COMMIT", prepare=False)
        if found != [await _process(one), await _process(other)]:
            return True
    return False


async def _process(connection: Connection) -> int:
    """Return the id of the server's process that answers."""
    cursor = await connection.execute("SELECT pg_backend_pid()", prepare=False)
    row = await cursor.fetchone()
    assert row is not None  # a SELECT without FROM has one row
    return int(row[0])
