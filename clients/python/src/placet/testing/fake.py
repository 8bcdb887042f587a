"""`FakePdp`: scripts, sessions and recorded decisions behind a real gRPC server."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self
from uuid import uuid4

from placet.client import AsyncClient, Client
from placet.identity import DevIdentity
from placet.model import (
    Boundary,
    ChainHop,
    Decision,
    Effect,
    HoldState,
    Hop,
    Obligation,
    Outcome,
    PolicyRevision,
    Position,
    Reason,
    Session,
    SessionState,
    Task,
)
from placet.testing.grants import FakeGrants
from placet.testing.receipts import Es256Signer, NoSigner, Signer, receipt
from placet.testing.script import Caller, Received, Script, Verdict, model_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    import grpc

    from placet.v1 import decision_service_pb2 as decisions

TENANT = "test"
AGENT = "agent:test"
ROLES = ("agent", "session_issuer", "operator")


@dataclass(kw_only=True, slots=True)
class _Failure:
    code: grpc.StatusCode
    times: int


@dataclass(frozen=True, kw_only=True, slots=True)
class _Recorded:
    decision: Decision
    caller: Caller
    action: tuple[Any, ...]
    # Reported, and whether by somebody who can be believed.
    outcome: Outcome | None = None
    believed: bool = False
    redeemed: bool = False

    @property
    def hold(self) -> HoldState:
        if self.outcome is None:
            return HoldState.RESERVED
        if self.outcome is Outcome.EXECUTED:
            return HoldState.COMMITTED
        freed = self.outcome in (Outcome.FAILED, Outcome.NOT_EXECUTED) and self.believed
        return HoldState.RELEASED if freed else HoldState.UNRESOLVED


@dataclass(frozen=True, kw_only=True, slots=True)
class _Look:
    """What a request gets before anything is recorded."""

    # The caller's own.
    session: Session | None
    # What is wrong with the chain: code and place.
    problem: tuple[str, str] | None
    key: tuple[str, ...]
    same: tuple[Any, ...]
    # The answer to an earlier, equal request that stands.
    stored: Decision | None
    verdict: Verdict
    claims_key: bool

    @property
    def effect(self) -> Effect:
        return self.verdict.effect


class FakePdp:
    """Use as a context manager. `target` is where it listens, on loopback.

    `signed` has receipts really signed (needs the extra `placet[verify]`; `jwks()` has the
    key); else they are well formed, and no verifier accepts them. `lifetime` is how long an
    allow stands.
    """

    def __init__(self, *, signed: bool = False, lifetime: timedelta = timedelta(seconds=60)) -> None:
        self._signer: Signer = Es256Signer() if signed else NoSigner()
        self._lifetime = lifetime
        self._offset = timedelta()
        self._lock = threading.RLock()
        self._scripts: dict[str, Script] = {}
        self._otherwise: Script = lambda _: Verdict(
            effect=Effect.BLOCK, code="pdp.no_applicable_rule", message="No rule allows this."
        )
        self._sessions: dict[tuple[str, str], Session] = {}
        self.grants = FakeGrants()
        self._keys: dict[tuple[str, ...], str] = {}
        self._decisions: dict[tuple[str, str], _Recorded] = {}
        self._revisions: dict[str, int] = {}
        self._tenants = {TENANT}
        self._failures: dict[str, _Failure] = {}
        self._open_gate = threading.Event()
        self._open_gate.set()
        self._server: grpc.Server | None = None
        self._writer = str(uuid4())
        self._port = 0
        # Every request to Evaluate, and item of a plan, that reached the script or the recorded
        # answers, in order.
        self.received: list[Received] = []
        # Every outcome that was reported, guards' own included, in order: decision and outcome.
        self.outcomes: list[tuple[str, str]] = []
        # What was said to have been returned, by decision.
        self.outputs: dict[str, bytes] = {}
        # Called with each answer of Evaluate before it is sent: change it to misbehave.
        self.alter: Callable[[decisions.EvaluateResponse], None] | None = None
        # The same for plans.
        self.alter_plan: Callable[[decisions.EvaluateBatchResponse], None] | None = None

    # --- running ---------------------------------------------------------------

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Listen; after `stop()`, on the same port again, with what is remembered."""
        import grpc

        from placet.testing.services import register

        server = grpc.server(
            ThreadPoolExecutor(max_workers=16, thread_name_prefix="fake-pdp"),
            options=(("grpc.so_reuseport", 0),),
        )
        register(server, self)
        self._port = server.add_insecure_port(f"127.0.0.1:{self._port}")
        server.start()
        self._server = server

    def stop(self) -> None:
        """Drop every connection, as a process that dies does."""
        self._open_gate.set()
        if self._server is not None:
            self._server.stop(grace=None).wait()
            self._server = None

    @property
    def target(self) -> str:
        """host:port"""
        return f"127.0.0.1:{self._port}"

    def client(self, **options: Any) -> Client:
        """Return a client of this fake; it holds all roles. `options` are `Client`'s."""
        return Client(self.target, **(self._defaults() | options))

    def async_client(self, **options: Any) -> AsyncClient:
        """Return an async client of this fake; it holds all roles. `options` are `AsyncClient`'s."""
        return AsyncClient(self.target, **(self._defaults() | options))

    def session(self, *, agent: str = AGENT, task: str = "") -> Session:
        """Return a new open session of the clients' tenant and agent."""
        return self.open(
            Caller(tenant=TENANT, subject="test", roles=frozenset(ROLES), agents=frozenset({agent})),
            task=Task(id=task or f"task-{uuid4().hex}"),
            principal="user:test",
            agent=agent,
            boundary=Boundary(),
            expires_at=None,
        )

    def jwks(self) -> dict[str, Any]:
        """The JWK Set; without `signed`, an empty one."""
        return self._signer.jwks()

    # --- scripting -------------------------------------------------------------

    def allow(
        self, *tools: str, code: str = "task.within_boundary", obligations: Iterable[Obligation] = ()
    ) -> None:
        """Allow every call of these tools; without a name, of every tool that has no script."""
        self._on(tools, Verdict(effect=Effect.ALLOW, code=code, obligations=tuple(obligations)))

    def block(
        self,
        *tools: str,
        code: str = "boundary.tool",
        retryable: bool = False,
        retry_after: timedelta | None = None,
    ) -> None:
        """Block every call of these tools; without a name, of every tool that has no script."""
        verdict = Verdict(effect=Effect.BLOCK, code=code, retryable=retryable, retry_after=retry_after)
        self._on(tools, verdict)

    def escalate(self, *tools: str, code: str = "payment.large") -> None:
        """Escalate every call of these tools; without a name, of every tool that has no script."""
        self._on(tools, Verdict(effect=Effect.ESCALATE, code=code))

    def script(self, tool: str, script: Script) -> None:
        """Have `script` judge every call of a tool."""
        with self._lock:
            self._scripts[tool] = script

    def fail(self, code: grpc.StatusCode, *, times: int = 1, method: str = "Evaluate") -> None:
        """Answer the next calls of a method with a failure."""
        with self._lock:
            self._failures[method] = _Failure(code=code, times=times)

    @contextmanager
    def hung(self) -> Iterator[None]:
        """Answer no Evaluate until the block is left."""
        self._open_gate.clear()
        try:
            yield
        finally:
            self._open_gate.set()

    def advance(self, by: timedelta) -> None:
        """Move the fake's clock forward."""
        with self._lock:
            self._offset += by

    # --- what the services do ----------------------------------------------------

    def now(self) -> datetime:
        return datetime.now(UTC) + self._offset

    def next_failure(self, method: str) -> grpc.StatusCode | None:
        with self._lock:
            failure = self._failures.get(method)
            if failure is None or failure.times == 0:
                return None
            failure.times -= 1
            return failure.code

    def wait_for_gate(self) -> None:
        self._open_gate.wait()

    def knows(self, tenant: str) -> bool:
        return tenant in self._tenants

    def put(self, kind: str, tenant: str) -> int:
        """Return the next revision of one kind of a tenant's data."""
        with self._lock:
            if kind == "settings":
                self._tenants.add(tenant)
            key = f"{kind}:{tenant}"
            self._revisions[key] = self._revisions.get(key, 0) + 1
            return self._revisions[key]

    def open(
        self,
        caller: Caller,
        *,
        task: Task,
        principal: str,
        agent: str,
        boundary: Boundary,
        expires_at: datetime | None,
        issuer: str = "",
    ) -> Session:
        """Return the task's session; a LookupError if it was opened with something else.

        `issuer`: of the task token; the caller if there was none.
        """
        issuer = issuer or caller.subject
        with self._lock:
            for (tenant, _), session in self._sessions.items():
                if tenant == caller.tenant and session.task.id == task.id:
                    opened_with = (session.issuer, session.principal, session.agent, session.boundary)
                    if opened_with != (issuer, principal, agent, boundary):
                        raise LookupError(f"the task {task.id} already has a session")
                    return self._seen(session)
            now = self.now()
            session = Session(
                session_id=str(uuid4()),
                task=task,
                principal=principal,
                agent=agent,
                issuer=issuer,
                boundary=boundary,
                state=SessionState.OPEN,
                version=1,
                opened_at=now,
                expires_at=expires_at or now + timedelta(hours=1),
                decisions={"allow": 0, "block": 0, "escalate": 0},
            )
            self._sessions[caller.tenant, session.session_id] = session
            return session

    def find(self, tenant: str, session_id: str) -> Session | None:
        with self._lock:
            session = self._sessions.get((tenant, session_id))
            return None if session is None else self._seen(session)

    def complete(self, tenant: str, session_id: str) -> Session:
        with self._lock:
            session = self._seen(self._sessions[tenant, session_id])
            if session.state is SessionState.OPEN:
                session = replace(
                    session,
                    state=SessionState.COMPLETED,
                    version=session.version + 1,
                    completed_at=self.now(),
                )
                self._sessions[tenant, session_id] = session
            return session

    def taken_on(self, tenant: str, session_id: str, hop: ChainHop) -> list[Decision]:
        """What was decided for calls on a hop's grant, latest first."""
        grants = {hop.grant_hash} if hop.depth else {hop.grant_hash, ""}
        with self._lock:
            return [
                recorded.decision
                for (owner, _), recorded in reversed(self._decisions.items())
                if owner == tenant
                and recorded.decision.session_id == session_id
                and recorded.decision.chain
                and recorded.decision.chain[-1].verified
                and recorded.decision.chain[-1].grant_hash in grants
            ]

    def session_of(self, tenant: str, decision_id: str) -> tuple[Decision, Session] | None:
        found = self._decisions.get((tenant, decision_id))
        session = None if found is None else self.find(tenant, found.decision.session_id)
        return None if found is None or session is None else (found.decision, session)

    def close(self, tenant: str, session_id: str) -> Session:
        with self._lock:
            session = self._sessions[tenant, session_id]
            if self._seen(session).state in (SessionState.OPEN, SessionState.COMPLETED, SessionState.EXPIRED):
                session = replace(
                    session, state=SessionState.CLOSED, version=session.version + 1, closed_at=self.now()
                )
                self._sessions[tenant, session_id] = session
            return session

    def recorded(self, caller: Caller, decision_id: str) -> Decision | None:
        """The decision with what became of it, if the caller may see it."""
        found = self._decisions.get((caller.tenant, decision_id))
        if found is None:
            return None
        sees_all = bool(caller.roles & {"operator", "auditor"})
        if not sees_all and found.caller.subject != caller.subject:
            return None
        return replace(found.decision, outcome=found.outcome, redeemed=found.redeemed)

    def report(
        self,
        caller: Caller,
        outcome: Outcome,
        *,
        decision_id: str,
        session_id: str,
        tool_call_id: str,
        attempt_id: str,
        output: bytes,
    ) -> tuple[str, HoldState, bool] | None:
        """Note what became of an allow: its id, what it holds, and whether that is a conflict.

        None: there is no such decision of the caller's. Raises LookupError for no allow.
        """
        with self._lock:
            believed = bool(caller.roles & {"tool", "operator"})
            found = [
                (key, item)
                for key, item in self._decisions.items()
                if key[0] == caller.tenant
                and (believed or item.caller.subject == caller.subject or self._theirs(caller, item))
                and (not attempt_id or item.decision.attempt_id == attempt_id)
                and (
                    key[1] == decision_id
                    or (item.decision.session_id, item.decision.tool_call_id) == (session_id, tool_call_id)
                )
            ]
            allows = [each for each in found if each[1].decision.effect is Effect.ALLOW]
            if not found:
                return None
            if not allows:
                raise LookupError("only an allow has an outcome")
            key, item = allows[-1]
            speaks = any(hop.agent in caller.agents for hop in item.decision.chain)
            believed = believed and item.caller.subject != caller.subject and not speaks
            terminal = (Outcome.EXECUTED, Outcome.FAILED, Outcome.NOT_EXECUTED)
            conflict = item.outcome in terminal and outcome in terminal and outcome is not item.outcome
            if item.outcome not in terminal or (outcome is item.outcome and believed):
                item = replace(item, outcome=outcome, believed=believed or item.believed)
                self._decisions[key] = item
            self.outcomes.append((key[1], str(outcome)))
            if output:
                self.outputs[key[1]] = output
            return key[1], item.hold, conflict

    def _theirs(self, caller: Caller, recorded: _Recorded) -> bool:
        """Whether the decision's session is the caller's: its principal's, its issuer's, its agent's."""
        session = self.find(caller.tenant, recorded.decision.session_id)
        return session is not None and (
            caller.subject == session.principal
            or (caller.subject == session.issuer and "session_issuer" in caller.roles)
            or (session.agent in caller.agents and "agent" in caller.roles)
        )

    def redeem(
        self, caller: Caller, decision_id: str, tool: str, arguments: Mapping[str, Any], audience: str
    ) -> bool:
        """Use an allow once, for the action that it allows; False if it cannot be used."""
        with self._lock:
            key = (caller.tenant, decision_id)
            found = self._decisions.get(key)
            if found is None or found.decision.effect is not Effect.ALLOW:
                return False
            assert found.decision.expires_at is not None
            session = self.find(caller.tenant, found.decision.session_id)
            if (
                found.redeemed
                or found.outcome is not None
                or self.now() >= found.decision.expires_at
                or session is None
                or session.state is not SessionState.OPEN
                or (found.action[0], found.action[1], found.action[-1]) != (tool, arguments, audience)
                or not all(self._executed(caller.tenant, earlier) for earlier in found.decision.after)
            ):
                return False
            self._decisions[key] = replace(found, redeemed=True)
            return True

    def _executed(self, tenant: str, decision_id: str) -> bool:
        found = self._decisions.get((tenant, decision_id))
        return found is not None and (found.redeemed or found.outcome is Outcome.EXECUTED)

    def open_decisions(self, tenant: str, after: str) -> list[Decision]:
        """Expired allows whose outcome nobody reported, by id."""
        with self._lock:
            return sorted(
                (
                    item.decision
                    for (owner, decision_id), item in self._decisions.items()
                    if owner == tenant
                    and decision_id > after
                    and item.decision.effect is Effect.ALLOW
                    and item.outcome is None
                    and item.decision.expires_at is not None
                    and self.now() >= item.decision.expires_at
                ),
                key=lambda decision: decision.decision_id,
            )

    def evaluate(self, received: Received, arguments_text: bytes) -> Decision:
        """Judge, record and return; or return what was recorded for the same call."""
        with self._lock:
            return self._recorded_of(received, arguments_text, self._look(received), broken_by=None)

    def evaluate_plan(
        self, items: Sequence[tuple[Received, bytes]], *, all_or_nothing: bool
    ) -> list[Decision]:
        """Judge and record the items one after the other; or, if asked, all as blocks if not all are allowed.

        Scripts are then asked twice: what all would get, and again for each that is recorded.
        """
        with self._lock:
            broken_by = None
            if all_or_nothing:
                looks = [self._look(received) for received, _ in items]
                broken_by = next((i for i, look in enumerate(looks) if look.effect is not Effect.ALLOW), None)
            return [
                self._recorded_of(received, text, self._look(received), broken_by=broken_by)
                for received, text in items
            ]

    def _look(self, received: Received) -> _Look:
        """What a request gets."""
        caller, action = received.caller, received.action
        session, problem = self._own(received)
        leaf = received.hops[-1].grant if received.hops else ""
        key = (
            caller.tenant,
            received.session_id,
            caller.subject,
            leaf,
            action.tool_call_id,
            received.review_id,
        )
        same = (
            action.tool,
            action.arguments,
            action.resource,
            action.provenance,
            received.hops,
            received.audience,
        )
        prior = self._decisions.get((caller.tenant, self._keys.get(key, "")))
        found: Reason | None = None
        stored: Decision | None = None
        if prior is not None and prior.action != same:
            found = _reason("action.key_reused", "This tool_call_id was used for another action.")
        elif prior is not None:
            if self._stands(prior.decision, None if problem else session) and prior.outcome is None:
                stored = prior.decision
            elif prior.decision.effect is Effect.ALLOW:
                found = _reason("action.replay_stale", "This call was allowed before.")
        if found is not None:
            verdict = Verdict(effect=Effect.BLOCK, code=found.code, message=found.message)
        elif stored is not None:
            verdict = Verdict(effect=stored.effect, code=stored.reasons[0].code)
        else:
            verdict = self._judge(received, session, problem)
        return _Look(
            session=session,
            problem=problem,
            key=key,
            same=same,
            stored=stored,
            verdict=verdict,
            claims_key=found is None or found.code != "action.key_reused",
        )

    def _recorded_of(
        self, received: Received, arguments_text: bytes, look: _Look, *, broken_by: int | None
    ) -> Decision:
        """Record and return the decision; `broken_by` is the item for which a whole plan is blocked."""
        self.received.append(received)
        caller, action, session, verdict = received.caller, received.action, look.session, look.verdict
        blocked = broken_by is not None and look.effect is not Effect.BLOCK
        if look.stored is not None and not blocked:
            return replace(look.stored, replayed=True)
        if blocked:
            verdict = Verdict(
                effect=Effect.BLOCK,
                code="plan.not_whole",
                message="Not every action of the plan is allowed.",
                retryable=True,
                resource=verdict.resource,
            )
        decision = self._decide(received, session, verdict, look.problem)
        if blocked:
            (reason,) = decision.reasons
            decision = replace(decision, reasons=(replace(reason, at=f"items[{broken_by}]"),))
        decision = replace(
            decision,
            receipt=receipt(
                decision,
                signer=self._signer,
                tenant=caller.tenant,
                caller=caller.subject,
                tool=action.tool,
                resource=verdict.resource,
                arguments=action.arguments if isinstance(action.arguments, Mapping) else {},
                arguments_text=arguments_text,
                audience=received.audience,
            ),
            position=Position(writer=self._writer, seq=len(self._decisions) + 1),
        )
        self._decisions[caller.tenant, decision.decision_id] = _Recorded(
            decision=decision, caller=caller, action=look.same
        )
        if look.claims_key and not (blocked and look.stored is not None):
            self._keys[look.key] = decision.decision_id
        if session is not None:
            self._moved(caller.tenant, session, decision.effect)
        return decision

    def scripted_tools(self, caller: Caller, session_id: str, hops: tuple[Hop, ...]) -> list[str]:
        """The tools that something was said about: all of them may be allowed, as far as a fake knows."""
        with self._lock:
            session = self.find(caller.tenant, session_id)
            if session is None or self.grants.problem(caller, session, hops, self.now()):
                return []
            return sorted(self._scripts) if session.state is SessionState.OPEN else []

    def simulate(self, received: Received) -> Verdict:
        """What a new such call would get; nothing is recorded."""
        with self._lock:
            return self._judge(received, *self._own(received))

    def _own(self, received: Received) -> tuple[Session | None, tuple[str, str] | None]:
        """The caller's own session, and what is wrong with the chain (code and place)."""
        caller, session = received.caller, self.find(received.caller.tenant, received.session_id)
        if session is None:
            return None, None
        owns = session.agent in caller.agents
        if not owns and not any(hop.grant for hop in received.hops):
            # Whoever shows nothing that it was given learns nothing of the session.
            return None, None
        problem = self.grants.problem(caller, session, received.hops, self.now())
        return (session if owns or problem is None else None), problem

    def _judge(self, received: Received, session: Session | None, problem: tuple[str, str] | None) -> Verdict:
        if problem is not None:
            return Verdict(effect=Effect.BLOCK, code=problem[0], message="The chain proves nothing.")
        if session is None:
            return Verdict(effect=Effect.BLOCK, code="session.unknown", message="There is no such session.")
        if session.state is not SessionState.OPEN:
            return Verdict(effect=Effect.BLOCK, code=f"session.{session.state}", message="It has ended.")
        return self._scripts.get(received.action.tool, self._otherwise)(received)

    def _decide(
        self,
        received: Received,
        session: Session | None,
        verdict: Verdict,
        problem: tuple[str, str] | None,
    ) -> Decision:
        decided_at = self.now().replace(microsecond=0)
        expires_at = decided_at + self._lifetime
        if session is not None:
            expires_at = max(decided_at, min(expires_at, session.expires_at.replace(microsecond=0)))
        decision_id = str(uuid4())
        return Decision(
            decision_id=decision_id,
            effect=verdict.effect,
            reasons=(
                Reason(
                    code=verdict.code,
                    effect=verdict.effect,
                    message=verdict.message,
                    at=problem[1] if problem is not None and verdict.code == problem[0] else "",
                ),
            ),
            chain=self._chain(received, session, verdict.effect, problem),
            obligations=() if verdict.effect is Effect.BLOCK else verdict.obligations,
            retry_after=verdict.retry_after,
            model_text=model_text(verdict, decision_id),
            session_id=received.session_id,
            tool_call_id=received.action.tool_call_id,
            decided_at=decided_at,
            expires_at=expires_at,
            policy=PolicyRevision(bundle="fake", revision="1"),
            data_revisions={
                kind: self._revisions.get(f"{kind}:{received.caller.tenant}", 0)
                for kind in ("settings", "tools", "agents", "signals", "entities")
            },
            session_version=0 if session is None else session.version + 1,
            retryable=verdict.retryable and verdict.effect is Effect.BLOCK,
            attempt_id=received.attempt_id,
        )

    def _chain(
        self,
        received: Received,
        session: Session | None,
        effect: Effect,
        problem: tuple[str, str] | None,
    ) -> tuple[ChainHop, ...]:
        """What is proven by name, else by hashes."""
        if session is None or problem is not None:
            return tuple(
                ChainHop(unverified=hashlib.sha256(f"{hop.agent} {hop.grant}".encode()).hexdigest())
                for hop in received.hops
            )
        *above, last = self.grants.chain_hops(session, received.hops)
        return (*above, replace(last, effect=effect))

    def _stands(self, decision: Decision, session: Session | None) -> bool:
        """Whether a repeat gets the recorded decision."""
        if decision.effect is Effect.BLOCK:
            return not decision.retryable
        assert decision.expires_at is not None
        alive = session is not None and session.state is SessionState.OPEN
        return alive and self.now() < decision.expires_at

    def _moved(self, tenant: str, session: Session, effect: Effect) -> None:
        counts = {**session.decisions, str(effect): session.decisions[effect] + 1}
        stored = self._sessions[tenant, session.session_id]
        self._sessions[tenant, session.session_id] = replace(
            stored, version=stored.version + 1, decisions=counts
        )

    def _seen(self, session: Session) -> Session:
        if session.state is SessionState.OPEN and self.now() >= session.expires_at:
            return replace(session, state=SessionState.EXPIRED)
        return session

    def _on(self, tools: tuple[str, ...], verdict: Verdict) -> None:
        with self._lock:
            if not tools:
                self._otherwise = lambda _: verdict
            for tool in tools:
                self._scripts[tool] = lambda _: verdict

    def _defaults(self) -> dict[str, Any]:
        identity = DevIdentity(tenant=TENANT, subject="test", roles=ROLES, agents=(AGENT,))
        # Generous: a test waits for answers, not for speed.
        return {"identity": identity, "timeout": 30.0}


def _reason(code: str, message: str) -> Reason:
    return Reason(code=code, effect=Effect.BLOCK, message=message)
