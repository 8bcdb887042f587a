"""The `Ledger` and `EntryLedger` of the store in memory."""

from __future__ import annotations

import asyncio
import copy
import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from pdp.action.prerequisites import update_answer
from pdp.authority.counters import add_to_counter, apply_recount, fits
from pdp.errors import (
    DeadlineExceededError,
    GroundMovedError,
    PdpError,
    SessionMovedError,
    StoreUnavailableError,
)
from pdp.model import (
    Counter,
    CounterKey,
    DecisionStatus,
    Effect,
    EntityName,
    Entry,
    EntryKind,
    HoldRecord,
    HoldState,
    LapsedDecision,
    OpenDecision,
    Position,
    RecordedDecision,
    Recording,
)
from tests.fakes.store.state import LIVE, StoredHold, StoreState, TenantState

# What a recording changes.
_ROLLED_BACK = ("recorded", "recorded_at", "tenants", "sessions", "keys", "decisions", "entries")


class FakeLedger:
    def __init__(self, state: StoreState) -> None:
        self._state = state

    async def record(self, recording: Recording) -> Position:
        self._state.check_deadline(recording.deadline)
        self._state.check_up()
        pause = self._state.pause
        if pause is not None and not pause.is_set():
            try:
                async with asyncio.timeout(recording.deadline - time.monotonic()):
                    await pause.wait()
            except TimeoutError as exc:
                raise DeadlineExceededError("the deadline passed in the queue") from exc
            self._state.check_up()
        return self._record(recording)

    async def record_together(self, recordings: Sequence[Recording]) -> Sequence[Position]:
        self._state.check_deadline(recordings[0].deadline)
        self._state.check_up()
        before = copy.deepcopy({name: getattr(self._state, name) for name in _ROLLED_BACK})
        try:
            return [self._record(recording) for recording in recordings]
        except PdpError:
            for name, value in before.items():
                setattr(self._state, name, value)
            raise

    def _record(self, recording: Recording) -> Position:
        """Record the decision, or raise `SessionMovedError` and change nothing."""
        key, move, decision, kept = recording.key, recording.move, recording.decision, recording.reservation
        tenant = self._check_unmoved(recording)
        counters = _counters_after(recording, tenant, self._state.moment)
        if recording.voids is not None:
            self._check_hold(recording.voids)
        position = self._next_position()
        self._state.recorded.append(recording)
        self._state.recorded_at[decision.decision_id] = self._state.moment
        self._state.decisions[key.tenant, decision.decision_id] = (recording, position)
        if recording.claims_key:
            self._state.keys[key] = decision.decision_id
        tenant.counters.update(counters)
        if kept is not None:
            tenant.holds[decision.decision_id] = StoredHold(
                record=HoldRecord(
                    state=HoldState.RESERVED,
                    expires_at=decision.expires_at,
                    key=None if kept.key is None else kept.key.normal,
                    redeem_required=kept.redeem_required,
                    totals=kept.totals,
                    version=1,
                ),
                given="" if kept.key is None else kept.key.given,
            )
            if kept.key is not None:
                tenant.keys[kept.key.normal] = kept.key_version + 1
            for allow in kept.consumes:
                tenant.uses.setdefault(allow.decision_id, []).append(decision.decision_id)
        for own in recording.own_keys:
            place = (key.session_id, own)
            tenant.prerequisites[place] = update_answer(
                tenant.prerequisites.get(place),
                decision.effect,
                decision_id=decision.decision_id,
                amount=own.amount,
            )
        if move is not None:
            self._state.sessions[key.tenant, move.session_id] = replace(
                self._state.sessions[key.tenant, move.session_id],
                version=move.version + 1,
                aggregates=move.aggregates,
                last_receipt=hashlib.sha256(recording.receipt.signed).digest(),
            )
        if recording.voids is not None:
            self._apply_entry(recording.voids)
        return position

    def _check_unmoved(self, recording: Recording) -> TenantState:
        """Return the tenant's state. Raises `SessionMovedError` if what the recording rests on moved."""
        key, move, kept = recording.key, recording.move, recording.reservation
        tenant = self._state.tenants.get(key.tenant)
        if tenant is None or tenant.epoch != recording.epoch:
            raise GroundMovedError("the tenant's epoch moved")
        if self._state.keys.get(key) != recording.prior_decision_id:
            raise SessionMovedError("the key's latest decision is another")
        if self._entities_moved(tenant, recording.entities):
            raise SessionMovedError("an entity moved")
        if (
            kept is not None
            and kept.key is not None
            and tenant.keys.get(kept.key.normal, 0) != kept.key_version
        ):
            raise SessionMovedError("the business key's holds moved")
        for allow in () if kept is None else kept.consumes:
            if tenant.uses.get(allow.decision_id, []) != [use.decision_id for use in allow.uses]:
                raise SessionMovedError("a prerequisite was consumed")
            if any(tenant.holds[use.decision_id].record.version != use.version for use in allow.uses):
                raise SessionMovedError("what released a prerequisite moved")
        if move is not None:
            session = self._state.sessions.get((key.tenant, move.session_id))
            if session is None or session.version != move.version:
                raise SessionMovedError("the session moved")
            if move.must_be_live and session.state_at(self._state.moment) not in LIVE:
                raise SessionMovedError("the session is over")
        if (key.tenant, recording.decision.decision_id) in self._state.decisions:
            raise StoreUnavailableError("the decision is recorded already")
        return tenant

    async def decision(self, tenant: str, decision_id: str) -> RecordedDecision | None:
        self._state.check_up()
        found = self._state.decisions.get((tenant, decision_id))
        if found is None:
            return None
        recording, position = found
        held = self._hold_of(recording)
        return RecordedDecision(
            key=recording.key,
            token=recording.receipt.token,
            position=position,
            input_document=recording.input_document,
            outcome=held.outcome,
            redeemed=held.redeemed,
        )

    async def status(
        self,
        tenant: str,
        *,
        decision_id: str = "",
        session_id: str = "",
        tool_call_id: str = "",
        caller: str | None = None,
        session_token_hash: str = "",
    ) -> DecisionStatus | None:
        self._state.check_up()
        if not decision_id:
            held = set(self._state.tenants[tenant].holds) if tenant in self._state.tenants else set()
            held |= {named for key, named in self._state.keys.items() if key.tenant == tenant}
            of_call = [
                found
                for found in held
                if self._state.decisions[tenant, found][0].decision.effect is Effect.ALLOW
                and (key := self._state.decisions[tenant, found][0].key).session_id == session_id
                and key.tool_call_id == tool_call_id
                and caller in (None, key.caller)
            ]
            if caller is None and len(of_call) > 1:
                return None
            decision_id = max(of_call, default="")
        found = self._state.decisions.get((tenant, decision_id))
        if found is None:
            return None
        recording, _ = found
        return DecisionStatus(
            decision_id=decision_id,
            key=recording.key,
            token=recording.receipt.token,
            effect=recording.decision.effect,
            recorded_at=self._state.recorded_at[decision_id],
            hold=self._hold_of(recording),
            session=self._state.sessions.get((tenant, recording.key.session_id)),
            revoked=any(
                row.revoked_at is not None
                for row in self._state.tenants[tenant].grant_path(recording.acted_on)
            ),
            now=self._state.moment,
            epoch=self._state.tenants[tenant].epoch,
            action_fingerprint=recording.action_fingerprint,
            ground=recording.ground,
            entities_moved=recording.ground is not None
            and self._entities_moved(self._state.tenants[tenant], recording.ground.entities),
            token_lives=session_token_hash in self._state.tokens.get((tenant, recording.key.session_id), ()),
        )

    async def record_entry(self, entry: Entry) -> Position:
        self._state.check_deadline(entry.deadline)
        self._state.check_up()
        about = entry.about
        tenant = self._state.tenant(entry.key.tenant)
        self._check_hold(entry)
        if entry.kind is EntryKind.REDEMPTION:
            session = self._state.sessions.get((entry.key.tenant, entry.key.session_id))
            if tenant.epoch != about.epoch:
                raise GroundMovedError("the tenant's epoch moved")
            if (
                session is None
                or about.session is None
                or session.state is not about.session.state
                or session.proofs_revoked_at != about.session.proofs_revoked_at
                or session.state_at(self._state.moment) not in LIVE
                or self._state.moment >= about.hold.expires_at
                or self._entities_moved(tenant, entry.entities)
            ):
                raise SessionMovedError("what was redeemable is so no longer")
        return self._apply_entry(entry)

    def _entities_moved(self, tenant: TenantState, entities: Mapping[EntityName, int]) -> bool:
        return any(tenant.known(name).revision != revision for name, revision in entities.items())

    def _check_hold(self, entry: Entry) -> HoldRecord:
        """Return the hold that an entry is about. Raises `SessionMovedError` if it moved."""
        before = self._hold_of(self._state.decisions[entry.key.tenant, entry.about.decision_id][0])
        if before.version != entry.about.hold.version:
            raise SessionMovedError("the hold moved")
        return before

    def _apply_entry(self, entry: Entry) -> Position:
        about, tenant = entry.about, self._state.tenant(entry.key.tenant)
        before = self._check_hold(entry)
        for key, add in entry.recounts:
            counter = tenant.counters.get(key, Counter())
            tenant.counters[key] = apply_recount(counter, add, int(about.recorded_at.timestamp()))
        held = tenant.holds.setdefault(about.decision_id, StoredHold(record=before))
        held.record = replace(entry.hold, version=before.version + 1)
        if before.key is not None:
            tenant.keys[before.key] += 1
        position = self._next_position()
        self._state.entries.append(entry)
        return position

    async def open_decisions(self, tenant: str, *, after: str, limit: int) -> Sequence[OpenDecision]:
        self._state.check_up()
        return [found for owner, found in self._all_open() if owner == tenant and found.decision_id > after][
            :limit
        ]

    async def count_open(self, *, limit: int) -> int:
        self._state.check_up()
        return min(limit, len(self._all_open()))

    async def lapsed(self, *, limit: int) -> Sequence[LapsedDecision]:
        self._state.check_up()
        found = [
            (hold.record.expires_at, tenant, decision_id)
            for tenant, decision_id, hold in self._unreported_holds()
            if hold.record.redeem_required and not hold.record.redeemed
        ]
        return [LapsedDecision(tenant, decision_id) for _, tenant, decision_id in sorted(found)[:limit]]

    def _all_open(self) -> list[tuple[str, OpenDecision]]:
        """Return the open decisions of all tenants by id, each with its tenant."""
        found = []
        for tenant, decision_id, hold in self._unreported_holds():
            seen = hold.seen_at(decision_id, self._state.moment)
            if seen is not None:
                key = self._state.decisions[tenant, decision_id][0].key
                opened = OpenDecision(
                    decision_id=decision_id,
                    session_id=key.session_id,
                    tool_call_id=key.tool_call_id,
                    state=seen.state,
                    redeemed=hold.record.redeemed,
                    expires_at=hold.record.expires_at,
                )
                found.append((tenant, opened))
        return sorted(found, key=lambda item: item[1].decision_id)

    def _unreported_holds(self) -> list[tuple[str, str, StoredHold]]:
        """Return the expired holds whose outcome nobody reported: tenant, decision and hold."""
        return [
            (name, decision_id, hold)
            for name, tenant in self._state.tenants.items()
            for decision_id, hold in tenant.holds.items()
            if hold.record.outcome is None and self._state.moment >= hold.record.expires_at
        ]

    def _hold_of(self, recording: Recording) -> HoldRecord:
        held = self._state.tenants[recording.key.tenant].holds.get(recording.decision.decision_id)
        if held is None:
            return HoldRecord(state=HoldState.RESERVED, expires_at=recording.decision.expires_at)
        return held.record

    def _next_position(self) -> Position:
        return Position(
            writer=self._state.writer, seq=len(self._state.recorded) + len(self._state.entries) + 1
        )


def _counters_after(recording: Recording, tenant: TenantState, now: datetime) -> dict[CounterKey, Counter]:
    """Return the counters after an allow. Raises `SessionMovedError` where there is no room for it."""
    result: dict[CounterKey, Counter] = {}
    guards = () if recording.reservation is None else recording.reservation.guards
    existing = frozenset() if recording.reservation is None else recording.reservation.existing
    if not existing <= tenant.counters.keys():
        raise SessionMovedError("a counter is gone")
    seconds = int(now.timestamp())
    for key in {guard.key for guard in guards}:
        of_key = [guard for guard in guards if guard.key == key]
        counter = tenant.counters.get(key, Counter())
        if not all(fits(guard, counter, seconds) for guard in of_key):
            raise SessionMovedError("a limit has no room any more")
        result[key] = add_to_counter(counter, of_key, seconds)
    return result
