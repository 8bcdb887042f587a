"""What an identifier and a text may be, wherever they come from: messages, settings, tokens."""

from __future__ import annotations

from pdp.errors import InvalidFieldError

# Characters of an identifier.
MAX_NAME = 256
# Bounds the part of a resource after its type: "INV-1001" in "invoice:INV-1001".
MAX_RESOURCE_ID = 512
# These bound free text.
MAX_DESCRIPTION = 8 * 1024
MAX_PROMPT = 32 * 1024


def name(value: str, path: str, *, most: int = MAX_NAME) -> str:
    """Return the identifier, which must not be empty. Raises `InvalidFieldError` naming `path`."""
    if not value:
        raise InvalidFieldError(path, "is required")
    return optional_name(value, path, most=most)


def optional_name(value: str, path: str, *, most: int = MAX_NAME) -> str:
    """Return the identifier: one line of printable characters without spaces around it, or nothing.

    Raises `InvalidFieldError` naming `path`.
    """
    if len(value) > most:
        raise InvalidFieldError(path, f"is {len(value)} characters long; at most {most}")
    if not value.isprintable() or value != value.strip():
        raise InvalidFieldError(path, "must be one line of printable characters without spaces around it")
    return value


def text(value: str, path: str, most: int) -> str:
    """Return the free text, which may be empty. Raises `InvalidFieldError` naming `path`."""
    if len(value) > most:
        raise InvalidFieldError(path, f"is {len(value)} characters long; at most {most}")
    if "\0" in value:
        raise InvalidFieldError(path, "contains a NUL character")
    return value


def unique(names: list[str], path: str, field: str) -> None:
    """Raise `InvalidFieldError` if a name is there twice. `path` is the list's, `field` the name's in it."""
    """Raise `InvalidFieldError` naming the entry of the list `path` whose `field` repeats an earlier one."""
    seen: set[str] = set()
    for index, item in enumerate(names):
        if item in seen:
            raise InvalidFieldError(f"{path}[{index}].{field}", "is listed twice")
        seen.add(item)
