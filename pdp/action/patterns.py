"""Patterns of the shell in paths: the folder that all paths lie in that a pattern can stand for.

What is known of a pattern is what a POSIX shell, bash and the usual libraries make of it. Where they differ,
the one that reaches furthest counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import TypeAlias

from placet.normalise import PATTERN

_MAX_LISTS = 64


def is_pattern(path: str) -> bool:
    return PATTERN.search(path) is not None


def folder_of_pattern(path: str) -> str | None:
    """Return the folder, with its slash, in which all lies that the pattern can stand for.

    "" is where the path begins. None for a pattern that may lead out of its folder: with two dots behind its
    first character; with lists in braces that make two dots, a path from the root or a home; with braces
    that make no list, with more than 64 lists, or with lists and groups together; where a shell may take a
    segment that begins with a dot for the parent (`.*`, which bash of before 5.2 does). Without a folder in
    front, it has no colon either, which drives and schemes have.
    """
    first = PATTERN.search(path)
    if first is None:
        raise ValueError("is no pattern")
    folder = path[: path.rfind("/", 0, first.start()) + 1]
    rest = path[len(folder) :]
    if ".." in rest or rest.count("{") > _MAX_LISTS or ("{" in rest and "(" in rest):
        return None
    if not folder and ":" in rest:
        return None
    text = _parse(rest)
    if text is None:
        return None
    ends = _walk(text, {_Place.SEGMENT if folder else _Place.START})
    return None if ends & {_Place.OUTSIDE, _Place.DOTS} else folder


class _Place(Enum):
    """Where in a path one is, as far as it tells whether a segment can be `..`."""

    # Nothing of the path is read; nothing of a segment; one dot; what may be two dots; anything else.
    START = auto()
    SEGMENT = auto()
    DOT = auto()
    DOTS = auto()
    NAME = auto()
    # The path has left its folder.
    OUTSIDE = auto()


@dataclass(frozen=True, slots=True)
class _Choice:
    """A list in braces, `{a,b}`: any one of its texts."""

    texts: tuple[_Text, ...]


_Text: TypeAlias = "list[str | _Choice]"


def _parse(text: str) -> _Text | None:
    """Return the text with its lists; None for braces that pair with none or list nothing.

    Shells differ on these.
    """
    # The texts of each list that is open, outermost first; the first is the text itself.
    opened: list[list[_Text]] = [[[]]]
    for char in text:
        texts = opened[-1]
        if char == "{":
            opened.append([[]])
        elif char == "}":
            opened.pop()
            if not opened or len(texts) == 1:
                return None
            opened[-1][-1].append(_Choice(tuple(texts)))
        elif char == "," and len(opened) > 1:
            texts.append([])
        else:
            texts[-1].append(char)
    return opened[0][0] if len(opened) == 1 else None


def _walk(text: _Text, places: set[_Place]) -> set[_Place]:
    """Return where reading the text may lead from any of these places."""
    for index, item in enumerate(text):
        if isinstance(item, _Choice):
            places = set().union(*(_walk(one, places) for one in item.texts))
            continue
        # A group, `@(a|b)`, stands for nothing, a dot or two as well.
        is_group = item in "*?@+!" and text[index + 1 : index + 2] == ["("]
        places = set().union(*(_step(place, item, is_group) for place in places))
    return places


def _step(place: _Place, char: str, is_group: bool) -> set[_Place]:
    if place is _Place.OUTSIDE:
        return {_Place.OUTSIDE}
    if char == "/":
        is_outside = place in (_Place.START, _Place.DOTS)
        return {_Place.OUTSIDE if is_outside else _Place.SEGMENT}
    if place is _Place.START and char == "~":
        return {_Place.OUTSIDE}
    if place is _Place.NAME:
        return {_Place.NAME}
    if is_group:
        return {_Place.OUTSIDE}
    if place is _Place.DOT:
        # What is between brackets may be a dot.
        reached = {
            ".": {_Place.DOTS},
            "?": {_Place.DOTS},
            "*": {_Place.DOT, _Place.DOTS},
            "[": {_Place.OUTSIDE},
        }
        return reached.get(char, {_Place.NAME})
    if place is _Place.DOTS:
        return {_Place.DOTS} if char == "*" else {_Place.NAME}
    # No wildcard stands for a dot in front.
    return {_Place.DOT if char == "." else _Place.NAME}
