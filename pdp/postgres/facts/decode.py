"""Makes facts of a row of the facts statement."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from pdp.action.templates import identifier
from pdp.model import JSON, EntityName, Facts, FactsRequest, KnownEntity
from pdp.postgres.facts.statement import (
    AGENTS_AT,
    COUNTERS_AT,
    ENTITIES_AT,
    GRANTS_AT,
    HOLDS_AT,
    MEASURED_AT,
    PREREQUISITE_RULES_AT,
    PRIOR_ANSWERS_AT,
    PRIOR_AT,
    SCALARS_AT,
    SESSION_AT,
    SIGNALS_AT,
    TOOL_AT,
    EntityRow,
    Scalars,
    entity_queries,
    parsed,
)
from pdp.postgres.rows import json_value


class TenantFacts:
    """What the first row of a tenant in a batch says for all of its rows."""

    __slots__ = ("settings", "signals")

    def __init__(self, scalars: Scalars, row: Sequence[Any]) -> None:
        """Raises ValueError and TypeError for what is no JSON, or no object."""
        settings = None if scalars.settings is None else parsed(scalars.settings)
        if not isinstance(settings, dict):
            raise TypeError("settings are not an object")
        self.settings: Mapping[str, JSON] = settings
        self.signals: Mapping[str, JSON] = dict(SIGNALS_AT.values(row))


def read_facts(row: Sequence[Any], scalars: Scalars, request: FactsRequest, of_tenant: TenantFacts) -> Facts:
    """Return the facts of a request. Raises ValueError, TypeError and KeyError for what cannot be read."""
    entities, listed = _entities(ENTITIES_AT.values(row), request)
    return Facts(
        now=scalars.now,
        epoch=scalars.epoch,
        settings=of_tenant.settings,
        data_revisions={
            "settings": scalars.settings_revision,
            "tools": scalars.tools_revision,
            "agents": scalars.agents_revision,
            "signals": scalars.signals_revision,
            "entities": scalars.entities_revision,
        },
        session=SESSION_AT.find(row),
        tool=TOOL_AT.find(row),
        agents={agent.agent: agent for agent in AGENTS_AT.values(row)},
        signals=of_tenant.signals,
        prior=PRIOR_AT.find(row),
        entities=entities,
        listed=listed,
        key_version=scalars.key_version,
        holds=tuple(HOLDS_AT.values(row)),
        counters=dict(COUNTERS_AT.values(row)) | dict(MEASURED_AT.values(row)),
        prerequisites=dict(PRIOR_ANSWERS_AT.values(row)),
        prerequisite_of=tuple(PREREQUISITE_RULES_AT.values(row)),
        grants={grant.grant_hash: grant for grant in GRANTS_AT.values(row)},
        token_lives=scalars.token_lives,
    )


def read_scalars(row: Sequence[Any]) -> Scalars | None:
    """Return what the row has one of; None if there is no such tenant."""
    return SCALARS_AT.find(row)


def _entities(
    rows: Iterable[EntityRow], request: FactsRequest
) -> tuple[dict[str, KnownEntity], dict[EntityName, KnownEntity]]:
    """Return the call's entities by the names that the tool gives them, and those that boundaries list."""
    found: dict[str, KnownEntity] = {}
    listed: dict[EntityName, KnownEntity] = {}
    queries = entity_queries(request)
    for place, entity_id, revision, attributes in rows:
        query = queries[place - 1]
        # A text that is no identifier is no entity's id.
        if entity_id is None or identifier(entity_id) is None:
            continue
        entity = KnownEntity(
            name=EntityName(type=query.type, id=entity_id),
            revision=revision or 0,
            attributes=None if attributes is None else _attributes(attributes),
        )
        if place <= len(request.entities):
            found[query.name] = entity
        else:
            listed[entity.name] = entity
    return found, listed


@lru_cache(maxsize=4096)
def _attributes(text: str) -> dict[str, JSON]:
    """Return the attributes. Only the parsing is cached: equal text gives equal attributes."""
    attributes = json_value(text)
    if not isinstance(attributes, dict):
        raise TypeError("attributes are not an object")
    return attributes
