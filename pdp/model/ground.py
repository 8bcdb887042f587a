"""What a decision rests on that others can move."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pdp.model.entities import EntityName
from pdp.model.limits import CounterKey


@dataclass(frozen=True, kw_only=True, slots=True)
class Ground:
    """The revisions that an allow or an escalation was judged on, and what the allow counted.

    The policy that judged it stands in its receipt.
    """

    # The tenant's epoch. While it has not moved, nothing below but the entities can have.
    epoch: int
    settings: int
    signals: int
    # The revision of the tool's own registration; 0: it was not registered.
    tool: int
    # The revision of each agent on the chain that operators said anything of, by name.
    agents: Mapping[str, int]
    entities: Mapping[EntityName, int]
    # What the allow added to each counter.
    counted: tuple[tuple[CounterKey, int], ...] = ()
