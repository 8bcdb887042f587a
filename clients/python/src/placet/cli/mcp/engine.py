"""Whether the server's engine takes a schema: the same library, with the same options."""

from __future__ import annotations

from typing import Any

import jsonschema_rs

from placet._calls.jsontext import json_text
from placet.cli.mcp.schemas import Schema, SchemaError, escape, subschemas

# Bytes of a schema in a registration.
_MAX_BYTES = 64 * 1024


def check(schema: dict[str, Any]) -> None:
    """Refuse what the server could not judge arguments by. Raises `SchemaError` that names the place.

    The engine judges patterns in linear time, so it has no look-around and no references back; a schema whose
    root takes no object could never pass.
    """
    _check_patterns(schema, "")
    size = len(json_text(schema, "arguments_schema"))
    if size > _MAX_BYTES:
        raise SchemaError("", f"is {size} bytes long, closed as it is; at most {_MAX_BYTES}")
    try:
        jsonschema_rs.Draft202012Validator(schema, pattern_options=jsonschema_rs.RegexOptions(), offline=True)
    except jsonschema_rs.ValidationError as exc:
        place = "".join(f"/{escape(str(part))}" for part in exc.instance_path)
        raise SchemaError(place, f"is no JSON Schema: {exc.message}") from exc
    except (jsonschema_rs.ReferencingError, ValueError) as exc:
        raise SchemaError("", f"is no JSON Schema: {exc}") from exc
    kinds = schema.get("type", "object")
    if "object" not in (kinds if isinstance(kinds, list) else [kinds]):
        raise SchemaError("/type", "must be object: arguments are one")


def _check_patterns(schema: Schema, at: str) -> None:
    if isinstance(schema, bool):
        return
    found = [(f"{at}/pattern", schema.get("pattern"))]
    if isinstance(schema.get("patternProperties"), dict):
        found += [(f"{at}/patternProperties/{escape(name)}", name) for name in schema["patternProperties"]]
    for place, pattern in found:
        if isinstance(pattern, str):
            try:
                jsonschema_rs.Draft202012Validator(
                    {"pattern": pattern}, pattern_options=jsonschema_rs.RegexOptions(), offline=True
                )
            except ValueError as exc:
                raise SchemaError(
                    place,
                    f"the engine has no such pattern: {pattern} (nothing that looks around or refers back)",
                ) from exc
    for inside in subschemas(schema, at):
        _check_patterns(inside.schema, f"{at}{inside.place}")
