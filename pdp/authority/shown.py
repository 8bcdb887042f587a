"""What readers are shown of limits: what is used and left of each, as far as it is theirs to see. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import orjson

from pdp.model import ACTIONS, Amount, Effect, Figures, LimitStatus
from pdp.money import minor_digits, minor_to_major

_BOUNDARIES = frozenset({"session", "template", "grant"})


def visible_figures(figures: Figures, *, hops: int, shared: bool) -> Figures:
    """Return the figures without what a caller may not see that acts as the last of `hops` on a chain.

    `shared`: what others do outside of the session counts for the limit as well. What they used is told to
    nobody. An agent that only holds a grant is told the figures of that grant; of the limits above it, whose
    they are and what its call adds.
    """
    if shared:
        return replace(figures, used="", unposted="")
    if hops > 1 and figures.of in _BOUNDARIES and figures.at != f"chain[{hops - 1}]":
        return replace(figures, used="", limit="", open="", unposted="", window=None)
    return figures


def limits_of_document(document: bytes, *, hops: int, sees_all: bool) -> tuple[LimitStatus, ...]:
    """Return the limits that a judged document lists, as a reader may see them.

    `sees_all`: the reader may see the document as a whole.
    """
    shown = []
    for limit in orjson.loads(document).get("limits", ()):
        unit = limit.get("currency", ACTIONS)
        window, delay = limit.get("window_seconds"), limit.get("retry_after_seconds")
        figures = Figures(
            of=limit["of"],
            at=limit.get("at", ""),
            unit=unit,
            used=number_text(limit.get("used"), unit),
            added=number_text(limit.get("add"), unit),
            limit=number_text(limit.get("max"), unit),
            window=None if window is None else timedelta(seconds=window),
            retry_after=None if delay is None else timedelta(seconds=delay),
        )
        left = number_text(limit.get("left"), unit)
        if not sees_all:
            seen = visible_figures(figures, hops=hops, shared=limit["code"] == "limit.budget")
            left, figures = (left if seen == figures else ""), seen
        shown.append(
            LimitStatus(code=limit["code"], figures=figures, left=left, on_exceed=Effect(limit["on_exceed"]))
        )
    return tuple(shown)


def amount_of_document(document: bytes) -> Amount | None:
    """Return the amount of the action that a document describes; None if it has none."""
    action: Mapping[str, Any] = orjson.loads(document).get("action", {})
    amount = action.get("amount")
    return None if amount is None else Amount(minor=amount["minor"], currency=amount["currency"])


def number_text(number: int | None, unit: str) -> str:
    """Return a number of minor units, or of actions, as decimal text; empty if it is not known."""
    return "" if number is None else minor_to_major(number, minor_digits(unit) or 0)
