"""One spelling of an identifier, so that PDP, client and tool server compare the same text.

The registry lists steps for an argument. They are applied in order, and again from the first until
nothing changes, so that a text that is normalised twice is as if it had been normalised once.

White space is every character with Unicode's property White_Space. They are written out below, so
that all who compare agree, whatever their libraries call white space.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum

_SPACE = "\t\n\v\f\r \u0085\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
_ENDS = re.compile(rf"\A[{_SPACE}]+|[{_SPACE}]+\Z")
_GAPS = re.compile(rf"[{_SPACE}_]+")
_FILLING = re.compile(rf"[{_SPACE}-]+")
# Where a path separates its segments, ends, and where it leads, when a tool decodes percent signs as well,
# once or more often.
_ODD_IN_PATHS = re.compile(r"\\|%(?:25)*(?:00|2e|2f|5c)", re.IGNORECASE)
# Segments of dots and white space, also before a parameter, are `.` or `..` to some readers.
_ODD_SEGMENT = re.compile(rf"[.{_SPACE}]+(?:;.*)?", re.DOTALL)
# Where a pattern of the shell (POSIX.1-2017 §2.13), a list in braces or an extended pattern begins.
PATTERN = re.compile(r"[*?\[{]|[@+!]\(")
_ROUNDS = 8
_UNSETTLED = "is spelt in a way that the steps never settle"
MAX_TEXT = 4096


class NormalisationStep(StrEnum):
    """What a step does to a text: cut white space off both ends; change the case; apply Unicode's form
    NFKC; put one hyphen for each run of white space and underscores; remove white space and hyphens; take
    the segments out of a path that lead nowhere."""

    TRIM = "trim"
    UPPER = "upper"
    LOWER = "lower"
    NFKC = "nfkc"
    HYPHENATE = "hyphenate"
    COMPACT = "compact"
    PATH = "path"


class NormalisationError(ValueError):
    """A text has no normal form under these steps."""


def _path(text: str) -> str:
    """Return a path (POSIX.1-2017 §4.13) without `.`, `..` and empty segments; the root keeps its slash.

    Raises `NormalisationError` for one that climbs out of where it begins, and for one whose reader says
    where it leads: with backslashes or percent-encoded dots, slashes, backslashes and NULs, with segments of
    dots and white space, or with `..` behind a pattern of the shell, which may stand for any number of
    segments.
    """
    if _ODD_IN_PATHS.search(text):
        raise NormalisationError("holds a backslash, or an encoded dot, slash, backslash or NUL")
    segments: list[str] = []
    is_pattern = False
    for segment in text.split("/"):
        if segment == "..":
            if is_pattern:
                raise NormalisationError("climbs out of a pattern")
            if not segments:
                raise NormalisationError("climbs out of where it begins")
            segments.pop()
        elif segment not in ("", "."):
            if _ODD_SEGMENT.fullmatch(segment):
                raise NormalisationError("has a segment of dots and white space")
            is_pattern = is_pattern or PATTERN.search(segment) is not None
            segments.append(segment)
    root = "/" if text.startswith("/") else ""
    return root + "/".join(segments) or ("." if text else "")


_APPLY: Mapping[NormalisationStep, Callable[[str], str]] = {
    NormalisationStep.TRIM: lambda text: _ENDS.sub("", text),
    NormalisationStep.UPPER: str.upper,
    NormalisationStep.LOWER: str.lower,
    NormalisationStep.NFKC: lambda text: unicodedata.normalize("NFKC", text),
    NormalisationStep.HYPHENATE: lambda text: _GAPS.sub("-", text),
    NormalisationStep.COMPACT: lambda text: _FILLING.sub("", text),
}


def normalise(text: str, steps: Sequence[NormalisationStep]) -> str:
    """Return the normal form of `text`.

    The step `path` comes last, wherever it is listed: it reads what the others leave, and so also the
    slashes, dots and patterns that they make. Raises `NormalisationError` for a text of more than
    `MAX_TEXT` characters, for one that the steps keep changing, and for a path that leads elsewhere.
    """
    if len(text) > MAX_TEXT:
        raise NormalisationError(f"is longer than {MAX_TEXT} characters")
    if NormalisationStep.PATH not in steps:
        return _settled(text, steps)
    others = [step for step in steps if step is not NormalisationStep.PATH]
    for _ in range(_ROUNDS):
        before = _settled(text, others)
        text = _path(before)
        if text == before:
            return text
    raise NormalisationError(_UNSETTLED)


def _settled(text: str, steps: Sequence[NormalisationStep]) -> str:
    for _ in range(_ROUNDS):
        before = text
        for step in steps:
            text = _APPLY[step](text)
        if text == before:
            return text
    raise NormalisationError(_UNSETTLED)
