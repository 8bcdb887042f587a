"""One stack that the tests of this directory may harm; each leaves it as it found it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from pdp.dev.stack import Stack, StackOptions
from tests.e2e.scene import Scene, set_scene
from tests.support.stack import stack_directory


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def stack() -> AsyncIterator[Stack]:
    """Two replicas with a clock that can be moved, supervised from this process."""
    with stack_directory() as directory, pytest.MonkeyPatch.context() as patch:
        patch.delenv("DATABASE_URL", raising=False)
        options = StackOptions(data_dir=directory, replicas=2, any_ports=True, manual_clock=True)
        running = Stack(options=options, say=print)
        try:
            await running.start()
            yield running
        finally:
            await running.stop()


@pytest_asyncio.fixture(loop_scope="session")
async def scene(stack: Stack) -> AsyncIterator[Scene]:
    """A tenant of this test's own, with an agent that may pay."""
    async with set_scene(stack) as scene:
        yield scene
