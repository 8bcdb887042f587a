"""Everything that is found in the registrations of tools, all together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from placet._lint.amounts import Currencies, check_amount
from placet._lint.arguments import check_arguments
from placet._lint.effects import check_effect
from placet._lint.entities import check_entities
from placet._lint.findings import Finding
from placet._lint.ids import check_ids
from placet._lint.prerequisites import check_dependents, check_prerequisites
from placet._lint.registration import Registration, text
from placet._lint.schemas import check_schema
from placet._lint.secrets import check_secrets
from placet._lint.targets import check_targets


def lint_tools(
    forms: Sequence[Mapping[str, Any]],
    *,
    is_currency: Currencies,
    registered: Iterable[Mapping[str, Any]] = (),
) -> list[Finding]:
    """Return what is wrong or doubtful in registrations, in their order.

    `forms` are registered together; `registered` are tools that are registered already, which count where
    no form has their name: also those of them that could not be allowed any more beside `forms`, as what is
    wrong with the form that they need. `is_currency` says whether a text is a currency's code of ISO 4217.
    Forms may hold anything: what is no value of its member is passed over here, and refused where forms are
    read.
    """
    return [
        finding
        for found in lint_each(forms, is_currency=is_currency, registered=registered)
        for finding in found
    ]


def lint_each(
    forms: Sequence[Mapping[str, Any]],
    *,
    is_currency: Currencies,
    registered: Iterable[Mapping[str, Any]] = (),
) -> Iterator[list[Finding]]:
    """Yield what `lint_tools` finds of one tool after the other."""
    every = [Registration(form, index) for index, form in enumerate(forms)]
    known = {text(form.get("name")): Registration(form) for form in registered}
    first: dict[str, Registration] = {}
    for tool in every:
        if tool.name in first:
            tool.add(
                "tool.duplicate", ("name",), f"{tool.name!r} is listed twice: one would replace the other"
            )
        first.setdefault(tool.name, tool)
    staying = [
        other for name, other in known.items() if name not in first and other.form.get("prerequisites")
    ]
    known |= first
    for tool in every:
        _lint(tool, known, is_currency)
        check_dependents(tool, staying)
        yield tool.findings


def _lint(tool: Registration, known: Mapping[str, Registration], is_currency: Currencies) -> None:
    if not check_schema(tool):
        # Nothing is said of single arguments: each would be one that no call can have.
        tool.schema = None
    check_effect(tool)
    check_ids(tool)
    check_amount(tool, is_currency)
    check_arguments(tool)
    check_secrets(tool)
    check_entities(tool)
    check_targets(tool)
    check_prerequisites(tool, known)
    if tool.form.get("redeem") == "required" and not text(tool.form.get("audience")):
        tool.add(
            "redeem.audience_missing",
            ("audience",),
            "is required where redeem is: receipts without an audience are redeemed by nobody; say what the "
            "tool's server calls itself",
        )
