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
from pdp.server.identity.roles import current_caller
from pdp.server.messages import convert
from pdp.server.messages import grants as convert_grants
from pdp.server.messages import outcomes as convert_outcomes
from pdp.server.messages import plans as convert_plans
from pdp.sessions.allowed_tools import Listing
from placet.v1 import decision_pb2 as nouns
from placet.v1 import decision_service_pb2 as messages
from placet.v1 import decision_service_pb2_grpc as stubs

_LOG = structlog.get_logger("pdp")


class DecisionService(stubs.DecisionServiceServicer):
    def __init__(
        self,
        decision_point: DecisionPoint,
        outcomes: OutcomePoint,
        reader: DecisionReader,
        listing: Listing,
        gate: StreamEdge,
        stopping: asyncio.Event,
    ) -> None:
        """Streams let each message pass `gate`, and end when the server is `stopping`."""
        self._decision_point = decision_point
        self._outcomes = outcomes
        self._reader = reader
        self._listing = listing
        self._gate = gate
        self._stopping = stopping

    async def Evaluate(self, request: messages.EvaluateRequest, context: Any) -> messages.EvaluateResponse:
        return messages.EvaluateResponse(
            decision=await self._judged(request, current_caller(), deadline_of(context))
        )

    # grpc.aio also takes a coroutine that reads and writes by itself; the stubs know generators only.
    async def EvaluateStream(self, requests: Any, context: Any) -> None:  # type: ignore[override]
        await EvaluateStream(context, self._gate, self._judged, self._stopping).serve()

    async def _judged(
        self, request: messages.EvaluateRequest, caller: Caller, deadline: float
    ) -> nouns.Decision:
        decision, receipt = await self._decision_point.evaluate(
            convert.evaluation_request(request, caller=caller, deadline=deadline)
        )
        return convert.decision_message(decision, receipt)

    async def EvaluateBatch(
        self, request: messages.EvaluateBatchRequest, context: Any
    ) -> messages.EvaluateBatchResponse:
        plan = convert_plans.plan(request, caller=current_caller(), deadline=deadline_of(context))
        return convert_plans.answer(
            await self._decision_point.evaluate_plan(plan, all_or_nothing=request.all_or_nothing)
        )

    async def Simulate(self, request: messages.SimulateRequest, context: Any) -> messages.SimulateResponse:
        caller = current_caller()
        asked = convert.simulated_request(request, tenant=caller.tenant, deadline=deadline_of(context))
        simulation = await self._decision_point.simulate(asked)
        _LOG.info(
            "simulated",
            subject=caller.subject,
            as_subject=asked.caller.subject,
            would_be=simulation.would_be,
            codes=[reason.code for reason in simulation.reasons],
        )
        return convert.simulation_message(simulation)

    async def ListAllowedTools(
        self, request: messages.ListAllowedToolsRequest, context: Any
    ) -> messages.ListAllowedToolsResponse:
        allowed = await self._listing.allowed(
            current_caller(),
            convert.session_id(request),
            convert.hops(request.chain),
            deadline=deadline_of(context),
        )
        return convert.allowed_tools_message(allowed)

    async def GetDecision(
        self, request: messages.GetDecisionRequest, context: Any
    ) -> messages.GetDecisionResponse:
        shown = await self._reader.decision(current_caller(), convert.decision_id(request))
        return messages.GetDecisionResponse(
            decision=convert.decision_message(shown.decision, shown.receipt),
            input_document=shown.input_document,
            outcome=convert_outcomes.outcome_number(shown.outcome),
            redeemed=shown.redeemed,
        )

    async def GetChain(self, request: messages.GetChainRequest, context: Any) -> messages.GetChainResponse:
        return convert_grants.chain_message(
            await self._reader.chain(current_caller(), convert.decision_id(request))
        )

    async def ReportOutcome(
        self, request: messages.ReportOutcomeRequest, context: Any
    ) -> messages.ReportOutcomeResponse:
        caller, said = current_caller(), convert_outcomes.report(request)
        decision_id, hold, conflict = await self._outcomes.report(
            caller,
            said.outcome,
            decision_id=said.decision_id,
            session_id=said.session_id,
            tool_call_id=said.tool_call_id,
            output=said.output,
            attempt_id=said.attempt_id,
            deadline=deadline_of(context),
        )
        if conflict:
            _LOG.warning("outcome_conflict", decision_id=decision_id, outcome=said.outcome)
        return convert_outcomes.report_message(decision_id, hold, conflict)

    async def Redeem(self, request: messages.RedeemRequest, context: Any) -> messages.RedeemResponse:
        decision_id, tool, arguments, audience = convert_outcomes.redemption(request)
        await self._outcomes.redeem(
            current_caller(),
            decision_id,
            tool=tool,
            arguments=arguments,
            audience=audience,
            deadline=deadline_of(context),
        )
        return messages.RedeemResponse(decision_id=decision_id)

    async def ListOpenDecisions(
        self, request: messages.ListOpenDecisionsRequest, context: Any
    ) -> messages.ListOpenDecisionsResponse:
        after, limit = convert_outcomes.page(request)
        found = await self._outcomes.open_decisions(current_caller(), after=after, limit=limit)
        return convert_outcomes.open_message(found)
