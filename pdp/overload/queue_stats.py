"""What waits at a place of the pipeline, and what was dropped there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class QueueStats:
    """A queue as it is now, for metrics. `dropped` counts calls since the start, by reason.

    Reasons: `full` (no place was left), `late` (less time was left than the work needs),
    `gone` (the caller had given up). Work on a call that was dropped had never begun.
    """

    waiting: int
    dropped: Mapping[str, int]
