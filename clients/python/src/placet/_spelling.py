"""What a name was probably meant to be."""

from __future__ import annotations

import re
from collections.abc import Iterable

# Longer names, and names beyond the first so many, are not compared: what a stranger wrote is compared
# within bounds.
_MAX_LENGTH = 64
_MAX_KNOWN = 200
_FILLING = re.compile(r"[\W_]+")
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+|[^\W\d_a-zA-Z]+")


def words(text: str) -> frozenset[str]:
    """Return the words of a text: a table of words is read as one."""
    return frozenset(text.split())


def words_of(name: str) -> list[str]:
    """Return the words of a name in lower case: `sendTo_url` is send, to, url."""
    return [word.lower() for word in _WORD.findall(name)]


def meant(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that this one is most likely a misspelling of; None if none is close."""
    if len(name) > _MAX_LENGTH:
        return None
    squeezed, best, least = _squeeze(name), None, 1 + max(1, len(name) // 4)
    for count, other in enumerate(known):
        if count == _MAX_KNOWN:
            break
        if other == name or len(other) > _MAX_LENGTH:
            continue
        other_squeezed = _squeeze(other)
        if squeezed and squeezed == other_squeezed:
            return other
        found = _distance(squeezed, other_squeezed, least)
        if found < least:
            best, least = other, found
    return best


def hint(name: str, known: Iterable[str]) -> str:
    """Return "; did you mean …?", or nothing."""
    found = meant(name, known)
    if found is None:
        return ""
    # A member of an enum is shown as its text.
    text = str(found)
    return f"; did you mean {text!r}?"


def _squeeze(name: str) -> str:
    return _FILLING.sub("", name).casefold()


def _distance(one: str, other: str, beyond: int) -> int:
    """Return in how many letters two texts differ, a swap of neighbours being one; `beyond` if so many."""
    if abs(len(one) - len(other)) >= beyond:
        return beyond
    before: list[int] = []
    line = list(range(len(other) + 1))
    for row, letter in enumerate(one, 1):
        earlier, before, line = before, line, [row]
        for column, against in enumerate(other, 1):
            cost = min(before[column] + 1, line[column - 1] + 1, before[column - 1] + (letter != against))
            if row > 1 and column > 1 and letter == other[column - 2] and one[row - 2] == against:
                cost = min(cost, earlier[column - 2] + 1)
            line.append(cost)
        if min(line) >= beyond:
            return beyond
    return min(line[-1], beyond)
