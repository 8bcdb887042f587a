"""Whether a receipt permits the very action that is about to run. Offline, and pure.

What is checked, in order:

1. The receipt is genuine: signature and disclosures (`placet.verify`), and of a version known here.
2. It records a decision, an allow, of the tenant, for this audience.
3. Its time has begun and has not passed, by the tool server's own clock.
4. It was given in the session that the tool server asks for, if it asks for one.
5. Tool and arguments are those that were judged: their digest is computed anew, with the salt that
   the receipt discloses. Arguments that the receipt names as secret are left out of it; they are compared
   by a salt that comes beside the receipt, and without that salt the receipt has to be redeemed.
6. Every obligation is fulfilled by redeeming (`redeem`, `after`), or by the tool server.

A receipt does not say whether it was used before: `placet.capability.gate` keeps count of that.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from placet._calls.jsontext import object_text
from placet.canonical import CanonicalError, parse_object, parse_value
from placet.errors import InvalidRequestError
from placet.model import Decision
from placet.receipt import (
    SECRETS_VERSION,
    VERSIONS,
    ParsedReceipt,
    ReceiptError,
    b64url_decode,
    b64url_encode,
    check_action,
    disclosure_digest,
    secret_paths,
    split,
)
from placet.secret_paths import SALT_BYTES

if TYPE_CHECKING:
    from placet._calls.receipts import Verifier

HEADER = "Placet-Receipt"
# Holds the salt of the secrets' digest, base64url, beside a receipt that names secrets. With the salt and the
# receipt, secrets of few possible values can be guessed, so it is to be kept out of logs.
SALT_HEADER = "Placet-Secret-Salt"
# Obligations that redeeming fulfils: the PDP knows whether the receipt was used, and whether the action's
# turn in its plan has come.
REDEEMED = frozenset({"redeem", "after"})
# How far the PDP's clock may be ahead of the tool server's, in seconds.
MAX_SKEW = 5
REASONS: Mapping[str, str] = {
    "capability.missing": "There is no receipt, or more than one.",
    "capability.not_genuine": "The receipt cannot be read or is not proven.",
    "capability.not_allowed": "The receipt is no allow.",
    "capability.other_tenant": "The receipt is another tenant's.",
    "capability.other_audience": "The receipt is for another audience.",
    "capability.not_yet": "The receipt's time has not begun.",
    "capability.expired": "The receipt's time has passed.",
    "capability.other_session": "The receipt is of another session.",
    "capability.not_disclosed": "The receipt does not disclose what the action is compared with.",
    "capability.arguments": "The arguments are not a JSON object that could have been judged.",
    "capability.other_action": "The receipt is for another tool or other arguments.",
    "capability.obligation": "The receipt has an obligation that is not fulfilled here.",
    "capability.used": "The receipt was used before.",
    "capability.not_redeemed": "The policy decision point does not let the receipt be used.",
    "capability.unavailable": "Whether the receipt was used before cannot be found out now.",
    "capability.request": "The request has a part that the receipt does not cover.",
    "capability.too_large": "The request is too large.",
}


class CapabilityError(Exception):
    """The action must not run. `reason` is one of `REASONS`; `detail` is for the log."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail or REASONS[reason]}")
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True, kw_only=True, slots=True)
class Capability:
    """The action that a receipt permits, as far as `check` can tell."""

    decision_id: str
    tenant: str
    session_id: str
    tool_call_id: str
    # The subject that asked, and the agent that it asked for.
    caller: str
    agent: str
    tool: str
    # What the action touches, as "type:id"; derived by the PDP from the arguments.
    resource: str
    expires_at: datetime
    # Whether it has to be redeemed before the tool acts.
    must_redeem: bool
    # Whether all arguments were compared; False: secret ones were not, for want of their salt.
    secrets_compared: bool = True


def check(
    receipt: str | bytes,
    *,
    tool: str,
    arguments: Mapping[str, Any] | bytes,
    audience: str,
    tenant: str,
    verifier: Verifier,
    now: float,
    session: str = "",
    fulfils: Iterable[str] = (),
    secret_salt: bytes = b"",
) -> Capability:
    """Return what the receipt permits, if it permits this action. Raises `CapabilityError`.

    `receipt` is what `presented_headers` puts into its header, or the decision's. `arguments` is the JSON
    text that the tool will act on, or a mapping without binary floats in it; `now` is in Unix seconds.
    The keys are the verifier's, never the receipt's. `secret_salt` is the decision's (`read_salt`).
    Without it nothing is said of the arguments that the receipt names as secret, and the capability has
    to be redeemed.
    """
    proven = _verify(receipt, verifier)  # 1
    for name, expected, reason in (  # 2
        ("kind", "decision", "not_allowed"),
        ("effect", "allow", "not_allowed"),
        ("use", "once", "not_allowed"),
        ("tenant", tenant, "other_tenant"),
        ("aud", audience, "other_audience"),
    ):
        if not expected or proven.claims.get(name) != expected:
            raise CapabilityError(f"capability.{reason}", f"{name} is {proven.claims.get(name)!r}")
    begins, ends = (_read_seconds(proven, name) for name in ("iat", "exp"))  # 3
    # So written, a time that is no number lets nothing in.
    if not now >= begins - MAX_SKEW:
        raise CapabilityError("capability.not_yet")
    if not now < ends:
        raise CapabilityError("capability.expired")
    if session and proven.claims.get("session") != session:  # 4
        raise CapabilityError("capability.other_session")
    compared = _compare_action(proven, tool, arguments, secret_salt)  # 5
    obligations = _read_obligations(proven)  # 6
    unknown = obligations - REDEEMED - frozenset(fulfils)
    if unknown:
        raise CapabilityError("capability.obligation", ", ".join(sorted(unknown)))
    return Capability(
        decision_id=_read_text(proven, "jti"),
        tenant=tenant,
        session_id=_read_text(proven, "session"),
        tool_call_id=_read_text(proven, "tool_call_id"),
        caller=_read_text(proven, "caller"),
        agent=_read_text(proven, "sub"),
        tool=tool,
        resource=proven.claims["act"]["resource"],
        expires_at=_instant(ends),
        must_redeem=not compared or not obligations.isdisjoint(REDEEMED),
        secrets_compared=compared,
    )


def presented(receipt: str | bytes) -> str:
    """Return the receipt as the header `Placet-Receipt` carries it.

    The only disclosure left in it is the salt of the action's digest, so that a tool server learns
    nothing but what it is asked to do. Raises `ReceiptError`.
    """
    parts = split(_receipt_bytes(receipt))
    parts.disclose()
    hidden = set(parts.payload.get("_sd", ()))
    kept = [
        text
        for text in parts.disclosures
        if disclosure_digest(text) in hidden and _disclosed_name(text) == "ad_salt"
    ]
    return "~".join([parts.signed.decode("ascii"), *kept, ""])


def presented_headers(decision: Decision) -> dict[str, str]:
    """Return the headers that hand a decision to a tool server: its receipt, and the salt of its secrets.

    Raises `ReceiptError`.
    """
    headers = {HEADER: presented(decision.receipt)}
    if decision.secret_salt:
        headers[SALT_HEADER] = b64url_encode(decision.secret_salt)
    return headers


def read_salt(header: str | bytes) -> bytes:
    """Return the salt that the header `Placet-Secret-Salt` holds, as text or as bytes.

    Raises `CapabilityError` for anything else.
    """
    if not isinstance(header, str | bytes):
        raise CapabilityError(
            "capability.request", f"{SALT_HEADER} is neither text nor bytes, but {type(header).__name__}"
        )
    try:
        salt = b64url_decode(header if isinstance(header, str) else header.decode("ascii"))
    except ValueError as exc:
        raise CapabilityError("capability.request", f"{SALT_HEADER} is no base64url") from exc
    if len(salt) != SALT_BYTES:
        raise CapabilityError("capability.request", f"{SALT_HEADER} has not {SALT_BYTES} bytes")
    return salt


def _receipt_bytes(receipt: str | bytes) -> bytes:
    """Return the receipt as it is split. Raises `ReceiptError` for what is neither text nor bytes."""
    if isinstance(receipt, bytes):
        return receipt
    if not isinstance(receipt, str):
        raise ReceiptError("header", f"is neither text nor bytes, but {type(receipt).__name__}")
    return receipt.encode("utf-8", "surrogatepass")


def _verify(receipt: str | bytes, verifier: Verifier) -> ParsedReceipt:
    try:
        found = verifier.verify(_receipt_bytes(receipt))
    except ReceiptError as exc:
        raise CapabilityError("capability.not_genuine", str(exc)) from exc
    version = found.claims.get("ver")
    if not isinstance(version, int) or isinstance(version, bool) or version not in VERSIONS:
        raise CapabilityError("capability.not_genuine", "it is of a version that is not known here")
    try:
        names_secrets = bool(secret_paths(found))
    except ReceiptError as exc:
        raise CapabilityError("capability.not_genuine", str(exc)) from exc
    if names_secrets != (version == SECRETS_VERSION):
        raise CapabilityError("capability.not_genuine", "receipts of its version do not name secrets so")
    return found


def _compare_action(
    receipt: ParsedReceipt, tool: str, arguments: Mapping[str, Any] | bytes, secret_salt: bytes
) -> bool:
    """Return whether all arguments were compared; False if secrets were not. Raises `CapabilityError`."""
    if secret_salt is not None and not isinstance(secret_salt, bytes):
        raise CapabilityError(
            "capability.request", f"secret_salt is {type(secret_salt).__name__}, not what read_salt returns"
        )
    try:
        parsed = parse_object(object_text(arguments, "arguments"), field="arguments")
    except (CanonicalError, InvalidRequestError) as exc:
        raise CapabilityError("capability.arguments", str(exc)) from exc
    if "ad_salt" not in receipt.claims:
        raise CapabilityError("capability.not_disclosed", "ad_salt")
    try:
        check_action(receipt, tool=tool, arguments=parsed, secret_salt=secret_salt or None)
    except ReceiptError as exc:
        raise CapabilityError("capability.other_action", str(exc)) from exc
    return bool(secret_salt) or not secret_paths(receipt)


def _read_obligations(receipt: ParsedReceipt) -> set[str]:
    items = receipt.claims.get("obligations")
    if not isinstance(items, list) or not all(
        isinstance(item, Mapping) and isinstance(item.get("id"), str) for item in items
    ):
        raise CapabilityError("capability.not_genuine", "obligations cannot be read")
    return {item["id"] for item in items}


def _read_seconds(receipt: ParsedReceipt, name: str) -> int:
    value = receipt.claims.get(name)
    if isinstance(value, bool) or not isinstance(value, int):
        raise CapabilityError("capability.not_genuine", f"{name} is no whole number of seconds")
    return value


def _instant(seconds: int) -> datetime:
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError) as exc:
        raise CapabilityError("capability.not_genuine", "exp is no time that there will be") from exc


def _read_text(receipt: ParsedReceipt, name: str) -> str:
    value = receipt.claims.get(name, "")
    if not isinstance(value, str):
        raise CapabilityError("capability.not_genuine", f"{name} is no text")
    return value


def _disclosed_name(disclosure: str) -> str:
    value = parse_value(b64url_decode(disclosure), field="disclosure")
    return value[1] if isinstance(value, list) and len(value) == 3 else ""
