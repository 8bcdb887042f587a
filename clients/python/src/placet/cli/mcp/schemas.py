"""What every part of the import knows of JSON Schema (2020-12): where schemas stand in a schema."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

# A schema: an object, or true (takes everything), or false (takes nothing).
Schema = dict[str, Any] | bool

# Keywords whose value is a schema, a list of schemas, or schemas by name.
SINGLE = (
    "additionalProperties",
    "unevaluatedProperties",
    "propertyNames",
    "items",
    "unevaluatedItems",
    "contains",
    "not",
    "if",
    "then",
    "else",
)
LISTS = ("allOf", "anyOf", "oneOf", "prefixItems")
MAPS = ("properties", "patternProperties", "dependentSchemas", "$defs")
# Keywords whose schemas judge the same value as the schema that they stand in. What these name counts where
# they take the value; what stands in `not` names nothing.
IN_PLACE = ("$ref", "allOf", "anyOf", "oneOf", "if", "then", "else", "dependentSchemas")


class SchemaError(Exception):
    """A schema that cannot be registered. The message begins with the place, a JSON Pointer (RFC 6901)."""

    def __init__(self, place: str, reason: str) -> None:
        super().__init__(f"{place or '/'}: {reason}")


class Subschema(NamedTuple):
    """A schema directly inside another one."""

    keyword: str
    # Name or index under the keyword; None where the keyword has one schema.
    key: str | int | None
    schema: Schema

    @property
    def place(self) -> str:
        """The JSON Pointer from the schema that it stands in."""
        return f"/{escape(self.keyword)}" + ("" if self.key is None else f"/{escape(str(self.key))}")


def subschemas(schema: Schema, at: str = "") -> Iterator[Subschema]:
    """Yield the schemas directly inside a schema, in the order of the keywords above.

    Raises `SchemaError` where something else stands in the place of a schema. `at` is where `schema` stands.
    """
    if isinstance(schema, bool):
        return
    for keyword in SINGLE:
        if keyword in schema:
            yield _checked(Subschema(keyword, None, schema[keyword]), at)
    for keyword in LISTS:
        if keyword in schema:
            if not isinstance(schema[keyword], list):
                raise SchemaError(f"{at}/{keyword}", "must be a list of schemas")
            for index, item in enumerate(schema[keyword]):
                yield _checked(Subschema(keyword, index, item), at)
    for keyword in MAPS:
        if keyword in schema:
            if not isinstance(schema[keyword], dict):
                raise SchemaError(f"{at}/{keyword}", "must be an object of schemas")
            for name, item in schema[keyword].items():
                yield _checked(Subschema(keyword, name, item), at)


def escape(part: str) -> str:
    """Return a part of a JSON Pointer as it is written (RFC 6901, section 3)."""
    return part.replace("~", "~0").replace("/", "~1")


def _checked(found: Subschema, at: str) -> Subschema:
    if not isinstance(found.schema, dict | bool):
        raise SchemaError(f"{at}{found.place}", "must be a schema: an object, true or false")
    return found
