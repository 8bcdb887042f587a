"""The edge of every RPC: who calls, whether it may, what went wrong, and how long it took."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, NoReturn
from uuid import uuid4

import grpc
import structlog

from pdp.errors import (
    ClockSkewError,
    OverloadedError,
    PdpError,
    PolicyUnavailableError,
    StoreUnavailableError,
    UnauthenticatedError,
)
from pdp.metrics import Metrics
from pdp.model import Caller
from pdp.overload.admission import Admission
from pdp.server.grpc.deadline import deadline_of, too_late
from pdp.server.grpc.rpcs import EVALUATE, EVALUATE_BATCH, OPEN_SERVICES, RPCS, require_role
from pdp.server.grpc.status import DETAILS_KEY, Status, status_of
from pdp.server.identity.authentication import Authenticator
from pdp.server.identity.caller import enter
from pdp.skew import ClockSkew
from placet.v1 import decision_pb2, decision_service_pb2

_LOG = structlog.get_logger("pdp.server")
# Seconds between two log lines about calls turned away: a line for each would cost more than the
# refusal does. The metrics count them all.
_OVERLOAD_LOG_SECONDS = 1.0
# Failures whose text the log has. It says what was wrong with a credential, never the credential; and of
# what the database or the engine said, callers see nothing.
_TOLD = (UnauthenticatedError, StoreUnavailableError, PolicyUnavailableError)


class Edge(grpc.aio.ServerInterceptor):
    """The one place where a caller is admitted, and where an exception becomes a gRPC status.

    It has two sides. To gRPC it is an interceptor: a unary call passes `intercept_service` whole, and
    no handler knows of it. A stream is one call to gRPC and many actions to everybody else, so its
    handler (`EvaluateStream`) is also given the edge as its `StreamEdge`, and asks it for each message
    and each action what the interceptor does for each unary call: `admit`, `decided`, `undecided`,
    `dropped`.
    """

    def __init__(
        self,
        metrics: Metrics,
        authenticator: Authenticator,
        admission: Admission | None = None,
        skew: ClockSkew | None = None,
    ) -> None:
        """With `admission`, a full replica turns an admitted RPC (`Rpc.admitted`) away before it asks who
        calls. With `skew`, nobody is admitted while this machine's clock is off."""
        self._metrics = metrics
        self._authenticator = authenticator
        self._admission = admission
        self._skew = skew or ClockSkew()
        self._overload_logged = -_OVERLOAD_LOG_SECONDS

    async def intercept_service(
        self, continuation: Callable[[Any], Awaitable[Any]], handler_call_details: Any
    ) -> Any:
        handler = await continuation(handler_call_details)
        method: str = handler_call_details.method
        if handler is None or method.split("/")[1] in OPEN_SERVICES:
            return handler
        if handler.stream_stream is not None:
            return self._streaming(handler, method)
        if handler.unary_unary is None:
            raise NotImplementedError(f"{method} is neither a unary call nor a stream both ways")
        behaviour = handler.unary_unary
        rpc = RPCS.get(method)
        admission = self._admission if rpc is not None and rpc.admitted else None

        async def handle(request: Any, context: Any) -> Any:
            started = time.perf_counter()
            try:
                # The last line of defence: whatever hangs, the caller's deadline ends it.
                if admission is not None:
                    admission.check(deadline_of(context))
                async with asyncio.timeout(context.time_remaining()):
                    enter(await self.admit(context, method))
                    response = await behaviour(request, context)
            except TimeoutError as exc:
                status = self._failed(method, too_late(exc), started, context)
            except asyncio.CancelledError:
                # Most often the caller's deadline has passed: gRPC ends the call then, sometimes before
                # the timeout above does.
                self._abandoned(method, started)
                raise
            except Exception as exc:  # noqa: BLE001 - the server's edge; it answers, and does not go on
                status = self._failed(method, exc, started, context)
            else:
                self._answered(method, response, started)
                return response
            try:
                return await _refuse(context, status)
            finally:
                # No reference cycles on the failure path (docs/decisions/0012-no-cycles-on-failure.md).
                del request, context

        return grpc.unary_unary_rpc_method_handler(
            handle,
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )

    def _streaming(self, handler: Any, method: str) -> Any:
        """Return a handler that admits and ends the stream; its messages pass `admit` one by one."""
        behaviour = handler.stream_stream

        async def handle(requests: Any, context: Any) -> None:
            started = time.perf_counter()
            try:
                await self.admit(context, method)
                await behaviour(requests, context)
            except asyncio.CancelledError:
                self._abandoned(method, started)
                raise
            except Exception as exc:  # noqa: BLE001 - the server's edge; it answers, and does not go on
                status = self._failed(method, exc, started, context)
            else:
                self._metrics.rpc(method, "OK", time.perf_counter() - started)
                return
            try:
                await _refuse(context, status)
            finally:
                # No reference cycles on the failure path (docs/decisions/0012-no-cycles-on-failure.md).
                del requests, context

        return grpc.stream_stream_rpc_method_handler(
            handle,
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )

    async def admit(self, context: Any, method: str) -> Caller:
        """Return who calls, if it may.

        Raises `ClockSkewError`, `UnauthenticatedError` or `PermissionDeniedError`.
        """
        if self._skew.is_off:
            raise ClockSkewError("this replica's clock is off from the database's: ask another replica")
        caller = await self._authenticator.authenticate(context)
        require_role(caller, method)
        return caller

    def decided(self, decision: decision_pb2.Decision, started: float) -> None:
        """Count and log a decision: a call's, a plan's, or an action's of a stream.

        `started` is an instant of `time.perf_counter()`, here and below.
        """
        elapsed = time.perf_counter() - started
        effect = decision_pb2.Effect.Name(decision.effect).removeprefix("EFFECT_").lower()
        code = decision.reasons[0].code
        self._metrics.count_evaluation(effect, code, elapsed)
        _LOG.info(
            "decision",
            decision_id=decision.decision_id,
            effect=effect,
            reasons=[reason.code for reason in decision.reasons],
            replayed=decision.replayed,
            milliseconds=round(elapsed * 1000, 2),
        )

    def undecided(self, error: Exception, started: float) -> Status:
        """Count and log an action of a stream that got no decision; return its status."""
        return self._failed(EVALUATE, error, started)

    def dropped(self, started: float) -> None:
        """Count and log an action of a stream whose client did not wait."""
        self._abandoned(EVALUATE, started)

    def _answered(self, method: str, response: Any, started: float) -> None:
        if method != EVALUATE:
            self._metrics.rpc(method, "OK", time.perf_counter() - started)
        if isinstance(response, decision_service_pb2.EvaluateResponse):
            self.decided(response.decision, started)
        elif isinstance(response, decision_service_pb2.EvaluateBatchResponse):
            for decision in response.decisions:
                self.decided(decision, started)

    def _abandoned(self, method: str, started: float) -> None:
        elapsed = time.perf_counter() - started
        if method == EVALUATE:
            self._metrics.count_refusal("caller_gone", elapsed)
        else:
            self._metrics.rpc(method, "CANCELLED", elapsed)
            if method == EVALUATE_BATCH:
                self._metrics.failed_closed("caller_gone")
        _LOG.info("rpc_abandoned", method=method, milliseconds=round(elapsed * 1000, 2))

    def _failed(self, method: str, error: Exception, started: float, context: Any = None) -> Status:
        """Count and log a failure; `context` is that of the call, where the failure ends it."""
        elapsed = time.perf_counter() - started
        request_id = str(uuid4())
        status = status_of(error, request_id=request_id)
        if method == EVALUATE:
            self._metrics.count_refusal(status.reason.removeprefix("ERROR_REASON_").lower(), elapsed)
        else:
            self._metrics.rpc(method, status.code.name, elapsed)
            if method == EVALUATE_BATCH:
                self._metrics.failed_closed(status.reason.removeprefix("ERROR_REASON_").lower())
        if isinstance(error, OverloadedError):
            now = time.monotonic()
            if now - self._overload_logged < _OVERLOAD_LOG_SECONDS:
                return status
            self._overload_logged = now
        expected = isinstance(error, PdpError)
        # The cause of a fault is for the log alone; its text may name a field, never a value.
        _LOG.log(
            20 if expected else 40,
            "rpc_failed",
            method=method,
            code=status.code.name,
            reason=status.reason,
            request_id=request_id,
            error=type(error).__name__,
            cause=type(error.__cause__).__name__ if error.__cause__ is not None else None,
            detail=str(error) if isinstance(error, _TOLD) else None,
            peer=context.peer() if context is not None else None,
            exc_info=None if expected else error,
        )
        return status


async def _refuse(context: Any, status: Status) -> NoReturn:
    """End the call with the status. Raises the exception that gRPC ends it by, and keeps with the call."""
    try:
        await context.abort(status.code, status.message, trailing_metadata=((DETAILS_KEY, status.details),))
    finally:
        # No reference cycles on the failure path (docs/decisions/0012-no-cycles-on-failure.md).
        del context
    raise AssertionError("abort does not return")
