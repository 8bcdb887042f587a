"""What runs beside the calls: allows that nobody reports on are looked after, keys are rotated."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace

from pdp.background import look_after_allows, look_at_clock, rotate_keys, running, watch_clock
from pdp.errors import StoreUnavailableError
from pdp.metrics import Metrics
from pdp.signing import RotatingSigner
from pdp.skew import SAMPLES, ClockSkew
from tests.fakes.store import FakeStore
from tests.fakes.store.keys import FakeKeyDirectory
from tests.support import builders
from tests.support.builders import TENANT
from tests.support.processes import PATIENCE
from tests.unit.decision.test_point import Bench, bench
from tests.unit.outcomes.test_point import point

__all__ = ["bench"]


def open_decisions(metrics: Metrics) -> str:
    [line] = [
        line for line in metrics.render().decode().splitlines() if line.startswith("placet_open_decisions ")
    ]
    return line.partition(" ")[2]


async def test_lapsed_allows_are_released_and_silent_ones_counted(bench: Bench) -> None:
    metrics, outcomes = Metrics(), point(bench)
    tool = replace(builders.tool(), redeem_required=True)
    await bench.point().evaluate(builders.evaluation(bench.session.session_id))
    await bench.store.control_plane.put_tools(TENANT, [tool], by=builders.AUTHOR)
    lapsing, _ = await bench.point().evaluate(
        builders.evaluation(bench.session.session_id, what=builders.action(arguments={"invoice": "INV-2"}))
    )
    await look_after_allows(outcomes, metrics)
    assert (open_decisions(metrics), bench.store.entries) == ("0.0", [])
    await bench.store.clock.advance(3600)
    await look_after_allows(outcomes, metrics)
    assert [entry.about.decision_id for entry in bench.store.entries] == [lapsing.decision_id]
    assert open_decisions(metrics) == "1.0"


async def test_count_is_not_a_number_while_the_store_does_not_answer(bench: Bench) -> None:
    metrics = Metrics()
    bench.store.state.fault = StoreUnavailableError("down")
    await look_after_allows(point(bench), metrics)
    assert open_decisions(metrics) == "NaN"


async def test_key_is_rotated_again_and_again_and_kept_when_that_fails() -> None:
    class Directory(FakeKeyDirectory):
        """Fails the second registration."""

        def __init__(self, inner: FakeStore) -> None:
            super().__init__(inner.state)
            self.calls = 0
            self.thrice = asyncio.Event()

        async def register(self, jwk: Mapping[str, str], *, replica: str) -> None:
            self.calls += 1
            if self.calls == 2:
                raise StoreUnavailableError("down")
            await super().register(jwk, replica=replica)
            if self.calls >= 3:
                self.thrice.set()

    directory = Directory(FakeStore())
    signer = RotatingSigner(directory, replica="test")
    async with asyncio.timeout(PATIENCE), running(rotate_keys(signer, hours=0), cancel=True):
        await directory.thrice.wait()
    assert signer.active().key_id in {key["kid"] for key in await directory.jwks()}


async def test_work_ends_with_the_block_that_it_runs_beside() -> None:
    ended = asyncio.Event()

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with running(work(), cancel=True):
        await asyncio.sleep(0)
        assert not ended.is_set()
    assert ended.is_set()


async def test_clock_that_is_off_is_said_once_and_measured() -> None:
    store, metrics, skew = FakeStore(), Metrics(), ClockSkew()
    assert "placet_clock_ahead_seconds NaN" in metrics.render().decode()
    for _ in range(SAMPLES):
        assert not await look_at_clock(store.clock, skew, metrics, with_offset=True)
    assert "placet_clock_ahead_seconds 0.0" in metrics.render().decode()
    await store.clock.advance(60)
    found = [await look_at_clock(store.clock, skew, metrics, with_offset=True) for _ in range(2 * SAMPLES)]
    assert found == [False] * (SAMPLES - 1) + [True] + [False] * SAMPLES
    assert (skew.is_off, skew.ahead) == (True, -60)
    assert "placet_clock_ahead_seconds -60.0" in metrics.render().decode()
    # Where tests move the clock, what they added does not count.
    for _ in range(SAMPLES):
        await look_at_clock(store.clock, skew, metrics, with_offset=False)
    assert not skew.is_off


async def test_clock_is_not_known_while_the_store_does_not_answer() -> None:
    store, metrics, skew = FakeStore(), Metrics(), ClockSkew()
    await look_at_clock(store.clock, skew, metrics, with_offset=True)
    store.state.fault = StoreUnavailableError("down")
    assert not await look_at_clock(store.clock, skew, metrics, with_offset=True)
    assert "placet_clock_ahead_seconds NaN" in metrics.render().decode()


async def test_watch_tells_of_a_change() -> None:
    store, metrics, skew, told = FakeStore(), Metrics(), ClockSkew(), asyncio.Event()

    async def changed() -> None:
        told.set()

    await store.clock.advance(60)
    async with running(
        watch_clock(store.clock, skew, metrics, with_offset=True, changed=changed), cancel=True
    ):
        async with asyncio.timeout(PATIENCE):
            await told.wait()
    assert skew.is_off
