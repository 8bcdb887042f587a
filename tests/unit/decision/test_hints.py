"""Hints: whose they are, and how many are kept."""

from __future__ import annotations

from pdp.decision.hints import Hints
from pdp.decision.resolved_action import NO_INPUTS
from tests.support import builders

KNOWN = NO_INPUTS._replace(tool=builders.tool())


def test_action_that_nothing_is_known_of_has_no_inputs() -> None:
    assert Hints().get(builders.evaluation("s-1")) == NO_INPUTS


def test_hint_is_for_the_same_caller_session_and_tool() -> None:
    hints = Hints()
    hints.keep(builders.evaluation("s-1"), KNOWN)
    assert hints.get(builders.evaluation("s-1")) is KNOWN
    others = (
        builders.evaluation("s-2"),
        builders.evaluation("s-1", by=builders.caller(subject="svc-else")),
        builders.evaluation("s-1", by=builders.caller(tenant="other")),
        builders.evaluation("s-1", what=builders.action("reports.create")),
    )
    assert [hints.get(other) for other in others] == [NO_INPUTS] * 4


def test_hint_that_was_kept_longest_ago_makes_room() -> None:
    hints = Hints(most=2)
    for session in ("s-1", "s-2", "s-1", "s-3"):
        hints.keep(builders.evaluation(session), KNOWN)
    kept = [hints.get(builders.evaluation(session)) is KNOWN for session in ("s-1", "s-2", "s-3")]
    assert kept == [True, False, True]
