"""`pdp dev`: run a stack until Ctrl-C, and play the first story on it if asked."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from pdp.dev import control
from pdp.dev.stack import GRPC_PORT, HTTP_PORT, Stack, StackError, StackOptions
from pdp.dev.terminal import Terminal

T = TypeVar("T")
DEFAULT_DATA_DIR = Path(".placet/dev")

EPILOG = """\
Examples:

  pdp dev                                  # serve on 7433 (gRPC) and 7434 (HTTP) until Ctrl-C

  pdp dev --story --once                   # play the first story and end; non-zero if anything differed

  pdp dev --replicas 2 --ports auto --data-dir /tmp/two

  pdp dev --clock manual                   # the clock moves when DevService.AdvanceClock says so

Environment: DATABASE_URL names a database to use instead of a local one; NO_COLOR turns colour off.
"""


def dev(
    replicas: Annotated[
        int,
        typer.Option(min=1, max=16, help="PDP processes on one database; each listens on ports of its own."),
    ] = 1,
    data_dir: Annotated[
        Path, typer.Option(help="Where database, keys and logs live; a later run goes on from there.")
    ] = DEFAULT_DATA_DIR,
    ports: Annotated[
        str,
        typer.Option(
            metavar="fixed|auto", help="auto: free ports, so that any number of stacks run side by side."
        ),
    ] = "fixed",
    grpc_port: Annotated[
        int, typer.Option(min=1, max=65535, help="gRPC of the first replica; the next ones take 2 more each.")
    ] = GRPC_PORT,
    http_port: Annotated[
        int, typer.Option(min=1, max=65535, help="HTTP of the first replica; the next ones take 2 more each.")
    ] = HTTP_PORT,
    clock: Annotated[
        str,
        typer.Option(metavar="system|manual", help="manual: the database's clock can be moved, for tests."),
    ] = "system",
    with_story: Annotated[bool, typer.Option("--story", help="Play the first story.")] = False,
    with_control: Annotated[
        bool,
        typer.Option(
            "--control",
            help="For programs: take commands as JSON lines on standard input, until its end. "
            "The first line out describes the stack.",
        ),
    ] = False,
    once: Annotated[
        bool, typer.Option("--once", help="End when everything is up and the story is over.")
    ] = False,
) -> None:
    """Run everything on this machine: PostgreSQL, OPA and the PDP, until Ctrl-C.

    What dies is started again. Callers name themselves in metadata and are believed, so everything
    listens on loopback only.
    """
    options = StackOptions(
        data_dir=data_dir,
        replicas=replicas,
        grpc_port=grpc_port,
        http_port=http_port,
        any_ports=one_of("--ports", ports, "fixed", "auto") == "auto",
        manual_clock=one_of("--clock", clock, "system", "manual") == "manual",
    )
    if with_control and (with_story or once):
        raise typer.BadParameter("goes with neither --story nor --once", param_hint="--control")
    work = run(options, with_story=with_story, once=once, with_control=with_control)
    raise typer.Exit(asyncio.run(work))


def add_to(app: typer.Typer) -> None:
    """Make `dev` a command of `app`."""
    app.command(epilog=EPILOG)(dev)


def one_of(option: str, given: str, *known: str) -> str:
    if given not in known:
        raise typer.BadParameter(f"{given!r} is none of {', '.join(known)}", param_hint=option)
    return given


async def run(options: StackOptions, *, with_story: bool, once: bool, with_control: bool) -> int:
    """Return the exit code: 0 after an orderly stop, 1 if something failed or the story differed."""
    # Under --control, standard output carries answers only.
    terminal = Terminal(sys.stderr if with_control else sys.stdout)
    stack = Stack(options=options, say=terminal.note)
    work = asyncio.current_task()
    assert work is not None
    stopping = asyncio.Event()

    def stop(number: signal.Signals) -> None:
        if stopping.is_set():
            return
        stopping.set()
        work.cancel()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, stop, number)
    code = 0
    try:
        code = await serve(stack, terminal, with_story=with_story, once=once, with_control=with_control)
    except StackError as exc:
        terminal.error(str(exc))
        code = 1
    except asyncio.CancelledError:
        if not stopping.is_set():
            raise
        work.uncancel()
    finally:
        # From here on a signal changes nothing: stopping is bounded.
        stopping.set()
        await stop_all(stack, terminal)
    return code


async def stop_all(stack: Stack, terminal: Terminal) -> None:
    terminal.note("Stopping")
    began = time.monotonic()
    await stack.stop()
    terminal.note(f"Stopped in {time.monotonic() - began:.1f} s; the data stays in {shown(stack.directory)}")


async def serve(stack: Stack, terminal: Terminal, *, with_story: bool, once: bool, with_control: bool) -> int:
    terminal.title("Placet: the policy decision point for AI agents")
    await stack.start()
    if with_control:
        await unless_failed(stack, control.serve(stack))
        return 0
    code = 0
    if with_story:
        # It imports gRPC, which `pdp serve` must be first to do.
        from pdp.dev import story

        code = 0 if await unless_failed(stack, story.play(stack, terminal)) else 1
    addresses(stack, terminal)
    if once:
        return code
    terminal.note("Serving until Ctrl-C" if os.isatty(0) else "Serving until SIGINT or SIGTERM")
    await stack.failed.wait()
    raise StackError(stack.failure)


async def unless_failed(stack: Stack, work: Coroutine[Any, Any, T]) -> T:
    """Do `work`, unless a child is given up first. Raises `StackError` then."""
    working = asyncio.create_task(work)
    failed = asyncio.create_task(stack.failed.wait())
    try:
        await asyncio.wait({working, failed}, return_when=asyncio.FIRST_COMPLETED)
        if stack.failed.is_set():
            raise StackError(stack.failure)
        return working.result()
    finally:
        for task in (working, failed):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


def addresses(stack: Stack, terminal: Terminal) -> None:
    terminal.blank()
    for replica in stack.replicas:
        terminal.fact(replica.name, f"gRPC {replica.grpc_address}   HTTP {replica.http_url}")
        terminal.fact(
            "", f"metrics {replica.http_url}/metrics   keys {replica.http_url}/.well-known/jwks.json"
        )
    terminal.fact("machine-readable", shown(stack.description))
    terminal.fact("logs", shown(stack.directory / "logs"))
    terminal.blank()


def shown(path: Path) -> str:
    """Return the path as one would type it in the current directory."""
    with contextlib.suppress(ValueError):
        return str(path.relative_to(Path.cwd()))
    return str(path)
