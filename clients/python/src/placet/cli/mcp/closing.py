"""Closes a schema: what its maker takes passes, and a member that its maker does not name does not. Pure.

A member of an object is *named* if a subschema that judges the object, and takes it, speaks of the member: in
`properties`, by a pattern, or by an `additionalProperties` of its own. That is what `unevaluatedProperties`
(2020-12, section 11.3) refers to, for one object. A schema is closed where each object stands, at any depth.

Where several subschemas describe the members of one object deeper down (two parts of an `allOf`, or a branch
and what stands beside it), no keyword at any one of them knows what the others name. Then the maker's schema
stays as it is, and beside it stands a schema that says of each such object, for each set of subschemas that
may describe it at once, what these name.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any
from urllib.parse import quote

import jsonschema_rs

from placet.cli.mcp.schemas import IN_PLACE, Schema, SchemaError, Subschema, subschemas

# The definition of a value of which nothing is named: objects in it are empty, at any depth.
NOTHING = "placet.nothing"
_CLOSED = "placet.closed"
# Bounds what is written for objects that several subschemas describe.
_MAX_PLACES = 200
_MAX_BRANCHES = 4
_MAX_ALTERNATIVES = 64
_SCALARS = {"string", "number", "integer", "boolean", "null"}
_CONTAINERS = frozenset({"object", "array"})
# Keywords that do no more than tell people.
_TELLING = ("title", "description", "default", "examples", "deprecated", "readOnly", "writeOnly", "$comment")


@dataclass(frozen=True, kw_only=True, slots=True)
class Closed:
    schema: dict[str, Any]
    # What people should know of it, a sentence each.
    notes: tuple[str, ...]


def close(schema: dict[str, Any]) -> Closed:
    """Return a schema as `dialects.convert` makes it, closed.

    Raises `SchemaError` if it cannot be closed exactly.
    """
    document = _Document(schema)
    try:
        closed = _InPlace(document).close()
    except _ConflictError:
        closed = _Beside(document).close()
    return Closed(schema=closed, notes=tuple(dict.fromkeys(document.notes)))


class _ConflictError(Exception):
    """The schema cannot be closed where its objects stand."""


@dataclass(frozen=True, slots=True)
class _Child:
    """One subschema's word on members, or on elements, of the value that it judges."""

    owner: int
    keyword: str
    key: str | int | None
    schema: Schema
    # Whether the owner judges the value whenever the place is judged at all.
    certain: bool


@dataclass(slots=True)
class _Document:
    schema: dict[str, Any]
    notes: list[str] = field(default_factory=list)
    _inert: dict[int, bool] = field(default_factory=dict)

    def target(self, schema: dict[str, Any]) -> Schema:
        found: Schema = self.schema["$defs"][schema["$ref"].removeprefix("#/$defs/")]
        return found

    def in_place(self, schema: Schema) -> Iterator[tuple[Subschema, bool]]:
        """Yield the schemas that judge the same value, each with whether it always does."""
        if isinstance(schema, bool):
            return
        if "$ref" in schema:
            yield Subschema("$ref", None, self.target(schema)), True
        for inside in subschemas(schema):
            if inside.keyword in IN_PLACE:
                yield inside, inside.keyword == "allOf"

    def nodes(self, schema: Schema) -> dict[int, tuple[dict[str, Any], bool]]:
        """Return all schemas that judge the value of a place, by identity, with whether each always does."""
        found: dict[int, tuple[dict[str, Any], bool]] = {}

        def visit(schema: Schema, certain: bool) -> None:
            if isinstance(schema, bool):
                return
            before = found.get(id(schema))
            if before is not None and (before[1] or not certain):
                return
            found[id(schema)] = (schema, certain)
            for inside, always in self.in_place(schema):
                visit(inside.schema, certain and always)

        visit(schema, True)
        return found

    def containers(self, schema: Schema) -> frozenset[str]:
        """Return which of objects and arrays a schema may take that its maker did not spell out.

        It may in truth take fewer.
        """
        if isinstance(schema, bool):
            return _CONTAINERS if schema else frozenset()
        kinds = _CONTAINERS
        if "type" in schema:
            types = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
            kinds &= set(types)
        if is_fixed(schema):
            # Its maker spelt out every value that it takes.
            return frozenset()
        if "$ref" in schema:
            kinds &= self.containers(self.target(schema))
        for part in schema.get("allOf", ()):
            kinds &= self.containers(part)
        for keyword in ("anyOf", "oneOf"):
            if kinds and keyword in schema:
                kinds &= frozenset().union(*(self.containers(part) for part in schema[keyword]))
        return kinds

    def children(self, schema: dict[str, Any], certain: bool) -> Iterator[_Child]:
        """Yield what one schema says of members and elements."""
        for inside in subschemas(schema):
            if inside.keyword in _CHILDREN:
                yield _Child(id(schema), inside.keyword, inside.key, inside.schema, certain)

    def inert(self, schema: Schema) -> bool:
        """Whether a schema, with all that judges the same value, names nothing at any depth."""
        if isinstance(schema, bool):
            return True
        if id(schema) not in self._inert:
            # Until it is known otherwise, for schemas that contain themselves.
            self._inert[id(schema)] = True
            self._inert[id(schema)] = not any(
                child.keyword != "contains" or not self.inert(child.schema)
                for node, certain in self.nodes(schema).values()
                for child in self.children(node, certain)
                if child.schema is not False
            )
        return self._inert[id(schema)]


_CHILDREN = (
    "properties",
    "patternProperties",
    "additionalProperties",
    "unevaluatedProperties",
    "prefixItems",
    "items",
    "unevaluatedItems",
    "contains",
)
_OBJECT = _CHILDREN[:4]


def is_fixed(schema: dict[str, Any]) -> bool:
    """Whether the maker spelt out the values that a schema takes."""
    return "const" in schema or "enum" in schema


class _InPlace:
    """Closes each object and list where it stands, if no two subschemas describe the same one."""

    def __init__(self, document: _Document) -> None:
        self._document = document
        # Places of children, (owner, keyword, key), by whether they are closed or left to another subschema.
        self._closed: dict[tuple[int, str, str | int | None], bool] = {}
        self._judged: set[int] = set()
        self._nothing = False

    def close(self) -> dict[str, Any]:
        document = self._document
        self._judge(document.schema)
        root = self._root(document.schema, "")
        assert isinstance(root, dict)
        definitions = {
            name: self._changed(schema, f"/$defs/{name}")
            for name, schema in document.schema.get("$defs", {}).items()
        }
        if self._nothing:
            definitions[NOTHING] = nothing_named()
        return root | ({"$defs": definitions} if definitions else {})

    def _judge(self, place: Schema) -> None:
        """Decide for the children of everything that judges a place which of them are closed."""
        if isinstance(place, bool) or id(place) in self._judged:
            return
        self._judged.add(id(place))
        nodes = self._document.nodes(place)
        children = [
            child for node, certain in nodes.values() for child in self._document.children(node, certain)
        ]
        uncertain = any(not child.certain for child in children)
        for child in children:
            holds = self._document.containers(child.schema)
            if child.keyword == "contains" and holds:
                raise _ConflictError
            unevaluated = child.keyword in ("unevaluatedProperties", "unevaluatedItems")
            if unevaluated and child.schema is not False and (uncertain or child.owner != id(place)):
                raise _ConflictError
        for node, _ in nodes.values():
            if "not" in node and self._refers(node["not"]):
                raise _ConflictError
            if node is not place and fixes_containers(node):
                raise _ConflictError
        holding = [child for child in children if self._document.containers(child.schema)]
        left: set[tuple[int, str, str | int | None]] = set()
        for one, other in combinations(holding, 2):
            if one.schema is other.schema or not overlap(one, other, nodes):
                continue
            inert = [self._document.inert(child.schema) for child in (one, other)]
            if all(inert):
                continue
            if not any(inert):
                raise _ConflictError
            naming, silent = (one, other) if inert[1] else (other, one)
            if not naming.certain or (naming.keyword, silent.keyword) != ("properties", "properties"):
                raise _ConflictError
            left.add((silent.owner, silent.keyword, silent.key))
        for child in children:
            at = (child.owner, child.keyword, child.key)
            if self._closed.setdefault(at, at not in left) != (at not in left):
                raise _ConflictError
            self._judge(child.schema)

    def _refers(self, schema: Schema) -> bool:
        """Whether anything in a schema refers to a definition."""
        if isinstance(schema, bool):
            return False
        return "$ref" in schema or any(self._refers(inside.schema) for inside in subschemas(schema))

    def _root(self, schema: Schema, at: str) -> Schema:
        """Return the schema of a place, closed for the objects and lists that stand there."""
        document = self._document
        kinds = document.containers(schema)
        changed = self._changed(schema, at)
        if not kinds or changed is False:
            return changed
        if changed is True:
            changed = {}
        assert isinstance(changed, dict)
        in_place = any(keyword in changed for keyword in IN_PLACE)
        given = {} if isinstance(schema, bool) else schema
        if "object" in kinds:
            if not any(keyword in given for keyword in ("additionalProperties", "unevaluatedProperties")):
                changed["unevaluatedProperties" if in_place else "additionalProperties"] = False
                self._note_silent(schema, at)
            elif is_open(given.get("additionalProperties", given.get("unevaluatedProperties"))):
                document.notes.append(
                    f"arguments_schema: {at or '/'}: takes members of any name, as its maker says"
                )
        if "array" in kinds and not any(keyword in given for keyword in ("items", "unevaluatedItems")):
            changed["unevaluatedItems" if in_place else "items"] = {"$ref": f"#/$defs/{NOTHING}"}
            self._nothing = True
        return changed

    def _note_silent(self, schema: Schema, at: str) -> None:
        if at and self._document.inert(schema):
            self._document.notes.append(
                f"arguments_schema: {at}: its maker names no members; an object there must be empty"
            )

    def _changed(self, schema: Schema, at: str) -> Schema:
        """Return a schema with its children closed, and itself as open as it is."""
        if isinstance(schema, bool):
            return schema
        result = {name: value for name, value in schema.items() if name != "$defs"}
        for inside in subschemas(schema):
            if inside.keyword == "$defs":
                continue
            place = f"{at}{inside.place}"
            if inside.keyword in _CHILDREN:
                closed = self._closed.get((id(schema), inside.keyword, inside.key), True)
                new = self._root(inside.schema, place) if closed else inside.schema
            elif inside.keyword in IN_PLACE:
                new = self._changed(inside.schema, place)
            else:
                continue
            if inside.key is None:
                result[inside.keyword] = new
            elif isinstance(result[inside.keyword], list):
                result[inside.keyword] = [
                    new if index == inside.key else item for index, item in enumerate(result[inside.keyword])
                ]
            else:
                result[inside.keyword] = result[inside.keyword] | {inside.key: new}
        return result


def fixes_containers(schema: dict[str, Any]) -> bool:
    """Whether the values that the maker spelt out are objects or lists, in part at least."""
    values = [schema["const"]] if "const" in schema else schema.get("enum", ())
    return any(isinstance(value, dict | list) for value in values)


def is_open(schema: Schema | None) -> bool:
    """Whether a schema says no more than that it takes everything."""
    return schema is True or (isinstance(schema, dict) and all(name in _TELLING for name in schema))


def nothing_named() -> dict[str, Any]:
    return {"additionalProperties": False, "items": {"$ref": f"#/$defs/{NOTHING}"}}


def overlap(one: _Child, other: _Child, nodes: dict[int, tuple[dict[str, Any], bool]]) -> bool:
    """Whether two children may describe the same member, or the same element."""
    if (one.keyword in _OBJECT) != (other.keyword in _OBJECT):
        return False
    if one.keyword not in _OBJECT:
        if "prefixItems" not in (one.keyword, other.keyword):
            # Within one schema, `items` and `unevaluatedItems` are about others than `prefixItems`.
            return True
        first, second = (one, other) if one.keyword == "prefixItems" else (other, one)
        if second.keyword == "prefixItems":
            return first.key == second.key
        if second.keyword == "contains" or second.owner == first.owner:
            return second.keyword == "contains"
        assert isinstance(first.key, int)
        return first.key >= len(nodes[second.owner][0].get("prefixItems", ()))
    for first, second in ((one, other), (other, one)):
        if first.keyword == "properties":
            assert isinstance(first.key, str)
            return describes(nodes[second.owner][0], second, first.key)
    # Which names two patterns share is not worked out.
    return one.owner != other.owner or one.keyword == other.keyword == "patternProperties"


def describes(owner: dict[str, Any], child: _Child, name: str) -> bool:
    """Whether a child of a schema is about the member of a name."""
    if child.keyword == "properties":
        return child.key == name
    if child.keyword == "patternProperties":
        return matches(str(child.key), name)
    return name not in owner.get("properties", ()) and not any(
        matches(pattern, name) for pattern in owner.get("patternProperties", ())
    )


def matches(pattern: str, name: str) -> bool:
    """Whether a pattern is found in a name, as the server's engine sees it."""
    return jsonschema_rs.is_valid(
        {"pattern": pattern}, name, pattern_options=jsonschema_rs.RegexOptions(), offline=True
    )


@dataclass(frozen=True, slots=True)
class _Alternative:
    """Subschemas that may judge a value at once, and what shows that those do which need not."""

    conditions: tuple[Schema, ...] = ()
    active: tuple[dict[str, Any], ...] = ()

    def __add__(self, other: _Alternative) -> _Alternative:
        return _Alternative(self.conditions + other.conditions, self.active + other.active)


class _Beside:
    """Writes beside the maker's schema another one, which says of each object what is named in it.

    A place is known by the set of subschemas that judge it for certain. What else may judge it makes
    alternatives: each says which further subschemas take the value, and what all of them together name. More
    of them name more, so one alternative that holds is enough.
    """

    def __init__(self, document: _Document) -> None:
        self._document = document
        self._pointers: dict[int, str] = {}
        self._places: dict[frozenset[int], str] = {}
        self._schemas: dict[int, Schema] = {}
        self._definitions: dict[str, Schema] = {}

    def close(self) -> dict[str, Any]:
        maker = self._document.schema
        self._point(maker, "#")
        closing = self._place([maker])
        self._document.notes.append(
            "arguments_schema: several parts of it describe the same objects; what they name together stands "
            f"in $defs ({_CLOSED}…)"
        )
        rest = {name: value for name, value in maker.items() if name not in ("allOf", "$defs")}
        definitions = maker.get("$defs", {}) | self._definitions | {NOTHING: nothing_named()}
        return rest | {"allOf": [*maker.get("allOf", ()), closing], "$defs": definitions}

    def _point(self, schema: Schema, pointer: str) -> None:
        """Keep where each schema stands."""
        if isinstance(schema, bool):
            return
        self._pointers[id(schema)] = pointer
        for inside in subschemas(schema):
            self._point(inside.schema, f"{pointer}{quote(inside.place)}")

    def _place(self, judges: Iterable[Schema]) -> Schema:
        """Return what closes a place that all of `judges` take the value of."""
        judging = {id(schema): schema for schema in judges if schema is not True and not is_open(schema)}
        if not judging:
            return {"$ref": f"#/$defs/{NOTHING}"}
        if any(not self._document.containers(schema) for schema in judging.values()):
            return True
        key = frozenset(judging)
        if key not in self._places:
            if len(self._places) >= _MAX_PLACES:
                raise SchemaError("", f"describes more than {_MAX_PLACES} objects in several places at once")
            name = self._places[key] = f"{_CLOSED}.{len(self._places)}"
            alternatives = [_Alternative()]
            for schema in judging.values():
                alternatives = self._product(alternatives, self._alternatives(schema))
            written = [self._closing(alternative) for alternative in alternatives]
            self._definitions[name] = written[0] if len(written) == 1 else {"anyOf": written}
        return {"$ref": f"#/$defs/{self._places[key]}"}

    def _alternatives(self, schema: Schema) -> list[_Alternative]:
        """Return which sets of subschemas may judge a value that `schema` takes."""
        if isinstance(schema, bool):
            return [_Alternative()]
        for keyword in ("unevaluatedProperties", "unevaluatedItems"):
            if schema.get(keyword, False) is not False:
                raise SchemaError(self._at(schema), f"{keyword} beside branches cannot be closed exactly")
        found = [_Alternative(active=(schema,))]
        if "$ref" in schema:
            found = self._product(found, self._alternatives(self._document.target(schema)))
        for part in schema.get("allOf", ()):
            found = self._product(found, self._alternatives(part))
        for keyword in ("oneOf", "anyOf"):
            if keyword in schema:
                found = self._product(found, self._branches(schema, keyword))
        if any(self._names(schema.get(name, True)) for name in ("if", "then", "else")) and "if" in schema:
            taken = self._if(schema["if"])
            if "then" in schema:
                taken = self._product(taken, self._alternatives(schema["then"]))
            refused = [_Alternative()]
            if "else" in schema and self._names(schema["else"]):
                refused = [
                    _Alternative(conditions=({"not": self._ref(schema["if"])},)) + other
                    for other in self._alternatives(schema["else"])
                ]
            found = self._product(found, [*refused, *taken])
        for name, part in schema.get("dependentSchemas", {}).items():
            if self._names(part):
                there = _Alternative(conditions=({"type": "object", "required": [name]},))
                given = [there + other for other in self._alternatives(part)]
                found = self._product(found, [_Alternative(), *given])
        return found

    def _if(self, condition: Schema) -> list[_Alternative]:
        taken = _Alternative(conditions=(self._ref(condition),))
        return [taken + other for other in self._alternatives(condition)]

    def _branches(self, schema: dict[str, Any], keyword: str) -> list[_Alternative]:
        naming = [part for part in schema[keyword] if self._names(part)]
        sets: list[tuple[Schema, ...]] = [(part,) for part in naming]
        if keyword == "anyOf" and not exclusive(naming, self._document):
            if len(naming) > _MAX_BRANCHES:
                raise SchemaError(
                    f"{self._at(schema)}/anyOf",
                    f"has more than {_MAX_BRANCHES} branches that describe one object and may hold together",
                )
            sets = [some for size in range(1, len(naming) + 1) for some in combinations(naming, size)]
        found = [_Alternative()] if len(naming) < len(schema[keyword]) or not naming else []
        for some in sets:
            together = [_Alternative(conditions=tuple(self._ref(part) for part in some))]
            for part in some:
                together = self._product(together, self._alternatives(part))
            found += together
        return found

    def _product(self, some: list[_Alternative], others: list[_Alternative]) -> list[_Alternative]:
        if len(some) * len(others) > _MAX_ALTERNATIVES:
            raise SchemaError(
                "", f"has an object with more than {_MAX_ALTERNATIVES} combinations of branches"
            )
        return [one + other for one in some for other in others]

    def _names(self, schema: Schema) -> bool:
        """Whether it matters here that a schema judges a value: it names something, or spells it out."""
        return isinstance(schema, dict) and (
            not self._document.inert(schema)
            or any(fixes_containers(node) for node, _ in self._document.nodes(schema).values())
        )

    def _closing(self, alternative: _Alternative) -> Schema:
        """Return what holds if these subschemas take the value, and name all that is in it."""
        active = list({id(schema): schema for schema in alternative.active}.values())
        result: dict[str, Any] = {}
        if not any(fixes_containers(schema) for schema in active):
            result = self._members(active) | self._elements(active)
        if alternative.conditions:
            result["allOf"] = list(alternative.conditions)
        return result

    def _members(self, active: list[dict[str, Any]]) -> dict[str, Any]:
        names = dict.fromkeys(name for schema in active for name in schema.get("properties", ()))
        children = [(schema, child) for schema in active for child in self._document.children(schema, True)]
        free = [
            (owner, child)
            for owner, child in children
            if child.keyword in ("patternProperties", "additionalProperties") and child.schema is not False
        ]
        deep = [(owner, child) for owner, child in free if self._document.containers(child.schema)]
        if deep and (
            len(free) > 1
            or (
                deep[0][1].keyword == "patternProperties"
                and any(matches(str(deep[0][1].key), name) for name in names)
            )
        ):
            raise SchemaError(self._at(deep[0][0]), "has members of any name that others describe too")
        result: dict[str, Any] = {
            "properties": {
                name: self._place(
                    child.schema
                    for owner, child in children
                    if child.keyword in _OBJECT and describes(owner, child, name)
                )
                for name in names
            }
        }
        result["additionalProperties"] = False
        for _, child in free:
            if child.keyword == "patternProperties":
                patterns = result.setdefault("patternProperties", {})
                patterns[child.key] = self._place([child.schema])
            else:
                result["additionalProperties"] = self._place([child.schema])
        return result

    def _elements(self, active: list[dict[str, Any]]) -> dict[str, Any]:
        longest = max((len(schema.get("prefixItems", ())) for schema in active), default=0)
        result: dict[str, Any] = {"items": self._element(active, longest)}
        if longest:
            result["prefixItems"] = [self._element(active, index) for index in range(longest)]
        return result

    def _element(self, active: list[dict[str, Any]], index: int) -> Schema:
        judges: list[Schema] = []
        for schema in active:
            prefix = schema.get("prefixItems", ())
            if index < len(prefix):
                judges.append(prefix[index])
            elif "items" in schema:
                judges.append(schema["items"])
        found = [self._place(judges)]
        for schema in active:
            if "contains" in schema and self._names(schema["contains"]):
                conditions = [self._ref(schema["contains"])]
                found.append({"allOf": [*conditions, self._place([*judges, schema["contains"]])]})
        return found[0] if len(found) == 1 else {"anyOf": found}

    def _ref(self, schema: Schema) -> Schema:
        if isinstance(schema, bool):
            return schema
        return {"$ref": self._pointers[id(schema)]}

    def _at(self, schema: Schema) -> str:
        return self._pointers.get(id(schema), "").removeprefix("#")


def exclusive(branches: list[Schema], document: _Document) -> bool:
    """Whether no value can be taken by two of the schemas, because a required member tells them apart."""
    told: list[dict[str, list[Any]]] = []
    for branch in branches:
        values: dict[str, list[Any]] = {}
        nodes = [node for node, certain in document.nodes(branch).values() if certain]
        required = {name for node in nodes for name in node.get("required", ())}
        only_objects = any(node.get("type") == "object" for node in nodes)
        for node in nodes:
            for name, schema in node.get("properties", {}).items():
                if only_objects and name in required and isinstance(schema, dict):
                    if isinstance(schema.get("const"), str):
                        values[name] = [schema["const"]]
                    elif all(isinstance(value, str) for value in schema.get("enum", (None,))):
                        values[name] = schema["enum"]
        told.append(values)
    return all(
        any(not set(one[name]) & set(other[name]) for name in one.keys() & other.keys())
        for one, other in combinations(told, 2)
    )
