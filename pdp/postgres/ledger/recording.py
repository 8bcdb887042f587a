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

# What is recorded as a whole or not at all. A tuple has the recordings of a plan, in order.
BatchItem: TypeAlias = Recording | Entry | tuple[Recording, ...]
LIVE = frozenset({SessionState.OPEN, SessionState.COMPLETED})


@dataclass(frozen=True, kw_only=True, slots=True)
class SessionRow:
    """A locked session."""

    version: int
    state: SessionState
    expires_at: datetime
    # When all its proofs were revoked last; None: never.
    proofs_revoked_at: datetime | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class LockedRows:
    """The rows as they stood when they were locked. What is absent does not exist.

    Where a key is a pair, its first member is the tenant.
    """

    # The database's time, once every lock was had.
    now: datetime
    # The epoch of each tenant.
    epochs: dict[str, int]
    # By session id.
    sessions: dict[tuple[str, str], SessionRow]
    # The decision that each key points at; None: it was created to be locked.
    keys: dict[DecisionKey, str | None]
    # The revision of each entity; one that was never written is absent.
    entities: dict[tuple[str, EntityName], int] = field(default_factory=dict)
    # Counters that reservations and recounts touch. All exist: missing ones were created before the lock.
    counters: dict[tuple[str, CounterKey], Counter] = field(default_factory=dict)
    # The version of each business key, by its hash.
    business_keys: dict[tuple[str, str], int] = field(default_factory=dict)
    # The version of each hold that entries are about, or that a consumed prerequisite was released by, by its
    # decision's id.
    holds: dict[tuple[str, str], int] = field(default_factory=dict)
    # The allows that ever consumed each allow of a prerequisite that is to be consumed, by the id of that.
    uses: dict[tuple[str, str], frozenset[str]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class SessionUpdate:
    """A session's row after the batch: absolute values."""

    version: int
    aggregates: Aggregates
    last_receipt: bytes


@dataclass(slots=True)
class BatchResult:
    """What to write: the rows as they are after the batch, by the same keys as in `LockedRows`."""

    # Indices of the batch's items that hold, in order.
    winners: list[int] = field(default_factory=list)
    sessions: dict[tuple[str, str], SessionUpdate] = field(default_factory=dict)
    # The decision that claims each key.
    keys: dict[DecisionKey, str] = field(default_factory=dict)
    counters: dict[tuple[str, CounterKey], Counter] = field(default_factory=dict)
    # The new version of each business key.
    business_keys: dict[tuple[str, str], int] = field(default_factory=dict)
    # The entry about each hold: one entry about a hold can hold in a batch.
    holds: dict[tuple[str, str], Entry] = field(default_factory=dict)
    # The allows of prerequisites that were consumed, by id.
    consumed: set[tuple[str, str]] = field(default_factory=set)

    def copy(self) -> BatchResult:
        return BatchResult(
            winners=list(self.winners),
            sessions=dict(self.sessions),
            keys=dict(self.keys),
            counters=dict(self.counters),
            business_keys=dict(self.business_keys),
            holds=dict(self.holds),
            consumed=set(self.consumed),
        )


def parts(work: BatchItem) -> tuple[Recording | Entry, ...]:
    """Return the recordings and entries of an item, in order: what a decision voids comes after it."""
    found: list[Recording | Entry] = []
    for part in work if isinstance(work, tuple) else (work,):
        found.append(part)
        if isinstance(part, Recording) and part.voids is not None:
            found.append(part.voids)
    return tuple(found)


def key_order(key: DecisionKey) -> tuple[str, str, str, str, str, bool, str]:
    """Return what key rows are sorted by before they are created and locked: one order for every batch."""
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
    """Apply the items at `indices` one after the other, each on what the one before left.

    An item that was judged on other rows than these is left out and leaves no trace; so is, in its turn,
    every item that was judged on the state that it would have left.
    """
    applied = BatchResult()
    for index in indices:
        work = parts(batch[index])
        if len(work) == 1:
            if _apply_part(work[0], locked, applied):
                applied.winners.append(index)
            continue
        with_all = applied.copy()
        if all(_apply_part(part, locked, with_all) for part in work):
            applied = with_all
            applied.winners.append(index)
    return applied


def was_overtaken(item: BatchItem, locked: LockedRows) -> bool:
    """Return whether the tenant's epoch moved under an item that rests on it."""
    rests_on = [
        (part.key.tenant, part.epoch if isinstance(part, Recording) else part.about.epoch)
        for part in parts(item)
        if isinstance(part, Recording) or part.kind is EntryKind.REDEMPTION
    ]
    return any(locked.epochs.get(tenant) != epoch for tenant, epoch in rests_on)


def _apply_part(work: Recording | Entry, locked: LockedRows, applied: BatchResult) -> bool:
    """Apply a recording or an entry; False if it no longer holds, and left no trace."""
    return (
        _apply_entry(work, locked, applied)
        if isinstance(work, Entry)
        else _apply_recording(work, locked, applied)
    )


def _apply_recording(recording: Recording, locked: LockedRows, applied: BatchResult) -> bool:
    """Apply a decision; False if it no longer holds, and left no trace."""
    key, move = recording.key, recording.move
    if locked.epochs.get(key.tenant) != recording.epoch or key not in locked.keys:
        return False
    if applied.keys.get(key, locked.keys[key]) != recording.prior_decision_id:
        return False
    if not _entities_are_as_judged(recording, locked):
        return False
    counters = _count(recording, locked, applied)
    if counters is None or not _key_is_as_judged(recording, locked, applied):
        return False
    consumed = _consumes(recording, locked, applied)
    if consumed is None:
        return False
    if move is not None:
        place = (key.tenant, move.session_id)
        row = locked.sessions.get(place)
        if row is None:
            return False
        earlier = applied.sessions.get(place)
        if (row if earlier is None else earlier).version != move.version:
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
    applied.consumed |= consumed
    if recording.reservation is not None and recording.reservation.key is not None:
        held = (key.tenant, recording.reservation.key.normal)
        applied.business_keys[held] = recording.reservation.key_version + 1
    return True


def _count(
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


def _entities_are_as_judged(part: Recording | Entry, locked: LockedRows) -> bool:
    """Whether no entity was written since it was read."""
    return all(
        locked.entities.get((part.key.tenant, name), 0) == revision
        for name, revision in part.entities.items()
    )


def _key_is_as_judged(recording: Recording, locked: LockedRows, applied: BatchResult) -> bool:
    """Whether nothing has taken hold of the business key, or let go of it, since the decision was judged."""
    reservation = recording.reservation
    if reservation is None or reservation.key is None:
        return True
    place = (recording.key.tenant, reservation.key.normal)
    version = applied.business_keys.get(place, locked.business_keys.get(place))
    return version == reservation.key_version


def _consumes(recording: Recording, locked: LockedRows, applied: BatchResult) -> set[tuple[str, str]] | None:
    """Return the allows of prerequisites that this allow consumes; None if one is not as it was judged.

    What was released since it was consumed is free only as long as that release stands.
    """
    if recording.reservation is None:
        return set()
    tenant = recording.key.tenant
    consumed = set()
    for allow in recording.reservation.consumes:
        consumed.add((tenant, allow.decision_id))
        known = frozenset(use.decision_id for use in allow.uses)
        if locked.uses.get((tenant, allow.decision_id), frozenset()) != known:
            return None
        for use in allow.uses:
            place = (tenant, use.decision_id)
            entry = applied.holds.get(place)
            version = locked.holds.get(place) if entry is None else entry.about.hold.version + 1
            if version != use.version:
                return None
    return None if consumed & applied.consumed else consumed


def _apply_entry(entry: Entry, locked: LockedRows, applied: BatchResult) -> bool:
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
            or session.proofs_revoked_at != about.session.proofs_revoked_at
            or locked.now >= min(session.expires_at, about.hold.expires_at)
            or not _entities_are_as_judged(entry, locked)
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
