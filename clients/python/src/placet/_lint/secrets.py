"""Secret arguments: those that a registration names, and those that only look like some."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from placet._lint.findings import Path
from placet._lint.registration import Registration, mappings, texts
from placet._lint.schema import ELEMENTS, SchemaUnclearError
from placet._spelling import hint, words, words_of
from placet.secret_paths import argument_names, fold

# Words that make a name that of a secret, alone and in pairs.
_WORDS = words(
    "password passwd passphrase secret secrets apikey authorization credential credentials cvv cvc "
    "privatekey otp"
)
_PAIRS = words(
    "api-key private-key secret-key signing-key access-key access-token auth-token bearer-token refresh- "
    "token id-token session-token api-token security-code pass-word pass-phrase"
)
# With one of these a secret is only spoken of: `password_length`.
_ABOUT = words("id name ref length type hint policy count max min arn url")


def secret_paths(tool: Registration) -> Iterator[tuple[Path, str, bool]]:
    """Yield the paths that a registration makes secret: where, which, whether the name is the place's own."""
    for path, name in texts(tool.form.get("secret_arguments"), ("secret_arguments",)):
        yield path, name, False
    for name, role in tool.member("argument_roles").items():
        if role == "secret" and isinstance(name, str):
            yield ("argument_roles", name), name, True


def is_secret(tool: Registration, name: str) -> bool:
    """Return whether an argument is secret, or holds a secret."""
    return fold(name) in argument_names([path for _, path, _ in secret_paths(tool)])


def check_secrets(tool: Registration) -> None:
    """Add what would be shown that is meant to be secret."""
    for path, name, of_name in secret_paths(tool):
        if not _is_declared(tool, name):
            close = hint(name, _spellings(tool))
            tool.add(
                "secret.undeclared",
                path,
                f"{name!r} is not declared by the schema, so nothing would be hidden{close}",
                of_name=of_name,
            )
    for name in tool.member("normalise"):
        if isinstance(name, str) and is_secret(tool, name):
            tool.add(
                "secret.compared",
                ("normalise", name),
                f"{name!r} is secret, or holds a secret: it has no other spelling to be shown in",
                of_name=True,
            )
    for path, rule in mappings(tool.form.get("prerequisites"), ("prerequisites",)):
        for at, name in texts(rule.get("same"), (*path, "same")):
            if is_secret(tool, name):
                tool.add(
                    "secret.compared",
                    at,
                    f"{name!r} is secret, or holds a secret: it is compared with no other call's",
                )
    _check_unlisted(tool)


def _is_declared(tool: Registration, path: str) -> bool:
    """Return whether the schema declares a path, in any case of its letters; true if that cannot be told."""
    if tool.schema is None:
        return True
    try:
        if fold(path) in map(fold, _spellings(tool)):
            return True
        return tool.schema.find(path).declared
    except SchemaUnclearError:
        return True


def _spellings(tool: Registration) -> list[str]:
    """Return the paths that the schema names, as they are written."""
    if tool.schema is None:
        return []
    try:
        return [_spelt(way) for way in tool.schema.paths()]
    except SchemaUnclearError:
        return []


def _check_unlisted(tool: Registration) -> None:
    if tool.schema is None:
        return
    secret = {fold(name) for _, name, _ in secret_paths(tool)}
    spoken_of = {name for name, role in tool.member("argument_roles").items() if role == "other"}
    try:
        for way in tool.schema.paths():
            name = way[-1]
            if (
                name == ELEMENTS
                or not secret.isdisjoint(_around(way))
                or (len(way) == 1 and name in spoken_of)
            ):
                continue
            if not looks_secret(name):
                continue
            value = tool.schema.at(way)
            if value.listed or not value.types & {"string", "object"}:
                continue
            tool.add(
                "secret.unlisted",
                ("arguments_schema", *(value.path or ())),
                f"{_spelt(way)!r} is called like a secret, and receipts show it: put it into "
                "secret_arguments, or give it the role other",
                of_name=True,
            )
    except SchemaUnclearError:
        return


def looks_secret(name: str) -> bool:
    """Return whether an argument of this name most likely holds a secret."""
    parts = words_of(name)
    if not parts or parts[-1] in _ABOUT:
        return False
    pairs = {f"{one}-{other}" for one, other in pairwise(parts)}
    return bool(_WORDS & set(parts) or _PAIRS & pairs) or parts in (["token"], ["pin"])


def _around(way: tuple[str, ...]) -> set[str]:
    """Return the paths of a value and of everything that it is in, as secrets are compared."""
    return {fold(_spelt(way[:end])) for end in range(1, len(way) + 1)}


def _spelt(way: tuple[str, ...]) -> str:
    return ".".join(way).replace(f".{ELEMENTS}", ELEMENTS)
