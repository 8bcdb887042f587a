"""`FakePdp` answers every call of the API, or says that it does not."""

from __future__ import annotations

from collections.abc import Iterator

import grpc
import pytest
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from placet.testing import FakePdp
from tests.support.rpcs import methods

# The calls of the whole API but for DevService, which moves a clock: the fake's moves by `advance`.
METHODS = {method.name: method for path, method in methods() if "DevService" not in path}
REFUSED = {
    "PatchTenant",
    "CheckTools",
    "GetChange",
    "PreviewWrite",
    "GetSettings",
    "ListAgents",
    "ListSignals",
    "ListChanges",
    "ListTools",
    "ListToolHistory",
    "RollbackTools",
    "ListIssuerKeys",
    "PutEntities",
    "PatchEntity",
    "DeleteEntities",
    "GetEntity",
    "ListEntityHistory",
}
# A caller of every kind that has its own calls.
METADATA = (
    ("placet-tenant", "test"),
    ("placet-subject", "svc"),
    ("placet-roles", "agent,session_issuer,tool,operator,auditor,policy_author"),
)


@pytest.fixture(scope="module")
def channel() -> Iterator[grpc.Channel]:
    with FakePdp() as fake, grpc.insecure_channel(fake.target) as channel:
        yield channel


def call(channel: grpc.Channel, method: MethodDescriptor) -> grpc.RpcError | None:
    """Make the call with an empty request; return how it failed."""
    path = f"/{method.containing_service.full_name}/{method.name}"
    request, reply = GetMessageClass(method.input_type), GetMessageClass(method.output_type)
    try:
        if method.client_streaming:
            requests: Iterator[Message] = iter([request()])
            stream = channel.stream_stream(path, request.SerializeToString, reply.FromString)
            list(stream(requests, metadata=METADATA, timeout=30))
        else:
            unary = channel.unary_unary(path, request.SerializeToString, reply.FromString)
            unary(request(), metadata=METADATA, timeout=30)
    except grpc.RpcError as exc:
        return exc
    return None


@pytest.mark.parametrize("name", sorted(set(METHODS) - REFUSED))
def test_call_is_answered(channel: grpc.Channel, name: str) -> None:
    failure = call(channel, METHODS[name])
    if failure is not None:
        # An empty request says too little, and the answer says what.
        assert failure.code() is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_call_that_the_fake_does_not_know_is_refused_by_name(channel: grpc.Channel, name: str) -> None:
    failure = call(channel, METHODS[name])
    assert failure is not None
    assert failure.code() is grpc.StatusCode.UNIMPLEMENTED
    assert "the fake PDP keeps no" in failure.details()
    assert name in failure.details()
