"""placet.v1.DecisionService: messages to values, one call of a point, values to messages."""

from __future__ import annotations

import asyncio
from typing import Any

import structlog

from pdp.decision.point import DecisionPoint
from pdp.decision.reading import DecisionReader
from pdp.model import Caller
from pdp.outcomes.point import OutcomePoint
from pdp.server.grpc.deadline import deadline_of
from pdp.server.grpc.evaluate_stream import EvaluateStream, StreamEdge
from pdp.server.identity.caller import current_caller
from pdp.server.messages import chains, decisions, outcomes, plans, sessions
from pdp.sessions.allowed_tools import Listing
from placet.v1 import decision_pb2 as nouns
from placet.v1 import decision_service_pb2 as messages
from placet.v1 import decision_service_pb2_grpc as stubs

_LOG = structlog.get_logger("pdp.server")


class DecisionService(stubs.DecisionServiceServicer):
    def __init__(
        self,
        *,
        decision_point: DecisionPoint,
        outcome_point: OutcomePoint,
        reader: DecisionReader,
        listing: Listing,
        edge: StreamEdge,
        stopping: asyncio.Event,
    ) -> None:
        """Streams let each message pass `edge`, and end when the server is `stopping`."""
        self._decision_point = decision_point
        self._outcome_point = outcome_point
        self._reader = reader
        self._listing = listing
        self._edge = edge
        self._stopping = stopping

    async def Evaluate(self, request: messages.EvaluateRequest, context: Any) -> messages.EvaluateResponse:
        return messages.EvaluateResponse(
            decision=await self._judge(request, current_caller(), deadline_of(context))
        )

    # grpc.aio also takes a coroutine that reads and writes by itself; the stubs know generators only.
    async def EvaluateStream(self, requests: Any, context: Any) -> None:  # type: ignore[override]
        await EvaluateStream(context, self._edge, self._judge, self._stopping).serve()

    async def _judge(
        self, request: messages.EvaluateRequest, caller: Caller, deadline: float
    ) -> nouns.Decision:
        decision, receipt = await self._decision_point.evaluate(
            decisions.evaluation_request(request, caller=caller, deadline=deadline)
        )
        return decisions.decision_message(decision, receipt)

    async def EvaluateBatch(
        self, request: messages.EvaluateBatchRequest, context: Any
    ) -> messages.EvaluateBatchResponse:
        plan = plans.plan(request, caller=current_caller(), deadline=deadline_of(context))
        return plans.answer(
            await self._decision_point.evaluate_plan(plan, all_or_nothing=request.all_or_nothing)
        )

    async def Simulate(self, request: messages.SimulateRequest, context: Any) -> messages.SimulateResponse:
        caller = current_caller()
        asked = decisions.simulated_request(request, tenant=caller.tenant, deadline=deadline_of(context))
        simulation = await self._decision_point.simulate(asked)
        _LOG.info(
            "simulated",
            subject=caller.subject,
            as_subject=asked.caller.subject,
            would_be=simulation.would_be,
            codes=[reason.code for reason in simulation.reasons],
        )
        return decisions.simulation_message(simulation)

    async def ListAllowedTools(
        self, request: messages.ListAllowedToolsRequest, context: Any
    ) -> messages.ListAllowedToolsResponse:
        allowed = await self._listing.allowed(
            current_caller(),
            sessions.session_id(request),
            chains.session_proof(request),
            deadline=deadline_of(context),
        )
        return sessions.allowed_tools_message(allowed)

    async def GetDecision(
        self, request: messages.GetDecisionRequest, context: Any
    ) -> messages.GetDecisionResponse:
        return decisions.shown_message(
            await self._reader.decision(
                current_caller(),
                decisions.decision_id(request),
                chains.session_proof(request),
                deadline=deadline_of(context),
            )
        )

    async def GetChain(self, request: messages.GetChainRequest, context: Any) -> messages.GetChainResponse:
        return chains.chain_message(
            await self._reader.chain(
                current_caller(),
                decisions.decision_id(request),
                chains.session_proof(request),
                deadline=deadline_of(context),
            )
        )

    async def ReportOutcome(
        self, request: messages.ReportOutcomeRequest, context: Any
    ) -> messages.ReportOutcomeResponse:
        said = outcomes.report(request)
        recorded = await self._outcome_point.report(
            current_caller(),
            said.outcome,
            decision_id=said.decision_id,
            session_id=said.session_id,
            tool_call_id=said.tool_call_id,
            output=said.output,
            attempt_id=said.attempt_id,
            proof=chains.session_proof(request),
            deadline=deadline_of(context),
        )
        if recorded.conflict:
            _LOG.warning("outcome_conflict", decision_id=recorded.decision_id, outcome=said.outcome)
        return outcomes.report_message(recorded)

    async def Redeem(self, request: messages.RedeemRequest, context: Any) -> messages.RedeemResponse:
        asked = outcomes.redemption(request)
        await self._outcome_point.redeem(
            current_caller(),
            asked.decision_id,
            tool=asked.tool,
            arguments=asked.arguments,
            audience=asked.audience,
            deadline=deadline_of(context),
        )
        return messages.RedeemResponse(decision_id=asked.decision_id)

    async def ListOpenDecisions(
        self, request: messages.ListOpenDecisionsRequest, context: Any
    ) -> messages.ListOpenDecisionsResponse:
        page = outcomes.page(request)
        found = await self._outcome_point.open_decisions(current_caller(), after=page.after, limit=page.limit)
        return outcomes.open_message(found)
