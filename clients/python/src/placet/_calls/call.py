"""A call of the API as a value: the request, and how its answer is read. Pure: the sender does the rest."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Generic, TypeVar

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError, Message
from google.protobuf.timestamp_pb2 import Timestamp

from placet._transport.methods import method_of
from placet.errors import AnswerError

T = TypeVar("T", covariant=True)
V = TypeVar("V")
M = TypeVar("M", bound=Message)


@dataclass(frozen=True, kw_only=True, slots=True)
class Call(Generic[T]):
    """`read` takes the bytes of the answer. It raises `AnswerError` for what is not whole or not known."""

    request: Message
    read: Callable[[bytes], T]

    @property
    def method(self) -> str:
        return method_of(self.request)


def reader(kind: type[M], read: Callable[[M], V]) -> Callable[[bytes], V]:
    """Return what reads an answer of a kind from its bytes."""
    return lambda data: read(parse_answer(kind, data))


def parse_answer(kind: type[M], data: bytes) -> M:
    """Return the message that the bytes are. Raises `AnswerError`."""
    try:
        return kind.FromString(data)
    except DecodeError as exc:
        raise AnswerError(f"the answer is not a {kind.DESCRIPTOR.name}") from exc


def read_instant(message: Timestamp, field: str) -> datetime:
    """Return an instant of an answer, in UTC. Raises `AnswerError`."""
    try:
        return message.ToDatetime(tzinfo=UTC)
    except (ValueError, OverflowError) as exc:
        raise AnswerError(f"{field} is no instant") from exc


def read_span(message: Duration, field: str) -> timedelta:
    """Return a duration of an answer. Raises `AnswerError`."""
    try:
        return message.ToTimedelta()
    except (ValueError, OverflowError) as exc:
        raise AnswerError(f"{field} is no duration") from exc
