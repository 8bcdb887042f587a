"""The pytest plugin: the fixture `fake_pdp`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from placet.testing import FakePdp


@pytest.fixture
def fake_pdp() -> Iterator[FakePdp]:
    """A running `placet.testing.FakePdp`; stopped after the test."""
    # Imported here: a plugin is loaded by every pytest run, with or without this fixture.
    from placet.testing import FakePdp

    with FakePdp() as fake:
        yield fake
