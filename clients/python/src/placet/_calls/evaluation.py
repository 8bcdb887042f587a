"""The calls whose answers are judged before they are believed: Evaluate, EvaluateBatch, GetDecision."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from placet._calls.action import Hops, chain_message, checked_action, session_id_of
from placet._calls.answers import PlanQuestion, Question, ask, failed, recorded
from placet._calls.call import Call
from placet._calls.context import CallContext
from placet._calls.fields import text
from placet.errors import InvalidRequestError, PlacetError, invalid
from placet.model import Action, Decision, Session
from placet.v1 import decision_service_pb2 as messages


@dataclass(frozen=True, kw_only=True, slots=True)
class Asking:
    """A call of Evaluate, and the block that a failure of it becomes. `timeout` is in seconds."""

    call: Call[Decision]
    question: Question
    timeout: float

    def failed(self, error: PlacetError) -> Decision:
        return failed(error, self.question.request)


@dataclass(frozen=True, kw_only=True, slots=True)
class AskingPlan:
    """A call of EvaluateBatch, and the blocks that a failure of it becomes. `timeout` is in seconds."""

    call: Call[tuple[Decision, ...]]
    question: PlanQuestion
    timeout: float

    def failed(self, error: PlacetError) -> tuple[Decision, ...]:
        return self.question.failed(error)


def evaluate(
    context: CallContext,
    action: Action | Mapping[str, Any],
    *,
    session: Session | str,
    chain: Hops,
    review_id: str | None,
    attempt_id: str | None,
    audience: str,
    timeout: float | None,
) -> Asking | Decision:
    """Return the call; or at once the block, for what cannot be asked."""
    request: messages.EvaluateRequest | None = None
    try:
        question = ask(
            checked_action(action),
            session_id=session_id_of(session),
            chain=chain_message(chain),
            review_id=review_id or "",
            attempt_id=attempt_id or "",
            audience=audience,
            attempts=context.attempts,
            checks=context.checks,
        )
        request = question.request
        return Asking(
            question=question,
            call=Call(request=request, read=question.decision),
            timeout=context.deadline(timeout),
        )
    except PlacetError as exc:
        return failed(exc, request)


def evaluate_plan(
    context: CallContext,
    actions: Iterable[Action | Mapping[str, Any]],
    *,
    session: Session | str,
    chain: Hops,
    all_or_nothing: bool,
    attempt_id: str | None,
    audience: str,
    timeout: float | None,
) -> AskingPlan | tuple[Decision, ...]:
    """Return the call; or at once the blocks, for what cannot be asked."""
    asked = list(actions)
    if not asked:
        return ()
    try:
        sent = chain_message(chain)
        named = session_id_of(session)
        attempt = attempt_id or uuid4().hex
        questions = []
        for index, item in enumerate(asked):
            try:
                questions.append(
                    ask(
                        checked_action(item),
                        session_id=named,
                        chain=sent,
                        review_id="",
                        attempt_id=attempt,
                        audience=audience,
                        attempts=context.attempts,
                        checks=context.checks,
                    )
                )
            except InvalidRequestError as exc:
                (violation,) = exc.violations
                raise invalid(f"items[{index}].{violation.field}", violation.description) from exc
        question = PlanQuestion(questions=tuple(questions), all_or_nothing=all_or_nothing)
        return AskingPlan(
            question=question,
            call=Call(request=question.request(), read=question.decisions),
            timeout=context.deadline(timeout),
        )
    except PlacetError as exc:
        return tuple(failed(exc, None) for _ in asked)


def get_decision(context: CallContext, decision_id: str) -> Call[Decision]:
    """Ask for a recorded decision, to read and not to act on."""
    return Call(
        request=messages.GetDecisionRequest(decision_id=text(decision_id, "decision_id")),
        read=lambda data: recorded(data, context.checks, decision_id),
    )
