"""Secret arguments: where they lie in a call, what is left of it without them, and their digest.

A path names arguments as the tool registry does: `pin`, `headers.Authorization`, `items[].token`. Names are
joined by dots, `[]` stands for every element of a list, and the empty path is all arguments.

- Letters A to Z are compared without regard to case: a header is secret in any spelling.
- A dot or `[]` may be part of a name. Every way to read a path counts: `api.key` is the argument of that
  name, and the member `key` of the argument `api`.
- Where a path comes to a value of another shape, such as text in the place of an object, that value is
  secret. Null is not.

What is left out is fixed by these rules alone, so whoever has a call and its paths finds the same.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

from placet.canonical import canonical_action

# What is shown in the place of a secret.
SECRET = "[secret]"
# The path of all arguments.
EVERYTHING = ""
# The salt of a secrets' digest has so many bytes.
SALT_BYTES = 32
_DOMAIN = b"placet-secrets/v1\0"
_LEFT_OUT = object()
# What is left of each path at some place of the arguments, with the path as a whole.
_Rests = frozenset[tuple[str, str]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Hidden:
    """A call's arguments, and what of them is secret."""

    # The paths that lead to something in these arguments, sorted.
    paths: tuple[str, ...] = ()
    # The arguments without their secrets: members and elements that are secret are not there.
    rest: Mapping[str, Any]
    # The arguments with `SECRET` in the place of each secret.
    shown: Mapping[str, Any]
    # The secret values.
    values: tuple[Any, ...] = field(default=(), repr=False)


def hide(arguments: Mapping[str, Any], paths: Collection[str]) -> Hidden:
    """Return what is secret in the arguments, a parsed JSON object. It takes time linear in their size."""
    if EVERYTHING in paths:
        return Hidden(paths=(EVERYTHING,), rest={}, shown={}, values=(dict(arguments),))
    search = _Search()
    rest, shown = search.object(arguments, _from_the_root(tuple(paths)))
    return Hidden(paths=tuple(sorted(search.found)), rest=rest, shown=shown, values=tuple(search.values))


def secrets_digest(*, tool: str, resource: str, arguments: Mapping[str, Any], salt: bytes) -> bytes:
    """Return the digest of an action's secrets, an HMAC-SHA-256 (32 bytes): the receipt's `secrets_digest`.

    It is taken over the whole action, with every argument. Who does not have the salt cannot try values.
    """
    document = canonical_action(tool=tool, resource=resource, arguments=arguments)
    return hmac.digest(salt, _DOMAIN + document, hashlib.sha256)


def argument_names(paths: Iterable[str]) -> frozenset[str]:
    """Return the names of arguments that are secret or may hold a secret, as `fold` writes them."""
    return frozenset(_from_the_root(tuple(paths)).members)


def split_path(path: str) -> list[tuple[str, str]]:
    """Return every way to read the name at a path's beginning, each with the path that is left after it."""
    ways = []
    for place in range(1, len(path)):
        if path[place] == ".":
            ways.append((path[:place], path[place + 1 :]))
        elif path.startswith("[]", place):
            ways.append((path[:place], path[place:]))
    return [*ways, (path, "")]


def element_path(path: str) -> str | None:
    """Return the path that is left inside each element of a list; None if the path names no elements."""
    return path[2:].removeprefix(".") if path.startswith("[]") else None


def fold(name: str) -> str:
    """Return the name in the spelling by which names are compared: A to Z in lower case, and only these."""
    return (
        name.lower()
        if name.isascii()
        else name.encode("utf-8", "surrogatepass").lower().decode("utf-8", "surrogatepass")
    )


class _Branches(NamedTuple):
    """Where paths lead from one place of the arguments."""

    # The paths that end here.
    ending: frozenset[str]
    # The paths that go on into an object, and into a list.
    into_object: frozenset[str]
    into_list: frozenset[str]
    # What is left of the paths inside each member, by its name as `fold` writes it.
    members: Mapping[str, _Rests]
    # What is left of them inside each element.
    elements: _Rests


@lru_cache(maxsize=1024)
def _from_the_root(paths: tuple[str, ...]) -> _Branches:
    return _branches(frozenset((path, path) for path in paths))


@lru_cache(maxsize=1024)
def _branches(rests: _Rests) -> _Branches:
    members: dict[str, set[tuple[str, str]]] = {}
    elements: set[tuple[str, str]] = set()
    into_object: set[str] = set()
    for rest, path in rests:
        inside = element_path(rest)
        if inside is not None:
            elements.add((inside, path))
        elif rest:
            into_object.add(path)
            for name, left in split_path(rest):
                members.setdefault(fold(name), set()).add((left, path))
    return _Branches(
        ending=frozenset(path for rest, path in rests if not rest),
        into_object=frozenset(into_object),
        into_list=frozenset(path for _, path in elements),
        members={name: frozenset(left) for name, left in members.items()},
        elements=frozenset(elements),
    )


class _Search:
    """One walk through a call's arguments. A value comes back as it is left, and as it is shown."""

    def __init__(self) -> None:
        self.found: set[str] = set()
        self.values: list[Any] = []

    def object(self, value: Mapping[str, Any], branches: _Branches) -> tuple[dict[str, Any], dict[str, Any]]:
        rest, shown = {}, {}
        for name, item in value.items():
            rests = branches.members.get(fold(name))
            left, seen = (item, item) if rests is None else self._value(item, _branches(rests))
            shown[name] = seen
            if left is not _LEFT_OUT:
                rest[name] = left
        return rest, shown

    def _value(self, value: Any, branches: _Branches) -> tuple[Any, Any]:
        secret = branches.ending
        if isinstance(value, Mapping):
            secret |= branches.into_list
        elif isinstance(value, list | tuple):
            secret |= branches.into_object
        elif value is not None:
            secret |= branches.into_list | branches.into_object
        if secret:
            self.found |= secret
            self.values.append(value)
            return _LEFT_OUT, SECRET
        if isinstance(value, Mapping):
            return self.object(value, branches)
        if isinstance(value, list | tuple):
            return self._list(value, _branches(branches.elements))
        return value, value

    def _list(self, value: Iterable[Any], branches: _Branches) -> tuple[list[Any], list[Any]]:
        rest, shown = [], []
        for item in value:
            left, seen = self._value(item, branches)
            shown.append(seen)
            if left is not _LEFT_OUT:
                rest.append(left)
        return rest, shown
