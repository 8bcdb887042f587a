"""What a report may say."""

from __future__ import annotations

from typing import Any

import pytest

from pdp.errors import InvalidFieldError
from pdp.model import Outcome
from pdp.server.messages.outcomes import MAX_OUTPUT, report
from placet.v1 import decision_service_pb2 as messages

EXECUTED = messages.OUTCOME_EXECUTED


@pytest.mark.parametrize(
    ("members", "field"),
    [
        ({}, "outcome"),
        ({"outcome": messages.OUTCOME_LAPSED, "decision_id": "d"}, "outcome"),
        ({"outcome": messages.OUTCOME_UNREDEEMED, "decision_id": "d"}, "outcome"),
        ({"outcome": 99, "decision_id": "d"}, "outcome"),
        ({"outcome": EXECUTED}, "session_id"),
        ({"outcome": EXECUTED, "session_id": "s"}, "tool_call_id"),
        ({"outcome": EXECUTED, "decision_id": "d", "session_id": "s"}, "decision_id"),
        ({"outcome": EXECUTED, "decision_id": "d", "tool_call_id": "c"}, "decision_id"),
        ({"outcome": EXECUTED, "decision_id": "d", "output": b"x" * (MAX_OUTPUT + 1)}, "output"),
        ({"outcome": EXECUTED, "decision_id": "d", "attempt_id": "a\n"}, "attempt_id"),
    ],
)
def test_report_that_makes_no_sense_names_the_field(members: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidFieldError) as caught:
        report(messages.ReportOutcomeRequest(**members))
    assert caught.value.field == field


def test_every_outcome_but_the_servers_own_can_be_reported() -> None:
    own = {messages.OUTCOME_UNSPECIFIED, messages.OUTCOME_LAPSED, messages.OUTCOME_UNREDEEMED}
    numbers = set(messages.Outcome.values()) - own
    said = {report(messages.ReportOutcomeRequest(outcome=n, decision_id="d")).outcome for n in numbers}  # type: ignore[arg-type]
    assert said == set(Outcome) - {Outcome.LAPSED, Outcome.UNREDEEMED}
