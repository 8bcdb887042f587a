"""Files of entities: CSV and JSON Lines, read line by line. Errors name line and field."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from placet.canonical import CanonicalError, parse_object
from placet.cli.exits import CommandError

_MAX_LINE = 64 * 1024


class Row(NamedTuple):
    """What a line of a file holds; lines count from 1."""

    line: int
    value: dict[str, Any]


def read_rows(path: Path, *, kind: str, id_column: str, posted: str = "") -> Iterator[Row]:
    """Yield each entity with its line number, as `Client.put_entities` takes it.

    A CSV file has a header, one column is the id, and every value is text; a JSON Lines file
    has one object a line, with the id in a member, and the rest are attributes. `posted` names the member
    that holds what the figures contain, amounts by decision; empty: there is none.
    """
    reader = {".csv": _read_csv, ".jsonl": _read_jsonl}.get(path.suffix.lower())
    if reader is None:
        raise CommandError(f"{path}: must end in .csv or .jsonl")
    try:
        with path.open(encoding="utf-8", newline="") as file:
            for line, attributes in reader(file, path):
                entity_id = attributes.pop(id_column, None)
                if not isinstance(entity_id, str) or not entity_id:
                    raise CommandError(f"{path}:{line}: {id_column}: must be the entity's id, a text")
                value = {"type": kind, "id": entity_id, "attributes": attributes}
                contained = attributes.pop(posted, {}) if posted else {}
                if not isinstance(contained, dict):
                    raise CommandError(f"{path}:{line}: {posted}: must be an object, amounts by decision")
                yield Row(line, value | ({"posted": contained} if contained else {}))
    except OSError as exc:
        raise CommandError(f"{path}: {exc.strerror or exc}") from exc
    except UnicodeDecodeError as exc:
        raise CommandError(f"{path}: is not UTF-8: {exc.reason}") from exc


def _read_csv(file: TextIO, path: Path) -> Iterator[Row]:
    reader = csv.reader(file, strict=True)
    try:
        header = next(reader, None)
        if not header:
            raise CommandError(f"{path}:1: has no header")
        for place, name in enumerate(header):
            if not name or name in header[:place]:
                raise CommandError(f"{path}:1: column {place + 1} is without a name, or named twice")
        for values in reader:
            if not values:
                continue
            if len(values) != len(header):
                raise CommandError(
                    f"{path}:{reader.line_num}: has {len(values)} fields; the header has {len(header)}"
                )
            yield Row(reader.line_num, dict(zip(header, values, strict=True)))
    except csv.Error as exc:
        raise CommandError(f"{path}:{reader.line_num}: {exc}") from exc


def _read_jsonl(file: TextIO, path: Path) -> Iterator[Row]:
    for line, text in enumerate(file, start=1):
        if not text.strip():
            continue
        try:
            yield Row(line, parse_object(text.encode("utf-8"), field="entity", max_bytes=_MAX_LINE))
        except CanonicalError as exc:
            field = exc.field.removeprefix("entity").removeprefix(".")
            raise CommandError(f"{path}:{line}: {f'{field}: ' if field else ''}{exc.reason}") from exc


def read_progress(state: Path, fingerprint: str) -> int:
    """Return how many lines of the file with this fingerprint are written already."""
    try:
        kept = json.loads(state.read_text(encoding="utf-8"))
        if kept["fingerprint"] != fingerprint:
            raise CommandError(f"{state}: is of another file, or of another import; delete it to begin anew")
        line = kept["line"]
        if isinstance(line, bool) or not isinstance(line, int) or line < 0:
            raise ValueError("line is no line number")
    except FileNotFoundError:
        return 0
    except (OSError, ValueError, KeyError, TypeError) as exc:
        raise CommandError(f"{state}: cannot be read: {exc}") from exc
    return line


def keep_progress(state: Path, fingerprint: str, line: int) -> None:
    """Remember that everything up to `line` is written. The state file is replaced as a whole."""
    new = state.with_name(f"{state.name}.new")
    try:
        new.write_text(json.dumps({"fingerprint": fingerprint, "line": line}), encoding="utf-8")
        new.replace(state)
    except OSError as exc:
        raise CommandError(f"{state}: {exc.strerror or exc}") from exc
