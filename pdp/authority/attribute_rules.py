"""Attribute rules of boundaries: which entities they point to, and which ids they then permit. Pure.

An entity that does not exist permits nothing, nor does an attribute that is no text.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pdp.action.templates import identifier
from pdp.authority.boundary import listed_entities
from pdp.model import Boundary, EntityName, KnownEntity, ResourceRule
from pdp.names import MAX_RESOURCE_ID


def entities_pointed_to(boundaries: Iterable[Boundary], kind: str) -> tuple[EntityName, ...]:
    """Return the entities to read before an action on a resource of type `kind` is judged."""
    return tuple(
        dict.fromkeys(
            entity
            for boundary in boundaries
            for rule in boundary.resources
            if rule.type == kind and rule.attribute is not None
            for entity in listed_entities(boundary, rule.attribute.of_type)
        )
    )


def resolve_attribute_rules(
    boundary: Boundary, kind: str, known: Mapping[EntityName, KnownEntity]
) -> tuple[tuple[ResourceRule, tuple[str, ...]], ...]:
    """Return the boundary's attribute rules on resources of type `kind` with the ids that they permit."""
    return tuple(
        (rule, _ids(boundary, rule.attribute.of_type, rule.attribute.attribute, known))
        for rule in boundary.resources
        if rule.type == kind and rule.attribute is not None
    )


def _ids(
    boundary: Boundary, of_type: str, attribute: str, known: Mapping[EntityName, KnownEntity]
) -> tuple[str, ...]:
    found = set()
    for entity in listed_entities(boundary, of_type):
        read = known.get(entity)
        value = None if read is None or read.attributes is None else read.attributes.get(attribute)
        # Only text permits an id, as it stands: nobody said how a number would be written as one.
        if isinstance(value, str) and len(value) <= MAX_RESOURCE_ID and identifier(value) is not None:
            found.add(value)
    return tuple(sorted(found))
