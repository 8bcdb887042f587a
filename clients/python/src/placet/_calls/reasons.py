"""Reasons and limits as answers have them."""

from __future__ import annotations

from collections.abc import Iterable

from placet._calls.call import read_span
from placet._wire.numbers import EFFECTS, REMEDIES
from placet.errors import UnknownEffectError
from placet.model import Effect, Figures, LimitStatus, Reason, SchemaViolation
from placet.v1 import decision_pb2 as nouns


def read_effect(number: int) -> Effect:
    """Return the effect that an answer says. Raises `UnknownEffectError`."""
    if number not in EFFECTS:
        raise UnknownEffectError(f"the answer's effect {number} is none that this client knows")
    return EFFECTS[number]


def read_reasons(given: Iterable[nouns.Reason]) -> tuple[Reason, ...]:
    return tuple(
        Reason(
            code=reason.code,
            effect=read_effect(reason.effect),
            message=reason.message,
            at=reason.at,
            remediation=reason.remediation,
            # One that this client does not know is advice that it cannot give.
            remedy=REMEDIES.get(reason.remedy),
            figures=tuple(_read_figures(figures) for figures in reason.figures),
            violations=tuple(
                SchemaViolation(
                    at=item.at, rule=item.rule, demanded=item.demanded, alternative=item.alternative
                )
                for item in reason.violations
            ),
            more_violations=reason.more_violations,
        )
        for reason in given
    )


def read_limits(given: Iterable[nouns.LimitStatus]) -> tuple[LimitStatus, ...]:
    return tuple(
        LimitStatus(
            code=item.code,
            figures=_read_figures(item.figures),
            left=item.left,
            on_exceed=EFFECTS.get(item.on_exceed),
        )
        for item in given
    )


def _read_figures(message: nouns.Figures) -> Figures:
    return Figures(
        of=message.of,
        at=message.at,
        unit=message.unit,
        used=message.used,
        added=message.added,
        limit=message.limit,
        open=message.open,
        unposted=message.unposted,
        window=read_span(message.window, "figures.window") if message.HasField("window") else None,
        retry_after=read_span(message.retry_after, "figures.retry_after")
        if message.HasField("retry_after")
        else None,
    )
