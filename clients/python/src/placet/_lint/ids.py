"""The ids of a registration: of its resource and of its entities."""

from __future__ import annotations

import re
from collections.abc import Iterator

from placet._lint.findings import Path
from placet._lint.registration import Registration, mappings, text, texts
from placet._lint.schema import Presence
from placet._lint.secrets import is_secret
from placet._spelling import words, words_of
from placet._templates import TemplateError, split_template

_RESOURCE = re.compile(r"[a-z][a-z0-9_.-]{0,63}:(.{1,512})", re.DOTALL)
# What separates segments, and a dot in them, also where a tool decodes percent signs, once or more often.
_SEPARATORS = re.compile(r"[/\\]|%(?:25)*(?:2f|5c)", re.IGNORECASE)
_DOT = re.compile(r"%(?:25)*2e", re.IGNORECASE)
_PATH_WORDS = words("path file filename filepath dir directory folder url uri")
# What can be part of an id.
_WRITABLE = frozenset({"string", "number"})


def check_ids(tool: Registration) -> None:
    """Add what is wrong with the templates of a registration's ids."""
    resource = text(tool.form.get("resource"))
    match = _RESOURCE.fullmatch(resource)
    if match is None:
        if isinstance(tool.form.get("resource", ""), str):
            tool.add(
                "resource.invalid",
                ("resource",),
                'must be "type:id" with a type of lower case letters, and arguments in braces, such as '
                '"invoice:{invoice}"'
                + (f' or "tool:{tool.name}" for the tool itself' if not resource else ""),
            )
    else:
        _check_template(tool, match[1], ("resource",), is_resource=True)
    for path, template in _entity_ids(tool):
        _check_template(tool, template, path, is_resource=False)
    if tool.form.get("glob") is True and not set(_paths(tool)) & set(names_in_ids(tool)):
        tool.add(
            "glob.unused", ("glob",), 'says nothing: no argument of an id has the step "path" in normalise'
        )


def names_in_ids(tool: Registration) -> list[str]:
    """Return the arguments that resource and entities are derived from."""
    match = _RESOURCE.fullmatch(text(tool.form.get("resource")))
    templates = [match[1] if match else "", *(template for _, template in _entity_ids(tool))]
    found: list[str] = []
    for template in templates:
        try:
            found += split_template(template)[1]
        except TemplateError:
            continue
    return found


def _entity_ids(tool: Registration) -> Iterator[tuple[Path, str]]:
    for path, entity in mappings(tool.form.get("entities"), ("entities",)):
        if isinstance(entity.get("id"), str):
            yield (*path, "id"), entity["id"]


def _paths(tool: Registration) -> list[str]:
    """Return the arguments that are spelt as paths."""
    return [
        name
        for name, steps in tool.member("normalise").items()
        if any(step == "path" for _, step in texts(steps, ()))
    ]


def _check_template(tool: Registration, template: str, path: Path, *, is_resource: bool) -> None:
    try:
        literals, names = split_template(template)
    except TemplateError as exc:
        tool.add("template.invalid", path, str(exc))
        return
    what = "every call is blocked" if is_resource else "the entity is never found"
    if is_resource and _leads_elsewhere(literals):
        tool.add("resource.invalid", path, "has . or .. as a segment of its path, so every call is blocked")
    for place, name in enumerate(names):
        value = tool.argument(name, path, "template.unknown_argument", what)
        if is_secret(tool, name):
            tool.add(
                "secret.in_id",
                path,
                f"shows the secret argument {name!r} to whoever sees a receipt: derive the id of others",
            )
        if value is None or value.presence is not Presence.NAMED:
            continue
        wrong = sorted(value.types - _WRITABLE)
        if not value.types & _WRITABLE:
            tool.add(
                "template.not_text",
                path,
                f"is made of {name!r}, which is {' or '.join(wrong)} and never text or a number: {what}",
            )
        elif not value.required or 0 < len(wrong) < 4:
            why = "may be left out" if not value.required else f"may be {' or '.join(wrong)}"
            then = "such a call is blocked" if is_resource else "the entity of such a call is not found"
            tool.add(
                "template.optional",
                path,
                f"is made of {name!r}, which {why}: {then}"
                + ("; put it into required" if not value.required else ""),
            )
        if (
            (literals[place] or place)
            and not value.listed
            and name not in _paths(tool)
            and _PATH_WORDS & set(words_of(name))
        ):
            tool.add(
                "template.segment",
                path,
                f"has {name!r} after literal text, so a value with a slash in it is blocked: if it is a "
                f"path, say normalise: {{{name}: [path]}}",
            )


def _leads_elsewhere(literals: tuple[str, ...]) -> bool:
    """Return whether a whole segment of the literal texts is `..`, or is `.` after the first."""
    # A value of an argument may be anything that is no such segment.
    segments = _SEPARATORS.split(_DOT.sub(".", "value".join(literals)))
    return ".." in segments or "." in segments[1:]
