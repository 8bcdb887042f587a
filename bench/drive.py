"""The load generator: a Go program, since one in Python would take the CPU that is measured.

Own code on grpc-go, with bodies that come encoded: ghz renders and encodes every call anew, on the
same cores.
"""

from __future__ import annotations

import json
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import cpu
from placet._transport.channel import CALLS_AT_ONCE

ROOT = Path(__file__).resolve().parent.parent
# Every call gets an id of its own here; see generator/main.go.
MARKER = "@" * 24


class GeneratorError(Exception):
    """The generator cannot be had, or failed; the message says why."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """What is driven: an address, a method, and bodies that hold the marker.

    `expect`: what a right answer holds; the marker in it stands for the call's id.
    `pids`: the processes whose CPU counts, by the name to report them under.
    """

    address: str
    method: str
    bodies: Sequence[bytes]
    metadata: Sequence[tuple[str, str]] = ()
    expect: Sequence[str] = ()
    http: bool = False
    streams: int = 0
    pids: Mapping[str, int]


@dataclass(frozen=True, kw_only=True, slots=True)
class Load:
    """How hard a target is driven. Times are in seconds.

    Without `rate`, a closed loop of `in_flight` calls; with it, so many calls a second.
    """

    in_flight: int = 1
    rate: float | None = None
    seconds: float = 5.0
    warmup: float = 1.0
    timeout: float = 30.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """What one run measured. Times are in milliseconds, and None where nothing was answered.

    `answered` includes answers during the warm-up; `cpu_us` is the CPU time of one answer, by process.
    """

    rate: float
    p50: float | None
    p99: float | None
    answers: int
    answered: int
    failures: Mapping[str, int]
    cpu_us: Mapping[str, float]


def build() -> Path:
    """Return the generator's binary, built if need be. Raises `GeneratorError`."""
    argv = [sys.executable, str(ROOT / "tools" / "build.py"), "generator", "--print"]
    done = subprocess.run(argv, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        raise GeneratorError("the load generator cannot be built; the message above says why")
    return Path(done.stdout.strip())


def encoded(bodies: Iterable[bytes]) -> bytes:
    """The generator's file of bodies: each after its length, a big-endian uint32."""
    return b"".join(struct.pack(">I", len(body)) + body for body in bodies)


def drive(binary: Path, target: Target, load: Load) -> Measured:
    """Run the load. Raises `GeneratorError` if the generator fails; failed calls are counted."""
    with tempfile.NamedTemporaryFile(prefix="placet-bench-") as file:
        file.write(encoded(target.bodies))
        file.flush()
        argv = [
            str(binary),
            f"-target={target.address}",
            f"-method={target.method}",
            f"-templates={file.name}",
            "-metadata=" + ";".join(f"{name}={value}" for name, value in target.metadata),
            "-expect=" + ";".join(target.expect),
            f"-http={str(target.http).lower()}",
            f"-streams={target.streams}",
            f"-inflight={load.in_flight}",
            f"-connections={max(4, load.in_flight // CALLS_AT_ONCE)}",
            f"-rate={load.rate or 0}",
            f"-for={load.seconds}s",
            f"-warmup={load.warmup}s",
            f"-timeout={load.timeout}s",
        ]
        before = cpu.usage(target.pids)
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        after = cpu.usage(target.pids)
    if done.returncode != 0:
        raise GeneratorError(done.stderr.strip() or f"the generator ended with {done.returncode}")
    report = json.loads(done.stdout)
    answered = report["answered"]
    used = {name: after[name] - before[name] for name in target.pids} | {"load": report["cpu_seconds"]}
    return Measured(
        rate=report["rate"],
        p50=report["p50_ms"],
        p99=report["p99_ms"],
        answers=report["answers"],
        answered=answered,
        failures=report["failures"],
        cpu_us={name: spent / max(answered, 1) * 1e6 for name, spent in used.items()},
    )


def shown(measured: Measured) -> str:
    """Return what was measured as one line of text."""
    cpu = "  ".join(f"{name} {spent:.0f}" for name, spent in measured.cpu_us.items())
    failed = f"  failures {dict(measured.failures)}" if measured.failures else ""
    p50, p99 = (f"{value:.1f}" if value is not None else "-" for value in (measured.p50, measured.p99))
    return f"{measured.rate:.0f}/s  p50 {p50} ms  p99 {p99} ms  CPU µs: {cpu}{failed}"
