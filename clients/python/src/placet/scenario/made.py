"""What the steps of a run have made so far, by the names that the file gives to it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

from placet.errors import PlacetError
from placet.model import Decision, Hop, Session
from placet.scenario.callers import ISSUER, Caller

if TYPE_CHECKING:
    from placet.scenario.steps.evaluate import Evaluate


class NotRunError(PlacetError):
    """A step before this one did not make what this one needs."""


@dataclass(kw_only=True, slots=True)
class MadeSession:
    session: Session
    # Who opened it, and who may complete and close it.
    opener: Caller
    owner: Caller
    # What it was opened with, as `open_session` takes it.
    terms: dict[str, Any]
    boundary: dict[str, Any]


@dataclass(kw_only=True, slots=True)
class MadeCall:
    """A call of Evaluate as it was asked, and the latest answer to it."""

    step: Evaluate
    call_id: str
    caller: Caller | None = None
    decision: Decision | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class MadeChain:
    """A chain that was delegated. Every hop, root first, has its grant."""

    # The session's name in the file.
    session: str
    hops: tuple[Hop, ...]
    # The name of the last grant; empty at the root.
    grant_hash: str = ""
    # The boundary of the last grant, as files write boundaries.
    boundary: dict[str, Any]


@dataclass(kw_only=True, slots=True)
class Made:
    """Everything that was made. A look-up of what is not there raises `NotRunError`."""

    sessions: dict[str, MadeSession] = field(default_factory=dict)
    calls: dict[str, MadeCall] = field(default_factory=dict)
    chains: dict[str, MadeChain] = field(default_factory=dict)
    # The latest key of each issuer of signed tasks.
    keys: dict[str, EllipticCurvePrivateKey] = field(default_factory=dict)
    # The first receipt of each call.
    receipts: dict[str, bytes] = field(default_factory=dict)
    unnamed: int = 0

    def session(self, name: str) -> Session:
        return self.opened(name).session

    def opened(self, name: str) -> MadeSession:
        if name not in self.sessions:
            raise NotRunError(f"session {name} was not opened")
        return self.sessions[name]

    def owner(self, name: str) -> Caller:
        """Return who may complete and close a session; the usual issuer if nobody opened it."""
        return self.sessions[name].owner if name in self.sessions else ISSUER

    def call(self, name: str) -> MadeCall:
        if name not in self.calls:
            raise NotRunError(f"call {name} was not made")
        return self.calls[name]

    def chain(self, name: str) -> MadeChain:
        if name not in self.chains:
            raise NotRunError(f"chain {name} was not delegated")
        return self.chains[name]

    def root(self, session: str) -> MadeChain:
        """Return the chain of the session's own agent, which has the root grant alone."""
        opened = self.opened(session)
        hop = Hop(agent=opened.session.agent, grant=opened.session.grant)
        return MadeChain(session=session, hops=(hop,), boundary=opened.boundary)

    def decided(self, name: str) -> tuple[MadeCall, Decision]:
        """Return a call that was answered, and its latest answer."""
        call = self.call(name)
        if call.decision is None:
            raise NotRunError(f"call {name} got no decision")
        return call, call.decision
