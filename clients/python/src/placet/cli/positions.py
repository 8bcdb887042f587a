"""Where values stand in a file: line and column, counted from 1, of YAML and of JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import yaml

_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[][{},:]|[^][{},:"\s]+')

# So many characters of a text count as one value more.
_LONG = 100


class Position(NamedTuple):
    line: int
    column: int


@dataclass(kw_only=True, slots=True)
class Located:
    """A value of a file: where it begins, and by name or index what it holds, with where the name stands."""

    at: Position
    parts: dict[str | int, tuple[Position, Located]] = field(default_factory=dict)

    def find(self, path: tuple[str | int, ...], *, of_name: bool = False) -> Position:
        """Return where the value at a path begins, or its name: a value that holds others begins there too.

        What is not there would belong into what is around it, and stands where that does.
        """
        here, around = self, self.at
        for index, part in enumerate(path):
            if part not in here.parts:
                return around
            name_at, here = here.parts[part]
            is_last = index == len(path) - 1
            around = here.at if is_last and not of_name and not here.parts else name_at
        return around


def locate_yaml(node: yaml.Node) -> Located:
    """Return where everything in a composed document stands; an alias stands where its anchor does."""
    known: dict[int, Located] = {}

    def locate(of: yaml.Node) -> Located:
        if id(of) not in known:
            found = known[id(of)] = Located(at=_position(of.start_mark))
            if isinstance(of, yaml.MappingNode):
                for name, value in of.value:
                    if isinstance(name, yaml.ScalarNode):
                        found.parts[name.value] = (_position(name.start_mark), locate(value))
            elif isinstance(of, yaml.SequenceNode):
                for index, item in enumerate(of.value):
                    found.parts[index] = (_position(item.start_mark), locate(item))
        return known[id(of)]

    return locate(node)


def _position(mark: yaml.Mark) -> Position:
    return Position(mark.line + 1, mark.column + 1)


def find_repeated(text: str) -> tuple[Position, str] | None:
    """Return the first name that an object of a text that is JSON has twice, and where it stands again."""
    names: list[set[str]] = []
    before: re.Match[str] | None = None
    for token in _TOKEN.finditer(text):
        if token[0] in ("{", "["):
            names.append(set())
        elif token[0] in ("}", "]"):
            names.pop()
        elif token[0] == ":" and before is not None:
            name = json.loads(before[0])
            if name in names[-1]:
                offset = before.start()
                return (
                    Position(text.count("\n", 0, offset) + 1, offset - text.rfind("\n", 0, offset)),
                    name,
                )
            names[-1].add(name)
        before = token
    return None


def find_expansion(node: yaml.Node, most: int) -> Position | None:
    """Return the smallest value of a composed document that aliases make too large; None if none is.

    Too large is what has more than `most` values beyond those that are written. A long text counts for more.
    """
    sizes: dict[int, int] = {}
    written = 0

    def size(of: yaml.Node) -> Position | int:
        nonlocal written
        if id(of) in sizes:
            return sizes[id(of)]
        # What contains itself is refused where it is read.
        sizes[id(of)] = 0
        total = own = 1 + (len(of.value) // _LONG if isinstance(of, yaml.ScalarNode) else 0)
        written += own
        for part in _parts(of):
            found = size(part)
            if isinstance(found, Position):
                return found
            total += found
        if total > most + written:
            return _position(of.start_mark)
        sizes[id(of)] = total
        return total

    found = size(node)
    return found if isinstance(found, Position) else None


def _parts(node: yaml.Node) -> Iterator[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        for name, value in node.value:
            yield name
            yield value
    elif isinstance(node, yaml.SequenceNode):
        yield from node.value


def locate_json(text: str) -> Located:
    """Return where everything stands in a text that is JSON."""
    starts = [0]
    starts += [match.end() for match in re.finditer("\n", text)]
    tokens = _TOKEN.finditer(text)
    line = 0

    def position(offset: int) -> Position:
        nonlocal line
        while line + 1 < len(starts) and starts[line + 1] <= offset:
            line += 1
        return Position(line + 1, offset - starts[line] + 1)

    def locate(token: re.Match[str]) -> Located:
        found = Located(at=position(token.start()))
        if token[0] == "{":
            while (name := next(tokens))[0] != "}":
                if name[0] == ",":
                    continue
                name_at = position(name.start())
                next(tokens)
                found.parts[json.loads(name[0])] = (name_at, locate(next(tokens)))
        elif token[0] == "[":
            while (item := next(tokens))[0] != "]":
                if item[0] != ",":
                    value = locate(item)
                    found.parts[len(found.parts)] = (value.at, value)
        return found

    return locate(next(tokens))
