"""What has to come before a tool, against the tools that there are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from placet._lint.findings import Path, written
from placet._lint.registration import Registration, mappings, text, texts
from placet._lint.schema import Presence
from placet._spelling import hint


def check_prerequisites(tool: Registration, known: Mapping[str, Registration]) -> None:
    """Add prerequisites that can never be met, or never be looked for. `known` has every tool by its name."""
    for path, rule in mappings(tool.form.get("prerequisites"), ("prerequisites",)):
        name = text(rule.get("tool"))
        if not name:
            continue
        if name == tool.name:
            tool.add(
                "prerequisite.self", (*path, "tool"), "is this tool itself: its first call could never pass"
            )
            continue
        other = known.get(name)
        if other is None:
            tool.add(
                "prerequisite.unknown_tool",
                (*path, "tool"),
                f"{name!r} is no tool that is registered or in these files: register it first, or with this "
                f"one{hint(name, known)}",
            )
        for place, argument in texts(rule.get("same"), (*path, "same")):
            _check_same(tool, argument, place, other)
    _check_circle(tool, known)


def _check_same(tool: Registration, argument: str, path: Path, other: Registration | None) -> None:
    for side, which in ((tool, "this tool"), (other, f"{other.name}" if other is not None else "")):
        if side is None:
            continue
        value = side.value(argument)
        if value is not None and value.presence is Presence.FORBIDDEN:
            names = side.names()
            tool.add(
                "prerequisite.unknown_argument",
                path,
                f"{argument!r} is no argument of {which}, so no call of both is about the same"
                f"{hint(argument, names)}",
            )
            return


def check_dependents(tool: Registration, registered: Iterable[Registration]) -> None:
    """Add what registered tools compare of this one and could not any more: they are not written with it."""
    for other in registered:
        for path, rule in mappings(other.form.get("prerequisites"), ("prerequisites",)):
            if text(rule.get("tool")) != tool.name:
                continue
            for place, argument in texts(rule.get("same"), (*path, "same")):
                value = tool.value(argument)
                if value is not None and value.presence is Presence.FORBIDDEN:
                    tool.add(
                        "prerequisite.unknown_argument",
                        ("arguments_schema",),
                        f"has no argument {argument!r}, by which {other.name} looks for calls of this tool "
                        f"({written(place)}): keep it, or register {other.name} anew with this one"
                        f"{hint(argument, tool.names())}",
                    )


def _check_circle(tool: Registration, known: Mapping[str, Registration]) -> None:
    """Add the circle of required prerequisites that leads from the tool back to itself."""
    needed_by: dict[str, str] = {}
    waiting = [tool.name]
    while waiting:
        name = waiting.pop()
        for _, needed in _required(tool if name == tool.name else known.get(name)):
            if needed == tool.name and name != tool.name:
                way = [name]
                while way[-1] != tool.name:
                    way.append(needed_by[way[-1]])
                way.reverse()
                at = next(path for path, first in _required(tool) if first == way[1])
                shown = " needs ".join([*way, tool.name])
                tool.add("prerequisite.circle", (*at, "tool"), f"none of them could ever be allowed: {shown}")
                return
            if needed not in needed_by and needed != tool.name:
                needed_by[needed] = name
                waiting.append(needed)


def _required(tool: Registration | None) -> Iterator[tuple[Path, str]]:
    if tool is not None:
        for path, rule in mappings(tool.form.get("prerequisites"), ("prerequisites",)):
            if rule.get("required") is True and text(rule.get("tool")):
                yield path, text(rule.get("tool"))
