"""How a registration reads the amount of a call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from placet._lint.findings import Path
from placet._lint.registration import Registration, text
from placet._lint.schema import Presence
from placet._lint.secrets import is_secret
from placet.normalise import NormalisationStep, normalise

Currencies = Callable[[str], bool]


def check_amount(tool: Registration, is_currency: Currencies) -> None:
    """Add what keeps amounts from being read. `is_currency` says whether a code is one of ISO 4217."""
    if tool.form.get("amount") is None:
        if tool.form.get("effect") == "pay":
            tool.add(
                "amount.absent",
                (),
                "pays, and names no argument as the amount, so no limit counts what it pays: say amount",
            )
        return
    amount = tool.member("amount")
    if not amount:
        return
    argument, currency = text(amount.get("argument")), amount.get("currency_argument")
    if argument:
        _check_argument(tool, argument, ("amount", "argument"), "the amount", frozenset({"number", "string"}))
    if not amount.get("unit"):
        tool.add(
            "amount.unit_missing",
            ("amount", "unit"),
            "is required: major (12.50) or minor (1250); without it every call is blocked",
        )
    if isinstance(currency, str) and currency:
        _check_argument(
            tool, currency, ("amount", "currency_argument"), "the currency", frozenset({"string"})
        )
        _check_values(tool, currency, is_currency)
        if currency == argument:
            tool.add(
                "amount.invalid",
                ("amount", "currency_argument"),
                "is the amount itself; name another argument",
            )
    code = amount.get("currency_code")
    if isinstance(code, str) and code:
        if not is_currency(code):
            upper = code.strip().upper()
            close = f"; did you mean {upper!r}?" if upper != code and is_currency(upper) else ""
            tool.add(
                "amount.currency_invalid",
                ("amount", "currency_code"),
                f"{code!r} is no currency of ISO 4217, such as EUR{close}",
            )
    elif not currency:
        tool.add(
            "amount.currency_missing",
            ("amount", "currency"),
            "is required: name an argument (currency_argument) or an ISO 4217 code (currency_code)",
        )
    if argument in tool.member("normalise"):
        tool.add(
            "amount.normalised",
            ("normalise", argument),
            "is the amount: a number has one form, so leave its steps out",
            of_name=True,
        )


def _check_values(tool: Registration, name: str, is_currency: Currencies) -> None:
    """Add a currency whose listed values are none, in the spelling that calls are judged by."""
    values = tool.values(name)
    if not values:
        return
    steps = tool.member("normalise").get(name)
    texts = [value for value in values if isinstance(value, str)]
    if any(is_currency(code) for value in texts for code in _spellings(value, steps)):
        return
    upper = any(is_currency(value.upper()) for value in texts)
    tool.add(
        "amount.currency_invalid",
        ("amount", "currency_argument"),
        f"{name!r} has no value that is a currency of ISO 4217, such as EUR"
        f"{'; give it the step upper in normalise' if upper else ''}",
    )


def _spellings(value: str, steps: Any) -> list[str]:
    """Return a value as it is judged; nothing if it has no such spelling, or if steps are none."""
    try:
        return [normalise(value, [NormalisationStep(step) for step in steps or ()])]
    except (TypeError, ValueError):
        return []


def _check_argument(tool: Registration, name: str, path: Path, what: str, wanted: frozenset[str]) -> None:
    value = tool.argument(
        name, path, "amount.unknown_argument", f"{what} is never there, and every call is blocked"
    )
    if is_secret(tool, name):
        tool.add(
            "secret.is_amount", path, f"{name!r} is secret, and receipts show {what}: one of both is wrong"
        )
    if value is None or value.presence is not Presence.NAMED:
        return
    if not value.types & wanted:
        tool.add(
            "amount.invalid",
            path,
            f"{name!r} is {' or '.join(sorted(value.types))} by the schema, and {what} is "
            f"{' or '.join(sorted(wanted))}: every call is blocked",
        )
    elif not value.required:
        tool.add(
            "amount.optional",
            path,
            f"{name!r} may be left out, and such a call is blocked: put it into required",
        )
