"""The bench measures what it says. Nothing here judges how fast anything is."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest

from bench import drive, seed, stack, workload
from bench.cases import NAIVE, OPA, OURS
from bench.drive import Load, Target
from tests.support.stack import ROOT, RunningStack

SHORT = Load(in_flight=4, seconds=0.3, warmup=0.0)


@pytest.fixture(scope="session")
def running(real_stack: RunningStack) -> stack.Stack:
    return stack.attached(real_stack.data_dir)


@pytest.fixture
async def target(running: stack.Stack) -> Target:
    await workload.prepare(running.grpc)
    return workload.target(running, await workload.open_sessions(running.grpc, 4))


def recorded(running: stack.Stack, sessions: list[str]) -> tuple[int, int]:
    """How many decisions the ledger holds of these sessions, and under how many ids of calls."""
    with psycopg.connect(running.database_url) as connection:
        row = connection.execute(
            "SELECT count(*), count(DISTINCT tool_call_id) FROM placet.ledger"
            " WHERE session_id = ANY (%s) AND effect = 'allow'",
            [sessions],
        ).fetchone()
    assert row is not None
    return row[0], row[1]


@pytest.mark.parametrize("streams", [0, 2], ids=["unary", "streams"])
@pytest.mark.parametrize("rate", [None, 50.0], ids=["closed loop", "open loop"])
async def test_every_answer_is_a_fresh_recorded_decision(
    running: stack.Stack, streams: int, rate: float | None
) -> None:
    await workload.prepare(running.grpc)
    sessions = await workload.open_sessions(running.grpc, 4)
    target = workload.target(running, sessions)
    if streams:
        bodies = [workload.stream_body(body) for body in target.bodies]
        target = replace(target, method=workload.STREAM_METHOD, bodies=bodies, streams=streams)
    measured = drive.drive(drive.build(), target, replace(SHORT, rate=rate))
    assert measured.answered > 0
    assert not measured.failures
    assert recorded(running, sessions) == (measured.answered, measured.answered)
    assert set(measured.cpu_us) == {"pdp", "opa", "postgres", "load"}


async def test_an_answer_of_another_kind_counts_as_a_failure(target: Target) -> None:
    bodies = [workload.body("no-such-session")]
    measured = drive.drive(drive.build(), replace(target, bodies=bodies), replace(SHORT, seconds=1.0))
    assert measured.answered == measured.answers == 0
    assert set(measured.failures) == {"UnexpectedAnswer"}
    assert measured.p99 is None


async def test_a_call_that_fails_counts_under_its_status(target: Target) -> None:
    measured = drive.drive(drive.build(), replace(target, metadata=()), replace(SHORT, seconds=1.0))
    assert set(measured.failures) == {"Unauthenticated"}


async def test_a_generator_that_cannot_start_says_why(target: Target) -> None:
    with pytest.raises(drive.GeneratorError, match="no whole templates"):
        drive.drive(drive.build(), replace(target, bodies=[]), SHORT)


async def test_seeded_sessions_have_their_history_and_can_go_on(running: stack.Stack, target: Target) -> None:
    said: list[str] = []
    sessions = await seed.seed(running, sessions=3, history=5, say=said.append)
    assert recorded(running, sessions) == (15, 15)
    assert said[-1].strip() == "15 of 15 decisions"
    measured = drive.drive(
        drive.build(), replace(target, bodies=[workload.body(session) for session in sessions]), SHORT
    )
    assert not measured.failures
    assert recorded(running, sessions)[0] == 15 + measured.answered


def test_the_bench_runs_every_case_and_writes_its_report(tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "bench", "--profile", "smoke", "--output", str(tmp_path)]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (file,) = tmp_path.iterdir()
    report: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    cases = report["cases"]
    assert list(cases) == [
        "1 in flight", "4 in flight", "half the peak", "stream", "sessions", "history", "payments", "rules",
        "context", "size", "changes", "overload",
    ]  # fmt: skip
    assert {OURS, NAIVE, OPA} <= set(cases["4 in flight"])
    pairs = ("stream", "sessions", "history", "payments", "rules", "context", "size")
    assert {len(cases[case]) for case in pairs} == {2}
    for case, subjects in cases.items():
        for subject, found in subjects.items():
            assert found["median"]["answered"] > 0, f"{case}, {subject}"
            assert case == "overload" or not found["median"]["failures"], f"{case}, {subject}"
    for target in report["targets"]:
        assert target["name"] in done.stdout
