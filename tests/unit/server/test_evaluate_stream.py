"""A stream of messages at the server's edge, over a real socket; what judges is scripted."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import grpc
import grpc.aio
import pytest
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2

from pdp.errors import OverloadedError, UnauthenticatedError
from pdp.metrics import Metrics
from pdp.model import Caller
from pdp.server.grpc.edge import Edge
from pdp.server.grpc.evaluate_stream import MAX_UNANSWERED, EvaluateStream
from pdp.server.grpc.rpcs import EVALUATE_STREAM
from pdp.server.identity.authentication import InsecureAuthenticator
from placet.v1 import decision_pb2 as nouns
from placet.v1 import decision_service_pb2 as messages
from placet.v1 import decision_service_pb2_grpc as stubs
from tests.support.gc_cycles import without_collector
from tests.support.processes import PATIENCE

AGENT = (("placet-tenant", "acme"), ("placet-subject", "svc"), ("placet-roles", "agent"))
OPERATOR = (*AGENT[:2], ("placet-roles", "operator"))


class Expiring(InsecureAuthenticator):
    """Believes the metadata, until the credential expires."""

    expired = False

    async def authenticate(self, context: Any) -> Caller:
        if self.expired:
            raise UnauthenticatedError("the token has expired (exp)")
        return await super().authenticate(context)


@dataclass(kw_only=True)
class Judge:
    """Answers by the tool's name: "wait" waits for `go`; "overload" and "fault" fail."""

    go: asyncio.Event = field(default_factory=asyncio.Event)
    begun: int = 0
    cancelled: int = 0
    # Size of each decision, in bytes of its text.
    padding: int = 0

    async def __call__(
        self, request: messages.EvaluateRequest, caller: Caller, deadline: float
    ) -> nouns.Decision:
        self.begun += 1
        if request.action.tool == "overload":
            raise OverloadedError(1.5)
        if request.action.tool == "fault":
            raise ValueError("password=hunter2")
        if request.action.tool == "wait":
            try:
                await self.go.wait()
            except asyncio.CancelledError:
                self.cancelled += 1
                raise
        return nouns.Decision(
            decision_id=f"{caller.subject}:{request.action.tool_call_id}",
            effect=nouns.EFFECT_ALLOW,
            reasons=[nouns.Reason(code="task.within_boundary", effect=nouns.EFFECT_ALLOW)],
            model_text="x" * self.padding,
        )


class Service(stubs.DecisionServiceServicer):
    def __init__(self, edge: Edge, judge: Judge, stopping: asyncio.Event) -> None:
        self._parts = (edge, judge, stopping)

    async def EvaluateStream(self, requests: Any, context: Any) -> None:  # type: ignore[override]
        await EvaluateStream(context, *self._parts).serve()


@dataclass(kw_only=True)
class Server:
    address: str
    metrics: Metrics
    judge: Judge
    stopping: asyncio.Event
    credential: Expiring
    channel: grpc.aio.Channel

    def open(self, metadata: Any = AGENT, **options: Any) -> Talk:
        return Talk(stubs.DecisionServiceStub(self.channel).EvaluateStream(metadata=metadata, **options))


class Talk:
    """A stream on which answers are read one by one, however they came together."""

    def __init__(self, call: Any) -> None:
        self.call = call
        self._answers: list[messages.StreamedAnswer] = []

    async def write(self, *actions: messages.StreamedAction) -> None:
        await self.call.write(messages.EvaluateStreamRequest(actions=actions))

    async def read(self) -> Any:
        """The next answer; EOF at the end."""
        while not self._answers:
            message = await self.call.read()
            if message is grpc.aio.EOF:
                return message
            self._answers.extend(message.answers)
        return self._answers.pop(0)


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    metrics, judge, stopping, credential = Metrics(), Judge(), asyncio.Event(), Expiring()
    edge = Edge(metrics, credential)
    serving = grpc.aio.server(interceptors=[edge], options=[("grpc.max_receive_message_length", 1 << 20)])
    stubs.add_DecisionServiceServicer_to_server(Service(edge, judge, stopping), serving)
    address = f"127.0.0.1:{serving.add_insecure_port('127.0.0.1:0')}"
    await serving.start()
    async with asyncio.timeout(PATIENCE), grpc.aio.insecure_channel(address) as channel:
        yield Server(
            address=address,
            metrics=metrics,
            judge=judge,
            stopping=stopping,
            credential=credential,
            channel=channel,
        )
    await serving.stop(None)


def message(name: str, tool: str = "now", **members: Any) -> messages.StreamedAction:
    request = messages.EvaluateRequest(action=nouns.Action(tool=tool, tool_call_id=name))
    return messages.StreamedAction(id=name, request=request, **members)


async def ended(call: Any) -> tuple[grpc.StatusCode, str]:
    """Status and stable reason that a stream ended with; nothing more is answered."""
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        assert await call.read() is None
    details = status_pb2.Status.FromString(dict(raised.value.trailing_metadata())["grpc-status-details-bin"])
    return raised.value.code(), info(details).reason


async def collect(call: Any, ids: set[str]) -> None:
    """Add the ids of all answers. Raises what the stream ends with."""
    while (answer := await call.read()) is not grpc.aio.EOF:
        ids.add(answer.id)


def info(status: Any) -> error_details_pb2.ErrorInfo:
    found = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(found)
    return found


async def until(look: Callable[[], bool]) -> None:
    limit = time.monotonic() + PATIENCE
    while not look():
        assert time.monotonic() < limit
        await asyncio.sleep(0.005)


def counted(metrics: Metrics, effect: str, code: str) -> float:
    labels = {"effect": effect, "code": code}
    return metrics.registry.get_sample_value("placet_evaluate_requests_total", labels) or 0.0


async def test_answers_come_by_id_as_they_are_ready(server: Server) -> None:
    call = server.open()
    await call.write(message("slow", "wait"))
    await call.write(message("fast"))
    first = await call.read()
    assert (first.id, first.decision.decision_id) == ("fast", "svc:fast")
    server.judge.go.set()
    assert (await call.read()).decision.decision_id == "svc:slow"
    await call.call.done_writing()
    assert await call.read() is grpc.aio.EOF
    assert await call.call.code() is grpc.StatusCode.OK
    assert counted(server.metrics, "allow", "task.within_boundary") == 2


async def test_bad_message_is_answered_under_its_id_and_the_stream_goes_on(server: Server) -> None:
    call = server.open()
    for bad, reason, field_name in (
        (message(""), "INVALID_FIELD", "id"),
        (message("x" * 65), "INVALID_FIELD", "id"),
        (message("m", timeout=Duration(seconds=-1)), "INVALID_FIELD", "timeout"),
        (message("m", timeout=Duration(seconds=121)), "INVALID_FIELD", "timeout"),
        (message("m", timeout=Duration(seconds=2**62)), "INVALID_FIELD", "timeout"),
        (message("m", "wait", timeout=Duration(nanos=20_000_000)), "DEADLINE_EXCEEDED", ""),
        (message("m", "overload"), "OVERLOADED", ""),
        (message("m", "fault"), "INTERNAL", ""),
    ):
        await call.write(bad)
        answer = await call.read()
        assert answer.id == bad.id[:64]
        assert (info(answer.error).reason, info(answer.error).domain) == (reason, "placet.v1")
        assert info(answer.error).metadata["request_id"]
        assert b"hunter2" not in answer.SerializeToString()
        if field_name:
            at_fault = error_details_pb2.BadRequest()
            assert answer.error.details[1].Unpack(at_fault)
            assert at_fault.field_violations[0].field == field_name
    await call.write(message("m"))
    assert (await call.read()).HasField("decision")
    assert counted(server.metrics, "error", "invalid_field") == 5


async def test_id_in_flight_is_refused_and_free_again_once_answered(server: Server) -> None:
    call = server.open()
    await call.write(message("m", "wait"))
    await call.write(message("m"))
    refused = await call.read()
    assert (refused.id, info(refused.error).reason) == ("m", "INVALID_FIELD")
    server.judge.go.set()
    assert (await call.read()).HasField("decision")
    await call.write(message("m"))
    assert (await call.read()).HasField("decision")


async def test_credential_that_expires_ends_the_stream_after_what_was_taken(server: Server) -> None:
    call = server.open()
    await call.write(message("before", "wait"))
    await until(lambda: server.judge.begun == 1)
    server.credential.expired = True
    await call.write(message("after"))
    server.judge.go.set()
    answer = await call.read()
    assert (answer.id, answer.HasField("decision")) == ("before", True)
    assert await ended(call) == (grpc.StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED")
    assert server.judge.begun == 1


async def test_role_is_needed_to_open(server: Server) -> None:
    call = server.open(OPERATOR)
    assert await ended(call) == (grpc.StatusCode.PERMISSION_DENIED, "PERMISSION_DENIED")
    assert server.judge.begun == 0


async def test_message_that_cannot_be_decoded_ends_the_stream_after_what_was_taken(server: Server) -> None:
    call = server.channel.stream_stream(EVALUATE_STREAM)(metadata=AGENT)
    await call.write(messages.EvaluateStreamRequest(actions=[message("m")]).SerializeToString())
    await call.write(b"\xff\xff\xff")
    assert messages.EvaluateStreamResponse.FromString(await call.read()).answers[0].id == "m"
    assert await ended(call) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")


async def test_stopping_server_answers_what_it_took_and_ends_the_stream(server: Server) -> None:
    call = server.open()
    await call.write(message("m", "wait"))
    await until(lambda: server.judge.begun == 1)
    server.stopping.set()
    with contextlib.suppress(asyncio.InvalidStateError):
        await call.write(message("late"))
    server.judge.go.set()
    # What comes after the signal may still be taken; whatever was, is answered.
    answered: set[str] = set()
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await collect(call, answered)
    assert (raised.value.code(), raised.value.details()) == (
        grpc.StatusCode.UNAVAILABLE,
        "this replica is stopping",
    )
    assert "m" in answered
    assert len(answered) == server.judge.begun


async def test_cancelled_stream_cancels_undecided_work(server: Server) -> None:
    call = server.open()
    for number in range(3):
        await call.write(message(f"m-{number}", "wait"))
    await until(lambda: server.judge.begun == 3)
    call.call.cancel()
    await until(lambda: server.judge.cancelled == 3)
    assert counted(server.metrics, "error", "caller_gone") == 3


async def test_streams_own_deadline_bounds_its_messages(server: Server) -> None:
    call = server.open(timeout=0.2)
    await call.write(message("m", "wait", timeout=Duration(seconds=60)))
    with contextlib.suppress(grpc.aio.AioRpcError):
        answer = await call.read()
        assert info(answer.error).reason == "DEADLINE_EXCEEDED"
    assert await call.call.code() is grpc.StatusCode.DEADLINE_EXCEEDED


async def test_what_failed_is_gone_before_the_collector_comes(server: Server) -> None:
    async with without_collector("_ServicerContext") as gone:
        call = server.open()
        await call.write(
            message("late", "wait", timeout=Duration(nanos=20_000_000)), message("much", "overload")
        )
        assert {(await call.read()).id, (await call.read()).id} == {"late", "much"}
        server.credential.expired = True
        await call.write(message("expired"))
        await ended(call)
        await gone()


async def test_no_more_than_a_bounded_number_is_undecided(server: Server) -> None:
    call = server.open()
    sent = MAX_UNANSWERED + 50

    async def send() -> None:
        for number in range(sent):
            await call.write(message(f"m-{number}", "wait"))

    sending = asyncio.create_task(send())
    await until(lambda: server.judge.begun == MAX_UNANSWERED)
    # Another stream is served meanwhile, so the server has had its turns.
    other = server.open()
    for number in range(20):
        await other.write(message(f"o-{number}"))
        assert (await other.read()).id == f"o-{number}"
    assert server.judge.begun == MAX_UNANSWERED + 20
    server.judge.go.set()
    assert {(await call.read()).id for _ in range(sent)} == {f"m-{number}" for number in range(sent)}
    await sending


async def test_client_that_reads_nothing_is_not_read_from(server: Server) -> None:
    server.judge.padding = 64 * 1024
    call = server.open()
    sent = 4 * MAX_UNANSWERED

    async def send() -> None:
        for number in range(sent):
            await call.write(message(f"m-{number}"))

    sending = asyncio.create_task(send())
    # The transport takes a few answers; then places stay taken, and reading stops.
    other, asked, settled, before = server.open(), 0, 0, -1
    while settled < 50:
        await other.write(message("o", "overload"))
        await other.read()
        asked += 1
        begun = server.judge.begun - asked
        settled = settled + 1 if begun == before else 0
        before = begun
    assert MAX_UNANSWERED <= before < sent
    taken = [(await call.read()).id for _ in range(sent)]
    assert len(set(taken)) == sent
    await sending


async def test_actions_that_come_together_are_independent(server: Server) -> None:
    call = server.open()
    await call.write(message("slow", "wait"), message(""), message("a"), message("b", "fault"))
    answers = [await call.read() for _ in range(3)]
    assert {answer.id: answer.WhichOneof("outcome") for answer in answers} == {
        "": "error",
        "a": "decision",
        "b": "error",
    }
    server.judge.go.set()
    assert (await call.read()).id == "slow"


async def test_message_without_actions_asks_nothing(server: Server) -> None:
    call = server.open()
    for _ in range(MAX_UNANSWERED + 1):
        await call.write()
    await call.write(message("m"))
    assert (await call.read()).id == "m"


async def test_more_actions_together_than_there_are_places_wait_for_one(server: Server) -> None:
    call = server.open()
    await call.write(*(message(f"m-{number}", "wait") for number in range(MAX_UNANSWERED + 1)))
    await until(lambda: server.judge.begun == MAX_UNANSWERED)
    server.credential.expired = True
    server.judge.go.set()
    answered: set[str] = set()
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await collect(call, answered)
    # The last one waited, and by then the credential had expired.
    assert raised.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert len(answered) == server.judge.begun == MAX_UNANSWERED
