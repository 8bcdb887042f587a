"""A decision and its receipt: whether they say the same, and whether the PDP signed it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from placet.errors import AnswerError, ReceiptMismatchError
from placet.model import Decision, ReceiptStatus
from placet.receipt import ParsedReceipt, ReceiptError, parse

# An allow's lifetime that is longer than this is somebody's mistake.
_MAX_LIFETIME = 24 * 3600


class Verifier(Protocol):
    """Checks a receipt's signature: `placet.verify.Verifier`, or one of your own."""

    def verify(self, token: bytes) -> ParsedReceipt:
        """Return the receipt once its signature is proven. Raises `ReceiptError`."""
        ...


def read_receipt(decision: Decision, verifier: Verifier | None) -> tuple[ParsedReceipt, ReceiptStatus]:
    """Return the receipt, verified if there is a verifier. Raises `ReceiptMismatchError`."""
    if not decision.receipt:
        raise ReceiptMismatchError("the answer has no receipt")
    try:
        if verifier is not None:
            return verifier.verify(decision.receipt), ReceiptStatus.VERIFIED
        return parse(decision.receipt), ReceiptStatus.UNVERIFIED
    except ReceiptError as exc:
        raise ReceiptMismatchError(f"the receipt cannot be relied on: {exc}") from exc


def check_receipt(receipt: ParsedReceipt, decision: Decision, *, tenant: str = "") -> int:
    """Compare message and receipt, except for the action; return the lifetime in seconds.

    Raises `ReceiptMismatchError`, which names the field.
    """
    claims = receipt.claims
    expected: dict[str, Any] = {
        "kind": "decision",
        "effect": str(decision.effect),
        "jti": decision.decision_id,
        "session": decision.session_id,
        "tool_call_id": decision.tool_call_id,
        "attempt": decision.attempt_id,
        "iat": whole_seconds(decision.decided_at),
        "exp": whole_seconds(decision.expires_at),
        "obligations": [obligation.id for obligation in decision.obligations],
        "after": list(decision.after),
        "reasons": [reason.code for reason in decision.reasons],
        "chain": [(hop.agent, hop.grant_hash, hop.unverified) for hop in decision.chain],
    }
    if tenant:
        expected["tenant"] = tenant
    for name, value in expected.items():
        found = claims.get(name)
        if name == "obligations":
            found = _members(found, "id")
        elif name == "after":
            found = _after(claims.get("obligations"))
        elif name == "reasons":
            found = _members(found, "code")
        elif name == "chain":
            found = _hops(found)
        if found != value or type(found) is not type(value):
            raise ReceiptMismatchError(f"{name}: the receipt says {found!r}, the answer {value!r}")
    lifetime: int = expected["exp"] - expected["iat"]
    if not 0 <= lifetime <= _MAX_LIFETIME:
        raise ReceiptMismatchError(f"exp: the receipt is good for {lifetime} seconds")
    return lifetime


def whole_seconds(instant: Any) -> int:
    """Return the Unix seconds of a decision's instant. Raises `AnswerError` if they are not whole."""
    if instant.microsecond:
        raise AnswerError("an instant of the answer is not in whole seconds, as its receipt must be")
    return int(instant.timestamp())


def _after(obligations: Any) -> Any:
    """Return the decisions that the obligations `after` name; None for what is malformed."""
    if _members(obligations, "id") is None:
        return None
    properties = [item.get("properties") for item in obligations if item["id"] == "after"]
    return _members(properties, "decision_id")


def _hops(items: Any) -> Any:
    """Return what names each hop of a receipt's chain; None for anything else than a chain."""
    if not isinstance(items, list) or not all(isinstance(item, Mapping) for item in items):
        return None
    return [(item.get("agent", ""), item.get("grant", ""), item.get("unverified", "")) for item in items]


def _members(items: Any, name: str) -> Any:
    """Return the named member of each item of a list; None for anything else."""
    if not isinstance(items, list) or not all(isinstance(item, Mapping) for item in items):
        return None
    return [item.get(name) for item in items]
