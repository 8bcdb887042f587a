"""`placet tool`: the registry, from files and from MCP servers."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Annotated, Any

import typer

from placet._calls.toolform import TOOL_EFFECTS
from placet._lint import Severity
from placet.cli.connection import DryRun, Json, Reason, connectable, connected, offline
from placet.cli.exits import CommandError, Exit
from placet.cli.inputs import read_json
from placet.cli.lint import (
    count,
    from_server,
    in_words,
    judge_import,
    lint_files,
    names_elsewhere,
    print_findings,
)
from placet.cli.mcp.listing import ToolImport, import_tools
from placet.cli.output import author, print_json, printable
from placet.cli.rolesjson import convert_registry
from placet.cli.toolfiles import print_tools, read_tool_file, read_tools
from placet.cli.written import print_preview, print_written
from placet.client import Client
from placet.errors import InvalidRequestError
from placet.model import ControlKind, ToolFinding

app = typer.Typer(
    help="Register tools, show the registry and its history, roll it back.",
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    rich_markup_mode=None,
)
# As many tools as one answer lists.
_BATCH = 50


@app.command(
    "put",
    epilog="""\
\b
FILE is YAML or JSON; docs/tools.md has all of it:
  tools:
    - name: payments.create
      effect: pay
      resource: "invoice:{invoice}"
      arguments_schema:
        type: object
        properties: {invoice: {type: string}, amount: {type: number}}
        required: [invoice, amount]
        additionalProperties: false
      amount: {argument: amount, unit: major, currency_code: EUR}
      normalise: {invoice: [trim, upper, hyphenate]}

\b
Example:
  placet tool put tools.yaml
""",
)
@connected
def put(
    client: Client,
    file: Annotated[str, typer.Argument(metavar="FILE", help="YAML or JSON; - is standard input.")],
    reason: Reason = "",
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Create or replace the tools in FILE, all or none. Tools with errors are not registered."""
    given = read_tool_file(file)
    found = lint_files([given], registered=_list_all(client, 0)[1] if names_elsewhere([given]) else ())
    # What cannot be sent is not asked about. The server's engine knows more of schemas than can be said here.
    if dry_run and not any(item.finding.code == "form.invalid" for item in found):
        found += from_server(given, client.check_tools(given.forms), known=found)
    print_findings(found, err=not dry_run or as_json)
    if count(found, Severity.ERROR):
        raise CommandError(
            f"{given.shown}: {in_words(found)}; nothing was registered",
            findings=[item.plain() for item in found],
        )
    if dry_run:
        print_preview(
            client,
            "put_tools",
            given.forms,
            as_json=as_json,
            beside={"findings": [item.plain() for item in found]},
        )
        return
    told: list[ToolFinding] = []
    revision = client.put_tools(given.forms, reason=reason, on_warning=told.append)
    print_findings(from_server(given, told, known=found), err=True)
    print_written(client, ControlKind.TOOLS, revision, as_json=as_json)


@app.command(
    "lint",
    epilog="""\
\b
All findings come together, with file, line and column. Errors are what could never pass or would
leak: such a tool is not registered. docs/tools.md has every code. Without --registry nobody is
called, and prerequisites are looked for in the files that are given.

\b
Exit codes:
  0  nothing, or warnings only
  1  errors; with --strict, warnings too
  2  a file cannot be read, or the registry cannot be asked because of the command line
  4  the registry cannot be reached

\b
Examples:
  placet tool lint tools.yaml more.yaml
  placet tool lint - --json --strict < tools.yaml
""",
)
@connectable
def lint(
    connect: Callable[[], Client],
    files: Annotated[list[str], typer.Argument(metavar="FILE...", help="YAML or JSON; - is standard input.")],
    strict: Annotated[bool, typer.Option("--strict", help="Warnings count as errors.")] = False,
    registry: Annotated[
        bool, typer.Option("--registry", help="Ask the PDP which tools are registered besides.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Say what is wrong or doubtful in the tools in FILES, before anybody registers them."""
    read = [read_tool_file(name) for name in files]
    registered: list[dict[str, Any]] = []
    if registry:
        with connect() as client:
            registered = _list_all(client, 0)[1]
    found = lint_files(read, registered=registered)
    errors, warnings = count(found, Severity.ERROR), count(found, Severity.WARNING)
    tools = sum(len(file.forms) for file in read)
    if as_json:
        print_json(
            {
                "findings": [item.plain() for item in found],
                "errors": errors,
                "warnings": warnings,
                "tools": tools,
            }
        )
    else:
        print_findings(found, err=False)
        typer.echo(f"{tools} tool{'' if tools == 1 else 's'}: {in_words(found) or 'nothing found'}")
    if errors or (strict and warnings):
        raise typer.Exit(1)


@app.command("list", epilog="\b\nExample:\n  placet tool list --at 3\n")
@connected
def list_(
    client: Client,
    at: Annotated[int, typer.Option(help="As they were at this revision.")] = 0,
    as_json: Json = False,
) -> None:
    """List the registered tools. With --json everything that is registered of them."""
    revision, forms = _list_all(client, at)
    if as_json:
        print_json({"tools_revision": revision, "tools": forms})
        return
    typer.echo(f"revision {revision}")
    for form in forms:
        undo = "reversible" if form["reversible"] else "irreversible"
        typer.echo(printable(f"  {form['name']}  {form['effect']}, {undo}  {form['resource']}"))


@app.command("show", epilog="\b\nExample:\n  placet tool show payments.create > tools.yaml\n")
@connected
def show(
    client: Client,
    name: Annotated[str, typer.Argument(metavar="NAME")],
    at: Annotated[int, typer.Option(help="As it was at this revision.")] = 0,
    as_json: Json = False,
) -> None:
    """Show a tool as YAML that `placet tool put` takes."""
    forms = [form for form in _list_all(client, at)[1] if form["name"] == name]
    if not forms:
        raise CommandError(f"there is no tool {name}{f' at revision {at}' if at else ''}")
    if as_json:
        print_json(forms[0])
    else:
        typer.echo(print_tools(forms), nl=False)


@app.command("history", epilog="\b\nExample:\n  placet tool history\n")
@connected
def history(
    client: Client,
    before: Annotated[int, typer.Option(help="Only revisions before this one.")] = 0,
    limit: Annotated[int, typer.Option(help="How many.")] = 20,
    as_json: Json = False,
) -> None:
    """Show what was registered when, latest first."""
    revisions = client.tool_history(before_revision=before, limit=limit)
    if as_json:
        print_json(revisions)
        return
    for item in revisions:
        said = [*item.written, *(f"-{name}" for name in item.removed)]
        head = f"{item.revision}  {item.written_at:%Y-%m-%dT%H:%M:%SZ}  {author(item.by)}"
        typer.echo(printable(f"{head}  {' '.join(said)}"))


@app.command("rollback", epilog="\b\nExample:\n  placet tool rollback 3\n")
@connected
def rollback(
    client: Client,
    revision: Annotated[int, typer.Argument(metavar="REVISION")],
    reason: Reason = "",
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Write a new revision that says what REVISION said."""
    if dry_run:
        print_preview(client, "roll_back_tools", revision, as_json=as_json)
        return
    new = client.roll_back_tools(
        revision,
        reason=reason,
        on_warning=lambda found: typer.echo(
            printable(f"  warning: {found.tool}: {found.message} [{found.code}]"), err=True
        ),
    )
    print_written(client, ControlKind.TOOLS, new, as_json=as_json)


@app.command(
    "import-mcp",
    epilog="""\
\b
Each FILE is what one MCP server answered to tools/list: a page, or a list of all its pages. Annotations
are the maker's hints: without --accept-hints, and without a word of yours in the overlay or the registry, a
tool gets the most restrictive reading. What is registered already is kept. A tool that cannot be registered
is left out and named, and so is a list that goes on; the exit code is 3 then. With --all-or-none nothing is
registered.

\b
Examples:
  placet tool import-mcp listed.json --dry-run
  placet tool import-mcp listed.json --overlay tools.yaml
  placet tool import-mcp github.json --prefix github.
""",
)
@connected
def import_mcp(
    client: Client,
    files: Annotated[list[str], typer.Argument(metavar="FILE…", help="JSON; - is standard input.")],
    overlay: Annotated[str, typer.Option(help="Tools whose members count before the server's.")] = "",
    prefix: Annotated[str, typer.Option(help="What stands before each name, to keep servers apart.")] = "",
    accept_hints: Annotated[bool, typer.Option("--accept-hints", help="Believe annotations.")] = False,
    all_or_none: Annotated[
        bool, typer.Option("--all-or-none", help="Register nothing if something is left out.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show, and register nothing.")] = False,
    reason: Reason = "",
    as_json: Json = False,
) -> None:
    """Register the tools of MCP servers, and say what nobody has said of them."""
    said = {form["name"]: form for form in read_tools(overlay)} if overlay else {}
    known = {form["name"]: form for form in _list_all(client, 0)[1]}
    found = import_tools(
        {file: read_json(file) for file in files},
        overlay=said,
        registered=known,
        accept_hints=accept_hints,
        prefix=prefix,
    )
    found = judge_import(found, registered=known.values())
    if not found.tools and not found.left_out:
        raise CommandError(f"{', '.join(files)}: lists no tools")
    if not found.tools or (all_or_none and found.faults):
        raise CommandError("; ".join(["nothing was registered", *found.faults]), left_out=found.left_out)
    found, revision = _register(client, found, all_or_none=all_or_none, dry_run=dry_run, reason=reason)
    if as_json:
        print_json(
            {
                "tools_revision": revision,
                "tools": [{"tool": item.form, "notes": list(item.notes)} for item in found.tools],
                "left_out": found.left_out,
                "unfinished": found.unfinished,
            }
        )
    else:
        for item in found.tools:
            typer.echo(printable(f"{item.form['name']}  {item.form['effect']}"))
            for note in item.notes:
                typer.echo(printable(f"  {note}"))
        typer.echo("nothing was registered" if revision is None else f"tools: revision {revision}")
        for fault in found.faults:
            typer.echo(printable(f"placet: {fault}"), err=True)
    if found.faults:
        raise typer.Exit(Exit.PARTIAL)


def _register(
    client: Client, found: ToolImport, *, all_or_none: bool, dry_run: bool, reason: str
) -> tuple[ToolImport, int | None]:
    """Register what is found, without what the server refuses; return what is left, and its revision.

    With `dry_run` the server is only asked, and there is no revision.
    """
    while True:
        forms = [item.form for item in found.tools]
        try:
            if dry_run:
                client.preview_write("put_tools", forms)
                return found, None
            return found, client.put_tools(forms, reason=reason)
        except InvalidRequestError as exc:
            refused: dict[int, str] = {}
            for number, why in _refused(exc):
                refused[number] = f"{refused[number]}; {why}" if number in refused else why
            rest = found.without(refused)
            if all_or_none or not refused or not rest.tools:
                raise
            found = rest


def _refused(error: InvalidRequestError) -> Iterator[tuple[int, str]]:
    """Yield the number of each tool that the server refuses, and why."""
    for violation in error.violations:
        place = re.fullmatch(r"tools\[(\d+)\]\.?(.*)", violation.field)
        if place is not None:
            yield int(place[1]), f"{place[2]}: {violation.description}".removeprefix(": ")


@app.command(
    "convert",
    epilog="""\
\b
Reads a registry of roles: {"GROUP": {"TOOL": {"effect": …, "arguments": {"NAME": "ROLE"}, …}}}.
Calls nobody. Notes on what nobody has said go to standard error.

\b
Example:
  placet tool convert roles.json --format roles-json --effect profile=write > tools.yaml
""",
)
@offline
def convert(
    file: Annotated[str, typer.Argument(metavar="FILE", help="JSON; - is standard input.")],
    kind: Annotated[str, typer.Option("--format", help="roles-json is the one that is known.")],
    group: Annotated[str, typer.Option(help="Only the tools of this group.")] = "",
    effect: Annotated[
        list[str] | None, typer.Option(help="NAME=EFFECT, for effects of another name.")
    ] = None,
) -> None:
    """Print another kind of registry as YAML that `placet tool put` takes."""
    if kind != "roles-json":
        raise CommandError(f"{kind}: is no known format; known: roles-json")
    effects = dict(_parse_effect(text) for text in effect or [])
    found = convert_registry(read_json(file), group=group, effects=effects)
    typer.echo(print_tools(item.form for item in found), nl=False)
    for item in found:
        for note in item.notes:
            typer.echo(printable(f"{item.form['name']}: {note}"), err=True)


def _parse_effect(text: str) -> tuple[str, str]:
    name, _, effect = text.partition("=")
    if not name or effect not in TOOL_EFFECTS:
        raise CommandError(f"{text}: must be NAME=EFFECT, with one of {', '.join(TOOL_EFFECTS)}")
    return name, effect


def _list_all(client: Client, at: int) -> tuple[int, list[dict[str, Any]]]:
    """Return every tool as of one revision, and that revision; `at` 0 is the latest."""
    revision, forms = client.list_tools(at_revision=at)
    page = forms
    while len(page) == _BATCH:
        _, page = client.list_tools(at_revision=revision, after=forms[-1]["name"])
        forms += page
    return revision, forms
