"""What the catalogue says of the schema."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from pdp.postgres.columns import Columns
from pdp.postgres.control_plane import ISSUER_KEYS
from pdp.postgres.entities import ENTITY_VERSION
from pdp.postgres.migrate import LEDGER_TABLES
from pdp.postgres.rows import AGENT, COUNTER, DECISION_KEY, GRANT, HOLD, PRIOR_ANSWER, SESSION, TOOL

# These belong to the installation, not to a tenant.
WITHOUT_TENANT = {"migrations", "signing_keys", "writers", "clock"}
# A writer's stream spans tenants: its order is the log's own.
SPANNING_KEYS = {"ledger_stream_key"}


def test_every_key_leads_with_the_tenant(database_url: str) -> None:
    with psycopg.connect(database_url) as connection:
        keys = connection.execute(
            """
            SELECT t.relname, i.relname, a.attname
            FROM pg_index x
            JOIN pg_class t ON t.oid = x.indrelid
            JOIN pg_class i ON i.oid = x.indexrelid
            JOIN pg_namespace n ON n.oid = t.relnamespace
            LEFT JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = x.indkey[0]
            WHERE n.nspname = 'placet' AND x.indisunique
            """
        ).fetchall()
    assert {table for table, _, _ in keys} >= WITHOUT_TENANT | {"ledger", "sessions", "decision_keys"}
    leading = {
        (table, key, column)
        for table, key, column in keys
        if table not in WITHOUT_TENANT and key not in SPANNING_KEYS and column != "tenant"
    }
    assert leading == set()


def test_every_table_has_a_key_and_is_not_partitioned(database_url: str) -> None:
    with psycopg.connect(database_url) as connection:
        tables = connection.execute(
            """
            SELECT c.relname, c.relkind::text,
                   EXISTS (SELECT 1 FROM pg_index x WHERE x.indrelid = c.oid AND x.indisunique)
            FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
            WHERE n.nspname = 'placet' AND c.relkind IN ('r', 'p')
            """
        ).fetchall()
    assert [table for table, kind, keyed in tables if kind != "r" or not keyed] == []


@pytest.mark.parametrize(
    ("table", "columns"),
    [
        ("sessions", SESSION),
        ("tools", TOOL),
        ("agents", AGENT),
        ("grants", GRANT),
        ("counters", COUNTER),
        ("holds", HOLD),
        ("prerequisites", PRIOR_ANSWER),
        ("decision_keys", DECISION_KEY),
        ("issuer_keys", ISSUER_KEYS),
        ("entity_history", ENTITY_VERSION),
    ],
)
def test_columns_are_of_their_table_and_the_first_is_never_null(
    database_url: str, table: str, columns: Columns[Any]
) -> None:
    with psycopg.connect(database_url) as connection:
        found = dict(
            connection.execute(
                "SELECT column_name, is_nullable FROM information_schema.columns "
                "WHERE table_schema = 'placet' AND table_name = %s",
                [table],
            ).fetchall()
        )
    assert set(columns.names) <= set(found)
    assert found[columns.names[0]] == "NO"


def test_absent_review_ids_compare_equal(database_url: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        insert = (
            "INSERT INTO placet.decision_keys (tenant, session_id, caller, leaf_grant, tool_call_id) "
            "VALUES ('t', 's', 'c', '', 'x')"
        )
        connection.execute(insert)
        with pytest.raises(psycopg.errors.UniqueViolation):
            connection.execute(insert)


@pytest.mark.parametrize("table", LEDGER_TABLES)
@pytest.mark.parametrize(
    "statement", ["UPDATE placet.{} SET {} = {}", "DELETE FROM placet.{}", "TRUNCATE placet.{}"]
)
def test_server_role_cannot_change_what_is_recorded(database_url: str, table: str, statement: str) -> None:
    column = "writer" if table == "writers" else "kid" if table == "signing_keys" else "tenant"
    with psycopg.connect(database_url, options="-c role=placet_server", autocommit=True) as connection:
        connection.execute(f"SELECT count(*) FROM placet.{table}".encode())
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute(statement.format(table, column, column).encode())


def test_server_role_owns_nothing_and_creates_nothing(database_url: str) -> None:
    with psycopg.connect(database_url, options="-c role=placet_server", autocommit=True) as connection:
        row = connection.execute(
            "SELECT count(*) FROM pg_class WHERE relowner = 'placet_server'::regrole"
        ).fetchone()
        assert row == (0,)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("CREATE TABLE placet.more ()")
