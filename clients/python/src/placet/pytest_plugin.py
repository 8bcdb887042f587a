"""The pytest plugin: the fixture `fake_pdp`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from placet.testing import FakePdp


@pytest.fixture
def fake_pdp() -> Iterator[FakePdp]:
    """Yield a running `placet.testing.FakePdp`, which is stopped after the test."""
    # Imported here, since every pytest run loads the plugin, and most use no such fixture.
    from placet.testing import FakePdp

    with FakePdp() as fake:
        yield fake
