"""What the entities of a call say: the amounts to measure it by, and whom it deals with. Pure.

What cannot be read is absent, and rules restrict what is absent.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pdp.action.templates import TemplateError, identifier, read_template
from pdp.model import (
    JSON,
    Amount,
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
    exists. `order_named`: the call or its record names an order, readable or not. `measures`:
    how many of `record` and `order` there are.
    """
    record_ref, order_ref = tool.entity_of(EntityRole.RECORD), tool.entity_of(EntityRole.ORDER)
    record = order = None
    result: dict[str, Any] = {
        "record_known": record_ref is not None and _attributes(record_ref, known) is not None,
        "order_named": order_ref is not None and _is_named(order_ref, derived, known),
    }
    currency: JSON = tool.amount.currency_code if tool.amount is not None else None
    if record_ref is not None:
        record = _amount(record_ref, known, currency)
        # An order without a currency of its own is in its record's, also where that has no amount.
        currency = _currency(record_ref, known, currency)
    if order_ref is not None:
        order = _amount(order_ref, known, currency)
    for name, amount in (("record", record), ("order", order)):
        if amount is not None:
            result[name] = {"minor": amount.minor, "currency": amount.currency}
            if derived.amount is not None:
                result[name]["excess_ppm"] = _excess(derived.amount.minor, amount.minor)
    result["measures"] = (record is not None) + (order is not None)
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


def _amount(ref: EntityRef, known: Mapping[str, KnownEntity], currency: JSON) -> Amount | None:
    """Return an entity's amount; `currency` is what it is in where no attribute says so."""
    attributes = _attributes(ref, known)
    if attributes is None or ref.amount_attribute not in attributes:
        return None
    currency = _currency(ref, known, currency)
    digits = minor_digits(currency) if isinstance(currency, str) else None
    if digits is None or not isinstance(currency, str):
        return None
    try:
        return Amount(
            minor=major_to_minor(read_number(attributes[ref.amount_attribute]), digits), currency=currency
        )
    except AmountError:
        return None


def _currency(ref: EntityRef, known: Mapping[str, KnownEntity], otherwise: JSON) -> JSON:
    """Return what the registration says of an entity's currency: its attribute, or `otherwise`."""
    if not ref.currency_attribute:
        return otherwise
    return (_attributes(ref, known) or {}).get(ref.currency_attribute)


def _excess(amount: int, measure: int) -> int:
    """Return ceil((amount - measure) / measure) in millionths, exactly.

    Above a tolerance of whole millionths if and only if the true excess is.
    """
    if measure == 0:
        return _BEYOND if amount > 0 else 0
    return min(_BEYOND, -((measure - amount) * _PPM // measure))
