"""The `Clock` of the store in memory: it moves only when a test moves it."""

from __future__ import annotations

import math
from datetime import datetime, timedelta

from pdp.errors import InvalidFieldError
from pdp.model import ClockSample
from tests.fakes.store.state import START, StoreState


class FakeClock:
    def __init__(self, state: StoreState) -> None:
        self._state = state

    async def now(self) -> datetime:
        self._state.check_up()
        return self._state.moment

    async def compare(self, *, with_offset: bool) -> ClockSample:
        self._state.check_up()
        moment = (self._state.moment if with_offset else START).timestamp()
        return ClockSample(local=START.timestamp(), database=moment, round_trip=0.001)

    async def advance(self, seconds: float) -> datetime:
        self._state.check_up()
        if not math.isfinite(seconds) or not 0 <= seconds <= 10 * 366 * 86400:
            raise InvalidFieldError("seconds", "is not between 0 and ten years")
        self._state.moment += timedelta(seconds=seconds)
        return self._state.moment
