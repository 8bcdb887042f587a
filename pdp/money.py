"""Amounts of money: exact, in integer minor units of an ISO 4217 currency."""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import MAX_EMAX, MIN_EMIN, Context, Decimal, InvalidOperation
from functools import lru_cache

from iso4217 import Currency

from pdp.model import JSON, Amount, AmountRole, AmountUnit

# Amounts reach policy as JSON integers, which must stay exact everywhere (RFC 8259 §6).
MAX_MINOR = 2**53 - 1
# Decimal text without needless zeros in front of it and without a point that nothing follows.
_PLAIN = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?")
# Exact for any number that can be read: the default context would round to 28 digits.
_EXACT = Context(prec=100_000, Emax=MAX_EMAX, Emin=MIN_EMIN)


class AmountError(ValueError):
    """An amount cannot be read. `code` is the reason code of the problem."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


@lru_cache(maxsize=1024)
def minor_digits(currency: str) -> int | None:
    """Return how many decimals a currency has; None for what is no currency of payments."""
    try:
        return Currency(currency).exponent
    except ValueError:
        return None


def read_amount(role: AmountRole, arguments: Mapping[str, JSON]) -> Amount:
    """Return the amount that a call's arguments name. Raises `AmountError`."""
    if role.unit is None:
        raise AmountError("amount.unit_missing")
    currency = _currency(role, arguments)
    digits = minor_digits(currency)
    if digits is None:
        raise AmountError("amount.currency_invalid")
    if role.argument not in arguments:
        raise AmountError("amount.missing")
    given, in_major = arguments[role.argument], role.unit is AmountUnit.MAJOR
    number = read_number(given)
    if isinstance(given, str):
        _check_text(given, digits if in_major else None)
    minor = major_to_minor(number, digits) if in_major else _integral(number)
    if minor == 0 and not role.allow_zero:
        raise AmountError("amount.zero")
    return Amount(minor=minor, currency=currency)


def major_to_minor(number: Decimal, digits: int) -> int:
    """Return `number` major units in minor units of `digits` decimals. Raises `AmountError`."""
    if number.is_signed() and not number.is_zero():
        raise AmountError("amount.out_of_range")
    if not number.is_zero() and number.adjusted() > 16:
        raise AmountError("amount.out_of_range")
    return _integral(number.scaleb(digits, context=_EXACT))


def has_more_decimals(number: int | Decimal, decimals: int) -> bool:
    """Whether the number, which is finite, cannot be written with so many digits after the point."""
    _, digits, exponent = Decimal(number).as_tuple()
    assert isinstance(exponent, int)  # it is finite
    kept = "".join(map(str, digits)).rstrip("0")
    zeros = len(digits) - len(kept)
    return bool(kept) and -(exponent + zeros) > decimals


def minor_to_major(minor: int, digits: int) -> str:
    """Return the inverse of `major_to_minor` as decimal text."""
    return format(Decimal(minor).scaleb(-digits), "f")


def decimal_text(text: str) -> Decimal:
    """Read plain decimal text ("1200.00"). Raises ValueError for anything else."""
    if not text or len(text) > 40 or not set(text) <= set("0123456789.-") or text[-1] == ".":
        raise ValueError("must be decimal text such as 1200.00")
    try:
        return Decimal(text)
    except InvalidOperation as exc:
        raise ValueError("must be decimal text such as 1200.00") from exc


def read_number(value: JSON) -> Decimal:
    """Return a JSON number, or decimal text, as a Decimal. Raises `AmountError`."""
    if isinstance(value, int | Decimal) and not isinstance(value, bool):
        return Decimal(value)
    if isinstance(value, str):
        try:
            return decimal_text(value)
        except ValueError as exc:
            raise AmountError("amount.invalid") from exc
    raise AmountError("amount.invalid")


def _check_text(text: str, digits: int | None) -> None:
    """Refuse an argument's decimal text that somebody may read as another number. Raises `AmountError`.

    "1.200" euros are twelve hundred to some: a text has no more decimals than its currency, trailing
    zeros included, and no point at all where `digits` is None because it counts minor units.
    """
    if _PLAIN.fullmatch(text) is None or (digits is None and "." in text):
        raise AmountError("amount.invalid")
    if digits is not None and len(text.partition(".")[2]) > digits:
        raise AmountError("amount.precision")


def number_text(value: JSON) -> str:
    """Return what `read_number` reads in the one form that equal numbers share. Raises `AmountError`."""
    number = read_number(value)
    return "0" if number.is_zero() else format(number.normalize(_EXACT), "f")


def _currency(role: AmountRole, arguments: Mapping[str, JSON]) -> str:
    if role.currency_code is not None:
        return role.currency_code
    value = arguments.get(role.currency_argument) if role.currency_argument is not None else None
    if not isinstance(value, str):
        raise AmountError("amount.currency_invalid")
    return value


def _integral(number: Decimal) -> int:
    if number.is_signed() and not number.is_zero():
        raise AmountError("amount.out_of_range")
    if not number.is_zero() and number.adjusted() > 18:
        raise AmountError("amount.out_of_range")
    if number != number.to_integral_value():
        raise AmountError("amount.precision")
    minor = int(number)
    if minor > MAX_MINOR:
        raise AmountError("amount.out_of_range")
    return minor
