"""Canonical JSON, and the digest of an action.

The canonical form is RFC 8785 (JCS) on a stricter profile, so that PDP, client and tool
server compute the same bytes from the same call:

- keys are ASCII; duplicate keys, NaN, infinities and lone surrogates are refused;
- a number is read from its JSON *text* as a decimal, never as a binary float;
- a number without a fractional part and with |n| <= 2^53 - 1 is written as an integer;
  every other number is written as a *string* in plain notation without exponent, sign of
  zero, or leading and trailing zeros. So `1200`, `1200.0` and `1.2e3` are one number, and
  `0.10` becomes `"0.1"`;
- a number has at most 34 significant digits and lies in 10^-34 … 10^34.

Strings are left alone: `"1.10"` and `"1.1"` may be two versions of something.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any

MAX_BYTES = 64 * 1024
MAX_DEPTH = 32
_MAX_DIGITS = 34
_MAX_NUMBER_TEXT = 128
_MAX_EXACT = 2**53 - 1
_OUTSIDE = f"a number lies outside 10^-{_MAX_DIGITS} … 10^{_MAX_DIGITS}"
_ACTION_DOMAIN = b"placet-action/v1\0"
# Every action is a tool call; the member leaves room for protocols with other methods.
ACTION_METHOD = "call"


class CanonicalError(ValueError):
    """A value has no canonical form. `field` is its path, `reason` a sentence."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}")
        self.field = field
        self.reason = reason


def _not_ascii(key: str) -> str:
    return f"an object has the key {key[:64]!a}, which is not ASCII; names of arguments are"


def parse_object(
    text: bytes, *, field: str, max_bytes: int = MAX_BYTES, max_depth: int = MAX_DEPTH
) -> dict[str, Any]:
    """Parse one JSON object; numbers become int (up to 16 characters) or Decimal.

    Raises `CanonicalError` for anything but an object inside the profile above, of at most
    `max_bytes` bytes and `max_depth` levels (the object itself is the first).
    """
    value = parse_value(text, field=field, max_bytes=max_bytes, max_depth=max_depth)
    if not isinstance(value, dict):
        raise CanonicalError(field, "must be a JSON object")
    return value


def parse_value(text: bytes, *, field: str, max_bytes: int = MAX_BYTES, max_depth: int = MAX_DEPTH) -> Any:
    """Parse any JSON value as `parse_object` does."""
    if len(text) > max_bytes:
        raise CanonicalError(field, f"is {len(text)} bytes long; at most {max_bytes} are accepted")
    try:
        value = _DECODER.decode(text.decode("utf-8"))
    except UnicodeDecodeError as exc:
        raise CanonicalError(field, f"is not UTF-8 (byte {exc.start})") from exc
    except json.JSONDecodeError as exc:
        raise CanonicalError(field, f"is not JSON: {exc.msg} (character {exc.pos})") from exc
    except RecursionError as exc:
        raise CanonicalError(field, f"is nested deeper than {max_depth} levels") from exc
    except _RefusedError as exc:
        raise CanonicalError(field, exc.args[0]) from exc
    _check(value, field, max_depth)
    return value


def canonical_json(value: Any) -> bytes:
    """Return the canonical bytes of a parsed value.

    Raises `CanonicalError` for a value outside the profile: a float, a foreign type, a
    non-ASCII key, a lone surrogate, a number out of range.
    """
    try:
        return _ENCODER.encode(_canonical(value, "value")).encode("utf-8")
    except UnicodeEncodeError as exc:
        raise CanonicalError("value", "contains a lone surrogate") from exc


def canonical_number(number: int | Decimal) -> int | str:
    """Return the one written form of a number: an integer, or decimal text.

    Raises `CanonicalError` for NaN, infinities and numbers out of range.
    """
    if isinstance(number, int):
        if -_MAX_EXACT <= number <= _MAX_EXACT:
            return number
        number = _check_bounds(Decimal(number))
    else:
        number = _check_bounds(number)
        if number == number.to_integral_value() and -_MAX_EXACT <= number <= _MAX_EXACT:
            return int(number)
    text = format(number, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def action_digest(*, tool: str, resource: str, arguments: Mapping[str, Any], salt: bytes) -> bytes:
    """Return the salted SHA-256 digest of an action (32 bytes): the receipt's `ad`.

    `arguments` is a parsed object; `resource` is "type:id", as the receipt has it. The salt
    keeps amounts and account numbers from being guessed out of the digest.
    """
    return hashlib.sha256(
        _ACTION_DOMAIN + salt + canonical_action(tool=tool, resource=resource, arguments=arguments)
    ).digest()


def canonical_action(*, tool: str, resource: str, arguments: Mapping[str, Any]) -> bytes:
    """Return the canonical bytes of an action, without domain and salt."""
    return canonical_json(
        {"tool": tool, "method": ACTION_METHOD, "resource": resource, "arguments": arguments}
    )


class _RefusedError(ValueError):
    """Raised inside the JSON parser's hooks; the argument is the reason."""


def _parse_decimal(text: str) -> Decimal:
    if len(text) > _MAX_NUMBER_TEXT:
        raise _RefusedError(f"a number is written with more than {_MAX_NUMBER_TEXT} characters")
    try:
        number = Decimal(text)
    except InvalidOperation as exc:  # the exponent itself is beyond what Decimal holds
        raise _RefusedError(_OUTSIDE) from exc
    return _check_bounds(number, _RefusedError)


def _parse_integer(text: str) -> int | Decimal:
    if len(text) <= 16:
        return int(text)
    return _parse_decimal(text)


def _check_bounds(number: Decimal, error: type[ValueError] | None = None) -> Decimal:
    """Return `number`, zero without its sign.

    Raises `error`, or else `CanonicalError`, for a number that the profile refuses.
    """
    reason = None
    if not number.is_finite():
        reason = "a number is NaN or infinite"
    elif number.is_zero():
        return Decimal(0)
    else:
        digits = number.as_tuple().digits
        significant = len(digits)
        while significant > 1 and digits[significant - 1] == 0:
            significant -= 1
        if significant > _MAX_DIGITS:
            reason = f"a number has more than {_MAX_DIGITS} significant digits"
        elif not -_MAX_DIGITS <= number.adjusted() < _MAX_DIGITS:
            reason = _OUTSIDE
    if reason is not None:
        raise error(reason) if error else CanonicalError("value", reason)
    return number


def _refuse_constant(name: str) -> Any:
    raise _RefusedError(f"{name} is not a JSON number")


def _refuse_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise _RefusedError("an object has a duplicate key")
    return result


# Made once, since json.loads and json.dumps would make new ones for each call.
_DECODER = json.JSONDecoder(
    parse_float=_parse_decimal,
    parse_int=_parse_integer,
    parse_constant=_refuse_constant,
    object_pairs_hook=_refuse_duplicates,
)
_ENCODER = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def _check(value: Any, field: str, depth: int) -> None:
    """Check depth, keys and strings of a freshly parsed value."""
    if isinstance(value, str):
        if not value.isascii():
            _refuse_surrogate(value, field)
    elif isinstance(value, dict):
        if depth == 0:
            raise CanonicalError(field, "is nested too deeply")
        for key, item in value.items():
            if not key.isascii():
                raise CanonicalError(field, _not_ascii(key))
            _check(item, f"{field}.{key}" if len(key) <= 64 else field, depth - 1)
    elif isinstance(value, list):
        if depth == 0:
            raise CanonicalError(field, "is nested too deeply")
        for index, item in enumerate(value):
            if isinstance(item, str | dict | list):
                _check(item, f"{field}[{index}]", depth - 1)


def _refuse_surrogate(text: str, field: str) -> None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as exc:
        raise CanonicalError(field, "contains a lone surrogate") from exc


def _canonical(value: Any, field: str) -> Any:
    # Exact types first: a parsed value has no others, and this costs a fraction of isinstance.
    kind = type(value)
    if kind is str or value is None or kind is bool:
        return value
    if kind is int and -_MAX_EXACT <= value <= _MAX_EXACT:
        return value
    if kind is dict:
        for key in value:
            if not isinstance(key, str):
                raise CanonicalError(field, "an object has a key that is not a string")
            if not key.isascii():
                raise CanonicalError(field, _not_ascii(key))
        return {key: _canonical(item, f"{field}.{key}") for key, item in value.items()}
    if kind is list:
        return [_canonical(item, f"{field}[{index}]") for index, item in enumerate(value)]
    return _canonical_other(value, field)


def _canonical_other(value: Any, field: str) -> Any:
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, int | Decimal):
        try:
            return canonical_number(value)
        except CanonicalError as exc:
            raise CanonicalError(field, exc.reason) from None
    if isinstance(value, Mapping):
        result = {}
        for key, item in value.items():
            if not isinstance(key, str):
                raise CanonicalError(field, "an object has a key that is not a string")
            if not key.isascii():
                raise CanonicalError(field, _not_ascii(key))
            result[key] = _canonical(item, f"{field}.{key}")
        return result
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray):
        return [_canonical(item, f"{field}[{index}]") for index, item in enumerate(value)]
    raise CanonicalError(field, f"a {type(value).__name__} has no canonical form")
