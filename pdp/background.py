"""What a replica does beside answering calls: it rotates its key, looks after allows, and at its clock."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine

import structlog

from pdp.errors import PdpError
from pdp.metrics import Metrics
from pdp.outcomes.point import OutcomePoint
from pdp.ports import Clock
from pdp.signing import RotatingSigner
from pdp.skew import MAX_SKEW, ClockSkew

_LOG = structlog.get_logger("pdp")
# Between two looks at the allows that nobody reported on, and for the recording of each release.
_WATCH_SECONDS = 5.0
_LAPSED_AT_ONCE = 64
# Between two looks at the clocks, and while the latest do not agree.
_CLOCK_SECONDS, _CLOCK_DOUBT_SECONDS = 5.0, 0.5
# A greater number would tell nobody more, and counting costs.
_MAX_COUNTED = 10_000


async def rotate_keys(signer: RotatingSigner, *, hours: float) -> None:
    """Give the replica a new key every so many hours, for ever; a failed rotation leaves the old one."""
    while True:
        await asyncio.sleep(hours * 3600)
        try:
            key_id = await signer.rotate()
        except PdpError as exc:
            _LOG.warning("key_rotation_failed", error=str(exc))
        else:
            _LOG.info("key_rotated", kid=key_id)


async def watch_outcomes(outcomes: OutcomePoint, metrics: Metrics) -> None:
    """Look after allows that nobody reports on, for ever and off the decision path."""
    while True:
        await look_after_allows(outcomes, metrics)
        await asyncio.sleep(_WATCH_SECONDS)


async def look_after_allows(outcomes: OutcomePoint, metrics: Metrics) -> None:
    """Release what lapsed allows hold, and show how many allows have no outcome; NaN if it fails."""
    try:
        while await outcomes.release_lapsed(limit=_LAPSED_AT_ONCE, seconds=_WATCH_SECONDS):
            pass
        metrics.open_decisions(await outcomes.count_open(limit=_MAX_COUNTED))
    except PdpError as exc:
        metrics.open_decisions(math.nan)
        _LOG.warning("outcome_watch_failed", error=str(exc))


async def watch_clock(
    clock: Clock,
    skew: ClockSkew,
    metrics: Metrics,
    *,
    with_offset: bool,
    changed: Callable[[], Awaitable[None]],
) -> None:
    """Compare this machine's clock with the database's, for ever.

    `changed` is called each time that the clock is found to be off, or right again.
    """
    while True:
        await asyncio.sleep(_CLOCK_SECONDS if skew.is_settled else _CLOCK_DOUBT_SECONDS)
        if await look_at_clock(clock, skew, metrics, with_offset=with_offset):
            await changed()


async def look_at_clock(clock: Clock, skew: ClockSkew, metrics: Metrics, *, with_offset: bool) -> bool:
    """Take one sample of the clocks; return whether it has changed what is known of them."""
    try:
        sample = await clock.compare(with_offset=with_offset)
    except PdpError as exc:
        # Without the database nothing is answered, whatever the time is.
        metrics.clock_ahead(math.nan)
        _LOG.warning("clock_watch_failed", error=str(exc))
        return False
    has_changed = skew.add(local=sample.local, database=sample.database, round_trip=sample.round_trip)
    metrics.clock_ahead(skew.ahead)
    if has_changed and skew.is_off:
        _LOG.error("clock_off", seconds_ahead=round(skew.ahead, 3), at_most=MAX_SKEW)
    elif has_changed:
        _LOG.info("clock_right", seconds_ahead=round(skew.ahead, 3))
    return has_changed


@contextlib.asynccontextmanager
async def running(
    work: Coroutine[None, None, None], *, cancel: bool = False
) -> AsyncIterator[asyncio.Task[None]]:
    """Run `work` beside the block; at its end wait for it, or cancel it."""
    task: asyncio.Task[None] = asyncio.create_task(work)
    try:
        yield task
    finally:
        if cancel:
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
