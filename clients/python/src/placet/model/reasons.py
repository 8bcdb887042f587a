"""What was decided, and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Effect(StrEnum):
    """What a decision says. Only an allow lets a tool run; escalate asks for a person."""

    ALLOW = "allow"
    BLOCK = "block"
    ESCALATE = "escalate"


@dataclass(frozen=True, kw_only=True, slots=True)
class Reason:
    """Why policy decided as it did.

    `code` is stable ("boundary.amount"; docs/policies.md lists them), `message` is constant text for people,
    and `at` is what the reason is about: a hop ("chain[1]"), an argument ("arguments.amount") or empty.
    """

    code: str
    effect: Effect
    message: str = ""
    at: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Obligation:
    """What whoever acts on the decision has to do as well. One that is not understood blocks."""

    id: str
    properties: Mapping[str, Any] = field(default_factory=dict)
