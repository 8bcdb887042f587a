"""Odd values, and how each request gets its own of them.

Hypothesis makes a few dozen values for a round; `Mixer` takes, twists and joins them, which is
cheap, so that nearly every request differs from every other.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from random import Random

from google.protobuf.duration_pb2 import Duration
from hypothesis import strategies as st

from placet.v1 import decision_pb2
from tests.e2e.scene import AGENT, READ

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
        b"1e99999999999999999999",
        b"0e99999999999999999999",
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
OBJECT = st.lists(MEMBER, max_size=4).map(lambda members: b"{" + b",".join(members) + b"}")
OBJECT |= st.binary(max_size=40) | st.just(b'{"a":' * 40 + b"1" + b"}" * 40) | LITERAL


@dataclass(frozen=True, kw_only=True, slots=True)
class Values:
    """The odd values of one round."""

    texts: list[str]
    objects: list[bytes]
    members: list[bytes]
    seed: int


VALUES = st.builds(
    Values,
    texts=st.lists(TEXT, min_size=16, max_size=16),
    objects=st.lists(OBJECT, min_size=12, max_size=12),
    members=st.lists(MEMBER, min_size=8, max_size=8),
    seed=st.integers(0, 2**64 - 1),
)
# Longer than any call here takes.
LONG = 60


class Mixer:
    """Makes values of a round's; the same ones of the same round."""

    def __init__(self, values: Values) -> None:
        self._values = values
        self.random = Random(repr(values))

    def one_in(self, number: int) -> bool:
        return self.random.randrange(number) == 0

    def fresh(self) -> str:
        """An id that nothing else has."""
        return f"{self.random.getrandbits(64):016x}"

    def text(self) -> str:
        text = self.random.choice(self._values.texts)
        match self.random.randrange(6):
            case 0 | 1:
                return text
            case 2:
                return text + self.random.choice(self._values.texts)
            case 3:
                return text[: self.random.randrange(len(text) + 1)] + self.fresh()
            case 4:
                place = self.random.randrange(len(text) + 1)
                return text[:place] + chr(self.random.randrange(0xD800)) + text[place:]
        return text.swapcase() + chr(self.random.randrange(0xE000, 0x110000))

    def object(self) -> bytes:
        """What stands where a JSON object should."""
        match self.random.randrange(6):
            case 0:
                return self.random.choice(self._values.objects)
            case 1 | 2:
                data = bytearray(self.random.choice(self._values.objects) or b"{}")
                data[self.random.randrange(len(data))] = self.random.randrange(256)
                return bytes(data)
        number = b'"n%d":%d' % (self.random.randrange(4), self.random.getrandbits(60))
        members = [number, *self.random.choices(self._values.members, k=self.random.randrange(4))]
        self.random.shuffle(members)
        return b"{" + b",".join(members) + b"}"

    def chain(self) -> decision_pb2.DelegationChain:
        return decision_pb2.DelegationChain(
            hops=[
                decision_pb2.Hop(
                    agent=AGENT if self.one_in(2) else self.text(),
                    grant="" if self.one_in(2) else self.text(),
                )
                for _ in range(self.random.choice((0, 1, 1, 1, 2, 3, 20)))
            ]
        )

    def timeout(self) -> Duration:
        return self.random.choice(
            (
                Duration(seconds=LONG),
                Duration(nanos=self.random.randrange(1, 10**6)),
                Duration(nanos=self.random.randrange(10**6, 10**9)),
                Duration(seconds=-1),
                Duration(),
                Duration(seconds=self.random.randrange(2**62)),
                Duration(seconds=1, nanos=2_000_000_000),
                Duration(seconds=2, nanos=-1),
            )
        )
