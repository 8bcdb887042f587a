"""What an answer may be, whatever was asked: a block, or a refusal that names a field."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import grpc
from google.rpc import error_details_pb2, status_pb2

from placet.v1 import decision_pb2, decision_service_pb2, session_service_pb2
from placet.verify import Verifier
from tests.fuzz.calls import MESSAGE, Call, Stream

# Stands in everything that the other tenant has, but for the ids that the sender names.
CANARY = "canary-7f3a"
DETAILS = "grpc-status-details-bin"
# How an id that is too long comes back.
_ID = 64
# What an action of a stream may be told that has a deadline of its own. UNAVAILABLE is the ledger's word
# for a decision that it could not record in that time.
_LATE = {
    grpc.StatusCode.DEADLINE_EXCEEDED.value[0],
    grpc.StatusCode.RESOURCE_EXHAUSTED.value[0],
    grpc.StatusCode.UNAVAILABLE.value[0],
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Judge:
    """Looks at answers; AssertionError for the first that must not be."""

    verifier: Verifier

    def call(self, call: Call, answer: Any) -> str:
        """Return what became of the call."""
        if isinstance(answer, grpc.aio.AioRpcError):
            return self._failed(call, answer)
        assert not isinstance(answer, BaseException), (call.rpc, answer)
        assert CANARY not in str(answer), call
        match answer:
            case decision_service_pb2.EvaluateResponse() | decision_service_pb2.GetDecisionResponse():
                self._decision(answer.decision)
                return "decided"
            case decision_service_pb2.EvaluateBatchResponse():
                assert not answer.all_allowed, call
                assert len(answer.decisions) == len(call.request.items), call
                for decision in answer.decisions:
                    self._decision(decision)
                return "decided"
            case decision_service_pb2.GetChainResponse():
                return "seen"
            case decision_service_pb2.SimulateResponse():
                assert answer.would_be in (decision_pb2.EFFECT_BLOCK, decision_pb2.EFFECT_ESCALATE), call
                return "decided"
            case decision_service_pb2.ListAllowedToolsResponse():
                assert not answer.tools, call
                return "nothing listed"
            case session_service_pb2.GetSessionResponse():
                assert answer.session.session_id == call.request.session_id
                return "seen"
        raise AssertionError(f"{call.rpc} was answered: {answer}")

    def stream(self, stream: Stream, answers: Sequence[Any], ended: Any) -> Counter[str]:
        """Return what became of each of its actions."""
        seen: Counter[str] = Counter()
        for answer in answers:
            assert CANARY not in str(answer)
            if answer.WhichOneof("outcome") == "decision":
                self._decision(answer.decision)
                seen["decided"] += 1
            else:
                status = status_pb2.Status.FromString(answer.error.SerializeToString())
                if status.code in _LATE and answer.id in {each[:_ID] for each in stream.hurried}:
                    seen["too late"] += 1
                else:
                    seen[_refused(status)] += 1
        sent = Counter(each[:_ID] for each in stream.ids)
        answered = Counter(answer.id for answer in answers)
        if stream.broken:
            assert isinstance(ended, grpc.aio.AioRpcError), ended
            assert ended.code() in (
                grpc.StatusCode.INVALID_ARGUMENT,
                grpc.StatusCode.RESOURCE_EXHAUSTED,
            ), ended
            assert answered <= sent, answered - sent
            seen["broken off"] += (sent - answered).total()
        else:
            assert ended is None, ended
            assert answered == sent, (answered - sent, sent - answered)
        return seen

    def _decision(self, decision: decision_pb2.Decision) -> None:
        assert decision.effect in (decision_pb2.EFFECT_BLOCK, decision_pb2.EFFECT_ESCALATE), decision
        receipt = self.verifier.verify(decision.receipt.token)
        assert receipt.claims["jti"] == decision.decision_id
        assert CANARY not in str(receipt.claims)

    def _failed(self, call: Call, error: grpc.aio.AioRpcError) -> str:
        if call.request.ByteSize() > MESSAGE:
            # gRPC's own word.
            assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED, error
            return "too large"
        said = dict(error.trailing_metadata() or ()).get(DETAILS)
        assert isinstance(said, bytes), (call.rpc, error)
        status = status_pb2.Status.FromString(said)
        assert CANARY not in str(error) + str(status), call
        match error.code():
            case grpc.StatusCode.NOT_FOUND:
                assert not call.rpc.startswith(("Evaluate", "Simulate", "List")), error
                return "not found"
            case grpc.StatusCode.FAILED_PRECONDITION:
                assert call.rpc in ("ReportOutcome", "Redeem", "Delegate"), error
                return "not permitted"
            case grpc.StatusCode.PERMISSION_DENIED:
                info = error_details_pb2.ErrorInfo()
                assert status.details[0].Unpack(info)
                assert info.reason == "SESSION_UNPROVEN", error
                return "unproven"
        return _refused(status)


def _refused(status: status_pb2.Status) -> str:
    assert status.code == grpc.StatusCode.INVALID_ARGUMENT.value[0], status
    violation = error_details_pb2.BadRequest()
    assert status.details[1].Unpack(violation)
    assert violation.field_violations[0].field
    return "refused"
