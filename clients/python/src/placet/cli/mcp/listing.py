"""What MCP servers answer to `tools/list` (specification 2026-07-28 and before), ready to register."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from placet.cli.exits import CommandError
from placet.cli.mcp.closing import close
from placet.cli.mcp.dialects import convert
from placet.cli.mcp.engine import check
from placet.cli.mcp.schemas import SchemaError

# The effect of a tool of which the operator says nothing: it has the highest trust floor. A hint of the
# tool's own maker is not the operator's word.
UNKNOWN_EFFECT = "credential"
# The specification's characters and length, and the slash, which it had for a time.
_NAME = re.compile(r"[A-Za-z0-9_.\-/]{1,128}")
_MAX_DESCRIPTION = 8 * 1024


@dataclass(frozen=True, kw_only=True, slots=True)
class Imported:
    """A tool as it will be registered, with notes on what nobody has said of it."""

    form: dict[str, Any]
    # What was assumed, kept or left out, a sentence each.
    notes: tuple[str, ...]
    # The file that lists it.
    file: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class LeftOut:
    """A tool that is listed and not registered."""

    # As its server calls it; its place in the list where it has no name.
    name: str
    # The file that lists it.
    file: str
    reason: str

    def __str__(self) -> str:
        return f"{self.name} of {self.file} is left out: {self.reason}"


@dataclass(frozen=True, kw_only=True, slots=True)
class ToolImport:
    """What became of all that the servers list."""

    tools: tuple[Imported, ...]
    left_out: tuple[LeftOut, ...]
    # Files whose last page says that there are further ones.
    unfinished: tuple[str, ...]

    @property
    def faults(self) -> tuple[str, ...]:
        """What is missing, a sentence each."""
        return (
            *(str(item) for item in self.left_out),
            *(
                f"{file} is not the whole list (nextCursor): give a list of all its pages"
                for file in self.unfinished
            ),
        )

    def without(self, refused: Mapping[int, str]) -> ToolImport:
        """Return the same with some tools, by their number, left out for a reason."""
        return replace(
            self,
            tools=tuple(item for index, item in enumerate(self.tools) if index not in refused),
            left_out=(
                *self.left_out,
                *(
                    LeftOut(name=self.tools[index].form["name"], file=self.tools[index].file, reason=reason)
                    for index, reason in refused.items()
                ),
            ),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Listed:
    file: str
    # Where it stands in the file: "tools[3]".
    place: str
    tool: Any

    @property
    def name(self) -> str | None:
        name = self.tool.get("name") if isinstance(self.tool, dict) else None
        return name if isinstance(name, str) and name else None


def import_tools(
    files: Mapping[str, Any],
    *,
    overlay: Mapping[str, Mapping[str, Any]],
    registered: Mapping[str, Mapping[str, Any]],
    accept_hints: bool,
    prefix: str = "",
) -> ToolImport:
    """Return the tools that servers list, ready to register, and those that cannot be.

    `files` holds what each server answered, by the name of the file: one page, or a list of all its pages.
    The operator's word counts: `overlay` first, then what is `registered` already, both by the names with
    `prefix`, which stands before each name; what the tool's maker says fills what neither names. Annotations
    are hints, and are used only when `accept_hints`. Raises `CommandError` for what is no list, and for an
    overlay that names something else.
    """
    listed: list[_Listed] = []
    unfinished = []
    for file, value in files.items():
        pages = value if isinstance(value, list) else [value]
        for number, page in enumerate(pages):
            where = f"[{number}]." if isinstance(value, list) else ""
            listed += _page(page, file, where)
        if pages and _cursor(pages[-1]) is not None:
            unfinished.append(file)
    tools: list[Imported] = []
    left_out: list[LeftOut] = []
    for item, fault in _judged(listed):
        if not fault:
            name = prefix + str(item.name)
            try:
                tools.append(
                    _import_tool(name, item, overlay.get(name, {}), registered.get(name, {}), accept_hints)
                )
            except SchemaError as exc:
                fault = f"inputSchema {exc}"
        if fault:
            left_out.append(LeftOut(name=item.name or item.place, file=item.file, reason=fault))
    unused = sorted(set(overlay) - {prefix + str(item.name) for item in listed})
    if prefix and _NAME.fullmatch(prefix) is None:
        raise CommandError(f"the prefix {prefix!r} is not of the letters, digits and . _ - / of ASCII")
    if unused:
        raise CommandError(f"the overlay names tools that are not listed: {', '.join(unused)}")
    return ToolImport(tools=tuple(tools), left_out=tuple(left_out), unfinished=tuple(unfinished))


def _page(page: Any, file: str, where: str) -> Iterator[_Listed]:
    """Yield what one page lists. `where` is the page's place in its file."""
    tools = _result(page).get("tools")
    if not isinstance(tools, list):
        place = where.rstrip(".") or "it"
        raise CommandError(f"{file}: {place} is no result of tools/list: it has no list named tools")
    for index, tool in enumerate(tools):
        yield _Listed(file=file, place=f"{where}tools[{index}]", tool=tool)


def _result(page: Any) -> Mapping[str, Any]:
    if isinstance(page, dict) and isinstance(page.get("result"), dict):
        page = page["result"]
    return page if isinstance(page, dict) else {}


def _cursor(page: Any) -> Any:
    return _result(page).get("nextCursor")


def _judged(listed: Sequence[_Listed]) -> Iterator[tuple[_Listed, str]]:
    """Yield each tool with what is wrong with its name; empty if nothing is."""
    files: dict[str, list[str]] = {}
    for item in listed:
        if item.name is not None:
            files.setdefault(item.name, []).append(item.file)
    for item in listed:
        if item.name is None:
            yield item, "it has no name"
        elif _NAME.fullmatch(item.name) is None:
            yield item, "its name is not 1 to 128 of the letters, digits and . _ - / of ASCII"
        elif files[item.name].count(item.file) > 1:
            yield item, "it is listed more than once"
        elif len(files[item.name]) > 1:
            others = ", ".join(file for file in files[item.name] if file != item.file)
            yield item, f"{others} lists a tool of that name too; import one of them with --prefix"
        else:
            yield item, ""


def _import_tool(
    name: str,
    listed: _Listed,
    overlay: Mapping[str, Any],
    registered: Mapping[str, Any],
    accept_hints: bool,
) -> Imported:
    tool: Mapping[str, Any] = listed.tool
    said = {**registered, **overlay}
    notes: list[str] = []
    form: dict[str, Any] = {"name": name}
    effect, reversible, note = _by_hints(tool.get("annotations"), accept_hints)
    if "effect" not in said:
        form |= {"effect": effect, "reversible": reversible}
        notes.append(f"effect: {note}")
    if "resource" not in said:
        form["resource"] = f"tool:{as_text(name)}"
        notes.append("resource: nobody says what it touches; taken as the tool itself")
    description = tool.get("description")
    if isinstance(description, str):
        form["description"] = description.replace("\0", "")[:_MAX_DESCRIPTION]
        if form["description"] != description and "description" not in said:
            notes.append(f"description: cut to {_MAX_DESCRIPTION} characters, without NUL")
    if "arguments_schema" not in overlay:
        schema, found = closed_schema(tool.get("inputSchema"))
        form["arguments_schema"] = schema
        if "arguments_schema" not in registered:
            notes += found
    notes += [
        f"{member}: differs from what is registered, which is kept; if that is another server's tool of this "
        "name, import this one with --prefix"
        for member in ("description", "arguments_schema")
        if member in registered and member not in overlay and registered[member] != form.get(member)
    ]
    if "amount" not in said:
        notes.append("amount: nobody says which argument is an amount; none is read")
    return Imported(form=form | said, file=listed.file, notes=tuple(notes))


def closed_schema(schema: Any) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return an `inputSchema` in the server's dialect, checked by its engine and closed, with notes.

    Raises `SchemaError`.
    """
    if not isinstance(schema, dict):
        raise SchemaError("", "must be an object")
    converted = convert(schema)
    check(converted.schema)
    closed = close(converted.schema)
    result = closed.schema
    if "type" not in result:
        result = {"type": "object", **result}
    check(result)
    notes = list(converted.notes) + list(closed.notes)
    if result != {**schema, "type": result["type"]}:
        notes.append("arguments_schema: closed, so that arguments that it does not name are blocked")
    return result, tuple(notes)


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
