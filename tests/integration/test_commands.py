"""What make and integration lean on: the tool builder, the terminal's foreground job, `.ci/run`."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pty
import shlex
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from pdp.dev.stack import find_opa
from tests.support.processes import PATIENCE, eventually, is_alive

ROOT = Path(__file__).parents[2]
FOREGROUND = str(ROOT / "tools" / "foreground.py")
# Serves until SIGINT or SIGTERM, then ends well.
SERVER = (
    "import os, signal, sys\n"
    "def stop(number, frame):\n"
    "    os.write(1, b'stopped by %d\\n' % number); sys.exit(0)\n"
    "signal.signal(signal.SIGINT, stop); signal.signal(signal.SIGTERM, stop)\n"
    "os.write(1, b'serving %d\\n' % os.getpid())\n"
    "while True: signal.pause()\n"
)


@pytest.fixture
def makefile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    # Under `make test` this make would be a part of that one, and say so in between.
    for name in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS", "MAKEOVERRIDES"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "server.py").write_text(SERVER)
    path = tmp_path / "Makefile"
    path.write_text(f'run:\n\t@exec "{sys.executable}" "{FOREGROUND}" "{sys.executable}" server.py\n')
    return path


def test_ctrl_c_in_a_terminal_ends_make_without_an_error(makefile: Path) -> None:
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(makefile.parent)
        os.execvp("make", ["make", "run"])
    seen = ""
    while "serving" not in seen:
        seen += os.read(terminal, 1000).decode()
    os.write(terminal, b"\x03")
    with contextlib.suppress(OSError):  # EIO: the terminal's other end closed
        while more := os.read(terminal, 1000):
            seen += more.decode()
    os.close(terminal)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0, seen
    assert f"stopped by {int(signal.SIGINT)}" in seen
    assert "Error" not in seen


def test_terminated_make_stops_what_it_runs(makefile: Path) -> None:
    make = subprocess.Popen(["make", "run"], cwd=makefile.parent, stdout=subprocess.PIPE, text=True)
    assert make.stdout is not None
    word, _, pid = make.stdout.readline().partition(" ")
    assert word == "serving"
    make.terminate()
    assert make.stdout.readline() == f"stopped by {int(signal.SIGTERM)}\n"
    make.wait(PATIENCE)
    make.stdout.close()
    eventually(lambda: not is_alive(int(pid)), "the command is gone")


def test_killed_make_stops_what_it_runs(makefile: Path) -> None:
    make = subprocess.Popen(["make", "run"], cwd=makefile.parent, stdout=subprocess.PIPE, text=True)
    assert make.stdout is not None
    pid = int(make.stdout.readline().split()[1])
    make.kill()
    make.wait(PATIENCE)
    eventually(lambda: not is_alive(pid), "the command is gone")
    make.stdout.close()


def build(tools: Path, *arguments: str, path: str = "") -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PATH": path or os.environ["PATH"]}
    return subprocess.run(
        [sys.executable, str(tools / "build.py"), *arguments],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    """A project with one small tool."""
    folder = tmp_path / "a project" / "tools"
    (folder / "hello").mkdir(parents=True)
    (folder / "build.py").write_bytes((ROOT / "tools" / "build.py").read_bytes())
    (folder / "hello" / "go.mod").write_text(
        "module example.com/hello\n\ngo 1.21\n\ntool example.com/hello\n"
    )
    (folder / "hello" / "go.sum").write_text("")
    (folder / "hello" / "main.go").write_text('package main\n\nfunc main() { println("hello") }\n')
    return folder


def test_tool_is_built_once(tools: Path) -> None:
    first = build(tools, "hello", "--print")
    assert first.returncode == 0, first.stderr
    binary = Path(first.stdout.strip())
    assert subprocess.run([str(binary)], capture_output=True, check=True).stderr == b"hello\n"
    made = binary.stat().st_mtime_ns
    again = build(tools, "hello", "--print")
    assert (again.returncode, again.stderr) == (0, "")
    assert binary.stat().st_mtime_ns == made


def test_changed_go_sum_builds_again(tools: Path) -> None:
    assert build(tools, "hello").returncode == 0
    (tools / "hello" / "go.sum").write_text("\n")
    assert "built in" in build(tools, "hello").stderr


def test_callers_at_the_same_time_build_once(tools: Path) -> None:
    results: list[subprocess.CompletedProcess[str]] = []
    threads = [threading.Thread(target=lambda: results.append(build(tools, "hello"))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [result.returncode for result in results] == [0, 0, 0]
    assert sum("built in" in result.stderr for result in results) == 1


def test_failed_build_says_why_and_leaves_nothing(tools: Path) -> None:
    (tools / "hello" / "main.go").write_text("package main\n\nfunc main() { nonsense }\n")
    failed = build(tools, "hello")
    assert failed.returncode == 1
    assert "undefined: nonsense" in failed.stderr
    assert not list((tools.parent / ".tools" / "bin").iterdir())


def endless_go(tools: Path) -> Path:
    """Make a Go that compiles in a process of its own without end; return the folder that has it."""
    folder = tools / "bin"
    folder.mkdir()
    (folder / "go").write_text(
        "#!/bin/sh\n"
        "case $1 in env) printf 'go1.99.0\\nlocal\\n' ;;"
        f" *) sleep 600 & echo $! > {shlex.quote(str(folder / 'compiling'))}; wait ;; esac\n"
    )
    (folder / "go").chmod(0o755)
    return folder


def compiler_of(folder: Path) -> int:
    noted = folder / "compiling"
    eventually(lambda: noted.exists() and noted.read_text().strip(), "it compiles")
    return int(noted.read_text())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_build_leaves_nothing_running(tools: Path, number: signal.Signals) -> None:
    folder = endless_go(tools)
    process = subprocess.Popen(
        [sys.executable, str(tools / "build.py"), "hello"],
        env={**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"},
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    compiler = compiler_of(folder)
    process.send_signal(number)
    assert process.wait(PATIENCE) == 130
    eventually(lambda: not is_alive(compiler), "what it started has ended")
    assert not list((tools.parent / ".tools" / "bin").iterdir())


async def test_stack_that_is_stopped_during_the_first_build_leaves_nothing_running(
    tools: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = endless_go(tools)
    (tools / "hello").rename(tools / "opa")
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setattr("pdp.dev.stack.ROOT", tools.parent)
    finding = asyncio.create_task(find_opa())
    compiler = await asyncio.to_thread(compiler_of, folder)
    finding.cancel()
    with pytest.raises(asyncio.CancelledError):
        await finding
    eventually(lambda: not is_alive(compiler), "what it started has ended")


def test_too_old_go_says_what_to_install(tools: Path) -> None:
    (tools / "hello" / "go.mod").write_text("module example.com/hello\n\ngo 9.99\n\ntool example.com/hello\n")
    old = tools / "bin"
    old.mkdir()
    (old / "go").write_text("#!/bin/sh\nprintf 'go1.22.1\\nlocal\\n'\n")
    (old / "go").chmod(0o755)
    refused = build(tools, "hello", path=f"{old}:{os.environ['PATH']}")
    assert refused.returncode == 1
    assert "is Go 1.22.1, which is too old" in refused.stderr
    assert "https://go.dev/dl/" in refused.stderr


# Says what it was told, and ends as the test runner does. `make test` fails if FAILING is set, and
# `make test-data` if FAILING_ON_DATA is.
MAKE = """#!/bin/sh
echo "make $* with data ${PLACET_TEST_DATA:-none}"
if [ "$1" = test-data ]; then
    [ -z "$FAILING_ON_DATA" ] || { echo "===== 1 failed, 2 passed in 0.10s ====="; exit 1; }
    echo "===== 3 passed in 0.10s ====="
    exit 0
fi
echo "total                     22073   84.2 %"
echo "===== 1 passed in 5.00s ====="
[ -z "$FAILING" ]
"""


@pytest.fixture
def continuous_integration(tmp_path: Path) -> Path:
    """A project with `.ci/run` and a make that does nothing."""
    project = tmp_path / "project"
    (project / ".ci").mkdir(parents=True)
    (project / ".ci" / "run").write_bytes((ROOT / ".ci" / "run").read_bytes())
    (project / "bin").mkdir()
    (project / "bin" / "make").write_text(MAKE)
    (project / "bin" / "make").chmod(0o755)
    return project


def run_integration(project: Path, **environment: str) -> tuple[int, list[str]]:
    done = subprocess.run(
        ["bash", str(project / ".ci" / "run")],
        env={"PATH": f"{project / 'bin'}:{os.environ['PATH']}", **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert not done.stderr
    return done.returncode, done.stdout.splitlines()


def test_integration_says_that_it_did_without_data_from_outside(continuous_integration: Path) -> None:
    code, lines = run_integration(continuous_integration)
    assert code == 0
    assert not any("test-data with" in line for line in lines)
    assert any(line.startswith("LEFT OUT: tests on data from outside the repository") for line in lines)
    assert lines[-2:] == [
        "Coverage, in the process of the tests: 84.2 %",
        "===== 1 passed in 5.00s =====",
    ]


def test_integration_reads_data_that_stands_beside_the_repository(continuous_integration: Path) -> None:
    beside = continuous_integration.parent / "shared" / "data"
    beside.mkdir(parents=True)
    code, lines = run_integration(continuous_integration)
    assert code == 0
    assert f"make test-data with data {continuous_integration}/../shared/data" in lines
    assert not any("LEFT OUT" in line for line in lines)
    assert lines[-1] == "===== 1 passed in 5.00s ====="


def test_integration_never_does_without_data_that_was_named(continuous_integration: Path) -> None:
    _, lines = run_integration(continuous_integration, PLACET_TEST_DATA="/nowhere")
    assert "make test-data with data /nowhere" in lines


def test_integration_ends_with_what_failed_on_data_from_outside(continuous_integration: Path) -> None:
    code, lines = run_integration(continuous_integration, PLACET_TEST_DATA="/data", FAILING_ON_DATA="yes")
    assert code == 1
    assert lines[-3:] == [
        "===== 1 passed in 5.00s =====",
        "FAILED: tests on data from outside the repository.",
        "===== 1 failed, 2 passed in 0.10s =====",
    ]


def test_failed_tests_fail_the_integration(continuous_integration: Path) -> None:
    code, lines = run_integration(continuous_integration, FAILING="yes")
    assert code != 0
    assert lines[-1] == "===== 1 passed in 5.00s ====="
