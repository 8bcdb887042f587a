"""Tells the kind of a step by the key that its mapping has."""

from __future__ import annotations

from typing import Annotated, Any, Union

from pydantic import Discriminator, Tag

from placet.scenario.steps.step import Step

PREFIX = "kind:"


def one_of(*kinds: type[Step]) -> Any:
    """Return the annotation of a step of one of these kinds.

    A mapping with none or two of their keys is no step.
    """
    tagged = tuple(Annotated[kind, Tag(PREFIX + kind.kind)] for kind in kinds)
    return Annotated[Union[tagged], _by_key(*kinds)]  # noqa: UP007 - made of a list


def _by_key(*kinds: type[Step]) -> Discriminator:
    keys = [step.kind for step in kinds]

    def choose(value: Any) -> str | None:
        if not isinstance(value, dict):
            return PREFIX + value.kind if hasattr(value, "kind") else None
        found = [kind for kind in keys if kind in value]
        return PREFIX + found[0] if len(found) == 1 else None

    return Discriminator(
        choose,
        custom_error_type="step_kind",
        custom_error_message=f"is no step: exactly one key must be among {', '.join(keys)}",
    )
