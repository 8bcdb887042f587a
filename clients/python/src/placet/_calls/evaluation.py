"""The calls whose answers are judged before they are believed: Evaluate, EvaluateBatch, GetDecision."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from placet._calls.action import Hops, chain_message, checked_action, session_id_of, session_token_of
from placet._calls.answers import PlanQuestion, Question, ask, read_recorded
from placet._calls.blocks import block_for
from placet._calls.call import Call
from placet._calls.context import CallContext
from placet._calls.fields import text
from placet.errors import InvalidRequestError, PlacetError, invalid
from placet.model import Action, Decision, Session
from placet.v1 import decision_service_pb2 as messages


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluateCall:
    """A call of Evaluate, and the block that a failure of it becomes. `timeout` is in seconds."""

    call: Call[Decision]
    question: Question
    timeout: float

    def block_for(self, error: PlacetError) -> Decision:
        return block_for(error, self.question.request)


@dataclass(frozen=True, kw_only=True, slots=True)
class PlanCall:
    """A call of EvaluateBatch, and the blocks that a failure of it becomes. `timeout` is in seconds."""

    call: Call[tuple[Decision, ...]]
    question: PlanQuestion
    timeout: float

    def blocks_for(self, error: PlacetError) -> tuple[Decision, ...]:
        return self.question.blocks_for(error)


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
) -> EvaluateCall | Decision:
    """Return the call, or the block at once if it cannot be asked."""
    request: messages.EvaluateRequest | None = None
    try:
        question = ask(
            checked_action(action),
            session_id=session_id_of(session),
            chain=chain_message(chain),
            review_id=review_id or "",
            attempt_id=attempt_id or "",
            audience=audience,
            session_token=context.session_token(session),
            attempts=context.attempts,
            checks=context.checks,
        )
        request = question.request
        return EvaluateCall(
            question=question,
            call=Call(request=request, read=question.read),
            timeout=context.deadline(timeout),
        )
    except PlacetError as exc:
        return block_for(exc, request)


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
) -> PlanCall | tuple[Decision, ...]:
    """Return the call, or a block for each action at once if the plan cannot be asked."""
    asked = list(actions)
    if not asked:
        return ()
    try:
        sent = chain_message(chain)
        named, token = session_id_of(session), context.session_token(session)
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
                        session_token=token,
                        attempts=context.attempts,
                        checks=context.checks,
                    )
                )
            except InvalidRequestError as exc:
                (violation,) = exc.violations
                raise invalid(f"items[{index}].{violation.field}", violation.description) from exc
        question = PlanQuestion(questions=tuple(questions), all_or_nothing=all_or_nothing)
        return PlanCall(
            question=question,
            call=Call(request=question.request(), read=question.read),
            timeout=context.deadline(timeout),
        )
    except PlacetError as exc:
        return tuple(block_for(exc, None) for _ in asked)


def get_decision(
    context: CallContext, decision_id: str, session: Session | str, chain: Hops
) -> Call[Decision]:
    """Return the call for a recorded decision, which is to be read and not to be acted on."""
    return Call(
        request=messages.GetDecisionRequest(
            decision_id=text(decision_id, "decision_id"),
            session_token=session_token_of(session),
            chain=chain_message(chain),
        ),
        read=lambda data: read_recorded(data, context.checks, decision_id),
    )
