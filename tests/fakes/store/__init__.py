"""The database's ports in memory: one state, the semantics of the real adapters."""

from __future__ import annotations

import asyncio
from datetime import datetime

from pdp.model import Entry, Recording
from tests.fakes.store.clock import FakeClock
from tests.fakes.store.control_plane import FakeControlPlane
from tests.fakes.store.entities import FakeEntityStore
from tests.fakes.store.facts import FakeInformationPoint
from tests.fakes.store.grants import FakeGrantStore
from tests.fakes.store.keys import FakeKeyDirectory
from tests.fakes.store.ledger import FakeLedger
from tests.fakes.store.sessions import FakeSessionStore
from tests.fakes.store.state import START, StoreState


class FakeStore:
    """All of the database's ports over one state, as `PostgresStore` has them over one database.

    A test that wants one port to misbehave subclasses that port, and makes it with `store.state`.
    """

    def __init__(self, *, writer: str = "fake", now: datetime = START) -> None:
        self.state = StoreState(writer=writer, now=now)
        self.information_point = FakeInformationPoint(self.state)
        self.ledger = FakeLedger(self.state)
        self.sessions = FakeSessionStore(self.state)
        self.grants = FakeGrantStore(self.state)
        self.control_plane = FakeControlPlane(self.state)
        self.entities = FakeEntityStore(self.state)
        self.keys = FakeKeyDirectory(self.state)
        self.clock = FakeClock(self.state)

    @property
    def recorded(self) -> list[Recording]:
        """Every decision that was recorded, in order."""
        return self.state.recorded

    @property
    def entries(self) -> list[Entry]:
        """Every entry that was recorded, in order."""
        return self.state.entries

    def pause(self) -> asyncio.Event:
        """Keep recordings waiting, as a slow commit would, until the returned event is set."""
        self.state.pause = asyncio.Event()
        return self.state.pause
