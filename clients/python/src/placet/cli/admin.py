"""`placet admin`: settings, agents, tools and signals of the tenant, written and read back."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any

import typer

from placet._calls.plain import plain
from placet.cli.connection import DryRun, Json, Reason, connected
from placet.cli.differences import find_differences
from placet.cli.inputs import read_list, read_object
from placet.cli.output import author, print_json, printable, shown_json
from placet.cli.written import print_preview, print_written, read_replaced
from placet.client import Client
from placet.errors import invalid
from placet.model import ControlKind

app = typer.Typer(
    help="Write what decisions rest on, and read it back. Role: operator; auditors may read.",
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    rich_markup_mode=None,
)
File = Annotated[str, typer.Argument(metavar="FILE", help="A JSON file; - is standard input.")]
At = Annotated[int, typer.Option(help="As it was at this revision.")]
Diff = Annotated[int, typer.Option(help="Show what differs from this earlier revision.")]
# As many agents or signals as one answer lists.
_BATCH = 100


@app.command("put-tenant", epilog="\b\nExample:\n  echo '{}' | placet admin put-tenant -\n")
@connected
def put_tenant(
    client: Client, file: File, reason: Reason = "", dry_run: DryRun = False, as_json: Json = False
) -> None:
    """Create the caller's tenant, or replace its settings by the object in FILE."""
    if dry_run:
        print_preview(client, "put_tenant", read_object(file), as_json=as_json)
        return
    print_written(
        client, ControlKind.SETTINGS, client.put_tenant(read_object(file), reason=reason), as_json=as_json
    )


@app.command(
    "put-agents",
    epilog='\b\nFILE holds a list:\n  [{"agent": "agent:payer", "owner": "payables", "trust": 0.8}]\n',
)
@connected
def put_agents(
    client: Client, file: File, reason: Reason = "", dry_run: DryRun = False, as_json: Json = False
) -> None:
    """Create or replace agents."""
    if dry_run:
        print_preview(client, "put_agents", read_list(file, "agents"), as_json=as_json)
        return
    print_written(
        client,
        ControlKind.AGENTS,
        client.put_agents(read_list(file, "agents"), reason=reason),
        as_json=as_json,
    )


@app.command(
    "put-tools",
    epilog="""\
\b
FILE holds a list:
  [{"name": "payments.create", "effect": "pay", "resource": "invoice:{invoice}",
    "arguments_schema": {"type": "object", "required": ["invoice", "amount"]},
    "amount": {"argument": "amount", "unit": "major", "currency_code": "EUR"}}]
""",
)
@connected
def put_tools(
    client: Client, file: File, reason: Reason = "", dry_run: DryRun = False, as_json: Json = False
) -> None:
    """Create or replace tools of the registry."""
    if dry_run:
        print_preview(client, "put_tools", read_list(file, "tools"), as_json=as_json)
        return
    print_written(
        client, ControlKind.TOOLS, client.put_tools(read_list(file, "tools"), reason=reason), as_json=as_json
    )


@app.command("put-signals", epilog='\b\nFILE holds a list:\n  [{"name": "incident", "value": true}]\n')
@connected
def put_signals(
    client: Client, file: File, reason: Reason = "", dry_run: DryRun = False, as_json: Json = False
) -> None:
    """Create or replace signals."""
    if dry_run:
        print_preview(client, "put_signals", read_list(file, "signals"), as_json=as_json)
        return
    print_written(
        client,
        ControlKind.SIGNALS,
        client.put_signals(read_list(file, "signals"), reason=reason),
        as_json=as_json,
    )


@app.command(
    "patch-tenant",
    epilog="""\
\b
Example:
  echo '{"velocity": null, "allow_ttl_seconds": 30}' | placet admin patch-tenant -
""",
)
@connected
def patch_tenant(
    client: Client, file: File, reason: Reason = "", dry_run: DryRun = False, as_json: Json = False
) -> None:
    """Merge the object in FILE into the settings (RFC 7396): null removes a member, the others stay."""
    if dry_run:
        print_preview(client, "patch_tenant", read_object(file), as_json=as_json)
        return
    revision, _ = client.patch_tenant(read_object(file), reason=reason)
    print_written(client, ControlKind.SETTINGS, revision, as_json=as_json)


@app.command(
    "get-tenant",
    epilog="\b\nExamples:\n  placet admin get-tenant > settings.json\n"
    "  placet admin get-tenant --at 3 --diff 2\n",
)
@connected
def get_tenant(client: Client, at: At = 0, diff: Diff = 0, as_json: Json = False) -> None:
    """Show the settings, as `put-tenant` takes them; who wrote them goes to standard error."""
    found = client.get_settings(at_revision=at)
    if diff:
        before = client.get_settings(at_revision=diff)
        _print_differences("settings", before.settings, found.settings, diff, found.revision, as_json=as_json)
    elif as_json:
        print_json(found)
    else:
        _print_rows("{", (f"{_text(name)}: {_text(value)}" for name, value in found.settings.items()), "}")
        said = (
            f"settings: revision {found.revision}, {found.written_at:%Y-%m-%dT%H:%M:%SZ}, {author(found.by)}"
        )
        typer.echo(printable(said), err=True)


@app.command("get-agents", epilog="\b\nExample:\n  placet admin get-agents --diff 3\n")
@connected
def get_agents(client: Client, at: At = 0, diff: Diff = 0, as_json: Json = False) -> None:
    """Show the agents, as `put-agents` takes them."""

    def read(revision: int) -> tuple[int, dict[str, Any]]:
        return _read_all(lambda after: client.list_agents(at_revision=revision, after=after), "agent")

    _show("agents", read, at, diff, as_json=as_json)


@app.command("get-signals", epilog="\b\nExample:\n  placet admin get-signals --at 3\n")
@connected
def get_signals(client: Client, at: At = 0, diff: Diff = 0, as_json: Json = False) -> None:
    """Show the signals, as `put-signals` takes them, also those that have ended."""

    def read(revision: int) -> tuple[int, dict[str, Any]]:
        return _read_all(lambda after: client.list_signals(at_revision=revision, after=after), "name")

    _show("signals", read, at, diff, as_json=as_json)


@app.command("change", epilog="\b\nExample:\n  placet admin change settings 3\n")
@connected
def change(
    client: Client,
    kind: Annotated[str, typer.Argument(metavar="KIND", help=f"One of {', '.join(ControlKind)}.")],
    revision: Annotated[int, typer.Argument(metavar="REVISION")],
    as_json: Json = False,
) -> None:
    """Show one change: who made it, when and why, and what it replaced."""
    made, _ = client.get_change(kind, revision)
    found = read_replaced(client, kind, revision)
    if as_json:
        print_json(plain(made) | {"differences": [item.plain() for item in found]})
        return
    typer.echo(printable(f"{made.revision}  {made.written_at:%Y-%m-%dT%H:%M:%SZ}  {author(made.by)}"))
    for item in found:
        typer.echo(printable(f"  {item}"))


@app.command("history", epilog="\b\nExample:\n  placet admin history settings\n")
@connected
def history(
    client: Client,
    kind: Annotated[str, typer.Argument(metavar="KIND", help=f"One of {', '.join(ControlKind)}.")],
    before: Annotated[int, typer.Option(help="Only revisions before this one.")] = 0,
    limit: Annotated[int, typer.Option(help="How many.")] = 20,
    as_json: Json = False,
) -> None:
    """Show who changed what, when and why, latest first."""
    changes = client.list_changes(kind, before_revision=before, limit=limit)
    if as_json:
        print_json(changes)
        return
    for change in changes:
        names = " ".join([*change.written, *(f"-{name}" for name in change.removed)])
        head = f"{change.revision}  {change.written_at:%Y-%m-%dT%H:%M:%SZ}  {author(change.by)}"
        typer.echo(printable(f"{head}  {names}".rstrip()))


def _read_all(
    page: Callable[[str], tuple[int, list[Any]]], key: str
) -> tuple[int, dict[str, dict[str, Any]]]:
    """Return the revision, and everything that is listed at it by name; what is not set is left out."""
    revision, found = page("")
    last = found
    while len(last) == _BATCH:
        _, last = page(getattr(last[-1], key))
        found = [*found, *last]
    rows = [{name: value for name, value in plain(item).items() if value not in ("", None)} for item in found]
    return revision, {row[key]: row for row in rows}


def _show(
    kind: str,
    read: Callable[[int], tuple[int, dict[str, Any]]],
    at: int,
    diff: int,
    *,
    as_json: bool,
) -> None:
    revision, found = read(at)
    if diff:
        _print_differences(kind, read(diff)[1], found, diff, revision, as_json=as_json)
    elif as_json:
        print_json({f"{kind}_revision": revision, kind: list(found.values())})
    else:
        _print_rows("[", (_text(row) for row in found.values()), "]")
        typer.echo(f"{kind}: revision {revision}", err=True)


def _print_rows(opening: str, rows: Iterable[str], closing: str) -> None:
    """Print a list or an object in JSON, one entry a line."""
    lines = ",\n".join(f"  {row}" for row in rows)
    typer.echo(f"{opening}\n{lines}\n{closing}" if lines else opening + closing)


def _print_differences(
    kind: str, before: Mapping[str, Any], after: Mapping[str, Any], old: int, new: int, *, as_json: bool
) -> None:
    if old > new:
        raise invalid("diff", f"is later than revision {new}, which is shown")
    found = list(find_differences(before, after))
    if as_json:
        print_json({"from": old, "to": new, "differences": [item.plain() for item in found]})
        return
    for item in found:
        typer.echo(printable(str(item)))
    typer.echo(f"{kind}: revision {old} to {new}", err=True)


def _text(value: Any) -> str:
    return shown_json(value)
