"""One evaluation from question to decision: what is asked, and what an answer must be.

What is checked before an answer may allow anything, in order:

1. It is a whole Decision, with an effect that this client knows.
2. It is about this session and this tool call.
3. Its receipt can be read (and is proven, given a verifier), and says the same: effect,
   session, tool call, decision, expiry, audience, tool, arguments, attempt, obligations.
4. It was decided for this attempt, or is marked as replayed.
5. Every obligation is one that this client understands.
6. Its time, `exp - iat` of the receipt counted from when this attempt was first sent, has
   not passed. The wall clock has no say.

What fails becomes a block that says why. A block or escalation that fails is a block, too.
"""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol
from uuid import uuid4

from placet._calls.action import evaluate_request
from placet._calls.call import parse as parse_message
from placet._calls.decisions import read_decision
from placet._calls.jsontext import parsed_object
from placet._calls.outcomes import read_outcome
from placet._clock import SteadyClock
from placet._executed import Executed
from placet.errors import (
    AnswerError,
    PdpUnavailable,
    PlacetError,
    ReceiptMismatchError,
    UnknownObligationError,
    blocked_text,
)
from placet.model import Action, Decision, Effect, Reason, ReceiptStatus
from placet.receipt import ParsedReceipt, ReceiptError, check_binding, parse
from placet.v1 import decision_pb2 as nouns
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
# An allow's lifetime that is longer than this is somebody's mistake.
_MAX_LIFETIME = 24 * 3600


class Verifier(Protocol):
    """Checks a receipt's signature: `placet.verify.Verifier`, or one of your own."""

    def verify(self, token: bytes) -> ParsedReceipt:
        """Return the receipt once its signature is proven. Raises `ReceiptError`."""
        ...


class Attempts:
    """Remembers when this process first sent each attempt; the oldest are forgotten."""

    def __init__(self, clock: SteadyClock, size: int = 4096) -> None:
        self.clock = clock
        self._size = size
        self._lock = threading.Lock()
        self._started: OrderedDict[str, float] = OrderedDict()

    def start(self, attempt_id: str) -> float:
        """Return the instant at which the attempt was first sent: now, if it is new."""
        with self._lock:
            started = self._started.setdefault(attempt_id, self.clock())
            while len(self._started) > self._size:
                self._started.popitem(last=False)
        return started


@dataclass(frozen=True, kw_only=True, slots=True)
class AnswerChecks:
    """What the client was told about judging answers."""

    clock: SteadyClock
    verifier: Verifier | None
    understood: frozenset[str]
    # The caller's tenant; empty if only its credential knows.
    tenant: str = ""
    executed: Executed = field(default_factory=Executed)


@dataclass(frozen=True, kw_only=True, slots=True)
class Question:
    """One request to Evaluate, with what is needed to judge its answer."""

    request: decisions.EvaluateRequest
    # The arguments as the PDP reads them from the request's text.
    arguments: Mapping[str, Any]
    # Instant of the steady clock at which the attempt was first sent.
    started: float
    checks: AnswerChecks

    def read(self, data: bytes) -> Decision:
        """Return the decision that the answer's bytes hold, or a block."""
        try:
            response = parse_message(decisions.EvaluateResponse, data)
            if not response.HasField("decision"):
                raise AnswerError("the answer has no decision")
        except PlacetError as exc:
            return block_for(exc, self.request)
        return self.judge(response.decision)

    def judge(self, answer: nouns.Decision) -> Decision:
        """Return the decision of an answer, or a block."""
        decision: Decision | None = None
        try:
            decision = read_decision(answer)  # 1
            return self._check(decision)
        except PlacetError as exc:
            return block_for(exc, self.request, answer=decision)

    def _check(self, decision: Decision) -> Decision:
        request = self.request
        for name, found, sent in (  # 2
            ("session_id", decision.session_id, request.session_id),
            ("tool_call_id", decision.tool_call_id, request.action.tool_call_id),
        ):
            if found != sent:
                raise ReceiptMismatchError(
                    f"{name}: the answer is about {found!r}, the request about {sent!r}"
                )
        receipt, status = read_receipt(decision, self.checks.verifier)  # 3
        lifetime = check_receipt(receipt, decision, tenant=self.checks.tenant)
        try:
            check_binding(
                receipt,
                effect=decision.effect.value,
                session_id=request.session_id,
                tool_call_id=request.action.tool_call_id,
                decision_id=decision.decision_id,
                expires_at=whole_seconds(decision.expires_at),
                tool=request.action.tool,
                arguments=self.arguments,
                audience=request.audience,
            )
        except ReceiptError as exc:
            raise ReceiptMismatchError(f"the receipt is not for this answer: {exc}") from exc
        own = decision.attempt_id == request.attempt_id
        if not own and not decision.replayed:  # 4
            raise ReceiptMismatchError(
                "attempt_id: the answer is for another attempt, and not marked as replayed"
            )
        if decision.effect is not Effect.BLOCK:  # 5
            for obligation in decision.obligations:
                if obligation.id not in self.checks.understood:
                    raise UnknownObligationError(f"this client does not understand {obligation.id!r}")
        return replace(  # 6
            decision,
            receipt_status=status,
            clock=self.checks.clock,
            executed=self.checks.executed,
            valid_until=self.started + lifetime if own and decision.effect is Effect.ALLOW else -math.inf,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class PlanQuestion:
    """One request to EvaluateBatch: the questions of its items, in order."""

    questions: tuple[Question, ...]
    all_or_nothing: bool

    def request(self) -> decisions.EvaluateBatchRequest:
        first = self.questions[0].request
        return decisions.EvaluateBatchRequest(
            session_id=first.session_id,
            chain=first.chain,
            items=[
                decisions.PlannedAction(action=item.request.action, attempt_id=item.request.attempt_id)
                for item in self.questions
            ],
            all_or_nothing=self.all_or_nothing,
            audience=first.audience,
        )

    def read(self, data: bytes) -> tuple[Decision, ...]:
        """Return one decision for each item: what the answer's bytes hold, or a block.

        Of a plan that is to be allowed as a whole, what is allowed beside something that is not is a
        block too: such an answer makes no sense, or one of its items failed the checks here.
        """
        try:
            response = parse_message(decisions.EvaluateBatchResponse, data)
            if len(response.decisions) != len(self.questions):
                raise AnswerError(
                    f"the answer has {len(response.decisions)} decisions on {len(self.questions)} actions"
                )
        except PlacetError as exc:
            return self.blocks_for(exc)
        answers = tuple(
            question.judge(answer)
            for question, answer in zip(self.questions, response.decisions, strict=True)
        )
        if self.all_or_nothing and not all(decision.effect is Effect.ALLOW for decision in answers):
            return tuple(
                decision
                if decision.effect is not Effect.ALLOW
                else block_for(
                    AnswerError("an action of an all-or-nothing plan is allowed, and another is not"),
                    question.request,
                    answer=decision,
                )
                for question, decision in zip(self.questions, answers, strict=True)
            )
        return answers

    def blocks_for(self, error: PlacetError) -> tuple[Decision, ...]:
        """Return a block for each item of a plan that failed as a whole."""
        return tuple(block_for(error, question.request) for question in self.questions)


def ask(
    action: Action,
    *,
    session_id: str,
    chain: nouns.DelegationChain | None,
    review_id: str,
    attempt_id: str,
    audience: str,
    attempts: Attempts,
    checks: AnswerChecks,
) -> Question:
    """Return the question. Raises `InvalidRequestError` for what cannot be asked.

    `action` has its arguments as text. An empty `attempt_id`: a new attempt.
    """
    assert isinstance(action.arguments, bytes)
    assert isinstance(action.provenance, bytes)
    arguments = parsed_object(action.arguments, "action.arguments")
    if action.provenance:
        parsed_object(action.provenance, "action.provenance")
    attempt_id = attempt_id or uuid4().hex
    return Question(
        request=evaluate_request(
            action,
            session_id=session_id,
            chain=chain,
            review_id=review_id,
            attempt_id=attempt_id,
            audience=audience,
        ),
        arguments=arguments,
        started=attempts.start(attempt_id),
        checks=checks,
    )


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
    return Decision(
        effect=Effect.BLOCK,
        reasons=(
            Reason(code=code, effect=Effect.BLOCK, message=_MESSAGES[code], at=error.field),
            *(answer.reasons if answer is not None else ()),
        ),
        model_text=blocked_text(decision_id, code, retryable=retryable),
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


def read_recorded(data: bytes, checks: AnswerChecks, decision_id: str) -> Decision:
    """Return the decision of a GetDecision answer: to read, not to act on. Raises `AnswerError`."""
    response = parse_message(decisions.GetDecisionResponse, data)
    if not response.HasField("decision"):
        raise AnswerError("the answer has no decision")
    decision = read_decision(response.decision)
    if decision.decision_id != decision_id:
        raise ReceiptMismatchError(f"the answer is decision {decision.decision_id!r}, not {decision_id!r}")
    receipt, status = read_receipt(decision, checks.verifier)
    check_receipt(receipt, decision, tenant=checks.tenant)
    return replace(
        decision,
        receipt_status=status,
        input_document=response.input_document,
        outcome=read_outcome(response.outcome),
        redeemed=response.redeemed,
    )


def read_receipt(decision: Decision, verifier: Verifier | None) -> tuple[ParsedReceipt, ReceiptStatus]:
    """Return the receipt, verified if there is a verifier. Raises `ReceiptMismatchError`."""
    if not decision.receipt:
        raise ReceiptMismatchError("the answer has no receipt")
    try:
        if verifier is not None:
            return verifier.verify(decision.receipt), ReceiptStatus.VERIFIED
        return parse(decision.receipt), ReceiptStatus.UNVERIFIED
    except ReceiptError as exc:
        raise ReceiptMismatchError(f"the receipt cannot be relied on: {exc}") from exc


def check_receipt(receipt: ParsedReceipt, decision: Decision, *, tenant: str = "") -> int:
    """Compare message and receipt, except for the action; return the lifetime in seconds.

    Raises `ReceiptMismatchError`, which names the field.
    """
    claims = receipt.claims
    expected: dict[str, Any] = {
        "kind": "decision",
        "effect": str(decision.effect),
        "jti": decision.decision_id,
        "session": decision.session_id,
        "tool_call_id": decision.tool_call_id,
        "attempt": decision.attempt_id,
        "iat": whole_seconds(decision.decided_at),
        "exp": whole_seconds(decision.expires_at),
        "obligations": [obligation.id for obligation in decision.obligations],
        "after": list(decision.after),
        "reasons": [reason.code for reason in decision.reasons],
        "chain": [(hop.agent, hop.grant_hash, hop.unverified) for hop in decision.chain],
    }
    if tenant:
        expected["tenant"] = tenant
    for name, value in expected.items():
        found = claims.get(name)
        if name == "obligations":
            found = _members(found, "id")
        elif name == "after":
            found = _after(claims.get("obligations"))
        elif name == "reasons":
            found = _members(found, "code")
        elif name == "chain":
            found = _hops(found)
        if found != value or type(found) is not type(value):
            raise ReceiptMismatchError(f"{name}: the receipt says {found!r}, the answer {value!r}")
    lifetime: int = expected["exp"] - expected["iat"]
    if not 0 <= lifetime <= _MAX_LIFETIME:
        raise ReceiptMismatchError(f"exp: the receipt is good for {lifetime} seconds")
    return lifetime


def whole_seconds(instant: Any) -> int:
    """Return the Unix seconds of a decision's instant. Raises `AnswerError` if they are not whole."""
    if instant.microsecond:
        raise AnswerError("an instant of the answer is not in whole seconds, as its receipt must be")
    return int(instant.timestamp())


def _after(obligations: Any) -> Any:
    """Return the decisions that the obligations `after` name; None for what is malformed."""
    if _members(obligations, "id") is None:
        return None
    properties = [item.get("properties") for item in obligations if item["id"] == "after"]
    return _members(properties, "decision_id")


def _hops(items: Any) -> Any:
    """Return what names each hop of a receipt's chain; None for anything else than a chain."""
    if not isinstance(items, list) or not all(isinstance(item, Mapping) for item in items):
        return None
    return [(item.get("agent", ""), item.get("grant", ""), item.get("unverified", "")) for item in items]


def _members(items: Any, name: str) -> Any:
    """Return the named member of each item of a list; None for anything else."""
    if not isinstance(items, list) or not all(isinstance(item, Mapping) for item in items):
        return None
    return [item.get(name) for item in items]
