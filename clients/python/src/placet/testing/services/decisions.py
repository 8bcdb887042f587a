"""DecisionService of the fake."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from placet._wire.numbers import (
    EFFECT_NUMBERS,
    HOLD_STATE_NUMBERS,
    OUTCOME_NUMBERS,
    REPORTABLE_OUTCOMES,
)
from placet._wire.reasons import reason_message
from placet.model import ChainHop, Effect, Hop, Session
from placet.testing.decisions import FakeDecisions
from placet.testing.outcomes import FakeOutcomes
from placet.testing.script import Caller
from placet.testing.services.messages import chain_hop_message, decision_message, timestamp
from placet.testing.services.refusals import (
    Refused,
    check_scripted_failure,
    check_tenant,
    handle,
    invalid,
    not_found,
    precondition_failed,
    status_of,
    unproven,
)
from placet.testing.services.requests import check_name, read_hops, read_object, read_plan, read_request
from placet.testing.services.sessions import may_close
from placet.testing.state import FakeState
from placet.v1 import decision_service_pb2 as decisions
from placet.v1 import decision_service_pb2_grpc as stubs

# As many decisions as a link of a chain shows.
_MAX_SHOWN = 20


class DecisionService(stubs.DecisionServiceServicer):
    def __init__(self, state: FakeState, decisions: FakeDecisions, outcomes: FakeOutcomes) -> None:
        self._state = state
        self._decisions = decisions
        self._outcomes = outcomes

    def Evaluate(self, request: decisions.EvaluateRequest, context: Any) -> decisions.EvaluateResponse:
        def answer(caller: Caller) -> decisions.EvaluateResponse:
            return self._evaluate(request, caller, context.time_remaining())

        return handle(self._state, context, "Evaluate", {"agent"}, answer)

    def EvaluateStream(
        self, requests: Iterator[decisions.EvaluateStreamRequest], context: Any
    ) -> Iterator[decisions.EvaluateStreamResponse]:
        caller = handle(self._state, context, "EvaluateStream", {"agent"}, lambda caller: caller)
        for message in requests:
            for action in message.actions:
                yield decisions.EvaluateStreamResponse(answers=[self._answer_streamed(action, caller)])

    def _answer_streamed(self, action: decisions.StreamedAction, caller: Caller) -> decisions.StreamedAnswer:
        answer = decisions.StreamedAnswer(id=action.id)
        try:
            if not action.id:
                raise invalid("id", "is required")
            check_scripted_failure(self._state, "Evaluate")
            seconds = action.timeout.ToTimedelta().total_seconds()
            answer.decision.CopyFrom(self._evaluate(action.request, caller, seconds).decision)
        except Refused as exc:
            answer.error.ParseFromString(status_of(exc).SerializeToString())
        return answer

    def _evaluate(
        self, request: decisions.EvaluateRequest, caller: Caller, time_remaining: float | None
    ) -> decisions.EvaluateResponse:
        received = read_request(request, caller, time_remaining)
        check_tenant(self._state, caller)
        self._state.scripts.gate.wait()
        decision = self._decisions.evaluate(received, request.action.arguments)
        response = decisions.EvaluateResponse(decision=decision_message(decision))
        if self._state.scripts.alter is not None:
            self._state.scripts.alter(response)
        return response

    def EvaluateBatch(
        self, request: decisions.EvaluateBatchRequest, context: Any
    ) -> decisions.EvaluateBatchResponse:
        def answer(caller: Caller) -> decisions.EvaluateBatchResponse:
            items = read_plan(request, caller, context.time_remaining())
            check_tenant(self._state, caller)
            self._state.scripts.gate.wait()
            decided = self._decisions.evaluate_plan(items, all_or_nothing=request.all_or_nothing)
            response = decisions.EvaluateBatchResponse(
                decisions=[decision_message(decision) for decision in decided],
                all_allowed=all(decision.effect is Effect.ALLOW for decision in decided),
            )
            if self._state.scripts.alter_plan is not None:
                self._state.scripts.alter_plan(response)
            return response

        return handle(self._state, context, "EvaluateBatch", {"agent"}, answer)

    def ReportOutcome(
        self, request: decisions.ReportOutcomeRequest, context: Any
    ) -> decisions.ReportOutcomeResponse:
        def answer(caller: Caller) -> decisions.ReportOutcomeResponse:
            if request.outcome not in REPORTABLE_OUTCOMES:
                raise invalid("outcome", "must be one of the outcomes that can be reported")
            if not request.decision_id:
                check_name(request.session_id, "session_id")
                check_name(request.tool_call_id, "tool_call_id")
            elif request.session_id or request.tool_call_id:
                raise invalid("decision_id", "give it, or session_id and tool_call_id, not both")
            check_tenant(self._state, caller)
            hops = read_hops(request.chain)
            try:
                found = self._outcomes.report(
                    caller,
                    REPORTABLE_OUTCOMES[request.outcome],
                    decision_id=request.decision_id,
                    session_id=request.session_id,
                    tool_call_id=request.tool_call_id,
                    attempt_id=request.attempt_id,
                    output=request.output,
                    proves=lambda session: self._decisions.proves_part(
                        caller, session, hops, request.session_token, ended=True
                    ),
                )
            except LookupError as exc:
                raise precondition_failed("OUTCOME_REFUSED", str(exc)) from exc
            except PermissionError as exc:
                raise unproven() from exc
            if found is None:
                raise not_found("no such decision of yours")
            return decisions.ReportOutcomeResponse(
                decision_id=found.decision_id, hold=HOLD_STATE_NUMBERS[found.hold], conflict=found.conflict
            )

        return handle(self._state, context, "ReportOutcome", set(), answer)

    def Redeem(self, request: decisions.RedeemRequest, context: Any) -> decisions.RedeemResponse:
        def answer(caller: Caller) -> decisions.RedeemResponse:
            decision_id = check_name(request.decision_id, "decision_id")
            arguments = read_object(request.arguments, "arguments")
            tool = check_name(request.tool, "tool")
            check_tenant(self._state, caller)
            if not self._outcomes.is_served(caller, decision_id):
                raise not_found("no such decision for a tool and an audience that this credential serves")
            if not self._outcomes.redeem(caller, decision_id, tool, arguments, request.audience):
                raise precondition_failed("NOT_REDEEMABLE", "it cannot be used for this, or no longer")
            return decisions.RedeemResponse(decision_id=decision_id)

        return handle(self._state, context, "Redeem", {"tool"}, answer)

    def ListOpenDecisions(
        self, request: decisions.ListOpenDecisionsRequest, context: Any
    ) -> decisions.ListOpenDecisionsResponse:
        def answer(caller: Caller) -> decisions.ListOpenDecisionsResponse:
            return decisions.ListOpenDecisionsResponse(
                decisions=[
                    decisions.OpenDecision(
                        decision_id=decision.decision_id,
                        session_id=decision.session_id,
                        tool_call_id=decision.tool_call_id,
                        hold=decisions.HOLD_STATE_UNRESOLVED,
                        expires_at=timestamp(decision.expires_at),
                    )
                    for decision in self._outcomes.list_open(caller.tenant, request.after)
                ]
            )

        return handle(self._state, context, "ListOpenDecisions", {"operator", "auditor"}, answer)

    def Simulate(self, request: decisions.SimulateRequest, context: Any) -> decisions.SimulateResponse:
        def answer(caller: Caller) -> decisions.SimulateResponse:
            if not request.HasField("request"):
                raise invalid("request", "is required")
            if not request.HasField("caller"):
                raise invalid("caller", "is required")
            simulated = Caller(
                tenant=caller.tenant,
                subject=check_name(request.caller.subject, "caller.subject"),
                roles=frozenset({"agent"}),
                agents=frozenset(request.caller.agents),
            )
            check_tenant(self._state, caller)
            verdict = self._decisions.simulate(
                read_request(request.request, simulated, context.time_remaining())
            )
            return decisions.SimulateResponse(
                would_be=EFFECT_NUMBERS[verdict.effect],
                reasons=[reason_message(verdict.reason)],
                input_document=b"{}",
            )

        return handle(self._state, context, "Simulate", {"policy_author"}, answer)

    def ListAllowedTools(
        self, request: decisions.ListAllowedToolsRequest, context: Any
    ) -> decisions.ListAllowedToolsResponse:
        def answer(caller: Caller) -> decisions.ListAllowedToolsResponse:
            session_id = check_name(request.session_id, "session_id")
            hops = read_hops(request.chain)
            session = self._state.find_session(caller.tenant, session_id)
            if session is not None and session.agent in caller.agents and not any(hop.grant for hop in hops):
                self._require_proof(caller, session, hops, request.session_token)
            tools = self._decisions.list_tools(caller, session_id, hops)
            return decisions.ListAllowedToolsResponse(
                tools=[decisions.AllowedTool(name=tool) for tool in tools]
            )

        return handle(self._state, context, "ListAllowedTools", {"agent"}, answer)

    def GetDecision(
        self, request: decisions.GetDecisionRequest, context: Any
    ) -> decisions.GetDecisionResponse:
        def answer(caller: Caller) -> decisions.GetDecisionResponse:
            decision_id = check_name(request.decision_id, "decision_id")
            decision = self._decisions.find_visible(caller, decision_id)
            if decision is None:
                raise not_found(f"no decision {decision_id} of yours")
            found = self._decisions.find_with_session(caller.tenant, decision_id)
            if found is not None and decision.session_version:
                self._require_proof(caller, found[1], read_hops(request.chain), request.session_token)
            sees_all = bool(caller.roles & {"operator", "auditor"})
            response = decisions.GetDecisionResponse(
                decision=decision_message(decision),
                input_document=b"{}" if sees_all else b"",
                redeemed=decision.redeemed,
            )
            if decision.outcome is not None:
                response.outcome = OUTCOME_NUMBERS[decision.outcome]
            return response

        return handle(self._state, context, "GetDecision", {"agent", "operator", "auditor"}, answer)

    def GetChain(self, request: decisions.GetChainRequest, context: Any) -> decisions.GetChainResponse:
        def answer(caller: Caller) -> decisions.GetChainResponse:
            decision_id = check_name(request.decision_id, "decision_id")
            found = self._decisions.find_with_session(caller.tenant, decision_id)
            if found is None or not ("auditor" in caller.roles or may_close(caller, found[1])):
                raise not_found(f"no decision {decision_id} in a session of yours")
            decision, session = found
            self._require_proof(caller, session, read_hops(request.chain), request.session_token)
            return decisions.GetChainResponse(
                decision_id=decision_id,
                session_id=session.session_id,
                task_id=session.task.id,
                principal=session.principal,
                links=[self._link(caller.tenant, session, hop) for hop in decision.chain],
            )

        return handle(self._state, context, "GetChain", set(), answer)

    def _require_proof(self, caller: Caller, session: Session, hops: Sequence[Hop], token: str) -> None:
        """Raise `Refused` for an agent that does not prove its part in the session."""
        if not self._decisions.proves_part(caller, session, hops, token):
            raise unproven()

    def _link(self, tenant: str, session: Session, hop: ChainHop) -> decisions.ChainLink:
        grant = self._state.grants.find(hop.grant_hash)
        taken = self._decisions.taken_on(tenant, session.session_id, hop) if hop.verified else []
        return decisions.ChainLink(
            hop=chain_hop_message(hop),
            purpose="" if grant is None else grant.purpose,
            expires_at=None if grant is None else timestamp(grant.expires_at),
            revoked_at=None if grant is None else timestamp(grant.revoked_at),
            revoked_by="" if grant is None else grant.revoked_by,
            revoke_reason="" if grant is None else grant.revoke_reason,
            decisions=[
                decisions.HopDecision(decision_id=each.decision_id, effect=EFFECT_NUMBERS[each.effect])
                for each in taken[:_MAX_SHOWN]
            ],
        )
