"""placet.v1.DecisionService."""

from __future__ import annotations

from typing import Any

from pdp.decision_point import DecisionPoint
from pdp.errors import NotFoundError
from pdp.model import Receipt, Role
from pdp.ports import Ledger
from pdp.receipts import read_decision
from pdp.server import convert
from pdp.server.deadline import deadline_of
from pdp.server.identity import current_caller
from placet.v1 import decision_service_pb2 as messages
from placet.v1 import decision_service_pb2_grpc as stubs


class DecisionService(stubs.DecisionServiceServicer):
    def __init__(self, decision_point: DecisionPoint, ledger: Ledger) -> None:
        self._decision_point = decision_point
        self._ledger = ledger

    async def Evaluate(self, request: messages.EvaluateRequest, context: Any) -> messages.EvaluateResponse:
        decision, receipt = await self._decision_point.evaluate(
            convert.evaluation_request(request, caller=current_caller(), deadline=deadline_of(context))
        )
        return messages.EvaluateResponse(decision=convert.decision_message(decision, receipt))

    async def GetDecision(
        self, request: messages.GetDecisionRequest, context: Any
    ) -> messages.GetDecisionResponse:
        caller = current_caller()
        decision_id = convert.decision_id(request)
        recorded = await self._ledger.decision(caller.tenant, decision_id)
        sees_all = bool(caller.roles & {Role.OPERATOR, Role.AUDITOR})
        if recorded is None or not (sees_all or recorded.key.caller == caller.subject):
            raise NotFoundError(f"no decision {decision_id} of yours")
        decision = read_decision(recorded.token)
        return messages.GetDecisionResponse(
            decision=convert.decision_message(
                decision, Receipt(token=recorded.token, position=recorded.position)
            ),
            input_document=(recorded.input_document or b"") if sees_all else b"",
        )
