"""What is found in registrations: each kind has a stable code, and its code says how bad it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

# The way to a value in the form of a registration: ("normalise", "invoice", 0).
Path = tuple[str | int, ...]


class Severity(StrEnum):
    """ERROR: what could never pass, or would leak; it is not registered. WARNING: everything else."""

    ERROR = "error"
    WARNING = "warning"


_E, _W = Severity.ERROR, Severity.WARNING

# Every code, how bad it is, and what it means. docs/tools.md has the same table.
CODES: Mapping[str, tuple[Severity, str]] = {
    "amount.absent": (_W, "A tool that pays has no `amount`, so no limit counts what it pays."),
    "amount.currency_invalid": (_E, "The currency is none of ISO 4217: every call is blocked."),
    "amount.currency_missing": (
        _E,
        "Neither an argument nor a code says the currency: every call is blocked.",
    ),
    "amount.invalid": (_E, "The amount or its currency cannot be read from the argument that is named."),
    "amount.normalised": (_E, "Steps of `normalise` are given for the amount, which is a number."),
    "amount.optional": (_W, "Calls may leave out the amount or its currency, and are then blocked."),
    "amount.unit_missing": (_E, "The amount has no unit: every call is blocked."),
    "amount.unknown_argument": (
        _E,
        "The amount or its currency is read from an argument that no call can have.",
    ),
    "argument.unnamed": (_W, "The schema is open and does not name an argument that the registration uses."),
    "business_key.absent": (_W, "A tool that pays has no `business_key`, so nothing finds duplicates."),
    "business_key.optional": (_W, "Calls may leave out an argument of the business key."),
    "business_key.unknown_argument": (_E, "The business key has an argument that no call can have."),
    "effect.softer": (_W, "The tool's name says that it does more than its effect."),
    "entity.invalid": (_E, "A member of an entity is not as it must be."),
    "entity.unknown_entity": (_E, "`via` or `must_match` names no entity of the tool."),
    "form.invalid": (_E, "A member is not known, is missing, or has a value that it cannot have."),
    "glob.unused": (_W, "`glob` is set, and no argument of an id has the step `path`."),
    "normalise.not_text": (_W, "An argument that is never text has steps, which change text alone."),
    "normalise.unknown_argument": (_W, "Steps are given for an argument that no call can have."),
    "prerequisite.circle": (_E, "Tools require each other in a circle: none could ever be allowed."),
    "prerequisite.self": (_E, "A tool is its own prerequisite."),
    "prerequisite.unknown_argument": (
        _E,
        "`same` names an argument that calls of one of the tools cannot have.",
    ),
    "prerequisite.unknown_tool": (_E, "A prerequisite is a tool that nobody has registered."),
    "redeem.audience_missing": (_E, "`redeem: required` without `audience`: nobody can redeem."),
    "resource.invalid": (_E, "`resource` is not `type:id`, or has `..` as a segment: every call is blocked."),
    "role.unknown_argument": (_W, "A role is given to an argument that no call can have."),
    "schema.invalid": (_E, "`arguments_schema` is no JSON Schema that the server can apply."),
    "schema.misspelt": (_W, "A word of the schema is none of JSON Schema, and nearly one: it says nothing."),
    "schema.never": (_E, "No arguments fit the schema."),
    "schema.open": (_W, "The schema lets through, at some depth, what it does not name."),
    "schema.unclear": (_W, "The schema has more alternatives than are looked at; arguments are not checked."),
    "secret.compared": (
        _E,
        "A secret argument, or one that holds a secret, has steps of `normalise` or is in `same`.",
    ),
    "secret.in_id": (_E, "A secret argument is part of an id, which receipts show."),
    "secret.in_key": (_E, "A secret argument is part of the business key, which is stored."),
    "secret.is_amount": (_E, "The amount, or its currency, is a secret argument, and receipts show it."),
    "secret.undeclared": (_E, "A path of a secret is not declared by the schema: nothing would be hidden."),
    "secret.unlisted": (_W, "An argument is called like a secret and is none, so receipts show it."),
    "target.unjudged": (_W, "An argument says where something goes, and nothing judges it."),
    "template.invalid": (_E, "An id is no template: braces, or nothing between two arguments."),
    "template.not_text": (_E, "An id is made of an argument that is never text or a number."),
    "template.optional": (
        _W,
        "An id is made of an argument that calls may leave out, or that may be no text.",
    ),
    "template.segment": (
        _W,
        "A path stands after literal text without the step `path`: no folder in it passes.",
    ),
    "template.unknown_argument": (_E, "An id is made of an argument that no call can have."),
    "tool.duplicate": (_E, "Two registrations have one name."),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One thing that is wrong, or doubtful, in a registration."""

    code: str
    # The tool's name, and its place in the list that was judged.
    tool: str
    index: int
    # Where in the form of the registration; () is the whole one.
    path: Path
    # A sentence without its subject, which is what stands at `path`: what to write instead, if that is known.
    message: str
    # What is wrong is the name at the end of the path, not what it names.
    of_name: bool = False

    @property
    def severity(self) -> Severity:
        return CODES[self.code][0]


def written(path: Path) -> str:
    """Return a path as people write it: `entities[0].via.entity`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text
