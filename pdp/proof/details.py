"""What a receipt says of each reason beyond its code, as JSON and back: one disclosure for all of them.

It names arguments and amounts, so it can be erased; then a reason has its code, its effect and its remedy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from datetime import timedelta
from typing import Any

from pdp.model import Figures, Reason, SchemaViolation

_SPANS = {"window_seconds": "window", "retry_after_seconds": "retry_after"}


def details_of(reasons: Sequence[Reason]) -> list[dict[str, Any]] | None:
    """Return an object for each reason, in their order; None if there is nothing to say of any."""
    details = [_details(reason) for reason in reasons]
    return details if any(details) else None


def read_details(details: Any, place: int) -> dict[str, Any]:
    """Return the members of the reason at `place` that its receipt's details hold; {} if they were erased."""
    found = details[place] if details else {}
    return {
        "remediation": found.get("remediation", ""),
        "figures": tuple(_read_figures(item) for item in found.get("figures", ())),
        "violations": tuple(
            SchemaViolation(**_known(SchemaViolation, item)) for item in found.get("violations", ())
        ),
        "more_violations": found.get("more_violations", 0),
    }


def _details(reason: Reason) -> dict[str, Any]:
    said: dict[str, Any] = {
        "remediation": reason.remediation,
        "figures": [_members(figures) for figures in reason.figures],
        "violations": [_members(violation) for violation in reason.violations],
        "more_violations": reason.more_violations,
    }
    return {name: value for name, value in said.items() if value}


def _members(value: Figures | SchemaViolation) -> dict[str, Any]:
    """Return what is said; spans are whole seconds, and named so."""
    result: dict[str, Any] = {}
    for item in fields(value):
        member = getattr(value, item.name)
        if isinstance(member, timedelta):
            result[f"{item.name}_seconds"] = int(member.total_seconds())
        elif member:
            result[item.name] = member
    return result


def _read_figures(said: Mapping[str, Any]) -> Figures:
    spans: dict[str, Any] = {
        name: timedelta(seconds=said[key]) for key, name in _SPANS.items() if key in said
    }
    return Figures(**(_known(Figures, said) | spans))


def _known(kind: type[Figures | SchemaViolation], said: Mapping[str, Any]) -> dict[str, Any]:
    """Return the members that the kind has; a server of a later release may have said more."""
    names = {item.name for item in fields(kind)}
    return {name: value for name, value in said.items() if name in names}
