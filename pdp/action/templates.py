"""Id templates: how an identifier is made of a call's arguments, so that two things never share one.

A template is literal text with arguments in braces, `{customer}-{account}`; `{{` and `}}` are
braces of the text. It is injective: from an identifier and its template every value can be read
again, because a value with the literal text that follows it has that text at its end only. So a
boundary that permits an identifier permits one set of values.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache

from pdp.action.patterns import folder_of_pattern, is_pattern
from pdp.model import JSON
from pdp.names import MAX_RESOURCE_ID
from placet._templates import TemplateError, split_template
from placet.canonical import canonical_number

__all__ = ["IdTemplate", "TemplateError", "identifier", "read_template"]

# What separates segments of a path, also where the tool decodes percent signs (RFC 3986 §2.1), once or more
# often.
_SEPARATORS = re.compile(r"[/\\]|%(?:25)*(?:2f|5c)", re.IGNORECASE)
# What a path begins with that starts somewhere else, whatever is in front of it: the root, somebody's home,
# a drive, a URL's scheme (RFC 3986 §3.1).
_ELSEWHERE = re.compile(r"/|~|[A-Za-z]:|[A-Za-z][A-Za-z0-9+.-]*:/")


@dataclass(frozen=True, kw_only=True, slots=True)
class IdTemplate:
    """`literals[0] {names[0]} literals[1] … {names[-1]} literals[-1]`: one literal more than names."""

    literals: tuple[str, ...]
    names: tuple[str, ...]

    def fill(
        self, arguments: Mapping[str, JSON], *, paths: Collection[str] = (), glob: bool = False
    ) -> str | None:
        """Return the identifier; None if a value cannot be part of it, or if it is too long.

        `arguments` are normalised. Those named in `paths` are paths in normal form: they may have
        several segments, and `.` at the end of the template is the folder in front of it. `glob`: a pattern
        of the shell stands for the folder that all it can match lies in; without it such a pattern names
        nothing.
        """
        result = self.literals[0]
        for place, name in enumerate(self.names):
            text = identifier(arguments.get(name))
            if text is not None and name in paths:
                text = _folder(text, glob=glob)
                # A pattern in the working folder has no text in front of it.
                text = "./" if text == "" and result == "" else text
            if text == "." and name in paths and result != "":
                return self._folder_before(place, result)
            if text is None or not self._fits(place, text, is_path=name in paths):
                return None
            result += text + self.literals[place + 1]
        return result if len(result) <= MAX_RESOURCE_ID else None

    def _folder_before(self, place: int, before: str) -> str | None:
        """Return the folder that a path begins in, by its own name: it does not lie within itself."""
        is_last = place == len(self.names) - 1 and self.literals[-1] == ""
        folder = before.removesuffix("/")
        return folder if is_last and folder not in ("", before) and len(folder) <= MAX_RESOURCE_ID else None

    def _fits(self, place: int, text: str, *, is_path: bool) -> bool:
        """Whether the value at a place can be told from the text around it."""
        before, after = self.literals[place], self.literals[place + 1]
        if after and (text + after).find(after) != len(text):
            return False
        # The first value may be all of the id, or all up to a text that it does not hold.
        if not before and place == 0:
            return True
        return (_ELSEWHERE.match(text) if is_path else _SEPARATORS.search(text)) is None


@lru_cache(maxsize=4096)
def read_template(text: str) -> IdTemplate:
    """Return the template that a text is. Raises `TemplateError`."""
    literals, names = split_template(text)
    return IdTemplate(literals=literals, names=names)


def identifier(value: JSON) -> str | None:
    """Return a value as part of an identifier: text that is one line and not blank."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int | Decimal):
        return str(canonical_number(value))
    if isinstance(value, str) and value and value == value.strip() and value.isprintable():
        return value
    return None


def _folder(path: str, *, glob: bool) -> str | None:
    """Return the path, or for a pattern the folder that it is a pattern in, which may be empty.

    None for a pattern where the tool takes none, and for one that may lead out of its folder.
    """
    if not is_pattern(path):
        return path
    return folder_of_pattern(path) if glob else None
