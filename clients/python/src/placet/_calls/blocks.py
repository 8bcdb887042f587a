"""The block that a failure becomes, so that whoever asked need not tell failures from answers."""

from __future__ import annotations

from placet.errors import InvalidRequestError, PdpUnavailable, PlacetError
from placet.model import Decision, Effect, Reason, Remedy
from placet.model._wording import model_text
from placet.v1 import decision_service_pb2 as decisions

_MESSAGES = {
    "client.unreachable": "The policy decision point cannot be reached.",
    "client.deadline": "The policy decision point did not answer in time.",
    "client.overloaded": "The policy decision point has too much to do.",
    "client.contended": "Others moved the session at the same time.",
    "client.refused": "The policy decision point refused the request.",
    "client.malformed": "The answer is malformed.",
    "client.unknown_effect": "The answer has an effect that this client does not know.",
    "client.unknown_obligation": "The answer has an obligation that this client does not understand.",
    "client.receipt_mismatch": "The receipt is missing or is not for this answer to this action.",
    "client.failed": "The policy decision point failed.",
}
_RETRYABLE = frozenset({"client.unreachable", "client.deadline", "client.overloaded", "client.contended"})
# What an agent's own call may be refused for; whoever wrote the agent mends the rest of a request.
_OF_THE_CALL = ("action.arguments", "arguments")


def block_for(
    error: PlacetError, request: decisions.EvaluateRequest | None, *, answer: Decision | None = None
) -> Decision:
    """Return the block for a failure. What the answer said, if any, stays readable."""
    code = error.block_code
    retryable = code in _RETRYABLE
    decision_id = answer.decision_id if answer is not None else ""
    failure = PdpUnavailable(
        str(error),
        code=error.code,
        reason=error.reason,
        violations=error.violations,
        retry_after=error.retry_after,
        request_id=error.request_id,
    )
    failure.__cause__ = error
    reason = Reason(
        code=code,
        effect=Effect.BLOCK,
        message=_MESSAGES[code],
        at=error.field,
        remedy=_remedy_of(error, retryable=retryable),
    )
    return Decision(
        effect=Effect.BLOCK,
        reasons=(reason, *(answer.reasons if answer is not None else ())),
        model_text=model_text(
            Effect.BLOCK, decision_id, (reason,), retryable=retryable, retry_after=error.retry_after
        ),
        decision_id=decision_id,
        obligations=answer.obligations if answer is not None else (),
        retry_after=error.retry_after,
        session_id=request.session_id if request is not None else "",
        tool_call_id=request.action.tool_call_id if request is not None else "",
        attempt_id=request.attempt_id if request is not None else "",
        retryable=retryable,
        receipt=answer.receipt if answer is not None else b"",
        failure=failure,
    )


def _remedy_of(error: PlacetError, *, retryable: bool) -> Remedy:
    """Return what can help against a failure."""
    if retryable:
        return Remedy.WAIT
    if isinstance(error, InvalidRequestError) and error.field.startswith(_OF_THE_CALL):
        return Remedy.CHANGE_CALL
    return Remedy.ASK
