"""What a call's amount is measured against, and whom it deals with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pdp.action.derivation import derive
from pdp.action.entities import describe_counterparty, describe_entities, describe_reference, is_measured
from pdp.model import JSON, EntityName, EntityQuery, KnownEntity, Tool
from tests.support import builders

TOOL = builders.payment_tool()
INVOICE: dict[str, JSON] = {"vendor": "V-1", "amount": "1200", "currency": "EUR", "po": "PO-77"}


def known(**attributes: Mapping[str, JSON] | None) -> dict[str, KnownEntity]:
    said: dict[str, Mapping[str, JSON] | None] = {
        "invoice": INVOICE,
        "vendor": {"status": "active"},
        "order": {"open": "1200"},
    } | attributes
    ids = {"invoice": "INV-1001", "vendor": "V-1", "order": "PO-77"}
    return {
        name: KnownEntity(name=EntityName(type=name, id=ids[name]), revision=1, attributes=found)
        for name, found in said.items()
    }


def measured(tool: Tool = TOOL, *, amount: JSON = 1200, **attributes: Mapping[str, JSON] | None) -> Any:
    arguments: dict[str, JSON] = {"invoice": "INV-1001", "vendor": "V-1", "amount": amount, "currency": "EUR"}
    derived = derive(builders.action(arguments=arguments), tool)
    return describe_reference(tool, derived, known(**attributes))


def test_names_are_derived_from_normalised_arguments() -> None:
    action = builders.action(arguments={"invoice": " inv 1001", "vendor": 7})
    derived = derive(action, TOOL)
    assert str(derived.resource) == "invoice:INV-1001"
    assert derived.shown_arguments["invoice"] == " inv 1001"
    assert derived.entities == (
        EntityQuery(name="invoice", type="invoice", id="INV-1001", measure=""),
        EntityQuery(name="vendor", type="vendor", id="7"),
        EntityQuery(name="order", type="po", id="INV-1001", of="invoice", via="po", measure=""),
    )


def test_argument_that_is_no_identifier_names_nothing() -> None:
    for odd in (None, True, "", " ", ["INV-1001"], {"id": "INV-1001"}, "a\x07b", "x" * 513):
        derived = derive(builders.action(arguments={"invoice": odd, "vendor": "V-1"}), TOOL)
        assert [query.name for query in derived.entities] == ["vendor"]


def test_amounts_of_record_and_order_are_in_minor_units() -> None:
    assert measured(amount="1320.01") == {
        "record_known": True,
        "record_readable": True,
        "order_named": True,
        "record": {"minor": 120000, "currency": "EUR", "excess_ppm": 100009},
        "order": {"minor": 120000, "currency": "EUR", "excess_ppm": 100009},
        "measures": 2,
    }


@pytest.mark.parametrize(
    "amount", [None, True, "", "abc", "1,200", "1e3", "1200.001", {"minor": 1}, "9" * 30]
)
def test_amount_that_cannot_be_read_is_absent(amount: JSON) -> None:
    assert "order" not in measured(order={"open": amount})
    found = measured(invoice=INVOICE | {"amount": amount})
    assert "record" not in found
    assert found["record_readable"] is False


@pytest.mark.parametrize("amount", [-1, "-1", "-0.001", "-" + "9" * 30, Decimal("-1e300")])
def test_negative_total_cannot_be_read_and_negative_open_amount_is_nothing(amount: JSON) -> None:
    found = measured(invoice=INVOICE | {"amount": amount}, order={"open": amount})
    assert "record" not in found
    assert found["record_readable"] is False
    assert found["order"] == {"minor": 0, "currency": "EUR", "excess_ppm": 2**53 - 1}


def test_record_that_lacks_one_of_its_figures_cannot_be_read() -> None:
    record = replace(TOOL.entities[0], amount_attribute="", total_attribute="amount", open_attribute="open")
    tool = replace(TOOL, entities=(record, *TOOL.entities[1:]))
    assert measured(tool)["record_readable"] is False
    assert measured(tool, invoice=INVOICE | {"open": "1"})["record_readable"] is True
    neither = {name: value for name, value in INVOICE.items() if name != "amount"}
    assert measured(tool, invoice=neither)["record_readable"] is True


@pytest.mark.parametrize("currency", [None, 978, "", "eur", "Euro", ["EUR"]])
def test_currency_that_cannot_be_read_leaves_no_amount(currency: JSON) -> None:
    found = measured(invoice=INVOICE | {"currency": currency})
    # The order is in its record's currency.
    assert not {"record", "order"} & set(found)
    assert found["measures"] == 0
    assert found["record_readable"] is False


def test_order_is_named_by_whatever_stands_there() -> None:
    assert measured(invoice={**INVOICE, "po": 77}, order=None)["order_named"] is True
    assert measured(invoice={**INVOICE, "po": None})["order_named"] is False
    assert measured(invoice=None)["order_named"] is False
    assert measured(invoice=None)["record_known"] is False


def test_order_that_the_call_itself_names_is_named_though_it_be_no_identifier() -> None:
    order = replace(TOOL.entities[2], via=None, id="{order}")
    tool = replace(TOOL, entities=(*TOOL.entities[:2], order))
    for given_, named in ((" ", True), (["PO-77"], True), ("PO-77", True), (None, False)):
        arguments: dict[str, JSON] = {"order": given_, "amount": 1, "currency": "EUR", "invoice": "INV-1001"}
        derived = derive(builders.action(arguments=arguments), tool)
        assert describe_reference(tool, derived, {})["order_named"] is named


@pytest.mark.parametrize(
    ("template", "given_", "named"),
    [
        ("{po}-{line}", {"po": "PO-77", "line": "1"}, True),
        ("{po}-{line}", {"po": "PO-77"}, True),
        ("{po}-{line}", {}, False),
        ("PO-77", {}, True),
    ],
)
def test_order_that_is_named_in_part_is_named(template: str, given_: dict[str, JSON], named: bool) -> None:
    """Otherwise an agent could leave a part out, and be measured against no order."""
    order = replace(builders.payment_tool().entities[2], id=template, via=None)
    tool = replace(TOOL, entities=(*TOOL.entities[:2], order))
    derived = derive(builders.action(arguments={"invoice": "INV-1001", **given_}), tool)
    assert describe_reference(tool, derived, {})["order_named"] is named


def test_record_without_an_amount_leaves_the_order_to_measure_by() -> None:
    record = {name: value for name, value in INVOICE.items() if name != "amount"}
    found = measured(amount=1200, invoice=record, order={"open": "1000"})
    assert found["record_known"] is True
    assert found["record_readable"] is True
    assert "record" not in found
    assert found["order"] == {"minor": 100000, "currency": "EUR", "excess_ppm": 200_000}
    assert "order" not in measured(invoice={**record, "currency": "XXX"})


def test_fixed_currency_of_the_tool_is_the_records() -> None:
    assert TOOL.amount is not None
    record = replace(TOOL.entities[0], currency_attribute="")
    amount = replace(TOOL.amount, currency_argument=None, currency_code="USD")
    tool = replace(TOOL, amount=amount, entities=(record, *TOOL.entities[1:]))
    assert measured(tool)["order"]["currency"] == "USD"


@given(st.integers(1, 10**15), st.integers(1, 10**15), st.integers(0, 10**7))
def test_excess_is_above_a_tolerance_exactly_when_the_amount_is(amount: int, order: int, ppm: int) -> None:
    found = measured(amount=Decimal(amount).scaleb(-2), order={"open": str(Decimal(order).scaleb(-2))})
    assert (found["order"]["excess_ppm"] > ppm) == (amount * 10**6 > order * (10**6 + ppm))


def test_nothing_is_within_any_tolerance_of_nothing_but_nothing() -> None:
    assert TOOL.amount is not None
    tool = replace(TOOL, amount=replace(TOOL.amount, allow_zero=True))
    assert measured(tool, amount=0, order={"open": 0})["order"]["excess_ppm"] == 0
    assert measured(amount="0.01", order={"open": 0})["order"]["excess_ppm"] == 2**53 - 1


def test_counterparty_is_known_by_its_status() -> None:
    assert describe_counterparty(TOOL, known()) == {
        "entity": "vendor",
        "type": "vendor",
        "id": "V-1",
        "known": True,
        "status": "active",
    }
    assert describe_counterparty(TOOL, known(vendor={})) == {
        "entity": "vendor",
        "type": "vendor",
        "id": "V-1",
        "known": True,
    }
    assert describe_counterparty(TOOL, known(vendor=None)) == {
        "entity": "vendor",
        "type": "vendor",
        "id": "V-1",
        "known": False,
    }
    assert describe_counterparty(TOOL, {}) == {"entity": "vendor", "known": False}
    assert describe_counterparty(builders.tool(), {}) is None


def test_match_holds_only_when_both_are_read_and_equal() -> None:
    def matched(found: Mapping[str, KnownEntity]) -> bool:
        result: bool = describe_entities(TOOL, found)["vendor"]["matched"]
        return result

    assert matched(known())
    assert matched(known(vendor=None))
    assert not matched(known(invoice=None))
    assert not matched(known(invoice={}))
    assert not matched(known(invoice={"vendor": "v-1"}))
    assert not matched({})


def test_only_amounts_are_measured() -> None:
    assert is_measured(TOOL)
    assert not is_measured(replace(TOOL, amount=None))
    assert not is_measured(builders.tool())
