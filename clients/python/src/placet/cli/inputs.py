"""Files and addresses that a command reads. Errors name the file, line and column."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any
from urllib.error import URLError

from placet._http import open_url
from placet.canonical import CanonicalError, parse_value
from placet.cli.exits import CommandError
from placet.cli.positions import find_repeated
from placet.receipt import MAX_BYTES as MAX_RECEIPT

_MAX_FILE = 4 * 1024 * 1024
_FETCH_SECONDS = 10.0


def read_bytes(name: str) -> bytes:
    """Return what the file holds; "-" is standard input."""
    try:
        data = sys.stdin.buffer.read(_MAX_FILE + 1) if name == "-" else Path(name).read_bytes()
    except OSError as exc:
        raise CommandError(f"{name}: {exc.strerror or exc}") from exc
    if len(data) > _MAX_FILE:
        raise CommandError(f"{display_name(name)}: is longer than {_MAX_FILE} bytes")
    return data


def read_json(name: str) -> Any:
    """Return the JSON value in a file; numbers are int or Decimal."""
    return parse_json(read_bytes(name), name)


def read_object(name: str) -> dict[str, Any]:
    value = read_json(name)
    if not isinstance(value, dict):
        raise CommandError(f"{display_name(name)}: must hold a JSON object")
    return value


def read_list(name: str, member: str) -> list[Any]:
    """Return the list in a file, or the list `member` of the object in it."""
    value = read_json(name)
    if isinstance(value, dict) and set(value) == {member}:
        value = value[member]
    if not isinstance(value, list):
        raise CommandError(f'{display_name(name)}: must hold a list, or {{"{member}": [ … ]}}')
    return value


def read_receipt(name: str) -> bytes:
    """Return the receipt in a file: as it is, or as the `receipt` of a decision in JSON."""
    data = read_bytes(name).strip()
    if data.startswith(b"{"):
        decision = parse_json(data, name)
        receipt = decision.get("receipt")
        if not isinstance(receipt, str) or not receipt:
            raise CommandError(f"{display_name(name)}: the JSON object has no receipt")
        data = receipt.encode("utf-8")
    if not data:
        raise CommandError(f"{display_name(name)}: is empty")
    if len(data) > MAX_RECEIPT:
        raise CommandError(f"{display_name(name)}: is longer than a receipt can be")
    return data


def read_token(name: str) -> str:
    """Return the token in a file."""
    try:
        token = read_bytes(name).decode("ascii").strip()
    except UnicodeDecodeError as exc:
        raise CommandError(f"{display_name(name)}: holds no token") from exc
    if not token:
        raise CommandError(f"{display_name(name)}: is empty")
    return token


def read_jwks(source: str) -> dict[str, Any]:
    """Return the JWK Set in a file or at an http(s) address."""
    if source.startswith(("http://", "https://")):
        try:
            with open_url(source, timeout=_FETCH_SECONDS) as answer:
                data = answer.read(_MAX_FILE)
        except (URLError, OSError, ValueError) as exc:
            raise CommandError(
                f"{source}: the keys cannot be fetched: {getattr(exc, 'reason', exc)}"
            ) from exc
        value = parse_json(data, source)
        if not isinstance(value, dict):
            raise CommandError(f"{source}: is no JWK Set")
        return value
    return read_object(source)


def parse_json(data: bytes, name: str) -> Any:
    """Return the JSON value, read as strictly as the PDP reads it. `name` is that of the file."""
    shown = display_name(name)
    try:
        json.loads(data.decode("utf-8"))
    except UnicodeDecodeError as exc:
        line = data.count(b"\n", 0, exc.start) + 1
        column = exc.start - data.rfind(b"\n", 0, exc.start)
        raise CommandError(f"{shown}:{line}:{column}: is not UTF-8") from exc
    except json.JSONDecodeError as exc:
        raise CommandError(f"{shown}:{exc.lineno}:{exc.colno}: {exc.msg}") from exc
    except (RecursionError, ValueError) as exc:
        raise CommandError(f"{shown}: is no JSON that can be read: {exc}") from exc
    try:
        return parse_value(data, field="value", max_bytes=_MAX_FILE, max_depth=64)
    except CanonicalError as exc:
        repeated = find_repeated(data.decode("utf-8"))
        if repeated is not None:
            at, twice = repeated
            raise CommandError(f"{shown}:{at.line}:{at.column}: {twice} is given twice") from exc
        place = exc.field.removeprefix("value").removeprefix(".")
        raise CommandError(f"{shown}: {f'{place}: ' if place else ''}{exc.reason}") from exc


def display_name(name: str) -> str:
    """Return what people know a file by."""
    return "standard input" if name == "-" else name
