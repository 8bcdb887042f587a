"""Outcomes: what became of allows, as it is reported, redeemed and listed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pdp.errors import InvalidFieldError
from pdp.model import JSON, OpenDecision, Outcome
from pdp.names import name, optional_name
from pdp.outcomes.point import RecordedReport
from pdp.server.messages.fields import timestamp
from placet._wire.numbers import HOLD_STATE_NUMBERS, REPORTABLE_OUTCOMES
from placet.canonical import CanonicalError, parse_object
from placet.v1 import decision_service_pb2 as messages

MAX_OUTPUT = 256 * 1024
MAX_PAGE, PAGE = 1_000, 100


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """What is reported, of the decision `decision_id`, or of the call that the other two name."""

    outcome: Outcome
    decision_id: str
    session_id: str
    tool_call_id: str
    output: bytes
    attempt_id: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Redemption:
    """What a tool server is about to do on an allow."""

    decision_id: str
    tool: str
    arguments: Mapping[str, JSON]
    audience: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Page:
    """Which decisions of a list are asked for: `limit` at most, from the first after `after` on."""

    after: str
    limit: int


def report(message: messages.ReportOutcomeRequest) -> Report:
    if message.outcome not in REPORTABLE_OUTCOMES:
        raise InvalidFieldError("outcome", "must be one of the outcomes that can be reported")
    decision_id = optional_name(message.decision_id, "decision_id")
    if decision_id and (message.session_id or message.tool_call_id):
        raise InvalidFieldError("decision_id", "give it, or session_id and tool_call_id, not both")
    if len(message.output) > MAX_OUTPUT:
        raise InvalidFieldError("output", f"is longer than {MAX_OUTPUT} bytes")
    return Report(
        outcome=REPORTABLE_OUTCOMES[message.outcome],
        decision_id=decision_id,
        session_id="" if decision_id else name(message.session_id, "session_id"),
        tool_call_id="" if decision_id else name(message.tool_call_id, "tool_call_id"),
        output=message.output,
        attempt_id=optional_name(message.attempt_id, "attempt_id"),
    )


def report_message(recorded: RecordedReport) -> messages.ReportOutcomeResponse:
    return messages.ReportOutcomeResponse(
        decision_id=recorded.decision_id,
        hold=HOLD_STATE_NUMBERS[recorded.hold.state],
        conflict=recorded.conflict,
    )


def redemption(message: messages.RedeemRequest) -> Redemption:
    decision_id = name(message.decision_id, "decision_id")
    try:
        arguments = parse_object(message.arguments, field="arguments")
    except CanonicalError as exc:
        raise InvalidFieldError(exc.field, exc.reason) from exc
    return Redemption(
        decision_id=decision_id,
        tool=name(message.tool, "tool"),
        arguments=arguments,
        audience=optional_name(message.audience, "audience"),
    )


def page(message: messages.ListOpenDecisionsRequest) -> Page:
    if message.page_size > MAX_PAGE:
        raise InvalidFieldError("page_size", f"is more than {MAX_PAGE}")
    return Page(after=optional_name(message.after, "after"), limit=message.page_size or PAGE)


def open_message(decisions: Sequence[OpenDecision]) -> messages.ListOpenDecisionsResponse:
    return messages.ListOpenDecisionsResponse(
        decisions=[
            messages.OpenDecision(
                decision_id=found.decision_id,
                session_id=found.session_id,
                tool_call_id=found.tool_call_id,
                hold=HOLD_STATE_NUMBERS[found.state],
                redeemed=found.redeemed,
                expires_at=timestamp(found.expires_at),
            )
            for found in decisions
        ]
    )
