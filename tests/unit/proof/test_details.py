"""What a receipt says of its reasons is read back as it was."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest

from pdp.model import Effect, Figures, Reason, SchemaViolation
from pdp.proof.details import details_of, read_details

FIGURES = Figures(
    of="session",
    at="chain[1]",
    unit="EUR",
    used="10.00",
    added="1.00",
    limit="10.50",
    open="0.50",
    window=timedelta(seconds=3600),
    retry_after=timedelta(seconds=61),
)
VIOLATION = SchemaViolation(at="arguments.amount", rule="type", demanded="string", alternative=2)
REASONS = (
    Reason(code="boundary.velocity", effect=Effect.BLOCK, remediation="Wait.", figures=(FIGURES,)),
    Reason(code="task.within_boundary", effect=Effect.ALLOW),
    Reason(
        code="registry.arguments_invalid", effect=Effect.BLOCK, violations=(VIOLATION,), more_violations=3
    ),
)


@pytest.mark.parametrize("place", range(len(REASONS)))
def test_details_are_read_as_they_were_said(place: int) -> None:
    said = json.loads(json.dumps(details_of(REASONS)))
    reason = REASONS[place]
    assert read_details(said, place) == {
        "remediation": reason.remediation,
        "figures": reason.figures,
        "violations": reason.violations,
        "more_violations": reason.more_violations,
    }


def test_what_a_later_release_says_beside_it_is_left_out() -> None:
    said = json.loads(json.dumps(details_of(REASONS)))
    said[0]["figures"][0]["colour"] = said[2]["violations"][0]["colour"] = "red"
    assert read_details(said, 0)["figures"] == (FIGURES,)
    assert read_details(said, 2)["violations"] == (VIOLATION,)


def test_erased_details_say_nothing() -> None:
    assert read_details(None, 2)["violations"] == ()
    assert details_of(REASONS[1:2]) is None
