"""Where a call's arguments do not fit their tool's schema, as its sender may read it.

What is said is the argument's place, the keyword of the schema that failed, and what the keyword demands.
No value of an argument is ever part of it, and of a secret argument not what the schema demands either. The
name of a member that the schema does not know is the sender's own; one that is more than a name is left out,
and where the tool has secrets, every one: it may hold a secret, by mistake.

To explain takes tens of microseconds for each value and each part of the schema that judges it, so long
arguments are looked at in part, and those of a schema with very many alternatives not at all.
"""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from functools import lru_cache
from itertools import islice
from typing import Any, NamedTuple

import jsonschema_rs
import orjson

from pdp.model import JSON, Normalisation, SchemaViolation

# So many places are listed; the rest is counted, up to a bound.
MAX_LISTED = 16
MAX_COUNTED = 1_000
_MAX_DEMANDED = 200
_MAX_AT = 256
# Alternatives of `anyOf` and `oneOf` that are explained: those that the arguments come closest to.
_MAX_ALTERNATIVES = 3
_MAX_DEPTH = 4
_PLAIN_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}", re.ASCII)
_NAME = re.compile(r"[A-Za-z0-9_$@.:/-]{1,64}", re.ASCII)
_ROOT = "arguments"
# Keywords of which one value in the schema may be long, or hold what a secret must be.
_CHOICES = frozenset({"enum", "const"})
# Keywords by which a value that was looked at in part may seem wrong.
_OF_THE_WHOLE = frozenset({"minItems", "contains", "minProperties", "required", "const", "enum"})
# So many times values may be judged in all; each takes some 50 microseconds if it fails.
_MAX_JUDGED = 200
# Where subschemas stand that judge the same value, and those that judge parts of it.
_IN_PLACE_LISTS = ("allOf", "anyOf", "oneOf")
_IN_PLACE = ("if", "then", "else", "not", "propertyNames")
_PARTS = ("items", "additionalProperties", "contains", "unevaluatedItems", "unevaluatedProperties")
_PARTS_BY_NAME = ("properties", "patternProperties")

Path = tuple[str | int, ...]


class Violations(NamedTuple):
    """Places at which arguments do not fit, and how many there are beyond those that are listed."""

    listed: tuple[SchemaViolation, ...] = ()
    more: int = 0


NO_VIOLATIONS = Violations()


def find_violations(
    validator: jsonschema_rs.Draft202012Validator,
    schema: str,
    arguments: Mapping[str, JSON],
    *,
    secret: Sequence[str] = (),
    unsettled: Iterable[Normalisation] = (),
) -> Violations:
    """Return where the arguments do not fit the schema, whose text is `schema`; they do not, or not normally.

    `secret` are the paths of secret arguments (`placet.secret_paths`). `unsettled` are the rules that make
    no normal spelling of what was given.
    """
    hidden = _Hidden(
        paths=tuple(_names_of(name) for name in secret), names=_names_in(schema) if secret else None
    )
    judged = count_judgements(schema)
    probe = _Probe(arguments, _MAX_JUDGED // judged)
    found = _Found(hidden, probe.value)
    for rule in unsettled:
        found.add(
            SchemaViolation(at=place((rule.argument,)), rule="normalise", demanded=", ".join(rule.steps))
        )
    if judged <= _MAX_JUDGED:
        # What is not listed is counted by the schema's own errors, one for each keyword and place.
        for error in islice(validator.iter_errors(probe.value), MAX_COUNTED):
            if not probe.made(error):
                found.take(error)
    if not found.listed and not validator.is_valid(arguments):
        found.add(SchemaViolation(at=hidden.place(probe.cut[0] if probe.cut else ()), rule="schema"))
    return Violations(listed=tuple(found.listed), more=found.more)


@lru_cache(maxsize=512)
def _names_in(schema: str) -> frozenset[str]:
    """Return all names of members that a schema has, wherever they stand in it."""
    found: set[str] = set()
    waiting: list[Any] = [orjson.loads(schema) if schema else {}]
    while waiting:
        part = waiting.pop()
        waiting += _values(part)
        if isinstance(part, dict):
            found |= part["properties"].keys() if isinstance(part.get("properties"), dict) else set()
            required = [part.get("required"), *_values(part.get("dependentRequired"))]
            found |= {name for names in required for name in _values(names) if isinstance(name, str)}
    return frozenset(found)


@lru_cache(maxsize=4096)
def count_judgements(schema: str) -> int:
    """Return how many parts of a schema judge one value at most, or more than can be explained."""
    root = orjson.loads(schema) if schema else {}
    return _count(root, root, frozenset())


def _count(schema: Any, root: Any, seen: frozenset[str]) -> int:
    if not isinstance(schema, dict):
        return 1
    below = [schema.get(name) for name in _PARTS]
    below += [part for name in _PARTS_BY_NAME for part in _values(schema.get(name))]
    below += _values(schema.get("prefixItems"))
    same = [branch for name in _IN_PLACE_LISTS for branch in _values(schema.get(name))]
    same += [schema[name] for name in _IN_PLACE if name in schema]
    same += _values(schema.get("dependentSchemas"))
    # Each name that is missing is an error of its own.
    number = 1 + len(_values(schema.get("required"))) // 8
    reference = schema.get("$ref", schema.get("$dynamicRef"))
    if isinstance(reference, str):
        if reference in seen or len(seen) > 16:
            # One that holds itself may judge a value any number of times if it has alternatives.
            return 1 if not _has_alternatives(root) else _MAX_JUDGED + 1
        seen |= {reference}
        same.append(_resolve(root, reference))
    for branch in same:
        number += _count(branch, root, seen)
        if number > _MAX_JUDGED:
            return _MAX_JUDGED + 1
    deepest = 0
    for part in below:
        deepest = max(deepest, _count(part, root, seen))
        if deepest > _MAX_JUDGED:
            break
    return min(max(number, number - 1 + deepest), _MAX_JUDGED + 1)


def _values(found: Any) -> list[Any]:
    if isinstance(found, dict):
        return list(found.values())
    return found if isinstance(found, list) else []


def _has_alternatives(root: Any) -> bool:
    text = orjson.dumps(root)
    return any(f'"{name}"'.encode() in text for name in _IN_PLACE_LISTS)


def _resolve(root: Any, reference: str) -> Any:
    """Return the subschema that a JSON pointer in the same schema names; None for any other reference."""
    found = root
    for step in reference.removeprefix("#").split("/")[1:]:
        found = found.get(step.replace("~1", "/").replace("~0", "~")) if isinstance(found, dict) else None
    return found if reference.startswith("#") else None


class _Probe:
    """Arguments with at most a number of values, those nearest to the root first."""

    def __init__(self, arguments: Mapping[str, JSON], most: int) -> None:
        self.value: dict[str, Any] = {}
        # Places of which something was left out.
        self.cut: list[Path] = []
        waiting: deque[tuple[Any, Any, Path]] = deque([(arguments, self.value, ())])
        while waiting:
            source, target, path = waiting.popleft()
            steps = source.items() if isinstance(source, Mapping) else enumerate(source)
            for step, item in steps:
                if most <= 0:
                    self.cut.append(path)
                    break
                most -= 1
                kept: Any = item
                if isinstance(item, Mapping | list):
                    kept = {} if isinstance(item, Mapping) else []
                    waiting.append((item, kept, (*path, step)))
                if isinstance(target, list):
                    target.append(kept)
                else:
                    target[step] = kept

    def made(self, error: jsonschema_rs.ValidationError) -> bool:
        """Whether leaving something out may have made the error."""
        path = tuple(error.instance_path)
        return error.kind.name in _OF_THE_WHOLE and any(cut[: len(path)] == path for cut in self.cut)


class _Hidden(NamedTuple):
    """What is not said of the arguments."""

    # The names that lead to each secret.
    paths: tuple[tuple[str, ...], ...]
    # The names that are said; None: all of them.
    names: frozenset[str] | None

    def place(self, path: Path) -> str:
        """Return a place as far as it may be said."""
        path = _up_to_secret(path, self.paths)
        if self.names is not None:
            path = tuple(step if isinstance(step, int) or step in self.names else "" for step in path)
        return place(path)


class _Found:
    """Violations as they are found, each once."""

    def __init__(self, hidden: _Hidden, within: Mapping[str, Any]) -> None:
        self._hidden = hidden
        self._within = within
        self.listed: list[SchemaViolation] = []
        self.more = 0

    def add(self, violation: SchemaViolation) -> None:
        if violation in self.listed:
            return
        if len(self.listed) < MAX_LISTED:
            self.listed.append(violation)
        elif self.more < MAX_COUNTED:
            self.more += 1

    def take(self, error: jsonschema_rs.ValidationError) -> None:
        for violation in _violations(error, self._hidden, self._within, alternative=0, depth=0):
            self.add(violation)


def _violations(
    error: jsonschema_rs.ValidationError,
    hidden: _Hidden,
    within: Mapping[str, Any],
    *,
    alternative: int,
    depth: int,
) -> Iterator[SchemaViolation]:
    kind, path, kinds = error.kind, tuple(error.instance_path), jsonschema_rs.ValidationErrorKind
    rule = kind.name

    def at(*steps: str | int) -> str:
        return hidden.place((*path, *steps))

    if isinstance(kind, kinds.Required):
        yield SchemaViolation(at=at(kind.property), rule=rule, alternative=alternative)
    elif isinstance(
        kind,
        kinds.AdditionalProperties | kinds.UnevaluatedProperties,
    ):
        for name in kind.unexpected[:MAX_COUNTED]:
            yield SchemaViolation(at=at(name), rule=rule, alternative=alternative)
    elif isinstance(kind, kinds.FalseSchema) and error.schema_path[-1:] == ["additionalProperties"]:
        # The schema names no members at all, so the error is about each of them, and names none.
        for name in _names_at(path, within):
            yield SchemaViolation(
                at=at(name),
                rule="additionalProperties",
                alternative=alternative,
            )
    elif isinstance(kind, kinds.AnyOf | kinds.OneOfNotValid):
        count = len(kind.context)
        yield SchemaViolation(
            at=at(),
            rule=rule,
            demanded=f"one of {count} alternatives",
            alternative=alternative,
        )
        if depth < _MAX_DEPTH:
            for number in _closest(kind.context, len(path)):
                for inner in kind.context[number][:MAX_LISTED]:
                    yield from _violations(inner, hidden, within, alternative=number + 1, depth=depth + 1)
    else:
        demanded = "" if _is_hidden(path, rule, hidden.paths) else _demanded(kind)
        yield SchemaViolation(at=at(), rule=rule, demanded=demanded, alternative=alternative)


def _names_at(path: Path, within: Mapping[str, Any]) -> list[str]:
    """Return the names of the members at a place."""
    found: Any = within
    for step in path:
        found = found[step]
    return list(found) if isinstance(found, dict) else []


def _closest(context: Sequence[Sequence[jsonschema_rs.ValidationError]], depth: int) -> list[int]:
    """Return the places of the alternatives that the arguments come closest to.

    An alternative for another type, or for another value of a member that tells alternatives apart, is
    farther away than one of which something is missing.
    """

    def distance(number: int) -> tuple[int, int]:
        errors = context[number]
        others = sum(
            error.kind.name in _CHOICES or (error.kind.name == "type" and len(error.instance_path) == depth)
            for error in errors
        )
        return others, len(errors)

    places = sorted(range(len(context)), key=distance)
    if not places:
        return []
    best = distance(places[0])[0]
    return sorted(number for number in places[:_MAX_ALTERNATIVES] if distance(number)[0] == best)


def _demanded(kind: jsonschema_rs.ValidationErrorKind) -> str:
    """Return what a keyword demands, in the schema's own words; empty where it has none that help."""
    kinds = jsonschema_rs.ValidationErrorKind
    if isinstance(kind, kinds.Type):
        return _cut(" or ".join(kind.types))
    if isinstance(kind, kinds.Enum):
        return _cut(", ".join(_json(option) for option in kind.options))
    if isinstance(kind, kinds.Constant):
        return _cut(_json(kind.expected_value))
    if isinstance(kind, kinds.OneOfMultipleValid):
        return f"exactly one of {len(kind.context)} alternatives, and more than one fits"
    if isinstance(kind, kinds.PropertyNames):
        inner = kind.error.kind
        return _cut(f"names with {inner.name} {_demanded(inner)}".strip())
    for name in ("limit", "multiple_of", "pattern", "format", "content_encoding", "content_media_type"):
        value = getattr(kind, name, None)
        if value is not None:
            return _cut(value if isinstance(value, str) else _json(value))
    return ""


def _names_of(path: str) -> tuple[str, ...]:
    """Return the names that a path leads through, in one spelling: letters are secret in any case."""
    return tuple(name for name in path.replace("[]", "").lower().split(".") if name)


def _names_on(path: Path) -> tuple[str, ...]:
    return _names_of(".".join(step for step in path if isinstance(step, str)))


def _is_hidden(path: Path, rule: str, hidden: Sequence[tuple[str, ...]]) -> bool:
    """Whether what is demanded at a place may say something of a secret."""
    names = _names_on(path)
    return any(
        names[: len(secret)] == secret or (rule in _CHOICES and secret[: len(names)] == names)
        for secret in hidden
    )


def _up_to_secret(path: Path, hidden: Sequence[tuple[str, ...]]) -> Path:
    """Return the path without what lies inside a secret: names there are part of it."""
    ends = (end for end in range(len(path)) if _is_hidden(path[:end], "", hidden))
    return path[: next(ends, len(path))]


def place(path: Path) -> str:
    """Return a place in the arguments as reasons name it: `arguments.items[0].amount`."""
    text = _ROOT
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        elif _PLAIN_NAME.fullmatch(step):
            text += f".{step}"
        elif _NAME.fullmatch(step):
            text += f'["{step}"]'
        else:
            text += "[…]"
    return _cut(text, _MAX_AT)


def _json(value: object) -> str:
    if isinstance(value, Decimal):
        return format(value, "f")
    return json.dumps(value, default=lambda number: format(number, "f"))


def _cut(text: str, most: int = _MAX_DEMANDED) -> str:
    """Return the text in one line of printable characters, cut where it is too long."""
    line = "".join(char if char.isprintable() else " " for char in text[: most + 1])
    return line if len(line) <= most else line[: most - 1] + "…"
