"""Plans: the next actions of a session, asked about together, and the answers."""

from __future__ import annotations

from collections.abc import Sequence

from pdp.errors import InvalidFieldError
from pdp.model import Caller, Decision, Effect, EvaluationRequest, Receipt
from pdp.names import unique
from pdp.server.messages.decisions import decision_message, evaluation_request
from placet.v1 import decision_service_pb2 as decisions

MAX_ITEMS = 32
# Fields of an Evaluate request that a plan has once, for every item.
_SHARED = ("session_id", "chain", "audience", "session_token")


def plan(
    message: decisions.EvaluateBatchRequest, *, caller: Caller, deadline: float
) -> tuple[EvaluationRequest, ...]:
    """Return the items as requests of their own, to be answered together by `deadline`."""
    if not 1 <= len(message.items) <= MAX_ITEMS:
        raise InvalidFieldError("items", f"has {len(message.items)} entries; from 1 to {MAX_ITEMS}")
    items = tuple(
        _item(message, item, f"items[{index}]", caller, deadline) for index, item in enumerate(message.items)
    )
    unique([item.action.tool_call_id for item in items], "items", "action.tool_call_id")
    return items


def _item(
    message: decisions.EvaluateBatchRequest,
    item: decisions.PlannedAction,
    path: str,
    caller: Caller,
    deadline: float,
) -> EvaluationRequest:
    request = decisions.EvaluateRequest(
        action=item.action if item.HasField("action") else None,
        session_id=message.session_id,
        chain=message.chain,
        review_id=item.review_id,
        attempt_id=item.attempt_id,
        audience=message.audience,
        session_token=message.session_token,
    )
    try:
        return evaluation_request(request, caller=caller, deadline=deadline)
    except InvalidFieldError as exc:
        if exc.field.startswith(_SHARED):
            raise
        raise InvalidFieldError(f"{path}.{exc.field}", exc.reason) from exc


def answer(decided: Sequence[tuple[Decision, Receipt]]) -> decisions.EvaluateBatchResponse:
    return decisions.EvaluateBatchResponse(
        decisions=[decision_message(decision, receipt) for decision, receipt in decided],
        all_allowed=all(decision.effect is Effect.ALLOW for decision, _ in decided),
    )
