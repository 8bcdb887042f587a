"""What vectors/recorded holds, and how its calls are made again. `make_recorded.py` makes it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.json_format import MessageToDict, ParseDict
from google.protobuf.message import Message

from placet import DevIdentity
from placet.v1 import (
    decision_service_pb2,
    decision_service_pb2_grpc,
    session_service_pb2,
    session_service_pb2_grpc,
)
from tests.support.processes import PATIENCE

FOLDER = Path(__file__).parent / "vectors" / "recorded"
TENANT = "acme"
_SERVICES: Mapping[str, tuple[Any, Any]] = {
    "DecisionService": (decision_service_pb2, decision_service_pb2_grpc.DecisionServiceStub),
    "SessionService": (session_service_pb2, session_service_pb2_grpc.SessionServiceStub),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Caller:
    """Somebody of the tenant, as `DevIdentity` names him."""

    subject: str
    roles: tuple[str, ...]
    agents: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Exchange:
    """A call and its answer, both as protobuf's JSON."""

    # For instance DecisionService/Evaluate.
    method: str
    caller: Caller
    request: Mapping[str, Any]
    answer: Mapping[str, Any]
    # What the same call gets later: the `same` answer, it marked as `replayed`, or "" if nobody asks again.
    again: str

    def repeat(self, channel: grpc.Channel) -> dict[str, Any]:
        """Make the call again, and return its answer."""
        return call(channel, self.method, self.caller, self.request)


def call(channel: grpc.Channel, method: str, caller: Caller, request: Mapping[str, Any]) -> dict[str, Any]:
    """Call the method and return its answer, in the names of the proto. Raises `grpc.RpcError`."""
    service, _, name = method.partition("/")
    messages, stub = _SERVICES[service]
    identity = DevIdentity(tenant=TENANT, subject=caller.subject, roles=caller.roles, agents=caller.agents)
    message: Message = ParseDict(request, getattr(messages, f"{name}Request")())
    answer = getattr(stub(channel), name)(message, metadata=identity.metadata(), timeout=PATIENCE)
    said: dict[str, Any] = MessageToDict(answer, preserving_proto_field_name=True)
    return said


def exchanges() -> list[Exchange]:
    recorded = json.loads((FOLDER / "exchanges.json").read_text())
    return [
        Exchange(
            **{**said, "caller": Caller(**{name: _tuple(value) for name, value in said["caller"].items()})}
        )
        for said in recorded
    ]


def written(said: list[Exchange]) -> str:
    """The exchanges as `exchanges` reads them."""
    return json.dumps([asdict(exchange) for exchange in said], indent=1) + "\n"


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
