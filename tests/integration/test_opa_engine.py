"""The engine on a real OPA that dies, comes back, hangs, and meets a document that breaks it."""

from __future__ import annotations

import asyncio
import math
import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pdp.authority import counters
from pdp.errors import OverloadedError, PolicyUnavailableError
from pdp.model import Bucket, Effect, Verdict
from pdp.opa import EngineCall, OpaAdministration, OpaPolicyEngine
from pdp.opa.bundle import build, ensure_signing_key, policy_sources
from tests.support.documents import NOW, encode, payment_document
from tests.support.gc_cycles import without_collector
from tests.support.opa import RunningOpa

DOCUMENT = encode(payment_document())


def soon(seconds: float = 30.0) -> float:
    return time.monotonic() + seconds


async def causes(engine: OpaPolicyEngine, count: int, deadline: float) -> list[str]:
    outcomes = await asyncio.gather(
        *(engine.decide(DOCUMENT, deadline=deadline) for _ in range(count)), return_exceptions=True
    )
    return [o.cause if isinstance(o, PolicyUnavailableError) else repr(o) for o in outcomes]


async def test_killed_opa_fails_calls_at_once_and_comes_back_by_itself(own_opa: RunningOpa) -> None:
    engine = own_opa.engine()
    assert (await engine.decide(DOCUMENT, deadline=soon())).effect is Effect.ALLOW

    own_opa.kill()

    for count in (1, 20):
        started = time.monotonic()
        assert await causes(engine, count, soon(60.0)) == ["connection"] * count
        assert time.monotonic() - started < 30.0

    await own_opa.start()

    assert (await engine.decide(DOCUMENT, deadline=soon())).effect is Effect.ALLOW
    await engine.aclose()


async def test_call_that_failed_is_gone_before_the_collector_comes(tmp_path: Path) -> None:
    engine = OpaPolicyEngine(tmp_path / "nobody.sock")
    async with without_collector("_Item") as gone:
        assert await causes(engine, 3, soon()) == ["connection"] * 3
        await gone()
    await engine.aclose()


async def test_opa_killed_under_load_fails_calls_and_answers_none_wrongly(own_opa: RunningOpa) -> None:
    engine = own_opa.engine()
    blocked = encode(payment_document(amount_minor=500_001))
    answered = asyncio.Event()
    outcomes: list[tuple[bytes, Verdict | str]] = []

    async def caller(number: int) -> None:
        document = DOCUMENT if number % 2 else blocked
        while not outcomes or not isinstance(outcomes[-1][1], str):
            try:
                outcomes.append((document, await engine.decide(document, deadline=soon())))
                answered.set()
            except PolicyUnavailableError as exc:
                outcomes.append((document, exc.cause))

    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        for number in range(32):
            group.create_task(caller(number))
        await answered.wait()
        own_opa.kill()

    assert {said for _, said in outcomes if isinstance(said, str)} == {"connection"}
    for document, said in outcomes:
        if isinstance(said, Verdict):
            assert said.effect is (Effect.ALLOW if document == DOCUMENT else Effect.BLOCK)
    await engine.aclose()


async def test_hung_opa_is_a_time_out_in_time_and_works_again_afterwards(own_opa: RunningOpa) -> None:
    engine = own_opa.engine()
    assert (await engine.decide(DOCUMENT, deadline=soon())).effect is Effect.ALLOW

    own_opa.pause()
    deadline = soon(0.5)
    assert await causes(engine, 40, deadline) == ["timeout"] * 40
    assert time.monotonic() < deadline + 0.2
    own_opa.resume()

    assert (await engine.decide(DOCUMENT, deadline=soon())).effect is Effect.ALLOW
    await engine.aclose()


async def test_opa_without_its_bundle_permits_nothing(
    own_opa: RunningOpa, new_opa: Any, signed_bundle: Any
) -> None:
    absent = new_opa(signed_bundle, location="/nonexistent/placet.tar.gz", ready_seconds=0)
    absent.launch()
    admin = OpaAdministration(absent.sidecar.admin_address, token=absent.sidecar.admin_token)
    await until_refused(admin)
    engine = absent.engine()

    assert await causes(engine, 1, soon()) == ["no_result"]
    assert await causes(engine, 10, soon()) == ["no_result"] * 10
    await engine.aclose()


async def test_no_socket_is_a_connection_failure() -> None:
    engine = OpaPolicyEngine("/nonexistent/opa.sock")
    assert await causes(engine, 1, soon()) == ["connection"]
    assert await causes(engine, 10, soon()) == ["connection"] * 10
    await engine.aclose()


async def test_wrong_token_is_refused(opa: RunningOpa) -> None:
    engine = OpaPolicyEngine(opa.socket_path, token="wrong")
    assert await causes(engine, 1, soon()) == ["status"]
    assert await causes(engine, 10, soon()) == ["status"] * 10
    await engine.aclose()


POISON = """\
package placet.rules.poison

# METADATA
# scope: rule
# title: Poison
# description: Breaks on a document whose intent is no number.
block contains "poison.intent" if to_number(input.claimed.intent) < 0
"""


async def test_document_that_breaks_opa_changes_no_other_verdict(
    opa_path: Path, tmp_path: Path, new_opa: Callable[..., RunningOpa]
) -> None:
    sources = tmp_path / "rego"
    shutil.copytree(policy_sources(), sources)
    (sources / "placet" / "rules" / "poison").mkdir()
    (sources / "placet" / "rules" / "poison" / "intent.rego").write_text(POISON, encoding="utf-8")
    key = ensure_signing_key(tmp_path / "key.pem")
    bundle = build(opa=opa_path, key=key, output=tmp_path / "placet.tar.gz", sources=sources)
    running = new_opa(bundle)
    await running.start()
    calls: list[EngineCall] = []
    engine = running.engine(observe=calls.append, in_flight=1)
    amounts = [120_000, 200_001, 500_001]
    effects = [Effect.ALLOW, Effect.ESCALATE, Effect.BLOCK]

    def document(number: int) -> bytes:
        intent = "poison" if number == 10 else "7"
        return encode(
            payment_document(
                amount_minor=amounts[number % 3],
                claimed={"resource": "invoice:INV-1001", "provenance": {}, "intent": intent},
            )
        )

    outcomes = await asyncio.gather(
        *(
            engine.decide(document(i), deadline=soon(), tenant="poisoner" if i == 10 else "other")
            for i in range(24)
        ),
        return_exceptions=True,
    )

    assert [getattr(o, "effect", None) for i, o in enumerate(outcomes) if i != 10] == [
        effects[i % 3] for i in range(24) if i != 10
    ]
    assert getattr(outcomes[10], "cause", None) == "status"
    assert calls[0].documents == 24
    assert calls[0].cause == "status"

    # From now on it breaks no batch of the others, and is judged all the same.
    assert engine.tenants_apart() == 1
    calls.clear()
    outcomes = await asyncio.gather(
        *(
            engine.decide(document(i), deadline=soon(), tenant="poisoner" if i < 12 else "other")
            for i in range(24)
        ),
        return_exceptions=True,
    )
    assert [getattr(o, "effect", None) for i, o in enumerate(outcomes) if i != 10] == [
        effects[i % 3] for i in range(24) if i != 10
    ]
    assert not any(call.after_batch for call in calls)
    assert [call.cause for call in calls if call.documents > 1] == [""]
    assert sorted(call.documents for call in calls) == [1] * 12 + [12]
    await engine.aclose()


async def test_more_calls_than_may_wait_are_turned_away_with_a_hint(own_opa: RunningOpa) -> None:
    engine = own_opa.engine(capacity=4)
    outcomes = await asyncio.gather(
        *(engine.decide(DOCUMENT, deadline=soon()) for _ in range(6)), return_exceptions=True
    )
    assert [getattr(o, "effect", None) for o in outcomes[:4]] == [Effect.ALLOW] * 4
    hints = [o.retry_after for o in outcomes[4:] if isinstance(o, OverloadedError)]
    assert len(hints) == 2
    assert min(hints) > 0
    assert (engine.load().waiting, engine.load().dropped) == (0, {"full": 2})
    await engine.aclose()


async def until_refused(admin: OpaAdministration) -> None:
    """Wait until OPA says why it has no bundle."""
    async with asyncio.timeout(60):
        while True:
            try:
                status = await admin.status()
            except PolicyUnavailableError as exc:
                assert exc.cause == "connection"  # noqa: PT017
            else:
                assert not status.active
                if status.error:
                    return
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("count", [1, 64])
async def test_verdicts_carry_the_revision_of_the_bundle(
    opa: RunningOpa, signed_bundle: Any, count: int
) -> None:
    engine = opa.engine()
    verdicts = await asyncio.gather(*(engine.decide(DOCUMENT, deadline=soon()) for _ in range(count)))
    assert {verdict.policy.revision for verdict in verdicts} == {signed_bundle.revision}
    assert {verdict.reasons[0].message for verdict in verdicts} == {
        "The task's boundary includes this action."
    }
    await engine.aclose()


@pytest.mark.parametrize("window", [1, 60, 119, 120, 600, 7_199, 7_200, 100_000, counters.MAX_WINDOW])
async def test_coming_back_when_policy_says_is_never_too_early(opa: RunningOpa, window: int) -> None:
    """This holds also when history has grown coarser meanwhile."""
    engine = opa.engine()
    spread = random.Random(window)
    for _ in range(12):
        paid: tuple[Bucket, ...] = ()
        for at in sorted(NOW - spread.randrange(window) for _ in range(8)):
            paid = counters.add_to_buckets(paid, at)
        # Some payment of the window's, seen now, and again when it is said to have left.
        first = await engine.decide(paying(paid, NOW, window), deadline=soon())
        assert first.effect is Effect.BLOCK
        assert first.retry_after is not None
        later = NOW + math.ceil(first.retry_after.total_seconds())
        second = await engine.decide(paying(aged(paid, later), later, window), deadline=soon())
        assert second.effect is Effect.ALLOW
    await engine.aclose()


def paying(paid: tuple[Bucket, ...], now: int, window: int) -> bytes:
    rule = {"max": 8, "window_seconds": window, "on_exceed": "block"}
    document = payment_document(now_unix=now, settings={"velocity": {"payments": rule}})
    since = counters.known_since(window, now)
    pay = [
        {"start": start, "width": width, "count": number}
        for start, width, number in paid
        if start + width > since
    ]
    document["session"]["history"] |= {"pay_since": since, "pay": pay, "pay_count": len(pay)}
    return encode(document)


def aged(paid: tuple[Bucket, ...], now: int) -> tuple[Bucket, ...]:
    """The history as it would be kept at `now`: counting makes it coarser; what it counted is left out."""
    counted = counters.add_to_buckets(paid, now)
    newest = counted[-1]
    return (*counted[:-1], newest._replace(number=newest.number - 1))
