"""Makes vectors/actions.json with nothing of the product's: an independent JCS and hashlib.

Run it by hand after a deliberate change of the format; the committed file is what holds.
"""

from __future__ import annotations

import hashlib
import json
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
SALT = bytes(range(16))
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


if __name__ == "__main__":
    path = Path(__file__).parent / "vectors" / "actions.json"
    path.write_text(json.dumps(vectors(), indent=2, ensure_ascii=True) + "\n")
