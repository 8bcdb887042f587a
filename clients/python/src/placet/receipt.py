"""The receipt's format: `JWS~disclosure~…~`.

A receipt is a JWS in compact form (RFC 7515 §3.1) with `typ: placet-receipt+sd-jwt`,
followed by SD-JWT disclosures (RFC 9901 §4.2) of its erasable fields. The part before the
first `~` is what is signed. Everything here needs the standard library alone; signatures
are checked by `placet.verify`.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from placet.canonical import CanonicalError, action_digest, parse_object, parse_value
from placet.secret_paths import hide, secrets_digest

TYP = "placet-receipt+sd-jwt"
# A receipt whose action has no secrets. Receipts of earlier servers are all of this version: their action
# digest covers secrets as well.
VERSION = 1
# A receipt that names secrets: they are left out of its action digest, and have a digest of their own.
SECRETS_VERSION = 2
VERSIONS = frozenset({VERSION, SECRETS_VERSION})
ALGORITHMS = frozenset({"ES256", "EdDSA", "Ed25519"})
# A receipt holds the arguments (64 KiB at most) in base64, and what policy said.
MAX_BYTES = 256 * 1024
_MAX_DISCLOSURES = 64
# Made once, since json.dumps would make a new one for each call.
_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))
_URL_SAFE = bytes.maketrans(b"+/", b"-_")


class ReceiptError(ValueError):
    """A receipt is not what it should be.

    `part` says where: "header", "payload", "signature", "disclosure n" (the first is 1),
    or the name of the field that differs from a decision.
    """

    def __init__(self, part: str, reason: str) -> None:
        super().__init__(f"{part}: {reason}")
        self.part = part
        self.reason = reason


@dataclass(frozen=True, kw_only=True, slots=True)
class ParsedReceipt:
    """A receipt taken apart. Parsing proves nothing: see `placet.verify`."""

    header: Mapping[str, Any]
    # What is signed; disclosed fields stand in it as digests.
    payload: Mapping[str, Any]
    # The payload with every disclosed field in its place.
    claims: Mapping[str, Any]
    # The bytes before the first `~`.
    signed: bytes
    signing_input: bytes
    signature: bytes
    disclosures: tuple[str, ...]

    @property
    def hash(self) -> bytes:
        """SHA-256 of the signed part: how the next receipt names this one."""
        return hashlib.sha256(self.signed).digest()


def b64url_encode(data: bytes) -> str:
    """Return the data in base64url without padding (RFC 7515 §2)."""
    return binascii.b2a_base64(data, newline=False).translate(_URL_SAFE, b"=").decode("ascii")


def b64url_decode(text: str) -> bytes:
    """Return the data that `b64url_encode` writes so. Raises ValueError for any other spelling.

    Lenient decoders accept 16 spellings of a 64-byte signature, so one receipt would have
    16 hashes and flipped bits would pass.
    """
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as exc:
        raise ValueError("is not base64url") from exc
    if b64url_encode(data) != text:
        raise ValueError("is not the one base64url spelling of its bytes")
    return data


def encode_header(*, alg: str, kid: str) -> str:
    """Return the protected header in base64url, in the only spelling that a receipt may have."""
    return b64url_encode(_dumps({"alg": alg, "kid": kid, "typ": TYP}))


def encode_disclosure(salt: bytes, name: str, value: Any) -> str:
    """Return the disclosure of one object property (RFC 9901 §4.2.1).

    `value` is JSON text as bytes, which is put in as it is, or a value of strings, integers, lists
    and objects.
    """
    body = value if isinstance(value, bytes) else _dumps(value)
    return b64url_encode(
        b'["' + b64url_encode(salt).encode("ascii") + b'",' + _dumps(name) + b"," + body + b"]"
    )


def disclosure_digest(disclosure: str) -> str:
    """Return the digest that stands in `_sd` for a disclosure (RFC 9901 §4.2.3)."""
    return b64url_encode(hashlib.sha256(disclosure.encode("ascii")).digest())


def assemble(signing_input: bytes, signature: bytes, disclosures: Iterable[str]) -> bytes:
    """Return the full receipt from the parts that are signed, their signature and the disclosures."""
    return attach(signing_input + b"." + b64url_encode(signature).encode("ascii"), disclosures)


def attach(signed: bytes, disclosures: Iterable[str]) -> bytes:
    """Return the full receipt from its signed part, a compact JWS, and its disclosures."""
    return signed + b"~" + b"".join(d.encode("ascii") + b"~" for d in disclosures)


@dataclass(frozen=True, kw_only=True, slots=True)
class SplitReceipt:
    """The parts of a receipt before its disclosures are looked at."""

    header: Mapping[str, Any]
    payload: Mapping[str, Any]
    signed: bytes
    signing_input: bytes
    signature: bytes
    disclosures: tuple[str, ...]

    def disclose(self) -> ParsedReceipt:
        """Put the disclosed fields in their place. Raises `ReceiptError` whose part is "disclosure n"."""
        return ParsedReceipt(
            header=self.header,
            payload=self.payload,
            claims=_disclose(self.payload, self.disclosures),
            signed=self.signed,
            signing_input=self.signing_input,
            signature=self.signature,
            disclosures=self.disclosures,
        )


def parse(token: bytes) -> ParsedReceipt:
    """Take a receipt apart, strictly. Raises `ReceiptError`."""
    return split(token).disclose()


def split(token: bytes) -> SplitReceipt:
    """Take the signed part apart. Raises `ReceiptError` for header, payload or signature."""
    if len(token) > MAX_BYTES:
        raise ReceiptError("payload", f"the receipt is longer than {MAX_BYTES} bytes")
    try:
        text = token.decode("ascii")
    except UnicodeDecodeError as exc:
        raise ReceiptError(_part_at(token, exc.start), "contains a byte that is not ASCII") from exc
    jws, *disclosures = text.split("~")
    segments = jws.split(".")
    if len(segments) != 3:
        raise ReceiptError("header", "a JWS has header, payload and signature, joined by two dots")
    header = _read_header(segments[0])
    try:
        payload = parse_object(b64url_decode(segments[1]), field="payload", max_bytes=MAX_BYTES)
    except CanonicalError as exc:
        raise ReceiptError("payload", exc.reason) from exc
    except ValueError as exc:
        raise ReceiptError("payload", str(exc)) from exc
    try:
        signature = b64url_decode(segments[2])
    except ValueError as exc:
        raise ReceiptError("signature", str(exc)) from exc
    if len(signature) != 64:
        raise ReceiptError("signature", f"is {len(signature)} bytes long, not 64")
    if not disclosures:
        raise ReceiptError("signature", "must be followed by a tilde")
    if disclosures.pop() != "":
        raise ReceiptError(f"disclosure {len(disclosures) + 1}", "does not end in a tilde")
    if len(disclosures) > _MAX_DISCLOSURES:
        raise ReceiptError(f"disclosure {_MAX_DISCLOSURES + 1}", "there are too many")
    signed = jws.encode("ascii")
    return SplitReceipt(
        header=header,
        payload=payload,
        signed=signed,
        signing_input=signed.rsplit(b".", 1)[0],
        signature=signature,
        disclosures=tuple(disclosures),
    )


def check_binding(
    receipt: ParsedReceipt,
    *,
    effect: str,
    session_id: str,
    tool_call_id: str,
    decision_id: str,
    expires_at: int,
    tool: str,
    arguments: Mapping[str, Any],
    audience: str = "",
    secret_salt: bytes = b"",
) -> None:
    """Check that a receipt is for this decision on this action.

    `expires_at` is in whole Unix seconds; `arguments` is a parsed object (numbers int or
    Decimal). An empty `audience` was not asked for: then the receipt is for whomever the tool registry
    names. `secret_salt` came with the answer. Raises `ReceiptError` whose `part` is the field that
    differs: effect, session, tool_call_id, jti, exp, aud, act.tool, act.ad, act.secrets.
    """
    claims = receipt.claims
    expected: dict[str, Any] = {
        "effect": effect,
        "session": session_id,
        "tool_call_id": tool_call_id,
        "jti": decision_id,
        "exp": expires_at,
    }
    if audience:
        expected["aud"] = audience
    for field, value in expected.items():
        found = claims.get(field)
        if found != value or type(found) is not type(value):
            raise ReceiptError(field, f"the receipt says {_short(found)}, expected {_short(value)}")
    check_action(receipt, tool=tool, arguments=arguments, secret_salt=secret_salt)


def check_action(
    receipt: ParsedReceipt, *, tool: str, arguments: Mapping[str, Any], secret_salt: bytes | None = b""
) -> None:
    """Check that a receipt is for this action: `arguments` is a parsed object, with its secrets.

    What the receipt names as secret is compared by the salt that the answer carried beside the receipt.
    `secret_salt` None leaves secrets uncompared: whoever acts has to have the receipt redeemed then. Raises
    `ReceiptError` for act.tool, act.ad, and act.secrets where secrets differ or there is no salt.
    """
    act = receipt.claims.get("act")
    if not isinstance(act, Mapping):
        raise ReceiptError("act", "is missing")
    if act.get("tool") != tool:
        raise ReceiptError("act.tool", f"the receipt says {_short(act.get('tool'))}, expected {_short(tool)}")
    salt, resource = receipt.claims.get("ad_salt"), act.get("resource")
    if not isinstance(salt, str) or not isinstance(resource, str):
        raise ReceiptError("act.ad", "cannot be recomputed: ad_salt or act.resource is missing")
    paths = secret_paths(receipt)
    rest = hide(arguments, paths).rest if paths else arguments
    try:
        digest = action_digest(tool=tool, resource=resource, arguments=rest, salt=b64url_decode(salt))
        secret = (
            secrets_digest(tool=tool, resource=resource, arguments=arguments, salt=secret_salt)
            if paths and secret_salt
            else b""
        )
    except ValueError as exc:
        raise ReceiptError("act.ad", f"cannot be recomputed: {exc}") from exc
    if act.get("ad") != b64url_encode(digest):
        raise ReceiptError("act.ad", "the receipt is for other arguments")
    if not paths or secret_salt is None:
        return
    if not secret:
        raise ReceiptError(
            "act.secrets", "the receipt names secrets, and there is no salt to compare them by"
        )
    if not hmac.compare_digest(act["secrets_digest"], b64url_encode(secret)):
        raise ReceiptError("act.secrets", "the receipt is for other secrets")


def secret_paths(receipt: ParsedReceipt) -> tuple[str, ...]:
    """Return the paths of the arguments that are secret, and so left out of the receipt's action digest.

    `placet.secret_paths` says what a path is. Raises `ReceiptError` for act.secrets.
    """
    act = receipt.claims.get("act")
    if not isinstance(act, Mapping) or not {"secrets", "secrets_digest"} & set(act):
        return ()
    paths, digest = act.get("secrets"), act.get("secrets_digest")
    if not isinstance(paths, list) or not paths or not all(isinstance(path, str) for path in paths):
        raise ReceiptError("act.secrets", "must be a list of paths")
    if not isinstance(digest, str) or not digest.isascii():
        raise ReceiptError("act.secrets", "has no digest")
    return tuple(paths)


def _read_header(segment: str) -> dict[str, Any]:
    try:
        header = parse_object(b64url_decode(segment), field="header", max_bytes=1024)
    except CanonicalError as exc:
        raise ReceiptError("header", exc.reason) from exc
    except ValueError as exc:
        raise ReceiptError("header", str(exc)) from exc
    if set(header) != {"alg", "kid", "typ"}:
        raise ReceiptError("header", "must have exactly alg, kid and typ")
    if header["typ"] != TYP:
        raise ReceiptError("header", f"typ is {_short(header['typ'])}, expected {TYP}")
    if header["alg"] not in ALGORITHMS:
        raise ReceiptError("header", f"alg {_short(header['alg'])} is not accepted")
    if not isinstance(header["kid"], str) or not header["kid"]:
        raise ReceiptError("header", "kid must be a string")
    if encode_header(alg=header["alg"], kid=header["kid"]) != segment:
        raise ReceiptError("header", "is not spelled as this format spells it")
    return header


def _disclose(payload: Mapping[str, Any], disclosures: tuple[str, ...]) -> Mapping[str, Any]:
    by_digest: dict[str, tuple[int, str, Any]] = {}
    for number, disclosure in enumerate(disclosures, start=1):
        part = f"disclosure {number}"
        try:
            value = parse_value(b64url_decode(disclosure), field=part, max_bytes=MAX_BYTES, max_depth=40)
        except CanonicalError as exc:
            raise ReceiptError(part, exc.reason) from exc
        except ValueError as exc:
            raise ReceiptError(part, str(exc)) from exc
        if not (
            isinstance(value, list)
            and len(value) == 3
            and isinstance(value[0], str)
            and isinstance(value[1], str)
            and value[1] not in ("_sd", "...")
        ):
            raise ReceiptError(part, "must be [salt, name, value]")
        digest = disclosure_digest(disclosure)
        if digest in by_digest:
            raise ReceiptError(part, "repeats an earlier disclosure")
        by_digest[digest] = (number, value[1], value[2])
    if by_digest and payload.get("_sd_alg") != "sha-256":
        raise ReceiptError("payload", "_sd_alg must be sha-256")
    seen: set[str] = set()
    claims: Mapping[str, Any] = _put_disclosed_fields(payload, by_digest, seen)
    unused = sorted(number for digest, (number, _, _) in by_digest.items() if digest not in seen)
    if unused:
        raise ReceiptError(f"disclosure {unused[0]}", "the payload has no digest of it")
    return claims


def _put_disclosed_fields(value: Any, by_digest: Mapping[str, tuple[int, str, Any]], seen: set[str]) -> Any:
    if isinstance(value, list):
        return [_put_disclosed_fields(item, by_digest, seen) for item in value]
    if not isinstance(value, dict):
        return value
    result = {
        key: _put_disclosed_fields(item, by_digest, seen)
        for key, item in value.items()
        if key not in ("_sd", "_sd_alg")
    }
    digests = value.get("_sd", [])
    if not isinstance(digests, list):
        raise ReceiptError("payload", "_sd must be a list")
    for digest in digests:
        if not isinstance(digest, str) or digest in seen:
            raise ReceiptError("payload", "_sd must list each digest once")
        seen.add(digest)
        if digest in by_digest:
            number, name, disclosed = by_digest[digest]
            if name in result:
                raise ReceiptError(f"disclosure {number}", f"{_short(name)} is there already")
            result[name] = disclosed
    return result


def _part_at(token: bytes, position: int) -> str:
    """Return the part of a receipt that the byte at `position` belongs to."""
    before = token[:position]
    if b"~" in before:
        return f"disclosure {before.count(b'~')}"
    return ("header", "payload", "signature")[min(before.count(b"."), 2)]


def _dumps(value: Any) -> bytes:
    return _ENCODER.encode(value).encode("utf-8")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "…"
