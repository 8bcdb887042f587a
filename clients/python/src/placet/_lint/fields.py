"""The same place in a registration as plain values and in its message: what refusals of the server name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from placet._lint.findings import Path, written
from placet._lint.registration import mapping


def field_of(form: Mapping[str, Any], path: Path) -> str:
    """Return the path in a tool's message of what stands at `path` in its form: `normalise[0].argument`."""
    match path:
        case ("argument_roles", str(name)):
            return f"argument_roles[{name}]"
        case ("normalise", str(name), *rest):
            at = f"normalise[{_index(mapping(form.get('normalise')), name)}]"
            return f"{at}.steps[{rest[0]}]" if rest else f"{at}.argument"
        case ("output", "fields", str(name)):
            fields = mapping(mapping(form.get("output")).get("fields"))
            return f"output.fields[{_index(fields, name)}].name"
        case ("reversible",):
            return "reversibility"
    return written(path)


def _index(of: Mapping[str, Any], name: str) -> int:
    return list(of).index(name) if name in of else len(of)
