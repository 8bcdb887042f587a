"""Which entities attribute rules point to, and which ids they then permit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from pdp.authority.attribute_rules import entities_pointed_to, resolve_attribute_rules
from pdp.authority.boundary import MAX_LISTED, listed_entities, parse_boundary
from pdp.errors import InvalidFieldError
from pdp.model import JSON, Boundary, EntityName, KnownEntity

VENDORS = {"type": "vendor", "attribute": {"of_type": "invoice", "attribute": "vendor"}}
ORDERS = {"type": "po", "attribute": {"of_type": "invoice", "attribute": "po"}}


def boundary(*resources: Mapping[str, Any]) -> Boundary:
    return parse_boundary({"resources": list(resources)}, "boundary")


def invoices(*ids: str) -> tuple[EntityName, ...]:
    return tuple(EntityName(type="invoice", id=one) for one in ids)


def known(**attributes: Mapping[str, JSON] | None) -> dict[EntityName, KnownEntity]:
    return {
        name: KnownEntity(name=name, revision=1, attributes=found)
        for (name,), found in ((invoices(one.replace("_", "-")), said) for one, said in attributes.items())
    }


LISTED = boundary(
    {"type": "invoice", "id": "INV-1"},
    {"type": "invoice", "ids": ["INV-2", "INV-1"]},
    {"type": "invoice", "prefix": "INV-"},
    {"type": "order", "id": "INV-9"},
    VENDORS,
)


def test_what_is_named_one_by_one_is_listed_once() -> None:
    assert listed_entities(LISTED, "invoice") == invoices("INV-1", "INV-2")
    assert listed_entities(LISTED, "vendor") == ()


def test_entities_are_read_only_for_a_resource_that_a_rule_is_about() -> None:
    assert entities_pointed_to([LISTED], "vendor") == invoices("INV-1", "INV-2")
    for other in ("invoice", "order", ""):
        assert entities_pointed_to([LISTED], other) == ()


def test_each_boundary_lists_for_itself() -> None:
    narrower = boundary({"type": "invoice", "id": "INV-2"}, VENDORS)
    there = known(INV_1={"vendor": "V-1"}, INV_2={"vendor": "V-2"})
    assert entities_pointed_to([LISTED, narrower], "vendor") == invoices("INV-1", "INV-2")
    assert [
        [ids for _, ids in resolve_attribute_rules(each, "vendor", there)] for each in (LISTED, narrower)
    ] == [
        [("V-1", "V-2")],
        [("V-2",)],
    ]


def test_rules_on_another_type_are_not_resolved() -> None:
    both = boundary({"type": "invoice", "id": "INV-1"}, VENDORS, ORDERS)
    there = known(INV_1={"vendor": "V-1", "po": "PO-77"})
    assert [(rule.type, ids) for rule, ids in resolve_attribute_rules(both, "po", there)] == [
        ("po", ("PO-77",))
    ]


@pytest.mark.parametrize(
    "attributes",
    [
        None,
        {},
        {"po": "V-1"},
        *({"vendor": odd} for odd in (None, True, 1, ["V-1"], {"id": "V-1"}, "", " V-1", "V\n1", "v" * 513)),
    ],
)
def test_what_is_no_text_permits_nothing(attributes: Mapping[str, JSON] | None) -> None:
    one = boundary({"type": "invoice", "id": "INV-1"}, VENDORS)
    assert [ids for _, ids in resolve_attribute_rules(one, "vendor", known(INV_1=attributes))] == [()]


def test_what_was_not_read_permits_nothing() -> None:
    assert [ids for _, ids in resolve_attribute_rules(LISTED, "vendor", {})] == [()]


def test_prefix_lists_nothing() -> None:
    one = boundary({"type": "invoice", "prefix": ""}, VENDORS)
    assert entities_pointed_to([one], "vendor") == ()
    assert [ids for _, ids in resolve_attribute_rules(one, "vendor", known(INV_1={"vendor": "V-1"}))] == [()]


def test_boundary_points_to_so_many_entities_and_no_more() -> None:
    most = [f"INV-{n}" for n in range(MAX_LISTED)]
    at_most = {"type": "invoice", "ids": most}
    # Entities that are listed twice, and entities that no rule points to, do not count.
    others = {"type": "order", "ids": [f"PO-{n}" for n in range(MAX_LISTED)]}
    boundary(at_most, at_most, others, VENDORS, ORDERS)
    with pytest.raises(InvalidFieldError) as refused:
        boundary(at_most, {"type": "invoice", "id": "INV-X"}, VENDORS)
    assert refused.value.field == "boundary.resources"
