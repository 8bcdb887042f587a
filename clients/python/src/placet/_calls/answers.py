"""One evaluation from question to decision: what is asked, and what an answer must be.

What is checked before an answer may allow anything, in order:

1. It is a whole Decision, with an effect that this client knows.
2. It is about this session and this tool call.
3. Its receipt can be read (and is proven, given a verifier), and says the same: effect,
   session, tool call, decision, expiry, audience, tool, arguments (secret ones by the salt that comes
   with the answer), attempt, obligations.
4. It was decided for this attempt, or is marked as replayed.
5. Every obligation is one that this client understands.
6. Its time, `exp - iat` of the receipt counted from when this attempt was first sent, has
   not passed. The wall clock has no say.

What fails becomes a block that says why. A block or escalation that fails is a block, too.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import uuid4

from placet._calls.action import evaluate_request
from placet._calls.blocks import block_for
from placet._calls.call import parse_answer
from placet._calls.decisions import read_decision
from placet._calls.jsontext import parsed_object
from placet._calls.outcomes import read_outcome
from placet._calls.reasons import read_limits
from placet._calls.receipts import Verifier, check_receipt, read_receipt, whole_seconds
from placet._clock import SteadyClock
from placet._executed import Executed
from placet._locks import ForkLock
from placet.errors import (
    AnswerError,
    PlacetError,
    ReceiptMismatchError,
    UnknownObligationError,
)
from placet.model import Action, Decision, Effect, Outcome
from placet.receipt import ReceiptError, check_binding
from placet.v1 import decision_pb2 as nouns
from placet.v1 import decision_service_pb2 as decisions


class Attempts:
    """Remembers when this process first sent each attempt; the oldest are forgotten."""

    def __init__(self, clock: SteadyClock, size: int = 4096) -> None:
        self.clock = clock
        self._size = size
        self._lock = ForkLock()
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
            response = parse_answer(decisions.EvaluateResponse, data)
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
                secret_salt=decision.secret_salt,
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
            session_token=first.session_token,
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
            response = parse_answer(decisions.EvaluateBatchResponse, data)
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
    session_token: str,
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
            session_token=session_token,
        ),
        arguments=arguments,
        started=attempts.start(attempt_id),
        checks=checks,
    )


def read_recorded(data: bytes, checks: AnswerChecks, decision_id: str) -> Decision:
    """Return the decision of a GetDecision answer: to read, not to act on. Raises `AnswerError`."""
    response = parse_answer(decisions.GetDecisionResponse, data)
    if not response.HasField("decision"):
        raise AnswerError("the answer has no decision")
    decision = read_decision(response.decision)
    if decision.decision_id != decision_id:
        raise ReceiptMismatchError(f"the answer is decision {decision.decision_id!r}, not {decision_id!r}")
    receipt, status = read_receipt(decision, checks.verifier)
    check_receipt(receipt, decision, tenant=checks.tenant)
    outcome = read_outcome(response.outcome)
    if outcome is Outcome.EXECUTED or (outcome is None and response.redeemed):
        checks.executed.add(decision_id)
    return replace(
        decision,
        receipt_status=status,
        input_document=response.input_document,
        outcome=outcome,
        redeemed=response.redeemed,
        amount=response.amount,
        currency=response.currency,
        limits=read_limits(response.limits),
    )
