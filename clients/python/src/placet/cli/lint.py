"""Registrations in files, judged with file, line and column: `placet tool lint`, and before what is put."""

from __future__ import annotations

import ast
import copy
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import typer
from iso4217 import Currency

from placet._calls.registry import put_tools
from placet._lint import Finding, Severity, lint_tools, written
from placet.cli.mcp.listing import ToolImport
from placet.cli.output import printable
from placet.cli.positions import Position
from placet.cli.toolfiles import ToolFile
from placet.errors import InvalidRequestError
from placet.model import ToolFinding

# So many faults of the form of one registration are found; with more, no one reads on.
_MAX_FAULTS = 50
_INDEX = re.compile(r"\[([0-9]+)\]")
# What can be sent, by name in a registration, and as an item of a list.
_SPARE: Mapping[str | int, Any] = {"name": "x", "effect": "read"}
_SPARE_ITEMS: Mapping[str | int, Any] = {
    "entities": {"name": "x", "type": "x", "id": "x"},
    "prerequisites": {"tool": "x"},
    "normalise": "trim",
}
_NO_MEMBER = re.compile(r"has no member ('(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\")")


@dataclass(frozen=True, kw_only=True, slots=True)
class LocatedFinding:
    """A finding, and where in which file it is."""

    finding: Finding
    severity: Severity
    file: str
    position: Position

    def plain(self) -> dict[str, Any]:
        """Return what `--json` prints of it."""
        at = self.position
        return {
            "file": self.file,
            "line": at.line,
            "column": at.column,
            "severity": str(self.severity),
            "code": self.finding.code,
            "tool": self.finding.tool,
            "path": written(self.finding.path),
            "message": self.finding.message,
        }

    def __str__(self) -> str:
        found, at = self.finding, self.position
        path = f"{written(found.path)}: " if found.path else ""
        place = f"{self.file}:{at.line}:{at.column}"
        return f"{place}: {self.severity}: {found.tool}: {path}{found.message} [{found.code}]"


def lint_files(
    files: Sequence[ToolFile], *, registered: Iterable[Mapping[str, Any]] = ()
) -> list[LocatedFinding]:
    """Return what is wrong or doubtful in the tools of files, which count as registered together."""
    origins = [(file, index) for file in files for index in range(len(file.forms))]
    forms = [file.forms[index] for file, index in origins]
    found = [fault for number, form in enumerate(forms) for fault in form_faults(form, number)]
    found += lint_tools(forms, is_currency=is_currency, registered=registered)
    located = []
    for finding in found:
        file, index = origins[finding.index]
        position = file.position((index, *finding.path), of_name=finding.of_name)
        located.append(
            LocatedFinding(finding=finding, severity=finding.severity, file=file.shown, position=position)
        )
    order = {file.shown: number for number, file in enumerate(files)}
    return sorted(located, key=lambda item: (order[item.file], item.position))


def form_faults(form: Mapping[str, Any], index: int) -> list[Finding]:
    """Return what cannot be sent of a registration: each part is taken out, and the rest read again."""
    found: dict[tuple[str | int, ...], Finding] = {}
    rest: Any = [copy.deepcopy(dict(form))]
    for _ in range(_MAX_FAULTS):
        try:
            put_tools(rest)
        except InvalidRequestError as exc:
            violation = exc.violations[0]
            path = _path_of(rest, violation.field.removeprefix("tools"))
            unknown = _NO_MEMBER.match(violation.description)
            if unknown is not None:
                path = (*path, ast.literal_eval(unknown[1]))
            _take_out(rest, path, again=path in found and not _is_missing(rest, path))
            found.setdefault(
                path,
                Finding(
                    code="form.invalid",
                    tool=str(form.get("name", "")),
                    index=index,
                    path=path[1:],
                    message=violation.description,
                    of_name=unknown is not None,
                ),
            )
        else:
            break
    return list(found.values())


def _path_of(value: Any, field: str) -> tuple[str | int, ...]:
    """Return the path that a refusal names, whose last part need not be there: `[0].normalise.invoice[1]`."""
    path: list[str | int] = []
    while field:
        index = _INDEX.match(field)
        if index is not None and isinstance(value, list):
            path.append(int(index[1]))
            value, field = value[int(index[1])], field[index.end() :]
            continue
        rest = field.removeprefix(".")
        names = [name for name in value if _begins(rest, str(name))] if isinstance(value, dict) else []
        if not names:
            return (*path, rest)
        name = max(names, key=len)
        path.append(name)
        value, field = value[name], rest[len(str(name)) :]
    return tuple(path)


def _begins(field: str, name: str) -> bool:
    return field.startswith(name) and field[len(name) : len(name) + 1] in ("", ".", "[")


def _is_missing(rest: Any, path: tuple[str | int, ...]) -> bool:
    """Return whether a path ends at a member that a mapping does not have."""
    for part in path[:-1]:
        rest = rest[part]
    return isinstance(rest, dict) and path[-1] not in rest


def _take_out(rest: Any, path: tuple[str | int, ...], *, again: bool) -> None:
    """Put something that can be sent in the place of what cannot, so that the rest is looked at too.

    `again`: what was put there cannot be sent either, so what is around it goes.
    """
    if again and len(path) > 2:
        path = path[:-1]
    around, last = path[:-1], path[-1]
    place: Any = rest
    for part in around:
        place = place[part]
    if last in _SPARE and len(path) == 2:
        place[last] = _SPARE[last]
    elif isinstance(place, list):
        place[int(last)] = copy.deepcopy(_SPARE_ITEMS.get(around[1] if len(around) in (2, 3) else "", "x"))
    elif last in place:
        del place[last]
    else:
        # Something that is required is not there.
        place[last] = ["x"] if last == "arguments" else "x"


def is_currency(code: str) -> bool:
    """Return whether ISO 4217 has the code, for a currency that has decimals."""
    try:
        return Currency(code).exponent is not None
    except ValueError:
        return False


def judge_import(found: ToolImport, *, registered: Iterable[Mapping[str, Any]]) -> ToolImport:
    """Return an import without the tools that have errors, and with what is doubtful in its notes."""
    registered = list(registered)
    while True:
        forms = [item.form for item in found.tools]
        judged = lint_tools(forms, is_currency=is_currency, registered=registered)
        # A tool that is left out may be what another one needs.
        wrong: dict[int, str] = {}
        for finding in judged:
            if finding.severity is Severity.ERROR:
                wrong.setdefault(finding.index, f"{written(finding.path)}: {finding.message}")
        if not wrong:
            break
        found = found.without(wrong)
    notes: dict[int, list[str]] = {}
    for finding in judged:
        place = f"{written(finding.path)}: " if finding.path else ""
        notes.setdefault(finding.index, []).append(f"{place}{finding.message} [{finding.code}]")
    tools = [
        replace(item, notes=(*item.notes, *notes.get(index, ()))) for index, item in enumerate(found.tools)
    ]
    return replace(found, tools=tuple(tools))


def from_server(
    file: ToolFile, found: Iterable[ToolFinding], *, known: Iterable[LocatedFinding]
) -> list[LocatedFinding]:
    """Return what a server found in a file's tools, without what is known of the same tool by its code."""
    said = {(item.finding.code, item.finding.index) for item in known}
    return [_located(file, item) for item in found if (item.code, _index_of(item)) not in said]


def _located(file: ToolFile, found: ToolFinding) -> LocatedFinding:
    """Return a server's finding at its place in the file, as far as that can be told."""
    index = _index_of(found)
    _, _, rest = found.field.partition("].")
    path = _path_of(file.forms[index], f".{rest}")
    finding = Finding(code=found.code, tool=found.tool, index=index, path=path, message=found.message)
    severity = Severity.ERROR if found.is_error else Severity.WARNING
    position = file.position((index, *path))
    return LocatedFinding(finding=finding, severity=severity, file=file.shown, position=position)


def _index_of(found: ToolFinding) -> int:
    """Return which of the tools a server's finding is about."""
    return int(found.field.removeprefix("tools[").partition("]")[0])


def names_elsewhere(files: Sequence[ToolFile]) -> bool:
    """Return whether a tool of these files has a prerequisite that stands in none of them."""
    forms = [form for file in files for form in file.forms]
    here = {form["name"] for form in forms}
    return any(
        isinstance(rule, Mapping) and rule.get("tool") not in here
        for form in forms
        for rule in (form["prerequisites"] if isinstance(form.get("prerequisites"), list) else ())
    )


def print_findings(found: Sequence[LocatedFinding], *, err: bool) -> None:
    for item in found:
        typer.echo(printable(str(item)), err=err)


def count(found: Sequence[LocatedFinding], severity: Severity) -> int:
    return sum(item.severity is severity for item in found)


def in_words(found: Sequence[LocatedFinding]) -> str:
    """Return how much was found: "2 errors, 1 warning"."""
    said = []
    for severity in Severity:
        number = count(found, severity)
        if number:
            said.append(f"{number} {severity}{'' if number == 1 else 's'}")
    return ", ".join(said)
