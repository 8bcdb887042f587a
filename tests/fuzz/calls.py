"""Calls of every RPC that an agent or a tool makes, in order but for a few oddities."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from google.protobuf.message import Message

from placet.v1 import decision_service_pb2, session_service_pb2
from tests.e2e.scene import AGENT, READ
from tests.fuzz.odd import LONG, Mixer

# Which parts of an EvaluateRequest are spoiled, and how.
_SPOILT: Mapping[str, str] = {
    "action.tool": "text",
    "action.arguments": "object",
    "action.tool_call_id": "text",
    "action.intent": "text",
    "action.resource": "text",
    "action.provenance": "object",
    "session_id": "text",
    "review_id": "text",
    "attempt_id": "text",
    "audience": "text",
    "session_token": "text",
    "chain": "chain",
}
_PATHS = sorted(_SPOILT)
# What a server takes at most, bytes.
MESSAGE = 1024 * 1024
_HOW_MANY = (0, 0, 1, 1, 1, 1, 1, 1, 2, 3)


@dataclass(frozen=True, kw_only=True, slots=True)
class Known:
    """What the sender may name: its own things, and the ids of another tenant's."""

    session_id: str
    session_token: str
    decision_id: str
    their_session_id: str
    their_decision_id: str
    their_tool_call_id: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Call:
    """`key` tells it from others, by everything but the id that makes every call new."""

    service: str
    rpc: str
    request: Message
    key: int
    subject: str = "svc"


@dataclass(frozen=True, kw_only=True, slots=True)
class Stream:
    """One EvaluateStream: its messages as they are sent, and the ids of the actions in them.

    `hurried` are ids whose action may come too late. `broken`: its last message is none, or too
    large, and ends it.
    """

    frames: Sequence[bytes]
    ids: Sequence[str]
    hurried: frozenset[str]
    keys: Sequence[int]
    broken: bool


def evaluate(mix: Mixer, known: Known) -> tuple[decision_service_pb2.EvaluateRequest, int]:
    """Return a request and its key."""
    session = known.their_session_id if mix.one_in(3) else known.session_id
    request = decision_service_pb2.EvaluateRequest(session_id=session, session_token=known.session_token)
    request.action.tool = READ
    request.action.arguments = b'{"invoice":"INV-%d"}' % mix.random.randrange(10**6)
    paths = mix.random.sample(_PATHS, mix.random.choice(_HOW_MANY))
    for path in paths:
        *parents, last = path.split(".")
        message = getattr(request, parents[0]) if parents else request
        match _SPOILT[path]:
            case "text":
                setattr(message, last, mix.text())
            case "object":
                setattr(message, last, mix.object())
            case _:
                request.chain.CopyFrom(mix.chain())
    absent = mix.one_in(60)
    if absent:
        request.ClearField("action")
    key = _key("Evaluate", request)
    if "action.tool_call_id" not in paths and not absent:
        request.action.tool_call_id = mix.fresh()
    return request, key


def _evaluate(mix: Mixer, known: Known) -> Call:
    request, key = evaluate(mix, known)
    return Call(service="DecisionService", rpc="Evaluate", request=request, key=key)


def _evaluate_batch(mix: Mixer, known: Known) -> Call:
    asked = [evaluate(mix, known)[0] for _ in range(mix.random.randint(1, 4))]
    first = asked[0]
    request = decision_service_pb2.EvaluateBatchRequest(
        session_id=first.session_id,
        chain=first.chain,
        items=[
            decision_service_pb2.PlannedAction(
                action=each.action, review_id=each.review_id, attempt_id=each.attempt_id
            )
            for each in (asked * 12 if mix.one_in(30) else asked)
        ],
        all_or_nothing=mix.one_in(2),
        audience=first.audience,
        session_token=first.session_token,
    )
    return _call("EvaluateBatch", request)


def _simulate(mix: Mixer, known: Known) -> Call:
    asked, _ = evaluate(mix, known)
    request = decision_service_pb2.SimulateRequest(request=asked)
    request.caller.subject = mix.text() if mix.one_in(4) else "svc"
    request.caller.agents.append(mix.text() if mix.one_in(4) else AGENT)
    if mix.one_in(4):
        request.caller.claims = mix.object()
    if mix.one_in(20):
        request.ClearField(mix.random.choice(("request", "caller")))
    return _call("Simulate", request)


def _list_allowed_tools(mix: Mixer, known: Known) -> Call:
    request = decision_service_pb2.ListAllowedToolsRequest(
        session_id=_session(mix, known), session_token=_token(mix, known)
    )
    if mix.one_in(2):
        request.chain.CopyFrom(mix.chain())
    # Who asks too often is held off; so each is somebody else.
    return _call("ListAllowedTools", request, subject=mix.fresh())


def _report_outcome(mix: Mixer, known: Known) -> Call:
    request = decision_service_pb2.ReportOutcomeRequest(outcome=mix.random.choice((1, 2, 3, 4, 5, 0, 77)))
    if mix.one_in(3):
        request.session_id = _session(mix, known)
        request.tool_call_id = mix.text() if mix.one_in(2) else known.their_tool_call_id
    else:
        request.decision_id = _decision(mix, known)
    request.session_token = _token(mix, known)
    if not mix.one_in(5):
        request.output = mix.object() if mix.one_in(2) else mix.fresh().encode()
    return _call("ReportOutcome", request)


def _redeem(mix: Mixer, known: Known) -> Call:
    request = decision_service_pb2.RedeemRequest(
        decision_id=_decision(mix, known),
        tool=mix.text() if mix.one_in(3) else READ,
        arguments=mix.object() if mix.one_in(3) else b'{"invoice":"INV-%d"}' % mix.random.randrange(10**6),
        audience=mix.text() if mix.one_in(3) else "",
    )
    return _call("Redeem", request)


def _get_decision(mix: Mixer, known: Known) -> Call:
    request = decision_service_pb2.GetDecisionRequest(
        decision_id=_decision(mix, known), session_token=_token(mix, known)
    )
    return _call("GetDecision", request)


def _get_chain(mix: Mixer, known: Known) -> Call:
    request = decision_service_pb2.GetChainRequest(
        decision_id=_decision(mix, known), session_token=_token(mix, known)
    )
    return _call("GetChain", request)


def _delegate(mix: Mixer, known: Known) -> Call:
    request = session_service_pb2.DelegateRequest(
        session_id=_session(mix, known),
        to_agent=mix.text() if mix.one_in(3) else "agent:helper",
        purpose=mix.text() if mix.one_in(3) else "",
    )
    request.chain.CopyFrom(mix.chain())
    for hop in request.chain.hops:
        hop.grant = hop.grant or mix.fresh()
    return _call("Delegate", request, service="SessionService")


def _get_session(mix: Mixer, known: Known) -> Call:
    request = session_service_pb2.GetSessionRequest(
        session_id=_session(mix, known), session_token=_token(mix, known)
    )
    return _call("GetSession", request, service="SessionService")


KINDS: Mapping[str, Callable[[Mixer, Known], Call]] = {
    "Evaluate": _evaluate,
    "EvaluateBatch": _evaluate_batch,
    "Simulate": _simulate,
    "ListAllowedTools": _list_allowed_tools,
    "ReportOutcome": _report_outcome,
    "Redeem": _redeem,
    "GetDecision": _get_decision,
    "GetChain": _get_chain,
    "Delegate": _delegate,
    "GetSession": _get_session,
}
# So many of a hundred; the rest goes over a stream.
_SHARES = {
    "Evaluate": 44,
    "EvaluateBatch": 5,
    "Simulate": 8,
    "ListAllowedTools": 4,
    "ReportOutcome": 6,
    "Redeem": 6,
    "GetDecision": 2,
    "GetChain": 1,
    "Delegate": 3,
    "GetSession": 2,
}
_STREAMED = 20


def calls(mix: Mixer, known: Known) -> list[Call]:
    """The single calls of a round."""
    return [KINDS[kind](mix, known) for kind, share in _SHARES.items() for _ in range(share)]


def stream(mix: Mixer, known: Known) -> Stream:
    """A round's stream: now and then with more actions than may be unanswered, in one message."""
    number = 300 if mix.one_in(12) else mix.random.randint(_STREAMED // 2, 2 * _STREAMED)
    actions: list[decision_service_pb2.StreamedAction] = []
    hurried, keys = set(), []
    for index in range(number):
        request, key = evaluate(mix, known)
        if request.ByteSize() > MESSAGE // 2:
            continue  # It would end the stream; `broken` does.
        action = decision_service_pb2.StreamedAction(id=str(index), request=request)
        if mix.one_in(6):
            action.id = mix.text()
        elif mix.one_in(10) and actions:
            action.id = mix.random.choice(actions).id
        action.timeout.seconds = LONG
        if mix.one_in(6):
            action.timeout.CopyFrom(mix.timeout())
        elif mix.one_in(10):
            action.ClearField("timeout")
        if mix.one_in(30):
            action.ClearField("request")
        seconds = action.timeout.seconds + action.timeout.nanos / 10**9
        if not action.HasField("timeout") or seconds < LONG:
            hurried.add(action.id)
        actions.append(action)
        keys.append(key)
    frames = _frames(actions, number if mix.one_in(3) else mix.random.randint(1, number))
    if mix.one_in(4):
        frames.insert(0, b"")
    broken = mix.one_in(8)
    if broken:
        frames.append(b"\xff" * 20 if mix.one_in(2) else b"\x0a" + b"\0" * MESSAGE)
    return Stream(
        frames=frames,
        ids=[action.id for action in actions],
        hurried=frozenset(hurried),
        keys=keys,
        broken=broken,
    )


def _frames(actions: Sequence[decision_service_pb2.StreamedAction], most: int) -> list[bytes]:
    """The actions in messages of so many at most, none of them larger than a server takes."""
    frames: list[bytes] = []
    message, size = decision_service_pb2.EvaluateStreamRequest(), 0
    for action in actions:
        if len(message.actions) == most or size + action.ByteSize() > MESSAGE // 2:
            frames.append(message.SerializeToString())
            message, size = decision_service_pb2.EvaluateStreamRequest(), 0
        message.actions.append(action)
        size += action.ByteSize()
    return [*frames, message.SerializeToString()]


def _session(mix: Mixer, known: Known) -> str:
    return mix.random.choice((known.session_id, known.their_session_id, mix.text(), mix.fresh()))


def _token(mix: Mixer, known: Known) -> str:
    return mix.text() if mix.one_in(5) else known.session_token


def _decision(mix: Mixer, known: Known) -> str:
    return mix.random.choice((known.decision_id, known.their_decision_id, mix.text(), mix.fresh()))


def _call(rpc: str, request: Message, *, service: str = "DecisionService", subject: str = "svc") -> Call:
    return Call(service=service, rpc=rpc, request=request, key=_key(rpc, request), subject=subject)


def _key(rpc: str, request: Message) -> int:
    said = rpc.encode() + request.SerializeToString(deterministic=True)
    return int.from_bytes(hashlib.blake2b(said, digest_size=8).digest(), "big")
