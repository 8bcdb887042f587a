#!/usr/bin/env python3
"""Build the project's Go tools: `tools/build.py opa regal buf generator`.

Each tool is a Go module of its own (tools/NAME/go.mod with one `tool` directive, go.sum beside it),
so that its version is pinned by checksum. Binaries go to .tools/bin; one that was built from the
same go.mod and go.sum is left alone. Callers at the same time wait for each other. An `opa` on PATH
of exactly the pinned version is used instead of a build.

Standard library only: this runs before anything is installed. Prints the path of each binary with
`--print`; exit code 1 with a message that says what to do when a tool cannot be had.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import BinaryIO, NoReturn

ROOT = Path(__file__).resolve().parent.parent
STORE = ROOT / ".tools"
# Programs of our own, with their source beside go.mod.
OWN_SOURCE = {"generator": ROOT / "bench" / "generator"}
# Go fetches a newer toolchain by itself since this version (go.dev/doc/toolchain).
SELF_UPDATING_GO = (1, 21)
USUAL_GO = ("/usr/local/go/bin/go", "/usr/lib/go/bin/go", "/opt/homebrew/bin/go", "/snap/bin/go")


class ToolError(Exception):
    """A tool cannot be had; the message says what to do."""


class Module:
    """What tools/NAME/go.mod says."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.directory = OWN_SOURCE.get(name, ROOT / "tools" / name)
        try:
            self.text = (self.directory / "go.mod").read_text(encoding="utf-8")
            sums = (self.directory / "go.sum").read_bytes()
        except FileNotFoundError as exc:
            raise ToolError(f"there is no tool called {name}: {exc.filename} is missing") from exc
        source = [path.read_bytes() for path in sorted(self.directory.glob("*.go"))]
        self.key = hashlib.sha256(b"\0".join([self.text.encode(), sums, *source])).hexdigest()
        if source:
            self.package = "."
            return
        package = re.search(r"^tool\s+(\S+)$", self.text, re.MULTILINE)
        if package is None:
            raise ToolError(f"{self.directory / 'go.mod'} has no tool directive")
        self.package = package.group(1)

    @property
    def version(self) -> str:
        """The pinned version, for example v1.22.2.

        Several modules may be prefixes of the package; the longest is the one that it is in.
        """
        found = [
            (len(path), version)
            for path, version in re.findall(r"^\s*(?:require\s+)?(\S+)\s+(v\S+)", self.text, re.MULTILINE)
            if self.package == path or self.package.startswith(path + "/")
        ]
        return max(found)[1] if found else "of this checkout"

    @property
    def go(self) -> tuple[int, ...]:
        """The version of the oldest Go that builds the tool."""
        line = re.search(r"^go\s+([\d.]+)", self.text, re.MULTILINE)
        return numbers(line.group(1)) if line else (1, 21)


def numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part)


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def find_go(module: Module) -> str:
    """Return a Go that can build `module`; ToolError says what to install."""
    needed = ".".join(map(str, module.go))
    advice = (
        f"Building {module.name} {module.version} needs Go {needed} or newer.\n"
        "  Install it from https://go.dev/dl/ and put its bin directory on PATH, then run this again."
    )
    if module.name == "opa":
        advice += f"\n  Or put an opa of exactly version {module.version[1:]} on PATH."
    go = shutil.which("go") or next((path for path in USUAL_GO if os.access(path, os.X_OK)), None)
    if go is None:
        raise ToolError(f"Go was not found. {advice}")
    asked = subprocess.run(
        [go, "env", "GOVERSION", "GOTOOLCHAIN"], cwd=ROOT.anchor, capture_output=True, text=True
    )
    if asked.returncode != 0:
        raise ToolError(f"{go} does not work: {asked.stderr.strip()}\n{advice}")
    version, _, toolchain = asked.stdout.strip().partition("\n")
    found = re.match(r"go([\d.]+)", version)
    have = numbers(found.group(1)) if found else module.go
    if have < module.go and (have < SELF_UPDATING_GO or toolchain.startswith("local")):
        raise ToolError(f"{go} is Go {version.removeprefix('go')}, which is too old. {advice}")
    return go


def opa_version(path: Path | str) -> str:
    try:
        done = subprocess.run([str(path), "version"], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    line = re.search(r"^Version:\s*(\S+)", done.stdout, re.MULTILINE)
    return line.group(1) if line else ""


def ready_made_opa(module: Module, target: Path) -> Path | None:
    """Return an opa on PATH that is exactly of the pinned version; None if there is none."""
    for folder in os.environ.get("PATH", "").split(os.pathsep):
        path = Path(folder or ".") / "opa"
        if os.access(path, os.X_OK) and path.absolute() != target and path.is_file():
            return path.resolve() if opa_version(path) == module.version[1:] else None
    return None


def is_current(module: Module, target: Path, stamp: Path) -> bool:
    if not os.access(target, os.X_OK):
        return False
    if target.is_symlink():
        return opa_version(target) == module.version[1:]
    try:
        return stamp.read_text(encoding="utf-8") == module.key
    except FileNotFoundError:
        return False


class Progress:
    """Says every few seconds that something long is still running."""

    def __init__(self, what: str, hint: str) -> None:
        self.what, self.hint = what, hint
        self.done = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.started = time.monotonic()

    def _run(self) -> None:
        terminal = sys.stderr.isatty()
        while not self.done.wait(1 if terminal else 10):
            elapsed = int(time.monotonic() - self.started)
            line = f"  {self.what} … {elapsed} s ({self.hint})"
            if terminal:
                print(f"\r\033[K{line}", end="", file=sys.stderr, flush=True)
            else:
                say(line)
        if terminal:
            print("\r\033[K", end="", file=sys.stderr, flush=True)

    def __enter__(self) -> Progress:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.done.set()
        self.thread.join()


def run_whole(argv: list[str], *, cwd: Path, environment: dict[str, str], out: BinaryIO) -> int:
    """Run a program and return its exit code; nothing that it started outlives an interruption of us."""
    process = subprocess.Popen(
        argv,
        cwd=cwd,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=out,
        stderr=out,
        start_new_session=True,
    )
    try:
        return process.wait()
    finally:
        # Go compiles in processes of its own, which would go on without it.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def interrupt(number: int, frame: object) -> NoReturn:
    raise KeyboardInterrupt


def compile_tool(module: Module, target: Path) -> None:
    """Compile into a file beside `target`, then rename: nobody ever sees half a binary."""
    go = find_go(module)
    partial = target.with_name(f".{target.name}.{os.getpid()}")
    argv = [go, "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", str(partial), module.package]
    environment = {**os.environ, "CGO_ENABLED": "0", "GOWORK": "off"}
    environment["PATH"] = os.pathsep.join([str(Path(go).parent), environment.get("PATH", os.defpath)])
    log = STORE / f"{module.name}.log"
    started = time.monotonic()
    say(f"Building {module.name} {module.version}, once (log: {log.relative_to(ROOT)})")
    try:
        with log.open("wb") as out, Progress(module.name, "a first build takes one to three minutes"):
            code = run_whole(argv, cwd=module.directory, environment=environment, out=out)
        if code != 0:
            tail = "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-15:])
            raise ToolError(
                f"go build of {module.name} failed:\n{tail}\n"
                "If this is a network error, run the same command again; "
                "behind a proxy set GOPROXY (see `go help goproxy`)."
            )
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
    say(f"  {module.name} built in {time.monotonic() - started:.0f} s")


def provide(name: str) -> Path:
    """Return the tool's binary, building it if it is missing or not of the pinned version."""
    module = Module(name)
    target, stamp = STORE / "bin" / name, STORE / f"{name}.key"
    target.parent.mkdir(parents=True, exist_ok=True)
    if is_current(module, target, stamp):
        return target
    with (STORE / f"{name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"Waiting for another build of {name}")
            fcntl.flock(lock, fcntl.LOCK_EX)
        if is_current(module, target, stamp):
            return target
        stamp.unlink(missing_ok=True)
        found = ready_made_opa(module, target) if name == "opa" else None
        if found is not None:
            say(f"Using {found}, which is opa {module.version}")
            target.unlink(missing_ok=True)
            target.symlink_to(found)
        else:
            compile_tool(module, target)
            stamp.write_text(module.key, encoding="utf-8")
    return target


def main() -> int:
    parser = argparse.ArgumentParser(description="Build the project's Go tools into .tools/bin.")
    parser.add_argument("tool", nargs="+", help="opa, regal, buf or generator")
    parser.add_argument("--print", action="store_true", dest="show", help="print the paths of the binaries")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, interrupt)
    try:
        for name in arguments.tool:
            path = provide(name)
            if arguments.show:
                print(path)
    except ToolError as exc:
        say(f"error: {exc}")
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
