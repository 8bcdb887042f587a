"""Tools, entities and a boundary of an accounts-payable tenant whose payments are measured."""

from __future__ import annotations

from typing import Any

from tests.e2e.scene import new_call

APPROVE, PAY = "invoices.approve", "payments.create"
BOUNDARY = {"tools": [APPROVE, PAY], "resources": ["invoice:*"], "amounts": {"EUR": "20000.00"}}
_ARGUMENTS = {
    "type": "object",
    "properties": {
        "invoice": {"type": "string"},
        "vendor": {"type": "string"},
        "amount": {"type": ["number", "string"]},
        "currency": {"type": "string"},
    },
    "required": ["invoice", "vendor", "amount", "currency"],
    "additionalProperties": False,
}
_PARTS: dict[str, Any] = {
    "resource": "invoice:{invoice}",
    "arguments_schema": _ARGUMENTS,
    "amount": {"argument": "amount", "unit": "major", "currency_argument": "currency"},
    "argument_roles": {"invoice": "selector", "vendor": "destination"},
    "normalise": {"invoice": ["trim", "upper", "hyphenate"]},
    "entities": [
        {
            "name": "invoice",
            "type": "invoice",
            "id": "{invoice}",
            "role": "record",
            "amount_attribute": "amount",
            "currency_attribute": "currency",
        },
        {
            "name": "vendor",
            "type": "vendor",
            "id": "{vendor}",
            "role": "counterparty",
            "must_match": {"entity": "invoice", "attribute": "vendor"},
        },
        {
            "name": "order",
            "type": "po",
            "via": {"entity": "invoice", "attribute": "po"},
            "role": "order",
            "amount_attribute": "open",
        },
    ],
}
TOOLS: list[dict[str, Any]] = [
    {"name": APPROVE, "effect": "write", "reversible": True} | _PARTS,
    {"name": PAY, "effect": "pay"} | _PARTS,
]


def entity(named: str, /, **attributes: Any) -> dict[str, Any]:
    kind, _, entity_id = named.partition(":")
    return {"type": kind, "id": entity_id, "attributes": attributes}


ENTITIES = [
    entity("vendor:V-1", name="Nordwind GmbH", status="active"),
    entity("vendor:V-3", name="Fjord Ltd", status="active"),
    entity("vendor:V-4", name="Fjord Limited Partners", status="active"),
    entity("po:PO-77", vendor="V-1", open="1200"),
    entity("po:PO-79", vendor="V-1", open="12000"),
    entity("invoice:INV-1001", vendor="V-1", amount="1200", currency="EUR", po="PO-77"),
    entity("invoice:INV-1003", vendor="V-3", amount="300", currency="EUR"),
    entity("invoice:INV-1005", vendor="V-4", amount="300", currency="EUR"),
    entity("invoice:INV-1007", vendor="V-1", amount="12000", currency="EUR", po="PO-79"),
    entity("invoice:INV-1008", vendor="V-1", amount="100", currency="EUR", po="PO-99"),
]


def act(tool: str, invoice: str, vendor: str, amount: Any) -> dict[str, Any]:
    return {
        "tool": tool,
        "tool_call_id": new_call(),
        "arguments": {"invoice": invoice, "vendor": vendor, "amount": amount, "currency": "EUR"},
    }
