"""`Client` and `AsyncClient`: ask the PDP, fail closed.

    with Client("localhost:7433", identity=DevIdentity(tenant="acme", subject="svc")) as pdp:
        decision = pdp.evaluate(action, session=session)
        if decision.allowed: ...

Both are thin: what a call is, and what its answer must be, stands in `calls` and `answers`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any, Self, TypeVar

from placet._calls import requests
from placet._calls.answers import Verifier
from placet._calls.calls import Call, Calls
from placet._calls.many import decisions
from placet._calls.stream import MAX_IN_FLIGHT, DecisionStream
from placet._clock import SteadyClock, steady
from placet._guard.reports import Reports
from placet._transport.channel import AsyncLink, Credentials, SyncLink
from placet._transport.patience import pause
from placet.enforce import Guarded, GuardOptions, Source, guard_async, guard_sync
from placet.errors import PlacetError
from placet.identity import DevIdentity
from placet.model import (
    Action,
    Agent,
    AllowedTool,
    Boundary,
    Chain,
    Decision,
    Entity,
    Grant,
    IssuerKeys,
    OpenDecision,
    Outcome,
    Reported,
    Session,
    Signal,
    Simulation,
    Task,
    Tool,
    ToolRevision,
)

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])


class Client:
    """Asks one PDP. Safe to share between threads, and across `fork()`.

    `target` is a gRPC target: "localhost:7433", "dns:///placet.internal:7433".
    `identity` names the caller to a server in `--insecure-dev`; `credentials` prove it to any
    other. `timeout` is the deadline of a call in seconds, where the call sets none; the server
    is told. `jwks` (needs the extra `placet[verify]`) has receipts' signatures checked: a JWK Set,
    or the address of one, which is asked again when a receipt names a new key; `verifier` is one
    of your own. Without, `Decision.receipt_status` is "unverified".
    `understands` lists the obligations that the caller fulfils: any other blocks.
    """

    def __init__(
        self,
        target: str,
        *,
        identity: DevIdentity | None = None,
        credentials: Credentials | None = None,
        timeout: float = 1.0,
        jwks: Mapping[str, Any] | str | None = None,
        verifier: Verifier | None = None,
        understands: Iterable[str] = (),
        clock: SteadyClock = steady,
    ) -> None:
        """Raises ValueError for settings that make no sense together."""
        self._calls = Calls(
            target=target,
            identity=identity,
            credentials=credentials,
            timeout=timeout,
            jwks=jwks,
            verifier=verifier,
            understands=understands,
            clock=clock,
        )
        self._link = SyncLink(self._calls.connection)
        self._reports = Reports(self._calls)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Send what guards have to report, for five seconds at most, and close the connection.

        Every later call fails.
        """
        self._reports.close()
        self._link.close()

    @property
    def unreported(self) -> int:
        """How many reports of guards were dropped or failed; each is logged (`placet.reports`)."""
        return self._reports.unreported

    def evaluate(
        self,
        action: Action | Mapping[str, Any],
        *,
        session: Session | str,
        chain: requests.Chain = (),
        review_id: str | None = None,
        attempt_id: str | None = None,
        audience: str = "",
        timeout: float | None = None,
    ) -> Decision:
        """Return the decision on an action. Never raises for a failure: that is a block.

        Repeating a call (same session, same tool_call_id) is safe, and gets the same answer,
        marked as replayed; an allow of another attempt is not `allowed`. `attempt_id`
        continues an earlier attempt of this process, after a failure.
        """
        asking = self._calls.evaluate(
            action,
            session=session,
            chain=chain,
            review_id=review_id,
            attempt_id=attempt_id,
            audience=audience,
            timeout=timeout,
        )
        if isinstance(asking, Decision):
            return asking
        try:
            return self._ask(asking.call)
        except PlacetError as exc:
            return asking.failed(exc)

    def evaluate_many(
        self,
        actions: Iterable[Action | Mapping[str, Any]],
        *,
        session: Session | str,
        chain: requests.Chain = (),
        audience: str = "",
        timeout: float | None = None,
        in_flight: int = MAX_IN_FLIGHT,
    ) -> Iterator[tuple[int, Decision]]:
        """Judge independent actions over one stream; yield each one's number and decision as they come.

        Each is what `evaluate` returns: a failure is a block. `timeout` is each action's own. At most
        `in_flight` are unanswered; the next actions are taken when there is room, and when the next
        decision is asked for. Where the iteration is given up, so are the calls in flight.
        """
        return decisions(
            self._calls,
            self._link.overload,
            actions,
            session=session,
            chain=chain,
            audience=audience,
            timeout=timeout,
            in_flight=in_flight,
        )

    def evaluate_plan(
        self,
        actions: Iterable[Action | Mapping[str, Any]],
        *,
        session: Session | str,
        chain: requests.Chain = (),
        all_or_nothing: bool = False,
        attempt_id: str | None = None,
        audience: str = "",
        timeout: float | None = None,
    ) -> tuple[Decision, ...]:
        """Return the decisions on up to 32 actions, in order, each as if those before it were asked first.

        Never raises for a failure: then each is a block. They are recorded together: all, or none.
        `all_or_nothing` blocks all unless all are allowed. An allow with the obligation `after` is
        `allowed` once this client knows that the action before it was executed. Each decision is
        on a call of its own: it may be asked for again alone, as with `evaluate`.
        """
        asking = self._calls.evaluate_plan(
            actions,
            session=session,
            chain=chain,
            all_or_nothing=all_or_nothing,
            attempt_id=attempt_id,
            audience=audience,
            timeout=timeout,
        )
        if isinstance(asking, tuple):
            return asking
        try:
            return self._ask(asking.call)
        except PlacetError as exc:
            return asking.failed(exc)

    def guard(
        self,
        *,
        session: Source[Session | str],
        tool: str,
        chain: Source[requests.Chain] = (),
        intent: Source[str] = "",
        resource: Source[str] = "",
        audience: str = "",
        tool_call_id: Callable[[], str] | None = None,
        exclude: Iterable[str] = (),
        timeout: float | None = None,
    ) -> Guarded:
        """Return a decorator: the function runs on ALLOW only. See `placet.enforce`."""
        options = GuardOptions(
            session=session,
            tool=tool,
            chain=chain,
            intent=intent,
            resource=resource,
            audience=audience,
            tool_call_id=tool_call_id,
            exclude=exclude,
            timeout=timeout,
        )
        return guard_sync(self.evaluate, options, self._reports)

    def simulate(
        self,
        action: Action | Mapping[str, Any],
        *,
        session: Session | str,
        subject: str,
        agents: Iterable[str],
        claims: Mapping[str, Any] | bytes = b"",
        chain: requests.Chain = (),
        audience: str = "",
        timeout: float | None = None,
    ) -> Simulation:
        """Ask what `evaluate` would answer to this subject, which may speak for these agents.

        It is no permission, and leaves no trace but a line in the server's log. A repeat of an
        earlier call is judged as a new one. Role: policy_author.
        """
        return self._ask(
            self._calls.simulate(
                action,
                session=session,
                subject=subject,
                agents=agents,
                claims=claims,
                chain=chain,
                audience=audience,
                timeout=timeout,
            )
        )

    def list_allowed_tools(
        self, session: Session | str, *, chain: requests.Chain = (), timeout: float | None = None
    ) -> tuple[AllowedTool, ...]:
        """Return the tools that may still be allowed in the session: fit for a model's list of tools.

        One that is not listed is blocked whatever its arguments; one that is listed may be blocked
        all the same, so each call still asks. Role: agent; at a bounded rate.
        """
        return self._run(self._calls.list_allowed_tools(session, chain, timeout))

    def report_outcome(
        self,
        decision_id: str = "",
        outcome: Outcome | str = Outcome.UNKNOWN,
        *,
        session: Session | str = "",
        tool_call_id: str = "",
        output: bytes = b"",
        attempt_id: str = "",
        timeout: float | None = None,
    ) -> Reported:
        """Say what became of an allow; return what it still holds, and whether another report counts.

        Without a decision id, of the call `tool_call_id` of `session`. Of `output` the PDP keeps a hash.
        With `attempt_id`, only of the decision on that attempt: `NotFoundError` if there is none.
        """
        return self._run(
            self._calls.report_outcome(
                decision_id,
                outcome,
                session=session,
                tool_call_id=tool_call_id,
                output=output,
                attempt_id=attempt_id,
                timeout=timeout,
            )
        )

    def redeem(
        self,
        decision_id: str,
        *,
        tool: str,
        arguments: Mapping[str, Any] | bytes,
        audience: str = "",
        timeout: float | None = None,
    ) -> None:
        """Use an allow, once, for the action that is about to run. Role: tool.

        Raises `PreconditionError` if it does not permit that: then do not act.
        """
        self._run(
            self._calls.redeem(
                decision_id, tool=tool, arguments=arguments, audience=audience, timeout=timeout
            )
        )

    def list_open_decisions(
        self, *, after: str = "", timeout: float | None = None
    ) -> tuple[OpenDecision, ...]:
        """Return expired allows whose outcome nobody reported, after the decision `after`."""
        return self._run(self._calls.list_open_decisions(after=after, timeout=timeout))

    def get_decision(self, decision_id: str, *, timeout: float | None = None) -> Decision:
        """Return a recorded decision: to read, not to act on (`allowed` is False)."""
        return self._run(self._calls.get_decision(decision_id, timeout))

    def open_session(
        self,
        *,
        task: Task | Mapping[str, Any] | str | None = None,
        principal: str = "",
        agent: str = "",
        boundary: Boundary | Mapping[str, Any] | None = None,
        expires_in: timedelta | float | None = None,
        expires_at: datetime | None = None,
        task_token: str = "",
        principal_token: str = "",
        timeout: float | None = None,
    ) -> Session:
        """Open the session of a task, or return it if it was opened with the same.

        `expires_in` is in seconds; without an expiry the session lasts an hour.

        An issuer gives task, agent, boundary and principal; `principal_token` proves the
        principal by a bearer token of its own. An agent gives the `task_token` that an issuer
        signed (`placet.task_token`), which says all of it.
        """
        return self._run(
            self._calls.open_session(
                task=task,
                principal=principal,
                agent=agent,
                boundary=boundary,
                expires_in=expires_in,
                expires_at=expires_at,
                task_token=task_token,
                principal_token=principal_token,
                timeout=timeout,
            )
        )

    def delegate(
        self,
        session: Session | str,
        chain: requests.Chain = (),
        *,
        to_agent: str,
        boundary: Boundary | Mapping[str, Any] | None = None,
        purpose: str = "",
        expires_in: timedelta | float | None = None,
        expires_at: datetime | None = None,
        timeout: float | None = None,
    ) -> Grant:
        """Hand some of the authority of the last grant of `chain` on to another agent. Role: agent.

        Without a chain: from the root grant that the session was opened with. Boundary and expiry
        are the parent's where none are given, and must lie within it. Raises `PreconditionError`
        for more than that, and for a chain that proves nothing.
        """
        return self._run(
            self._calls.delegate(
                session,
                chain,
                to_agent=to_agent,
                boundary=boundary,
                purpose=purpose,
                expires_in=expires_in,
                expires_at=expires_at,
                timeout=timeout,
            )
        )

    def revoke_grant(
        self,
        session: Session | str,
        grant: Grant | str,
        *,
        reason: str = "",
        timeout: float | None = None,
    ) -> datetime:
        """End a grant (it, or its hash) and all that was delegated from it; return since when.

        By the session's principal or issuer, an operator, or for an agent at or above the grant.
        """
        return self._run(self._calls.revoke_grant(session, grant, reason, timeout))

    def get_chain(self, decision_id: str, *, timeout: float | None = None) -> Chain:
        """Return through whose hands a decision came, and what else each of them was answered.

        By whom the session is, operators and auditors.
        """
        return self._run(self._calls.get_chain(decision_id, timeout))

    def get_session(self, session: Session | str, *, timeout: float | None = None) -> Session:
        """Return the session as it is now."""
        return self._run(self._calls.get_session(session, timeout))

    def complete_task(
        self, session: Session | str, *, reason: str = "", timeout: float | None = None
    ) -> Session:
        """Say that the task is done: only what its boundary permits after completion is permitted now.

        By its principal or its issuer.
        """
        return self._run(self._calls.complete_task(session, reason, timeout))

    def close_session(
        self, session: Session | str, *, reason: str = "", timeout: float | None = None
    ) -> Session:
        """End a session for good: everything after it is blocked."""
        return self._run(self._calls.close_session(session, reason, timeout))

    def put_tenant(
        self, settings: Mapping[str, Any] | bytes, *, tenant: str = "", timeout: float | None = None
    ) -> int:
        """Create the tenant or replace its settings; return their revision. Role: operator.

        The tenant is the caller's own; one that is named must be that one.
        """
        return self._run(self._calls.put_tenant(settings, tenant, timeout))

    def put_agents(self, agents: Iterable[Agent | Mapping[str, Any]], *, timeout: float | None = None) -> int:
        """Create or replace agents; return the agents' revision. Role: operator."""
        return self._run(self._calls.put_agents(agents, timeout))

    def put_tools(self, tools: Iterable[Tool | Mapping[str, Any]], *, timeout: float | None = None) -> int:
        """Create or replace tools of the registry; return its revision. Role: operator."""
        return self._run(self._calls.put_tools(tools, timeout))

    def put_signals(
        self, signals: Iterable[Signal | Mapping[str, Any]], *, timeout: float | None = None
    ) -> int:
        """Create or replace signals; return their revision. Role: operator."""
        return self._run(self._calls.put_signals(signals, timeout))

    def put_issuer_keys(
        self, issuer: str, jwks: Mapping[str, Any] | bytes, *, timeout: float | None = None
    ) -> int:
        """Replace the public keys (a JWK Set) of an issuer of task tokens; {"keys": []} revokes all.

        Returns the issuers' revision. Role: operator.
        """
        return self._run(self._calls.put_issuer_keys(issuer, jwks, timeout))

    def list_issuer_keys(self, *, timeout: float | None = None) -> list[IssuerKeys]:
        """Return the issuers of task tokens with their keys, by name. Role: operator or auditor."""
        return self._run(self._calls.list_issuer_keys(timeout))

    def list_tools(
        self, *, at_revision: int = 0, after: str = "", timeout: float | None = None
    ) -> tuple[int, list[dict[str, Any]]]:
        """Return the registry's revision and up to 50 tools after a name, as `put_tools` takes them.

        As they are, or as they were at a revision. Role: operator or auditor.
        """
        return self._run(self._calls.list_tools(at_revision, after, timeout))

    def tool_history(
        self, *, before_revision: int = 0, limit: int = 20, timeout: float | None = None
    ) -> list[ToolRevision]:
        """Return what was registered when, latest first. Role: operator or auditor."""
        return self._run(self._calls.tool_history(before_revision, limit, timeout))

    def roll_back_tools(self, to_revision: int, *, timeout: float | None = None) -> int:
        """Make the registry what it was at a revision; return the new one. Role: operator."""
        return self._run(self._calls.roll_back_tools(to_revision, timeout))

    def put_entities(self, entities: Iterable[Mapping[str, Any]], *, timeout: float | None = None) -> int:
        """Create or replace entities, all or none; return their revision. Role: operator.

        Each is `{"type": …, "id": …, "attributes": {…}}`.
        """
        return self._run(self._calls.put_entities(entities, timeout))

    def patch_entity(
        self,
        name: str,
        set: Mapping[str, Any] | None = None,
        *,
        unset: Iterable[str] = (),
        timeout: float | None = None,
    ) -> Entity:
        """Set and remove attributes of the entity "type:id"; return what it is then. Role: operator."""
        return self._run(self._calls.patch_entity(name, set or {}, unset, timeout))

    def delete_entities(self, names: Iterable[str], *, timeout: float | None = None) -> int:
        """Remove entities, each "type:id"; return the revision. Role: operator."""
        return self._run(self._calls.delete_entities(names, timeout))

    def get_entity(self, name: str, *, at_revision: int = 0, timeout: float | None = None) -> Entity:
        """Return the entity "type:id" as it is, or as it was at a revision. Role: operator or auditor."""
        return self._run(self._calls.get_entity(name, at_revision, timeout))

    def entity_history(
        self, name: str, *, before_revision: int = 0, limit: int = 20, timeout: float | None = None
    ) -> list[Entity]:
        """Return what was written of the entity, latest first. Role: operator or auditor."""
        return self._run(self._calls.entity_history(name, before_revision, limit, timeout))

    def _run(self, call: Call[T]) -> T:
        return call.read(self._link.send(call.method, call.request, call.timeout))

    def _ask(self, call: Call[T]) -> T:
        """Run a call that an overloaded server turns away before work on it has begun."""
        end = time.monotonic() + call.timeout
        while True:
            try:
                left = end - time.monotonic()
                return call.read(self._link.send(call.method, call.request, left, admitted=True))
            except PlacetError as exc:
                wait = pause(exc, end - time.monotonic())
                if wait is None:
                    raise
            time.sleep(wait)


class AsyncClient:
    """`Client` for asyncio: the same arguments and promises, awaited.

    A cancelled call raises `asyncio.CancelledError`, like anything that is awaited.
    """

    def __init__(
        self,
        target: str,
        *,
        identity: DevIdentity | None = None,
        credentials: Credentials | None = None,
        timeout: float = 1.0,
        jwks: Mapping[str, Any] | str | None = None,
        verifier: Verifier | None = None,
        understands: Iterable[str] = (),
        clock: SteadyClock = steady,
    ) -> None:
        """Raises ValueError for settings that make no sense together."""
        self._calls = Calls(
            target=target,
            identity=identity,
            credentials=credentials,
            timeout=timeout,
            jwks=jwks,
            verifier=verifier,
            understands=understands,
            clock=clock,
        )
        self._link = AsyncLink(self._calls.connection)
        self._reports = Reports(self._calls)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """See `Client.close`."""
        if self._reports.busy:
            await asyncio.to_thread(self._reports.close)
        else:
            self._reports.close()
        await self._link.close()

    @property
    def unreported(self) -> int:
        """See `Client.unreported`."""
        return self._reports.unreported

    async def evaluate(
        self,
        action: Action | Mapping[str, Any],
        *,
        session: Session | str,
        chain: requests.Chain = (),
        review_id: str | None = None,
        attempt_id: str | None = None,
        audience: str = "",
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> Decision:
        """See `Client.evaluate`."""
        asking = self._calls.evaluate(
            action,
            session=session,
            chain=chain,
            review_id=review_id,
            attempt_id=attempt_id,
            audience=audience,
            timeout=timeout,
        )
        if isinstance(asking, Decision):
            return asking
        try:
            return await self._ask(asking.call)
        except PlacetError as exc:
            return asking.failed(exc)

    async def evaluate_plan(
        self,
        actions: Iterable[Action | Mapping[str, Any]],
        *,
        session: Session | str,
        chain: requests.Chain = (),
        all_or_nothing: bool = False,
        attempt_id: str | None = None,
        audience: str = "",
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> tuple[Decision, ...]:
        """See `Client.evaluate_plan`."""
        asking = self._calls.evaluate_plan(
            actions,
            session=session,
            chain=chain,
            all_or_nothing=all_or_nothing,
            attempt_id=attempt_id,
            audience=audience,
            timeout=timeout,
        )
        if isinstance(asking, tuple):
            return asking
        try:
            return await self._ask(asking.call)
        except PlacetError as exc:
            return asking.failed(exc)

    def stream(self, *, in_flight: int = MAX_IN_FLIGHT) -> DecisionStream:
        """Return a stream for many calls of evaluate at a time, to be used with `async with`.

        At most `in_flight` of its calls are sent and unanswered; the others wait, within their
        own timeouts.
        """
        return DecisionStream(self._calls, self._link, in_flight)

    def guard(
        self,
        *,
        session: Source[Session | str],
        tool: str,
        chain: Source[requests.Chain] = (),
        intent: Source[str] = "",
        resource: Source[str] = "",
        audience: str = "",
        tool_call_id: Callable[[], str] | None = None,
        exclude: Iterable[str] = (),
        timeout: float | None = None,
    ) -> Guarded:
        """Return a decorator for coroutine functions. See `Client.guard`."""
        options = GuardOptions(
            session=session,
            tool=tool,
            chain=chain,
            intent=intent,
            resource=resource,
            audience=audience,
            tool_call_id=tool_call_id,
            exclude=exclude,
            timeout=timeout,
        )
        return guard_async(self.evaluate, options, self._reports)

    async def simulate(
        self,
        action: Action | Mapping[str, Any],
        *,
        session: Session | str,
        subject: str,
        agents: Iterable[str],
        claims: Mapping[str, Any] | bytes = b"",
        chain: requests.Chain = (),
        audience: str = "",
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> Simulation:
        """See `Client.simulate`."""
        return await self._ask(
            self._calls.simulate(
                action,
                session=session,
                subject=subject,
                agents=agents,
                claims=claims,
                chain=chain,
                audience=audience,
                timeout=timeout,
            )
        )

    async def list_allowed_tools(
        self,
        session: Session | str,
        *,
        chain: requests.Chain = (),
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> tuple[AllowedTool, ...]:
        """See `Client.list_allowed_tools`."""
        return await self._run(self._calls.list_allowed_tools(session, chain, timeout))

    async def report_outcome(
        self,
        decision_id: str = "",
        outcome: Outcome | str = Outcome.UNKNOWN,
        *,
        session: Session | str = "",
        tool_call_id: str = "",
        output: bytes = b"",
        attempt_id: str = "",
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> Reported:
        """See `Client.report_outcome`."""
        return await self._run(
            self._calls.report_outcome(
                decision_id,
                outcome,
                session=session,
                tool_call_id=tool_call_id,
                output=output,
                attempt_id=attempt_id,
                timeout=timeout,
            )
        )

    async def redeem(
        self,
        decision_id: str,
        *,
        tool: str,
        arguments: Mapping[str, Any] | bytes,
        audience: str = "",
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> None:
        """See `Client.redeem`."""
        await self._run(
            self._calls.redeem(
                decision_id, tool=tool, arguments=arguments, audience=audience, timeout=timeout
            )
        )

    async def list_open_decisions(
        self,
        *,
        after: str = "",
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> tuple[OpenDecision, ...]:
        """See `Client.list_open_decisions`."""
        return await self._run(self._calls.list_open_decisions(after=after, timeout=timeout))

    async def get_decision(
        self,
        decision_id: str,
        *,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> Decision:
        """See `Client.get_decision`."""
        return await self._run(self._calls.get_decision(decision_id, timeout))

    async def open_session(
        self,
        *,
        task: Task | Mapping[str, Any] | str | None = None,
        principal: str = "",
        agent: str = "",
        boundary: Boundary | Mapping[str, Any] | None = None,
        expires_in: timedelta | float | None = None,
        expires_at: datetime | None = None,
        task_token: str = "",
        principal_token: str = "",
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> Session:
        """See `Client.open_session`."""
        return await self._run(
            self._calls.open_session(
                task=task,
                principal=principal,
                agent=agent,
                boundary=boundary,
                expires_in=expires_in,
                expires_at=expires_at,
                task_token=task_token,
                principal_token=principal_token,
                timeout=timeout,
            )
        )

    async def delegate(
        self,
        session: Session | str,
        chain: requests.Chain = (),
        *,
        to_agent: str,
        boundary: Boundary | Mapping[str, Any] | None = None,
        purpose: str = "",
        expires_in: timedelta | float | None = None,
        expires_at: datetime | None = None,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> Grant:
        """See `Client.delegate`."""
        return await self._run(
            self._calls.delegate(
                session,
                chain,
                to_agent=to_agent,
                boundary=boundary,
                purpose=purpose,
                expires_in=expires_in,
                expires_at=expires_at,
                timeout=timeout,
            )
        )

    async def revoke_grant(
        self,
        session: Session | str,
        grant: Grant | str,
        *,
        reason: str = "",
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> datetime:
        """See `Client.revoke_grant`."""
        return await self._run(self._calls.revoke_grant(session, grant, reason, timeout))

    async def get_chain(
        self,
        decision_id: str,
        *,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> Chain:
        """See `Client.get_chain`."""
        return await self._run(self._calls.get_chain(decision_id, timeout))

    async def get_session(
        self,
        session: Session | str,
        *,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> Session:
        """See `Client.get_session`."""
        return await self._run(self._calls.get_session(session, timeout))

    async def complete_task(
        self,
        session: Session | str,
        *,
        reason: str = "",
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> Session:
        """See `Client.complete_task`."""
        return await self._run(self._calls.complete_task(session, reason, timeout))

    async def close_session(
        self,
        session: Session | str,
        *,
        reason: str = "",
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> Session:
        """See `Client.close_session`."""
        return await self._run(self._calls.close_session(session, reason, timeout))

    async def put_tenant(
        self,
        settings: Mapping[str, Any] | bytes,
        *,
        tenant: str = "",
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> int:
        """See `Client.put_tenant`."""
        return await self._run(self._calls.put_tenant(settings, tenant, timeout))

    async def put_agents(
        self,
        agents: Iterable[Agent | Mapping[str, Any]],
        *,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> int:
        """See `Client.put_agents`."""
        return await self._run(self._calls.put_agents(agents, timeout))

    async def put_tools(
        self,
        tools: Iterable[Tool | Mapping[str, Any]],
        *,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> int:
        """See `Client.put_tools`."""
        return await self._run(self._calls.put_tools(tools, timeout))

    async def put_signals(
        self,
        signals: Iterable[Signal | Mapping[str, Any]],
        *,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> int:
        """See `Client.put_signals`."""
        return await self._run(self._calls.put_signals(signals, timeout))

    async def put_issuer_keys(
        self,
        issuer: str,
        jwks: Mapping[str, Any] | bytes,
        *,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> int:
        """See `Client.put_issuer_keys`."""
        return await self._run(self._calls.put_issuer_keys(issuer, jwks, timeout))

    async def list_issuer_keys(
        self,
        *,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> list[IssuerKeys]:
        """See `Client.list_issuer_keys`."""
        return await self._run(self._calls.list_issuer_keys(timeout))

    async def list_tools(
        self,
        *,
        at_revision: int = 0,
        after: str = "",
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> tuple[int, list[dict[str, Any]]]:
        """See `Client.list_tools`."""
        return await self._run(self._calls.list_tools(at_revision, after, timeout))

    async def tool_history(
        self,
        *,
        before_revision: int = 0,
        limit: int = 20,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> list[ToolRevision]:
        """See `Client.tool_history`."""
        return await self._run(self._calls.tool_history(before_revision, limit, timeout))

    async def roll_back_tools(
        self,
        to_revision: int,
        *,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> int:
        """See `Client.roll_back_tools`."""
        return await self._run(self._calls.roll_back_tools(to_revision, timeout))

    async def put_entities(
        self,
        entities: Iterable[Mapping[str, Any]],
        *,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> int:
        """See `Client.put_entities`."""
        return await self._run(self._calls.put_entities(entities, timeout))

    async def patch_entity(
        self,
        name: str,
        set: Mapping[str, Any] | None = None,
        *,
        unset: Iterable[str] = (),
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> Entity:
        """See `Client.patch_entity`."""
        return await self._run(self._calls.patch_entity(name, set or {}, unset, timeout))

    async def delete_entities(
        self,
        names: Iterable[str],
        *,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> int:
        """See `Client.delete_entities`."""
        return await self._run(self._calls.delete_entities(names, timeout))

    async def get_entity(
        self,
        name: str,
        *,
        at_revision: int = 0,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> Entity:
        """See `Client.get_entity`."""
        return await self._run(self._calls.get_entity(name, at_revision, timeout))

    async def entity_history(
        self,
        name: str,
        *,
        before_revision: int = 0,
        limit: int = 20,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> list[Entity]:
        """See `Client.entity_history`."""
        return await self._run(self._calls.entity_history(name, before_revision, limit, timeout))

    async def _run(self, call: Call[T]) -> T:
        end = time.monotonic() + call.timeout
        data = await self._link.send(call.method, call.request, call.timeout)
        return await self._calls.read(call, data, end - time.monotonic())

    async def _ask(self, call: Call[T]) -> T:
        """See `Client._ask`."""
        end = time.monotonic() + call.timeout
        while True:
            try:
                left = end - time.monotonic()
                data = await self._link.send(call.method, call.request, left, admitted=True)
                return await self._calls.read(call, data, end - time.monotonic())
            except PlacetError as exc:
                wait = pause(exc, end - time.monotonic())
                if wait is None:
                    raise
            await asyncio.sleep(wait)
