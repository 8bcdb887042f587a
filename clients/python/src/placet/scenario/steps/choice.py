"""Which kind of step a mapping is: the kind whose key it has."""

from __future__ import annotations

from typing import Any

from pydantic import Discriminator, Tag

from placet.scenario.steps.step import Step

PREFIX = "kind:"


def tag(kind: str) -> Tag:
    return Tag(PREFIX + kind)


def by_key(*steps: type[Step]) -> Discriminator:
    """Choose among kinds. What has none or two of the keys is no step."""
    kinds = [step.kind for step in steps]

    def chosen(value: Any) -> str | None:
        if not isinstance(value, dict):
            return PREFIX + value.kind if hasattr(value, "kind") else None
        found = [kind for kind in kinds if kind in value]
        return PREFIX + found[0] if len(found) == 1 else None

    return Discriminator(
        chosen,
        custom_error_type="step_kind",
        custom_error_message=f"is no step: exactly one key must be among {', '.join(kinds)}",
    )
