"""Schemas of any dialect, written in JSON Schema 2020-12 without identifiers of their own. Pure.

A schema that names its dialect (`$schema`) is read by the rules of that one; what a dialect does not know,
its validators ignore, and so does this. A schema that names none is one of 2020-12 (MCP, 2025-11-25), where
forms that only an older dialect has are still read as that one means them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urldefrag, urljoin

from placet.cli.mcp.schemas import IN_PLACE, LISTS, MAPS, SINGLE, Schema, SchemaError, escape, subschemas

DRAFT_4, DRAFT_6, DRAFT_7, DRAFT_2019, DRAFT_2020 = 4, 6, 7, 2019, 2020
_DIALECTS = {
    "json-schema.org/draft-04/schema": DRAFT_4,
    "json-schema.org/draft-06/schema": DRAFT_6,
    "json-schema.org/draft-07/schema": DRAFT_7,
    "json-schema.org/draft/2019-09/schema": DRAFT_2019,
    "json-schema.org/draft/2020-12/schema": DRAFT_2020,
}
# Keywords by the dialect that first knows them.
_SINCE = {
    **dict.fromkeys(("const", "contains", "propertyNames"), DRAFT_6),
    **dict.fromkeys(("if", "then", "else"), DRAFT_7),
    **dict.fromkeys(("dependentRequired", "dependentSchemas", "unevaluatedProperties"), DRAFT_2019),
    **dict.fromkeys(("unevaluatedItems", "minContains", "maxContains", "$anchor"), DRAFT_2019),
    "prefixItems": DRAFT_2020,
}
_SINGLE = (*SINGLE, "additionalItems")
_LISTS = (*LISTS, "items")
_MAPS = (*MAPS, "dependencies", "definitions")
# What names a place, or is a place for others, and is not needed once references are written anew.
_NAMING = ("$schema", "$id", "id", "$anchor", "$dynamicAnchor", "$recursiveAnchor", "$vocabulary", "$comment")
_DEFINITIONS = ("$defs", "definitions")
# References that lead through all that refer to a schema, which closing would have to follow.
_DYNAMIC = ("$dynamicRef", "$recursiveRef")
_MAX_DEPTH = 64


@dataclass(frozen=True, kw_only=True, slots=True)
class Converted:
    """A schema in JSON Schema 2020-12: each `$ref` in it is `#/$defs/NAME`, and every definition is used."""

    schema: dict[str, Any]
    # What was read otherwise than it is written, a sentence each.
    notes: tuple[str, ...]


def convert(schema: dict[str, Any]) -> Converted:
    """Return a schema of any known dialect in JSON Schema 2020-12.

    Raises `SchemaError` for an unknown dialect, for a reference that leads nowhere, out of the document
    (nothing is ever fetched) or in a circle, and for what cannot be followed.
    """
    declared = _dialect(schema.get("$schema"))
    document = _Document(schema, declared)
    return document.convert()


def _dialect(name: Any) -> int | None:
    """Return the dialect that `$schema` names; None where it names none."""
    if name is None:
        return None
    text = name if isinstance(name, str) else ""
    known = _DIALECTS.get(text.removeprefix("https://").removeprefix("http://").removesuffix("#"))
    if known is None:
        raise SchemaError("/$schema", f"{name!r} is no dialect that is known here")
    return known


@dataclass(slots=True)
class _Place:
    """A schema of the document, before it is converted."""

    schema: Any
    pointer: str
    base: str


@dataclass(slots=True)
class _Document:
    root: dict[str, Any]
    declared: int | None
    notes: list[str] = field(default_factory=list)
    # Places by the address that a reference gives.
    addresses: dict[str, _Place] = field(default_factory=dict)
    # The definition that stands for a schema, by the schema's identity.
    names: dict[int, str] = field(default_factory=dict)
    definitions: dict[str, Schema] = field(default_factory=dict)
    recursive_anchor: bool = False

    @property
    def dialect(self) -> int:
        return self.declared or DRAFT_2020

    def convert(self) -> Converted:
        self._find_addresses(self.root, "", "", 0)
        if self.declared not in (None, DRAFT_2020):
            self.notes.append(f"arguments_schema: written anew in 2020-12 from {self.root['$schema']}")
        result = self._schema(_Place(self.root, "", self._base(self.root, "")))
        if id(self.root) in self.names:
            name = self.names[id(self.root)]
            self.definitions[name] = result
            result = {"$ref": f"#/$defs/{name}"}
        if isinstance(result, bool):
            raise SchemaError("", "must be an object")
        if self.definitions:
            result = {**result, "$defs": self.definitions}
        self._check_circles()
        return Converted(schema=result, notes=tuple(dict.fromkeys(self.notes)))

    def _known(self, keyword: str) -> bool:
        return _SINCE.get(keyword, 0) <= self.dialect

    def _base(self, schema: Any, base: str) -> str:
        """Return the address that references in a schema are relative to."""
        if not isinstance(schema, dict):
            return base
        own = schema.get("id" if self.declared == DRAFT_4 else "$id")
        if not isinstance(own, str) or own.startswith("#"):
            return base
        return urljoin(base, urldefrag(own).url)

    def _find_addresses(self, schema: Any, pointer: str, base: str, depth: int) -> None:
        """Keep the addresses of all that has one: identifiers, and anchors in them."""
        if depth > _MAX_DEPTH:
            raise SchemaError(pointer, f"is nested more than {_MAX_DEPTH} deep")
        if not isinstance(schema, dict):
            return
        own = schema.get("id" if self.declared == DRAFT_4 else "$id")
        base = self._base(schema, base)
        place = _Place(schema, pointer, base)
        if pointer == "" or (isinstance(own, str) and not own.startswith("#")):
            if self.addresses.setdefault(base, place).schema is not schema:
                raise SchemaError(pointer, f"is called {base!r}, as another schema is")
            self.addresses.setdefault("", place)
        if pointer and _dialect(schema.get("$schema")) not in (None, self.declared or DRAFT_2020):
            raise SchemaError(pointer, "is of another dialect than the schema that it stands in")
        if isinstance(own, str) and own.startswith("#"):
            self.addresses.setdefault(f"{base}{own}", place)
        for keyword in ("$anchor", "$dynamicAnchor"):
            if isinstance(schema.get(keyword), str):
                self.addresses.setdefault(f"{base}#{schema[keyword]}", place)
        self.recursive_anchor |= schema.get("$recursiveAnchor") is True
        for keyword in _SINGLE:
            self._find_addresses(schema.get(keyword), f"{pointer}/{keyword}", base, depth + 1)
        for keyword in _LISTS:
            if isinstance(schema.get(keyword), list):
                for index, item in enumerate(schema[keyword]):
                    self._find_addresses(item, f"{pointer}/{keyword}/{index}", base, depth + 1)
        for keyword in _MAPS:
            if isinstance(schema.get(keyword), dict):
                for name, item in schema[keyword].items():
                    at = f"{pointer}/{escape(keyword)}/{escape(name)}"
                    self._find_addresses(item, at, base, depth + 1)

    def _schema(self, place: _Place) -> Schema:
        schema, at = place.schema, place.pointer
        if isinstance(schema, bool):
            return schema
        if not isinstance(schema, dict):
            raise SchemaError(at, "must be a schema: an object, true or false")
        given = {name: value for name, value in schema.items() if self._known(name)}
        if "$ref" in given and self.dialect <= DRAFT_7:
            # What stands beside a reference is ignored by these dialects.
            given = {name: given[name] for name in ("$ref", "title", "description") if name in given}
        for keyword in _DYNAMIC:
            if keyword in given:
                if keyword == "$recursiveRef" and not self.recursive_anchor and "$ref" not in given:
                    given["$ref"] = given.pop(keyword)
                else:
                    raise SchemaError(f"{at}/{keyword}", "is a reference that cannot be closed")
        result: dict[str, Any] = {}
        for keyword, value in given.items():
            if keyword in _NAMING or keyword in _DEFINITIONS:
                continue
            if keyword == "$ref":
                result["$ref"] = f"#/$defs/{self._refer(value, place)}"
            elif keyword in ("items", "additionalItems", "dependencies"):
                continue
            elif keyword in _SINGLE:
                result[keyword] = self._inside(place, value, f"/{keyword}")
            elif keyword in _LISTS and isinstance(value, list):
                result[keyword] = [
                    self._inside(place, item, f"/{keyword}/{index}") for index, item in enumerate(value)
                ]
            elif keyword in _MAPS and isinstance(value, dict):
                result[keyword] = {
                    name: self._inside(place, item, f"/{keyword}/{escape(name)}")
                    for name, item in value.items()
                }
            else:
                result[keyword] = value
        if "if" not in result:
            result = {name: value for name, value in result.items() if name not in ("then", "else")}
        self._convert_items(place, given, result)
        self._convert_dependencies(place, given, result)
        self._convert_bounds(given, result)
        self._convert_nullable(at, result)
        return result

    def _inside(self, parent: _Place, schema: Any, part: str) -> Schema:
        return self._schema(_Place(schema, f"{parent.pointer}{part}", self._base(schema, parent.base)))

    def _convert_items(self, place: _Place, given: dict[str, Any], result: dict[str, Any]) -> None:
        items = given.get("items")
        if isinstance(items, list) and self.declared != DRAFT_2020:
            result["prefixItems"] = [
                self._inside(place, item, f"/items/{index}") for index, item in enumerate(items)
            ]
            if "additionalItems" in given:
                result["items"] = self._inside(place, given["additionalItems"], "/additionalItems")
        elif "items" in given:
            result["items"] = self._inside(place, items, "/items")

    def _convert_dependencies(self, place: _Place, given: dict[str, Any], result: dict[str, Any]) -> None:
        dependencies = given.get("dependencies")
        if self.declared in (DRAFT_2019, DRAFT_2020) or not isinstance(dependencies, dict):
            return
        for name, value in dependencies.items():
            if isinstance(value, list):
                before = result.get("dependentRequired", {}).get(name, [])
                result["dependentRequired"] = result.get("dependentRequired", {}) | {name: [*before, *value]}
            else:
                part = f"/dependencies/{escape(name)}"
                made = self._inside(place, value, part)
                before = result.get("dependentSchemas", {}).get(name)
                both = made if before is None else {"allOf": [before, made]}
                result["dependentSchemas"] = result.get("dependentSchemas", {}) | {name: both}

    def _convert_bounds(self, given: dict[str, Any], result: dict[str, Any]) -> None:
        """Write `exclusiveMinimum: true` of draft 4 as the bound that it makes of `minimum`."""
        if self.declared not in (None, DRAFT_4):
            return
        for bound, exclusive in (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")):
            if isinstance(given.get(exclusive), bool):
                del result[exclusive]
                if given[exclusive] and bound in given:
                    result[exclusive] = result.pop(bound)

    def _convert_nullable(self, at: str, result: dict[str, Any]) -> None:
        """Write OpenAPI's `nullable`, which validators of MCP's own libraries obey, as the type null."""
        if result.get("nullable") is not True or "type" not in result:
            return
        types = result["type"] if isinstance(result["type"], list) else [result["type"]]
        result["type"] = [*types, *(["null"] if "null" not in types else [])]
        if isinstance(result.get("enum"), list) and None not in result["enum"]:
            result["enum"] = [*result["enum"], None]
        del result["nullable"]
        self.notes.append(f"arguments_schema: {at or '/'}: nullable is read as the type null")

    def _refer(self, reference: Any, place: _Place) -> str:
        """Return the name of the definition that a reference leads to, which is made once."""
        at = f"{place.pointer}/$ref"
        target = self._find(reference, place)
        if id(target.schema) in self.names:
            return self.names[id(target.schema)]
        if isinstance(target.schema, bool):
            raise SchemaError(at, "leads to true or false")
        if not isinstance(target.schema, dict):
            raise SchemaError(at, f"{reference!r} leads to no schema")
        last = re.sub(r"[^A-Za-z0-9_.-]", "_", unquote(target.pointer.rpartition("/")[2])) or "root"
        name, number = last, 1
        while name in self.names.values():
            number += 1
            name = f"{last}-{number}"
        self.names[id(target.schema)] = name
        if target.schema is not self.root:
            self.definitions[name] = True
            self.definitions[name] = self._schema(target)
        return name

    def _find(self, reference: Any, place: _Place) -> _Place:
        at = f"{place.pointer}/$ref"
        if not isinstance(reference, str):
            raise SchemaError(at, "must be a reference")
        if reference.startswith("#"):
            address, fragment = place.base, reference[1:]
        else:
            address, fragment = urldefrag(urljoin(place.base, reference))
        fragment = unquote(fragment)
        if fragment and not fragment.startswith("/"):
            named = self.addresses.get(f"{address}#{fragment}")
            if named is None:
                raise SchemaError(at, f"{reference!r} leads nowhere")
            return named
        found = self.addresses.get(address)
        if found is None:
            raise SchemaError(at, f"{reference!r} leads out of the schema; nothing is fetched")
        return self._follow(found, fragment, at, reference)

    def _follow(self, found: _Place, fragment: str, at: str, reference: str) -> _Place:
        value, pointer, base = found.schema, found.pointer, found.base
        for part in fragment.split("/")[1:]:
            key = part.replace("~1", "/").replace("~0", "~")
            if isinstance(value, dict) and key in value:
                value = value[key]
            elif isinstance(value, list) and key.isdecimal() and int(key) < len(value):
                value = value[int(key)]
            else:
                raise SchemaError(at, f"{reference!r} leads nowhere")
            pointer += f"/{part}"
            base = self._base(value, base)
        return _Place(value, pointer, base)

    def _check_circles(self) -> None:
        """Refuse a definition that refers to itself for the same value, which no validator gets out of."""
        done: set[str] = set()

        def visit(name: str, path: tuple[str, ...]) -> None:
            if name in path:
                raise SchemaError(f"/$defs/{name}", "refers to itself for the same value, without end")
            if name not in done:
                for other in _referred_in_place(self.definitions[name]):
                    visit(other, (*path, name))
                done.add(name)

        for name in self.definitions:
            visit(name, ())


def _referred_in_place(schema: Schema) -> set[str]:
    """Return the definitions that judge the same value as a converted schema."""
    if isinstance(schema, bool):
        return set()
    found = {schema["$ref"].removeprefix("#/$defs/")} if "$ref" in schema else set()
    for keyword, _, inside in subschemas(schema):
        if keyword in IN_PLACE or keyword == "not":
            found |= _referred_in_place(inside)
    return found
