"""Checks of a decision's receipt. Each returns why it fails, or "" if it holds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from placet._calls.receipts import Verifier
from placet.errors import PlacetError
from placet.model import Decision, ReceiptStatus
from placet.receipt import ReceiptError, b64url_decode, b64url_encode, parse


def check_verified(decision: Decision) -> str:
    """Check that the client verified it; a receipt that is wrong would not have come back as a decision."""
    return "" if decision.receipt_status is ReceiptStatus.VERIFIED else f"it is {decision.receipt_status}"


def check_tamper_evident(decision: Decision, verifier: Verifier) -> str:
    try:
        verifier.verify(change_one_byte(decision.receipt, decision.decision_id))
    except ReceiptError:
        return ""
    return "it was accepted with one byte changed"


def check_same(decision: Decision, other: bytes, whose: str) -> str:
    return "" if decision.receipt == other else f"it is not the receipt of {whose}"


def read_claims(receipt: bytes) -> Mapping[str, Any]:
    """Return the receipt's claims. Raises `PlacetError`."""
    try:
        return parse(receipt).claims
    except ReceiptError as exc:
        raise PlacetError(f"the receipt cannot be read: {exc}") from exc


def audience_of(decision: Decision) -> str:
    """Return whom the decision's receipt is for; empty where it is for nobody, or cannot be read."""
    try:
        return str(parse(decision.receipt).claims.get("aud", ""))
    except ReceiptError:
        return ""


def change_one_byte(token: bytes, decision_id: str) -> bytes:
    """Return the receipt with the last letter of the decision's id changed in its payload."""
    header, payload, rest = token.split(b".", 2)
    wrong = decision_id[:-1] + ("0" if decision_id[-1] != "0" else "1")
    changed = b64url_decode(payload.decode()).replace(decision_id.encode(), wrong.encode())
    return b".".join([header, b64url_encode(changed).encode(), rest])
