"""Brings the schema up to this code's version, and checks that a database is fit to be used."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib import resources

import psycopg
from psycopg import sql

from pdp.errors import StoreUnavailableError
from pdp.postgres.access.connection import Connection
from pdp.postgres.access.locks import MIGRATION_LOCK

# The oldest server that this SQL runs on (NULLS NOT DISTINCT).
OLDEST_SERVER = 150000
LOCK_WAIT = "60s"


class MigrationError(StoreUnavailableError):
    """The schema cannot be brought up to date. The message says what to do."""


class StoreUnfitError(StoreUnavailableError):
    """The database must not be used as it is. `faults` lists every reason."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("; ".join(faults))
        self.faults = tuple(faults)


@dataclass(frozen=True, kw_only=True, slots=True)
class Migration:
    version: int
    name: str
    text: bytes

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.text).hexdigest()


def migrations() -> tuple[Migration, ...]:
    """Return this code's migrations, oldest first."""
    found = [
        Migration(version=int(path.name[:4]), name=path.name.removesuffix(".sql"), text=path.read_bytes())
        for path in resources.files("pdp.postgres").joinpath("migrations").iterdir()
        if path.name.endswith(".sql")
    ]
    return tuple(sorted(found, key=lambda migration: migration.version))


async def migrate(
    conninfo: str, *, server_role: str = "placet_server", manual_clock: bool = False
) -> list[str]:
    """Apply what is missing, in one transaction; return the names of what was applied.

    Safe to call from several processes at once. Creates `server_role` and grants it what the
    server needs. Raises `MigrationError`.
    """
    try:
        async with await Connection.connect(conninfo, autocommit=True) as connection:
            await _require_version(connection)
            if fault := _encoding_fault(connection):
                raise MigrationError(fault)
            await connection.execute(sql.SQL("SET lock_timeout = {}").format(LOCK_WAIT))
            await connection.execute("SELECT pg_advisory_lock(%s)", [MIGRATION_LOCK])
            await _create_role(connection, server_role)
            async with connection.transaction():
                applied = await _apply(connection, migrations())
                await _grant(connection, server_role, manual_clock=manual_clock)
            return applied
    except psycopg.errors.LockNotAvailable as exc:
        raise MigrationError(
            f"another migration still ran after {LOCK_WAIT}; try again when it is done"
        ) from exc
    except psycopg.Error as exc:
        raise MigrationError(f"migration failed: {exc}") from exc


async def _require_version(connection: Connection) -> None:
    if connection.info.server_version < OLDEST_SERVER:
        found = connection.info.server_version // 10000
        raise MigrationError(f"PostgreSQL {found} is too old: 15 or later is needed")


def _encoding_fault(connection: Connection) -> str | None:
    """Return in words that the database holds text otherwise than as UTF-8; None where it does not."""
    encoding = connection.info.parameter_status("server_encoding")
    if encoding == "UTF8":
        return None
    return (
        f"the database's encoding is {encoding}, which cannot hold every text: create another database, with "
        "ENCODING 'UTF8' TEMPLATE template0, and use that"
    )


async def _create_role(connection: Connection, role: str) -> None:
    cursor = await connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [role])
    create = sql.SQL("CREATE ROLE {} NOLOGIN").format(sql.Identifier(role))
    if await cursor.fetchone() is None:
        try:
            await connection.execute(create)
        except (psycopg.errors.DuplicateObject, psycopg.errors.UniqueViolation):
            pass  # created by a migration of another database of this server, just now
        except psycopg.errors.InsufficientPrivilege as exc:
            raise MigrationError(
                f"the role {role} does not exist and {connection.info.user} may not create it; as a "
                f"superuser run: {create.as_string(connection)}; "
                f"{_membership(role, connection.info.user).as_string(connection)};"
            ) from exc
    cursor = await connection.execute("SELECT pg_has_role(current_user, %s, 'MEMBER')", [role])
    row = await cursor.fetchone()
    if row is None or not row[0]:
        member = _membership(role, connection.info.user)
        try:
            await connection.execute(member)
        except psycopg.errors.InsufficientPrivilege as exc:
            raise MigrationError(
                f"{connection.info.user} is not a member of the role {role}; as a superuser run: "
                f"{member.as_string(connection)};"
            ) from exc


def _membership(role: str, user: str) -> sql.Composed:
    return sql.SQL("GRANT {} TO {}").format(sql.Identifier(role), sql.Identifier(user))


async def _apply(connection: Connection, ours: tuple[Migration, ...]) -> list[str]:
    await connection.execute("CREATE SCHEMA IF NOT EXISTS placet")
    await connection.execute(
        """
        CREATE TABLE IF NOT EXISTS placet.migrations (
            version integer PRIMARY KEY,
            name text NOT NULL,
            digest text NOT NULL,
            applied_at timestamptz NOT NULL DEFAULT clock_timestamp()
        )
        """
    )
    recorded = await _recorded(connection)
    faults = _differences(recorded, ours, missing_is_a_fault=False)
    if faults:
        raise MigrationError("; ".join(faults))
    applied = []
    for migration in ours:
        if migration.version in recorded:
            continue
        try:
            await connection.execute(migration.text)
        except psycopg.Error as exc:
            raise MigrationError(f"{migration.name}: {exc}") from exc
        await connection.execute(
            "INSERT INTO placet.migrations (version, name, digest) VALUES (%s, %s, %s)",
            [migration.version, migration.name, migration.digest],
        )
        applied.append(migration.name)
    return applied


async def _recorded(connection: Connection) -> dict[int, tuple[str, str]]:
    cursor = await connection.execute("SELECT version, name, digest FROM placet.migrations ORDER BY version")
    return {version: (name, digest) for version, name, digest in await cursor.fetchall()}


def _differences(
    recorded: dict[int, tuple[str, str]], ours: tuple[Migration, ...], *, missing_is_a_fault: bool
) -> list[str]:
    """Return in words how the database's migrations differ from this code's."""
    known = {migration.version: migration for migration in ours}
    faults = []
    newer = [name for version, (name, _) in recorded.items() if version not in known]
    if newer:
        faults.append(
            f"the database is newer than this code (it has {', '.join(newer)}): use a newer release"
        )
    for version, (name, digest) in recorded.items():
        if version in known and known[version].digest != digest:
            faults.append(
                f"migration {name} was edited after it was applied: restore its text and put the change "
                "into a new migration"
            )
    missing = [m.name for m in ours if m.version not in recorded]
    if missing and missing_is_a_fault:
        faults.append(f"the schema is older than this code ({', '.join(missing)} missing): run `pdp migrate`")
    return faults


# What the server may do, by table. It never updates or deletes what is recorded.
_GRANTS = {
    "migrations": "SELECT",
    "clock": "SELECT",
    "tenants": "SELECT, INSERT, UPDATE",
    "agents": "SELECT, INSERT, UPDATE",
    # DELETE: a roll-back removes tools; the history keeps them.
    "tools": "SELECT, INSERT, UPDATE, DELETE",
    "signals": "SELECT, INSERT, UPDATE",
    "issuer_keys": "SELECT, INSERT, UPDATE",
    "registry_history": "SELECT, INSERT",
    "entity_clock": "SELECT, INSERT, UPDATE",
    "entities": "SELECT, INSERT, UPDATE",
    "entity_history": "SELECT, INSERT",
    "postings": "SELECT, INSERT, UPDATE",
    "counters": "SELECT, INSERT, UPDATE",
    "write_quotas": "SELECT, INSERT, UPDATE",
    "business_keys": "SELECT, INSERT, UPDATE",
    "holds": "SELECT, INSERT, UPDATE",
    "prerequisite_rules": "SELECT, INSERT",
    "prerequisites": "SELECT, INSERT, UPDATE",
    "prerequisite_uses": "SELECT, INSERT",
    "sessions": "SELECT, INSERT, UPDATE",
    "grants": "SELECT, INSERT, UPDATE",
    "session_tokens": "SELECT, INSERT, UPDATE",
    "session_proof_history": "SELECT, INSERT",
    # DELETE: the row of a recording that did not hold, in the transaction that created it.
    "decision_keys": "SELECT, INSERT, UPDATE, DELETE",
    "ledger": "SELECT, INSERT",
    "decision_details": "SELECT, INSERT",
    "writers": "SELECT, INSERT",
    "signing_keys": "SELECT, INSERT",
}
LEDGER_TABLES = (
    "ledger",
    "decision_details",
    "registry_history",
    "session_proof_history",
    "writers",
    "signing_keys",
)


async def _grant(connection: Connection, role: str, *, manual_clock: bool) -> None:
    server = sql.Identifier(role)
    await connection.execute(
        sql.SQL("REVOKE ALL ON ALL TABLES IN SCHEMA placet FROM {}, PUBLIC").format(server)
    )
    await connection.execute(sql.SQL("GRANT USAGE ON SCHEMA placet TO {}").format(server))
    for table, privileges in _GRANTS.items():
        if table == "clock" and manual_clock:
            privileges += ", UPDATE"
        await connection.execute(
            f"GRANT {privileges} ON placet.{table} TO ".encode() + server.as_bytes(connection)
        )


async def check_server(connection: Connection, *, ordinary_login: bool = False) -> None:
    """Raise `StoreUnfitError`, naming every fault, unless the server may run on this database.

    With `ordinary_login`, the login may neither be a superuser nor own the schema.
    """
    # A database with another encoding has to be made anew, whatever else is wrong with it; and texts may
    # come out of it as bytes.
    if fault := _encoding_fault(connection):
        raise StoreUnfitError([fault])
    faults = await durability_faults(connection)
    if ordinary_login:
        faults += await _login_faults(connection)
    cursor = await connection.execute("SELECT to_regclass('placet.migrations') IS NOT NULL")
    row = await cursor.fetchone()
    if row is None or not row[0]:
        faults.append("the schema placet is missing: run `pdp migrate`")
    else:
        faults += _differences(await _recorded(connection), migrations(), missing_is_a_fault=True)
    if faults:
        raise StoreUnfitError(faults)


async def _login_faults(connection: Connection) -> list[str]:
    """Return in words what the login could do once it drops the server's role."""
    cursor = await connection.execute(
        """
        SELECT session_user, r.rolsuper,
               EXISTS (
                   SELECT FROM pg_namespace n LEFT JOIN pg_class c ON c.relnamespace = n.oid
                   WHERE n.nspname = 'placet'
                     AND (pg_has_role(r.oid, n.nspowner, 'MEMBER')
                          OR pg_has_role(r.oid, c.relowner, 'MEMBER'))
               )
        FROM pg_roles r WHERE r.rolname = session_user
        """
    )
    row = await cursor.fetchone()
    assert row is not None  # whoever is logged in has a role
    login, superuser, owner = row
    if not superuser and not owner:
        return []
    held = "is a superuser" if superuser else "owns the schema placet, or may become its owner"
    return [
        f"the login {login} {held}, so whoever takes over such a connection can rewrite the ledger: log in "
        "as an ordinary role that is granted the server's role"
    ]


async def durability_faults(connection: Connection) -> list[str]:
    """Return in words why nothing may be recorded over this connection, whatever the schema's version is."""
    cursor = await connection.execute(
        """
        SELECT current_setting('fsync')::bool, current_setting('synchronous_commit') <> 'off',
               pg_is_in_recovery(), current_setting('transaction_read_only')::bool, current_user,
               array(
                   SELECT c.relname || ' (' || p.privilege || ')'
                   FROM pg_class c
                   JOIN pg_namespace n ON n.oid = c.relnamespace
                   CROSS JOIN unnest(array['UPDATE', 'DELETE', 'TRUNCATE']) AS p(privilege)
                   WHERE n.nspname = 'placet' AND c.relname = ANY (%s)
                     AND has_table_privilege(c.oid, p.privilege)
                   ORDER BY 1
               )
        """,
        [list(LEDGER_TABLES)],
    )
    row = await cursor.fetchone()
    assert row is not None  # a SELECT without FROM has one row
    fsync, synchronous, recovery, read_only, user, writable = row
    faults = []
    if not fsync:
        faults.append("fsync is off: a crash would lose recorded decisions")
    if not synchronous:
        faults.append("synchronous_commit is off: a crash would lose recorded decisions")
    if recovery:
        faults.append("the server is in recovery (a standby): connect to the primary")
    elif read_only:
        faults.append("the database is read-only")
    if writable:
        faults.append(
            f"the role {user} may change what is recorded ({', '.join(writable)}): connect as the "
            "server's role, or run `pdp migrate`"
        )
    return faults


async def check_durable(connection: Connection) -> None:
    """Raise `StoreUnfitError` unless what is recorded over this connection stays."""
    faults = await durability_faults(connection)
    if faults:
        raise StoreUnfitError(faults)
