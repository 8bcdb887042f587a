"""What the Makefile leans on: the tool builder and the terminal's foreground job."""

from __future__ import annotations

import contextlib
import os
import pty
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

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
