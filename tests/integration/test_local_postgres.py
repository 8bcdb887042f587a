"""PostgreSQL for one machine: found, initialised, refused with a message that says what to do."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import psycopg
import pytest

from pdp.dev import local_postgres
from pdp.dev.local_postgres import LocalPostgres, PostgresError
from pdp.dev.supervise import Supervisor
from tests.support.processes import PATIENCE, eventually, is_alive


@pytest.fixture
def folder() -> Iterator[Path]:
    """A directory that an ordinary user reaches (those of pytest are root's alone)."""
    with tempfile.TemporaryDirectory(prefix="placet test ") as name:
        Path(name).chmod(0o755)
        yield Path(name)


def lock_away(folder: Path) -> None:
    """Leave the directory to its owner alone, as /root is."""
    folder.chmod(0o700)


def owner(pid: int) -> int:
    return Path(f"/proc/{pid}").stat().st_uid


def made(folder: Path) -> LocalPostgres:
    return local_postgres.prepare(folder / "postgres", log=folder / "postgres.log")


@pytest.fixture
async def supervisor() -> AsyncIterator[Supervisor]:
    supervisor = Supervisor()
    yield supervisor
    await supervisor.stop()


async def ask(local: LocalPostgres, question: str) -> object:
    async with await psycopg.AsyncConnection.connect(local.url(), autocommit=True) as connection:
        row = await (await connection.execute(question)).fetchone()  # type: ignore[call-overload]
        return row[0] if row is not None else None


async def test_server_starts_and_keeps_its_data(folder: Path, supervisor: Supervisor) -> None:
    local = made(folder)
    await supervisor.start(local.child())
    await local.create_database()
    assert await ask(local, "SHOW fsync") == "on"
    assert await ask(local, "SHOW synchronous_commit") == "on"
    async with await psycopg.AsyncConnection.connect(local.url(), autocommit=True) as connection:
        await connection.execute("CREATE TABLE kept AS SELECT 42 AS n")
    await supervisor.stop()

    again = made(folder)
    await supervisor.start(again.child())
    await again.create_database()
    assert await ask(again, "SELECT n FROM kept") == 42


async def test_killed_server_is_started_again(folder: Path, supervisor: Supervisor) -> None:
    local = made(folder)
    await supervisor.start(local.child())
    await local.create_database()
    pid = supervisor.pid("postgres")
    assert pid is not None
    async with supervisor.killed("postgres"):
        assert not is_alive(pid)
    assert await ask(local, "SELECT 1") == 1


async def test_server_does_not_run_as_root_nor_listen_on_a_port(folder: Path, supervisor: Supervisor) -> None:
    local = made(folder)
    await supervisor.start(local.child())
    await local.create_database()
    pid = supervisor.pid("postgres")
    assert pid is not None
    assert owner(pid) != 0
    assert await ask(local, "SHOW listen_addresses") == ""
    assert local.sockets.stat().st_mode & 0o777 == 0o700


async def test_lock_file_of_a_dead_server_is_no_obstacle(folder: Path, supervisor: Supervisor) -> None:
    local = made(folder)
    # Alive, and no PostgreSQL: the number was given to another program.
    (local.data / "postmaster.pid").write_text(f"{os.getpid()}\n{local.data}\n")
    await supervisor.start(local.child())
    await local.create_database()
    assert await ask(local, "SELECT 1") == 1


def test_half_finished_initialisation_is_made_anew(folder: Path) -> None:
    local = made(folder)
    home = local.data.parent
    local.data.rename(home / "data.new-1")
    (home / "data.new-1" / "PG_VERSION").unlink()
    again = made(folder)
    assert (again.data / "PG_VERSION").exists()
    assert not list(home.glob("data.new-*"))


def test_data_of_another_major_version_is_refused(folder: Path) -> None:
    local = made(folder)
    (local.data / "PG_VERSION").write_text("11\n")
    with pytest.raises(PostgresError, match=r"(?s)made by PostgreSQL 11.*Install PostgreSQL 11, or choose"):
        made(folder)


def test_directory_with_other_files_is_refused(folder: Path) -> None:
    data = folder / "postgres" / "data"
    data.mkdir(parents=True)
    (data / "thesis.txt").write_text("do not delete")
    if os.geteuid() == 0:
        account = local_postgres.server_account(folder)
        assert account is not None
        os.chown(data, account.uid, account.gid)
    with pytest.raises(PostgresError, match=r"(?s)not a PostgreSQL data directory.*Move it away"):
        made(folder)
    assert (data / "thesis.txt").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_data_of_another_user_is_refused(folder: Path) -> None:
    local = made(folder)
    os.chown(local.data, 4242, 4242)
    with pytest.raises(PostgresError, match=r"(?s)belongs to another user.*Choose another --data-dir"):
        made(folder)


@pytest.mark.skipif(os.geteuid() != 0, reason="an ordinary user reaches its own directories")
async def test_root_runs_it_where_the_server_reaches(folder: Path, supervisor: Supervisor) -> None:
    lock_away(folder)
    local = made(folder)
    assert not local.data.is_relative_to(folder)
    try:
        await supervisor.start(local.child())
        await local.create_database()
        assert await ask(local, "SELECT 1") == 1
        assert made(folder).data == local.data
    finally:
        await supervisor.stop()
        local_postgres.remove(folder / "postgres")
    assert not local.data.exists()


def test_long_path_puts_the_socket_elsewhere(folder: Path) -> None:
    deep = folder / ("d" * 60) / ("e" * 60)
    local = local_postgres.prepare(deep / "postgres", log=folder / "log")
    try:
        assert len(str(local.sockets / local_postgres.SOCKET_NAME)) <= local_postgres.LONGEST_SOCKET_PATH
        assert local.sockets.is_dir()
    finally:
        local_postgres.remove(deep / "postgres")
    assert not local.sockets.exists()


def test_server_ends_when_its_supervisor_is_killed(folder: Path) -> None:
    script = (
        "import asyncio, sys\n"
        "from pathlib import Path\n"
        "from pdp.dev import local_postgres\n"
        "from pdp.dev.supervise import Supervisor\n"
        "async def main():\n"
        "    supervisor = Supervisor()\n"
        "    local = local_postgres.prepare(Path(sys.argv[1]), log=Path(sys.argv[1]) / 'log')\n"
        "    await supervisor.start(local.child())\n"
        "    print(supervisor.pid('postgres'), flush=True)\n"
        "    await asyncio.Event().wait()\n"
        "asyncio.run(main())\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(folder / "postgres")],
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert is_alive(pid)
        parent.send_signal(signal.SIGKILL)
    eventually(lambda: not is_alive(pid), "the server is gone", within=PATIENCE)
