"""Messages to domain values and back: total, and the only place where limits on input stand.

A message that is refused raises `InvalidFieldError` with the field's path.
"""

from __future__ import annotations

import calendar
import math
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from pdp.authority.boundary import MAX_RULES, parse_boundary
from pdp.delegation.point import MAX_GRANT
from pdp.errors import InvalidFieldError
from pdp.jsontext import arguments_json
from pdp.model import (
    MAX_CHAIN_DEPTH,
    Action,
    Agent,
    Boundary,
    Caller,
    ChainHop,
    Decision,
    Effect,
    EvaluationRequest,
    Hop,
    IssuerKeys,
    Obligation,
    Reason,
    Receipt,
    Role,
    Session,
    Signal,
    Simulation,
    Task,
    ToolEffect,
)
from pdp.names import MAX_DESCRIPTION, MAX_PROMPT, name, optional_name, text, unique
from pdp.sessions.allowed_tools import AllowedTools
from pdp.sessions.opening import OpeningRequest
from placet._wire.boundary import BoundaryError, boundary_message, message_json
from placet._wire.numbers import EFFECT_NUMBERS, SESSION_STATE_NUMBERS, TOOL_EFFECT_NUMBERS, TOOL_EFFECTS
from placet.canonical import CanonicalError, canonical_json, parse_object, parse_value
from placet.task_token import MAX_BYTES as MAX_TASK_TOKEN
from placet.v1 import admin_service_pb2 as admin
from placet.v1 import decision_pb2 as nouns
from placet.v1 import decision_service_pb2 as decisions
from placet.v1 import session_service_pb2 as sessions

MAX_INTENT = 8 * 1024
# The root's and one a delegation.
MAX_HOPS = MAX_CHAIN_DEPTH + 1
MAX_ITEMS = 1_000
MAX_SIGNAL = 4 * 1024

# --- requests ----------------------------------------------------------------


def evaluation_request(
    message: decisions.EvaluateRequest, *, caller: Caller, deadline: float
) -> EvaluationRequest:
    """`deadline` is an instant of `time.monotonic()`."""
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
    )


def hops(message: nouns.DelegationChain) -> tuple[Hop, ...]:
    if len(message.hops) > MAX_HOPS:
        raise InvalidFieldError("chain.hops", f"has {len(message.hops)} hops; at most {MAX_HOPS}")
    return tuple(
        Hop(
            agent=name(hop.agent, f"chain.hops[{index}].agent"),
            grant=text(hop.grant, f"chain.hops[{index}].grant", MAX_GRANT),
        )
        for index, hop in enumerate(message.hops)
    )


def simulated_request(
    message: decisions.SimulateRequest, *, tenant: str, deadline: float
) -> EvaluationRequest:
    """The request as its simulated caller would send it; `deadline` as with `evaluation_request`."""
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
        claims=_object(message.caller.claims, "caller.claims", required=False),
    )
    try:
        return evaluation_request(message.request, caller=caller, deadline=deadline)
    except InvalidFieldError as exc:
        raise InvalidFieldError(f"request.{exc.field}", exc.reason) from exc


def decision_id(message: decisions.GetDecisionRequest | decisions.GetChainRequest) -> str:
    return name(message.decision_id, "decision_id")


def opening(message: sessions.OpenSessionRequest) -> OpeningRequest:
    return OpeningRequest(
        task=_task(message.task) if message.HasField("task") else None,
        principal=message.principal,
        agent=message.agent,
        boundary=boundary_of(message.boundary) if message.HasField("boundary") else None,
        expires_at=instant_of(message.expires_at, "expires_at") if message.HasField("expires_at") else None,
        principal_token=message.principal_token,
        task_token=text(message.task_token, "task_token", MAX_TASK_TOKEN),
    )


def _task(message: sessions.Task) -> Task:
    return Task(
        id=name(message.id, "task.id"),
        description=text(message.description, "task.description", MAX_DESCRIPTION),
        prompt=text(message.prompt, "task.prompt", MAX_PROMPT),
    )


def session_id(
    message: sessions.GetSessionRequest
    | sessions.CompleteTaskRequest
    | sessions.CloseSessionRequest
    | decisions.ListAllowedToolsRequest,
) -> str:
    return name(message.session_id, "session_id")


def end_reason(message: sessions.CompleteTaskRequest | sessions.CloseSessionRequest) -> str:
    return text(message.reason, "reason", MAX_INTENT)


def tenant(message: admin.PutTenantRequest, *, own: str) -> str:
    """The tenant that is named; the caller's own if none is."""
    return optional_name(message.tenant, "tenant") or own


def agents(message: admin.PutAgentsRequest) -> list[Agent]:
    _count(message.agents, "agents", least=1)
    result = []
    for index, agent in enumerate(message.agents):
        path = f"agents[{index}]"
        trust = None
        if agent.HasField("trust"):
            if math.isnan(agent.trust) or not 0 <= agent.trust <= 1:
                raise InvalidFieldError(f"{path}.trust", "must be a number from 0 to 1")
            trust = Decimal(str(round(agent.trust, 4)))
        result.append(
            Agent(
                agent=name(agent.agent, f"{path}.agent"),
                owner=optional_name(agent.owner, f"{path}.owner"),
                trust=trust,
                trust_explanation=text(agent.trust_explanation, f"{path}.trust_explanation", MAX_INTENT),
                model=optional_name(agent.model, f"{path}.model"),
                version=optional_name(agent.version, f"{path}.version"),
            )
        )
    unique([agent.agent for agent in result], "agents", "agent")
    return result


def signals(message: admin.PutSignalsRequest) -> list[Signal]:
    _count(message.signals, "signals", least=1)
    result = []
    for index, signal in enumerate(message.signals):
        path = f"signals[{index}]"
        try:
            value = parse_value(signal.value, field=f"{path}.value", max_bytes=MAX_SIGNAL)
        except CanonicalError as exc:
            raise InvalidFieldError(exc.field, exc.reason) from exc
        result.append(
            Signal(
                name=name(signal.name, f"{path}.name"),
                value=value,
                expires_at=instant_of(signal.expires_at, f"{path}.expires_at")
                if signal.HasField("expires_at")
                else None,
            )
        )
    unique([signal.name for signal in result], "signals", "name")
    return result


def revision(number: int, path: str) -> int | None:
    """A revision of the past; None for 0, which is now."""
    if number >= 2**63:
        raise InvalidFieldError(path, "is no revision")
    return number or None


def limit(number: int, *, default: int, most: int) -> int:
    if number > most:
        raise InvalidFieldError("limit", f"must be at most {most}")
    return number or default


def duration(message: Duration, field: str, *, most: timedelta) -> timedelta:
    # A message may hold more seconds than a timedelta can.
    seconds = min(message.seconds, most // timedelta(seconds=1) + 1)
    value = timedelta(seconds=max(seconds, -1), microseconds=message.nanos // 1000)
    if not timedelta(0) < value <= most:
        raise InvalidFieldError(field, f"must be more than zero and at most {most}")
    return value


# --- answers -----------------------------------------------------------------


def simulation_message(simulation: Simulation) -> decisions.SimulateResponse:
    message = decisions.SimulateResponse(
        would_be=EFFECT_NUMBERS[simulation.would_be],
        reasons=[_reason_message(reason) for reason in simulation.reasons],
        obligations=[_obligation_message(obligation) for obligation in simulation.obligations],
        policy=nouns.PolicyRevision(bundle=simulation.policy.bundle, revision=simulation.policy.revision),
        data_revisions=dict(simulation.data_revisions),
        input_document=simulation.input_document,
    )
    if simulation.retry_after is not None:
        message.retry_after.FromTimedelta(simulation.retry_after)
    return message


def decision_message(decision: Decision, receipt: Receipt) -> nouns.Decision:
    message = nouns.Decision(
        decision_id=decision.decision_id,
        effect=EFFECT_NUMBERS[decision.effect],
        reasons=[_reason_message(reason) for reason in decision.reasons],
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
    )
    if decision.retry_after is not None:
        message.retry_after.FromTimedelta(decision.retry_after)
    if receipt.position is not None:
        message.receipt.position.writer = receipt.position.writer
        message.receipt.position.seq = receipt.position.seq
    return message


def chain_hop_messages(decision: Decision) -> list[nouns.ChainHop]:
    messages = [_chain_hop_message(hop) for hop in decision.chain]
    if messages and messages[-1].verified:
        messages[-1].effect = EFFECT_NUMBERS[decision.effect]
    return messages


def _chain_hop_message(hop: ChainHop) -> nouns.ChainHop:
    if hop.unverified:
        return nouns.ChainHop(unverified=hop.unverified)
    return nouns.ChainHop(
        agent=hop.agent,
        delegated_by=hop.delegated_by,
        grant_hash=hop.grant_hash,
        depth=hop.depth,
        human_reviewed=hop.human_reviewed,
        same_runtime=hop.same_runtime,
        verified=True,
    )


def effect_number(effect: Effect) -> nouns.Effect.ValueType:
    return EFFECT_NUMBERS[effect]


def _reason_message(reason: Reason) -> nouns.Reason:
    return nouns.Reason(
        code=reason.code, effect=EFFECT_NUMBERS[reason.effect], message=reason.message, at=reason.at
    )


def _obligation_message(obligation: Obligation) -> nouns.Obligation:
    return nouns.Obligation(id=obligation.id, properties=arguments_json(obligation.properties))


def allowed_tools_message(allowed: AllowedTools) -> decisions.ListAllowedToolsResponse:
    return decisions.ListAllowedToolsResponse(
        tools=[
            decisions.AllowedTool(
                name=tool.name,
                description=tool.description,
                arguments_schema=tool.arguments_schema.encode(),
            )
            for tool in allowed.tools
        ],
        tools_revision=allowed.tools_revision,
        session_version=allowed.session_version,
    )


def session_message(session: Session, now: datetime) -> sessions.Session:
    """`now` is the database's time, by which the state is judged."""
    message = sessions.Session(
        session_id=session.session_id,
        task=sessions.Task(
            id=session.task.id, description=session.task.description, prompt=session.task.prompt
        ),
        principal=session.principal,
        agent=session.agent,
        issuer=session.issuer,
        boundary=boundary_message(session.boundary),
        template=None if session.template is None else boundary_message(session.template),
        state=SESSION_STATE_NUMBERS[session.state_at(now)],
        version=session.version,
        opened_at=timestamp(session.opened_at),
        expires_at=timestamp(session.expires_at),
        decisions={
            "allow": session.aggregates.allow,
            "block": session.aggregates.block,
            "escalate": session.aggregates.escalate,
        },
    )
    if session.completed_at is not None:
        message.completed_at.FromDatetime(session.completed_at)
    if session.closed_at is not None:
        message.closed_at.FromDatetime(session.closed_at)
    return message


def issuer_keys_message(issuer: IssuerKeys) -> admin.IssuerKeys:
    return admin.IssuerKeys(
        issuer=issuer.issuer,
        jwks=canonical_json({"keys": [dict(key) for key in issuer.keys]}),
        revision=issuer.revision,
        written_at=None if issuer.written_at is None else timestamp(issuer.written_at),
    )


def tool_effect_number(effect: ToolEffect) -> sessions.ToolEffect.ValueType:
    return TOOL_EFFECT_NUMBERS[effect]


def timestamp(instant: datetime) -> Timestamp:
    # Exact, and several times cheaper than FromDatetime.
    seconds = calendar.timegm(instant.utctimetuple())
    return Timestamp(seconds=seconds, nanos=instant.microsecond * 1000)


# --- parts -------------------------------------------------------------------


def _action(message: nouns.Action) -> Action:
    return Action(
        tool=name(message.tool, "action.tool"),
        arguments=_object(message.arguments, "action.arguments", required=True),
        tool_call_id=name(message.tool_call_id, "action.tool_call_id"),
        intent=text(message.intent, "action.intent", MAX_INTENT),
        claimed_resource=text(message.resource, "action.resource", 1024),
        provenance=_object(message.provenance, "action.provenance", required=False),
    )


def boundary_of(message: sessions.Boundary) -> Boundary:
    for field in ("tools", "effects", "resources", "amounts", "after_completion", "velocity"):
        if len(getattr(message, field)) > MAX_RULES:
            raise InvalidFieldError(f"boundary.{field}", f"has more than {MAX_RULES} entries")
    try:
        return parse_boundary(message_json(message), "boundary")
    except BoundaryError as exc:
        raise InvalidFieldError(exc.field, exc.reason) from exc


def tool_effect(number: int, path: str) -> ToolEffect:
    if number not in TOOL_EFFECTS:
        raise InvalidFieldError(path, "must be one of the known effects")
    return TOOL_EFFECTS[number]


def _object(text: bytes, path: str, *, required: bool) -> Mapping[str, Any]:
    if not text:
        if required:
            raise InvalidFieldError(path, "is required: a JSON object, {} for none")
        return {}
    try:
        return parse_object(text, field=path)
    except CanonicalError as exc:
        raise InvalidFieldError(exc.field, exc.reason) from exc


def instant_of(message: Timestamp, path: str) -> datetime:
    try:
        return message.ToDatetime(tzinfo=UTC)
    except (ValueError, OverflowError) as exc:
        raise InvalidFieldError(path, "is no instant that can be stored") from exc


def _count(items: Any, path: str, *, least: int) -> None:
    if not least <= len(items) <= MAX_ITEMS:
        raise InvalidFieldError(path, f"has {len(items)} entries; from {least} to {MAX_ITEMS}")
