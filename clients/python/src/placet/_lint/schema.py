"""What a JSON Schema says of each argument, read without running it.

A schema (2020-12) with `allOf`, `anyOf`, `oneOf`, `if` and references says one of several things of a
value. Each of these *alternatives* is a list of plain schemas that all hold. An answer is what holds in
every alternative that some value can fit. What a schema says by patterns and `not` is not looked at, and of
its numbers only bounds that nothing can meet, so an answer is never stricter than the schema. Work is
bounded; a schema that needs more is `SchemaUnclearError`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from itertools import chain
from typing import Any, NamedTuple

Path = tuple[str | int, ...]

TYPES = frozenset({"null", "boolean", "object", "array", "number", "string"})
# Bounds of one schema: how many alternatives a value may have, and how many steps all questions take.
_MAX_ALTERNATIVES = 64
_MAX_STEPS = 5_000
# The words that bound values of a type from below and from above.
_BOUNDS: Mapping[str, tuple[str, str]] = {
    "string": ("minLength", "maxLength"),
    "number": ("minimum", "maximum"),
    "array": ("minItems", "maxItems"),
    "object": ("minProperties", "maxProperties"),
}
# What stands for every element of a list in the path of a value: `items[].sku`.
ELEMENTS = "[]"


class SchemaUnclearError(Exception):
    """What a schema says cannot be told within the bounds."""


class Presence(StrEnum):
    """Whether a call can have an argument."""

    # No call that fits the schema has it.
    FORBIDDEN = "forbidden"
    # The schema does not name it and does not refuse it.
    UNNAMED = "unnamed"
    NAMED = "named"


class Node(NamedTuple):
    """A schema, and where it stands in the whole one."""

    value: Any
    path: Path


# Schemas that all hold of one value.
Place = tuple[Node, ...]
_Key = tuple[tuple[int, Path], ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Value:
    """What a schema says of one argument, or of something in one."""

    presence: Presence
    # Every call that fits has it.
    required: bool
    # The JSON types that it can have; an integer is a number.
    types: frozenset[str]
    # Its only values are listed.
    listed: bool
    # It has a schema of its own: by its name, by a pattern of names, or that of all other members.
    declared: bool
    # Where the schema names it first; None: nowhere.
    path: Path | None


class Opening(NamedTuple):
    """A place where a schema lets through what it does not name."""

    # The place of the schema.
    path: Path
    # What the value is called: `headers`, `items[].options`; empty for the arguments themselves.
    name: str
    # What passes: "anything" is any value, "members" any members of an object, "elements" any of a list.
    what: str


class ArgumentSchema:
    """The schema of a tool's arguments."""

    def __init__(self, schema: Any) -> None:
        """`schema` None: the tool takes no arguments."""
        self._root = Node({"type": "object", "maxProperties": 0} if schema is None else schema, ())
        self._steps = 0
        # Answers are kept by the identity of schemas, which the form holds for as long as this lives.
        self._known: dict[_Key, list[Place]] = {}
        self._known_objects: dict[_Key, list[Place]] = {}
        self._paths: list[tuple[str, ...]] | None = None
        self._names: list[str] | None = None

    def names(self) -> list[str]:
        """Return the arguments that the schema names and some call can have."""
        if self._names is None:
            found: dict[str, None] = {}
            for alternative in self._objects((self._root,)):
                found |= dict.fromkeys(_named(alternative))
            self._names = [name for name in found if self.at([name]).presence is Presence.NAMED]
        return self._names

    def paths(self) -> list[tuple[str, ...]]:
        """Return the way to every argument that is named, and to everything that is named in one."""
        if self._paths is None:
            found: dict[tuple[str, ...], None] = {}
            self._collect((self._root,), (), found, frozenset())
            self._paths = list(found)
        return self._paths

    def find(self, name: str) -> Value:
        """Return what is said of the argument of this name, or of what the path leads to.

        A path has the names of members with dots between them, and `[]` for each element of a list:
        `headers.Authorization`, `items[].sku`. An argument that has this very name comes first.
        """
        found = self.at([name])
        steps = steps_of(name)
        return found if found.presence is Presence.NAMED or len(steps) == 1 else self.at(steps)

    def values(self, name: str) -> list[Any] | None:
        """Return the only values that an argument can have; None if they are not listed."""
        found: list[Any] = []
        for alternative in self._objects((self._root,)):
            child = self._child(alternative, name)
            for inside in self._alternatives(child) if child is not None else ():
                lists = [values for node in inside if (values := _listed(node.value)) is not None]
                if not lists:
                    return None
                found += lists[0]
        return found

    def at(self, steps: Sequence[str]) -> Value:
        """Return what is said of what these steps lead to."""
        return self._find((self._root,), steps)

    def contradictions(self) -> list[tuple[Path, str]]:
        """Return why no call can fit, with places; nothing if one can."""
        found: list[tuple[Path, str]] = []
        every = self._alternatives((self._root,))
        if not every:
            return [(self._root.path, "refuses everything")]
        for alternative in every:
            if "object" not in _types(alternative):
                found.append((alternative[0].path if alternative else (), "refuses every object"))
                continue
            refused = self._refused(alternative)
            if refused is None:
                return []
            found.append(refused)
        return found

    def openings(self) -> list[Opening]:
        """Return every place, at any depth, where what is not named passes."""
        found: dict[Path, Opening] = {}
        self._walk((self._root,), "", found, set())
        return list(found.values())

    # --- questions about one place ------------------------------------------------

    def _find(self, place: Place, steps: Sequence[str]) -> Value:
        step, rest = steps[0], steps[1:]
        presence, required, listed, declared = Presence.FORBIDDEN, True, True, False
        types: frozenset[str] = frozenset()
        path: Path | None = None
        for alternative in self._lists(place) if step == ELEMENTS else self._objects(place):
            child = _elements(alternative) if step == ELEMENTS else self._child(alternative, step)
            if child is None or not (inside := self._alternatives(child)):
                required = False
                continue
            named = step == ELEMENTS or _names(alternative, step)
            if rest:
                inner = self._find(child, rest)
            else:
                inner = Value(
                    presence=Presence.NAMED if named else Presence.UNNAMED,
                    required=True,
                    types=frozenset(chain.from_iterable(map(_types, inside))),
                    listed=all(map(_is_listed, inside)),
                    declared=named or not _is_free(child) or any(_matched_by_patterns(alternative)),
                    path=child[0].path if named and child else None,
                )
            required &= inner.required and (step == ELEMENTS or step in _required(alternative))
            if inner.presence is Presence.FORBIDDEN:
                continue
            types |= inner.types
            listed &= inner.listed
            declared |= inner.declared
            path = path or inner.path
            if named and inner.presence is Presence.NAMED:
                presence = Presence.NAMED
            elif presence is Presence.FORBIDDEN:
                presence = Presence.UNNAMED
        there = presence is not Presence.FORBIDDEN
        return Value(
            presence=presence,
            required=required and there,
            types=types,
            listed=listed and there,
            declared=declared,
            path=path,
        )

    def _collect(
        self, place: Place, at: tuple[str, ...], found: dict[tuple[str, ...], None], seen: frozenset[_Key]
    ) -> None:
        """Add the ways to everything that is named below a place."""
        if (key := _key(place)) in seen:
            return
        seen |= {key}
        for alternative in self._objects(place):
            for name in _named(alternative):
                child = self._child(alternative, name)
                if child is not None:
                    found[*at, name] = None
                    self._collect(child, (*at, name), found, seen)
        for alternative in self._lists(place) if at else ():
            if elements := _elements(alternative):
                self._collect(elements, (*at, ELEMENTS), found, seen)

    def _walk(self, place: Place, name: str, found: dict[Path, Opening], seen: set[_Key]) -> None:
        """Add the openings of a place and of everything below it."""
        if (key := _key(place)) in seen:
            return
        seen.add(key)
        path = place[0].path if place else ()
        alternatives = [each for each in self._alternatives(place) if not _is_listed(each)]
        if name and any(_types(each) == TYPES for each in alternatives):
            found.setdefault(path, Opening(path, name, "anything"))
        for alternative in alternatives:
            if "object" in _types(alternative):
                self._walk_members(alternative, path, name, found, seen)
            if "array" in _types(alternative) and name:
                elements = _elements(alternative)
                if elements is not None and _is_free(elements):
                    found.setdefault(path, Opening(path, name, "elements"))
                elif elements:
                    self._walk(elements, f"{name}{ELEMENTS}", found, seen)
                for node in _first_elements(alternative):
                    self._walk((node,), f"{name}{ELEMENTS}", found, seen)

    def _walk_members(
        self, alternative: Place, path: Path, name: str, found: dict[Path, Opening], seen: set[_Key]
    ) -> None:
        before = f"{name}." if name else ""
        others = self._child(alternative, None)
        if others is not None and _is_free(others):
            found.setdefault(path, Opening(path, name, "members"))
        elif others:
            self._walk(others, f"{before}*", found, seen)
        for member in _named(alternative):
            child = self._child(alternative, member)
            if child:
                self._walk(child, f"{before}{member}", found, seen)
        for node in _matched_by_patterns(alternative):
            self._walk((node,), f"{before}*", found, seen)

    # --- alternatives ---------------------------------------------------------------

    def _objects(self, place: Place) -> list[Place]:
        """Return the alternatives of a place that an object can fit."""
        key = _key(place)
        if key not in self._known_objects:
            self._known_objects[key] = [
                alternative
                for alternative in self._alternatives(place)
                if "object" in _types(alternative) and self._refused(alternative) is None
            ]
        return self._known_objects[key]

    def _lists(self, place: Place) -> list[Place]:
        """Return the alternatives of a place that a list can fit."""
        return [alternative for alternative in self._alternatives(place) if "array" in _types(alternative)]

    def _refused(self, alternative: Place) -> tuple[Path, str] | None:
        """Return where and why no object fits an alternative; None if one may."""
        for name in _required(alternative):
            child = self._child(alternative, name)
            if child and not self._alternatives(child):
                return child[0].path, f"is what no value of {name!r} fits, which is required"
            if child is None:
                node = next(n for n in alternative if name in _strings(n.value.get("required")))
                return (*node.path, "required"), f"demands {name!r}, and refuses it"
        return None

    def _alternatives(self, place: Place) -> list[Place]:
        """Return what may hold of a value at a place; nothing if no value fits."""
        key = _key(place)
        if key not in self._known:
            result: list[Place] = [()]
            for node in place:
                result = self._both(result, self._expand(node, frozenset()))
            self._known[key] = [alternative for alternative in result if _types(alternative)]
        return self._known[key]

    def _both(self, some: list[Place], others: list[Place]) -> list[Place]:
        self._count(len(some) * len(others))
        if len(some) * len(others) > _MAX_ALTERNATIVES:
            raise SchemaUnclearError
        return [one + other for one in some for other in others]

    def _either(self, node: Node, word: str, refs: frozenset[str]) -> list[Place]:
        branches = node.value[word]
        return [
            alternative
            for index, branch in enumerate(branches)
            for alternative in self._expand(Node(branch, (*node.path, word, index)), refs)
        ]

    def _expand(self, node: Node, refs: frozenset[str]) -> list[Place]:
        """Return the alternatives of one schema. `refs` are the references that led to it."""
        self._count(1)
        value = node.value
        if value is False:
            return []
        if not isinstance(value, Mapping):
            return [()]
        result: list[Place] = [(node,)]
        ref = value.get("$ref")
        if isinstance(ref, str) and ref not in refs:
            target = self._target(ref)
            if target is not None:
                result = self._both(result, self._expand(target, refs | {ref}))
        for index, part in enumerate(_sequence(value.get("allOf"))):
            result = self._both(result, self._expand(Node(part, (*node.path, "allOf", index)), refs))
        for word in ("anyOf", "oneOf"):
            if _sequence(value.get(word)):
                result = self._both(result, self._either(node, word, refs))
        if "if" in value and ("then" in value or "else" in value):
            when, then, otherwise = (
                self._expand(Node(value.get(word, True), (*node.path, word)), refs)
                for word in ("if", "then", "else")
            )
            result = self._both(result, [*self._both(when, then), *otherwise])
        return result

    def _target(self, ref: str) -> Node | None:
        """Return the schema that a reference within the same document leads to; None for any other."""
        if not ref.startswith("#"):
            return None
        if ref != "#" and not ref.startswith("#/"):
            return _anchored(self._root, ref[1:])
        value, path = self._root.value, self._root.path
        for part in ref.split("/")[1:]:
            name = part.replace("~1", "/").replace("~0", "~")
            if isinstance(value, Mapping) and name in value:
                value, path = value[name], (*path, name)
            elif isinstance(value, list) and name.isascii() and name.isdigit() and int(name) < len(value):
                value, path = value[int(name)], (*path, int(name))
            else:
                return None
        return Node(value, path)

    def _child(self, alternative: Place, name: str | None) -> Place | None:
        """Return the schemas of the member `name`; None: it is refused. `name` None: it has no name yet."""
        found: list[Node] = []
        for node in alternative:
            self._count(1)
            value, hit = node.value, False
            properties = value.get("properties")
            if isinstance(properties, Mapping) and name is not None and name in properties:
                found.append(Node(properties[name], (*node.path, "properties", name)))
                hit = True
            matched = bool(value.get("patternProperties")) and name is not None
            if not hit and not matched and "additionalProperties" in value:
                found.append(Node(value["additionalProperties"], (*node.path, "additionalProperties")))
            if (
                "unevaluatedProperties" in value
                and not (name is not None and _names(alternative, name))
                and not any("additionalProperties" in other.value for other in alternative)
                and not any(other.value.get("patternProperties") for other in alternative)
            ):
                found.append(Node(value["unevaluatedProperties"], (*node.path, "unevaluatedProperties")))
            if not _may_be_named(value, name):
                return None
        if any(node.value is False for node in found):
            return None
        return tuple(found)

    def _count(self, steps: int) -> None:
        self._steps += steps
        if self._steps > _MAX_STEPS:
            raise SchemaUnclearError


def steps_of(path: str) -> list[str]:
    """Return the steps of a path: `items[].sku` is items, [], sku."""
    steps: list[str] = []
    for part in path.split("."):
        name = part
        brackets = 0
        while name.endswith(ELEMENTS):
            name, brackets = name[: -len(ELEMENTS)], brackets + 1
        steps += [*([name] if name else []), *[ELEMENTS] * brackets]
    return steps


def _key(place: Place) -> _Key:
    return tuple((id(node.value), node.path) for node in place)


def _is_free(place: Place) -> bool:
    """Return whether these schemas say nothing."""
    return all(node.value is True or node.value == {} for node in place)


def _types(alternative: Place) -> frozenset[str]:
    """Return the types of JSON that a value can have that fits all of these."""
    types = TYPES
    for node in alternative:
        value = node.value
        said = value.get("type")
        if isinstance(said, str | list):
            types &= frozenset(_type(word) for word in ([said] if isinstance(said, str) else said))
        if "const" in value:
            types &= {_type_of(value["const"])}
        if isinstance(value.get("enum"), list):
            types &= {_type_of(item) for item in value["enum"]}
    return types - {kind for kind in types & _BOUNDS.keys() if _is_between_nothing(alternative, kind)}


def _is_between_nothing(alternative: Place, kind: str) -> bool:
    """Return whether the least of a value of this type is more than its most."""
    least, most = _BOUNDS[kind]
    lower, upper = _numbers(alternative, least), _numbers(alternative, most)
    if lower and upper and max(lower) > min(upper):
        return True
    if kind != "number":
        return False
    above, below = _numbers(alternative, "exclusiveMinimum"), _numbers(alternative, "exclusiveMaximum")
    return bool(
        (above and (upper or below) and max(above) >= min([*upper, *below]))
        or (below and lower and max(lower) >= min(below))
    )


def _numbers(alternative: Place, word: str) -> list[int | float | Decimal]:
    said = (node.value.get(word) for node in alternative)
    return [each for each in said if isinstance(each, int | float | Decimal) and not isinstance(each, bool)]


def _listed(schema: Mapping[str, Any]) -> list[Any] | None:
    if "const" in schema:
        return [schema["const"]]
    return schema["enum"] if isinstance(schema.get("enum"), list) else None


def _type(word: Any) -> str:
    return "number" if word == "integer" else str(word)


def _type_of(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, str):
        return "string"
    if isinstance(value, Mapping):
        return "object"
    return "array" if isinstance(value, list) else "number"


def _is_listed(alternative: Place) -> bool:
    return any("const" in node.value or isinstance(node.value.get("enum"), list) for node in alternative)


def _named(alternative: Place) -> list[str]:
    """Return the names of members that some of these schemas name."""
    found: dict[str, None] = {}
    for node in alternative:
        properties = node.value.get("properties")
        if isinstance(properties, Mapping):
            found |= dict.fromkeys(properties)
    return list(found)


def _names(alternative: Place, name: str) -> bool:
    """Return whether some of these schemas name a member."""
    return any(name in _mapping(node.value.get("properties")) for node in alternative)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _required(alternative: Place) -> list[str]:
    found: dict[str, None] = {}
    for node in alternative:
        found |= dict.fromkeys(_strings(node.value.get("required")))
    return list(found)


def _may_be_named(value: Mapping[str, Any], name: str | None) -> bool:
    """Return whether a schema's words on names and number of members let a member have this name."""
    if value.get("maxProperties") == 0 and not isinstance(value.get("maxProperties"), bool):
        return False
    names = value.get("propertyNames")
    if names is False:
        return False
    if isinstance(names, Mapping):
        if isinstance(names.get("enum"), list):
            return name in names["enum"]
        if "const" in names:
            return bool(name == names["const"])
    return True


def _elements(alternative: Place) -> Place | None:
    """Return the schemas of each element of a list after the first ones; None: there can be none."""
    found = []
    for node in alternative:
        for word in ("items", "unevaluatedItems"):
            if word in node.value and not isinstance(node.value[word], list):
                found.append(Node(node.value[word], (*node.path, word)))
        if node.value.get("maxItems") == 0:
            return None
    if any(node.value is False for node in found):
        return None
    return tuple(found)


def _first_elements(alternative: Place) -> Iterator[Node]:
    for node in alternative:
        for index, item in enumerate(_sequence(node.value.get("prefixItems"))):
            yield Node(item, (*node.path, "prefixItems", index))


def _matched_by_patterns(alternative: Place) -> Iterator[Node]:
    for node in alternative:
        patterns = node.value.get("patternProperties")
        if isinstance(patterns, Mapping):
            for pattern, schema in patterns.items():
                yield Node(schema, (*node.path, "patternProperties", pattern))


def _anchored(root: Node, anchor: str) -> Node | None:
    """Return the schema that has this `$anchor` among the definitions."""
    for word in ("$defs", "definitions"):
        definitions = root.value.get(word) if isinstance(root.value, Mapping) else None
        if isinstance(definitions, Mapping):
            for name, value in definitions.items():
                if isinstance(value, Mapping) and value.get("$anchor") == anchor:
                    return Node(value, (*root.path, word, name))
    return None


def _sequence(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list) else ()


def _strings(value: Any) -> list[str]:
    return [item for item in _sequence(value) if isinstance(item, str)]
