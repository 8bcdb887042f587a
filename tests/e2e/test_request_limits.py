"""Every limit of a request, through its RPC: as much as it states passes, one more is refused by field."""

from __future__ import annotations

from collections.abc import Iterator

import grpc
import pytest
from google.protobuf.message import Message

from placet import Client, DevIdentity, PlacetError
from placet._transport.failures import call_error, placet_error
from placet.v1 import decision_service_pb2
from tests.support.processes import PATIENCE
from tests.support.request_limits import LIMITS, Limit, read_documented
from tests.support.rpcs import call, methods
from tests.support.stack import RealPdp

METHODS = dict(methods())


class Sender:
    """Somebody who may call everything, in a tenant of its own."""

    def __init__(self, channel: grpc.Channel, identity: DevIdentity) -> None:
        self._channel = grpc.intercept_channel(channel, _As(identity))

    def refused(self, limit: Limit, request: Message) -> PlacetError | None:
        """Return why the call failed, or its only action; None if it did not."""
        try:
            answer = call(self._channel, limit.rpc, METHODS[limit.rpc], request, PATIENCE)
        except grpc.RpcError as exc:
            return placet_error(exc)
        if isinstance(answer, decision_service_pb2.EvaluateStreamResponse):
            (only,) = answer.answers
            return call_error(only.error) if only.HasField("error") else None
        return None


class _As(grpc.UnaryUnaryClientInterceptor, grpc.StreamStreamClientInterceptor):  # type: ignore[misc]
    def __init__(self, identity: DevIdentity) -> None:
        self._identity = identity

    def intercept_unary_unary(self, continuation, details, request):  # type: ignore[no-untyped-def]
        return continuation(details._replace(metadata=self._identity.metadata()), request)

    intercept_stream_stream = intercept_unary_unary


@pytest.fixture(scope="module")
def sender(real_pdp: RealPdp) -> Iterator[Sender]:
    identity = DevIdentity(
        tenant=real_pdp.fresh_tenant(),
        subject="svc",
        roles=["operator", "session_issuer", "agent", "tool", "policy_author", "auditor"],
        agents=["a"],
    )
    with Client(real_pdp.target, identity=identity, timeout=PATIENCE) as client:
        client.put_tenant({})
    with grpc.insecure_channel(real_pdp.target) as channel:
        yield Sender(channel, identity)


@pytest.mark.parametrize("row", LIMITS)
def test_what_is_as_large_as_the_limit_passes_and_more_is_refused_by_field(row: str, sender: Sender) -> None:
    limit, number = LIMITS[row], read_documented()[row]
    passed = sender.refused(limit, limit.request(number))
    refused = sender.refused(limit, limit.request(number + 1))
    assert refused is not None
    # Something else may be wrong with it, such as the name of a decision that there is not.
    assert (
        passed is None
        or passed.code is not grpc.StatusCode.INVALID_ARGUMENT
        or passed.field.startswith(f"{refused.field}[")
    ), passed
    assert refused.code is grpc.StatusCode.INVALID_ARGUMENT, refused
    assert refused.reason == "INVALID_FIELD"
    assert refused.field.startswith(limit.field)
    assert refused.violations[0].description
