"""Decisions: the action that is asked about, and the answer."""

from __future__ import annotations

from dataclasses import replace

from pdp.authority.shown import number_text
from pdp.decision.reading import ShownDecision
from pdp.errors import InvalidFieldError
from pdp.jsontext import arguments_json
from pdp.model import (
    Action,
    Caller,
    Decision,
    EvaluationRequest,
    Obligation,
    Receipt,
    Role,
    Simulation,
)
from pdp.names import name, optional_name, text
from pdp.server.messages.chains import chain_hop_messages, hops, token_hash
from pdp.server.messages.fields import MAX_ITEMS, MAX_TEXT, json_object, timestamp
from placet._wire.numbers import EFFECT_NUMBERS, OUTCOME_NUMBERS
from placet._wire.reasons import limit_message, reason_message
from placet.v1 import decision_pb2 as nouns
from placet.v1 import decision_service_pb2 as messages


def evaluation_request(
    message: messages.EvaluateRequest, *, caller: Caller, deadline: float
) -> EvaluationRequest:
    """Return what is asked. `deadline` is an instant of `time.monotonic()`."""
    if not message.HasField("action"):
        raise InvalidFieldError("action", "is required")
    return EvaluationRequest(
        caller=caller,
        action=_action(message.action),
        session_id=name(message.session_id, "session_id"),
        deadline=deadline,
        hops=hops(message.chain),
        review_id=optional_name(message.review_id, "review_id") or None,
        attempt_id=optional_name(message.attempt_id, "attempt_id"),
        audience=optional_name(message.audience, "audience"),
        session_token_hash=token_hash(message),
    )


def simulated_request(
    message: messages.SimulateRequest, *, tenant: str, deadline: float
) -> EvaluationRequest:
    """Return the request as its simulated caller would send it, to be answered by `deadline`."""
    if not message.HasField("request"):
        raise InvalidFieldError("request", "is required")
    if not message.HasField("caller"):
        raise InvalidFieldError("caller", "is required")
    if len(message.caller.agents) > MAX_ITEMS:
        raise InvalidFieldError("caller.agents", f"has more than {MAX_ITEMS} entries")
    caller = Caller(
        tenant=tenant,
        subject=name(message.caller.subject, "caller.subject"),
        roles=frozenset({Role.AGENT}),
        agents=frozenset(
            name(agent, f"caller.agents[{index}]") for index, agent in enumerate(message.caller.agents)
        ),
        claims=json_object(message.caller.claims, "caller.claims", required=False),
    )
    try:
        request = evaluation_request(message.request, caller=caller, deadline=deadline)
        # Whoever simulates another's call has no secret of its session.
        return replace(request, proof_supposed=True)
    except InvalidFieldError as exc:
        raise InvalidFieldError(f"request.{exc.field}", exc.reason) from exc


def decision_id(message: messages.GetDecisionRequest | messages.GetChainRequest) -> str:
    return name(message.decision_id, "decision_id")


def decision_message(decision: Decision, receipt: Receipt) -> nouns.Decision:
    """Return the message. It has the salt of secrets if the receipt has it: in an answer to whoever asked."""
    message = nouns.Decision(
        decision_id=decision.decision_id,
        effect=EFFECT_NUMBERS[decision.effect],
        reasons=[reason_message(reason) for reason in decision.reasons],
        obligations=[_obligation_message(obligation) for obligation in decision.obligations],
        model_text=decision.model_text,
        session_id=decision.session_id,
        tool_call_id=decision.tool_call_id,
        decided_at=timestamp(decision.decided_at),
        expires_at=timestamp(decision.expires_at),
        policy=nouns.PolicyRevision(bundle=decision.policy.bundle, revision=decision.policy.revision),
        data_revisions=dict(decision.data_revisions),
        session_version=decision.session_version,
        retryable=decision.retryable,
        attempt_id=decision.attempt_id,
        replayed=decision.replayed,
        receipt=nouns.Receipt(token=receipt.token),
        chain=chain_hop_messages(decision),
        secret_salt=receipt.secret_salt,
    )
    if decision.retry_after is not None:
        message.retry_after.FromTimedelta(decision.retry_after)
    if receipt.position is not None:
        message.receipt.position.writer = receipt.position.writer
        message.receipt.position.seq = receipt.position.seq
    return message


def shown_message(shown: ShownDecision) -> messages.GetDecisionResponse:
    return messages.GetDecisionResponse(
        decision=decision_message(shown.decision, shown.receipt),
        input_document=shown.input_document,
        outcome=messages.OUTCOME_UNSPECIFIED if shown.outcome is None else OUTCOME_NUMBERS[shown.outcome],
        redeemed=shown.redeemed,
        amount="" if shown.amount is None else number_text(shown.amount.minor, shown.amount.currency),
        currency="" if shown.amount is None else shown.amount.currency,
        limits=[limit_message(limit) for limit in shown.limits],
    )


def simulation_message(simulation: Simulation) -> messages.SimulateResponse:
    message = messages.SimulateResponse(
        would_be=EFFECT_NUMBERS[simulation.would_be],
        reasons=[reason_message(reason) for reason in simulation.reasons],
        obligations=[_obligation_message(obligation) for obligation in simulation.obligations],
        policy=nouns.PolicyRevision(bundle=simulation.policy.bundle, revision=simulation.policy.revision),
        data_revisions=dict(simulation.data_revisions),
        input_document=simulation.input_document,
    )
    if simulation.retry_after is not None:
        message.retry_after.FromTimedelta(simulation.retry_after)
    return message


def _action(message: nouns.Action) -> Action:
    return Action(
        tool=name(message.tool, "action.tool"),
        arguments=json_object(message.arguments, "action.arguments", required=True),
        tool_call_id=name(message.tool_call_id, "action.tool_call_id"),
        intent=text(message.intent, "action.intent", MAX_TEXT),
        claimed_resource=text(message.resource, "action.resource", 1024),
        provenance=json_object(message.provenance, "action.provenance", required=False),
    )


def _obligation_message(obligation: Obligation) -> nouns.Obligation:
    return nouns.Obligation(id=obligation.id, properties=arguments_json(obligation.properties))
