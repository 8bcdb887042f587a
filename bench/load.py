"""Drive the PDP alone, for whoever profiles it: `python -m bench.load --in-flight 64 --seconds 10`.

Starts a stack and deletes it, or uses the one that runs in --data-dir (`pdp dev`).
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from pathlib import Path
from typing import Annotated

import typer

from bench import drive, stack, workload
from bench.drive import Load


def load(
    in_flight: Annotated[int, typer.Option(min=1, help="Closed loop: calls in flight.")] = 64,
    rate: Annotated[float | None, typer.Option(help="Open loop instead: calls a second.")] = None,
    sessions: Annotated[int, typer.Option(min=1, help="Sessions to spread them over.")] = 1024,
    seconds: Annotated[float, typer.Option(help="How long a round measures.")] = 5.0,
    rounds: Annotated[int, typer.Option(min=1)] = 1,
    data_dir: Annotated[Path | None, typer.Option(help="Use the stack that runs in this directory.")] = None,
) -> None:
    """Load the PDP and print decisions a second, latency and CPU a decision by process."""
    binary = drive.build()
    with contextlib.ExitStack() as cleanup:
        pdp = stack.attached(data_dir) if data_dir else cleanup.enter_context(stack.running())
        asyncio.run(workload.prepare(pdp.grpc))
        opened = asyncio.run(workload.open_sessions(pdp.grpc, sessions))
        print(f"PDP {pdp.grpc}, process {pdp.pdp_pid}; {sessions} sessions", file=sys.stderr)
        target = workload.target(pdp, opened)
        for _ in range(rounds):
            print(
                drive.shown(
                    drive.drive(binary, target, Load(in_flight=in_flight, rate=rate, seconds=seconds))
                )
            )


if __name__ == "__main__":
    typer.run(load)
