"""What the server asks of a database before it serves: whose login, which encoding, sessions of its own."""

from __future__ import annotations

import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml
from psycopg.conninfo import make_conninfo

from pdp.postgres.migrate import MigrationError, StoreUnfitError, migrate
from pdp.postgres.store import PostgresStore
from tests.support.pooler import pooled
from tests.support.postgres import Cluster


@pytest.fixture
def login(postgres_cluster: Cluster, database_url: str) -> Iterator[str]:
    """The name of an ordinary login that is granted the server's role."""
    name = f"login_{secrets.token_hex(6)}"
    postgres_cluster.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'secret'; GRANT placet_server TO {name}")
    yield name
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(f"REASSIGN OWNED BY {name} TO CURRENT_USER; DROP OWNED BY {name}".encode())
    postgres_cluster.execute(f"DROP ROLE {name}")


def of(login: str, url: str) -> str:
    return make_conninfo(url, user=login, password="secret")


async def start(url: str) -> None:
    async with PostgresStore.open(url, replica="test", wait=0.0, ordinary_login=True):
        pass


async def test_ordinary_login_starts(database_url: str, login: str) -> None:
    await start(of(login, database_url))


async def test_superuser_is_refused_as_login(database_url: str) -> None:
    with pytest.raises(StoreUnfitError, match=r"the login \w+ is a superuser.* log in as an ordinary role"):
        await start(database_url)


def test_server_for_callers_who_prove_themselves_demands_an_ordinary_login(
    database_url: str, tmp_path: Path
) -> None:
    file = tmp_path / "file"
    file.write_text("0" * 64)
    issuer = {"issuer": "i", "audience": "a", "jwks_file": str(file), "algorithms": ["ES256"]}
    config: dict[str, Any] = {
        "database_url": database_url,
        "opa_socket": str(tmp_path / "opa.sock"),
        "opa_token_file": str(file),
        "opa_admin_url": "http://127.0.0.1:1",
        "opa_admin_token_file": str(file),
        "fingerprint_key_file": str(file),
        "jwt": [issuer],
        "callers": [{"match": {"issuer": "i", "subject": "s"}, "tenant": "t"}],
    }
    (tmp_path / "pdp.yaml").write_text(yaml.safe_dump(config))
    argv = [sys.executable, "-m", "pdp", "serve", "--config", str(tmp_path / "pdp.yaml")]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "is a superuser" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "owning",
    [
        "ALTER SCHEMA placet OWNER TO {login}",
        "ALTER TABLE placet.ledger OWNER TO {login}; GRANT SELECT, INSERT ON placet.ledger TO placet_server",
    ],
)
async def test_owner_of_the_schema_or_its_tables_is_refused_as_login(
    database_url: str, login: str, owning: str
) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(owning.format(login=login).encode())
    with pytest.raises(StoreUnfitError, match=f"the login {login} owns the schema placet"):
        await start(of(login, database_url))


async def test_login_that_may_become_the_owner_is_refused(
    database_url: str, login: str, postgres_cluster: Cluster
) -> None:
    owner = f"owner_{secrets.token_hex(6)}"
    postgres_cluster.execute(f"CREATE ROLE {owner}; GRANT {owner} TO {login}")
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(f"ALTER SCHEMA placet OWNER TO {owner}".encode())
        try:
            with pytest.raises(StoreUnfitError, match=f"the login {login} owns .* or may become its owner"):
                await start(of(login, database_url))
        finally:
            connection.execute(f"ALTER SCHEMA placet OWNER TO CURRENT_USER; DROP ROLE {owner}".encode())


@pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1"])
async def test_encoding_other_than_utf8_is_refused(postgres_cluster: Cluster, encoding: str) -> None:
    name = f"placet_test_{secrets.token_hex(6)}"
    postgres_cluster.execute(f"CREATE DATABASE {name} ENCODING '{encoding}' LOCALE 'C' TEMPLATE template0")
    url = postgres_cluster.of(name)
    try:
        with pytest.raises(MigrationError, match=f"encoding is {encoding}.*ENCODING 'UTF8'"):
            await migrate(url)
        with pytest.raises(StoreUnfitError, match=f"encoding is {encoding}.*ENCODING 'UTF8'"):
            await start(url)
    finally:
        postgres_cluster.drop(name)


async def test_pooler_in_transaction_mode_is_refused(database_url: str) -> None:
    async with pooled(database_url) as pooler:
        with pytest.raises(StoreUnfitError, match=r"pooler in transaction mode.* connect to PostgreSQL dir"):
            await start(pooler.conninfo)


async def test_pooler_that_lends_a_session_for_as_long_as_a_connection_lasts_is_none_to_us(
    database_url: str,
) -> None:
    async with (
        pooled(database_url, transaction_mode=False) as pooler,
        PostgresStore.open(pooler.conninfo, replica="test", wait=0.0) as store,
    ):
        await store.ping_writable()


async def test_settings_that_are_lost_on_the_way_are_seen(database_url: str, login: str) -> None:
    """A pooler that is told to ignore `options` connects, and sets nothing."""
    async with pooled(of(login, database_url), ignores_options=True, transaction_mode=False) as pooler:
        with pytest.raises(StoreUnfitError, match="not in force, as behind a pooler"):
            await start(pooler.conninfo)
