"""Migrating, and refusing a database that must not be used."""

from __future__ import annotations

import asyncio
import secrets

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from pdp.errors import PermissionDeniedError, StoreUnavailableError
from pdp.model import Attribution, ControlKind, EntityName
from pdp.postgres.migrate import _GRANTS, MigrationError, StoreUnfitError, migrate, migrations
from pdp.postgres.store import PostgresStore
from tests.support import builders
from tests.support.postgres import Cluster

ALL = [migration.name for migration in migrations()]


def execute(url: str, statement: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(statement.encode())


async def opened(url: str, role: str = "placet_server") -> None:
    async with PostgresStore.open(url, replica="test", role=role, wait=0.0) as store:
        await store.check()


async def test_fresh_then_nothing_to_do(empty_database_url: str) -> None:
    assert await migrate(empty_database_url) == ALL
    assert await migrate(empty_database_url) == []
    await opened(empty_database_url)


async def test_concurrent_migrations_apply_once(empty_database_url: str) -> None:
    applied = await asyncio.gather(*(migrate(empty_database_url) for _ in range(4)))
    assert sorted(applied, key=len) == [[], [], [], ALL]


async def test_migration_that_was_left_out_is_applied_after_later_ones(
    empty_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tables came into numbers that databases had already passed."""
    (late,) = (migration for migration in migrations() if migration.name == "0007_issuer_keys")
    others = tuple(migration for migration in migrations() if migration != late)
    with monkeypatch.context() as patch:
        patch.setattr("pdp.postgres.migrate.migrations", lambda: others)
        patch.delitem(_GRANTS, "issuer_keys")
        assert await migrate(empty_database_url) == [migration.name for migration in others]
    assert await migrate(empty_database_url) == [late.name]
    await opened(empty_database_url)


async def test_calls_on_root_grants_get_the_key_of_the_call_without_one(
    empty_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        earlier = tuple(each for each in migrations() if each.version < 10)
        patch.setattr("pdp.postgres.migrate.migrations", lambda: earlier)
        # An earlier server had fewer tables than there are today.
        patch.setattr("pdp.postgres.migrate._GRANTS", {})
        await migrate(empty_database_url)
    execute(
        empty_database_url,
        """
        INSERT INTO placet.tenants (tenant, settings) VALUES ('acme', '{}');
        INSERT INTO placet.grants (tenant, grant_hash, session_id, parent_hash, agent, delegated_by, depth,
                                   purpose, issued_at, expires_at)
        SELECT 'acme', hash, 's', parent, 'a', 'i', (parent IS NOT NULL)::integer, '', now(), now()
        FROM (VALUES ('root', NULL), ('root 2', NULL), ('leaf', 'root')) AS g(hash, parent);
        INSERT INTO placet.decision_keys (tenant, session_id, caller, leaf_grant, tool_call_id, decision_id)
        VALUES ('acme', 's', 'c', 'root', 'alone', '1'),
               ('acme', 's', 'c', 'root', 'both', '2'), ('acme', 's', 'c', '', 'both', '3'),
               ('acme', 's', 'c', 'root', 'two', '5'), ('acme', 's', 'c', 'root 2', 'two', '4'),
               ('acme', 's', 'c', 'leaf', 'below', '6');
        """,
    )
    await migrate(empty_database_url)
    with psycopg.connect(empty_database_url) as connection:
        rows = connection.execute(
            "SELECT tool_call_id, leaf_grant, decision_id FROM placet.decision_keys ORDER BY decision_id"
        ).fetchall()
    assert rows == [
        ("alone", "", "1"),
        ("both", "root", "2"),
        ("both", "", "3"),
        ("two", "root 2", "4"),
        ("two", "", "5"),
        ("below", "leaf", "6"),
    ]


async def test_failed_migration_leaves_nothing(empty_database_url: str) -> None:
    execute(empty_database_url, "CREATE SCHEMA placet; CREATE TABLE placet.writers ()")
    with pytest.raises(MigrationError, match="writers"):
        await migrate(empty_database_url)
    execute(empty_database_url, "DROP TABLE placet.writers")
    assert await migrate(empty_database_url) == ALL


async def test_edited_migration_is_refused(database_url: str) -> None:
    execute(database_url, "UPDATE placet.migrations SET digest = 'other' WHERE version = 1")
    for refused in (migrate(database_url), opened(database_url)):
        with pytest.raises(StoreUnavailableError, match="was edited after it was applied"):
            await refused


async def test_newer_database_is_refused(database_url: str) -> None:
    execute(database_url, "INSERT INTO placet.migrations VALUES (9999, '9999_future', 'digest')")
    for refused in (migrate(database_url), opened(database_url)):
        with pytest.raises(StoreUnavailableError, match=r"newer than this code .*9999_future"):
            await refused


async def test_older_database_is_refused(database_url: str) -> None:
    execute(database_url, f"DELETE FROM placet.migrations WHERE version = {migrations()[-1].version}")
    with pytest.raises(StoreUnfitError, match=r"older than this code .*run `pdp migrate`"):
        await opened(database_url)


async def test_missing_schema_is_refused(empty_database_url: str, database_url: str) -> None:
    with pytest.raises(StoreUnfitError, match="schema placet is missing: run `pdp migrate`"):
        await opened(empty_database_url)


@pytest.mark.parametrize(
    ("setting", "fault"),
    [
        ("synchronous_commit = off", "synchronous_commit is off"),
        ("default_transaction_read_only = on", "the database is read-only"),
    ],
)
async def test_unfit_setting_is_refused(database_url: str, setting: str, fault: str) -> None:
    name = psycopg.conninfo.conninfo_to_dict(database_url)["dbname"]
    execute(database_url, f"ALTER DATABASE {name} SET {setting}")
    with pytest.raises(StoreUnfitError, match=fault):
        await opened(database_url)


async def test_server_that_does_not_flush_is_refused(database_url: str) -> None:
    """Settings of the whole server, as they would be read: current_setting is another function here."""
    name = psycopg.conninfo.conninfo_to_dict(database_url)["dbname"]
    execute(
        database_url,
        f"""
        CREATE SCHEMA other;
        CREATE FUNCTION other.current_setting(name text) RETURNS text LANGUAGE sql
        AS $$ SELECT CASE name WHEN 'fsync' THEN 'off' ELSE pg_catalog.current_setting(name) END $$;
        CREATE FUNCTION other.pg_is_in_recovery() RETURNS bool LANGUAGE sql AS 'SELECT true';
        GRANT USAGE ON SCHEMA other TO PUBLIC;
        ALTER DATABASE {name} SET search_path = other, pg_catalog
        """,
    )
    with pytest.raises(StoreUnfitError) as caught:
        await opened(database_url)
    assert [fault.partition(":")[0] for fault in caught.value.faults] == [
        "fsync is off",
        "the server is in recovery (a standby)",
    ]


async def test_every_fault_is_told_at_once(database_url: str) -> None:
    name = psycopg.conninfo.conninfo_to_dict(database_url)["dbname"]
    execute(database_url, f"ALTER DATABASE {name} SET synchronous_commit = off")
    execute(database_url, "GRANT UPDATE, DELETE ON placet.ledger TO placet_server")
    with pytest.raises(StoreUnfitError) as caught:
        await opened(database_url)
    assert len(caught.value.faults) == 2
    assert "ledger (DELETE), ledger (UPDATE)" in caught.value.faults[1]


async def test_role_that_may_change_the_ledger_is_refused(database_url: str) -> None:
    owner = psycopg.conninfo.conninfo_to_dict(database_url).get("user") or "postgres"
    with pytest.raises(StoreUnfitError, match="may change what is recorded"):
        await opened(database_url, role=str(owner))


async def test_missing_role_is_told_at_once(database_url: str) -> None:
    with pytest.raises(StoreUnavailableError, match="no_such_role"):
        async with PostgresStore.open(database_url, replica="test", role="no_such_role", wait=60.0):
            pass


async def test_absent_server_is_told_in_bounded_time() -> None:
    url = "postgresql://nobody@/nothing?host=/nonexistent"
    with pytest.raises(StoreUnavailableError, match="cannot connect"):
        async with PostgresStore.open(url, replica="test", wait=0.3):
            pass


async def test_ordinary_user_is_told_what_a_superuser_must_run(
    postgres_cluster: Cluster, empty_database_url: str
) -> None:
    user, role = (f"placet_test_{secrets.token_hex(4)}" for _ in range(2))
    name = psycopg.conninfo.conninfo_to_dict(empty_database_url)["dbname"]
    postgres_cluster.execute(f"CREATE ROLE {user} LOGIN PASSWORD 'secret'")
    try:
        postgres_cluster.execute(f"GRANT CREATE ON DATABASE {name} TO {user}")
        url = make_conninfo(empty_database_url, user=user, password="secret")
        with pytest.raises(MigrationError) as caught:
            await migrate(url, server_role=role)
        said = str(caught.value).partition("run: ")[2]
        assert f'CREATE ROLE "{role}" NOLOGIN' in said
        postgres_cluster.execute(said)
        assert await migrate(url, server_role=role) == ALL
        await opened(url, role=role)
    finally:
        postgres_cluster.drop(str(name))
        postgres_cluster.execute(f"DROP ROLE IF EXISTS {role}; DROP ROLE {user}")


async def test_clock_moves_only_where_it_was_made_manual(database_url: str) -> None:
    async with PostgresStore.open(database_url, replica="test") as store:
        await store.clock.advance(60)
        await migrate(database_url, manual_clock=False)
        with pytest.raises(PermissionDeniedError):
            await store.clock.advance(60)


async def test_settings_of_every_revision_can_be_looked_up(database_url: str) -> None:
    async with PostgresStore.open(database_url, replica="test") as store:
        await store.control_plane.put_tenant("acme", b'{"a": 1}', by=builders.AUTHOR)
        await store.control_plane.put_tenant("acme", b'{"a": 2.50}', by=builders.AUTHOR)
    with psycopg.connect(database_url) as connection:
        rows = connection.execute(
            "SELECT revision, content FROM placet.registry_history WHERE kind = 'settings' ORDER BY revision"
        ).fetchall()
    assert rows == [(1, '{"a": 1}'), (2, '{"a": 2.50}')]


async def test_what_an_earlier_release_wrote_has_no_author_and_says_so(database_url: str) -> None:
    """Such a release may also write on while the schema is this one's already."""
    async with PostgresStore.open(database_url, replica="test") as store:
        await store.control_plane.put_tenant("acme", b"{}", by=builders.AUTHOR)
        execute(
            database_url,
            "INSERT INTO placet.registry_history (tenant, kind, revision, name, content)"
            " VALUES ('acme', 'tools', 1, 'a', '{}');"
            "INSERT INTO placet.entity_history"
            " (tenant, type, id, revision, attributes, deleted, written_by, written_at)"
            " VALUES ('acme', 'vendor', 'V-1', 1, '{}', false, 'ben', placet.now())",
        )
        [revision] = await store.control_plane.history("acme", ControlKind.TOOLS, before=None, limit=10)
        assert (revision.revision, revision.by) == (1, None)
        version = await store.entities.entity_at("acme", EntityName(type="vendor", id="V-1"))
        assert version is not None
        assert version.by == Attribution(subject="ben", issuer=None, reason="")


async def test_ping_notices_a_database_that_became_read_only(database_url: str) -> None:
    name = psycopg.conninfo.conninfo_to_dict(database_url)["dbname"]
    async with PostgresStore.open(database_url, replica="test") as store:
        await store.ping_writable(30.0)
        execute(database_url, f"ALTER DATABASE {name} SET default_transaction_read_only = on")
        execute(
            database_url,
            # Waits until each is gone: its client must have seen the end of the connection.
            "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()",
        )
        with pytest.raises(StoreUnavailableError, match="read-only"):
            await store.ping_writable(30.0)
