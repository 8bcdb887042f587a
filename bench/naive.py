"""The PDP's function as one would write it first: an action is a call, a call is a transaction.

Same proto, rules, SQL with its guards, signature and receipt as the PDP, and the same pure code: what
differs is that nothing is gathered. Each action reads its facts over a pooled connection, asks OPA (as
shipped: its default collector) by one HTTP request of aiohttp, and commits alone. It leaves out
the PDP's metrics and its error table, and so is not slower for them.

    python -m bench.naive CONFIG OPA_SOCKET ADDRESS     CONFIG: that of a PDP on the same database
"""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import uvloop
import yaml

from pdp import ports
from pdp.decision.fingerprint import Fingerprints
from pdp.decision.point import DecisionPoint
from pdp.delegation.tokens import GrantTokens
from pdp.errors import PolicyUnavailableError, SessionMovedError
from pdp.model import DecisionStatus, PolicyRevision, Position, RecordedDecision, Recording, Verdict
from pdp.opa.verdict import serving_policy, single_verdict
from pdp.postgres.access.connection import Access
from pdp.postgres.facts.point import PostgresInformationPoint
from pdp.postgres.ledger.stream import Stream
from pdp.postgres.store import PostgresStore
from pdp.server.grpc.deadline import deadline_of
from pdp.server.identity.caller import identify
from pdp.server.messages import decisions
from pdp.signing import RotatingSigner
from placet.v1 import decision_service_pb2 as messages

CONNECTIONS = 16
URL = "http://opa/v1/data/placet/decision/decision?strict-builtin-errors=true&provenance=true"


class Service:
    """`Evaluate` of placet.v1.DecisionService, and no other method."""

    def __init__(self, decision_point: DecisionPoint) -> None:
        self._decision_point = decision_point

    async def evaluate(self, request: messages.EvaluateRequest, context: Any) -> messages.EvaluateResponse:
        caller = identify(context.invocation_metadata())
        decision, receipt = await self._decision_point.evaluate(
            decisions.evaluation_request(request, caller=caller, deadline=deadline_of(context))
        )
        return messages.EvaluateResponse(decision=decisions.decision_message(decision, receipt))

    def handler(self) -> grpc.GenericRpcHandler:
        method = grpc.unary_unary_rpc_method_handler(
            self.evaluate,
            request_deserializer=messages.EvaluateRequest.FromString,
            response_serializer=messages.EvaluateResponse.SerializeToString,
        )
        return grpc.method_handlers_generic_handler("placet.v1.DecisionService", {"Evaluate": method})


class Engine:
    """Sends one HTTP request for each document."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    async def decide(self, document: bytes, *, deadline: float, tenant: str = "") -> Verdict:
        return single_verdict(await self._post(document, deadline), bundle="placet")

    async def policy(self, *, deadline: float) -> PolicyRevision:
        return serving_policy(await self._post(b"{}", deadline), bundle="placet")

    async def _post(self, document: bytes, deadline: float) -> bytes:
        try:
            async with asyncio.timeout(deadline - time.monotonic()):
                async with self._session.post(URL, data=b'{"input":%b}' % document) as answer:
                    body = await answer.read()
        except (TimeoutError, aiohttp.ClientError) as exc:
            raise PolicyUnavailableError("connection", str(exc)) from exc
        if answer.status != 200:
            raise PolicyUnavailableError("status", str(answer.status))
        return body


class Ledger:
    """Records each decision in a transaction of its own. Every connection of the pool is a writer."""

    def __init__(self, reading: ports.Ledger) -> None:
        """`reading` answers what the ledger holds."""
        self._reading = reading
        self._free: asyncio.Queue[Stream] = asyncio.Queue()

    async def open(self, access: Access) -> None:
        for _ in range(CONNECTIONS):
            self._free.put_nowait(await Stream.open(access, "naive"))

    async def record(self, recording: Recording) -> Position:
        return (await self.record_together([recording]))[0]

    async def record_together(self, recordings: Sequence[Recording]) -> Sequence[Position]:
        stream = await self._free.get()
        try:
            (recorded,) = await stream.record([tuple(recordings)], lambda _: True)
        finally:
            self._free.put_nowait(stream)
        if isinstance(recorded, SessionMovedError):
            raise recorded
        return recorded

    async def decision(self, tenant: str, decision_id: str) -> RecordedDecision | None:
        return await self._reading.decision(tenant, decision_id)

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
        return await self._reading.status(
            tenant,
            decision_id=decision_id,
            session_id=session_id,
            tool_call_id=tool_call_id,
            caller=caller,
            session_token_hash=session_token_hash,
        )


async def serve(
    config: dict[str, Any], token: str, fingerprints: Fingerprints, opa_socket: str, address: str
) -> None:
    """Serve until SIGTERM. `config`: that of a PDP."""
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    access = Access(conninfo=config["database_url"])
    http = aiohttp.ClientSession(
        connector=aiohttp.UnixConnector(opa_socket, limit=0),
        headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
    )
    async with http, PostgresStore.open(config["database_url"], replica="naive") as store:
        signer = RotatingSigner(store.keys, replica="naive")
        await signer.rotate()
        information = PostgresInformationPoint(access, readers=CONNECTIONS, batch=1)
        information.start()
        ledger = Ledger(store.ledger)
        await ledger.open(access)
        decision_point = DecisionPoint(
            information=information,
            engine=Engine(http),
            signer=signer,
            ledger=ledger,
            grants=GrantTokens(signer, store.keys),
            fingerprints=fingerprints,
            issuer=config["issuer"],
        )
        server = grpc.aio.server()
        server.add_generic_rpc_handlers((Service(decision_point).handler(),))
        server.add_insecure_port(address)
        await server.start()
        await stopping.wait()
        await server.stop(None)
        await information.close()


def main(config_file: str, opa_socket: str, address: str) -> None:
    config = yaml.safe_load(Path(config_file).read_text(encoding="utf-8"))
    token = Path(config["opa_token_file"]).read_text(encoding="ascii").strip()
    fingerprints = Fingerprints(Path(config["fingerprint_key_file"]).read_bytes())
    uvloop.run(serve(config, token, fingerprints, opa_socket, address))


if __name__ == "__main__":
    main(*sys.argv[1:])
