"""Reasons as messages, for the server and the fake."""

from __future__ import annotations

from placet._wire.numbers import EFFECT_NUMBERS, REMEDY_NUMBERS
from placet.model import Figures, LimitStatus, Reason
from placet.v1 import decision_pb2 as nouns


def reason_message(reason: Reason) -> nouns.Reason:
    return nouns.Reason(
        code=reason.code,
        effect=EFFECT_NUMBERS[reason.effect],
        message=reason.message,
        at=reason.at,
        remediation=reason.remediation,
        remedy=nouns.REMEDY_UNSPECIFIED if reason.remedy is None else REMEDY_NUMBERS[reason.remedy],
        figures=[_figures_message(figures) for figures in reason.figures],
        violations=[
            nouns.SchemaViolation(
                at=item.at, rule=item.rule, demanded=item.demanded, alternative=item.alternative
            )
            for item in reason.violations
        ],
        more_violations=reason.more_violations,
    )


def limit_message(limit: LimitStatus) -> nouns.LimitStatus:
    return nouns.LimitStatus(
        code=limit.code,
        figures=_figures_message(limit.figures),
        left=limit.left,
        on_exceed=nouns.EFFECT_UNSPECIFIED if limit.on_exceed is None else EFFECT_NUMBERS[limit.on_exceed],
    )


def _figures_message(figures: Figures) -> nouns.Figures:
    message = nouns.Figures(
        of=figures.of,
        at=figures.at,
        unit=figures.unit,
        used=figures.used,
        added=figures.added,
        limit=figures.limit,
        open=figures.open,
        unposted=figures.unposted,
    )
    if figures.window is not None:
        message.window.FromTimedelta(figures.window)
    if figures.retry_after is not None:
        message.retry_after.FromTimedelta(figures.retry_after)
    return message
