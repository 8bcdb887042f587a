"""Makes vectors/actions.json and secrets.json with nothing of the product's: an independent JCS and hashlib.

Run it by hand after a deliberate change of the format; the committed file is what holds.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import rfc8785

# (name, arguments as JSON text, arguments in the one written form, by hand)
CASES: list[tuple[str, str, Any]] = [
    ("empty", "{}", {}),
    ("integer", '{"amount": 1200}', {"amount": 1200}),
    ("decimal point", '{"amount": 1200.0}', {"amount": 1200}),
    ("exponent", '{"amount": 1.2e3}', {"amount": 1200}),
    ("fraction", '{"amount": 12.50}', {"amount": "12.5"}),
    ("small", '{"x": 1e-7}', {"x": "0.0000001"}),
    ("negative zero", '{"x": -0.0}', {"x": 0}),
    ("largest exact", '{"x": 9007199254740991}', {"x": 9007199254740991}),
    ("beyond exact", '{"x": 9007199254740993}', {"x": "9007199254740993"}),
    ("strings stay", '{"amount": "1200.00"}', {"amount": "1200.00"}),
    ("order", '{"b": 1, "a": 2, "A": 3}', {"A": 3, "a": 2, "b": 1}),
    ("escapes", '{"t": "\\u0000\\u001f\\"\\\\\\/\\b\\f\\n\\r\\t\\u007f"}', {"t": '\0\x1f"\\/\b\f\n\r\t\x7f'}),
    ("unicode", '{"t": "€ \\ud83d\\ude00 é"}', {"t": "€ \U0001f600 é"}),
    ("nested", '{"l": [1, [true, null, {"z": 0.50}]]}', {"l": [1, [True, None, {"z": "0.5"}]]}),
]
# (name, arguments as JSON text, all paths, those that lead to something, the arguments without their secrets)
SECRETS: list[tuple[str, str, list[str], list[str], Any]] = [
    ("no secret there", '{"a": 1}', ["pin"], [], {"a": 1}),
    ("argument", '{"a": 1, "pin": "1234"}', ["pin", "code"], ["pin"], {"a": 1}),
    ("number", '{"a": 1.50, "pin": 1234.0}', ["pin"], ["pin"], {"a": "1.5"}),
    ("null", '{"pin": null}', ["pin"], ["pin"], {}),
    ("any case", '{"PIN": "1", "pin": "2"}', ["Pin"], ["Pin"], {}),
    (
        "member",
        '{"headers": {"authorization": "Bearer x", "Accept": "*"}}',
        ["headers.Authorization", "headers.Cookie"],
        ["headers.Authorization"],
        {"headers": {"Accept": "*"}},
    ),
    (
        "member of elements",
        '{"items": [{"token": "t", "id": 1}, {"id": 2}]}',
        ["items[].token"],
        ["items[].token"],
        {"items": [{"id": 1}, {"id": 2}]},
    ),
    ("elements", '{"tokens": ["a", "b"]}', ["tokens[]"], ["tokens[]"], {"tokens": []}),
    ("elements of elements", '{"m": [[{"k": 1}], []]}', ["m[][].k"], ["m[][].k"], {"m": [[{}], []]}),
    (
        "every reading of a path",
        '{"api.key": "1", "api": {"key": "2", "id": "3"}}',
        ["api.key"],
        ["api.key"],
        {"api": {"id": "3"}},
    ),
    (
        "another shape",
        '{"headers": "x", "items": {"token": 1}}',
        ["headers.a", "items[].token"],
        ["headers.a", "items[].token"],
        {},
    ),
    ("null is of any shape", '{"headers": null}', ["headers.a"], [], {"headers": None}),
    ("everything", '{"a": 1, "b": 2}', ["", "a"], [""], {}),
]
SALT, SECRET_SALT = bytes(range(16)), bytes(range(32, 64))
TOOL, RESOURCE = "payments.create", "invoice:INV-1001"


def vectors() -> list[dict[str, str]]:
    result = []
    for name, arguments, written in CASES:
        canonical = rfc8785.dumps(
            {"tool": TOOL, "method": "call", "resource": RESOURCE, "arguments": written}
        )
        digest = hashlib.sha256(b"placet-action/v1\0" + SALT + canonical).hexdigest()
        result.append(
            {
                "name": name,
                "tool": TOOL,
                "resource": RESOURCE,
                "arguments": arguments,
                "salt": SALT.hex(),
                "canonical": canonical.decode(),
                "ad": digest,
            }
        )
    return result


def secret_vectors() -> list[dict[str, Any]]:
    result = []
    for name, arguments, paths, found, rest in SECRETS:
        action = {"tool": TOOL, "method": "call", "resource": RESOURCE}
        left = rfc8785.dumps(action | {"arguments": rest})
        whole = rfc8785.dumps(action | {"arguments": _written(json.loads(arguments, parse_float=Decimal))})
        result.append(
            {
                "name": name,
                "tool": TOOL,
                "resource": RESOURCE,
                "arguments": arguments,
                "paths": paths,
                "salt": SALT.hex(),
                "secret_salt": SECRET_SALT.hex(),
                "secrets": found,
                "ad": hashlib.sha256(b"placet-action/v1\0" + SALT + left).hexdigest(),
                "secrets_digest": hmac.new(
                    SECRET_SALT, b"placet-secrets/v1\0" + whole, hashlib.sha256
                ).hexdigest(),
            }
        )
    return result


def _written(value: Any) -> Any:
    """Return arguments in the one written form, as far as these cases need it."""
    if isinstance(value, Decimal):
        return int(value) if value == int(value) else str(value).rstrip("0")
    if isinstance(value, dict):
        return {name: _written(item) for name, item in value.items()}
    return [_written(item) for item in value] if isinstance(value, list) else value


if __name__ == "__main__":
    folder = Path(__file__).parent / "vectors"
    for file, made in (("actions.json", vectors()), ("secrets.json", secret_vectors())):
        (folder / file).write_text(json.dumps(made, indent=2, ensure_ascii=True) + "\n")
