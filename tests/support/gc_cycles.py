"""What is left of objects while nobody collects cycles."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import AsyncIterator, Awaitable, Callable

from tests.support.processes import PATIENCE


@contextlib.asynccontextmanager
async def without_collector(kind: str) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """Keep the collector away; what is yielded returns once nothing new of this type (by name) is left.

    Raises TimeoutError if something stays.
    """
    gc.collect()
    # Kept, so that nothing new gets the id of one of them.
    kept = _of(kind)
    before = {id(each) for each in kept}
    gc.disable()

    async def gone() -> None:
        async with asyncio.timeout(PATIENCE):
            # Who ends last on the other side of a socket gives no sign.
            while any(id(each) not in before for each in _of(kind)):  # noqa: ASYNC110  (another side)
                await asyncio.sleep(0.05)

    try:
        yield gone
    finally:
        gc.enable()


def _of(kind: str) -> list[object]:
    return [each for each in gc.get_objects() if type(each).__name__ == kind]
