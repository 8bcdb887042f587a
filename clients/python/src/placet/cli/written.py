"""What a command that wrote something says: the revision, and what it replaced."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

import typer

from placet.cli.differences import ABSENT, Difference, find_differences
from placet.cli.output import author, print_json, printable
from placet.client import Client
from placet.errors import PlacetError
from placet.model import ControlKind, Entity

# As many things as one answer has.
_BATCH = 20
# So many differences are printed for people; `placet admin change` has all of them.
_SHOWN = 20


def print_preview(
    client: Client,
    write: str,
    *args: Any,
    as_json: bool,
    beside: Mapping[str, Any] | None = None,
    **kwargs: Any,
) -> None:
    """Print what a write would change, which is not made; all of it, for people too.

    `beside` are further members of what `--json` prints.
    """
    preview = client.preview_write(write, *args, **kwargs)
    found = [
        difference
        for item in preview.replacements
        for difference in find_differences(_side(item.before), _side(item.after), item.name)
    ]
    if as_json:
        changes = {"dry_run": True, "differences": [item.plain() for item in found], "more": preview.more}
        print_json(changes | dict(beside or {}))
        return
    for item in found:
        typer.echo(printable(str(item)))
    if not found:
        typer.echo("nothing would differ")
    if preview.more:
        typer.echo(f"… and {preview.more} more")
    typer.echo("nothing was written", err=True)


def print_entities(client: Client, names: Sequence[str], revision: int, *, as_json: bool) -> None:
    """Print the revision of entities that a write made, and what it replaced of the first of them.

    The write has happened: that what it replaced cannot be read is said, and is no failure.
    """
    found: list[Difference] = []
    before: dict[str, Entity] = {}
    problem = ""
    try:
        for name in names[:_SHOWN]:
            versions = client.entity_history(name, before_revision=revision + 1, limit=2)
            now = [item for item in versions if item.revision == revision]
            earlier = [item for item in versions if item.revision < revision]
            if not now:
                continue
            if earlier and earlier[0].attributes is not None:
                before[name] = earlier[0]
            found += find_differences(_attributes(earlier), _attributes(now), name)
    except PlacetError as exc:
        problem = str(exc)
    more = max(len(names) - _SHOWN, 0)
    if as_json:
        replaced = {"differences": [item.plain() for item in found], "more": more}
        print_json({"entities_revision": revision} | ({} if problem else replaced))
        return
    typer.echo(f"entities: revision {revision}")
    if problem:
        typer.echo(printable(f"  what it replaced cannot be shown: {problem}"), err=True)
        return
    for name, entity in before.items():
        typer.echo(printable(f"  {name} was of revision {entity.revision}, {author(entity.by)}"), err=True)
    for item in found:
        typer.echo(printable(f"  {item}"), err=True)
    if not found:
        typer.echo("  nothing differs from before", err=True)
    if more:
        typer.echo(f"  … {more} more: placet entity history TYPE:ID", err=True)


def _attributes(versions: Sequence[Entity]) -> Any:
    return ABSENT if not versions or versions[0].attributes is None else versions[0].attributes


def print_written(client: Client, kind: ControlKind, revision: int, *, as_json: bool) -> None:
    """Print the revision to standard output, and for people what it replaced to standard error.

    The write has happened: that what it replaced cannot be read is said, and is no failure.
    """
    found: list[Difference] | None = None
    problem = ""
    try:
        found = read_replaced(client, kind, revision)
    except PlacetError as exc:
        problem = str(exc)
    if as_json:
        replaced = {} if found is None else {"differences": [item.plain() for item in found]}
        print_json({f"{kind}_revision": revision} | replaced)
        return
    typer.echo(f"{kind}: revision {revision}")
    if found is None:
        typer.echo(printable(f"  what it replaced cannot be shown: {problem}"), err=True)
        return
    for item in found[:_SHOWN]:
        typer.echo(printable(f"  {item}"), err=True)
    if len(found) > _SHOWN:
        typer.echo(f"  … {len(found) - _SHOWN} more: placet admin change {kind} {revision}", err=True)
    if not found:
        typer.echo("  nothing differs from before", err=True)


def read_replaced(client: Client, kind: ControlKind | str, revision: int) -> list[Difference]:
    """Return what a revision changed, by place."""
    found: list[Difference] = []
    _, page = client.get_change(kind, revision)
    while page:
        for item in page:
            found += find_differences(_side(item.before), _side(item.after), item.name)
        if len(page) < _BATCH:
            break
        _, page = client.get_change(kind, revision, after=page[-1].name)
    return found


def _side(value: Any) -> Any:
    """Return one side to compare; a tool's schema, which is kept as text, is opened."""
    if value is None:
        return ABSENT
    if isinstance(value, Mapping) and isinstance(value.get("arguments_schema"), str):
        schema = value["arguments_schema"]
        return {**value, "arguments_schema": json.loads(schema, parse_float=Decimal) if schema else None}
    return value
