"""What a batch of recordings does to the rows that it locked. Pure: no I/O."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeAlias

from pdp.authority.counters import add_to_counter, apply_recount, fits, group_by_counter
from pdp.model import (
    Aggregates,
    Counter,
    CounterKey,
    DecisionKey,
    EntityName,
    Entry,
    EntryKind,
    Recording,
    SessionState,
)

# What holds as a whole or not at all: a tuple is a plan's recordings, in order.
BatchItem: TypeAlias = Recording | Entry | tuple[Recording, ...]
LIVE = frozenset({SessionState.OPEN, SessionState.COMPLETED})


@dataclass(frozen=True, kw_only=True, slots=True)
class SessionRow:
    """A locked session."""

    version: int
    state: SessionState
    expires_at: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class LockedRows:
    """The rows as they stood when they were locked. What is absent does not exist."""

    now: datetime
    epochs: dict[str, int]
    sessions: dict[tuple[str, str], SessionRow]
    keys: dict[DecisionKey, str | None]
    # The revision of each entity, by tenant; what was never written is absent.
    entities: dict[tuple[str, EntityName], int] = field(default_factory=dict)
    # Those of the reservations, which exist: what was missing was created before it was locked.
    counters: dict[tuple[str, CounterKey], Counter] = field(default_factory=dict)
    business_keys: dict[tuple[str, str], int] = field(default_factory=dict)
    # Versions of the holds that entries are about.
    holds: dict[tuple[str, str], int] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class SessionUpdate:
    """A session's row after the batch: absolute values."""

    version: int
    aggregates: Aggregates
    last_receipt: bytes


@dataclass(slots=True)
class BatchResult:
    """What to write."""

    # Indices of the work that holds, in order.
    winners: list[int] = field(default_factory=list)
    sessions: dict[tuple[str, str], SessionUpdate] = field(default_factory=dict)
    keys: dict[DecisionKey, str] = field(default_factory=dict)
    counters: dict[tuple[str, CounterKey], Counter] = field(default_factory=dict)
    # Versions.
    business_keys: dict[tuple[str, str], int] = field(default_factory=dict)
    # The last entry about each hold that holds.
    holds: dict[tuple[str, str], Entry] = field(default_factory=dict)

    def copy(self) -> BatchResult:
        return BatchResult(
            winners=list(self.winners),
            sessions=dict(self.sessions),
            keys=dict(self.keys),
            counters=dict(self.counters),
            business_keys=dict(self.business_keys),
            holds=dict(self.holds),
        )


def parts(work: BatchItem) -> tuple[Recording | Entry, ...]:
    """Return what is written of it, in order."""
    return work if isinstance(work, tuple) else (work,)


def key_order(key: DecisionKey) -> tuple[str, str, str, str, str, bool, str]:
    """The order in which key rows are created and locked."""
    return (
        key.tenant,
        key.session_id,
        key.caller,
        key.leaf_grant,
        key.tool_call_id,
        key.review_id is not None,
        key.review_id or "",
    )


def apply(batch: Sequence[BatchItem], indices: Iterable[int], locked: LockedRows) -> BatchResult:
    """Apply the work of `indices` one after the other, each on what the one before left.

    What was taken on something else is left out and leaves no trace; so is, in its turn,
    everything that was taken on the state that it would have left.
    """
    applied = BatchResult()
    for index in indices:
        work = batch[index]
        if not isinstance(work, tuple):
            if _holds(work, locked, applied):
                applied.winners.append(index)
            continue
        with_all = applied.copy()
        if all(_holds(recording, locked, with_all) for recording in work):
            applied = with_all
            applied.winners.append(index)
    return applied


def _holds(work: Recording | Entry, locked: LockedRows, applied: BatchResult) -> bool:
    """Apply a recording or an entry; False if it no longer holds, and left no trace."""
    return _entered(work, locked, applied) if isinstance(work, Entry) else _recorded(work, locked, applied)


def _recorded(recording: Recording, locked: LockedRows, applied: BatchResult) -> bool:
    key, move = recording.key, recording.move
    if locked.epochs.get(key.tenant) != recording.epoch or key not in locked.keys:
        return False
    if applied.keys.get(key, locked.keys[key]) != recording.prior_decision_id:
        return False
    if any(
        locked.entities.get((key.tenant, name), 0) != revision
        for name, revision in recording.entities.items()
    ):
        return False
    counters = _counted(recording, locked, applied)
    if counters is None or not _unheld(recording, locked, applied):
        return False
    if move is not None:
        place = (key.tenant, move.session_id)
        row = locked.sessions.get(place)
        if row is None:
            return False
        moved = applied.sessions.get(place)
        if (moved.version if moved is not None else row.version) != move.version:
            return False
        if move.must_be_live and (row.state not in LIVE or locked.now >= row.expires_at):
            return False
        applied.sessions[place] = SessionUpdate(
            version=move.version + 1,
            aggregates=move.aggregates,
            last_receipt=hashlib.sha256(recording.receipt.signed).digest(),
        )
    if recording.claims_key:
        applied.keys[key] = recording.decision.decision_id
    applied.counters.update(counters)
    if recording.reservation is not None and recording.reservation.key is not None:
        held = (key.tenant, recording.reservation.key.normal)
        applied.business_keys[held] = recording.reservation.key_version + 1
    return True


def _counted(
    recording: Recording, locked: LockedRows, applied: BatchResult
) -> dict[tuple[str, CounterKey], Counter] | None:
    """Return the counters after this allow; None if a limit no longer has room for it."""
    if recording.reservation is None:
        return {}
    now = int(locked.now.timestamp())
    result = {}
    for key, guards in group_by_counter(recording.reservation.guards).items():
        place = (recording.key.tenant, key)
        counter = applied.counters.get(place, locked.counters.get(place))
        if counter is None or not all(fits(guard, counter, now) for guard in guards):
            return None
        result[place] = add_to_counter(counter, guards, now)
    return result


def _unheld(recording: Recording, locked: LockedRows, applied: BatchResult) -> bool:
    """Whether the business key is held by none but those that the decision knew of."""
    reservation = recording.reservation
    if reservation is None or reservation.key is None:
        return True
    place = (recording.key.tenant, reservation.key.normal)
    version = applied.business_keys.get(place, locked.business_keys.get(place))
    return version == reservation.key_version


def _entered(entry: Entry, locked: LockedRows, applied: BatchResult) -> bool:
    """Apply an entry about an earlier decision; False if it no longer holds, and left no trace."""
    tenant, about = entry.key.tenant, entry.about
    place = (tenant, about.decision_id)
    # One entry about a hold a batch: the next one was taken on what this one changes.
    if place in applied.holds or locked.holds.get(place) != about.hold.version:
        return False
    if entry.kind is EntryKind.REDEMPTION:
        session = locked.sessions.get((tenant, entry.key.session_id))
        if (
            locked.epochs.get(tenant) != about.epoch
            or session is None
            or about.session is None
            # Completed meanwhile: what was permitted before may not be any more.
            or session.state is not about.session.state
            or session.state not in LIVE
            or locked.now >= min(session.expires_at, about.hold.expires_at)
        ):
            return False
    counters = {}
    for key, add in entry.recounts:
        counter = applied.counters.get((tenant, key), locked.counters.get((tenant, key)))
        if counter is None:
            return False
        counters[tenant, key] = apply_recount(counter, add, int(about.recorded_at.timestamp()))
    applied.counters.update(counters)
    applied.holds[place] = entry
    if about.hold.key is not None:
        held = (tenant, about.hold.key)
        version = applied.business_keys.get(held, locked.business_keys.get(held, 0))
        applied.business_keys[held] = version + 1
    return True
