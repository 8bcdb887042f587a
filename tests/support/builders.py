"""Builders of valid values of the model: a test names only what matters to it."""

from __future__ import annotations

import itertools
import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from pdp.model import (
    JSON,
    Action,
    Agent,
    Aggregates,
    AmountLimit,
    AmountRole,
    AmountUnit,
    Attribution,
    Boundary,
    Caller,
    Decision,
    DecisionKey,
    Effect,
    EntityAttribute,
    EntityName,
    EntityQuery,
    EntityRef,
    EntityRole,
    EvaluationRequest,
    FactsRequest,
    Hop,
    Normalisation,
    PolicyRevision,
    PrerequisiteKey,
    Reason,
    Receipt,
    Recording,
    Reservation,
    ResourceRule,
    Role,
    Session,
    SessionMove,
    SessionProof,
    SessionState,
    Task,
    Tool,
    ToolEffect,
    Verdict,
    session_token_hash,
)
from placet.normalise import NormalisationStep

NOW = datetime(2026, 11, 24, 10, tzinfo=UTC)
TENANT = "acme"
AGENT = "agent:payer"
ISSUER = "svc-issuer"
PRINCIPAL = "user:anna"
AUTHOR = Attribution(subject="ops", issuer="https://id.example.org", reason="for a test")
# Generous: the disk stalls for seconds now and then.
SECONDS = 30.0

EUROS = AmountRole(argument="amount", unit=AmountUnit.MAJOR, currency_argument="currency")

_counter = itertools.count(1)


def unique(prefix: str) -> str:
    return f"{prefix}-{next(_counter)}"


def deadline(seconds: float = SECONDS) -> float:
    return time.monotonic() + seconds


def caller(
    *,
    tenant: str = TENANT,
    subject: str = "svc-ap",
    roles: frozenset[Role] = frozenset({Role.AGENT}),
    agents: frozenset[str] = frozenset({AGENT}),
    tools: frozenset[str] = frozenset(),
    audiences: frozenset[str] = frozenset(),
) -> Caller:
    return Caller(
        tenant=tenant, subject=subject, roles=roles, agents=agents, tools=tools, audiences=audiences
    )


def boundary(
    *,
    tools: tuple[str, ...] = ("payments.create",),
    effects: tuple[ToolEffect, ...] = (ToolEffect.READ,),
    resources: tuple[ResourceRule, ...] = (
        ResourceRule(type="invoice", id="INV-1001"),
        ResourceRule(type="vendor", prefix=""),
    ),
    amounts: tuple[AmountLimit, ...] = (AmountLimit(currency="EUR", per_action=Decimal("5000.00")),),
) -> Boundary:
    return Boundary(tools=tools, effects=effects, resources=resources, amounts=amounts)


def session(
    *,
    now: datetime = NOW,
    session_id: str | None = None,
    task: Task | None = None,
    principal: str = PRINCIPAL,
    agent: str = AGENT,
    issuer: str = ISSUER,
    lifetime: timedelta = timedelta(hours=1),
    state: SessionState = SessionState.OPEN,
    version: int = 1,
    bounds: Boundary | None = None,
    token_required: bool = False,
) -> Session:
    """Return a session; unless `token_required`, its agent needs no proof, as in one of an earlier server."""
    return Session(
        session_id=session_id or unique("session"),
        task=task or Task(id=unique("T"), description="Pay the invoice", prompt="please pay INV-1001"),
        principal=principal,
        agent=agent,
        issuer=issuer,
        boundary=boundary() if bounds is None else bounds,
        state=state,
        version=version,
        opened_at=now,
        expires_at=now + lifetime,
        token_required=token_required,
    )


def tool(
    name: str = "payments.create",
    *,
    effect: ToolEffect = ToolEffect.PAY,
    resource: str = "invoice:{invoice}",
    arguments_schema: str = '{"type": "object", "properties": {"invoice": {"type": "string"}}}',
    amount: AmountRole | None = EUROS,
    secret_arguments: tuple[str, ...] = (),
) -> Tool:
    return Tool(
        name=name,
        effect=effect,
        resource=resource,
        arguments_schema=arguments_schema,
        amount=amount,
        secret_arguments=secret_arguments,
        description="Pays an invoice",
    )


def payment_tool() -> Tool:
    """Return a tool that pays an invoice to its vendor, measured against the invoice's order."""
    return replace(
        tool(arguments_schema='{"type": "object"}'),
        normalise=(
            Normalisation(
                argument="invoice",
                steps=(NormalisationStep.TRIM, NormalisationStep.UPPER, NormalisationStep.HYPHENATE),
            ),
        ),
        entities=(
            EntityRef(
                name="invoice",
                type="invoice",
                id="{invoice}",
                role=EntityRole.RECORD,
                amount_attribute="amount",
                currency_attribute="currency",
            ),
            EntityRef(
                name="vendor",
                type="vendor",
                id="{vendor}",
                role=EntityRole.COUNTERPARTY,
                must_match=EntityAttribute(entity="invoice", attribute="vendor"),
            ),
            EntityRef(
                name="order",
                type="po",
                via=EntityAttribute(entity="invoice", attribute="po"),
                role=EntityRole.ORDER,
                amount_attribute="open",
            ),
        ),
    )


def agent(name: str = AGENT, *, owner: str = "ap", trust: Decimal | None = Decimal("0.82")) -> Agent:
    return Agent(
        agent=name, owner=owner, trust=trust, trust_explanation="attested", model="m-1", version="2026-11"
    )


def action(
    tool: str = "payments.create",
    *,
    arguments: Mapping[str, JSON] | None = None,
    tool_call_id: str | None = None,
    intent: str = "",
    claimed_resource: str = "",
) -> Action:
    return Action(
        tool=tool,
        arguments={"invoice": "INV-1001", "amount": Decimal("1200.00"), "currency": "EUR"}
        if arguments is None
        else arguments,
        tool_call_id=tool_call_id or unique("call"),
        intent=intent,
        claimed_resource=claimed_resource,
    )


def evaluation(
    session_id: str,
    *,
    by: Caller | None = None,
    what: Action | None = None,
    hops: tuple[Hop, ...] = (),
    seconds: float = SECONDS,
    attempt_id: str = "",
) -> EvaluationRequest:
    return EvaluationRequest(
        caller=by or caller(),
        action=what or action(),
        session_id=session_id,
        deadline=deadline(seconds),
        hops=hops,
        attempt_id=attempt_id,
    )


def shown(session_token: str = "", *hops: Hop) -> dict[str, Any]:
    """Return how a caller proves its part in a session to the methods that ask for it, in time."""
    token_hash = session_token_hash(session_token) if session_token else ""
    return {"proof": SessionProof(token_hash=token_hash, hops=hops), "deadline": deadline()}


def key(
    session_id: str,
    *,
    tenant: str = TENANT,
    by: str = "svc-ap",
    leaf_grant: str = "",
    tool_call_id: str | None = None,
    review_id: str | None = None,
) -> DecisionKey:
    return DecisionKey(
        tenant=tenant,
        session_id=session_id,
        caller=by,
        leaf_grant=leaf_grant,
        tool_call_id=tool_call_id or unique("call"),
        review_id=review_id,
    )


def facts_request(
    of: DecisionKey,
    *,
    tool: str = "payments.create",
    agents: tuple[str, ...] = (AGENT,),
    seconds: float = SECONDS,
    entities: tuple[EntityQuery, ...] = (),
) -> FactsRequest:
    return FactsRequest(key=of, tool=tool, agents=agents, deadline=deadline(seconds), entities=entities)


def verdict(effect: Effect = Effect.ALLOW, code: str = "task.within_boundary") -> Verdict:
    return Verdict(
        effect=effect,
        reasons=(Reason(code=code, effect=effect, message="Within the task's boundary."),),
        policy=PolicyRevision(bundle="placet", revision="test"),
    )


def decision(
    of: DecisionKey,
    *,
    effect: Effect = Effect.ALLOW,
    decision_id: str | None = None,
    decided_at: datetime = NOW,
    session_version: int = 0,
    retryable: bool = False,
) -> Decision:
    judged = verdict(effect)
    return Decision(
        decision_id=decision_id or unique("decision"),
        effect=effect,
        reasons=judged.reasons,
        session_id=of.session_id,
        tool_call_id=of.tool_call_id,
        decided_at=decided_at,
        expires_at=decided_at + timedelta(seconds=60),
        policy=judged.policy,
        data_revisions={"settings": 1, "tools": 1, "agents": 1, "signals": 0},
        model_text="",
        session_version=session_version,
        retryable=retryable,
    )


def recording(
    of: DecisionKey,
    *,
    effect: Effect = Effect.ALLOW,
    epoch: int,
    moves: Session | None = None,
    aggregates: Aggregates | None = None,
    must_be_live: bool | None = None,
    prior_decision_id: str | None = None,
    claims_key: bool = True,
    decided_at: datetime = NOW,
    seconds: float = SECONDS,
    retryable: bool = False,
    fingerprint: bytes = b"\x01" * 32,
    input_document: bytes = b'{"tenant": "acme"}',
    reservation: Reservation | None = None,
    own_keys: tuple[PrerequisiteKey, ...] = (),
    entities: Mapping[EntityName, int] | None = None,
    acted_on: str | None = None,
) -> Recording:
    """Return the recording of a decision on `of`; `moves` is the session as it was read, if it is moved."""
    move = None
    if moves is not None:
        if aggregates is None:
            before = moves.aggregates
            aggregates = Aggregates(
                allow=before.allow + (effect is Effect.ALLOW),
                block=before.block + (effect is Effect.BLOCK),
                escalate=before.escalate + (effect is Effect.ESCALATE),
                pay=before.pay,
            )
        move = SessionMove(
            session_id=moves.session_id,
            version=moves.version,
            expires_at=moves.expires_at,
            aggregates=aggregates,
            must_be_live=effect is Effect.ALLOW if must_be_live is None else must_be_live,
        )
    taken = decision(
        of,
        effect=effect,
        decided_at=decided_at,
        session_version=moves.version + 1 if moves is not None else 0,
        retryable=retryable,
    )
    signed = f"eyJ0.{taken.decision_id}.c2ln".encode()
    return Recording(
        key=of,
        decision=taken,
        receipt=Receipt(token=signed + b"~WyJkaXNjbG9zdXJlIl0~"),
        action_fingerprint=fingerprint,
        input_document=input_document,
        epoch=epoch,
        prior_decision_id=prior_decision_id,
        claims_key=claims_key,
        move=move,
        deadline=deadline(seconds),
        reservation=reservation,
        own_keys=own_keys,
        entities=entities or {},
        acted_on=of.leaf_grant if acted_on is None else acted_on,
    )
