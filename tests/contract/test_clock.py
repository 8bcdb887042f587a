"""What every clock promises.

That only a database with a manual clock lets it be moved, tests/integration/test_migrations.py checks.
"""

from __future__ import annotations

import math
from datetime import timedelta

import pytest

from pdp.errors import InvalidFieldError
from pdp.model import ClockSample
from tests.contract.conftest import Store


async def test_time_never_runs_back(store: Store) -> None:
    before = await store.clock.now()
    assert before.utcoffset() is not None
    assert await store.clock.now() >= before


async def test_moving_it_forward_moves_it_for_everybody_who_reads_it(store: Store) -> None:
    before = await store.clock.now()
    moved = await store.clock.advance(90.5)
    assert moved >= before + timedelta(seconds=90.5)
    assert moved <= await store.clock.now() < moved + timedelta(seconds=60)


async def test_moving_it_by_nothing_reads_it(store: Store) -> None:
    before = await store.clock.now()
    assert before <= await store.clock.advance(0) < before + timedelta(seconds=60)


@pytest.mark.parametrize("seconds", [-1, math.inf, math.nan, 11 * 366 * 86400])
async def test_it_moves_neither_back_nor_too_far(store: Store, seconds: float) -> None:
    before = await store.clock.now()
    with pytest.raises(InvalidFieldError) as caught:
        await store.clock.advance(seconds)
    assert caught.value.field == "seconds"
    assert before <= await store.clock.now() < before + timedelta(seconds=60)


async def test_clocks_are_compared_with_and_without_what_was_added(store: Store) -> None:
    def ahead(sample: ClockSample) -> float:
        assert 0 < sample.round_trip < 60
        return sample.database - sample.local

    before = ahead(await store.clock.compare(with_offset=True))
    real = ahead(await store.clock.compare(with_offset=False))
    await store.clock.advance(3600)
    assert 3540 < ahead(await store.clock.compare(with_offset=True)) - before < 3660
    assert abs(ahead(await store.clock.compare(with_offset=False)) - real) < 60
