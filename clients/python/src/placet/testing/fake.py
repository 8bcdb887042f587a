"""`FakePdp`: what a test holds in its hand. What it does stands in the files beside this one."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self
from uuid import uuid4

from placet.client import AsyncClient, Client
from placet.identity import DevIdentity
from placet.model import Boundary, Effect, Figures, Obligation, Remedy, SchemaViolation, Session, Task
from placet.testing.decisions import FakeDecisions
from placet.testing.outcomes import FakeOutcomes
from placet.testing.receipts import Es256Signer, NoSigner, Signer
from placet.testing.script import Caller, Received, Script, Verdict
from placet.testing.server import start_server
from placet.testing.state import FakeState

if TYPE_CHECKING:
    from collections.abc import Iterator

    import grpc

    from placet.v1 import decision_service_pb2 as decisions

TENANT = "test"
AGENT = "agent:test"
ROLES = ("agent", "session_issuer", "operator")


class FakePdp:
    """A PDP for tests of agent runtimes. Use as a context manager; `target` is where it listens.

    It answers as the PDP does in what a caller's own code must handle, and the contract suite that
    the PDP answers to holds it to that:

    - the verdict on an action is its script's; a tool without a script is blocked;
    - sessions open, complete, close and expire; a task has one; a caller sees only its own;
    - a repeated call gets the recorded answer, and another action under its id is blocked;
    - a plan is judged item by item, or blocked whole if it is asked for all or nothing;
    - a chain counts if each of its grants was issued here for this session and agent, on the one
      before it, and is neither expired nor revoked;
    - an allow is redeemed once, for its action, while it stands; outcomes are noted, a later one
      that contradicts is a conflict, and the state of a hold is what its outcome says;
    - roles, required fields and tenants are checked, and failures carry the PDP's error details.

    It never does what the PDP decides or proves, and is not meant to learn it:

    - no policy: no rule, boundary, settings, trust, registered tool or entity has a say;
    - no limits and no duplicates: a hold has a state, and holds nothing back;
    - of a boundary, delegation compares tools, effects and expiry with the parent's, nothing else;
    - no signature is checked: it believes every task token, refuses tokens of principals, and does not
      sign its own grants;
    - what operators write is checked and counted, not kept; the calls that would read it, and all
      of EntityService, are refused as UNIMPLEMENTED;
    - nothing outlives the object, and input documents are empty.

    `signed` has receipts really signed (needs the extra `placet[verify]`; `jwks()` has the
    key); else they are well formed, and no verifier accepts them. `lifetime` is how long an
    allow stands.
    """

    def __init__(self, *, signed: bool = False, lifetime: timedelta = timedelta(seconds=60)) -> None:
        self._signer: Signer = Es256Signer() if signed else NoSigner()
        self._state = FakeState(TENANT)
        self._decisions = FakeDecisions(self._state, signer=self._signer, lifetime=lifetime)
        self._outcomes = FakeOutcomes(self._state, self._decisions)
        self._server: grpc.Server | None = None
        self._port = 0

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
        self._server, self._port = start_server(self._state, self._decisions, self._outcomes, port=self._port)

    def stop(self) -> None:
        """Drop every connection, as a process that dies does."""
        self._state.scripts.gate.set()
        if self._server is not None:
            self._server.stop(grace=None).wait()
            self._server = None

    @property
    def target(self) -> str:
        """Where it listens, on loopback: `host:port`."""
        return f"127.0.0.1:{self._port}"

    def client(self, **options: Any) -> Client:
        """Return a client of this fake; it holds all roles. `options` are `Client`'s."""
        return Client(self.target, **(_client_defaults() | options))

    def async_client(self, **options: Any) -> AsyncClient:
        """Return an async client of this fake; it holds all roles. `options` are `AsyncClient`'s."""
        return AsyncClient(self.target, **(_client_defaults() | options))

    def session(self, *, agent: str = AGENT, task: str = "") -> Session:
        """Return a new open session of the clients' tenant and agent."""
        session = self._state.open_session(
            Caller(tenant=TENANT, subject="test", roles=frozenset(ROLES), agents=frozenset({agent})),
            task=Task(id=task or f"task-{uuid4().hex}"),
            principal="user:test",
            agent=agent,
            boundary=Boundary(),
            expires_at=None,
        )
        session, token = self._state.issue_token(TENANT, session.session_id)
        return replace(session, token=token)

    def jwks(self) -> dict[str, Any]:
        """Return the JWK Set; without `signed`, an empty one."""
        return self._signer.jwks()

    # --- telling it what to answer -----------------------------------------------

    def allow(
        self, *tools: str, code: str = "task.within_boundary", obligations: Iterable[Obligation] = ()
    ) -> None:
        """Allow every call of these tools; without a name, of every tool that has no script."""
        self._answer(tools, Verdict(effect=Effect.ALLOW, code=code, obligations=tuple(obligations)))

    def block(
        self,
        *tools: str,
        code: str = "boundary.tool",
        retryable: bool = False,
        retry_after: timedelta | None = None,
        at: str = "",
        remediation: str = "",
        remedy: Remedy | None = None,
        figures: Iterable[Figures] = (),
        violations: Iterable[SchemaViolation] = (),
    ) -> None:
        """Block every call of these tools; without a name, of every tool that has no script.

        What comes after `retry_after` is what the decision's reason says beside its code.
        """
        verdict = Verdict(
            effect=Effect.BLOCK,
            code=code,
            retryable=retryable,
            retry_after=retry_after,
            at=at,
            remediation=remediation,
            remedy=remedy,
            figures=tuple(figures),
            violations=tuple(violations),
        )
        self._answer(tools, verdict)

    def escalate(self, *tools: str, code: str = "payment.large") -> None:
        """Escalate every call of these tools; without a name, of every tool that has no script."""
        self._answer(tools, Verdict(effect=Effect.ESCALATE, code=code))

    def script(self, tool: str, script: Script) -> None:
        """Have `script` judge every call of a tool."""
        with self._state.lock:
            self._state.scripts.set_script(tool, script)

    def fail(self, code: grpc.StatusCode, *, times: int = 1, method: str = "Evaluate") -> None:
        """Answer the next calls of a method with a failure."""
        with self._state.lock:
            self._state.scripts.fail(method, code, times)

    @contextmanager
    def hung(self) -> Iterator[None]:
        """Answer no Evaluate until the block is left."""
        self._state.scripts.gate.clear()
        try:
            yield
        finally:
            self._state.scripts.gate.set()

    def advance(self, by: timedelta) -> None:
        """Move the fake's clock forward."""
        self._state.advance(by)

    def put(self, kind: str, tenant: str) -> int:
        """Return the next revision of one kind of a tenant's data; "settings" creates the tenant."""
        return self._state.put(kind, tenant)

    @property
    def alter(self) -> Callable[[decisions.EvaluateResponse], None] | None:
        """Called with each answer of Evaluate before it is sent: change it to misbehave."""
        return self._state.scripts.alter

    @alter.setter
    def alter(self, change: Callable[[decisions.EvaluateResponse], None] | None) -> None:
        self._state.scripts.alter = change

    @property
    def alter_plan(self) -> Callable[[decisions.EvaluateBatchResponse], None] | None:
        """Called with each answer of EvaluateBatch before it is sent."""
        return self._state.scripts.alter_plan

    @alter_plan.setter
    def alter_plan(self, change: Callable[[decisions.EvaluateBatchResponse], None] | None) -> None:
        self._state.scripts.alter_plan = change

    def _answer(self, tools: tuple[str, ...], verdict: Verdict) -> None:
        with self._state.lock:
            self._state.scripts.answer(tools, verdict)

    # --- what it has seen ----------------------------------------------------------

    def now(self) -> datetime:
        """Return the time by the fake's clock."""
        return self._state.now()

    @property
    def received(self) -> list[Received]:
        """Every request to Evaluate, and item of a plan, that got a decision, in order."""
        return self._decisions.received

    @property
    def outcomes(self) -> list[tuple[str, str]]:
        """Every outcome that was reported, guards' own included, in order: decision and outcome."""
        return self._outcomes.reported

    @property
    def outputs(self) -> dict[str, bytes]:
        """What was said to have been returned, by decision."""
        return self._outcomes.outputs


def _client_defaults() -> dict[str, Any]:
    identity = DevIdentity(tenant=TENANT, subject="test", roles=ROLES, agents=(AGENT,))
    # Generous: a test waits for answers, not for speed.
    return {"identity": identity, "timeout": 30.0}
