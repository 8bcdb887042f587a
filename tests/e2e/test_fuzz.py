"""Requests that no client of ours would send: refused by field or blocked, never allowed, never a fault."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from placet import Client, DevIdentity
from placet.v1 import decision_pb2, decision_service_pb2, decision_service_pb2_grpc
from placet.verify import Verifier
from tests.e2e.scene import AGENT, PRINCIPAL, READ, TOOLS
from tests.processes import PATIENCE
from tests.stack import RealPdp

EXAMPLES, REQUESTS = 100, 100
DETAILS = "grpc-status-details-bin"

ODD = st.sampled_from(
    [
        "",
        " ",
        "\0",
        "a\nb",
        "\u202e",
        "x" * 257,
        "x" * 70_000,
        "🙂",
        "é",
        "../..",
        "'; --",
        "{invoice}",
        "-1",
        READ,
    ]
)
TEXT = ODD | st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
NUMBER = st.sampled_from(
    [
        b"0",
        b"-0",
        b"1e400",
        b"1E-400",
        b"NaN",
        b"Infinity",
        b"9" * 40,
        b"0.1" + b"0" * 40,
        b"01",
        b"1e5",
        b"-1",
    ]
)
LITERAL = NUMBER | TEXT.map(lambda text: json.dumps(text, ensure_ascii=False).encode())
LITERAL |= st.sampled_from(
    [b"null", b"true", b'"\\ud800"', b'"\\u0000"', b"[" * 100, b"{}", b"[]", b"\xff", b""]
)
MEMBER = st.tuples(st.sampled_from([b"invoice", b"amount", b"a", b"\xc3\xa9", b'\\"', b""]), LITERAL).map(
    lambda pair: b'"' + pair[0] + b'":' + pair[1]
)
ARGUMENTS = st.lists(MEMBER, max_size=4).map(lambda members: b"{" + b",".join(members) + b"}")
ARGUMENTS |= st.binary(max_size=40) | st.just(b'{"a":' * 40 + b"1" + b"}" * 40) | LITERAL
GOOD = st.just(b'{"invoice":"INV-1"}')
HOP = st.builds(decision_pb2.Hop, agent=st.just(AGENT) | TEXT, grant=st.just("") | TEXT)
CHAIN = st.builds(decision_pb2.DelegationChain, hops=st.lists(HOP, max_size=20))
# What may be odd in a request; each names the field and how it is spoiled.
ODDITIES: dict[str, st.SearchStrategy[Any]] = {
    "action.tool": TEXT,
    "action.arguments": ARGUMENTS,
    "action.tool_call_id": TEXT,
    "action.intent": TEXT,
    "action.resource": TEXT,
    "action.provenance": ARGUMENTS,
    "session_id": TEXT,
    "review_id": TEXT,
    "attempt_id": TEXT,
    "audience": TEXT,
    "chain": CHAIN,
    "action": st.just(decision_pb2.Action()),
}


@st.composite
def requests(draw: st.DrawFn, session: str) -> decision_service_pb2.EvaluateRequest:
    """A request in order, but for a few oddities."""
    request = decision_service_pb2.EvaluateRequest(session_id=session)
    request.action.tool = READ
    request.action.arguments = b'{"invoice":"INV-1"}'
    request.action.tool_call_id = str(draw(st.uuids()))
    for path in draw(st.lists(st.sampled_from(sorted(ODDITIES)), max_size=3, unique=True)):
        value = draw(ODDITIES[path])
        *parents, last = path.split(".")
        message = getattr(request, parents[0]) if parents else request
        if isinstance(value, str | bytes):
            setattr(message, last, value)
        else:
            getattr(message, last).CopyFrom(value)
    return request


def check(answer: Any, verifier: Verifier) -> str:
    """Return what the answer is: decided or refused."""
    if isinstance(answer, decision_service_pb2.EvaluateResponse):
        decision = answer.decision
        assert decision.effect in (decision_pb2.EFFECT_BLOCK, decision_pb2.EFFECT_ESCALATE)
        assert verifier.verify(decision.receipt.token).claims["jti"] == decision.decision_id
        return "decided"
    assert isinstance(answer, grpc.RpcError), answer
    assert answer.code() is grpc.StatusCode.INVALID_ARGUMENT, answer
    status = status_pb2.Status.FromString(dict(answer.trailing_metadata())[DETAILS])
    violation = error_details_pb2.BadRequest()
    assert status.details[1].Unpack(violation)
    assert violation.field_violations[0].field
    return "refused"


async def send_all(
    target: str, tenant: str, batch: list[decision_service_pb2.EvaluateRequest]
) -> list[object]:
    metadata = DevIdentity(tenant=tenant, subject="svc", roles=["agent"], agents=[AGENT]).metadata()
    async with grpc.aio.insecure_channel(target) as channel:
        stub = decision_service_pb2_grpc.DecisionServiceStub(channel)
        return await asyncio.gather(
            *(stub.Evaluate(request, metadata=metadata, timeout=PATIENCE) for request in batch),
            return_exceptions=True,
        )


@pytest.fixture
def tenant(real_pdp: RealPdp) -> str:
    return real_pdp.fresh_tenant()


def test_odd_requests_are_refused_or_blocked(real_pdp: RealPdp, tenant: str) -> None:
    pids, verifier = real_pdp.stack.pids(), Verifier(real_pdp.jwks())
    everyone = DevIdentity(tenant=tenant, subject="ops", roles=["operator", "session_issuer"])
    with Client(real_pdp.target, identity=everyone, timeout=PATIENCE) as ops:
        ops.put_tenant({})
        ops.put_tools(TOOLS)
        # A boundary that permits nothing: whatever is asked, an allow would be wrong.
        opened = ops.open_session(task="fuzz", principal=PRINCIPAL, agent=AGENT, boundary={})
    seen: Counter[str] = Counter()

    @settings(max_examples=EXAMPLES, database=None, suppress_health_check=list(HealthCheck))
    @given(st.data())
    def fuzz(data: st.DataObject) -> None:
        different = data.draw(st.lists(requests(opened.session_id), min_size=10, max_size=20))
        batch = [request for request in different for _ in range(REQUESTS // len(different))]
        answers = asyncio.run(send_all(real_pdp.target, tenant, batch))
        seen.update(check(answer, verifier) for answer in answers)

    fuzz()
    # Neither kind is so rare that the other would hide what it does.
    assert seen.total() >= EXAMPLES * REQUESTS // 2
    assert min(seen["decided"], seen["refused"]) > seen.total() // 10, seen
    assert real_pdp.stack.pids() == pids
