"""The shipped rules judge boundaries as the documents say, alone and along a chain."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import replace
from random import Random
from typing import Any

from pdp.action.derivation import derive
from pdp.authority.limits import find_limits, measure_limits
from pdp.decision.document import input_document
from pdp.model import (
    Aggregates,
    Boundary,
    Bucket,
    Chain,
    Counter,
    Effect,
    EntityName,
    EntityRef,
    EntityRole,
    Facts,
    KnownEntity,
    Limit,
    SessionState,
    VerifiedHop,
)
from pdp.opa.engine import OpaPolicyEngine
from tests.support import builders
from tests.support.chains import speaker
from tests.support.narrowing import PAY, judge, situation, some_boundary, vary
from tests.support.opa import RunningOpa

AGENTS = ("agent:a", "agent:b", "agent:c")
EFFECTS = (Effect.BLOCK, Effect.ESCALATE, Effect.ALLOW)
NOW = int(builders.NOW.timestamp())


def document(boundaries: Sequence[Boundary], what: dict[str, Any]) -> bytes:
    """The document on an action under the boundaries of a session and of what was delegated from it."""
    tool = replace(
        builders.tool(
            what["tool"],
            effect=what["effect"],
            resource=f"{what['type']}:{{id}}",
            arguments_schema='{"type": "object"}',
            amount=replace(builders.EUROS, allow_zero=True) if what["effect"] is PAY else None,
        ),
        entities=(EntityRef(name="party", type="vendor", id="{party}", role=EntityRole.COUNTERPARTY),),
    )
    session = replace(
        builders.session(
            agent=AGENTS[0],
            bounds=boundaries[0],
            state=SessionState.COMPLETED if what["completed"] else SessionState.OPEN,
        ),
        aggregates=Aggregates(allow=len(what["earlier"])),
    )
    request = builders.evaluation(
        session.session_id,
        by=speaker(AGENTS[len(boundaries) - 1]),
        what=builders.action(
            what["tool"],
            arguments={"id": what["id"], "party": "V-1"}
            | ({"amount": what["amount"], "currency": what["currency"]} if tool.amount else {}),
        ),
    )
    derived = derive(request.action, tool)
    party = KnownEntity(name=EntityName(type="vendor", id="V-1"), revision=1, attributes={"status": "active"})
    chain = Chain(
        hops=tuple(
            VerifiedHop(
                agent=AGENTS[depth],
                grant_hash=f"{depth:064}",
                depth=depth,
                delegated_by="svc-else",
                boundary=boundary,
                same_runtime=False,
                own_runtime=True,
                verified=True,
            )
            for depth, boundary in enumerate(boundaries)
        )
    )
    asked = find_limits(
        session.scope,
        {},
        tool,
        derived,
        agents=AGENTS,
        grants=[(hop.grant_hash, hop.boundary) for hop in chain.hops[1:]],
    )
    counters = {limit.key: counted(limit, what) for limit in asked.met if limit.key is not None}
    facts = Facts(
        now=builders.NOW,
        epoch=1,
        settings={},
        data_revisions={},
        session=session,
        tool=tool,
        agents={agent: builders.agent(agent) for agent in AGENTS},
        signals={},
        prior=None,
        entities={"party": party},
        counters=counters,
    )
    return input_document(
        request,
        facts,
        session=session,
        chain=chain,
        derived=derived,
        limits=measure_limits(asked, counters, NOW, allowed=session.aggregates.allow, amount=derived.amount),
    )


def counted(limit: Limit, what: dict[str, Any]) -> Counter:
    """What the action's history left in the counter of a limit."""
    match limit.code:
        case "boundary.total":
            return Counter(total=what["spent"] * 100)
        case "boundary.counterparty_total":
            return Counter(total=what["spent_on_party"] * 100)
        case "boundary.max_actions":
            return Counter(total=len(what["earlier"]))
    assert limit.key is not None
    effects = limit.key.unit.partition(":")[2].split(",")
    return Counter(
        buckets=tuple(
            Bucket(start=NOW - age - 1, width=1, number=1)
            for age, effect in sorted(what["earlier"], reverse=True)
            if effect in effects or effects == [""]
        )
    )


async def answers(engine: OpaPolicyEngine, documents: Sequence[bytes]) -> list[Effect]:
    deadline = time.monotonic() + builders.SECONDS
    verdicts = await asyncio.gather(*(engine.decide(document, deadline=deadline) for document in documents))
    return [verdict.effect for verdict in verdicts]


async def test_every_boundary_of_a_chain_is_judged(opa: RunningOpa) -> None:
    """What is allowed along a chain is what each of its boundaries allows, and the strictest decides."""
    chance, engine = Random(7), opa.engine()
    asked = []
    for _ in range(400):
        boundaries = [some_boundary(chance)]
        while len(boundaries) < chance.randint(1, 3):
            boundaries.append(vary(boundaries[-1], chance))
        asked.append((boundaries, situation(chance)))
    given: list[Effect] = []
    for start in range(0, len(asked), 50):
        given += await answers(engine, [document(*one) for one in asked[start : start + 50]])
    await engine.aclose()
    expected = [EFFECTS[min(judge(boundary, what) for boundary in bounds)] for bounds, what in asked]
    wrong = [
        (*one, got, right) for one, got, right in zip(asked, given, expected, strict=True) if got != right
    ]
    assert not wrong, wrong[0]
    assert set(given) == set(Effect)
