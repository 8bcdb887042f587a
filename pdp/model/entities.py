"""What is known of the things that actions are about."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple

from pdp.model.attribution import Attribution
from pdp.model.json import JSON


@dataclass(frozen=True, kw_only=True, slots=True)
class EntityName:
    """Names an entity of a tenant: a vendor, an order, an invoice."""

    type: str
    id: str

    def __str__(self) -> str:
        return f"{self.type}:{self.id}"


@dataclass(frozen=True, kw_only=True, slots=True)
class EntityQuery:
    """An entity to read, under the name that the tool gives it.

    Without `via` it is the entity (`type`, `id`). With it, it is the one of `type` whose id stands in
    the attribute `via` of the entity (`of`, `id`). With `measure`, the counters are read too that say what
    was paid on the entity by that measure.
    """

    name: str
    type: str
    id: str
    of: str = ""
    via: str | None = None
    measure: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class KnownEntity:
    """An entity as it was read. `revision` 0: it was never written."""

    name: EntityName
    revision: int
    # None: the entity does not exist.
    attributes: Mapping[str, JSON] | None


class Posting(NamedTuple):
    """What an entity's figures contain of a decision, in major units of the currency that it paid in."""

    decision_id: str
    amount: Decimal
    # The member of the request that says so, for errors.
    field: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class EntityVersion:
    """What one write said of an entity. `attributes` None: it was deleted."""

    name: EntityName
    revision: int
    attributes: Mapping[str, JSON] | None
    by: Attribution
    written_at: datetime
    # What the write said that the figures contain, by decision, in major units.
    posted: Mapping[str, Decimal] = field(default_factory=dict)
