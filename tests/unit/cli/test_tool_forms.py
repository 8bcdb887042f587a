"""A registration on its way: plain values, message, domain value, stored JSON, and back."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from pdp.action.registration import read_registration, registration
from pdp.errors import InvalidFieldError
from pdp.model import ArgumentRole, BusinessKeyRule, Prerequisite, Tool
from pdp.server.messages import tools as convert_tools
from placet._calls.registry import put_tools
from placet._calls.toolform import tool_form
from placet.errors import AnswerError, InvalidRequestError
from placet.v1 import admin_service_pb2 as admin
from placet.v1 import session_service_pb2 as sessions
from tests.e2e.invoices import TOOLS
from tests.support import builders
from tests.support.registrations import check_tool

WHOLE: dict[str, Any] = {
    "name": "payments.create",
    "effect": "pay",
    "reversible": True,
    "resource": "invoice:{invoice}",
    "description": "Pay an invoice",
    "arguments_schema": {
        "type": "object",
        "properties": {"pin": {"type": "string"}, "iban": {"type": "string"}},
        "required": ["invoice"],
    },
    "amount": {"argument": "amount", "unit": "major", "currency_code": "EUR"},
    "secret_arguments": ["pin"],
    "argument_roles": {"invoice": "selector", "iban": "secret", "note": "content"},
    "normalise": {"invoice": ["trim", "nfkc", "upper", "hyphenate"], "vendor": ["lower", "compact"]},
    "entities": [
        {
            "name": "invoice",
            "type": "invoice",
            "id": "{invoice}",
            "role": "record",
            "amount_attribute": "sum",
        },
        {
            "name": "vendor",
            "type": "vendor",
            "via": {"entity": "invoice", "attribute": "vendor"},
            "role": "counterparty",
            "status_attribute": "state",
            "must_match": {"entity": "invoice", "attribute": "payee"},
        },
        {
            "name": "order",
            "type": "po",
            "via": {"entity": "invoice", "attribute": "po"},
            "role": "order",
            "total_attribute": "total",
            "open_attribute": "open",
            "currency_attribute": "currency",
            "measure": "freight",
            "posted": "linked",
        },
        {"name": "site", "type": "site", "id": "main", "role": "other"},
    ],
    "output": {
        "format": "python_literal",
        "fields": {"id": "record", "*": "trusted"},
        "author_field": "from",
    },
}


def converted(*forms: dict[str, Any]) -> list[Tool]:
    return convert_tools.tools(put_tools(forms).request)


def test_everything_that_can_be_said_comes_back() -> None:
    [tool] = converted(WHOLE)
    stored = read_registration(json.loads(json.dumps(registration(tool))), revision=7)
    assert stored == replace(tool, revision=7)
    form = tool_form(convert_tools.tool_message(stored))
    assert form == WHOLE
    assert converted(form) == [tool]


def test_what_is_not_enforced_yet_comes_back_when_it_is_stored() -> None:
    tool = replace(
        builders.payment_tool(),
        business_key=BusinessKeyRule(name="payment", arguments=("invoice",)),
        prerequisites=(
            Prerequisite(tool="invoices.approve", same=("invoice",), required=True),
            Prerequisite(tool="invoices.check", same=(), consumed=True),
        ),
        redeem_required=True,
        glob=True,
        audience="erp",
    )
    assert tool.amount is not None
    tool = replace(tool, amount=replace(tool.amount, allow_zero=True))
    assert read_registration(json.loads(json.dumps(registration(tool))), revision=tool.revision) == tool
    form = tool_form(convert_tools.tool_message(tool))
    assert form["business_key"] == {"name": "payment", "arguments": ["invoice"]}
    assert form["prerequisites"] == [
        {"tool": "invoices.approve", "same": ["invoice"], "required": True},
        {"tool": "invoices.check", "same": [], "required": False, "consumed": True},
    ]
    assert form["redeem"] == "required"
    assert form["glob"] is True
    assert form["audience"] == "erp"
    assert form["amount"]["allow_zero"] is True
    [again] = converted(form)
    assert (again.glob, again.audience, again.amount) == (tool.glob, tool.audience, tool.amount)
    assert again.prerequisites == tool.prerequisites


def test_secret_role_makes_an_argument_secret() -> None:
    [tool] = converted(WHOLE)
    assert tool.secret_arguments == ("pin", "iban")
    assert tool.argument_roles["iban"] is ArgumentRole.SECRET


def test_tool_that_says_nothing_is_irreversible() -> None:
    [tool] = converted({"name": "t", "effect": "read", "resource": "x:y"})
    assert (tool.reversible, tool.redeem_required, tool.entities, tool.output) == (False, False, (), None)


def changed(index: int, **parts: Any) -> dict[str, Any]:
    refs = [dict(ref) for ref in TOOLS[0]["entities"]]
    refs[index] |= parts
    refs[index] = {name: value for name, value in refs[index].items() if value is not None}
    return {"entities": refs}


INVOICE, VENDOR, ORDER = range(3)


@pytest.mark.parametrize(
    ("part", "field"),
    [
        (changed(INVOICE, name="Invoice"), "entities[0].name"),
        (changed(VENDOR, name="invoice", must_match=None), "entities[1].name"),
        (changed(INVOICE, type="In voice"), "entities[0].type"),
        (changed(INVOICE, id="{invoice"), "entities[0].id"),
        (changed(INVOICE, id="{}"), "entities[0].id"),
        (changed(VENDOR, role="record"), "entities[1].role"),
        (changed(VENDOR, amount_attribute="sum"), "entities[1].role"),
        (changed(INVOICE, amount_attribute=None), "entities[0].amount_attribute"),
        (changed(INVOICE, currency_attribute=None), "entities[0].currency_attribute"),
        (changed(INVOICE, total_attribute="sum"), "entities[0].amount_attribute"),
        (changed(ORDER, open_attribute="left"), "entities[2].amount_attribute"),
        (changed(VENDOR, total_attribute="sum"), "entities[1].role"),
        (changed(VENDOR, measure="sum"), "entities[1].role"),
        (changed(VENDOR, posted="linked"), "entities[1].role"),
        (changed(INVOICE, posted="linked"), "entities[0].posted"),
        (changed(ORDER, measure="Freight and goods"), "entities[2].measure"),
        (changed(ORDER, via={"entity": "nothing", "attribute": "po"}), "entities[2].via.entity"),
        (changed(ORDER, via={"entity": "order", "attribute": "po"}), "entities[2].via.entity"),
        (changed(VENDOR, must_match={"entity": "vendor", "attribute": "x"}), "entities[1].must_match.entity"),
        (changed(VENDOR, must_match={"entity": "nobody", "attribute": "x"}), "entities[1].must_match.entity"),
        ({"entities": [{"name": f"e{n}", "type": "t", "id": "x"} for n in range(9)]}, "entities"),
        ({"normalise": {"amount": ["trim"]}}, "normalise[0].argument"),
        ({"normalise": {"invoice": []}}, "normalise[0].steps"),
        ({"normalise": {"invoice": ["trim"] * 9}}, "normalise[0].steps"),
    ],
)
def test_registration_that_cannot_be_applied_is_refused_by_field(part: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidFieldError) as caught:
        check_tool(*converted(TOOLS[0] | part), "tools[0]")
    assert f"tools[0].{field}" in [name for name, _ in caught.value.violations]


@pytest.mark.parametrize(
    ("part", "field"),
    [
        ({"revertible": True}, "tools[0]"),
        ({"reversible": "yes"}, "tools[0].reversible"),
        ({"argument_roles": {"invoice": "id"}}, "tools[0].argument_roles.invoice"),
        ({"argument_roles": ["invoice"]}, "tools[0].argument_roles"),
        ({"normalise": {"invoice": ["shout"]}}, "tools[0].normalise.invoice[0]"),
        ({"normalise": {"invoice": "trim"}}, "tools[0].normalise.invoice"),
        ({"entities": [{"name": "a", "type": "t"}]}, "tools[0].entities[0]"),
        ({"entities": [{"name": "a", "type": "t", "id": "x", "role": "boss"}]}, "tools[0].entities[0].role"),
        ({"entities": [{"name": "a", "type": "t", "id": "x", "attr": 1}]}, "tools[0].entities[0]"),
        ({"entities": [{"name": 7, "type": "t", "id": "x"}]}, "tools[0].entities[0].name"),
        ({"business_key": {"name": "n"}}, "tools[0].business_key.arguments"),
        ({"prerequisites": [{"tool": "t", "required": 1}]}, "tools[0].prerequisites[0].required"),
        ({"prerequisites": [{"tool": "t", "consumed": "yes"}]}, "tools[0].prerequisites[0].consumed"),
        ({"output": {"format": "xml"}}, "tools[0].output.format"),
        ({"output": {"fields": {"id": "sure"}}}, "tools[0].output.fields.id"),
        ({"redeem": "maybe"}, "tools[0].redeem"),
        ({"glob": 1}, "tools[0].glob"),
        ({"amount": {"argument": "a", "unit": "major", "allow_zero": 0}}, "tools[0].amount.allow_zero"),
    ],
)
def test_odd_form_is_refused_before_it_is_sent(part: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        put_tools([TOOLS[0] | part])
    assert caught.value.violations[0].field == field


def test_numbers_of_enums_that_nobody_knows_are_refused() -> None:
    for part in ("reversibility", "redeem"):
        message = put_tools([TOOLS[0]]).request
        setattr(message.tools[0], part, 99)
        with pytest.raises(InvalidFieldError):
            convert_tools.tools(message)
    message = put_tools([TOOLS[0]]).request
    message.tools[0].argument_roles["invoice"] = admin.ARGUMENT_ROLE_UNSPECIFIED
    with pytest.raises(InvalidFieldError):
        convert_tools.tools(message)


@pytest.mark.parametrize(
    "part",
    [
        {"effect": 99},
        {"argument_roles": {"invoice": 99}},
        {"amount": admin.Amount(argument="a", unit=99)},  # type: ignore[arg-type]
    ],
)
def test_an_answer_with_a_number_that_nobody_knows_is_refused(part: dict[str, Any]) -> None:
    with pytest.raises(AnswerError, match="99 is none that this client knows"):
        tool_form(admin.Tool(name="t", **({"effect": sessions.TOOL_EFFECT_READ} | part)))
