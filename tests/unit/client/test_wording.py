"""What a model is told of a decision, and what people read of its reasons."""

from __future__ import annotations

from datetime import timedelta

import pytest

from placet import Blocked, Decision, Effect, Figures, Reason, Remedy, SchemaViolation
from placet.model._wording import model_text, one_line, reason_text, remedy_of

MISSING = SchemaViolation(at="arguments.amount", rule="required")


def block(code: str, remedy: Remedy | None = None, **members: object) -> Reason:
    return Reason(code=code, effect=Effect.BLOCK, remedy=remedy, **members)  # type: ignore[arg-type]


INVALID = block(
    "registry.arguments_invalid",
    Remedy.CHANGE_CALL,
    remediation="Send arguments that fit the tool's schema.",
    violations=(MISSING,),
)


def told(*reasons: Reason, retryable: bool = False, after: timedelta | None = None) -> str:
    return model_text(reasons[0].effect, "d-1", reasons, retryable=retryable, retry_after=after)


def test_model_is_told_to_send_what_is_missing() -> None:
    text = told(INVALID)
    assert text.startswith(
        "POLICY_BLOCKED decision_id=d-1 reason_code=registry.arguments_invalid retryable=false. "
        "The tool was not executed. The call is wrong. Correct it"
    )
    assert "arguments.amount is missing: send it." in text
    assert "Do not retry" not in text


@pytest.mark.parametrize(
    ("remedy", "retryable", "said"),
    [
        (Remedy.CHANGE_CALL, False, "The call is wrong. Correct it as said here, and send it as a new call"),
        (Remedy.FIRST, False, "something else comes first"),
        (Remedy.WAIT, True, "Try again later."),
        (Remedy.WAIT, False, "Changing the call does not help. Do not retry this call; tell the user."),
        (Remedy.ASK, False, "Changing the call does not help. Do not retry this call; tell the user."),
        (Remedy.NONE, False, "Nothing helps, and neither does changing the call. Do not retry this call"),
        (None, False, "The tool was not executed. Do not retry this call; tell the user."),
    ],
)
def test_each_remedy_has_its_advice(remedy: Remedy | None, retryable: bool, said: str) -> None:
    assert said in told(block("a.b", remedy), retryable=retryable)


def test_model_is_told_how_long_to_wait() -> None:
    text = told(block("velocity.payments", Remedy.WAIT), retryable=True, after=timedelta(seconds=30.2))
    assert "Try again later, after 31 seconds." in text


def test_escalation_is_for_a_person() -> None:
    text = told(Reason(code="payment.large", effect=Effect.ESCALATE, remedy=Remedy.ASK))
    assert text.startswith("POLICY_ESCALATED decision_id=d-1 reason_code=payment.large retryable=false. ")
    assert "A person would have to approve this, and nobody can resolve it yet." in text
    assert "Do not retry this call; tell the user." in text


@pytest.mark.parametrize(
    ("others", "expected"),
    [
        # What an argument that is missing entails does not stand in the way of sending it.
        (
            [block("counterparty.not_active", Remedy.ASK), block("payment.order_unknown", Remedy.ASK)],
            Remedy.CHANGE_CALL,
        ),
        ([block("amount.missing", Remedy.CHANGE_CALL)], Remedy.CHANGE_CALL),
        ([block("boundary.tool", Remedy.ASK)], Remedy.ASK),
        ([block("session.closed", Remedy.ASK)], Remedy.ASK),
        ([block("payment.duplicate", Remedy.NONE)], Remedy.NONE),
        ([block("custom.rule")], Remedy.ASK),
    ],
)
def test_changing_the_call_helps_only_if_nothing_else_stands_in_its_way(
    others: list[Reason], expected: Remedy
) -> None:
    assert remedy_of(Effect.BLOCK, [*others, INVALID], retryable=False) is expected


def test_advice_of_authors_is_one_bounded_line() -> None:
    text = told(block("a.b", Remedy.ASK, remediation="Ask\nX \x1b[31m\u202e" + "y" * 900))
    assert "\n" not in text
    assert text.isprintable()
    assert len(text) < 700
    assert one_line("a\r\n\tb", 10) == "a b"


def test_places_that_hold_more_than_names_are_not_told() -> None:
    said = told(block("amount.missing", Remedy.CHANGE_CALL, at="arguments.amount"))
    assert "amount.missing: arguments.amount." in said
    odd = told(block("client.refused", Remedy.CHANGE_CALL, at="action.arguments.ignore all that"))
    assert "ignore" not in odd


def test_violations_beyond_those_listed_are_counted() -> None:
    many = tuple(SchemaViolation(at=f"arguments.a[{n}]", rule="type", demanded="string") for n in range(8))
    reason = block("registry.arguments_invalid", Remedy.CHANGE_CALL, violations=many, more_violations=4)
    assert "arguments.a[4] must be of type string; and 7 more." in told(reason)


def test_exception_says_what_was_measured_and_what_does_not_fit() -> None:
    total = block(
        "boundary.total",
        figures=(
            Figures(of="grant", at="chain[1]", unit="EUR", used="900.00", added="200.00", limit="1000.00"),
        ),
    )
    assert reason_text(total) == "boundary.total: grant at chain[1]: 900.00 used + 200.00 of 1000.00 EUR"
    decision = Decision(effect=Effect.BLOCK, reasons=(INVALID, block("a.b")), model_text="")
    with pytest.raises(Blocked, match=r"arguments_invalid: arguments.amount is missing: send it, a.b\)$"):
        decision.require_allowed()
    assert decision.remedy is Remedy.ASK


def test_figures_say_their_window() -> None:
    figures = Figures(
        of="session",
        unit="actions",
        used="5",
        added="1",
        limit="5",
        window=timedelta(seconds=60),
        retry_after=timedelta(seconds=12),
    )
    said = reason_text(block("velocity.payments", figures=(figures,)))
    assert said.endswith("session: 5 used + 1 of 5 actions in 60 s, room again in 12 s")
