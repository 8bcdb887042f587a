"""What every `PolicyEngine` promises, on the fake and on a real OPA."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from pdp.errors import PolicyUnavailableError
from pdp.model import Effect, Verdict
from pdp.ports import PolicyEngine
from tests.fakes.engine import ALLOW, BLOCK, ESCALATE, FakePolicyEngine
from tests.support.documents import encode, payment_document
from tests.support.opa import RunningOpa

ALLOWED, LARGE, BEYOND = 120_000, 200_001, 500_001
EXPECTED = {ALLOWED: Effect.ALLOW, LARGE: Effect.ESCALATE, BEYOND: Effect.BLOCK}


def soon() -> float:
    return time.monotonic() + 30.0


def like_the_shipped_rules(document: dict[str, Any]) -> Verdict:
    minor = document["action"]["amount"]["minor"]
    return ALLOW if minor <= 200_000 else ESCALATE if minor <= 500_000 else BLOCK


@pytest.fixture(params=["fake", "opa"])
async def engine(request: pytest.FixtureRequest) -> AsyncIterator[PolicyEngine]:
    if request.param == "fake":
        yield FakePolicyEngine(like_the_shipped_rules)
        return
    shared: RunningOpa = request.getfixturevalue("shared_opa")
    await shared.sidecar.wait_until_ready(deadline=time.monotonic() + 60.0)
    real = shared.engine()
    yield real
    await real.aclose()


@pytest.mark.parametrize("minor", EXPECTED)
async def test_answers_with_effect_reasons_and_revision(engine: PolicyEngine, minor: int) -> None:
    verdict = await engine.decide(encode(payment_document(amount_minor=minor)), deadline=soon())

    assert verdict.effect is EXPECTED[minor]
    assert verdict.reasons
    assert all(reason.code and reason.message for reason in verdict.reasons)
    assert verdict.policy.bundle == "placet"
    assert verdict.policy.revision


async def test_gives_each_of_many_callers_the_verdict_on_its_own_document(engine: PolicyEngine) -> None:
    amounts = [list(EXPECTED)[i * 7 % 3] for i in range(200)]

    verdicts = await asyncio.gather(
        *(engine.decide(encode(payment_document(amount_minor=a)), deadline=soon()) for a in amounts)
    )

    assert [verdict.effect for verdict in verdicts] == [EXPECTED[amount] for amount in amounts]


@pytest.mark.parametrize(
    "broken",
    [b"", b"{", b"null", b"[]", b'"text"', b"{},", b'{}},"x":{', b'{"a":NaN}', b"{} {}", b'{"a":"\xff"}'],
)
async def test_document_that_is_no_object_hurts_its_sender_only(engine: PolicyEngine, broken: bytes) -> None:
    good = encode(payment_document())

    outcomes = await asyncio.gather(
        *(engine.decide(d, deadline=soon()) for d in (good, broken, good)), return_exceptions=True
    )

    assert isinstance(outcomes[1], PolicyUnavailableError)
    assert all(isinstance(o, Verdict) and o.effect is Effect.ALLOW for o in (outcomes[0], outcomes[2]))


async def test_no_time_left_is_a_time_out(engine: PolicyEngine) -> None:
    with pytest.raises(PolicyUnavailableError) as caught:
        await engine.decide(encode(payment_document()), deadline=time.monotonic())

    assert caught.value.cause == "timeout"


async def test_caller_that_goes_away_hurts_nobody_else(engine: PolicyEngine) -> None:
    document = encode(payment_document())
    tasks = [asyncio.ensure_future(engine.decide(document, deadline=soon())) for _ in range(40)]
    await asyncio.sleep(0)
    for task in tasks[::2]:
        task.cancel()

    outcomes = await asyncio.gather(*tasks, return_exceptions=True)

    assert all(isinstance(o, asyncio.CancelledError) for o in outcomes[::2])
    assert all(isinstance(o, Verdict) and o.effect is Effect.ALLOW for o in outcomes[1::2])


async def test_names_the_policy_that_judges_now(engine: PolicyEngine) -> None:
    verdict = await engine.decide(encode(payment_document(amount_minor=ALLOWED)), deadline=soon())
    assert await engine.policy(deadline=soon()) == verdict.policy


async def test_policy_that_is_not_known_in_time_is_unavailable(engine: PolicyEngine) -> None:
    with pytest.raises(PolicyUnavailableError):
        await engine.policy(deadline=time.monotonic() - 1)
