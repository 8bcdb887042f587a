"""`pdp dev` on real processes: side by side, again on the same data, after deaths, to the end."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import yaml

from tests.support.processes import PATIENCE, eventually, is_alive, running_with
from tests.support.stack import (
    COMMAND,
    ROOT,
    START_PATIENCE,
    RealPdp,
    RunningStack,
    running_stack,
    stack_directory,
    start_stack,
)


@pytest.fixture
def data_dir() -> Iterator[Path]:
    with stack_directory() as directory:
        yield directory


@pytest.fixture(scope="module")
def stack() -> Iterator[RunningStack]:
    """One that the tests of this file may harm."""
    with running_stack() as stack:
        yield stack


def refused(data_dir: Path, *options: str) -> str:
    """Run `pdp dev` where it must refuse, and return what it said."""
    done = subprocess.run(
        [*COMMAND, "--data-dir", str(data_dir), *options],
        cwd=ROOT,
        env={**os.environ, "NO_COLOR": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=START_PATIENCE,
        check=False,
    )
    assert done.returncode == 1, done.stdout
    assert "Traceback" not in done.stdout
    return done.stdout


def test_stacks_run_side_by_side(stack: RunningStack) -> None:
    with running_stack() as other:
        assert stack.ready()
        assert other.ready()
        assert not set(stack.pids().values()) & set(other.pids().values())


@pytest.mark.parametrize("part", ["opa", "postgres", "pdp-1"])
def test_part_that_is_killed_comes_back(stack: RunningStack, part: str) -> None:
    before = stack.pids()
    os.kill(before[part], signal.SIGKILL)
    stack.restarted(part, before[part])
    eventually(stack.ready, "the PDP is ready again")
    if part != "pdp-1":
        assert stack.pids()["pdp-1"] == before["pdp-1"], "the PDP recovers without a restart"


def test_second_stack_on_one_directory_is_refused(stack: RunningStack) -> None:
    said = refused(stack.data_dir, "--ports", "auto")
    assert f"Another stack (process {stack.process.pid}) uses" in said
    assert "choose another --data-dir" in said
    assert stack.ready()


def test_busy_port_is_refused_with_advice(data_dir: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        said = refused(data_dir, "--grpc-port", str(port))
    assert f"Port {port} is in use" in said
    assert "--ports auto" in said


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopping_leaves_no_process(data_dir: Path, number: signal.Signals) -> None:
    with running_stack(data_dir=data_dir) as stack:
        assert stack.stop(number) == 0
        assert not running_with(str(data_dir))


def test_stopping_while_it_starts_leaves_no_process(data_dir: Path) -> None:
    stack = start_stack(data_dir, "--ports", "auto")
    eventually(lambda: "postgres serves" in stack.log, "the database is up", within=START_PATIENCE)
    assert stack.stop() == 0
    assert not running_with(str(data_dir))


def test_killed_stack_leaves_no_process_and_starts_again(data_dir: Path) -> None:
    with running_stack(data_dir=data_dir) as stack:
        pids = stack.pids()
        stack.process.kill()
        stack.process.wait(PATIENCE)
        eventually(lambda: not any(map(is_alive, pids.values())), "every process is gone")
        (data_dir / "stack.json").unlink()
    with running_stack(data_dir=data_dir) as stack:
        assert stack.ready()


def test_keys_outlive_a_restart(data_dir: Path) -> None:
    def key_ids(stack: RunningStack) -> set[str]:
        return {key["kid"] for key in RealPdp(stack=stack).jwks()["keys"]}

    with running_stack(data_dir=data_dir) as stack:
        before = key_ids(stack)
        stack.stop()
    with running_stack(data_dir=data_dir) as stack:
        assert before < key_ids(stack)


def test_replicas_share_one_database(real_stack: RunningStack) -> None:
    first, second = RealPdp(stack=real_stack), RealPdp(stack=real_stack, replica=2)
    assert first.target != second.target
    assert first.jwks() == second.jwks()


def test_server_logs_in_as_somebody_who_owns_nothing(real_stack: RunningStack) -> None:
    config = yaml.safe_load((real_stack.data_dir / "pdp-1.yaml").read_text())
    with psycopg.connect(config["database_url"]) as connection:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("SELECT count(*) FROM placet.ledger")
        connection.rollback()
        for statement in ("DELETE FROM placet.ledger", "UPDATE placet.ledger SET kind = 'x'"):
            connection.execute("SET ROLE placet_server")
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(statement)
            connection.rollback()
