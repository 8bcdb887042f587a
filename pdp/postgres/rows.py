"""The model's values in the forms that the tables hold, and back; the columns of values that several
statements read."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any

import orjson

from pdp.action.registration import read_details, registration
from pdp.authority.boundary import intern_boundary, read_boundary
from pdp.authority.transitions import counts_as_executed
from pdp.model import (
    JSON,
    Agent,
    Aggregates,
    Amount,
    AmountRole,
    AmountUnit,
    Attribution,
    Boundary,
    Bucket,
    Counter,
    CounterKey,
    DecisionKey,
    Effect,
    EntityName,
    GrantRow,
    Ground,
    Hold,
    HoldState,
    Outcome,
    Position,
    PrerequisiteAllow,
    PrerequisiteKey,
    PrerequisiteUse,
    PriorAnswer,
    PriorDecision,
    Session,
    SessionState,
    Task,
    Terms,
    Tool,
    ToolEffect,
    ToolOutline,
)
from pdp.postgres.access.connection import storable
from pdp.postgres.columns import Columns
from placet._wire.boundary import boundary_json


def json_text(value: JSON) -> str:
    """Return `value` as JSON text, in ASCII; a Decimal is a number, digit for digit.

    Unlike `pdp.jsontext`, which is for arguments and faster, it takes integers of any size, exponents as they
    are, and lone surrogates. Raises ValueError for a number that is not finite, TypeError for a float.
    """
    if isinstance(value, Decimal):
        if not value.is_finite():
            raise ValueError("JSON has no such number")
        return str(value)
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{json.dumps(k)}:{json_text(v)}" for k, v in value.items()) + "}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "[" + ",".join(json_text(item) for item in value) + "]"
    if isinstance(value, float):
        raise TypeError("a float is not a JSON value here")
    return json.dumps(value)


def _no_constant(text: str) -> Any:
    raise ValueError(f"{text} is not JSON")


def json_value(text: str | bytes) -> Any:
    """Return JSON text as a value; numbers are int or Decimal. Raises ValueError."""
    return json.loads(text, parse_float=Decimal, parse_constant=_no_constant)


def boundary_text(boundary: Boundary) -> str:
    """Return the boundary as JSON text, decimals as strings."""
    return json.dumps(boundary_json(boundary), separators=(",", ":"))


@lru_cache(maxsize=1024)
def boundary_from(text: str) -> Boundary:
    """Inverse of `boundary_text`. The cache is of the parsing alone: equal text, equal boundary."""
    return intern_boundary(read_boundary(json.loads(text)))


@lru_cache(maxsize=512)
def buckets_text(buckets: tuple[Bucket, ...]) -> str:
    """Return the buckets as JSON text. Cached: most decisions leave a session's as they are."""
    return orjson.dumps([tuple(bucket) for bucket in buckets]).decode()


@lru_cache(maxsize=512)
def buckets_from(text: str) -> tuple[Bucket, ...]:
    """Inverse of `buckets_text`. The cache is of the parsing alone: equal text, equal buckets."""
    return () if text == "[]" else tuple(map(Bucket._make, orjson.loads(text)))


def totals_text(totals: Sequence[tuple[CounterKey, int]]) -> str:
    """Return as JSON text what a release gives back, `[[scope, unit, amount], …]`."""
    return json.dumps([[key.scope, key.unit, add] for key, add in totals], separators=(",", ":"))


def totals_from(text: str) -> tuple[tuple[CounterKey, int], ...]:
    return tuple((CounterKey(scope=scope, unit=unit), add) for scope, unit, add in json.loads(text))


def conflicts_text(conflicts: Sequence[tuple[Outcome, bool]]) -> str:
    """Return contradicting reports as JSON text, each `[outcome, whether it can be believed]`."""
    return json.dumps(conflicts, separators=(",", ":"))


def conflicts_from(text: str) -> tuple[tuple[Outcome, bool], ...]:
    return tuple((Outcome(outcome), believed) for outcome, believed in json.loads(text))


def ground_text(ground: Ground | None) -> str | None:
    if ground is None:
        return None
    return json.dumps(
        {
            "epoch": ground.epoch,
            "settings": ground.settings,
            "signals": ground.signals,
            "tool": ground.tool,
            "agents": dict(ground.agents),
            "entities": [[name.type, name.id, of] for name, of in ground.entities.items()],
            "counted": [[key.scope, key.unit, add] for key, add in ground.counted],
        },
        separators=(",", ":"),
    )


def ground_from(text: str | None) -> Ground | None:
    if text is None:
        return None
    form = json.loads(text)
    return Ground(
        epoch=form["epoch"],
        settings=form["settings"],
        signals=form["signals"],
        tool=form["tool"],
        agents=form["agents"],
        entities={EntityName(type=kind, id=name): of for kind, name, of in form["entities"]},
        counted=tuple((CounterKey(scope=scope, unit=unit), add) for scope, unit, add in form["counted"]),
    )


def full_receipt(jws: bytes, disclosures: bytes | None) -> bytes:
    """Return a receipt as it was given out; without its disclosures where those were erased."""
    return jws + (b"~" if disclosures is None else disclosures)


def _attribution(written_by: str, written_by_issuer: str | None, reason: str | None) -> Attribution:
    """Return who wrote a revision. Releases that kept no issuer kept no reason either."""
    return Attribution(subject=written_by, issuer=written_by_issuer, reason=reason or "")


# The author's columns of the histories. All are NULL where an earlier release wrote the registry's.
ATTRIBUTION = Columns(_attribution)


def _session(
    session_id: str,
    task_id: str,
    task_description: str,
    task_prompt: str,
    principal: str,
    agent: str,
    issuer: str,
    boundary: str,
    state: str,
    version: int,
    opened_at: datetime,
    expires_at: datetime,
    closed_at: datetime | None,
    allowed: int,
    blocked: int,
    escalated: int,
    pay: str,
    last_receipt: bytes | None,
    completed_at: datetime | None,
    template: str | None,
    token_required: bool,
    proofs_revoked_at: datetime | None,
    proofs_ended: bool,
) -> Session:
    return Session(
        session_id=session_id,
        task=Task(id=task_id, description=task_description, prompt=task_prompt),
        principal=principal,
        agent=agent,
        issuer=issuer,
        boundary=boundary_from(boundary),
        state=SessionState(state),
        version=version,
        opened_at=opened_at,
        expires_at=expires_at,
        closed_at=closed_at,
        aggregates=Aggregates(allow=allowed, block=blocked, escalate=escalated, pay=buckets_from(pay)),
        last_receipt=last_receipt,
        completed_at=completed_at,
        template=None if template is None else boundary_from(template),
        token_required=token_required,
        proofs_revoked_at=proofs_revoked_at,
        proofs_ended=proofs_ended,
    )


@lru_cache(maxsize=4096)
def _tool(
    name: str,
    effect: str,
    resource: str,
    arguments_schema: str,
    amount_argument: str | None,
    amount_unit: str | None,
    amount_currency_argument: str | None,
    amount_currency_code: str | None,
    secret_arguments: tuple[str, ...],
    description: str,
    revision: int,
    details: str,
) -> Tool:
    """The cache is of the parsing alone: equal rows, the same object."""
    members = json.loads(details)
    amount = None
    if amount_argument is not None:
        amount = AmountRole(
            argument=amount_argument,
            unit=None if amount_unit is None else AmountUnit(amount_unit),
            currency_argument=amount_currency_argument,
            currency_code=amount_currency_code,
            allow_zero=members.get("amount_allow_zero", False),
        )
    return Tool(
        name=name,
        effect=ToolEffect(effect),
        resource=resource,
        arguments_schema=arguments_schema,
        amount=amount,
        secret_arguments=secret_arguments,
        description=description,
        revision=revision,
        **read_details(members),
    )


def _tool_outline(
    name: str,
    effect: str,
    resource: str,
    amount_argument: str | None,
    amount_unit: str | None,
    amount_currency_argument: str | None,
    amount_currency_code: str | None,
) -> ToolOutline:
    amount = None
    if amount_argument is not None:
        amount = AmountRole(
            argument=amount_argument,
            unit=None if amount_unit is None else AmountUnit(amount_unit),
            currency_argument=amount_currency_argument,
            currency_code=amount_currency_code,
        )
    return ToolOutline(name=name, effect=ToolEffect(effect), resource=resource, amount=amount)


def _tool_of(*row: Any) -> Tool:
    """Arrays come as lists, and a cache cannot hold those."""
    return _tool(*row[:_SECRETS], tuple(row[_SECRETS]), *row[_SECRETS + 1 :])


def _agent(
    agent: str,
    owner: str,
    trust: Decimal | None,
    trust_explanation: str,
    model: str,
    version: str,
    revision: int,
) -> Agent:
    return Agent(
        agent=agent,
        owner=owner,
        trust=trust,
        trust_explanation=trust_explanation,
        model=model,
        version=version,
        revision=revision,
    )


def _decision_key(
    tenant: str, session_id: str, caller: str, leaf_grant: str, tool_call_id: str, review_id: str | None
) -> DecisionKey:
    return DecisionKey(
        tenant=tenant,
        session_id=session_id,
        caller=caller,
        leaf_grant=leaf_grant,
        tool_call_id=tool_call_id,
        review_id=review_id,
    )


def _prior_decision(
    claimed_by: str,
    decision_id: str | None,
    effect: str,
    action_fingerprint: bytes,
    recorded_at: datetime,
    expires_at: datetime,
    retryable: bool,
    jws: bytes,
    disclosures: bytes | None,
    writer: str,
    seq: int,
    outcome: str | None,
    revoked: bool,
) -> PriorDecision:
    """`claimed_by` is the decision that the key points at. Raises ValueError if that is not there."""
    if decision_id is None:
        raise ValueError(f"a key points at {claimed_by}, which is not in the ledger")
    return PriorDecision(
        decision_id=decision_id,
        effect=Effect(effect),
        action_fingerprint=action_fingerprint,
        recorded_at=recorded_at,
        expires_at=expires_at,
        retryable=retryable,
        token=full_receipt(jws, disclosures),
        position=Position(writer=writer, seq=seq),
        has_outcome=outcome is not None,
        revoked=revoked,
    )


def _hold(decision_id: str, state: str, given: str) -> Hold:
    return Hold(decision_id=decision_id, state=HoldState(state), given=given)


def terms_text(terms: Terms | None) -> str | None:
    """Return terms as text, `EUR 120000`, or `EUR` where there was no figure."""
    if terms is None:
        return None
    return terms.currency if terms.total is None else f"{terms.currency} {terms.total}"


def terms_from(text: str | None) -> Terms | None:
    """Inverse of `terms_text`. Raises ValueError."""
    if text is None:
        return None
    currency, _, total = text.partition(" ")
    return Terms(currency, int(total) if total else None)


def counter_from(
    scope: str, unit: str, total: int, buckets: str, terms: str | None
) -> tuple[CounterKey, Counter]:
    return CounterKey(scope, unit), Counter(total, buckets_from(buckets), terms_from(terms))


# In SQL: the allows of the prerequisite in the row `y`. A server of the release before 0018 keeps the latest
# only.
KEPT_ALLOWS = """(CASE WHEN y.effect <> 'allow' THEN '{}'
                       WHEN split_part(y.allows[cardinality(y.allows)], ' ', 1) = y.decision_id THEN y.allows
                       ELSE ARRAY[concat_ws(' ', y.decision_id, y.minor, y.currency)] END)"""
# How many actions one allow of a prerequisite can have carried, each released again, and be free.
MAX_USES = 32


def _prior_answer(
    tool: str, arguments: str, effect: str, waited: bool, allows: str
) -> tuple[PrerequisiteKey, PriorAnswer]:
    """`allows` is JSON text: of each allow what `_prerequisite_allow` takes."""
    found = tuple(_prerequisite_allow(*allow) for allow in json_value(allows))
    return PrerequisiteKey(tool=tool, arguments=arguments), PriorAnswer(Effect(effect), waited, found)


def _prerequisite_allow(
    kept: str,
    redeemed: bool | None,
    outcome: str | None,
    believed: bool | None,
    redeem_required: bool | None,
    disputed: bool | None,
    uses: list[tuple[str, int, bool]] | None,
) -> PrerequisiteAllow:
    """`kept` is what `prerequisite_allow_text` wrote; what follows it is None where the allow has no hold."""
    decision_id, _, amount = kept.partition(" ")
    minor, _, currency = amount.partition(" ")
    found = tuple(PrerequisiteUse(*use) for use in uses or ())
    if len(found) > MAX_USES:
        # There are more than were read, and one of those may stand.
        found = tuple(use._replace(stands=True) for use in found)
    return PrerequisiteAllow(
        decision_id=decision_id,
        amount=Amount(minor=int(minor), currency=currency) if amount else None,
        executed=counts_as_executed(
            redeemed=redeemed is True,
            outcome=None if outcome is None else Outcome(outcome),
            believed=believed is True,
            redeem_required=redeem_required is True,
            disputed=disputed is True,
        ),
        uses=found,
    )


def prerequisite_allow_text(decision_id: str, amount: Amount | None) -> str:
    """Return what the table keeps of an allow of a prerequisite."""
    return decision_id if amount is None else f"{decision_id} {amount.minor} {amount.currency}"


def check_storable(key: DecisionKey) -> None:
    """Raise `InvalidFieldError`, which names the request's field, for a key that no table can hold."""
    for field, text in (
        ("tenant", key.tenant),
        ("session_id", key.session_id),
        ("caller", key.caller),
        ("chain", key.leaf_grant),
        ("action.tool_call_id", key.tool_call_id),
        ("review_id", key.review_id or ""),
    ):
        storable(field, text)


SESSION = Columns(_session)
TOOL = Columns(_tool_of, named_by=_tool)
TOOL_OUTLINE = Columns(_tool_outline)
_SECRETS = TOOL.names.index("secret_arguments")
AGENT = Columns(_agent)
GRANT = Columns(GrantRow)
DECISION_KEY = Columns(_decision_key)
PRIOR_DECISION = Columns(_prior_decision)
HOLD = Columns(_hold)
COUNTER = Columns(counter_from)
PRIOR_ANSWER = Columns(_prior_answer)


def tool_text(tool: Tool) -> str:
    """Return what a tool's revision said, as JSON text."""
    return json_text(registration(tool))


def instant_text(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()
