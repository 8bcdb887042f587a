"""Requests that no client of ours would send: refused by field or blocked, never allowed, never a fault.

`python -m tests.fuzz 1000000` sends that many to a stack of its own (`make fuzz`); the test sends
fewer. What is sent names another tenant's session and decision too, and nothing of that tenant may
ever come back. A round is 10 to 20 different requests, each sent 5 to 10 times.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
from google.rpc import error_details_pb2, status_pb2
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from placet import Client, DevIdentity
from placet.v1 import (
    decision_pb2,
    decision_service_pb2,
    decision_service_pb2_grpc,
    session_service_pb2,
    session_service_pb2_grpc,
)
from placet.verify import Verifier
from tests.e2e.scene import AGENT, PRINCIPAL, READ, TOOLS
from tests.processes import PATIENCE
from tests.stack import RealPdp, running_stack

# Requests of one round: so many go at once.
ROUND = 100
DETAILS = "grpc-status-details-bin"
# Stands in everything that the other tenant has.
CANARY = "canary-7f3a"
# What a server's memory may grow by after the first fifth of the requests, in bytes: allocators and
# caches settle within it. Of a million requests it shows a leak of 130 bytes each, of ten thousand
# one of 12 KiB.
MEMORY = 96 * 1024 * 1024

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


def plan_of(
    requests: list[decision_service_pb2.EvaluateRequest],
) -> decision_service_pb2.EvaluateBatchRequest:
    """The actions of the requests as one plan, in the first one's session, with its chain."""
    first = requests[0]
    return decision_service_pb2.EvaluateBatchRequest(
        session_id=first.session_id,
        chain=first.chain,
        items=[
            decision_service_pb2.PlannedAction(
                action=each.action, review_id=each.review_id, attempt_id=each.attempt_id
            )
            for each in {each.action.tool_call_id: each for each in requests}.values()
        ],
        all_or_nothing=len(first.action.tool_call_id) % 2 == 0,
        audience=first.audience,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Victim:
    """Another tenant's things, by their ids."""

    session_id: str
    decision_id: str


@dataclass(kw_only=True)
class Fuzz:
    """Sends odd requests to a running server as one tenant, and checks every answer."""

    pdp: RealPdp
    tenant: str
    session_id: str
    victim: Victim
    verifier: Verifier
    seen: Counter[str] = field(default_factory=Counter)
    _settled: int = 0

    def run(self, requests_in_all: int, say: Callable[[str], None] = lambda text: None) -> None:
        """Raises AssertionError for the first answer that is not as it must be."""
        pids = self.pdp.stack.pids()
        began = time.monotonic()

        @settings(
            max_examples=-(-requests_in_all // ROUND),
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        @given(st.data())
        def fuzz(data: st.DataObject) -> None:
            sessions = (self.session_id, self.session_id, self.victim.session_id)
            session = data.draw(st.sampled_from(sessions))
            different = data.draw(st.lists(requests(session), min_size=10, max_size=20))
            batch = [request for request in different for _ in range(ROUND // len(different))]
            for answer in asyncio.run(self._send(batch)):
                self.seen[self._check(answer)] += 1
            if not self._settled and self.seen.total() >= requests_in_all // 5:
                self._settled = self._memory(pids)
            if self.seen.total() // 10_000 > (self.seen.total() - len(batch)) // 10_000:
                rate = self.seen.total() / (time.monotonic() - began)
                memory = self._memory(pids) >> 20
                say(f"{self.seen.total():,} requests, {rate:.0f}/s, {memory} MiB: {dict(self.seen)}")

        fuzz()
        # No kind is so rare that the others would hide what it does.
        least = min(self.seen["decided"], self.seen["refused"], self.seen["not found"])
        assert least > self.seen.total() // 50, self.seen
        assert self.pdp.stack.pids() == pids, "something died meanwhile"
        grown = self._memory(pids) - self._settled
        say(f"memory grew by {grown / 1024 / 1024:.1f} MiB after the first fifth")
        assert grown < MEMORY, f"{grown} bytes"

    async def _send(self, batch: list[decision_service_pb2.EvaluateRequest]) -> list[object]:
        metadata = DevIdentity(tenant=self.tenant, subject="svc", roles=["agent"], agents=[AGENT]).metadata()
        async with grpc.aio.insecure_channel(self.pdp.target) as channel:
            decisions = decision_service_pb2_grpc.DecisionServiceStub(channel)
            sessions = session_service_pb2_grpc.SessionServiceStub(channel)
            named = decision_service_pb2.GetDecisionRequest(decision_id=self.victim.decision_id)
            seen = session_service_pb2.GetSessionRequest(session_id=self.victim.session_id)
            plans = [plan_of(batch[place : place + 3]) for place in range(0, len(batch), 10)]
            return await asyncio.gather(
                *(decisions.EvaluateBatch(each, metadata=metadata, timeout=PATIENCE) for each in plans),
                *(decisions.Evaluate(each, metadata=metadata, timeout=PATIENCE) for each in batch),
                *(decisions.GetDecision(named, metadata=metadata, timeout=PATIENCE) for _ in range(4)),
                *(sessions.GetSession(seen, metadata=metadata, timeout=PATIENCE) for _ in range(4)),
                return_exceptions=True,
            )

    def _check(self, answer: Any) -> str:
        """Return what the answer is: decided, refused or not found."""
        if isinstance(answer, decision_service_pb2.EvaluateResponse):
            self._check_decision(answer.decision)
            return "decided"
        if isinstance(answer, decision_service_pb2.EvaluateBatchResponse):
            assert not answer.all_allowed
            for decision in answer.decisions:
                self._check_decision(decision)
            return "decided"
        assert isinstance(answer, grpc.aio.AioRpcError), answer
        status = status_pb2.Status.FromString(dict(answer.trailing_metadata())[DETAILS])
        assert CANARY not in str(answer) + str(status)
        if answer.code() is grpc.StatusCode.NOT_FOUND:
            return "not found"
        assert answer.code() is grpc.StatusCode.INVALID_ARGUMENT, answer
        violation = error_details_pb2.BadRequest()
        assert status.details[1].Unpack(violation)
        assert violation.field_violations[0].field
        return "refused"

    def _check_decision(self, decision: decision_pb2.Decision) -> None:
        assert decision.effect in (decision_pb2.EFFECT_BLOCK, decision_pb2.EFFECT_ESCALATE)
        receipt = self.verifier.verify(decision.receipt.token)
        assert receipt.claims["jti"] == decision.decision_id
        assert CANARY not in str(decision) + str(receipt.claims)

    @staticmethod
    def _memory(pids: dict[str, int]) -> int:
        """Resident bytes of the servers."""
        total = 0
        for name, pid in pids.items():
            if name.startswith("pdp"):
                lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
                total += next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) * 1024
        return total


def fuzz_of(pdp: RealPdp) -> Fuzz:
    """Two tenants on a server: one whose boundary permits nothing, and one that has something to hide."""
    tenant, other = pdp.fresh_tenant(), pdp.fresh_tenant()
    everything = ["operator", "session_issuer", "agent"]
    with Client(
        pdp.target,
        identity=DevIdentity(tenant=other, subject=CANARY, roles=everything, agents=[AGENT]),
        timeout=PATIENCE,
    ) as victim:
        victim.put_tenant({})
        victim.put_agents([{"agent": AGENT, "owner": CANARY, "trust": 0.9}])
        victim.put_tools(TOOLS)
        task = {"id": CANARY, "description": CANARY, "prompt": CANARY}
        theirs = victim.open_session(
            task=task, principal=CANARY, agent=AGENT, boundary={"tools": [READ], "resources": ["invoice:*"]}
        )
        action = {"tool": READ, "arguments": {"invoice": CANARY}, "tool_call_id": CANARY}
        decision = victim.evaluate(action, session=theirs)
        assert decision.allowed, decision
    identity = DevIdentity(tenant=tenant, subject="ops", roles=["operator", "session_issuer"])
    with Client(pdp.target, identity=identity, timeout=PATIENCE) as ops:
        ops.put_tenant({})
        ops.put_tools(TOOLS)
        # A boundary that permits nothing: whatever is asked, an allow would be wrong.
        opened = ops.open_session(task="fuzz", principal=PRINCIPAL, agent=AGENT, boundary={})
    return Fuzz(
        pdp=pdp,
        tenant=tenant,
        session_id=opened.session_id,
        victim=Victim(session_id=theirs.session_id, decision_id=decision.decision_id),
        verifier=Verifier(pdp.jwks()),
    )


def main(number: int) -> None:
    with running_stack() as stack:
        fuzz_of(RealPdp(stack=stack)).run(number, lambda text: print(text, flush=True))


if __name__ == "__main__":
    main(int(sys.argv[1]))
