"""What differs between two values of JSON, place by place. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from placet._calls.jsontext import json_text


class Absent:
    """Stands for a place that the other value alone has."""


ABSENT = Absent()


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """One place whose values differ; `ABSENT` where one side has no such place."""

    # Members by dots, elements by number: "budgets[0].limit".
    path: str
    before: Any
    after: Any

    def plain(self) -> dict[str, Any]:
        """Return the difference in JSON; a side that is absent is left out."""
        sides = {"before": self.before, "after": self.after}
        return {"path": self.path} | {name: value for name, value in sides.items() if value is not ABSENT}

    def __str__(self) -> str:
        if self.before is ABSENT:
            return f"+ {self.path}: {_text(self.after)}"
        if self.after is ABSENT:
            return f"- {self.path}: {_text(self.before)}"
        return f"~ {self.path}: {_text(self.before)} -> {_text(self.after)}"


def find_differences(before: Any, after: Any, path: str = "") -> Iterator[Difference]:
    """Yield what differs, by place; lists are compared element by element."""
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for name in sorted({*before, *after}):
            place = f"{path}.{name}" if path else name
            yield from find_differences(before.get(name, ABSENT), after.get(name, ABSENT), place)
    elif _is_list(before) and _is_list(after):
        for index in range(max(len(before), len(after))):
            old, new = (value[index] if index < len(value) else ABSENT for value in (before, after))
            yield from find_differences(old, new, f"{path}[{index}]")
    elif before is ABSENT or after is ABSENT or type(before) is not type(after) or before != after:
        yield Difference(path=path, before=before, after=after)


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _text(value: Any) -> str:
    return json_text(value, "value").decode("utf-8")
