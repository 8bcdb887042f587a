"""The ports of the pipeline, measured. Time includes what a call waits before it is begun."""

from __future__ import annotations

from collections.abc import Sequence

from pdp.errors import PolicyUnavailableError
from pdp.metrics import Metrics
from pdp.model import (
    DecisionStatus,
    Facts,
    FactsRequest,
    PolicyRevision,
    Position,
    RecordedDecision,
    Recording,
    Verdict,
)
from pdp.ports import InformationPoint, Ledger, PolicyEngine


class MeasuredInformationPoint:
    """An InformationPoint whose time is measured."""

    def __init__(self, inner: InformationPoint, metrics: Metrics) -> None:
        self._inner = inner
        self._metrics = metrics

    async def gather(self, request: FactsRequest) -> Facts:
        with self._metrics.stage("enrich"):
            return await self._inner.gather(request)


class MeasuredEngine:
    """A PolicyEngine whose time and failures are measured."""

    def __init__(self, inner: PolicyEngine, metrics: Metrics) -> None:
        self._inner = inner
        self._metrics = metrics

    async def decide(self, document: bytes, *, deadline: float, tenant: str = "") -> Verdict:
        try:
            with self._metrics.stage("decide"):
                verdict = await self._inner.decide(document, deadline=deadline, tenant=tenant)
        except PolicyUnavailableError as exc:
            self._metrics.failed_closed(f"policy_{exc.cause}")
            raise
        self._metrics.bundle(verdict.policy.revision)
        return verdict

    async def policy(self, *, deadline: float) -> PolicyRevision:
        try:
            return await self._inner.policy(deadline=deadline)
        except PolicyUnavailableError as exc:
            self._metrics.failed_closed(f"policy_{exc.cause}")
            raise


class MeasuredLedger:
    """A Ledger whose time is measured."""

    def __init__(self, inner: Ledger, metrics: Metrics) -> None:
        self._inner = inner
        self._metrics = metrics

    async def record(self, recording: Recording) -> Position:
        with self._metrics.stage("record"):
            return await self._inner.record(recording)

    async def record_together(self, recordings: Sequence[Recording]) -> Sequence[Position]:
        with self._metrics.stage("record"):
            return await self._inner.record_together(recordings)

    async def decision(self, tenant: str, decision_id: str) -> RecordedDecision | None:
        return await self._inner.decision(tenant, decision_id)

    async def status(
        self,
        tenant: str,
        *,
        decision_id: str = "",
        session_id: str = "",
        tool_call_id: str = "",
        caller: str | None = None,
        session_token_hash: str = "",
    ) -> DecisionStatus | None:
        return await self._inner.status(
            tenant,
            decision_id=decision_id,
            session_id=session_id,
            tool_call_id=tool_call_id,
            caller=caller,
            session_token_hash=session_token_hash,
        )
