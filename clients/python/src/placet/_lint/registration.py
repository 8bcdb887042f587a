"""One registration under examination: what it says of its arguments, and what was found so far.

Forms come from files and may hold anything; whoever reads them here takes what has the right type and
passes over the rest, which the reader of forms refuses (`form.invalid`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from placet._lint.findings import Finding, Path
from placet._lint.schema import ArgumentSchema, Presence, SchemaUnclearError, Value
from placet._spelling import hint

# Characters of what is said of one finding: names in it are whatever a stranger has made them.
_MAX_MESSAGE = 600


class Registration:
    """What a tool's form says."""

    def __init__(self, form: Mapping[str, Any], index: int = 0) -> None:
        self.form = form
        self.index = index
        self.name = text(form.get("name"))
        self.findings: list[Finding] = []
        schema = form.get("arguments_schema")
        readable = schema is None or isinstance(schema, Mapping)
        self.schema = ArgumentSchema(schema) if readable else None

    def add(self, code: str, path: Path, message: str, *, of_name: bool = False) -> None:
        self.findings.append(
            Finding(
                code=code,
                tool=self.name,
                index=self.index,
                path=path,
                message=message[:_MAX_MESSAGE],
                of_name=of_name,
            )
        )

    def member(self, name: str) -> Mapping[str, Any]:
        """Return a member that is a mapping; any other is an empty one."""
        return mapping(self.form.get(name))

    def value(self, name: str) -> Value | None:
        """Return what the schema says of an argument; None if that cannot be told."""
        if self.schema is None:
            return None
        try:
            return self.schema.at([name])
        except SchemaUnclearError:
            return None

    def values(self, name: str) -> list[Any] | None:
        """Return the only values of an argument; None if they are not listed, or cannot be told."""
        if self.schema is None:
            return None
        try:
            return self.schema.values(name)
        except SchemaUnclearError:
            return None

    def names(self) -> list[str]:
        """Return the arguments that the schema names; none if they cannot be told."""
        if self.schema is None:
            return []
        try:
            return self.schema.names()
        except SchemaUnclearError:
            return []

    def argument(self, name: str, path: Path, code: str, what: str, *, of_name: bool = False) -> Value | None:
        """Return what the schema says of an argument that the registration uses, if calls can have it.

        Otherwise it is a finding with this code; `what` says what follows, without a full stop.
        """
        value = self.value(name)
        if value is None or value.presence is Presence.NAMED:
            return value
        known = self.names()
        close = hint(name, known) or self._inside(name)
        if value.presence is Presence.FORBIDDEN:
            listed = close or (f"; the schema names {', '.join(known[:12])}" if known else "")
            no_schema = "" if self.form.get("arguments_schema") is not None else " (there is no schema)"
            self.add(
                code, path, f"{name!r} is no argument of the tool{no_schema}: {what}{listed}", of_name=of_name
            )
            return None
        self.add(
            "argument.unnamed",
            path,
            f"{name!r} is not named by the schema, which is open: name it in properties{close}",
            of_name=of_name,
        )
        return value

    def _inside(self, name: str) -> str:
        """Return a hint at something of this name inside of an argument, or nothing."""
        assert self.schema is not None  # only asked about names that were looked up
        last = name.rpartition(".")[2].removesuffix("[]")
        try:
            found = next((way for way in self.schema.paths() if len(way) > 1 and way[-1] == last), None)
        except SchemaUnclearError:
            return ""
        return (
            "" if found is None else f"; only whole arguments are looked at, and it is inside of {found[0]!r}"
        )


def mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def texts(value: Any, path: Path) -> Iterator[tuple[Path, str]]:
    """Yield the texts of a list, each with its path."""
    if isinstance(value, list | tuple):
        for index, item in enumerate(value):
            if isinstance(item, str):
                yield (*path, index), item


def mappings(value: Any, path: Path) -> Iterator[tuple[Path, Mapping[str, Any]]]:
    """Yield the mappings of a list, each with its path."""
    if isinstance(value, list | tuple):
        for index, item in enumerate(value):
            if isinstance(item, Mapping):
                yield (*path, index), item
