"""Two tenants on a server: one sends odd requests, the other has something to hide."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
from hypothesis import HealthCheck, Phase, given, settings

from placet import Client, DevIdentity
from placet._transport.channel import CALLS_AT_ONCE
from placet.v1 import (
    decision_service_pb2,
    decision_service_pb2_grpc,
    session_service_pb2_grpc,
)
from placet.verify import Verifier
from tests.e2e.scene import AGENT, PRINCIPAL, READ, TOOLS, TRANSFER, new_call
from tests.fuzz.calls import KINDS, Call, Known, Stream, calls, stream
from tests.fuzz.judge import CANARY, Judge
from tests.fuzz.odd import VALUES, Mixer, Values
from tests.support.processes import PATIENCE
from tests.support.stack import RealPdp

# Requests of one round, about.
ROUND = 100
# The most rounds of one run of hypothesis, which remembers all their requests and grows slow.
MOST_ROUNDS = 500
# What a server's memory may grow by after the first fifth of the requests, in bytes: allocators and
# caches settle within it. Of a million requests it shows a leak of 130 bytes each, of ten thousand
# one of 12 KiB.
MEMORY = 96 * 1024 * 1024
_STUBS = {
    "DecisionService": decision_service_pb2_grpc.DecisionServiceStub,
    "SessionService": session_service_pb2_grpc.SessionServiceStub,
}


@dataclass(kw_only=True)
class Fuzz:
    """Sends odd requests to a running server as one tenant, and checks every answer."""

    pdp: RealPdp
    tenant: str
    known: Known
    judge: Judge
    # What became of the requests, by RPC.
    seen: dict[str, Counter[str]] = field(default_factory=dict)
    _keys: set[int] = field(default_factory=set)
    _settled: int = 0

    @property
    def sent(self) -> int:
        return sum(outcomes.total() for outcomes in self.seen.values())

    @property
    def different(self) -> int:
        """How many of the requests differed in more than a fresh id of their call."""
        return len(self._keys)

    def run(self, number: int, say: Callable[[str], None] = lambda text: None) -> None:
        """Send at least `number` different requests.

        Raises AssertionError for the first answer that is not as it must be.
        """
        pids = self.pdp.stack.pids()
        began, said = time.monotonic(), 0

        def report() -> None:
            rate = self.sent / (time.monotonic() - began)
            say(
                f"{self.sent:,} requests, {self.different:,} different, {rate:.0f}/s, "
                f"{self._memory(pids) >> 20} MiB: "
                + "; ".join(f"{rpc} {dict(outcomes)}" for rpc, outcomes in sorted(self.seen.items()))
            )

        with asyncio.Runner() as runner:

            def fuzz(values: Values) -> None:
                nonlocal said
                runner.run(self._round(Mixer(values)))
                if not self._settled and self.sent >= number // 5:
                    self._settled = self._memory(pids)
                if self.sent // 10_000 > said:
                    said = self.sent // 10_000
                    report()

            while self.different < number:
                # Rounds are alike: a failed one says all, and smaller ones would say it an hour later.
                rounds = settings(
                    max_examples=min(MOST_ROUNDS, -(-(number - self.different) // ROUND)),
                    deadline=None,
                    database=None,
                    phases=[Phase.generate],
                    suppress_health_check=list(HealthCheck),
                )
                rounds(given(VALUES)(fuzz))()
        report()
        self._saw_everything()
        assert self.pdp.stack.pids() == pids, "something died meanwhile"
        assert CANARY not in self._logs(), "the log has what it must not"
        grown = self._memory(pids) - self._settled
        say(f"memory grew by {grown / 1024 / 1024:.1f} MiB after the first fifth")
        assert grown < MEMORY, f"{grown} bytes"

    async def _round(self, mix: Mixer) -> None:
        single, streamed = calls(mix, self.known), stream(mix, self.known)
        # What a connection opens beyond its limit is reset, which says nothing.
        places = asyncio.Semaphore(CALLS_AT_ONCE)
        async with grpc.aio.insecure_channel(self.pdp.target) as channel:
            *answers, (said, ended) = await asyncio.gather(
                *(self._answer(channel, places, call) for call in single),
                self._answers(channel, streamed),
            )
        for call, answer in zip(single, answers, strict=True):
            self.seen.setdefault(call.rpc, Counter())[self.judge.call(call, answer)] += 1
            self._keys.add(call.key)
        outcomes = self.judge.stream(streamed, said, ended)
        self.seen.setdefault("EvaluateStream", Counter()).update(outcomes)
        self._keys.update(streamed.keys)

    def _identity(self, subject: str) -> Any:
        roles = ("agent", "tool", "policy_author")
        identity = DevIdentity(
            tenant=self.tenant,
            subject=subject,
            roles=roles,
            agents=[AGENT],
            tools=["*"],
            audiences=["erp"],
        )
        return identity.metadata()

    async def _answer(self, channel: grpc.aio.Channel, places: asyncio.Semaphore, call: Call) -> Any:
        stub: Any = _STUBS[call.service](channel)
        async with places:
            try:
                return await getattr(stub, call.rpc)(
                    call.request, metadata=self._identity(call.subject), timeout=PATIENCE
                )
            except grpc.aio.AioRpcError as exc:
                return exc

    async def _answers(self, channel: grpc.aio.Channel, sent: Stream) -> tuple[list[Any], Any]:
        """Every answer of the stream, and how it ended if not well."""

        async def frames() -> AsyncIterator[bytes]:
            for frame in sent.frames:
                yield frame

        answers: list[Any] = []
        call = channel.stream_stream("/placet.v1.DecisionService/EvaluateStream")(
            frames(), metadata=self._identity("svc-stream"), timeout=PATIENCE
        )
        try:
            async for data in call:
                answers.extend(decision_service_pb2.EvaluateStreamResponse.FromString(data).answers)
        except grpc.aio.AioRpcError as exc:
            return answers, exc
        return answers, None

    def _saw_everything(self) -> None:
        """Every kind of answer came, and neither decisions nor refusals are so rare that they hide."""
        assert set(self.seen) == {*KINDS, "EvaluateStream"}
        for rpc, outcomes in self.seen.items():
            expected = {
                "Evaluate": ("decided", "refused"),
                "EvaluateStream": ("decided", "refused", "too late"),
                "Simulate": ("decided", "refused"),
                "ListAllowedTools": ("nothing listed", "refused"),
                "GetSession": ("seen", "not found", "refused"),
                "GetDecision": ("decided", "not found", "refused"),
                "GetChain": ("seen", "not found"),
                "EvaluateBatch": ("decided", "refused"),
                "Delegate": ("not permitted", "refused"),
            }.get(rpc, ("not permitted", "not found", "refused"))
            assert all(outcomes[each] for each in expected), (rpc, outcomes)
        for rpc in ("Evaluate", "EvaluateStream", "Simulate"):
            outcomes = self.seen[rpc]
            assert min(outcomes["decided"], outcomes["refused"]) > outcomes.total() // 10, (rpc, outcomes)

    def _logs(self) -> str:
        """What the servers wrote, whatever of it: arguments of callers are no part of it."""
        return "".join(
            log.read_text(encoding="utf-8", errors="replace")
            for log in Path(self.pdp.stack.described()["logs"]).glob("pdp-*")
        )

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
    """A tenant whose boundary permits nothing, and one that has a secret wherever there is room for one."""
    tenant, other = pdp.fresh_tenant(), pdp.fresh_tenant()
    everything = ["operator", "session_issuer", "agent"]
    # Who wrote what stands in the log, so operators go by a name that is no secret.
    operator = DevIdentity(tenant=other, subject="ops", roles=["operator"])
    with Client(pdp.target, identity=operator, timeout=PATIENCE) as writing:
        writing.put_tenant({})
        writing.put_agents([{"agent": AGENT, "owner": CANARY, "trust": 0.9, "trust_explanation": CANARY}])
        writing.put_tools([tool | {"description": CANARY} for tool in TOOLS])
        writing.put_signals([{"name": CANARY, "value": CANARY}])
        writing.put_entities([{"type": "invoice", "id": CANARY, "attributes": {"note": CANARY}}])
    with Client(
        pdp.target,
        identity=DevIdentity(tenant=other, subject=CANARY, roles=everything, agents=[AGENT]),
        timeout=PATIENCE,
    ) as victim:
        theirs = victim.open_session(
            task={"id": f"T-{CANARY}", "description": CANARY, "prompt": CANARY},
            principal=CANARY,
            agent=AGENT,
            boundary={
                "tools": [READ, TRANSFER],
                "resources": ["invoice:*"],
                "amounts": {"EUR": "5000.00"},
            },
        )
        arguments = {"invoice": CANARY, "amount": 100, "currency": "EUR", "pin": CANARY}
        action = {
            "tool": TRANSFER,
            "arguments": arguments,
            "tool_call_id": new_call(),
            "intent": CANARY,
            "provenance": {"invoice": CANARY},
        }
        decision = victim.evaluate(action, session=theirs)
        assert decision.allowed, decision
    identity = DevIdentity(
        tenant=tenant, subject="svc", roles=["operator", "session_issuer", "agent"], agents=[AGENT]
    )
    with Client(pdp.target, identity=identity, timeout=PATIENCE) as own:
        own.put_tenant({})
        own.put_tools(TOOLS)
        # A boundary that permits nothing: whatever is asked, an allow would be wrong.
        opened = own.open_session(task="fuzz", principal=PRINCIPAL, agent=AGENT, boundary={})
        blocked = own.evaluate(
            {"tool": READ, "arguments": {"invoice": "INV-1"}, "tool_call_id": new_call()}, session=opened
        )
        assert blocked.decision_id, blocked
    return Fuzz(
        pdp=pdp,
        tenant=tenant,
        known=Known(
            session_id=opened.session_id,
            session_token=opened.token,
            decision_id=blocked.decision_id,
            their_session_id=theirs.session_id,
            their_decision_id=decision.decision_id,
            their_tool_call_id=decision.tool_call_id,
        ),
        judge=Judge(verifier=Verifier(pdp.jwks())),
    )
