"""Messages about what became of decisions, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pdp.errors import InvalidFieldError
from pdp.model import JSON, HoldRecord, HoldState, OpenDecision, Outcome
from pdp.names import name, optional_name
from pdp.server.messages.convert import timestamp
from placet.canonical import CanonicalError, parse_object
from placet.v1 import decision_service_pb2 as messages

MAX_OUTPUT = 256 * 1024
MAX_PAGE, PAGE = 1_000, 100
_OUTCOMES: Mapping[int, Outcome] = {
    messages.OUTCOME_EXECUTED: Outcome.EXECUTED,
    messages.OUTCOME_FAILED: Outcome.FAILED,
    messages.OUTCOME_NOT_EXECUTED: Outcome.NOT_EXECUTED,
    messages.OUTCOME_UNKNOWN: Outcome.UNKNOWN,
    messages.OUTCOME_VOIDED: Outcome.VOIDED,
}
_OUTCOME_NUMBERS = {
    Outcome.EXECUTED: messages.OUTCOME_EXECUTED,
    Outcome.FAILED: messages.OUTCOME_FAILED,
    Outcome.NOT_EXECUTED: messages.OUTCOME_NOT_EXECUTED,
    Outcome.UNKNOWN: messages.OUTCOME_UNKNOWN,
    Outcome.VOIDED: messages.OUTCOME_VOIDED,
    Outcome.LAPSED: messages.OUTCOME_LAPSED,
}
_HOLDS = {
    HoldState.RESERVED: messages.HOLD_STATE_RESERVED,
    HoldState.COMMITTED: messages.HOLD_STATE_COMMITTED,
    HoldState.UNRESOLVED: messages.HOLD_STATE_UNRESOLVED,
    HoldState.RELEASED: messages.HOLD_STATE_RELEASED,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """`decision_id`, or `session_id` and `tool_call_id`."""

    outcome: Outcome
    decision_id: str
    session_id: str
    tool_call_id: str
    output: bytes
    attempt_id: str


def report(message: messages.ReportOutcomeRequest) -> Report:
    if message.outcome not in _OUTCOMES:
        raise InvalidFieldError("outcome", "must be one of the outcomes that can be reported")
    decision_id = optional_name(message.decision_id, "decision_id")
    if decision_id and (message.session_id or message.tool_call_id):
        raise InvalidFieldError("decision_id", "give it, or session_id and tool_call_id, not both")
    if len(message.output) > MAX_OUTPUT:
        raise InvalidFieldError("output", f"is longer than {MAX_OUTPUT} bytes")
    return Report(
        outcome=_OUTCOMES[message.outcome],
        decision_id=decision_id,
        session_id="" if decision_id else name(message.session_id, "session_id"),
        tool_call_id="" if decision_id else name(message.tool_call_id, "tool_call_id"),
        output=message.output,
        attempt_id=optional_name(message.attempt_id, "attempt_id"),
    )


def report_message(decision_id: str, hold: HoldRecord, conflict: bool) -> messages.ReportOutcomeResponse:
    return messages.ReportOutcomeResponse(decision_id=decision_id, hold=_HOLDS[hold.state], conflict=conflict)


def redemption(message: messages.RedeemRequest) -> tuple[str, str, Mapping[str, JSON], str]:
    """Return decision, tool, arguments and audience."""
    decision_id = name(message.decision_id, "decision_id")
    try:
        arguments = parse_object(message.arguments, field="arguments")
    except CanonicalError as exc:
        raise InvalidFieldError(exc.field, exc.reason) from exc
    return (
        decision_id,
        name(message.tool, "tool"),
        arguments,
        optional_name(message.audience, "audience"),
    )


def page(message: messages.ListOpenDecisionsRequest) -> tuple[str, int]:
    """Return after which decision, and how many."""
    if message.page_size > MAX_PAGE:
        raise InvalidFieldError("page_size", f"is more than {MAX_PAGE}")
    return optional_name(message.after, "after"), message.page_size or PAGE


def open_message(decisions: Sequence[OpenDecision]) -> messages.ListOpenDecisionsResponse:
    return messages.ListOpenDecisionsResponse(
        decisions=[
            messages.OpenDecision(
                decision_id=found.decision_id,
                session_id=found.session_id,
                tool_call_id=found.tool_call_id,
                hold=_HOLDS[found.state],
                redeemed=found.redeemed,
                expires_at=timestamp(found.expires_at),
            )
            for found in decisions
        ]
    )


def outcome_number(outcome: Outcome | None) -> messages.Outcome.ValueType:
    return messages.OUTCOME_UNSPECIFIED if outcome is None else _OUTCOME_NUMBERS[outcome]
