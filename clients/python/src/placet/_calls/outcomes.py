"""What became of decisions: ReportOutcome, Redeem, ListOpenDecisions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from placet._calls.action import Hops, chain_message, session_id_of, session_token_of
from placet._calls.call import Call, read_instant, reader
from placet._calls.fields import one_of, text
from placet._calls.jsontext import object_text
from placet._executed import Executed
from placet._wire.numbers import HOLD_STATES, OUTCOME_NUMBERS, OUTCOMES, REPORTABLE_OUTCOMES
from placet.errors import AnswerError, invalid
from placet.model import HoldState, OpenDecision, Outcome, Reported, Session
from placet.v1 import decision_service_pb2 as messages


def report_outcome(
    decision_id: str,
    outcome: Outcome | str,
    *,
    session: Session | str,
    chain: Hops = (),
    tool_call_id: str,
    output: bytes,
    attempt_id: str,
    executed: Executed,
) -> Call[Reported]:
    """Return the call that reports by `decision_id`, or else by session and tool call.

    With `decision_id`, session and chain only prove that the caller has part in the decision's session. A
    decision that is reported as executed is added to `executed` once the PDP has taken the report.
    """
    request = messages.ReportOutcomeRequest(
        outcome=_reportable(one_of(Outcome, outcome, "outcome")),
        output=output,
        attempt_id=text(attempt_id, "attempt_id"),
        session_token=session_token_of(session),
        chain=chain_message(chain),
    )
    if decision_id:
        request.decision_id = text(decision_id, "decision_id")
    else:
        request.session_id = session_id_of(session)
        request.tool_call_id = text(tool_call_id, "tool_call_id")

    def read(answer: messages.ReportOutcomeResponse) -> Reported:
        reported = Reported(
            decision_id=answer.decision_id, hold=_read_hold(answer.hold), conflict=answer.conflict
        )
        if outcome == Outcome.EXECUTED and not reported.conflict:
            executed.add(reported.decision_id)
        return reported

    return Call(request=request, read=reader(messages.ReportOutcomeResponse, read))


def redeem(decision_id: str, *, tool: str, arguments: Mapping[str, Any] | bytes, audience: str) -> Call[None]:
    """Return the call that uses an allow; its answer must name this very decision."""

    def read(answer: messages.RedeemResponse) -> None:
        if answer.decision_id != decision_id:
            raise AnswerError("the answer is about another decision")

    return Call(
        request=messages.RedeemRequest(
            decision_id=text(decision_id, "decision_id"),
            tool=text(tool, "tool"),
            arguments=object_text(arguments, "arguments"),
            audience=text(audience, "audience"),
        ),
        read=reader(messages.RedeemResponse, read),
    )


def list_open_decisions(*, after: str) -> Call[tuple[OpenDecision, ...]]:
    return Call(
        request=messages.ListOpenDecisionsRequest(after=text(after, "after")),
        read=reader(messages.ListOpenDecisionsResponse, _read_open_decisions),
    )


def read_outcome(number: int) -> Outcome | None:
    """Return what became of a decision; None: nobody said."""
    if number == messages.OUTCOME_UNSPECIFIED:
        return None
    if number not in OUTCOMES:
        raise AnswerError(f"the answer's outcome {number} is none that this client knows")
    return OUTCOMES[number]


def _reportable(outcome: Outcome) -> messages.Outcome.ValueType:
    if outcome not in REPORTABLE_OUTCOMES.values():
        raise invalid("outcome", f"{outcome} is the server's own finding")
    return OUTCOME_NUMBERS[outcome]


def _read_hold(number: int) -> HoldState:
    if number not in HOLD_STATES:
        raise AnswerError(f"the answer's hold {number} is none that this client knows")
    return HOLD_STATES[number]


def _read_open_decisions(answer: messages.ListOpenDecisionsResponse) -> tuple[OpenDecision, ...]:
    return tuple(
        OpenDecision(
            decision_id=found.decision_id,
            session_id=found.session_id,
            tool_call_id=found.tool_call_id,
            hold=_read_hold(found.hold),
            redeemed=found.redeemed,
            expires_at=read_instant(found.expires_at, "expires_at"),
        )
        for found in answer.decisions
    )
