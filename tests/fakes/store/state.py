"""What the store in memory holds: one state, which all of its ports read and write."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from pdp.authority.transitions import was_executed
from pdp.errors import DeadlineExceededError, PdpError, TenantUnknownError
from pdp.model import (
    JSON,
    Agent,
    Attribution,
    Boundary,
    ControlKind,
    ControlRevision,
    Counter,
    CounterKey,
    DecisionKey,
    EntityName,
    EntityVersion,
    Entry,
    GrantRow,
    Hold,
    HoldRecord,
    HoldState,
    IssuerKeys,
    KnownEntity,
    Position,
    PrerequisiteKey,
    PrerequisiteUse,
    PriorAnswer,
    Recording,
    Session,
    SessionState,
    Signal,
    Tool,
)

START = datetime(2026, 11, 24, 10, tzinfo=UTC)
LIVE = (SessionState.OPEN, SessionState.COMPLETED)


@dataclass(slots=True)
class StoredHold:
    """What a decision holds. `given` is its business key as the caller wrote it."""

    record: HoldRecord
    given: str = ""

    def seen_at(self, decision_id: str, now: datetime) -> Hold | None:
        """Return the hold as a rule counts it at `now`; None if it counts no more."""
        held, state = self.record, self.record.state
        if state is HoldState.RESERVED and now >= held.expires_at:
            state = HoldState.UNRESOLVED
            if held.redeem_required and not held.redeemed:
                return None
        if state is HoldState.RELEASED:
            return None
        return Hold(decision_id=decision_id, state=state, given=self.given)


@dataclass(slots=True)
class TenantState:
    """Everything of one tenant but its sessions and decisions."""

    settings: Mapping[str, JSON]
    epoch: int = 1
    revisions: dict[str, int] = field(
        default_factory=lambda: {
            "settings": 1,
            "tools": 0,
            "agents": 0,
            "signals": 0,
            "entities": 0,
            "issuers": 0,
        }
    )
    agents: dict[str, Agent] = field(default_factory=dict)
    tools: dict[str, Tool] = field(default_factory=dict)
    signals: dict[str, Signal] = field(default_factory=dict)
    issuers: dict[str, IssuerKeys] = field(default_factory=dict)
    # What each revision of a kind said, oldest first; None: it removed what had the name.
    histories: dict[ControlKind, list[tuple[ControlRevision, Mapping[str, Any]]]] = field(
        default_factory=dict
    )
    # Every version of each entity, oldest first.
    entities: dict[EntityName, list[EntityVersion]] = field(default_factory=dict)
    counters: dict[CounterKey, Counter] = field(default_factory=dict)
    # The decisions that the figures of entities contain.
    postings: set[tuple[EntityName, str]] = field(default_factory=set)
    # The version of each business key: it moves whenever a hold on the key does.
    keys: dict[str, int] = field(default_factory=dict)
    # By decision, oldest first.
    holds: dict[str, StoredHold] = field(default_factory=dict)
    # By the hash of the grant's bytes.
    grants: dict[str, GrantRow] = field(default_factory=dict)
    # The boundary of each grant, by the same hash.
    boundaries: dict[str, Boundary | None] = field(default_factory=dict)
    # Latest answer to each prerequisite, by session.
    prerequisites: dict[tuple[str, PrerequisiteKey], PriorAnswer] = field(default_factory=dict)
    # The allows that consumed an allow of a prerequisite, by the id of that.
    uses: dict[str, list[str]] = field(default_factory=dict)

    def answer(self, session_id: str, key: PrerequisiteKey, now: datetime) -> PriorAnswer | None:
        """Return the answer to a prerequisite, with what became of its allows until `now`."""
        found = self.prerequisites.get((session_id, key))
        if found is None:
            return None
        return found._replace(
            allows=tuple(
                allow._replace(
                    executed=allow.decision_id in self.holds
                    and was_executed(self.holds[allow.decision_id].record),
                    uses=tuple(
                        PrerequisiteUse(
                            by,
                            self.holds[by].record.version,
                            self.holds[by].seen_at(by, now) is not None,
                        )
                        for by in self.uses.get(allow.decision_id, ())
                    ),
                )
                for allow in found.allows
            )
        )

    def say(self, kind: ControlKind, said: Mapping[str, Any], *, at: datetime, by: Attribution) -> int:
        """Write a revision of a kind; return it. None removes what has the name."""
        revision = self.move(kind)
        self.keep(kind, revision, said, at=at, by=by)
        return revision

    def keep(
        self, kind: ControlKind, revision: int, said: Mapping[str, Any], *, at: datetime, by: Attribution
    ) -> None:
        """Remember what a revision said."""
        change = ControlRevision(
            revision=revision,
            written_at=at,
            written=tuple(sorted(name for name, value in said.items() if name and value is not None)),
            removed=tuple(sorted(name for name, value in said.items() if value is None)),
            by=by,
        )
        self.histories.setdefault(kind, []).append((change, said))

    def standing(self, kind: ControlKind, revision: int) -> dict[str, Any]:
        """Return what stood at a revision of a kind, by name."""
        found: dict[str, Any] = {}
        for change, said in self.histories.get(kind, ()):
            if change.revision <= revision:
                found.update(said)
        return {name: value for name, value in found.items() if value is not None}

    def known(self, name: EntityName) -> KnownEntity:
        """Return the entity as it is; at revision 0 if nothing was ever written of it."""
        versions = self.entities.get(name)
        if not versions:
            return KnownEntity(name=name, revision=0, attributes=None)
        return KnownEntity(name=name, revision=versions[-1].revision, attributes=versions[-1].attributes)

    def grant_path(self, grant_hash: str) -> Sequence[GrantRow]:
        """Return the grant and all that it was delegated from, root first; none if there is no such."""
        path: list[GrantRow] = []
        name: str | None = grant_hash
        while name is not None and name in self.grants:
            path.insert(0, self.grants[name])
            name = self.grants[name].parent_hash
        return path

    def move(self, kind: str) -> int:
        """Move the epoch and the revision of one kind of data; return the new revision."""
        self.epoch += 1
        self.revisions[kind] += 1
        return self.revisions[kind]


class StoreState:
    """The tables of the store in memory, and what a test does to them.

    `fault`, while set, is raised by every call of every port. `pause`, while set and not an event
    that is set, keeps recordings waiting as a slow commit would. `moment` is what the clock shows.
    """

    def __init__(self, *, writer: str = "fake", now: datetime = START) -> None:
        self.moment = now
        self.fault: PdpError | None = None
        self.pause: asyncio.Event | None = None
        self.writer = writer
        self.recorded: list[Recording] = []
        self.entries: list[Entry] = []
        self.recorded_at: dict[str, datetime] = {}
        self.tenants: dict[str, TenantState] = {}
        # By tenant and session.
        self.sessions: dict[tuple[str, str], Session] = {}
        # Hashes of the session tokens that live, oldest first, by tenant and session.
        self.tokens: dict[tuple[str, str], list[str]] = {}
        # The latest decision that claims each key.
        self.keys: dict[DecisionKey, str] = {}
        # By tenant and decision.
        self.decisions: dict[tuple[str, str], tuple[Recording, Position]] = {}
        # By key id.
        self.jwks: dict[str, Mapping[str, str]] = {}

    def check_up(self) -> None:
        """Raise `fault`, if it is set."""
        if self.fault is not None:
            raise self.fault

    def check_deadline(self, deadline: float) -> None:
        """Raise `DeadlineExceededError` if the deadline has passed."""
        if deadline <= time.monotonic():
            raise DeadlineExceededError("the deadline had passed before the call")

    def tenant(self, tenant: str) -> TenantState:
        """Return a tenant's state. Raises `TenantUnknownError`."""
        if tenant not in self.tenants:
            raise TenantUnknownError(f"there is no tenant {tenant}")
        return self.tenants[tenant]
