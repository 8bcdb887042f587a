"""Derivation: the registry's word counts, and what it cannot derive is a problem."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pdp.action.derivation import derive, make_comparable
from pdp.errors import InvalidFieldError
from pdp.model import Amount, AmountRole, AmountUnit, BusinessKeyRule, Resource
from pdp.money import MAX_MINOR, AmountError, major_to_minor, minor_to_major, read_amount
from tests.support import builders
from tests.support.registrations import check_tool

PAY = {"invoice": "INV-1", "amount": 1200, "currency": "EUR"}


def problems(arguments: dict[str, Any], **tool: Any) -> tuple[str, ...]:
    return derive(builders.action(arguments=arguments), builders.tool(**tool)).problems


def test_everything_is_derived_from_the_arguments() -> None:
    derived = derive(builders.action(arguments=PAY), builders.tool())
    assert derived.resource == Resource(type="invoice", id="INV-1")
    assert derived.amount == Amount(minor=120000, currency="EUR")
    assert derived.problems == ()


def test_unknown_tool_is_a_problem() -> None:
    assert derive(builders.action(), None).problems == ("registry.unknown_tool",)


def test_arguments_outside_the_schema_are_a_problem() -> None:
    schema = '{"type":"object","properties":{"amount":{"maximum":1000}},"additionalProperties":true}'
    assert problems(PAY, arguments_schema=schema) == ("registry.arguments_invalid",)
    assert problems({**PAY, "amount": Decimal("999.99")}, arguments_schema=schema) == ()
    assert problems({**PAY, "amount": Decimal("1000.01")}, arguments_schema=schema) != ()


def test_tool_without_a_schema_takes_no_arguments() -> None:
    tool = builders.tool(arguments_schema="", resource="clock:main", amount=None)
    assert derive(builders.action(arguments={}), tool).problems == ()
    assert derive(builders.action(arguments={"x": 1}), tool).problems == ("registry.arguments_invalid",)


def test_slow_pattern_ends_in_linear_time() -> None:
    schema = '{"properties":{"invoice":{"pattern":"^(a+)+$"}}}'
    assert "registry.arguments_invalid" in problems(
        {**PAY, "invoice": "a" * 50000 + "b"}, arguments_schema=schema
    )


@pytest.mark.parametrize("value", [None, True, [], {}, "", " INV-1", "INV\n1", "INV\u202e1", "x" * 513])
def test_resource_that_cannot_be_named_is_a_problem(value: Any) -> None:
    assert "registry.resource_underivable" in problems({**PAY, "invoice": value}, arguments_schema="{}")


def test_missing_argument_of_the_resource_is_a_problem() -> None:
    assert "registry.resource_underivable" in problems({"amount": 1, "currency": "EUR"})


@pytest.mark.parametrize("path", ["reports/../keys", "reports/..", "..", "reports\\..\\keys", "../reports"])
def test_path_that_leads_out_of_what_it_begins_with_is_no_resource(path: str) -> None:
    assert "registry.resource_underivable" in problems({**PAY, "invoice": path})


@pytest.mark.parametrize("path", ["reports/2026..2027", "./reports", "reports/...", "a..b"])
def test_dots_in_a_name_lead_nowhere(path: str) -> None:
    assert "registry.resource_underivable" not in problems({**PAY, "invoice": path})


@pytest.mark.parametrize(("number", "text"), [(7, "7"), (Decimal("7.0"), "7"), (Decimal("7.50"), "7.5")])
def test_number_in_a_resource_has_one_spelling(number: Any, text: str) -> None:
    derived = derive(
        builders.action(arguments={**PAY, "invoice": number}), builders.tool(arguments_schema="{}")
    )
    assert derived.resource == Resource(type="invoice", id=text)


def test_value_cannot_change_the_resources_type() -> None:
    derived = derive(builders.action(arguments={**PAY, "invoice": "x:{y}"}), builders.tool())
    assert derived.resource == Resource(type="invoice", id="x:{y}")


def test_claimed_resource_that_differs_is_a_problem() -> None:
    action = builders.action(arguments=PAY, claimed_resource="invoice:INV-2")
    assert derive(action, builders.tool()).problems == ("action.resource_mismatch",)
    assert derive(replace(action, claimed_resource="invoice:INV-1"), builders.tool()).problems == ()


@pytest.mark.parametrize(
    ("registered", "asked", "problems"),
    [
        ("erp", "", ()),
        ("erp", "erp", ()),
        ("erp", "ERP", ("action.audience",)),
        ("erp", "crm", ("action.audience",)),
        ("", "", ()),
        # Receipts for this tool are for nobody.
        ("", "erp", ("action.audience",)),
    ],
)
def test_audience_is_the_registrys(registered: str, asked: str, problems: tuple[str, ...]) -> None:
    tool = replace(builders.tool(), audience=registered)
    derived = derive(builders.action(arguments=PAY), tool, audience=asked)
    assert (derived.audience, derived.problems) == (registered, problems)


def test_audience_of_a_tool_that_nobody_registered_is_no_problem_of_its_own() -> None:
    assert derive(builders.action(), None, audience="erp").problems == ("registry.unknown_tool",)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"amount": 1200}, {"amount": "1200.00"}),
        ({"amount": Decimal("1200.10")}, {"amount": "1200.1"}),
        ({"amount": 0}, {"amount": "-0.00"}),
        ({"invoice": 1001}, {"invoice": "1001"}),
        ({"invoice": Decimal("7.50")}, {"invoice": "7.5"}),
        ({"note": None}, {}),
    ],
)
def test_what_is_equal_in_another_form_of_json_is_the_same_business(
    one: dict[str, Any], other: dict[str, Any]
) -> None:
    key = BusinessKeyRule(name="p", arguments=("invoice", "amount", "note"))
    tool = replace(builders.tool(arguments_schema="{}"), business_key=key)
    first, second = (derive(builders.action(arguments=PAY | more), tool) for more in (one, other))
    assert first.business_key is not None
    assert second.business_key is not None
    assert first.business_key.normal == second.business_key.normal
    assert first.comparable == second.comparable


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"amount": 1200}, {"amount": "1200.01"}),
        ({"amount": "x"}, {"amount": 5}),
        ({"invoice": "1001.0"}, {"invoice": 1001}),
        ({"invoice": True}, {"invoice": "true"}),
        ({"note": ""}, {}),
        ({"note": [1]}, {"note": 1}),
    ],
)
def test_what_differs_is_other_business(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert make_comparable(PAY | one, builders.EUROS) != make_comparable(PAY | other, builders.EUROS)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ({"currency": "EUR"}, "amount.missing"),
        ({"amount": "1.2e3", "currency": "EUR"}, "amount.invalid"),
        ({"amount": " 5", "currency": "EUR"}, "amount.invalid"),
        ({"amount": "1,200", "currency": "EUR"}, "amount.invalid"),
        ({"amount": True, "currency": "EUR"}, "amount.invalid"),
        ({"amount": None, "currency": "EUR"}, "amount.invalid"),
        ({"amount": [5], "currency": "EUR"}, "amount.invalid"),
        ({"amount": "--5", "currency": "EUR"}, "amount.invalid"),
        ({"amount": "", "currency": "EUR"}, "amount.invalid"),
        # Somewhere twelve hundred.
        ({"amount": "1.200", "currency": "EUR"}, "amount.precision"),
        ({"amount": "1200.000", "currency": "EUR"}, "amount.precision"),
        ({"amount": "5.0", "currency": "JPY"}, "amount.precision"),
        ({"amount": "0100", "currency": "EUR"}, "amount.invalid"),
        ({"amount": "00.5", "currency": "EUR"}, "amount.invalid"),
        ({"amount": ".5", "currency": "EUR"}, "amount.invalid"),
        ({"amount": "5.", "currency": "EUR"}, "amount.invalid"),
        ({"amount": "+5", "currency": "EUR"}, "amount.invalid"),
        ({"amount": "-5", "currency": "EUR"}, "amount.out_of_range"),
        ({"amount": "٥", "currency": "EUR"}, "amount.invalid"),
        ({"amount": 0, "currency": "EUR"}, "amount.zero"),
        ({"amount": "0.00", "currency": "EUR"}, "amount.zero"),
        ({"amount": "-0", "currency": "EUR"}, "amount.zero"),
        ({"amount": Decimal("0E+3"), "currency": "EUR"}, "amount.zero"),
        ({"amount": 5}, "amount.currency_invalid"),
        ({"amount": 5, "currency": "eur"}, "amount.currency_invalid"),
        ({"amount": 5, "currency": "XAU"}, "amount.currency_invalid"),
        ({"amount": 5, "currency": 978}, "amount.currency_invalid"),
        ({"amount": Decimal("5.001"), "currency": "EUR"}, "amount.precision"),
        ({"amount": Decimal("5.5"), "currency": "JPY"}, "amount.precision"),
        # More digits than a decimal context keeps unless it is told to.
        ({"amount": "100." + "0" * 30 + "1", "currency": "EUR"}, "amount.precision"),
        ({"amount": Decimal("0.00" + "9" * 31), "currency": "EUR"}, "amount.precision"),
        ({"amount": -1, "currency": "EUR"}, "amount.out_of_range"),
        ({"amount": Decimal("-0.001"), "currency": "EUR"}, "amount.out_of_range"),
        ({"amount": 10**16, "currency": "EUR"}, "amount.out_of_range"),
        ({"amount": Decimal("1E+33"), "currency": "EUR"}, "amount.out_of_range"),
        ({"amount": "9" * 40, "currency": "EUR"}, "amount.out_of_range"),
    ],
)
def test_amount_that_cannot_be_trusted_is_a_problem(arguments: dict[str, Any], code: str) -> None:
    with pytest.raises(AmountError) as caught:
        read_amount(builders.EUROS, arguments)
    assert caught.value.code == code


@pytest.mark.parametrize("amount", [1200, Decimal("1200.0"), Decimal("1.2E+3"), "1200.00", "1200"])
def test_spellings_of_one_amount(amount: Any) -> None:
    assert read_amount(builders.EUROS, {"amount": amount, "currency": "EUR"}).minor == 120000


def test_amount_without_a_unit_is_a_problem_whatever_the_arguments() -> None:
    with pytest.raises(AmountError, match=r"amount\.unit_missing"):
        read_amount(replace(builders.EUROS, unit=None), {"amount": 5, "currency": "EUR"})


def test_zero_is_an_amount_where_the_registration_says_so() -> None:
    role = replace(builders.EUROS, allow_zero=True)
    assert read_amount(role, {"amount": "0.00", "currency": "EUR"}).minor == 0


@pytest.mark.parametrize(("cents", "code"), [("120000.0", "invalid"), ("5.00", "invalid"), ("0", "zero")])
def test_text_of_minor_units_has_no_point(cents: str, code: str) -> None:
    role = AmountRole(argument="cents", unit=AmountUnit.MINOR, currency_code="EUR")
    assert read_amount(role, {"cents": "120000"}).minor == 120000
    with pytest.raises(AmountError, match=rf"amount\.{code}"):
        read_amount(role, {"cents": cents})


def test_minor_units_are_taken_as_they_are() -> None:
    role = AmountRole(argument="cents", unit=AmountUnit.MINOR, currency_code="EUR")
    assert read_amount(role, {"cents": 120000}) == Amount(minor=120000, currency="EUR")
    with pytest.raises(AmountError, match=r"amount\.precision"):
        read_amount(role, {"cents": Decimal("0.5")})


@given(st.integers(min_value=0, max_value=MAX_MINOR), st.sampled_from([0, 2, 3, 4]))
def test_minor_units_survive_the_way_through_major_ones(minor: int, digits: int) -> None:
    assert major_to_minor(Decimal(minor_to_major(minor, digits)), digits) == minor


# Numbers that the parser lets pass.
WHOLE = st.integers(min_value=-(10**33), max_value=10**33)
FRACTIONS = st.decimals(min_value=-(10**12), max_value=10**12, places=6)
VALUES = st.text() | WHOLE | FRACTIONS | st.none() | st.booleans()


@given(st.dictionaries(st.sampled_from(["invoice", "amount", "currency"]), VALUES))
def test_derivation_never_raises(arguments: dict[str, Any]) -> None:
    derive(builders.action(arguments=arguments), builders.tool())


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"resource": "invoice"}, "tools[0].resource"),
        ({"resource": "invoice:{}"}, "tools[0].resource"),
        ({"resource": "invoice:{a"}, "tools[0].resource"),
        ({"resource": "{a}:x"}, "tools[0].resource"),
        ({"arguments_schema": '{"type":"nonsense"}'}, "tools[0].arguments_schema.type"),
        ({"arguments_schema": '{"$ref":"http://127.0.0.1:9/schema"}'}, "tools[0].arguments_schema"),
        ({"arguments_schema": '{"pattern":"(?<=a)b"}'}, "tools[0].arguments_schema.pattern"),
        ({"amount": AmountRole(argument="amount", unit=None)}, "tools[0].amount.unit"),
        ({"amount": AmountRole(argument="amount", unit=AmountUnit.MAJOR)}, "tools[0].amount.currency"),
        (
            {"amount": AmountRole(argument="amount", unit=AmountUnit.MAJOR, currency_code="EURO")},
            "tools[0].amount.currency_code",
        ),
    ],
)
def test_registration_that_could_not_be_applied_is_refused(change: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidFieldError) as caught:
        check_tool(builders.tool(**change), "tools[0]")
    assert caught.value.field == field


def test_redeeming_that_nobody_could_do_is_refused() -> None:
    tool = replace(builders.tool(), redeem_required=True)
    with pytest.raises(InvalidFieldError, match="redeemed by nobody") as caught:
        check_tool(tool, "tools[0]")
    assert caught.value.field == "tools[0].audience"
    check_tool(replace(tool, audience="erp"), "tools[0]")
