"""`placet scenario`: run scenarios, and print the schema of their format."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from placet.cli.connection import offline
from placet.cli.exits import CommandError
from placet.cli.inputs import read_bytes
from placet.cli.output import escaped_json, printable

# The format's model costs a third of a second to import; other commands need none of it.

app = typer.Typer(
    help="Ask a PDP what scenario files say, and compare.",
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    rich_markup_mode=None,
)

_STYLES = {"allow": "green", "block": "red", "escalate": "yellow", "error": "magenta"}
_EXITS = """\
\b
Exit codes:
  0  everything came out as expected
  1  something came out otherwise
  2  a file or the command line is wrong, or there is no stack to run on; nothing has run
"""


@app.command(
    epilog=f"""\
\b
Examples:
  placet scenario run payments.yaml                        # on localhost:7433
  placet scenario run *.yaml --target a:7433 --target b:7433 --junit report.xml
  placet scenario run story.yaml --stack                   # on a stack of its own

{_EXITS}"""
)
@offline
def run(
    files: Annotated[list[str], typer.Argument(metavar="FILE…", help="Scenarios in YAML.")],
    target: Annotated[
        list[str] | None,
        typer.Option(envvar="PLACET_TARGET", help="Where a replica listens; once for each. [localhost:7433]"),
    ] = None,
    stack: Annotated[
        bool, typer.Option("--stack", help="Bring up a stack of its own with the server installed here.")
    ] = False,
    replicas: Annotated[int, typer.Option(min=1, max=16, help="PDP processes of --stack.")] = 2,
    tenant: Annotated[
        str, typer.Option(help="Run in this tenant, whose settings are replaced; else in a fresh one.")
    ] = "",
    timeout: Annotated[
        float,
        typer.Option(envvar="PLACET_TIMEOUT", min=0.001, max=3600, help="Deadline of a call, in seconds."),
    ] = 20.0,
    callers: Annotated[
        str,
        typer.Option(metavar="FILE", help="Credentials of the callers, by subject; calls go over TLS."),
    ] = "",
    ca: Annotated[
        str, typer.Option(envvar="PLACET_CA", help="With --callers: authorities of the PDP, a PEM file.")
    ] = "",
    jwks: Annotated[
        str, typer.Option(envvar="PLACET_JWKS", help="Address of the JWK Set to check receipts with.")
    ] = "",
    form: Annotated[str, typer.Option("--format", metavar="table|json")] = "table",
    junit: Annotated[Path | None, typer.Option(help="Write JUnit XML to this file, too.")] = None,
) -> None:
    """Run scenarios, and compare. Without --callers the PDP must be one in --insecure-dev."""
    from placet.scenario.command import FaultsError, Options, load_all, run_all
    from placet.scenario.report import as_json, as_junit
    from placet.scenario.stack import StackError

    if form not in ("table", "json"):
        raise CommandError(f"--format: {form!r} is neither table nor json")
    if jwks and not jwks.startswith(("http://", "https://")):
        raise CommandError(f"--jwks: {jwks!r} is no http or https address")
    if target and not all(target):
        raise CommandError("--target: where is the PDP? for example localhost:7433")
    if tenant and not tenant.isascii():
        raise CommandError(f"--tenant: {tenant!r} is not ASCII")
    credentials = _credentials(callers, ca, tenant, stack=stack) if callers else None
    options = Options(
        targets=tuple(target or ["localhost:7433"]),
        own_stack=stack,
        replicas=replicas,
        tenant=tenant,
        timeout=timeout,
        jwks=jwks,
        credentials=credentials,
    )
    try:
        scenarios = load_all([(name, _text(name)) for name in files], options)
    except FaultsError as exc:
        for fault in exc.faults:
            typer.echo(printable(str(fault)), err=True)
        raise CommandError(f"{len(exc.faults)} faults; nothing has run") from exc
    try:
        results = asyncio.run(run_all(scenarios, options, _listener(quiet=form == "json")))
    except StackError as exc:
        raise CommandError(f"no stack: {exc}") from exc
    if form == "json":
        typer.echo(escaped_json(json.dumps(as_json(results), ensure_ascii=False, indent=1)))
    if junit is not None:
        try:
            junit.write_bytes(as_junit(results))
        except OSError as exc:
            raise CommandError(f"{junit}: {exc.strerror or exc}") from exc
    raise typer.Exit(0 if all(result.ok for result in results) else 1)


@app.command(epilog="\b\nExample:\n  placet scenario schema > scenario.schema.json\n")
@offline
def schema() -> None:
    """Print the JSON Schema of the format, for editors."""
    from placet.scenario.scenario import json_schema

    typer.echo(json.dumps(json_schema(), indent=1, ensure_ascii=False))


def _credentials(callers: str, ca: str, tenant: str, *, stack: bool) -> Any:
    from placet.scenario.credentials import CallersError, read_credentials

    if stack:
        raise CommandError("--callers is for a running PDP; a stack of our own believes names")
    if not tenant:
        raise CommandError("--callers: give the tenant of the credentials with --tenant")
    try:
        return read_credentials(_text(callers), callers, ca)
    except CallersError as exc:
        raise CommandError(str(exc)) from exc


def _text(name: str) -> str:
    try:
        return read_bytes(name).decode("utf-8")
    except UnicodeDecodeError as exc:
        raise CommandError(f"{name}: is not UTF-8") from exc


def _listener(*, quiet: bool) -> Any:
    from placet.scenario.command import Listener

    if quiet:
        return Listener(begins=lambda *_: None, step=lambda _: None, ends=lambda _: None)
    out = Console(highlight=False, soft_wrap=True)
    return Listener(
        begins=lambda scenario, file: out.print(Text(printable(f"{scenario.name}  ({file})"), style="bold")),
        step=lambda step: _show_step(out, step),
        ends=lambda result: _show_end(out, result),
    )


def _show_step(out: Console, step: Any) -> None:
    if step.chapter:
        out.print(Text(f"\n  {printable(' '.join(step.chapter.split()))}"))
    line = Text(f"  {printable(step.title):<44} ")
    line.append(f"{printable(step.answer.upper()):<9}", style=f"bold {_STYLES.get(step.answer, 'green')}")
    line.append(f"{step.seconds * 1000:>9.1f} ms", style="dim")
    line.append(f"  {printable(step.because)}")
    out.print(line)
    for difference in step.differences:
        out.print(Text(f"    DIFFERS  {printable(difference)}", style="bold red"))


def _show_end(out: Console, result: Any) -> None:
    if result.ok:
        said, style = f"All {len(result.steps)} steps came out as expected.", "bold green"
    else:
        said = f"{result.different} of {len(result.steps)} steps came out otherwise than expected."
        style = "bold red"
    out.print(Text(f"  {said}\n", style=style))
