"""What the entities of a call say: the amounts to measure it by, and whom it deals with. Pure.

What cannot be read is absent, and rules restrict what is absent.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, NamedTuple

from pdp.action.templates import TemplateError, identifier, read_template
from pdp.model import (
    JSON,
    Derived,
    EntityRef,
    EntityRole,
    KnownEntity,
    Tool,
)
from pdp.money import AmountError, major_to_minor, minor_digits, read_number

_PPM = 1_000_000
# Beyond any tolerance, and still an exact integer for every reader of JSON.
_BEYOND = 2**53 - 1
_NOTHING = Decimal(0)


class EntityFigures(NamedTuple):
    """What a record or an order comes to, as far as its attributes say, in minor units of its currency.

    At least one of the two is known.
    """

    currency: str
    # In all, whatever is paid of it.
    total: int | None
    # What of it is not paid yet.
    open: int | None

    @property
    def least(self) -> int:
        """What a single payment may come to."""
        return min(figure for figure in (self.total, self.open) if figure is not None)


def describe_entities(tool: Tool | None, known: Mapping[str, KnownEntity]) -> dict[str, Any]:
    """Return the call's entities as rules see them, by the name that the tool gives them."""
    return {} if tool is None else {ref.name: _entity(ref, tool, known) for ref in tool.entities}


def describe_counterparty(tool: Tool, known: Mapping[str, KnownEntity]) -> dict[str, Any] | None:
    """Return whom a call deals with; None if it can deal with nobody."""
    ref = tool.entity_of(EntityRole.COUNTERPARTY)
    if ref is None:
        return None
    found = known.get(ref.name)
    result: dict[str, Any] = {"entity": ref.name, "known": False}
    if found is not None:
        result |= {"type": found.name.type, "id": found.name.id}
        if found.attributes is not None:
            result["known"] = True
            if ref.status_attribute in found.attributes:
                result["status"] = found.attributes[ref.status_attribute]
    return result


def find_unmatched(tool: Tool, known: Mapping[str, KnownEntity]) -> list[str]:
    """Return the names of the entities that are not what another one names, in the order of the tool's."""
    return [ref.name for ref in tool.entities if ref.must_match is not None and not _matched(ref, known)]


def is_measured(tool: Tool) -> bool:
    """True if the amounts of the tool's calls are measured against a record or an order."""
    return tool.amount is not None and any(
        ref.role in (EntityRole.RECORD, EntityRole.ORDER) for ref in tool.entities
    )


def describe_reference(tool: Tool, derived: Derived, known: Mapping[str, KnownEntity]) -> dict[str, Any]:
    """Return what the call's amount is measured against.

    `record` and `order`: the amounts that can be read, with `excess_ppm`, by how many
    millionths the call's amount lies above them, rounded up. `record_known`: the record
    exists. `record_readable`: it holds no figure that cannot be read, if it holds any.
    `order_named`: the call or its record names an order, readable or not. `measures`: how many
    of `record` and `order` there are.
    """
    record_ref, order_ref = tool.entity_of(EntityRole.RECORD), tool.entity_of(EntityRole.ORDER)
    result: dict[str, Any] = {
        "record_known": record_ref is not None and _attributes(record_ref, known) is not None,
        "order_named": order_ref is not None and _is_named(order_ref, derived, known),
    }
    measures = read_figures(tool, known)
    result["record_readable"] = EntityRole.RECORD in measures or not _holds_figures(record_ref, known)
    for role, figures in measures.items():
        result[role.value] = {"minor": figures.least, "currency": figures.currency}
        if derived.amount is not None:
            result[role.value]["excess_ppm"] = excess_ppm(derived.amount.minor, figures.least)
    result["measures"] = len(measures)
    return result


def read_figures(tool: Tool, known: Mapping[str, KnownEntity]) -> dict[EntityRole, EntityFigures]:
    """Return what the call's record and its order come to, as far as each can be read."""
    result = {}
    currency: JSON = tool.amount.currency_code if tool.amount is not None else None
    for role in (EntityRole.RECORD, EntityRole.ORDER):
        ref = tool.entity_of(role)
        if ref is None:
            continue
        # An order without a currency of its own is in its record's, also where that has no amount.
        currency = _currency(ref, known, currency)
        figures = _figures(ref, known, currency)
        if figures is not None:
            result[role] = figures
    return result


def _entity(ref: EntityRef, tool: Tool, known: Mapping[str, KnownEntity]) -> dict[str, Any]:
    found = known.get(ref.name)
    result: dict[str, Any] = {"type": ref.type, "known": False}
    if found is not None:
        result["id"] = found.name.id
        if found.attributes is not None:
            result |= {"known": True, "attributes": found.attributes}
    if ref.must_match is not None:
        result["matched"] = _matched(ref, known)
    return result


def _matched(ref: EntityRef, known: Mapping[str, KnownEntity]) -> bool:
    assert ref.must_match is not None  # asked only of those that must match
    found, other = known.get(ref.name), known.get(ref.must_match.entity)
    if found is None or other is None or other.attributes is None:
        return False
    return identifier(other.attributes.get(ref.must_match.attribute)) == found.name.id


def _is_named(ref: EntityRef, derived: Derived, known: Mapping[str, KnownEntity]) -> bool:
    if ref.id is not None:
        # An argument that is there names something even if it is no identifier, or only a part of a name.
        try:
            names = read_template(ref.id).names
        except TemplateError:
            return True
        return not names or any(derived.arguments.get(name) is not None for name in names)
    assert ref.via is not None  # one of the two is set
    named_by = known.get(ref.via.entity)
    return (
        named_by is not None
        and named_by.attributes is not None
        and named_by.attributes.get(ref.via.attribute) is not None
    )


def _attributes(ref: EntityRef, known: Mapping[str, KnownEntity]) -> Mapping[str, JSON] | None:
    found = known.get(ref.name)
    return None if found is None else found.attributes


def _holds_figures(ref: EntityRef | None, known: Mapping[str, KnownEntity]) -> bool:
    """Return whether an entity has an attribute that the registration names for a figure, readable or not."""
    attributes = None if ref is None else _attributes(ref, known)
    if ref is None or attributes is None:
        return False
    return any(name in attributes for name in (ref.total_named, ref.open_named))


def _figures(ref: EntityRef, known: Mapping[str, KnownEntity], currency: JSON) -> EntityFigures | None:
    """Return an entity's figures in `currency`; None if one cannot be read, or one that it needs is absent.

    Where the registration names both, the total may be absent: nobody has written one yet. Where more was
    paid than there was, nothing is open.
    """
    attributes = _attributes(ref, known)
    digits = minor_digits(currency) if isinstance(currency, str) else None
    if attributes is None or digits is None or not isinstance(currency, str):
        return None
    try:
        total = left = None
        if ref.total_named in attributes:
            total = major_to_minor(read_number(attributes[ref.total_named]), digits)
        if ref.open_named in attributes:
            left = major_to_minor(max(read_number(attributes[ref.open_named]), _NOTHING), digits)
    except AmountError:
        return None
    if left is None and (ref.open_named or total is None):
        return None
    return EntityFigures(currency=currency, total=total, open=left)


def _currency(ref: EntityRef, known: Mapping[str, KnownEntity], otherwise: JSON) -> JSON:
    """Return what the registration says of an entity's currency: its attribute, or `otherwise`."""
    if not ref.currency_attribute:
        return otherwise
    return (_attributes(ref, known) or {}).get(ref.currency_attribute)


def excess_ppm(amount: int, measure: int) -> int:
    """Return ceil((amount - measure) / measure) in millionths, exactly.

    Above a tolerance of whole millionths if and only if the true excess is.
    """
    if measure == 0:
        return _BEYOND if amount > 0 else 0
    return min(_BEYOND, -((measure - amount) * _PPM // measure))
