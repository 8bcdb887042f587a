"""Files of tools: YAML or JSON of registrations."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from placet.cli.exits import CommandError
from placet.cli.inputs import display_name, parse_json, read_bytes
from placet.cli.positions import Located, Position, find_expansion, locate_json, locate_yaml

# So many values may aliases make of a file beyond those that are written in it.
_MAX_EXPANSION = 100_000
_MERGE = "tag:yaml.org,2002:merge"


class _Loader(yaml.SafeLoader):
    """Refuses a key that is given twice, of which YAML would take the last."""


def _construct_mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    result: dict[Any, Any] = {}
    for key_node, value_node in node.value:
        if key_node.tag == _MERGE:
            raise yaml.constructor.ConstructorError(
                None,
                None,
                "merge keys (<<) are not supported: write the members out, or use an alias for a whole value",
                key_node.start_mark,
            )
        key = loader.construct_object(key_node, deep=True)
        if not isinstance(key, str):
            raise yaml.constructor.ConstructorError(None, None, "a key is no string", key_node.start_mark)
        if key in result:
            raise yaml.constructor.ConstructorError(None, None, f"{key} is given twice", key_node.start_mark)
        result[key] = loader.construct_object(value_node, deep=True)
    return result


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _construct_mapping)


class _Dumper(yaml.SafeDumper):
    """Puts every text in double quotes that has characters which a terminal would obey or hide."""

    def analyze_scalar(self, scalar: str) -> Any:
        found = super().analyze_scalar(scalar)
        if _is_shown(scalar):
            return found
        found.allow_flow_plain = found.allow_block_plain = False
        found.allow_single_quoted = found.allow_block = False
        return found


def _is_shown(text: str) -> bool:
    return all(char.isprintable() or char == "\n" for char in text)


def _escape(text: str) -> str:
    """Return the text with escapes as YAML has them in double quotes."""
    return "".join(
        char if _is_shown(char) else f"\\U{ord(char):08X}" if ord(char) > 0xFFFF else f"\\u{ord(char):04X}"
        for char in text
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class ToolFile:
    """The registrations in a file, and where in it they stand."""

    # What people know the file by.
    shown: str
    forms: list[dict[str, Any]]
    # The list of registrations.
    located: Located

    def position(self, path: tuple[str | int, ...], *, of_name: bool = False) -> Position:
        """Return where the value at a path begins, which starts with a registration's index."""
        return self.located.find(path, of_name=of_name)


def read_tools(name: str) -> list[dict[str, Any]]:
    """Return the registrations in a file: a list, or {"tools": [ … ]}. Errors name line and column."""
    return read_tool_file(name).forms


def read_tool_file(name: str) -> ToolFile:
    """Return the registrations in a file with their places. Raises `CommandError`."""
    data = read_bytes(name)
    if data.lstrip()[:1] in (b"{", b"["):
        value = parse_json(data, name)
        located = locate_json(data.decode("utf-8"))
    else:
        value, located = _read_yaml(data, name)
    if isinstance(value, dict) and set(value) == {"tools"}:
        value, located = value["tools"], located.parts["tools"][1]
    if not isinstance(value, list):
        raise CommandError(f'{display_name(name)}: must hold a list of tools, or {{"tools": [ … ]}}')
    for index, item in enumerate(value):
        if not isinstance(item, dict) or not isinstance(item.get("name"), str):
            at = located.find((index,))
            raise CommandError(
                f"{display_name(name)}:{at.line}:{at.column}: tools[{index}] must be a mapping with a name"
            )
    return ToolFile(shown=display_name(name), forms=value, located=located)


def print_tools(forms: Iterable[Mapping[str, Any]]) -> str:
    """Return registrations as the YAML that `read_tools` reads."""
    text = yaml.dump({"tools": list(forms)}, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)
    # What is left of such characters stands in double quotes.
    return _escape(text)


def _read_yaml(data: bytes, name: str) -> tuple[Any, Located]:
    try:
        loader = _Loader(data.decode("utf-8"))
        try:
            node = loader.get_single_node()
            if node is None:
                return None, Located(at=Position(1, 1))
            too_large = find_expansion(node, _MAX_EXPANSION)
            if too_large is not None:
                raise CommandError(
                    f"{display_name(name)}:{too_large.line}:{too_large.column}: aliases make more than "
                    f"{_MAX_EXPANSION} values of what stands here"
                )
            return loader.construct_document(node), locate_yaml(node)
        finally:
            loader.dispose()
    except UnicodeDecodeError as exc:
        raise CommandError(f"{display_name(name)}: is not UTF-8 (byte {exc.start})") from exc
    except yaml.MarkedYAMLError as exc:
        mark = exc.problem_mark
        place = f":{mark.line + 1}:{mark.column + 1}" if mark is not None else ""
        raise CommandError(f"{display_name(name)}{place}: {exc.problem}") from exc
    except (yaml.YAMLError, RecursionError, ValueError) as exc:
        raise CommandError(f"{display_name(name)}: is no YAML that can be read: {exc}") from exc
