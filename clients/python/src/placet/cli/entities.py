"""`placet entity`: what is known of the things that actions are about."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

import typer

from placet._calls.jsontext import json_text
from placet.cli.connection import DryRun, Json, Reason, connected
from placet.cli.differences import find_differences
from placet.cli.entityfiles import Row, keep_progress, read_progress, read_rows
from placet.cli.exits import CommandError, exit_of_error
from placet.cli.inputs import read_list
from placet.cli.output import author, print_json, printable
from placet.cli.written import print_entities, print_preview
from placet.client import Client
from placet.errors import InvalidRequestError, PlacetError
from placet.model import Entity

app = typer.Typer(
    help="Write and show vendors, invoices, orders.",
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    rich_markup_mode=None,
)
Name = Annotated[str, typer.Argument(metavar="TYPE:ID", help='For example "vendor:V-1".')]
# As many entities and bytes as one call carries: the server takes more.
_CHUNK = 500
_CHUNK_BYTES = 512 * 1024
_CHUNK_POSTED = 1_000


@app.command(
    "put",
    epilog="""\
\b
FILE holds a list:
  [{"type": "vendor", "id": "V-1", "attributes": {"name": "Nordwind GmbH", "status": "active"}}]
""",
)
@connected
def put(
    client: Client,
    file: Annotated[str, typer.Argument(metavar="FILE", help="A JSON file; - is standard input.")],
    reason: Reason = "",
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Create or replace up to 1,000 entities, all or none; say what they replaced of the first 20."""
    given = read_list(file, "entities")
    if dry_run:
        print_preview(client, "put_entities", given, as_json=as_json)
        return
    revision = client.put_entities(given, reason=reason)
    print_entities(client, [f"{item['type']}:{item['id']}" for item in given], revision, as_json=as_json)


@app.command(
    "patch",
    epilog="\b\nExamples:\n  placet entity patch vendor:V-1 status=blocked\n"
    "  placet entity patch vendor:V-1 --unset note --json\n"
    "  placet entity patch po:PO-77 open=600 --posted 0199…=600\n",
)
@connected
def patch(
    client: Client,
    name: Name,
    attributes: Annotated[
        list[str] | None, typer.Argument(metavar="NAME=VALUE", help="Text; NAME:=VALUE takes JSON.")
    ] = None,
    unset: Annotated[list[str] | None, typer.Option(help="An attribute to remove.")] = None,
    posted: Annotated[
        list[str] | None,
        typer.Option(metavar="DECISION=AMOUNT", help="What the figures contain of a decision now."),
    ] = None,
    reason: Reason = "",
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Set and remove attributes, and leave the others."""
    given = dict(_parse_attribute(text) for text in attributes or [])
    contained = dict(_parse_posted(text) for text in posted or [])
    if dry_run:
        print_preview(
            client, "patch_entity", name, given, unset=unset or [], posted=contained, as_json=as_json
        )
        return
    found = client.patch_entity(name, given, unset=unset or [], posted=contained, reason=reason)
    _show(found, as_json=as_json)


@app.command("delete", epilog="\b\nExample:\n  placet entity delete vendor:V-1\n")
@connected
def delete(
    client: Client,
    names: Annotated[list[str], typer.Argument(metavar="TYPE:ID…")],
    reason: Reason = "",
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Remove entities; their history stays."""
    if dry_run:
        print_preview(client, "delete_entities", names, as_json=as_json)
        return
    print_entities(client, names, client.delete_entities(names, reason=reason), as_json=as_json)


@app.command(
    "get",
    epilog="\b\nExamples:\n  placet entity get vendor:V-1\n"
    "  placet entity get vendor:V-1 --at-decision 0199…\n",
)
@connected
def get(
    client: Client,
    name: Name,
    at: Annotated[int, typer.Option(help="As it was known at this revision.")] = 0,
    at_decision: Annotated[str, typer.Option(help="As it was known to this decision.")] = "",
    as_json: Json = False,
) -> None:
    """Show an entity as it is, or as it was known."""
    if at_decision:
        if at:
            raise CommandError("give --at or --at-decision, not both")
        revision = client.get_decision(at_decision).data_revisions.get("entities", 0)
        if not revision:
            raise CommandError(f"nothing was known of any entity at decision {at_decision}")
        at = revision
    _show(client.get_entity(name, at_revision=at), as_json=as_json)


@app.command("history", epilog="\b\nExample:\n  placet entity history vendor:V-1\n")
@connected
def history(
    client: Client,
    name: Name,
    before: Annotated[int, typer.Option(help="Only versions before this revision.")] = 0,
    at_decision: Annotated[str, typer.Option(help="Only what this decision could know.")] = "",
    limit: Annotated[int, typer.Option(help="How many.")] = 20,
    as_json: Json = False,
) -> None:
    """Show what was written of an entity, latest first."""
    if at_decision:
        if before:
            raise CommandError("give --before or --at-decision, not both")
        before = client.get_decision(at_decision).data_revisions.get("entities", 0) + 1
    versions = client.entity_history(name, before_revision=before, limit=limit)
    if as_json:
        print_json(versions)
        return
    for version in versions:
        said = "deleted" if version.attributes is None else _text(version.attributes)
        if version.posted:
            said += f"  posted {_text(version.posted)}"
        when = f"{version.written_at:%Y-%m-%dT%H:%M:%SZ}"
        typer.echo(printable(f"{version.revision}  {when}  {author(version.by)}  {said}"))


@app.command(
    "import",
    epilog="""\
\b
FILE is CSV with a header, or JSON Lines. Lines go in chunks, each all or none. With --state an
import that was cut off goes on after its last chunk; a chunk that is written twice does no harm.

\b
Example:
  placet entity import vendors.csv --type vendor --state vendors.state
""",
)
@connected
def import_(
    client: Client,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Ends in .csv or .jsonl.")],
    kind: Annotated[str, typer.Option("--type", help="Type of the entities.")],
    id_column: Annotated[str, typer.Option("--id", help="Column or member that holds the id.")] = "id",
    state: Annotated[Path | None, typer.Option(help="File that remembers how far it got.")] = None,
    posted: Annotated[
        str, typer.Option(help="Member that holds what the figures contain: amounts by decision.")
    ] = "",
    reason: Reason = "",
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Create or replace any number of entities."""
    if dry_run:
        _preview(client, file, kind, id_column, posted, as_json=as_json)
        return
    fingerprint = _fingerprint(file, kind, id_column, posted) if state is not None else ""
    done = read_progress(state, fingerprint) if state is not None else 0
    written, revision = 0, 0
    rows = read_rows(file, kind=kind, id_column=id_column, posted=posted)
    for chunk in _chunks(rows, after=done):
        try:
            revision = client.put_entities((row.value for row in chunk), reason=reason)
        except PlacetError as exc:
            raise _name_line(exc, file, chunk) from exc
        written += len(chunk)
        if state is not None:
            keep_progress(state, fingerprint, chunk[-1].line)
        if not as_json:
            typer.echo(f"line {chunk[-1].line}: {written} entities written, revision {revision}", err=True)
    if as_json:
        print_json({"written": written, "revision": revision})
    else:
        typer.echo(f"{written} entities written")


def _preview(client: Client, file: Path, kind: str, id_column: str, posted: str, *, as_json: bool) -> None:
    """Print how many entities each chunk would create, change and leave as they are."""
    counts = {"created": 0, "changed": 0, "unchanged": 0}
    for chunk in _chunks(read_rows(file, kind=kind, id_column=id_column, posted=posted), after=0):
        try:
            preview = client.preview_write("put_entities", [row.value for row in chunk])
        except PlacetError as exc:
            raise _name_line(exc, file, chunk, written=False) from exc
        for item in preview.replacements:
            same = item.before is not None and not list(find_differences(item.before, item.after))
            counts["created" if item.before is None else "unchanged" if same else "changed"] += 1
        counts["changed"] += preview.more
    if as_json:
        print_json({"dry_run": True} | counts)
    else:
        typer.echo(", ".join(f"{number} {what}" for what, number in counts.items()))
        typer.echo("nothing was written", err=True)


def _chunks(found: Iterator[Row], *, after: int) -> Iterator[list[Row]]:
    chunk: list[Row] = []
    named: set[str] = set()
    size = contained = 0
    for line, entity in found:
        if line <= after:
            continue
        length = len(json_text(entity["attributes"], "attributes")) + len(entity["id"].encode()) + 64
        posted = len(entity.get("posted", ()))
        full = len(chunk) == _CHUNK or size + length > _CHUNK_BYTES or contained + posted > _CHUNK_POSTED
        # A chunk writes an entity once, so a second line about it goes into the next chunk, and counts.
        if chunk and (full or entity["id"] in named):
            yield chunk
            chunk, named, size, contained = [], set(), 0, 0
        chunk.append(Row(line, entity))
        named.add(entity["id"])
        size += length
        contained += posted
    if chunk:
        yield chunk


def _name_line(error: PlacetError, file: Path, chunk: list[Row], *, written: bool = True) -> CommandError:
    """Return the error with the line that it is about, and what is written already."""
    where = f"{file}:{chunk[0].line}-{chunk[-1].line}"
    what = str(error)
    if isinstance(error, InvalidRequestError) and error.violations:
        field = error.violations[0].field
        found = re.match(r"entities\[(\d+)\]\.?(.*)", field)
        if found and int(found[1]) < len(chunk):
            where = f"{file}:{chunk[int(found[1])].line}"
            what = f"{found[2]}: {error.violations[0].description}"
    if not written:
        return CommandError(f"{where}: {what}", exit_of_error(error))
    return CommandError(
        f"{where}: {what}; what stands before line {chunk[0].line} is written", exit_of_error(error)
    )


def _fingerprint(file: Path, kind: str, id_column: str, posted: str) -> str:
    named = f"{kind}\0{id_column}\0" + (f"{posted}\0" if posted else "")
    digest = hashlib.sha256(named.encode())
    try:
        with file.open("rb") as data:
            while part := data.read(1 << 20):
                digest.update(part)
    except OSError as exc:
        raise CommandError(f"{file}: {exc.strerror or exc}") from exc
    return digest.hexdigest()


def _parse_attribute(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals or name in ("", ":"):
        raise CommandError(f"{text}: must be NAME=VALUE, or NAME:=JSON")
    if not name.endswith(":"):
        return name, value
    try:
        return name[:-1], json.loads(value, parse_float=Decimal)
    except (ValueError, ArithmeticError) as exc:
        raise CommandError(f"{text}: is not JSON after := ({exc})") from exc


def _parse_posted(text: str) -> tuple[str, str]:
    decision_id, equals, amount = text.partition("=")
    if not (decision_id and equals and amount):
        raise CommandError(f"{text}: must be DECISION=AMOUNT")
    return decision_id, amount


def _text(value: Any) -> str:
    return json_text(value, "attributes").decode("utf-8")


def _show(entity: Entity, *, as_json: bool) -> None:
    if as_json:
        print_json(entity)
        return
    typer.echo(printable(f"{entity.type}:{entity.id}  revision {entity.revision}, {author(entity.by)}"))
    for name, value in (entity.attributes or {}).items():
        typer.echo(printable(f"  {name}: {value if isinstance(value, str) else _text(value)}"))
    for decision_id, amount in entity.posted.items():
        typer.echo(printable(f"  posted of {decision_id}: {amount}"))
