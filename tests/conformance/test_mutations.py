"""A document of which something is missing, empty or of another type permits no more than it did whole.

Real documents are the start: those on which a real PDP judged every scenario of this project. Of each,
every member and every element is removed, emptied and retyped, one at a time and at any depth, and the
shipped rules judge what comes out.

Another value of the same type is another fact, which nothing in a document can tell: a number is not made
0, nor true false. Excepted is what a tenant's own rules alone read (`claimed`, `signals`, attributes of
entities), and what falls back to the bundle's defaults: a member of the settings that is left out.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

import orjson
import psycopg
import pytest

from pdp.dev.local_postgres import DATABASE, SUPERUSER
from pdp.errors import PolicyUnavailableError
from pdp.model import Effect
from pdp.opa import OpaPolicyEngine
from pdp.reasons import POLICY_UNAVAILABLE
from placet.scenario.load import load
from placet.scenario.run import Pdp
from placet.scenario.runner import run_scenario
from placet.scenario.scenario import Scenario
from placet.scenario.steps.kill import Kill
from placet.scenario.steps.step import Scope
from placet.verify import Verifier
from tests.support.opa import RunningOpa
from tests.support.stack import ROOT, RealPdp, running_stack

FILES = (
    ROOT / "scenarios" / "story.yaml",
    ROOT / "scenarios" / "invoice.yaml",
    Path(__file__).parent / "restrictions.yaml",
    *sorted((Path(__file__).parent / "cases").glob("*.yaml")),
)
TIMEOUT = 60.0
# Strictest first.
STRICTEST = (Effect.BLOCK, Effect.ESCALATE, Effect.ALLOW)
# What is judged at once; more only waits in the engine.
TOGETHER = 256
# How many of the other types each value in a document is given. They take turns, so that over all
# documents each place is given many of them.
RETYPINGS = 1
# How many documents of one shape and verdict are tried: what they say may differ.
ALIKE = 3
# How often the same is done at one place of documents with one verdict.
AGAIN = 2

Place = tuple[str | int, ...]
# The effect, and the codes of the reasons in order.
Answer = tuple[Effect, tuple[str, ...]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Judged:
    """A document with the verdict on it."""

    document: dict[str, Any]
    effect: Effect
    codes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Mutation:
    """What was done to one place of a document, and the text that came out."""

    of: Judged
    place: Place
    done: str
    text: bytes

    def __str__(self) -> str:
        path = ".".join(map(str, self.place))
        tool = self.of.document["action"]["tool"]["name"]
        return f"{path} {self.done}, where {tool} met {self.of.effect} {self.of.codes}"


@pytest.fixture
def pdp() -> Iterator[RealPdp]:
    """A PDP on a stack of its own: the scenarios move its clock."""
    with running_stack("--replicas", "2", "--clock", "manual") as stack:
        yield RealPdp(stack=stack)


async def test_nothing_that_goes_missing_permits_more(pdp: RealPdp, opa: RunningOpa) -> None:
    engine = opa.engine()
    documents = await distinct(engine, await recorded(pdp))
    found = Counter(one.effect for one in documents)
    # So that it cannot pass on documents that are not there.
    assert found[Effect.BLOCK] >= 30, found
    assert found[Effect.ESCALATE] >= 10, found
    assert found[Effect.ALLOW] >= 10, found

    mutations = few([each for number, one in enumerate(documents) for each in mutated(one, number)])
    effects = [effect for effect, _ in await judged(engine, [each.text for each in mutations])]
    await engine.aclose()
    looser = [
        f"{after}: {each}"
        for each, after in zip(mutations, effects, strict=True)
        if STRICTEST.index(after) > STRICTEST.index(each.of.effect) and not is_excepted(each)
    ]
    unread = [
        f"{after}: {each}"
        for each, after in zip(mutations, effects, strict=True)
        if each.place[-1] == "known" and each.done == "removed" and after is not Effect.BLOCK
    ]
    tried = f"{len(mutations)} mutations of {len(documents)} documents"
    assert len(mutations) > 5_000, tried
    assert not looser, "\n".join([f"{len(looser)} of {tried} permit more", *looser[:40]])
    assert not unread, "\n".join([f"{len(unread)} without a known marker are judged", *unread[:40]])


# --- the documents ------------------------------------------------------------------


async def recorded(pdp: RealPdp) -> list[bytes]:
    """The documents of all scenarios, as the PDP had them judged."""
    asked = Pdp(targets=(pdp.target,), timeout=TIMEOUT, verifier=Verifier(pdp.jwks()))
    tenants = []
    for file in FILES:
        for scenario in scenarios_in(file):
            result = await run_scenario(scenario, asked, file=file.name)
            differences = {step.title: step.differences for step in result.steps if not step.ok}
            assert differences == {}, result.name
            tenants.append(result.tenant)
    described = pdp.stack.described()["postgres"]
    with psycopg.connect(host=described["sockets"], user=SUPERUSER, dbname=DATABASE) as connection:
        rows = connection.execute(
            "SELECT input_document FROM placet.decision_details WHERE tenant = ANY(%s) ORDER BY decision_id",
            [tenants],
        ).fetchall()
    return [zlib.decompress(row[0]) for row in rows]


def scenarios_in(file: Path) -> Iterator[Scenario]:
    """The scenarios of a file, up to a step that would harm the stack: it is everybody's."""
    whole = load(file.read_text(), file.name, Scope(keys=True, stack=True, replicas=2))
    assert isinstance(whole, Scenario), "\n".join(map(str, whole))
    for scenario in whole.each():
        harmless = takewhile(lambda step: not isinstance(step, Kill), scenario.steps)
        yield scenario.model_copy(update={"steps": list(harmless)})


async def distinct(engine: OpaPolicyEngine, documents: Sequence[bytes]) -> list[Judged]:
    """A few documents of each shape and verdict."""
    found: dict[Any, list[Judged]] = {}
    for text, (effect, codes) in zip(documents, await judged(engine, documents), strict=True):
        document = orjson.loads(text)
        one = Judged(document=document, effect=effect, codes=codes)
        found.setdefault((effect, codes, orjson.dumps(shape(document))), []).append(one)
    return [one for alike in found.values() for one in alike[:ALIKE]]


def shape(value: Any) -> Any:
    """The value's members and elements with their types, without what they say."""
    if isinstance(value, dict):
        return {name: shape(item) for name, item in sorted(value.items())}
    return [shape(item) for item in value] if isinstance(value, list) else type(value).__name__


async def judged(engine: OpaPolicyEngine, documents: Sequence[bytes]) -> list[Answer]:
    """What the shipped rules say of each document."""
    result: list[Answer] = []
    for start in range(0, len(documents), TOGETHER):
        result += await asyncio.gather(
            *(answer(engine, document) for document in documents[start : start + TOGETHER])
        )
    return result


async def answer(engine: OpaPolicyEngine, document: bytes) -> Answer:
    # What a built-in function cannot take is no verdict, and then the server blocks.
    with contextlib.suppress(PolicyUnavailableError):
        verdict = await engine.decide(document, deadline=time.monotonic() + TIMEOUT)
        return verdict.effect, tuple(sorted(reason.code for reason in verdict.reasons))
    return Effect.BLOCK, (POLICY_UNAVAILABLE.code,)


# --- the mutations ------------------------------------------------------------------


def few(mutations: Sequence[Mutation]) -> list[Mutation]:
    """Few of those that do the same, by place: what breaks a batch then breaks few others."""
    found: dict[Any, list[Mutation]] = {}
    for each in mutations:
        found.setdefault((each.place, each.done, each.of.effect, each.of.codes), []).append(each)
    kept = [each for same in found.values() for each in same[:AGAIN]]
    return sorted(kept, key=lambda each: [str(part) for part in each.place])


def mutated(of: Judged, turn: int) -> Iterator[Mutation]:
    """Every mutation that may change the verdict; `turn` says which types come first.

    What is allowed cannot be judged looser, but what says that something is known has to be there.
    """
    document = of.document
    for number, (place, holder, key) in enumerate([*places(document, ())]):
        value = holder[key]
        for done, put in ways(value, turn + number):
            if of.effect is Effect.ALLOW and not (place[-1] == "known" and done == "removed"):
                continue
            if put is None:
                del holder[key]
            else:
                holder[key] = put[0]
            yield Mutation(of=of, place=place, done=done, text=orjson.dumps(document))
            if put is None and isinstance(holder, list):
                holder.insert(int(key), value)
            else:
                holder[key] = value


def places(value: Any, at: Place) -> Iterator[tuple[Place, Any, Any]]:
    """Every member and element below `value`, with what holds it and its name or index there."""
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        yield (*at, key), value, key
        yield from places(value[key], (*at, key))


def ways(value: Any, turn: int) -> Iterator[tuple[str, tuple[Any] | None]]:
    """What is done to a value, and what then stands in its place; None: nothing does."""
    yield "removed", None
    if isinstance(value, str | list | dict) and value:
        yield "emptied", (type(value)(),)
    text = value if isinstance(value, str) else orjson.dumps(value).decode()
    others = [
        other for other in (None, True, 7, text, [value], {"0": value}) if kind(other) is not kind(value)
    ]
    for number in range(RETYPINGS):
        other = others[(turn + number) % len(others)]
        yield f"made {kind(other).__name__}", (other,)


def kind(value: Any) -> type:
    """The value's type in JSON, where numbers are one."""
    return float if type(value) is int else type(value)


def is_excepted(mutation: Mutation) -> bool:
    """See the module: what only a tenant's own rules read, and settings that fall back to defaults."""
    match mutation.place:
        case ("claimed" | "signals", *_):
            return True
        case ("entities", _, "attributes", _, *_):
            return True
        case ("settings", *_):
            return mutation.done in ("removed", "emptied")
    return False
