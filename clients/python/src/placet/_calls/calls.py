"""The calls of the API as values: method, request, deadline, and how its answer is read.

Pure: `Client` and `AsyncClient` differ only in how they send one.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Generic, TypeVar
from uuid import uuid4

from placet._calls import replies, requests
from placet._calls.answers import (
    AnswerChecks,
    Attempts,
    PlanQuestion,
    Question,
    Verifier,
    ask,
    failed,
    recorded,
)
from placet._calls.fields import revision, text
from placet._calls.jsontext import object_text
from placet._calls.toolform import tool_form
from placet._clock import SteadyClock
from placet._transport.channel import Connection, Credentials
from placet.errors import AnswerError, DeadlineError, InvalidRequestError, PlacetError, invalid
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
from placet.v1 import admin_service_pb2 as admin
from placet.v1 import decision_service_pb2 as decisions
from placet.v1 import entity_service_pb2 as entities
from placet.v1 import session_service_pb2 as sessions

T = TypeVar("T", covariant=True)
R = TypeVar("R")

# Longer than anybody waits for a decision; a larger number is in milliseconds, or a mistake.
MAX_TIMEOUT = 3600.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Call(Generic[T]):
    """`timeout` is in seconds; `read` raises `AnswerError`."""

    method: str
    request: bytes
    timeout: float
    read: Callable[[bytes], T]


@dataclass(frozen=True, kw_only=True, slots=True)
class Asking:
    """A call of Evaluate, and the block that a failure of it becomes."""

    call: Call[Decision]
    question: Question

    def failed(self, error: PlacetError) -> Decision:
        return failed(error, self.question.request)


@dataclass(frozen=True, kw_only=True, slots=True)
class AskingPlan:
    """A call of EvaluateBatch, and the blocks that a failure of it becomes."""

    call: Call[tuple[Decision, ...]]
    question: PlanQuestion

    def failed(self, error: PlacetError) -> tuple[Decision, ...]:
        return self.question.failed(error)


# A tool's own side redeems: what the caller has to do is to hand the receipt on. `Decision.allowed`
# waits for what an action comes after.
ALWAYS_UNDERSTOOD = frozenset({"redeem", "after"})


class Calls:
    """Makes calls for one caller."""

    def __init__(
        self,
        *,
        target: str,
        identity: DevIdentity | None,
        credentials: Credentials | None,
        timeout: float,
        jwks: Mapping[str, Any] | str | None,
        verifier: Verifier | None,
        understands: Iterable[str],
        clock: SteadyClock,
    ) -> None:
        if not target:
            raise ValueError("target: where is the PDP? for example localhost:7433")
        if (identity is None) == (credentials is None):
            raise ValueError("give exactly one of identity and credentials: the PDP must know who calls")
        if isinstance(understands, str):
            raise ValueError("understands must be a list of obligations, not one string")
        self._timeout = _seconds(timeout)
        self._tenant = identity.tenant if identity is not None else ""
        self.connection = Connection(
            target=target,
            metadata=identity.metadata if credentials is None and identity is not None else _of(credentials),
            credentials=credentials.channel_credentials() if credentials is not None else None,
        )
        self._attempts = Attempts(clock)
        # Keys at an address are fetched while an answer is read.
        self._reading_waits = isinstance(jwks, str)
        self._rules = AnswerChecks(
            clock=clock,
            verifier=_verifier(jwks, verifier),
            understood=frozenset(understands) | ALWAYS_UNDERSTOOD,
            tenant=self._tenant,
        )

    async def read(self, call: Call[R], data: bytes, within: float) -> R:
        """Read an answer without holding up the event loop, in so many seconds.

        Raises `AnswerError`, or `DeadlineError` when keys to check it with are too long in coming.
        """
        if not self._reading_waits:
            return call.read(data)
        try:
            async with asyncio.timeout(within):
                return await asyncio.to_thread(call.read, data)
        except TimeoutError as exc:
            raise DeadlineError("no keys in time to check the answer with") from exc

    def evaluate(
        self,
        action: Action | Mapping[str, Any],
        *,
        session: Session | str,
        chain: requests.Chain,
        review_id: str | None,
        attempt_id: str | None,
        audience: str,
        timeout: float | None,
    ) -> Asking | Decision:
        """Return the call; or at once the block, for what cannot be asked."""
        request: decisions.EvaluateRequest | None = None
        try:
            question = ask(
                requests.action(action),
                session_id=requests.session_id(session),
                chain=requests.chain(chain),
                review_id=review_id or "",
                attempt_id=attempt_id or "",
                audience=audience,
                attempts=self._attempts,
                rules=self._rules,
            )
            request = question.request
            return Asking(
                question=question,
                call=Call(
                    method="/placet.v1.DecisionService/Evaluate",
                    request=request.SerializeToString(),
                    timeout=self._deadline(timeout),
                    read=question.decision,
                ),
            )
        except PlacetError as exc:
            return failed(exc, request)

    def evaluate_plan(
        self,
        actions: Iterable[Action | Mapping[str, Any]],
        *,
        session: Session | str,
        chain: requests.Chain,
        all_or_nothing: bool,
        attempt_id: str | None,
        audience: str,
        timeout: float | None,
    ) -> AskingPlan | tuple[Decision, ...]:
        """Return the call; or at once the blocks, for what cannot be asked."""
        asked = list(actions)
        if not asked:
            return ()
        attempt_id = attempt_id or uuid4().hex
        try:
            hops = requests.chain(chain)
            named = requests.session_id(session)
            questions = []
            for index, action in enumerate(asked):
                try:
                    questions.append(
                        ask(
                            requests.action(action),
                            session_id=named,
                            chain=hops,
                            review_id="",
                            attempt_id=attempt_id,
                            audience=audience,
                            attempts=self._attempts,
                            rules=self._rules,
                        )
                    )
                except InvalidRequestError as exc:
                    (violation,) = exc.violations
                    raise invalid(f"items[{index}].{violation.field}", violation.description) from exc
            question = PlanQuestion(questions=tuple(questions), all_or_nothing=all_or_nothing)
            return AskingPlan(
                question=question,
                call=Call(
                    method="/placet.v1.DecisionService/EvaluateBatch",
                    request=question.request().SerializeToString(),
                    timeout=self._deadline(timeout),
                    read=question.decisions,
                ),
            )
        except PlacetError as exc:
            return tuple(failed(exc, None) for _ in asked)

    def simulate(
        self,
        action: Action | Mapping[str, Any],
        *,
        session: Session | str,
        subject: str,
        agents: Iterable[str],
        claims: Mapping[str, Any] | bytes,
        chain: requests.Chain,
        audience: str,
        timeout: float | None,
    ) -> Call[Simulation]:
        request = requests.simulate(
            action,
            session=session,
            subject=subject,
            agents=agents,
            claims=claims,
            hops=chain,
            audience=audience,
        )
        return Call(
            method="/placet.v1.DecisionService/Simulate",
            request=request.SerializeToString(),
            timeout=self._deadline(timeout),
            read=lambda data: replies.simulation(replies.read(decisions.SimulateResponse, data)),
        )

    def list_allowed_tools(
        self, session: Session | str, chain: requests.Chain, timeout: float | None
    ) -> Call[tuple[AllowedTool, ...]]:
        request = decisions.ListAllowedToolsRequest(
            session_id=requests.session_id(session), chain=requests.chain(chain)
        )
        return Call(
            method="/placet.v1.DecisionService/ListAllowedTools",
            request=request.SerializeToString(),
            timeout=self._deadline(timeout),
            read=lambda data: replies.allowed_tools(replies.read(decisions.ListAllowedToolsResponse, data)),
        )

    def report_outcome(
        self,
        decision_id: str,
        outcome: Outcome | str,
        *,
        session: Session | str,
        tool_call_id: str,
        output: bytes,
        attempt_id: str,
        timeout: float | None,
    ) -> Call[Reported]:
        return Call(
            method="/placet.v1.DecisionService/ReportOutcome",
            request=requests.report_outcome(
                decision_id,
                outcome,
                session=session,
                tool_call_id=tool_call_id,
                output=output,
                attempt_id=attempt_id,
            ).SerializeToString(),
            timeout=self._deadline(timeout),
            read=lambda data: self._reported(data, outcome),
        )

    def _reported(self, data: bytes, outcome: Outcome | str) -> Reported:
        reported = replies.reported(data)
        if outcome == Outcome.EXECUTED and not reported.conflict:
            self._rules.executed.add(reported.decision_id)
        return reported

    def redeem(
        self,
        decision_id: str,
        *,
        tool: str,
        arguments: Mapping[str, Any] | bytes,
        audience: str,
        timeout: float | None,
    ) -> Call[None]:
        return Call(
            method="/placet.v1.DecisionService/Redeem",
            request=decisions.RedeemRequest(
                decision_id=text(decision_id, "decision_id"),
                tool=text(tool, "tool"),
                arguments=object_text(arguments, "arguments"),
                audience=text(audience, "audience"),
            ).SerializeToString(),
            timeout=self._deadline(timeout),
            read=lambda data: replies.redeemed(data, decision_id),
        )

    def list_open_decisions(self, *, after: str, timeout: float | None) -> Call[tuple[OpenDecision, ...]]:
        return Call(
            method="/placet.v1.DecisionService/ListOpenDecisions",
            request=decisions.ListOpenDecisionsRequest(after=text(after, "after")).SerializeToString(),
            timeout=self._deadline(timeout),
            read=replies.open_decisions,
        )

    def get_decision(self, decision_id: str, timeout: float | None) -> Call[Decision]:
        return Call(
            method="/placet.v1.DecisionService/GetDecision",
            request=decisions.GetDecisionRequest(
                decision_id=text(decision_id, "decision_id")
            ).SerializeToString(),
            timeout=self._deadline(timeout),
            read=lambda data: recorded(data, self._rules, decision_id),
        )

    def open_session(
        self,
        *,
        task: Task | Mapping[str, Any] | str | None,
        principal: str,
        agent: str,
        boundary: Boundary | Mapping[str, Any] | None,
        expires_in: timedelta | float | None,
        expires_at: datetime | None,
        task_token: str,
        principal_token: str,
        timeout: float | None,
    ) -> Call[Session]:
        request = requests.open_session(
            task=task,
            principal=principal,
            agent=agent,
            boundary=boundary,
            expires_in=expires_in,
            expires_at=expires_at,
            task_token=task_token,
            principal_token=principal_token,
        )
        return Call(
            method="/placet.v1.SessionService/OpenSession",
            request=request.SerializeToString(),
            timeout=self._deadline(timeout),
            read=replies.opened_session,
        )

    def delegate(
        self,
        session: Session | str,
        chain: requests.Chain,
        *,
        to_agent: str,
        boundary: Boundary | Mapping[str, Any] | None,
        purpose: str,
        expires_in: timedelta | float | None,
        expires_at: datetime | None,
        timeout: float | None,
    ) -> Call[Grant]:
        request = requests.delegate(
            session,
            chain,
            to_agent=to_agent,
            boundary=boundary,
            purpose=purpose,
            expires_in=expires_in,
            expires_at=expires_at,
        )
        return Call(
            method="/placet.v1.SessionService/Delegate",
            request=request.SerializeToString(),
            timeout=self._deadline(timeout),
            read=replies.grant,
        )

    def revoke_grant(
        self, session: Session | str, grant: Grant | str, reason: str, timeout: float | None
    ) -> Call[datetime]:
        request = requests.revoke_grant(
            session, grant.grant_hash if isinstance(grant, Grant) else grant, reason
        )
        return Call(
            method="/placet.v1.SessionService/RevokeGrant",
            request=request.SerializeToString(),
            timeout=self._deadline(timeout),
            read=replies.revoked_at,
        )

    def get_chain(self, decision_id: str, timeout: float | None) -> Call[Chain]:
        return Call(
            method="/placet.v1.DecisionService/GetChain",
            request=decisions.GetChainRequest(
                decision_id=text(decision_id, "decision_id")
            ).SerializeToString(),
            timeout=self._deadline(timeout),
            read=lambda data: replies.chain(data, decision_id),
        )

    def get_session(self, session: Session | str, timeout: float | None) -> Call[Session]:
        request = sessions.GetSessionRequest(session_id=requests.session_id(session))
        return Call(
            method="/placet.v1.SessionService/GetSession",
            request=request.SerializeToString(),
            timeout=self._deadline(timeout),
            read=lambda data: _session(sessions.GetSessionResponse, data),
        )

    def complete_task(self, session: Session | str, reason: str, timeout: float | None) -> Call[Session]:
        request = sessions.CompleteTaskRequest(
            session_id=requests.session_id(session), reason=text(reason, "reason")
        )
        return Call(
            method="/placet.v1.SessionService/CompleteTask",
            request=request.SerializeToString(),
            timeout=self._deadline(timeout),
            read=lambda data: _session(sessions.CompleteTaskResponse, data),
        )

    def close_session(self, session: Session | str, reason: str, timeout: float | None) -> Call[Session]:
        request = sessions.CloseSessionRequest(
            session_id=requests.session_id(session), reason=text(reason, "reason")
        )
        return Call(
            method="/placet.v1.SessionService/CloseSession",
            request=request.SerializeToString(),
            timeout=self._deadline(timeout),
            read=lambda data: _session(sessions.CloseSessionResponse, data),
        )

    def put_tenant(
        self, settings: Mapping[str, Any] | bytes, tenant: str, timeout: float | None
    ) -> Call[int]:
        request = requests.put_tenant(settings, tenant or self._tenant)
        return Call(
            method="/placet.v1.AdminService/PutTenant",
            request=request.SerializeToString(),
            timeout=self._deadline(timeout),
            read=lambda data: replies.read(admin.PutTenantResponse, data).settings_revision,
        )

    def put_agents(self, agents: Iterable[Agent | Mapping[str, Any]], timeout: float | None) -> Call[int]:
        return Call(
            method="/placet.v1.AdminService/PutAgents",
            request=requests.put_agents(agents).SerializeToString(),
            timeout=self._deadline(timeout),
            read=lambda data: replies.read(admin.PutAgentsResponse, data).agents_revision,
        )

    def put_tools(self, tools: Iterable[Tool | Mapping[str, Any]], timeout: float | None) -> Call[int]:
        return Call(
            method="/placet.v1.AdminService/PutTools",
            request=requests.put_tools(tools).SerializeToString(),
            timeout=self._deadline(timeout),
            read=lambda data: replies.read(admin.PutToolsResponse, data).tools_revision,
        )

    def list_tools(
        self, at_revision: int, after: str, timeout: float | None
    ) -> Call[tuple[int, list[dict[str, Any]]]]:
        request = admin.ListToolsRequest(
            at_revision=revision(at_revision, "at_revision"), after=text(after, "after")
        )

        def read(data: bytes) -> tuple[int, list[dict[str, Any]]]:
            answer = replies.read(admin.ListToolsResponse, data)
            return answer.tools_revision, [tool_form(tool) for tool in answer.tools]

        return Call(
            method="/placet.v1.AdminService/ListTools",
            request=request.SerializeToString(),
            timeout=self._deadline(timeout),
            read=read,
        )

    def tool_history(
        self, before_revision: int, limit: int, timeout: float | None
    ) -> Call[list[ToolRevision]]:
        request = admin.ListToolHistoryRequest(
            before_revision=revision(before_revision, "before_revision"),
            limit=min(revision(limit, "limit"), 2**32 - 1),
        )
        return Call(
            method="/placet.v1.AdminService/ListToolHistory",
            request=request.SerializeToString(),
            timeout=self._deadline(timeout),
            read=lambda data: [
                replies.tool_revision(item)
                for item in replies.read(admin.ListToolHistoryResponse, data).revisions
            ],
        )

    def roll_back_tools(self, to_revision: int, timeout: float | None) -> Call[int]:
        request = admin.RollbackToolsRequest(to_revision=revision(to_revision, "to_revision"))
        return Call(
            method="/placet.v1.AdminService/RollbackTools",
            request=request.SerializeToString(),
            timeout=self._deadline(timeout),
            read=lambda data: replies.read(admin.RollbackToolsResponse, data).tools_revision,
        )

    def put_signals(self, signals: Iterable[Signal | Mapping[str, Any]], timeout: float | None) -> Call[int]:
        return Call(
            method="/placet.v1.AdminService/PutSignals",
            request=requests.put_signals(signals).SerializeToString(),
            timeout=self._deadline(timeout),
            read=lambda data: replies.read(admin.PutSignalsResponse, data).signals_revision,
        )

    def put_issuer_keys(
        self, issuer: str, jwks: Mapping[str, Any] | bytes, timeout: float | None
    ) -> Call[int]:
        return Call(
            method="/placet.v1.AdminService/PutIssuerKeys",
            request=requests.put_issuer_keys(issuer, jwks).SerializeToString(),
            timeout=self._deadline(timeout),
            read=lambda data: replies.read(admin.PutIssuerKeysResponse, data).issuers_revision,
        )

    def list_issuer_keys(self, timeout: float | None) -> Call[list[IssuerKeys]]:
        return Call(
            method="/placet.v1.AdminService/ListIssuerKeys",
            request=admin.ListIssuerKeysRequest().SerializeToString(),
            timeout=self._deadline(timeout),
            read=lambda data: [
                replies.issuer_keys(item) for item in replies.read(admin.ListIssuerKeysResponse, data).issuers
            ],
        )

    def put_entities(self, values: Iterable[Mapping[str, Any]], timeout: float | None) -> Call[int]:
        return Call(
            method="/placet.v1.EntityService/PutEntities",
            request=requests.put_entities(values).SerializeToString(),
            timeout=self._deadline(timeout),
            read=lambda data: replies.read(entities.PutEntitiesResponse, data).revision,
        )

    def patch_entity(
        self, name: str, set_: Mapping[str, Any], unset: Iterable[str], timeout: float | None
    ) -> Call[Entity]:
        return Call(
            method="/placet.v1.EntityService/PatchEntity",
            request=requests.patch_entity(name, set_, unset).SerializeToString(),
            timeout=self._deadline(timeout),
            read=lambda data: replies.entity(replies.read(entities.PatchEntityResponse, data).entity),
        )

    def delete_entities(self, names: Iterable[str], timeout: float | None) -> Call[int]:
        return Call(
            method="/placet.v1.EntityService/DeleteEntities",
            request=requests.delete_entities(names).SerializeToString(),
            timeout=self._deadline(timeout),
            read=lambda data: replies.read(entities.DeleteEntitiesResponse, data).revision,
        )

    def get_entity(self, name: str, at_revision: int, timeout: float | None) -> Call[Entity]:
        request = entities.GetEntityRequest(
            name=requests.entity_name(name), at_revision=revision(at_revision, "at_revision")
        )
        return Call(
            method="/placet.v1.EntityService/GetEntity",
            request=request.SerializeToString(),
            timeout=self._deadline(timeout),
            read=lambda data: replies.entity(replies.read(entities.GetEntityResponse, data).entity),
        )

    def entity_history(
        self, name: str, before_revision: int, limit: int, timeout: float | None
    ) -> Call[list[Entity]]:
        request = entities.ListEntityHistoryRequest(
            name=requests.entity_name(name),
            before_revision=revision(before_revision, "before_revision"),
            limit=min(revision(limit, "limit"), 2**32 - 1),
        )
        return Call(
            method="/placet.v1.EntityService/ListEntityHistory",
            request=request.SerializeToString(),
            timeout=self._deadline(timeout),
            read=lambda data: [
                replies.entity(version)
                for version in replies.read(entities.ListEntityHistoryResponse, data).versions
            ],
        )

    def _deadline(self, timeout: float | None) -> float:
        """Raises `DeadlineError` when no time is left, `InvalidRequestError` for no number."""
        if timeout is None:
            return self._timeout
        try:
            return _seconds(timeout)
        except ValueError as exc:
            if isinstance(timeout, int | float) and timeout <= 0:
                raise DeadlineError("no time is left to ask in") from exc
            raise invalid("timeout", str(exc)) from exc


def _session(
    kind: type[sessions.GetSessionResponse | sessions.CompleteTaskResponse | sessions.CloseSessionResponse],
    data: bytes,
) -> Session:
    response = replies.read(kind, data)
    if not response.HasField("session"):
        raise AnswerError("the answer has no session")
    return replies.session(response.session)


def _seconds(timeout: Any) -> float:
    if isinstance(timeout, bool) or not isinstance(timeout, int | float):
        raise ValueError("timeout must be a number of seconds: a call without a deadline may hang for ever")
    if not math.isfinite(timeout) or not 0 < timeout <= MAX_TIMEOUT:
        raise ValueError(f"timeout must be more than 0 and at most {MAX_TIMEOUT:.0f} seconds")
    return float(timeout)


def _of(credentials: Credentials | None) -> Callable[[], tuple[tuple[str, str], ...]]:
    assert credentials is not None
    return credentials.metadata


def _verifier(jwks: Mapping[str, Any] | str | None, verifier: Verifier | None) -> Verifier | None:
    if jwks is None:
        return verifier
    if verifier is not None:
        raise ValueError("give jwks or verifier, not both")
    try:
        from placet.verify import RefreshingVerifier, fetch_jwks
        from placet.verify import Verifier as JwksVerifier
    except ImportError as exc:
        raise ValueError("checking signatures needs the extra: pip install 'placet[verify]'") from exc
    if isinstance(jwks, str):
        return RefreshingVerifier(partial(fetch_jwks, jwks))
    return JwksVerifier(jwks)
