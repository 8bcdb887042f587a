"""`AsyncClient`: ask the PDP from an event loop, fail closed.

    async with AsyncClient("localhost:7433", identity=DevIdentity(tenant="acme", subject="svc")) as pdp:
        decision = await pdp.evaluate(action, session=session)
        if decision.allowed: ...

It is thin: what a call is, and what its answer must be, stands in `placet._calls`, a file a noun.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from placet._calls import decisions, delegation, evaluation, outcomes, previews, registry, sessions
from placet._calls import entities as entity_calls
from placet._calls.action import Hops
from placet._calls.context import CallContext
from placet._calls.receipts import Verifier
from placet._clock import SteadyClock, steady
from placet._sides import AsyncSide
from placet._transport.channel import Credentials
from placet.enforce import Guarded, GuardOptions, Source, guard_async
from placet.errors import PlacetError
from placet.identity import DevIdentity
from placet.model import (
    Action,
    Agent,
    AllowedTool,
    Boundary,
    Chain,
    Change,
    ControlKind,
    Decision,
    Entity,
    Grant,
    IssuerKeys,
    OpenDecision,
    Outcome,
    Preview,
    ProofRevocation,
    Replacement,
    Reported,
    Session,
    SettingsVersion,
    Signal,
    Simulation,
    Task,
    Tool,
    ToolFinding,
    ToolRevision,
)


class AsyncClient(AsyncSide):
    """Asks one PDP from an event loop: what a `Client` does, awaited.

    A cancelled call raises `asyncio.CancelledError`, like anything that is awaited.

    `target` is a gRPC target: "localhost:7433", "dns:///placet.internal:7433".
    `identity` names the caller to a server in `--insecure-dev`; `credentials` prove it to any
    other. `timeout` is the deadline of a call in seconds, where the call sets none; the server
    is told. `jwks` (needs the extra `placet[verify]`) has receipts' signatures checked: a JWK Set,
    or the address of one, which is asked again when a receipt names a new key; `verifier` is one
    of your own. Without either, `Decision.receipt_status` is "unverified".
    `understands` lists the obligations that the caller fulfils: any other blocks.
    `session_token` proves part in a session that is given by its id, or was not opened by this process: the
    token, or what returns it; absent: that of the environment's PLACET_SESSION_TOKEN, or of the file that
    PLACET_SESSION_TOKEN_FILE names.
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
        session_token: str | Callable[[], str] | None = None,
    ) -> None:
        """Raises ValueError for settings that make no sense together."""
        super().__init__(
            CallContext(
                target=target,
                identity=identity,
                credentials=credentials,
                timeout=timeout,
                jwks=jwks,
                verifier=verifier,
                understands=understands,
                clock=clock,
                session_token=session_token,
            )
        )

    @property
    def unreported(self) -> int:
        """How many reports of guards were dropped or failed; each is logged (`placet.reports`)."""
        return self._reports.unreported

    async def evaluate(
        self,
        action: Action | Mapping[str, Any],
        *,
        session: Session | str,
        chain: Hops = (),
        review_id: str | None = None,
        attempt_id: str | None = None,
        audience: str = "",
        timeout: float | None = None,
    ) -> Decision:
        """Return the decision on an action. Never raises for a failure: that is a block.

        Repeating a call (same session, same tool_call_id) is safe, and gets the same answer,
        marked as replayed; an allow of another attempt is not `allowed`. `attempt_id`
        continues an earlier attempt of this process, after a failure.

        `session` is the session or its id. `chain` is the `Grant.chain` of a grant that `delegate` returned:
        the hops to the caller, root first; empty: the caller speaks for the session's own agent. `audience`
        is whom the receipt is for; it need not be given, and another than the registry names for the tool
        blocks. `review_id` names a review, of which there are none yet: any blocks. `timeout` is in seconds;
        None: the client's own.
        """
        asked = evaluation.evaluate(
            self._context,
            action,
            session=session,
            chain=chain,
            review_id=review_id,
            attempt_id=attempt_id,
            audience=audience,
            timeout=timeout,
        )
        if isinstance(asked, Decision):
            return asked
        try:
            return await self._run_admitted(asked.call, asked.timeout)
        except PlacetError as exc:
            return asked.block_for(exc)

    async def evaluate_plan(
        self,
        actions: Iterable[Action | Mapping[str, Any]],
        *,
        session: Session | str,
        chain: Hops = (),
        all_or_nothing: bool = False,
        attempt_id: str | None = None,
        audience: str = "",
        timeout: float | None = None,
    ) -> tuple[Decision, ...]:
        """Return the decisions on up to 32 actions, in order, each as if those before it were asked first.

        Never raises for a failure: then each decision is a block. All are recorded together, or none.
        With `all_or_nothing` every action is blocked unless all are allowed. An allow with the obligation
        `after` is `allowed` once this client knows that the action before it was executed. Each decision
        is on a call of its own: it may be asked for again alone, as with `evaluate`.
        """
        asked = evaluation.evaluate_plan(
            self._context,
            actions,
            session=session,
            chain=chain,
            all_or_nothing=all_or_nothing,
            attempt_id=attempt_id,
            audience=audience,
            timeout=timeout,
        )
        if isinstance(asked, tuple):
            return asked
        try:
            return await self._run_admitted(asked.call, asked.timeout)
        except PlacetError as exc:
            return asked.blocks_for(exc)

    def guard(
        self,
        *,
        session: Source[Session | str],
        tool: str,
        chain: Source[Hops] = (),
        intent: Source[str] = "",
        resource: Source[str] = "",
        audience: str = "",
        tool_call_id: Callable[[], str] | None = None,
        exclude: Iterable[str] = (),
        timeout: float | None = None,
    ) -> Guarded:
        """Return a decorator: the function runs on ALLOW only. See `placet.enforce`.

        An `AsyncClient` guards coroutine functions only, a `Client` any function.
        """
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
        return guard_async(self.evaluate, self.get_decision, options, self._reports)

    async def simulate(
        self,
        action: Action | Mapping[str, Any],
        *,
        session: Session | str,
        subject: str,
        agents: Iterable[str],
        claims: Mapping[str, Any] | bytes = b"",
        chain: Hops = (),
        audience: str = "",
        timeout: float | None = None,
    ) -> Simulation:
        """Ask what `evaluate` would answer to this subject, which may speak for these agents.

        It is no permission, and leaves no trace but a line in the server's log. A repeat of an
        earlier call is judged as a new one. Role: policy_author.
        """
        return await self._run_admitted(
            decisions.simulate(
                action,
                session=session,
                subject=subject,
                agents=agents,
                claims=claims,
                chain=chain,
                audience=audience,
            ),
            timeout,
        )

    async def list_allowed_tools(
        self, session: Session | str, *, chain: Hops = (), timeout: float | None = None
    ) -> tuple[AllowedTool, ...]:
        """Return the tools that may still be allowed in the session: fit for a model's list of tools.

        One that is not listed is blocked whatever its arguments; one that is listed may be blocked
        all the same, so each call still asks. Role: agent, which may ask at a bounded rate.
        """
        return await self._run(decisions.list_allowed_tools(session, chain), timeout)

    async def report_outcome(
        self,
        decision_id: str = "",
        outcome: Outcome | str = Outcome.UNKNOWN,
        *,
        session: Session | str = "",
        chain: Hops = (),
        tool_call_id: str = "",
        output: bytes = b"",
        attempt_id: str = "",
        timeout: float | None = None,
    ) -> Reported:
        """Say what became of an allow; return what it still holds, and whether another report counts.

        Without a decision id the report is about the call `tool_call_id` of `session`. The PDP keeps only
        a hash of `output`. An agent proves its part in the decision's session by what `session` carries,
        or by the chain that it acted on. With `attempt_id` the report is about the decision on that attempt
        alone, and raises `NotFoundError` if there is none.
        """
        return await self._run(
            outcomes.report_outcome(
                decision_id,
                outcome,
                session=session,
                chain=chain,
                tool_call_id=tool_call_id,
                output=output,
                attempt_id=attempt_id,
                executed=self._context.checks.executed,
            ),
            timeout,
        )

    async def redeem(
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
        await self._run(
            outcomes.redeem(
                decision_id,
                tool=tool,
                arguments=arguments,
                audience=audience,
            ),
            timeout,
        )

    async def list_open_decisions(
        self, *, after: str = "", timeout: float | None = None
    ) -> tuple[OpenDecision, ...]:
        """Return expired allows whose outcome nobody reported, after the decision `after`."""
        return await self._run(outcomes.list_open_decisions(after=after), timeout)

    async def get_decision(
        self,
        decision_id: str,
        *,
        session: Session | str = "",
        chain: Hops = (),
        timeout: float | None = None,
    ) -> Decision:
        """Return a recorded decision: to read, not to act on (`allowed` is False).

        If its action was executed, allows that come after it become `allowed`.
        An agent proves its part in the decision's session by what `session` carries, or by a chain.
        """
        return await self._run(evaluation.get_decision(self._context, decision_id, session, chain), timeout)

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
        timeout: float | None = None,
    ) -> Session:
        """Open the session of a task, or return it if it was opened with the same.

        `expires_in` is in seconds; without an expiry the session lasts an hour.

        An issuer gives task, agent, boundary and principal; `principal_token` proves the
        principal by a bearer token of its own. An agent gives the `task_token` that an issuer
        signed (`placet.task_token`), which says all of it.
        """
        return await self._run(
            sessions.open_session(
                task=task,
                principal=principal,
                agent=agent,
                boundary=boundary,
                expires_in=expires_in,
                expires_at=expires_at,
                task_token=task_token,
                principal_token=principal_token,
            ),
            timeout,
        )

    async def delegate(
        self,
        session: Session | str,
        chain: Hops = (),
        *,
        to_agent: str,
        boundary: Boundary | Mapping[str, Any] | None = None,
        purpose: str = "",
        expires_in: timedelta | float | None = None,
        expires_at: datetime | None = None,
        timeout: float | None = None,
    ) -> Grant:
        """Hand some of the authority of the last grant of `chain` on to another agent. Role: agent.

        Without a chain it delegates from the root grant that the session was opened with. Boundary and
        expiry are the parent's where none are given, and must lie within the parent's. Raises
        `PreconditionError` for more than that, and for a chain that proves nothing.
        """
        return await self._run(
            delegation.delegate(
                session,
                chain,
                to_agent=to_agent,
                boundary=boundary,
                purpose=purpose,
                expires_in=expires_in,
                expires_at=expires_at,
            ),
            timeout,
        )

    async def revoke_grant(
        self,
        session: Session | str,
        grant: Grant | str,
        *,
        chain: Hops = (),
        reason: str = "",
        timeout: float | None = None,
    ) -> datetime:
        """End a grant (it, or its hash) and all that was delegated from it; return since when.

        It may be called by the session's principal or issuer, by an operator, and by whoever speaks for
        the grant's agent or one above it, who proves part in the session by what `session` carries, or
        by the chain that it acts on.
        """
        return await self._run(delegation.revoke_grant(session, grant, reason, chain), timeout)

    async def revoke_session_proofs(
        self, session: Session | str, *, reason: str = "", timeout: float | None = None
    ) -> ProofRevocation:
        """End all that proves part in a session: its tokens, its root grants and what comes of them.

        Nobody acts in the session until its issuer opens it again; a task token opens it only if it was
        issued after this. It may be called by the session's principal or issuer, and by operators.
        """
        return await self._run(sessions.revoke_session_proofs(session, reason), timeout)

    async def get_chain(
        self,
        decision_id: str,
        *,
        session: Session | str = "",
        chain: Hops = (),
        timeout: float | None = None,
    ) -> Chain:
        """Return through whose hands a decision came, and what else each of them was answered.

        It may be called by whoever may read the session, and by auditors. An agent proves its part in the
        session by what `session` carries, or by a chain.
        """
        return await self._run(delegation.get_chain(decision_id, session, chain), timeout)

    async def get_session(
        self,
        session: Session | str,
        *,
        chain: Hops = (),
        limits: bool = False,
        timeout: float | None = None,
    ) -> Session:
        """Return the session as it is now; with `limits`, also what is used and left of each of its limits.

        Its agent proves its part in it by what `session` carries, or by a chain; an agent to which
        something was delegated does by its chain.
        """
        return await self._run(sessions.get_session(session, chain, limits=limits), timeout)

    async def complete_task(
        self, session: Session | str, *, reason: str = "", timeout: float | None = None
    ) -> Session:
        """Say that the task is done: only what its boundary permits after completion is permitted now.

        It may be called by the session's principal or issuer.
        """
        return await self._run(sessions.complete_task(session, reason), timeout)

    async def close_session(
        self,
        session: Session | str,
        *,
        reason: str = "",
        chain: Hops = (),
        timeout: float | None = None,
    ) -> Session:
        """End a session for good: everything after it is blocked.

        Its agent proves its part in it as for `get_session`.
        """
        return await self._run(sessions.close_session(session, reason, chain), timeout)

    async def put_tenant(
        self,
        settings: Mapping[str, Any] | bytes,
        *,
        tenant: str = "",
        reason: str = "",
        timeout: float | None = None,
    ) -> int:
        """Create the tenant or replace its settings; return their revision. Role: operator.

        The tenant is the caller's own; one that is named must be that one. `reason` goes into the history,
        with the caller's name; so it does with every write below.
        """
        return await self._run(registry.put_tenant(settings, tenant or self._context.tenant, reason), timeout)

    async def put_agents(
        self, agents: Iterable[Agent | Mapping[str, Any]], *, reason: str = "", timeout: float | None = None
    ) -> int:
        """Create or replace agents; return the agents' revision. Role: operator."""
        return await self._run(registry.put_agents(agents, reason), timeout)

    async def put_tools(
        self,
        tools: Iterable[Tool | Mapping[str, Any]],
        *,
        reason: str = "",
        on_warning: Callable[[ToolFinding], object] | None = None,
        timeout: float | None = None,
    ) -> int:
        """Create or replace tools of the registry; return its revision. Role: operator.

        `on_warning` is called with each thing that is doubtful in them. Raises `InvalidRequestError` whose
        `violations` name what is wrong, all of it as far as an error has room.
        """
        return await self._run(registry.put_tools(tools, reason, on_warning), timeout)

    async def check_tools(
        self, tools: Iterable[Tool | Mapping[str, Any]], *, timeout: float | None = None
    ) -> list[ToolFinding]:
        """Return what `put_tools` would find in these tools, and write nothing. Roles: operator, auditor."""
        return await self._run(registry.check_tools(tools), timeout)

    async def put_signals(
        self, signals: Iterable[Signal | Mapping[str, Any]], *, reason: str = "", timeout: float | None = None
    ) -> int:
        """Create or replace signals; return their revision. Role: operator."""
        return await self._run(registry.put_signals(signals, reason), timeout)

    async def patch_tenant(
        self, patch: Mapping[str, Any] | bytes, *, reason: str = "", timeout: float | None = None
    ) -> tuple[int, Mapping[str, Any]]:
        """Merge a JSON Merge Patch (RFC 7396) into the settings: None removes a member. Role: operator.

        Returns the settings' revision, and what they are then.
        """
        return await self._run(registry.patch_tenant(patch, reason), timeout)

    async def preview_write(
        self, write: str, *args: Any, timeout: float | None = None, **kwargs: Any
    ) -> Preview:
        """Return what a write would change, and write nothing; it fails where the write itself would.

        `write` is the name of the method that writes, and the other arguments are that one's:
        `preview_write("put_agents", agents)`. Role: operator.
        """
        return await self._run(previews.preview_write(write, *args, **kwargs), timeout)

    async def get_change(
        self, kind: ControlKind | str, revision: int, *, after: str = "", timeout: float | None = None
    ) -> tuple[Change, list[Replacement]]:
        """Return a revision, and up to 20 of the things that it wrote, with what was there before.

        By name, after one. Role: operator or auditor.
        """
        return await self._run(registry.get_change(kind, revision, after), timeout)

    async def get_settings(self, *, at_revision: int = 0, timeout: float | None = None) -> SettingsVersion:
        """Return the tenant's settings, as they are or as they were at a revision.

        Role: operator or auditor, here and for the three below.
        """
        return await self._run(registry.get_settings(at_revision), timeout)

    async def list_agents(
        self, *, at_revision: int = 0, after: str = "", timeout: float | None = None
    ) -> tuple[int, list[Agent]]:
        """Return the agents' revision and up to 100 agents after a name, as they are or were."""
        return await self._run(registry.list_agents(at_revision, after), timeout)

    async def list_signals(
        self, *, at_revision: int = 0, after: str = "", timeout: float | None = None
    ) -> tuple[int, list[Signal]]:
        """Return the signals' revision and up to 100 signals after a name, also those that have ended."""
        return await self._run(registry.list_signals(at_revision, after), timeout)

    async def list_changes(
        self,
        kind: ControlKind | str,
        *,
        before_revision: int = 0,
        limit: int = 20,
        timeout: float | None = None,
    ) -> list[Change]:
        """Return who changed settings, agents, tools, signals or issuers, when and why, latest first."""
        return await self._run(registry.list_changes(kind, before_revision, limit), timeout)

    async def put_issuer_keys(
        self, issuer: str, jwks: Mapping[str, Any] | bytes, *, reason: str = "", timeout: float | None = None
    ) -> int:
        """Replace the public keys (a JWK Set) of an issuer of task tokens; {"keys": []} revokes all.

        Returns the issuers' revision. Role: operator.
        """
        return await self._run(registry.put_issuer_keys(issuer, jwks, reason), timeout)

    async def list_issuer_keys(self, *, timeout: float | None = None) -> list[IssuerKeys]:
        """Return the issuers of task tokens with their keys, by name. Role: operator or auditor."""
        return await self._run(registry.list_issuer_keys(), timeout)

    async def list_tools(
        self, *, at_revision: int = 0, after: str = "", timeout: float | None = None
    ) -> tuple[int, list[dict[str, Any]]]:
        """Return the registry's revision and up to 50 tools after a name, as `put_tools` takes them.

        They are as they are now, or as they were at a revision. Role: operator or auditor.
        """
        return await self._run(registry.list_tools(at_revision, after), timeout)

    async def tool_history(
        self, *, before_revision: int = 0, limit: int = 20, timeout: float | None = None
    ) -> list[ToolRevision]:
        """Return what was registered when, latest first. Role: operator or auditor."""
        return await self._run(registry.tool_history(before_revision, limit), timeout)

    async def roll_back_tools(
        self,
        to_revision: int,
        *,
        reason: str = "",
        on_warning: Callable[[ToolFinding], object] | None = None,
        timeout: float | None = None,
    ) -> int:
        """Make the registry what it was at a revision; return the new one. Role: operator.

        What is doubtful or wrong in the tools as they were is told as by `put_tools`.
        """
        return await self._run(registry.roll_back_tools(to_revision, reason, on_warning), timeout)

    async def put_entities(
        self, entities: Iterable[Mapping[str, Any]], *, reason: str = "", timeout: float | None = None
    ) -> int:
        """Create or replace entities, all or none; return their revision. Role: operator.

        Each is `{"type": …, "id": …, "attributes": {…}}`. For a record or an order, `"posted": {DECISION:
        AMOUNT}` says which decisions its figures contain, and no others.
        """
        return await self._run(entity_calls.put_entities(entities, reason), timeout)

    async def patch_entity(
        self,
        name: str,
        set: Mapping[str, Any] | None = None,
        *,
        unset: Iterable[str] = (),
        posted: Mapping[str, str | int | Decimal] | None = None,
        reason: str = "",
        timeout: float | None = None,
    ) -> Entity:
        """Set and remove attributes of the entity "type:id"; return what it is then. Role: operator.

        `posted` says what the figures of a record or an order contain now, by decision and in major units;
        what was said of other decisions stays.
        """
        return await self._run(entity_calls.patch_entity(name, set or {}, unset, reason, posted), timeout)

    async def delete_entities(
        self, names: Iterable[str], *, reason: str = "", timeout: float | None = None
    ) -> int:
        """Remove entities, each "type:id"; return the revision. Role: operator."""
        return await self._run(entity_calls.delete_entities(names, reason), timeout)

    async def get_entity(self, name: str, *, at_revision: int = 0, timeout: float | None = None) -> Entity:
        """Return the entity "type:id" as it is, or as it was at a revision. Role: operator or auditor."""
        return await self._run(entity_calls.get_entity(name, at_revision), timeout)

    async def entity_history(
        self, name: str, *, before_revision: int = 0, limit: int = 20, timeout: float | None = None
    ) -> list[Entity]:
        """Return what was written of the entity, latest first. Role: operator or auditor."""
        return await self._run(entity_calls.entity_history(name, before_revision, limit), timeout)
