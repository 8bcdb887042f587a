"""Files of tools: YAML or JSON of registrations, and an MCP server's `tools/list`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from placet.cli.exits import CommandError
from placet.cli.inputs import display_name, parse_json, read_bytes
from placet.cli.positions import Located, Position, locate_json, locate_yaml

# The effect of a tool of which the operator says nothing: it has the highest trust floor. A hint of the
# tool's own maker is not the operator's word.
UNKNOWN_EFFECT = "credential"


@dataclass(frozen=True, kw_only=True, slots=True)
class Imported:
    """A tool as it will be registered, with notes on what nobody has said of it."""

    form: dict[str, Any]
    # What was assumed, kept or left out, a sentence each.
    notes: tuple[str, ...]


class _Loader(yaml.SafeLoader):
    """Refuses a key that is given twice, of which YAML would take the last."""


def _construct_mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    result: dict[Any, Any] = {}
    for key_node, value_node in node.value:
        key = loader.construct_object(key_node, deep=True)
        if not isinstance(key, str):
            raise yaml.constructor.ConstructorError(None, None, "a key is no string", key_node.start_mark)
        if key in result:
            raise yaml.constructor.ConstructorError(None, None, f"{key} is given twice", key_node.start_mark)
        result[key] = loader.construct_object(value_node, deep=True)
    return result


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _construct_mapping)


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
    return yaml.safe_dump({"tools": list(forms)}, sort_keys=False, allow_unicode=True, width=100)


def import_tools(
    listed: Any,
    *,
    overlay: Mapping[str, Mapping[str, Any]],
    registered: Mapping[str, Mapping[str, Any]],
    accept_hints: bool,
) -> list[Imported]:
    """Return the tools of an MCP `tools/list` result (2025-06-18 specification), ready to register.

    The operator's word counts: `overlay` first, then what is `registered` already; what the
    tool's maker says fills what neither names. Annotations are hints, and are used only when
    `accept_hints`. Raises `CommandError`.
    """
    if isinstance(listed, dict) and isinstance(listed.get("result"), dict):
        listed = listed["result"]
    tools = listed.get("tools") if isinstance(listed, dict) else None
    if not isinstance(tools, list):
        raise CommandError("is no result of tools/list: it has no list named tools")
    result: list[Imported] = []
    for index, tool in enumerate(tools):
        name = tool.get("name") if isinstance(tool, dict) else None
        if not isinstance(name, str) or not name:
            raise CommandError(f"tools[{index}]: has no name")
        if any(other.form["name"] == name for other in result):
            raise CommandError(f"tools[{index}]: {name} is listed twice")
        result.append(_import_tool(tool, overlay.get(name, {}), registered.get(name, {}), accept_hints))
    unused = sorted(set(overlay) - {item.form["name"] for item in result})
    if unused:
        raise CommandError(f"the overlay names tools that are not listed: {', '.join(unused)}")
    return result


def _import_tool(
    tool: Mapping[str, Any], overlay: Mapping[str, Any], registered: Mapping[str, Any], accept_hints: bool
) -> Imported:
    said = {**registered, **overlay}
    notes: list[str] = []
    form: dict[str, Any] = {"name": tool["name"]}
    effect, reversible, note = _by_hints(tool.get("annotations"), accept_hints)
    if "effect" not in said:
        form |= {"effect": effect, "reversible": reversible}
        notes.append(f"effect: {note}")
    if "resource" not in said:
        form["resource"] = f"tool:{as_text(tool['name'])}"
        notes.append("resource: nobody says what it touches; taken as the tool itself")
    if isinstance(tool.get("description"), str):
        form["description"] = tool["description"]
    schema = tool.get("inputSchema")
    if not isinstance(schema, dict):
        raise CommandError(f"{tool['name']}: inputSchema must be an object")
    if "additionalProperties" not in schema:
        schema = {**schema, "additionalProperties": False}
        if "arguments_schema" not in said:
            notes.append("arguments_schema: closed, so that arguments that it does not name are blocked")
    form["arguments_schema"] = schema
    notes += [
        f"{member}: differs from what is registered, which is kept"
        for member in ("description", "arguments_schema")
        if member in registered and member not in overlay and registered[member] != form.get(member)
    ]
    if "amount" not in said:
        notes.append("amount: nobody says which argument is an amount; none is read")
    return Imported(form=form | said, notes=tuple(notes))


def as_text(name: str) -> str:
    """Return a name as literal text of an id template, in which single braces hold arguments."""
    return name.replace("{", "{{").replace("}", "}}")


def _by_hints(annotations: Any, accept_hints: bool) -> tuple[str, bool, str]:
    """Return effect, whether it can be undone, and why."""
    hints = annotations if isinstance(annotations, dict) else {}
    if accept_hints and hints.get("readOnlyHint") is True:
        return "read", True, "read, by the accepted hint readOnlyHint"
    if accept_hints and hints.get("readOnlyHint") is False and hints.get("destructiveHint") is False:
        return "write", False, "write, by the accepted hint destructiveHint=false"
    if accept_hints and hints.get("readOnlyHint") is False and hints.get("destructiveHint") is True:
        return "delete", False, "delete, by the accepted hint destructiveHint"
    ignored = ", ".join(sorted(name for name in hints if name.endswith("Hint")))
    note = f"nobody says what it does; taken as {UNKNOWN_EFFECT}, irreversible"
    return UNKNOWN_EFFECT, False, f"{note} (hints not accepted: {ignored})" if ignored else note


def _read_yaml(data: bytes, name: str) -> tuple[Any, Located]:
    try:
        loader = _Loader(data.decode("utf-8"))
        try:
            node = loader.get_single_node()
            if node is None:
                return None, Located(at=Position(1, 1))
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
