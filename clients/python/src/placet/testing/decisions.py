"""How the fake decides: who asks, whether it was asked before, and else what the script says."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, NamedTuple
from uuid import uuid4

from placet.model import (
    ChainHop,
    Decision,
    Effect,
    HoldState,
    Hop,
    Outcome,
    PolicyRevision,
    Position,
    Session,
    SessionState,
)
from placet.model._wording import model_text
from placet.testing.grants import ChainProblem
from placet.testing.receipts import Signer, make_receipt
from placet.testing.script import Caller, Received, Verdict
from placet.testing.state import FakeState


class PlanItem(NamedTuple):
    """One action of a plan. `arguments_text` is what its arguments were parsed from."""

    received: Received
    arguments_text: bytes


class CallKey(NamedTuple):
    """What makes two requests the same call."""

    tenant: str
    session_id: str
    subject: str
    leaf_grant: str
    tool_call_id: str
    review_id: str


class JudgedAction(NamedTuple):
    """What two requests for the same call must have in common to get the same answer."""

    tool: str
    arguments: Any
    resource: str
    provenance: Any
    hops: tuple[Hop, ...]
    audience: str


@dataclass(frozen=True, kw_only=True, slots=True)
class RecordedDecision:
    """A decision with what became of it."""

    decision: Decision
    caller: Caller
    action: JudgedAction
    # Whom the receipt is for; empty: nobody.
    audience: str
    # What was reported last, and whether by somebody who gains nothing by it.
    outcome: Outcome | None = None
    believed: bool = False
    redeemed: bool = False

    @property
    def hold(self) -> HoldState:
        """The state of the allow's hold, by its outcome alone: nothing is really held."""
        if self.outcome is None:
            return HoldState.RESERVED
        if self.outcome is Outcome.EXECUTED:
            return HoldState.COMMITTED
        freed = self.outcome in (Outcome.FAILED, Outcome.NOT_EXECUTED) and self.believed
        return HoldState.RELEASED if freed else HoldState.UNRESOLVED


class _Access(NamedTuple):
    """The session, if it is there for the caller, and what is wrong with the chain."""

    session: Session | None
    problem: ChainProblem | None
    # The caller speaks for the session's own agent, and does not prove its part in the session.
    unproven: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class _Ruling:
    """What a request gets, before anything is recorded."""

    access: _Access
    key: CallKey
    action: JudgedAction
    # The answer to an earlier, equal request, if it still is the answer.
    stored: Decision | None
    verdict: Verdict
    # False: the call stays with the action that it was used for first.
    claims_key: bool


class FakeDecisions:
    """Takes, records and finds decisions.

    `signer` signs receipts; `lifetime` is how long an allow is good.
    """

    def __init__(self, state: FakeState, *, signer: Signer, lifetime: timedelta) -> None:
        self._state = state
        self._signer = signer
        self._lifetime = lifetime
        self._writer = str(uuid4())
        self._latest: dict[CallKey, str] = {}
        # By tenant and decision, oldest first.
        self.recorded: dict[tuple[str, str], RecordedDecision] = {}
        # Every request that got a decision, in order.
        self.received: list[Received] = []

    def evaluate(self, received: Received, arguments_text: bytes) -> Decision:
        """Judge, record and return; or return what was recorded for the same call."""
        with self._state.lock:
            return self._record(received, arguments_text, self._judge(received), broken_by=None)

    def evaluate_plan(self, items: Sequence[PlanItem], *, all_or_nothing: bool) -> list[Decision]:
        """Judge and record the items one after the other; or, if asked, all as blocks if not all are allowed.

        Scripts are then asked twice: what all would get, and again for each that is recorded.
        """
        with self._state.lock:
            broken_by = None
            if all_or_nothing:
                effects = [self._judge(received).verdict.effect for received, _ in items]
                broken_by = next((i for i, each in enumerate(effects) if each is not Effect.ALLOW), None)
            return [
                self._record(received, text, self._judge(received), broken_by=broken_by)
                for received, text in items
            ]

    def simulate(self, received: Received) -> Verdict:
        """Return what a new such call would get with the proof that it needs; nothing is recorded."""
        with self._state.lock:
            access = self._access_of(received)
            if access.unproven:
                found = self._state.find_session(received.caller.tenant, received.session_id)
                access = _Access(found, access.problem)
            return self._verdict_on(received, access)

    def proves_part(
        self, caller: Caller, session: Session, hops: Sequence[Hop], token: str, *, ended: bool = False
    ) -> bool:
        """Whether the caller needs no proof of its part in the session, or shows one.

        With `ended`, a chain is one whose grants have expired or were revoked, too, unless all proofs of
        the session were.
        """
        asked_for = caller.subject == session.principal or (
            caller.subject == session.issuer and "session_issuer" in caller.roles
        )
        if asked_for or caller.roles & {"operator", "auditor"}:
            return True
        with self._state.lock:
            if session.agent in caller.agents and self._state.proves(
                caller.tenant, session.session_id, token
            ):
                return True
            grants = self._state.grants
            problem = grants.find_problem(caller, session, hops, self._state.now())
            proven = problem is None or (
                ended
                and problem.code in ("chain.expired", "chain.revoked")
                and not grants.was_proof_revoked(session, hops)
            )
            return proven and any(hop.grant for hop in hops)

    def list_tools(self, caller: Caller, session_id: str, hops: tuple[Hop, ...]) -> list[str]:
        """Return every tool with a script: for all that the fake knows, it may be allowed."""
        with self._state.lock:
            session = self._state.find_session(caller.tenant, session_id)
            if session is None or session.state is not SessionState.OPEN:
                return []
            if self._state.grants.find_problem(caller, session, hops, self._state.now()):
                return []
            return self._state.scripts.tools()

    def find_visible(self, caller: Caller, decision_id: str) -> Decision | None:
        """Return the decision with what became of it, if the caller may see it."""
        found = self.recorded.get((caller.tenant, decision_id))
        if found is None:
            return None
        sees_all = bool(caller.roles & {"operator", "auditor"})
        if not sees_all and found.caller.subject != caller.subject:
            return None
        # The salt of secrets is for whoever asked, in the answer alone.
        return replace(found.decision, outcome=found.outcome, redeemed=found.redeemed, secret_salt=b"")

    def find_with_session(self, tenant: str, decision_id: str) -> tuple[Decision, Session] | None:
        """Return the decision and the session that it was taken in; None if either is not there."""
        found = self.recorded.get((tenant, decision_id))
        if found is None:
            return None
        session = self._state.find_session(tenant, found.decision.session_id)
        return None if session is None else (found.decision, session)

    def taken_on(self, tenant: str, session_id: str, hop: ChainHop) -> list[Decision]:
        """Return what was decided for calls on a hop's grant, latest first."""
        grants = {hop.grant_hash} if hop.depth else {hop.grant_hash, ""}
        with self._state.lock:
            return [
                each.decision
                for (owner, _), each in reversed(self.recorded.items())
                if owner == tenant
                and each.decision.session_id == session_id
                and each.decision.chain
                and each.decision.chain[-1].verified
                and each.decision.chain[-1].grant_hash in grants
            ]

    def _judge(self, received: Received) -> _Ruling:
        """Return what a request gets; nothing is recorded."""
        caller, action, access = received.caller, received.action, self._access_of(received)
        # The authority of the session's own agent is one, with whatever root grant or without.
        delegated = received.hops if len(received.hops) > 1 else ()
        key = CallKey(
            tenant=caller.tenant,
            session_id=received.session_id,
            subject=caller.subject,
            leaf_grant=delegated[-1].grant if delegated else "",
            tool_call_id=action.tool_call_id,
            review_id=received.review_id,
        )
        judged = JudgedAction(
            tool=action.tool,
            arguments=action.arguments,
            resource=action.resource,
            provenance=action.provenance,
            hops=delegated,
            audience=received.audience,
        )
        prior = self.recorded.get((caller.tenant, self._latest.get(key, "")))
        stored: Decision | None = None
        claims_key = True
        if access.session is None or access.problem is not None:
            # Who proves no part in the session neither reads nor takes a key in it.
            claims_key = False
            verdict = self._verdict_on(received, access)
        elif prior is None:
            verdict = self._verdict_on(received, access)
        elif prior.action != judged:
            claims_key = False
            verdict = _block("action.key_reused", "This tool_call_id was used for another action.")
        elif prior.outcome is None and self._still_answers(prior.decision, access.session):
            stored = prior.decision
            verdict = Verdict(effect=stored.effect, code=stored.reasons[0].code)
        elif prior.decision.effect is Effect.ALLOW:
            verdict = _block("action.replay_stale", "This call was allowed before.")
        else:
            verdict = self._verdict_on(received, access)
        return _Ruling(
            access=access, key=key, action=judged, stored=stored, verdict=verdict, claims_key=claims_key
        )

    def _access_of(self, received: Received) -> _Access:
        caller = received.caller
        session = self._state.find_session(caller.tenant, received.session_id)
        if session is None:
            return _Access(None, None)
        owns = session.agent in caller.agents
        if not owns and not any(hop.grant for hop in received.hops):
            # A caller that shows no grant and is not the session's agent learns nothing of the session.
            return _Access(None, None)
        problem = self._state.grants.find_problem(caller, session, received.hops, self._state.now())
        by_token = owns and self._state.proves(caller.tenant, received.session_id, received.session_token)
        by_chain = problem is None and any(hop.grant for hop in received.hops)
        if by_token or by_chain:
            return _Access(session, problem)
        return _Access(None, problem, unproven=owns)

    def _verdict_on(self, received: Received, access: _Access) -> Verdict:
        session, problem, unproven = access
        if problem is not None:
            return _block(problem.code, "The chain proves nothing.")
        if unproven:
            return _block("session.unproven", "The call shows neither the session's token nor a grant in it.")
        if session is None:
            return _block("session.unknown", "There is no such session.")
        if session.state is not SessionState.OPEN:
            return _block(f"session.{session.state}", "It has ended.")
        registered = self._state.audience(received.caller.tenant, received.action.tool)
        if registered is not None and received.audience not in ("", registered):
            return _block("action.audience", "The tool is registered with another audience.")
        return self._state.scripts.judge(received)

    def _still_answers(self, decision: Decision, session: Session) -> bool:
        """Whether a repeat gets the recorded decision."""
        if decision.effect is Effect.BLOCK:
            return not decision.retryable
        assert decision.expires_at is not None
        if self._state.grants.is_revoked(decision.chain):
            return False
        return session.state is SessionState.OPEN and self._state.now() < decision.expires_at

    def _record(
        self, received: Received, arguments_text: bytes, ruling: _Ruling, *, broken_by: int | None
    ) -> Decision:
        """Record and return the decision; `broken_by` is the item for which a whole plan is blocked."""
        self.received.append(received)
        caller, action, verdict = received.caller, received.action, ruling.verdict
        blocked = broken_by is not None and verdict.effect is not Effect.BLOCK
        if ruling.stored is not None and not blocked:
            return replace(ruling.stored, replayed=True)
        if blocked:
            verdict = Verdict(
                effect=Effect.BLOCK,
                code="plan.not_whole",
                message="Not every action of the plan is allowed.",
                retryable=True,
                resource=verdict.resource,
            )
        decision = self._decision(received, ruling.access, verdict)
        if blocked:
            (reason,) = decision.reasons
            decision = replace(decision, reasons=(replace(reason, at=f"items[{broken_by}]"),))
        audience = received.audience or self._state.audience(caller.tenant, action.tool) or ""
        secret_paths = self._state.secret_paths(caller.tenant, action.tool)
        salt = self._state.secret_salt(caller.tenant, decision.decision_id) if secret_paths else b""
        decision = replace(
            decision,
            receipt=make_receipt(
                decision,
                signer=self._signer,
                tenant=caller.tenant,
                caller=caller.subject,
                tool=action.tool,
                resource=verdict.resource,
                arguments=action.arguments if isinstance(action.arguments, Mapping) else {},
                arguments_text=arguments_text,
                audience=audience,
                secret_paths=secret_paths,
                secret_salt=salt,
            ),
            secret_salt=salt,
            position=Position(writer=self._writer, seq=len(self.recorded) + 1),
        )
        self.recorded[caller.tenant, decision.decision_id] = RecordedDecision(
            decision=decision, caller=caller, action=ruling.action, audience=audience
        )
        if ruling.claims_key and not (blocked and ruling.stored is not None):
            self._latest[ruling.key] = decision.decision_id
        if ruling.access.session is not None:
            self._state.count_decision(caller.tenant, received.session_id, decision.effect)
        return decision

    def _decision(self, received: Received, access: _Access, verdict: Verdict) -> Decision:
        session, problem = access.session, access.problem
        decided_at = self._state.now().replace(microsecond=0)
        expires_at = decided_at + self._lifetime
        if session is not None:
            expires_at = max(decided_at, min(expires_at, session.expires_at.replace(microsecond=0)))
        decision_id = str(uuid4())
        reason = verdict.reason
        if problem is not None and verdict.code == problem.code:
            reason = replace(reason, at=problem.at)
        retryable = verdict.retryable and verdict.effect is Effect.BLOCK
        return Decision(
            decision_id=decision_id,
            effect=verdict.effect,
            reasons=(reason,),
            chain=self._chain(received, access, verdict.effect),
            obligations=() if verdict.effect is Effect.BLOCK else verdict.obligations,
            retry_after=verdict.retry_after,
            model_text=model_text(
                verdict.effect,
                decision_id,
                (reason,),
                retryable=retryable,
                retry_after=verdict.retry_after,
            ),
            session_id=received.session_id,
            tool_call_id=received.action.tool_call_id,
            decided_at=decided_at,
            expires_at=expires_at,
            policy=PolicyRevision(bundle="fake", revision="1"),
            data_revisions=self._state.data_revisions(received.caller.tenant),
            session_version=0 if session is None else session.version + 1,
            retryable=retryable,
            attempt_id=received.attempt_id,
        )

    def _chain(self, received: Received, access: _Access, effect: Effect) -> tuple[ChainHop, ...]:
        """Return the chain's hops: by name if it proves what it says, else by hashes."""
        session, problem = access.session, access.problem
        if session is None or problem is not None:
            return tuple(
                ChainHop(unverified=hashlib.sha256(f"{hop.agent} {hop.grant}".encode()).hexdigest())
                for hop in received.hops
            )
        *above, last = self._state.grants.chain_hops(session, received.hops)
        return (*above, replace(last, effect=effect))


def _block(code: str, message: str) -> Verdict:
    return Verdict(effect=Effect.BLOCK, code=code, message=message)
