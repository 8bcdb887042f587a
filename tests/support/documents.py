"""Input documents as the pipeline builds them, for tests of policy and engine."""

from __future__ import annotations

import json
from typing import Any

NOW = 1_795_514_400


def payment_document(*, amount_minor: int = 120_000, tool_call_id: str = "c1", **top: Any) -> dict[str, Any]:
    """Return the document of a payment that every rule permits; `top` replaces top-level members."""
    paid = {"used": 0, "add": amount_minor, "currency": "EUR", "total": amount_minor, "excess_ppm": 0}
    document: dict[str, Any] = {
        "tenant": "acme",
        "now": "2026-11-24T10:00:00Z",
        "now_unix": NOW,
        "caller": {"subject": "svc-ap", "roles": ["agent"], "agents": ["agent:payer"], "claims": {}},
        "session": {
            "id": "0193a1b2-0000-7000-8000-000000000001",
            "state": "open",
            "principal": "user:anna",
            "agent": "agent:payer",
            "issuer": "svc-issuer",
            "version": 4,
            "opened_at": "2026-11-24T09:00:00Z",
            "expires_at": "2026-11-24T11:00:00Z",
            "task": {"id": "T-100"},
            "history": {
                "decisions": {"allow": 3, "block": 0, "escalate": 1},
                "pay": [{"start": NOW - 60, "width": 2, "count": 1}],
                "pay_since": NOW - 3660,
                "pay_room": 255,
                "pay_count": 1,
            },
        },
        "boundaries": [
            {
                "of": "session",
                "tools": ["payments.create", "invoices.approve"],
                "effects": ["read"],
                "resources": [{"type": "invoice", "id": "INV-1001"}, {"type": "vendor", "any": True}],
                "amounts": {"EUR": {"per_action_minor": 500_000}},
                "after_completion": [],
            }
        ],
        "chain": [
            {
                "agent": "agent:payer",
                "depth": 0,
                "verified": True,
                "same_runtime": False,
                "own_runtime": True,
                "boundary": 0,
                "delegated_by": "svc-issuer",
            }
        ],
        "chain_problems": [],
        "agents": {"agent:payer": {"owner": "ap", "trust": 0.82}},
        "action": {
            "tool": {
                "name": "payments.create",
                "known": True,
                "effect": "pay",
                "reversible": False,
                "roles": {"record": True, "counterparty": True, "order": True, "other": False},
                "amount": True,
                "measured": True,
                "must_match": ["vendor"],
                "business_key": False,
                "prerequisites": 0,
            },
            "resource": {"type": "invoice", "id": "INV-1001"},
            "arguments": {"invoice": "INV-1001", "amount": "1200.00", "currency": "EUR", "iban": "[secret]"},
            "amount": {"minor": amount_minor, "currency": "EUR"},
            "problems": [],
            "tool_call_id": tool_call_id,
            "normalised": {"invoice": "INV-1001"},
            "counterparty": {
                "entity": "vendor",
                "type": "vendor",
                "id": "V-1",
                "known": True,
                "status": "active",
            },
            "reference": {
                "measures": 2,
                "record_known": True,
                "record_readable": True,
                "record": {"minor": amount_minor, "currency": "EUR", "excess_ppm": 0, "paid": paid},
                "order_named": True,
                "order": {
                    "minor": amount_minor,
                    "currency": "EUR",
                    "excess_ppm": 0,
                    "paid": paid | {"open": amount_minor},
                },
            },
        },
        "entities": {
            "invoice": {"type": "invoice", "id": "INV-1001", "known": True, "attributes": {"vendor": "V-1"}},
            "vendor": {
                "type": "vendor",
                "id": "V-1",
                "known": True,
                "attributes": {"status": "active"},
                "matched": True,
            },
            "order": {"type": "po", "id": "PO-77", "known": True, "attributes": {"open": "1200"}},
        },
        "claimed": {"resource": "invoice:INV-1001", "provenance": {}, "intent": "pay the invoice"},
        "limits": [],
        "settings": {},
        "signals": {},
        "counts": {
            "boundaries": 1,
            "chain": 1,
            "chain_problems": 0,
            "entities": 3,
            "holds": 0,
            "limits": 0,
            "must_match": 1,
            "problems": 0,
        },
    }
    return document | top


def encode(document: object) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode("utf-8")
