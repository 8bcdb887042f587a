"""Shows objects that only the collector of cycles would free."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import AsyncIterator, Awaitable, Callable

from tests.support.processes import PATIENCE


@contextlib.asynccontextmanager
async def without_collector(kind: str) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """Turn the collector off, and yield a function that returns once no new object of this type is left.

    `kind` is the name of the type. The function raises TimeoutError if an object stays.
    """
    gc.collect()
    # They are kept alive, so that nothing new gets the id of one of them.
    kept = _of(kind)
    before = {id(each) for each in kept}
    gc.disable()

    async def gone() -> None:
        async with asyncio.timeout(PATIENCE):
            # Nothing tells when the other side of a socket has let go of what it had.
            while any(id(each) not in before for each in _of(kind)):  # noqa: ASYNC110  (nothing tells)
                await asyncio.sleep(0.05)

    try:
        yield gone
    finally:
        gc.enable()


def _of(kind: str) -> list[object]:
    return [each for each in gc.get_objects() if type(each).__name__ == kind]
