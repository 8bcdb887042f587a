"""YAML as scenarios use it, with the line of everything.

Values have the types of JSON and no others: `no` and `2026-01-01` are text, and a number keeps the
digits that it was written with.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import yaml

Path = tuple[str | int, ...]

# A limit, since aliases of aliases would grow without bound.
_MOST_PARTS = 100_000
_STRING = "tag:yaml.org,2002:str"


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - yaml's own name and type


for _tag, _pattern, _first in (
    ("bool", r"true|false", "tf"),
    ("null", r"null|~|", ["n", "~", ""]),
    ("int", r"-?(?:0|[1-9][0-9]*)", "-0123456789"),
    ("float", r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?", "-0123456789"),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(rf"(?:{_pattern})\Z"), list(_first))

_VALUES: dict[str, Callable[[str], Any]] = {
    _STRING: str,
    "tag:yaml.org,2002:bool": lambda text: text == "true",
    "tag:yaml.org,2002:null": lambda text: None,
    "tag:yaml.org,2002:int": int,
    "tag:yaml.org,2002:float": Decimal,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Fault:
    """Something in a file that the format does not permit. `line` counts from 1; 0 if there is none."""

    file: str
    line: int
    path: str
    message: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        return f"{place}: {self.path}: {self.message}" if self.path else f"{place}: {self.message}"


class Document:
    """A parsed file: its value, and where each part of it stands."""

    def __init__(self, text: str, file: str) -> None:
        """Parse the text. It never raises for what is wrong with it: `faults` says that."""
        self.file = file
        self.value: Any = None
        self.faults: list[Fault] = []
        self._root: yaml.Node | None = None
        self._open: list[yaml.Node] = []
        self._parts = 0
        try:
            self._root = yaml.compose(text, Loader=_Loader)
        except yaml.MarkedYAMLError as exc:
            mark = exc.problem_mark or exc.context_mark
            self._add(mark.line + 1 if mark else 0, (), exc.problem or "is no YAML")
            return
        except (yaml.YAMLError, RecursionError) as exc:
            self._add(0, (), f"is no YAML: {exc}")
            return
        if self._root is None:
            self._add(0, (), "is empty")
            return
        self.value = self._construct(self._root, ())

    def fault(self, path: Path, message: str) -> Fault:
        """Return a fault at a path, with the line of the nearest part that exists."""
        return Fault(file=self.file, line=self._line(path), path=shown(path), message=message)

    def _add(self, line: int, path: Path, message: str) -> None:
        self.faults.append(Fault(file=self.file, line=line, path=shown(path), message=message))

    def _construct(self, node: yaml.Node, path: Path) -> Any:
        line = node.start_mark.line + 1
        if node in self._open:
            self._add(line, path, "contains itself")
            return None
        self._parts += 1
        if self._parts > _MOST_PARTS:
            if self._parts == _MOST_PARTS + 1:
                self._add(line, path, f"is too much: there are more than {_MOST_PARTS} values")
            return None
        if isinstance(node, yaml.ScalarNode):
            if node.tag not in _VALUES:
                self._add(line, path, f"has the tag {node.tag}; only the types of JSON are used")
                return None
            return _VALUES[node.tag](node.value)
        self._open.append(node)
        try:
            if isinstance(node, yaml.SequenceNode):
                return [self._construct(item, (*path, index)) for index, item in enumerate(node.value)]
            found: dict[str, Any] = {}
            for key, item in node.value:
                if not isinstance(key, yaml.ScalarNode):
                    self._add(key.start_mark.line + 1, path, "has a key that is no text")
                    continue
                if key.value in found:
                    self._add(key.start_mark.line + 1, (*path, key.value), "is there twice")
                found[key.value] = self._construct(item, (*path, key.value))
            return found
        finally:
            self._open.pop()

    def _line(self, path: Sequence[str | int]) -> int:
        node = self._root
        line = node.start_mark.line + 1 if node is not None else 0
        for part in path:
            if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
                node = node.value[part]
                line = node.start_mark.line + 1
            elif isinstance(node, yaml.MappingNode):
                pairs = [pair for pair in node.value if getattr(pair[0], "value", None) == str(part)]
                if not pairs:
                    break
                line, node = pairs[0][0].start_mark.line + 1, pairs[0][1]
            else:
                break
        return line


def shown(path: Path) -> str:
    """Return the path as people write it: `steps[3].expect.effect`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return text.removeprefix(".")
