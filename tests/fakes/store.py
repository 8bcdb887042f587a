"""The database's ports in memory: one state, the semantics of the real adapters."""

from __future__ import annotations

import asyncio
import copy
import hashlib
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from pdp.action.derivation import identifier
from pdp.action.prerequisites import update_answer
from pdp.authority.counters import add_to_counter, apply_recount, fits
from pdp.authority.settings import boundary_template
from pdp.errors import (
    DeadlineExceededError,
    InvalidFieldError,
    PdpError,
    SessionMovedError,
    StoreUnavailableError,
    TaskExistsError,
    TenantUnknownError,
)
from pdp.model import (
    JSON,
    Agent,
    Counter,
    CounterKey,
    DecisionKey,
    DecisionStatus,
    Effect,
    EntityName,
    EntityQuery,
    EntityVersion,
    Entry,
    EntryKind,
    Facts,
    FactsRequest,
    GrantRow,
    Hold,
    HoldRecord,
    HoldState,
    IssuerKeys,
    KnownEntity,
    OpenDecision,
    Position,
    PrerequisiteKey,
    PriorAnswer,
    PriorDecision,
    RecordedDecision,
    Recording,
    Session,
    SessionState,
    Signal,
    Tool,
    ToolRevision,
)
from pdp.sessions.task_tokens import MAX_ISSUERS

START = datetime(2026, 11, 24, 10, tzinfo=UTC)
_LIVE = (SessionState.OPEN, SessionState.COMPLETED)


@dataclass(slots=True)
class _Hold:
    record: HoldRecord
    given: str = ""

    def seen_at(self, decision_id: str, now: datetime) -> Hold | None:
        """As it counts; None if it does not."""
        held, state = self.record, self.record.state
        if state is HoldState.RESERVED and now >= held.expires_at:
            state = HoldState.UNRESOLVED
            if held.redeem_required and not held.redeemed:
                return None
        if state is HoldState.RELEASED:
            return None
        return Hold(decision_id=decision_id, state=state, given=self.given)


@dataclass(slots=True)
class _Tenant:
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
    # What each revision of the tools said, oldest first; None: it removed the tool.
    tool_history: list[tuple[int, datetime, Mapping[str, Tool | None]]] = field(default_factory=list)
    # What was written of each entity, oldest first.
    entities: dict[EntityName, list[EntityVersion]] = field(default_factory=dict)
    counters: dict[CounterKey, Counter] = field(default_factory=dict)
    # Versions of business keys.
    keys: dict[str, int] = field(default_factory=dict)
    # By decision, oldest first.
    holds: dict[str, _Hold] = field(default_factory=dict)
    # By hash.
    grants: dict[str, GrantRow] = field(default_factory=dict)
    # Latest answer to each prerequisite, by session.
    steps: dict[tuple[str, PrerequisiteKey], PriorAnswer] = field(default_factory=dict)

    def tools_at(self, revision: int) -> dict[str, Tool]:
        tools: dict[str, Tool | None] = {}
        for of, _, said in self.tool_history:
            if of <= revision:
                tools.update(said)
        return {name: tool for name, tool in tools.items() if tool is not None}

    def known(self, name: EntityName) -> KnownEntity:
        versions = self.entities.get(name)
        if not versions:
            return KnownEntity(name=name, revision=0, attributes=None)
        return KnownEntity(name=name, revision=versions[-1].revision, attributes=versions[-1].attributes)

    def move(self, kind: str) -> int:
        self.epoch += 1
        self.revisions[kind] += 1
        return self.revisions[kind]


class FakeStore:
    """All of the database's ports in one.

    `fault`, while set, is raised by every call. `hold`, while set and not an event that is set,
    keeps recordings waiting as a slow commit would.
    """

    def __init__(self, *, writer: str = "fake", now: datetime = START) -> None:
        self.moment = now
        self.fault: PdpError | None = None
        self.hold: asyncio.Event | None = None
        self.writer = writer
        self.recorded: list[Recording] = []
        self.entries: list[Entry] = []
        self._recorded_at: dict[str, datetime] = {}
        self._tenants: dict[str, _Tenant] = {}
        self._sessions: dict[tuple[str, str], Session] = {}
        self._keys: dict[DecisionKey, str] = {}
        self._decisions: dict[tuple[str, str], tuple[Recording, Position]] = {}
        self._jwks: dict[str, Mapping[str, str]] = {}

    @property
    def information_point(self) -> FakeStore:
        return self

    @property
    def ledger(self) -> FakeStore:
        return self

    @property
    def sessions(self) -> FakeStore:
        return self

    @property
    def grants(self) -> FakeStore:
        return self

    @property
    def control_plane(self) -> FakeStore:
        return self

    @property
    def keys(self) -> FakeStore:
        return self

    @property
    def clock(self) -> FakeStore:
        return self

    async def check(self) -> None:
        self._up()

    async def ping_writable(self, within: float = 2.0) -> None:
        self._up()

    # --- InformationPoint ---

    async def gather(self, request: FactsRequest) -> Facts:
        self._in_time(request.deadline)
        self._up()
        key = request.key
        tenant = self._tenant(key.tenant)
        session = self._sessions.get((key.tenant, key.session_id))
        wanted = {*request.agents, *([session.agent] if session is not None else [])}
        prior = None
        if key in self._keys:
            recording, position = self._decisions[key.tenant, self._keys[key]]
            prior = PriorDecision(
                decision_id=recording.decision.decision_id,
                effect=recording.decision.effect,
                action_fingerprint=recording.action_fingerprint,
                recorded_at=self._recorded_at[recording.decision.decision_id],
                expires_at=recording.decision.expires_at,
                retryable=recording.decision.retryable,
                token=recording.receipt.token,
                position=position,
                has_outcome=(held := tenant.holds.get(recording.decision.decision_id)) is not None
                and held.record.outcome is not None,
            )
        return Facts(
            now=self.moment,
            epoch=tenant.epoch,
            settings=dict(tenant.settings),
            data_revisions={kind: of for kind, of in tenant.revisions.items() if kind != "issuers"},
            session=session,
            tool=tenant.tools.get(request.tool),
            agents={name: tenant.agents[name] for name in wanted if name in tenant.agents},
            signals={
                signal.name: signal.value
                for signal in tenant.signals.values()
                if signal.expires_at is None or signal.expires_at > self.moment
            },
            prior=prior,
            entities=_entities(tenant, request.entities),
            listed={name: tenant.known(name) for name in request.listed},
            counters={key: tenant.counters[key] for key in request.counters if key in tenant.counters},
            holds=tuple(
                seen
                for decision_id, hold in tenant.holds.items()
                if hold.record.key is not None and hold.record.key == request.business_key
                if (seen := hold.seen_at(decision_id, self.moment)) is not None
            ),
            key_version=tenant.keys.get(request.business_key or "", 0),
            prerequisites={
                step: tenant.steps[key.session_id, step]
                for step in request.prerequisites
                if (key.session_id, step) in tenant.steps
            },
            prerequisite_of=tuple(
                sorted(
                    {
                        tuple(sorted(rule.same))
                        for tool in tenant.tools.values()
                        for rule in tool.prerequisites
                        if rule.tool == request.tool
                    }
                )
            ),
            grants={name: tenant.grants[name] for name in request.grants if name in tenant.grants},
        )

    # --- Ledger ---

    async def record(self, recording: Recording) -> Position:
        self._in_time(recording.deadline)
        self._up()
        if self.hold is not None and not self.hold.is_set():
            try:
                async with asyncio.timeout(recording.deadline - time.monotonic()):
                    await self.hold.wait()
            except TimeoutError as exc:
                raise DeadlineExceededError("the deadline passed in the queue") from exc
            self._up()
        return self._record(recording)

    async def record_together(self, recordings: Sequence[Recording]) -> Sequence[Position]:
        self._in_time(recordings[0].deadline)
        self._up()
        names = ("recorded", "_recorded_at", "_tenants", "_sessions", "_keys", "_decisions")
        before = copy.deepcopy({name: getattr(self, name) for name in names})
        try:
            return [self._record(recording) for recording in recordings]
        except PdpError:
            for name, value in before.items():
                setattr(self, name, value)
            raise

    def _record(self, recording: Recording) -> Position:
        key, move, decision = recording.key, recording.move, recording.decision
        tenant = self._tenants.get(key.tenant)
        if tenant is None or tenant.epoch != recording.epoch:
            raise SessionMovedError("the tenant's epoch moved")
        if self._keys.get(key) != recording.prior_decision_id:
            raise SessionMovedError("the key's latest decision is another")
        if any(tenant.known(name).revision != revision for name, revision in recording.entities.items()):
            raise SessionMovedError("an entity moved")
        counters = _counted(recording, tenant, self.moment)
        kept = recording.reservation
        if (
            kept is not None
            and kept.key is not None
            and tenant.keys.get(kept.key.normal, 0) != kept.key_version
        ):
            raise SessionMovedError("the business key's holds moved")
        session = None
        if move is not None:
            session = self._sessions.get((key.tenant, move.session_id))
            if session is None or session.version != move.version:
                raise SessionMovedError("the session moved")
            if move.must_be_live and session.state_at(self.moment) not in _LIVE:
                raise SessionMovedError("the session is over")
        if (key.tenant, decision.decision_id) in self._decisions:
            raise StoreUnavailableError("the decision is recorded already")
        position = self._next_position()
        self.recorded.append(recording)
        self._recorded_at[decision.decision_id] = self.moment
        self._decisions[key.tenant, decision.decision_id] = (recording, position)
        if recording.claims_key:
            self._keys[key] = decision.decision_id
        tenant.counters.update(counters)
        if kept is not None:
            tenant.holds[decision.decision_id] = _Hold(
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
        for step in recording.steps:
            place = (key.session_id, step)
            tenant.steps[place] = update_answer(tenant.steps.get(place), decision.effect, step.amount)
        if move is not None and session is not None:
            self._sessions[key.tenant, move.session_id] = replace(
                session,
                version=move.version + 1,
                aggregates=move.aggregates,
                last_receipt=hashlib.sha256(recording.receipt.signed).digest(),
            )
        return position

    async def decision(self, tenant: str, decision_id: str) -> RecordedDecision | None:
        self._up()
        found = self._decisions.get((tenant, decision_id))
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

    # --- EntryLedger ---

    async def standing(
        self,
        tenant: str,
        *,
        decision_id: str = "",
        session_id: str = "",
        tool_call_id: str = "",
        caller: str | None = None,
    ) -> DecisionStatus | None:
        self._up()
        if not decision_id:
            held = self._tenants[tenant].holds if tenant in self._tenants else {}
            of_call = [
                found
                for found in held
                if (key := self._decisions[tenant, found][0].key).session_id == session_id
                and key.tool_call_id == tool_call_id
                and caller in (None, key.caller)
            ]
            if caller is None and len(of_call) > 1:
                return None
            decision_id = max(of_call, default="")
        found = self._decisions.get((tenant, decision_id))
        if found is None:
            return None
        recording, _ = found
        return DecisionStatus(
            decision_id=decision_id,
            key=recording.key,
            token=recording.receipt.token,
            effect=recording.decision.effect,
            recorded_at=self._recorded_at[decision_id],
            hold=self._hold_of(recording),
            session=self._sessions.get((tenant, recording.key.session_id)),
            revoked=any(
                row.revoked_at is not None for row in await self.grant_path(tenant, recording.key.leaf_grant)
            ),
            now=self.moment,
            epoch=self._tenants[tenant].epoch,
        )

    async def record_entry(self, entry: Entry) -> Position:
        self._in_time(entry.deadline)
        self._up()
        about = entry.about
        tenant = self._tenant(entry.key.tenant)
        before = self._hold_of(self._decisions[entry.key.tenant, about.decision_id][0])
        if before.version != about.hold.version:
            raise SessionMovedError("the hold moved")
        if entry.kind is EntryKind.REDEMPTION:
            session = self._sessions.get((entry.key.tenant, entry.key.session_id))
            if (
                tenant.epoch != about.epoch
                or session is None
                or about.session is None
                or session.state is not about.session.state
                or session.state_at(self.moment) not in _LIVE
                or self.moment >= about.hold.expires_at
            ):
                raise SessionMovedError("what was redeemable is so no longer")
        for key, add in entry.recounts:
            counter = tenant.counters.get(key, Counter())
            tenant.counters[key] = apply_recount(counter, add, int(about.recorded_at.timestamp()))
        held = tenant.holds.setdefault(about.decision_id, _Hold(record=before))
        held.record = replace(entry.hold, version=before.version + 1)
        if before.key is not None:
            tenant.keys[before.key] += 1
        position = self._next_position()
        self.entries.append(entry)
        return position

    async def open_decisions(self, tenant: str, *, after: str, limit: int) -> Sequence[OpenDecision]:
        self._up()
        return [found for owner, found in self._open() if owner == tenant and found.decision_id > after][
            :limit
        ]

    async def count_open(self, *, limit: int) -> int:
        self._up()
        return min(limit, len(self._open()))

    async def lapsed(self, *, limit: int) -> Sequence[tuple[str, str]]:
        self._up()
        found = [
            (hold.record.expires_at, tenant, decision_id)
            for tenant, decision_id, hold in self._silent()
            if hold.record.redeem_required and not hold.record.redeemed
        ]
        return [(tenant, decision_id) for _, tenant, decision_id in sorted(found)[:limit]]

    def _open(self) -> list[tuple[str, OpenDecision]]:
        found = []
        for tenant, decision_id, hold in self._silent():
            seen = hold.seen_at(decision_id, self.moment)
            if seen is not None:
                key = self._decisions[tenant, decision_id][0].key
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

    def _silent(self) -> list[tuple[str, str, _Hold]]:
        """Expired holds that nobody reported about."""
        return [
            (name, decision_id, hold)
            for name, tenant in self._tenants.items()
            for decision_id, hold in tenant.holds.items()
            if hold.record.outcome is None and self.moment >= hold.record.expires_at
        ]

    def _hold_of(self, recording: Recording) -> HoldRecord:
        held = self._tenants[recording.key.tenant].holds.get(recording.decision.decision_id)
        if held is None:
            return HoldRecord(state=HoldState.RESERVED, expires_at=recording.decision.expires_at)
        return held.record

    def _next_position(self) -> Position:
        return Position(writer=self.writer, seq=len(self.recorded) + len(self.entries) + 1)

    # --- SessionStore ---

    async def open(self, tenant: str, session: Session, *, epoch: int | None = None) -> Session:
        self._up()
        if epoch not in (None, self._tenant(tenant).epoch):
            raise SessionMovedError("the tenant's epoch moved")
        for (owner, _), existing in self._sessions.items():
            if owner == tenant and existing.task.id == session.task.id:
                same = ("issuer", "principal", "agent", "boundary")
                if any(getattr(existing, name) != getattr(session, name) for name in same):
                    raise TaskExistsError(f"the task {session.task.id} already has a session")
                return existing
        if session.expires_at <= self.moment:
            raise InvalidFieldError("expires_at", "is in the past")
        if (tenant, session.session_id) in self._sessions:
            raise InvalidFieldError("session.session_id", "is another session's")
        session = replace(session, template=boundary_template(self._tenant(tenant).settings))
        self._sessions[tenant, session.session_id] = session
        return session

    async def get(self, tenant: str, session_id: str) -> tuple[Session, datetime] | None:
        self._up()
        session = self._sessions.get((tenant, session_id))
        return None if session is None else (session, self.moment)

    async def complete(self, tenant: str, session_id: str, reason: str) -> Session | None:
        self._up()
        session = self._sessions.get((tenant, session_id))
        if session is not None and session.state_at(self.moment) is SessionState.OPEN:
            session = replace(
                session,
                state=SessionState.COMPLETED,
                version=session.version + 1,
                completed_at=self.moment,
            )
            self._sessions[tenant, session_id] = session
        return session

    async def close(self, tenant: str, session_id: str, reason: str) -> Session | None:
        self._up()
        session = self._sessions.get((tenant, session_id))
        if session is not None and session.state in _LIVE:
            session = replace(
                session, state=SessionState.CLOSED, version=session.version + 1, closed_at=self.moment
            )
            self._sessions[tenant, session_id] = session
        return session

    # --- GrantStore ---

    async def add_grant(self, tenant: str, row: GrantRow) -> None:
        self._up()
        state = self._tenant(tenant)
        if row.grant_hash in state.grants:
            raise StoreUnavailableError("the grant is stored already")
        state.grants[row.grant_hash] = row

    async def grant_path(self, tenant: str, grant_hash: str) -> Sequence[GrantRow]:
        self._up()
        grants = self._tenants[tenant].grants if tenant in self._tenants else {}
        path: list[GrantRow] = []
        name: str | None = grant_hash
        while name is not None and name in grants:
            path.insert(0, grants[name])
            name = grants[name].parent_hash
        return path

    async def revoke_grant(self, tenant: str, grant_hash: str, *, by: str, reason: str) -> GrantRow | None:
        self._up()
        state = self._tenants.get(tenant)
        row = None if state is None else state.grants.get(grant_hash)
        if state is not None and row is not None and row.revoked_at is None:
            row = row._replace(revoked_at=self.moment, revoked_by=by, revoke_reason=reason)
            state.grants[grant_hash] = row
            state.epoch += 1
        return row

    async def grant_decisions(
        self, tenant: str, session_id: str, grant_hashes: Sequence[str], *, limit: int
    ) -> Mapping[str, Sequence[tuple[str, Effect]]]:
        self._up()
        found: dict[str, list[tuple[str, Effect]]] = {}
        for key, decision_id in self._keys.items():
            decision = self._decisions[key.tenant, decision_id][0].decision
            if (
                (key.tenant, key.session_id) == (tenant, session_id)
                and key.leaf_grant in grant_hashes
                and (key.leaf_grant or decision.session_version)
            ):
                found.setdefault(key.leaf_grant, []).append((decision_id, decision.effect))
        return {name: sorted(decisions, reverse=True)[:limit] for name, decisions in found.items()}

    # --- Registry ---

    async def put_tenant(self, tenant: str, settings: bytes) -> int:
        self._up()
        try:
            parsed: Any = json.loads(settings, parse_float=Decimal)
        except ValueError as exc:
            raise InvalidFieldError("settings", "is not JSON") from exc
        if not isinstance(parsed, dict):
            raise InvalidFieldError("settings", "is not a JSON object")
        if tenant not in self._tenants:
            self._tenants[tenant] = _Tenant(settings=parsed)
            return 1
        existing = self._tenants[tenant]
        existing.settings = parsed
        return existing.move("settings")

    async def put_agents(self, tenant: str, agents: Sequence[Agent]) -> int:
        self._up()
        state = self._tenant(tenant)
        revision = state.move("agents")
        state.agents.update({agent.agent: agent for agent in agents})
        return revision

    async def put_tools(self, tenant: str, tools: Sequence[Tool]) -> int:
        self._up()
        state = self._tenant(tenant)
        return self._say_tools(state, {tool.name: tool for tool in tools})

    async def tools(
        self, tenant: str, *, revision: int | None = None, after: str = "", limit: int = 50
    ) -> tuple[int, Sequence[Tool]]:
        self._up()
        state = self._tenant(tenant)
        of = state.revisions["tools"] if revision is None else min(revision, state.revisions["tools"])
        tools = state.tools_at(of)
        return of, [tools[name] for name in sorted(tools) if name > after][:limit]

    async def tool_history(self, tenant: str, *, before: int | None, limit: int) -> Sequence[ToolRevision]:
        self._up()
        history = self._tenants[tenant].tool_history if tenant in self._tenants else []
        return [
            ToolRevision(
                revision=revision,
                written_at=at,
                written=tuple(sorted(name for name, tool in said.items() if tool is not None)),
                removed=tuple(sorted(name for name, tool in said.items() if tool is None)),
            )
            for revision, at, said in reversed(history)
            if said and (before is None or revision < before)
        ][:limit]

    async def roll_back_tools(self, tenant: str, revision: int) -> int | None:
        self._up()
        state = self._tenant(tenant)
        if not 1 <= revision <= state.revisions["tools"]:
            return None
        wanted = state.tools_at(revision)
        said: dict[str, Tool | None] = dict.fromkeys(set(state.tools) - set(wanted))
        return self._say_tools(state, said | wanted)

    def _say_tools(self, state: _Tenant, said: Mapping[str, Tool | None]) -> int:
        revision = state.move("tools")
        new = {
            name: None if tool is None else replace(tool, revision=revision) for name, tool in said.items()
        }
        state.tool_history.append((revision, self.moment, new))
        state.tools = state.tools_at(revision)
        return revision

    async def put_signals(self, tenant: str, signals: Sequence[Signal]) -> int:
        self._up()
        state = self._tenant(tenant)
        revision = state.move("signals")
        state.signals.update({signal.name: signal for signal in signals})
        return revision

    async def put_issuer_keys(self, tenant: str, issuer: str, keys: Sequence[Mapping[str, str]]) -> int:
        self._up()
        state = self._tenant(tenant)
        if issuer not in state.issuers and len(state.issuers) >= MAX_ISSUERS:
            raise InvalidFieldError("issuer", "would be one too many")
        revision = state.move("issuers")
        state.issuers[issuer] = IssuerKeys(
            issuer=issuer, keys=tuple(keys), revision=revision, written_at=self.moment
        )
        return revision

    async def issuer_keys(self, tenant: str) -> tuple[int, Sequence[IssuerKeys]]:
        self._up()
        state = self._tenant(tenant)
        return state.revisions["issuers"], [state.issuers[name] for name in sorted(state.issuers)]

    async def keys_of(self, tenant: str, issuer: str) -> tuple[IssuerKeys | None, int]:
        self._up()
        state = self._tenant(tenant)
        return state.issuers.get(issuer), state.epoch

    # --- EntityStore ---

    @property
    def entities(self) -> FakeStore:
        return self

    async def put_entities(
        self, tenant: str, entities: Mapping[EntityName, Mapping[str, JSON]], *, by: str
    ) -> int:
        return self._write(tenant, entities, by)

    async def patch_entity(
        self,
        tenant: str,
        name: EntityName,
        *,
        set_: Mapping[str, JSON],
        unset: Sequence[str],
        check: Callable[[Mapping[str, JSON]], None],
        by: str,
    ) -> EntityVersion | None:
        self._up()
        state = self._tenants.get(tenant)
        before = None if state is None else state.known(name).attributes
        if state is None or before is None:
            return None
        after = {key: value for key, value in before.items() if key not in unset} | dict(set_)
        check(after)
        self._write(tenant, {name: after}, by)
        return state.entities[name][-1]

    async def delete_entities(self, tenant: str, names: Sequence[EntityName], *, by: str) -> int:
        self._up()
        state = self._tenant(tenant)
        there = [name for name in names if state.known(name).attributes is not None]
        return self._write(tenant, dict.fromkeys(there), by)

    async def entity_at(
        self, tenant: str, name: EntityName, *, revision: int | None = None
    ) -> EntityVersion | None:
        before = None if revision is None else revision + 1
        versions = await self.entity_history(tenant, name, before=before, limit=1)
        return versions[0] if versions else None

    async def entity_history(
        self, tenant: str, name: EntityName, *, before: int | None, limit: int
    ) -> Sequence[EntityVersion]:
        self._up()
        state = self._tenants.get(tenant)
        versions = [] if state is None else state.entities.get(name, [])
        return [v for v in reversed(versions) if before is None or v.revision < before][:limit]

    def _write(self, tenant: str, entities: Mapping[EntityName, Mapping[str, JSON] | None], by: str) -> int:
        self._up()
        state = self._tenant(tenant)
        state.revisions["entities"] += 1
        for name, attributes in entities.items():
            state.entities.setdefault(name, []).append(
                EntityVersion(
                    name=name,
                    revision=state.revisions["entities"],
                    attributes=attributes,
                    written_by=by,
                    written_at=self.moment,
                )
            )
        return state.revisions["entities"]

    # --- KeyDirectory ---

    async def register(self, jwk: Mapping[str, str], *, replica: str) -> None:
        self._up()
        self._jwks.setdefault(jwk["kid"], dict(jwk))

    async def jwks(self) -> Sequence[Mapping[str, str]]:
        self._up()
        return list(self._jwks.values())

    async def key(self, kid: str) -> Mapping[str, str] | None:
        self._up()
        return self._jwks.get(kid)

    # --- Clock ---

    async def now(self) -> datetime:
        self._up()
        return self.moment

    async def advance(self, seconds: float) -> datetime:
        self._up()
        if not math.isfinite(seconds) or seconds < 0:
            raise InvalidFieldError("seconds", "is not between 0 and ten years")
        self.moment += timedelta(seconds=seconds)
        return self.moment

    def _up(self) -> None:
        if self.fault is not None:
            raise self.fault

    def _tenant(self, tenant: str) -> _Tenant:
        if tenant not in self._tenants:
            raise TenantUnknownError(f"there is no tenant {tenant}")
        return self._tenants[tenant]

    @staticmethod
    def _in_time(deadline: float) -> None:
        if deadline <= time.monotonic():
            raise DeadlineExceededError("the deadline had passed before the call")


def _entities(tenant: _Tenant, queries: Sequence[EntityQuery]) -> dict[str, KnownEntity]:
    found = {}
    for query in queries:
        entity_id: JSON = query.id
        if query.via is not None:
            attributes = tenant.known(EntityName(type=query.of, id=query.id)).attributes
            entity_id = None if attributes is None else attributes.get(query.via)
        if isinstance(entity_id, str) and identifier(entity_id) is not None:
            found[query.name] = tenant.known(EntityName(type=query.type, id=entity_id))
    return found


def _counted(recording: Recording, tenant: _Tenant, now: datetime) -> dict[CounterKey, Counter]:
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
