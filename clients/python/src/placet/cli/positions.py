"""Where values stand in a file: line and column, counted from 1, of YAML and of JSON."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import NamedTuple

import yaml

_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[][{},:]|[^][{},:"\s]+')


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
