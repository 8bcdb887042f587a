"""What an action must be judged on: one statement, one snapshot, for a whole batch."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

import psycopg

from pdp.action.derivation import identifier
from pdp.errors import DeadlineExceededError, PdpError, StoreUnavailableError, TenantUnknownError
from pdp.model import (
    JSON,
    Agent,
    Amount,
    Counter,
    CounterKey,
    Effect,
    EntityName,
    EntityQuery,
    Facts,
    FactsRequest,
    GrantRow,
    Hold,
    HoldState,
    KnownEntity,
    Position,
    PrerequisiteKey,
    PriorAnswer,
    PriorDecision,
)
from pdp.overload.inbox import Inbox, Ticket
from pdp.overload.queue_stats import QueueStats
from pdp.postgres.access.arrays import booleans, texts
from pdp.postgres.access.connection import (
    Access,
    Connection,
    bounded,
    connect,
    lost,
    stale,
    storable,
    unavailable,
)
from pdp.postgres.rows import (
    GRANT_WIDTH,
    SESSION_WIDTH,
    TOOL_WIDTH,
    buckets_from,
    grant_from_row,
    json_value,
    session_from_row,
    tool_from_row,
)

BATCH = 64
READERS = 2
# Entities that boundaries point to, in a batch: each has 16 KiB of attributes at most.
LISTED = 1024
FIRST_BACKOFF, LAST_BACKOFF = 0.05, 1.0

# `lead` marks the first request of each tenant: what is the same for all of the tenant's
# requests is sent once. `agents` is an array literal a request, and so are the columns of its
# entities. LIMIT makes each join a look-up by key, whatever the planner believes of the table: one that
# was empty when it looked last would be read whole, each time.
_GATHER = """
    WITH moment AS MATERIALIZED (SELECT placet.now() AS now)
    SELECT
        moment.now, t.epoch, t.settings_revision, t.tools_revision, t.agents_revision, t.signals_revision,
        CASE WHEN r.lead THEN t.settings END, g.names, g.contents,
        a.agents, a.owners, a.trusts, a.explanations, a.models, a.versions,
        l.decision_id, l.effect, l.action_fingerprint, l.expires_at, l.retryable, l.jws, d.disclosures,
        l.writer, l.seq, k.decision_id,
        s.session_id, s.task_id, s.task_description, s.task_prompt, s.principal, s.agent, s.issuer,
        s.boundary, s.state, s.version, s.opened_at, s.expires_at, s.closed_at, s.allowed, s.blocked,
        s.escalated, s.pay, s.last_receipt, s.completed_at, s.template,
        o.name, o.effect, o.resource, o.arguments_schema, o.amount_argument, o.amount_unit,
        o.amount_currency_argument, o.amount_currency_code, o.secret_arguments, o.description, o.revision,
        o.details, e.places, e.ids, e.revisions, e.attributes, coalesce(c.revision, 0),
        b.version, h.decision_ids, h.states, h.givens, n.scopes, n.units, n.totals, n.buckets,
        p.tools, p.arguments, p.effects, p.waits, p.minors, p.currencies, w.sames,
        gr.grant_hashes, gr.session_ids, gr.parent_hashes, gr.agents, gr.delegated_bys, gr.depths,
        gr.purposes, gr.issued_ats, gr.expires_ats, gr.revoked_ats, gr.revoked_bys, gr.revoke_reasons,
        ho.outcome, l.recorded_at
    FROM unnest(%b::text[], %b::text[], %b::text[], %b::text[], %b::text[], %b::text[], %b::text[],
                %b::text[], %b::bool[], %b::text[], %b::text[], %b::text[], %b::text[], %b::text[],
                %b::text[], %b::text[], %b::text[], %b::text[], %b::text[])
        WITH ORDINALITY
        AS r(tenant, session_id, caller, leaf_grant, tool_call_id, review_id, tool, agents, lead,
             types, ids, ofs, vias, key, scopes, units, step_tools, step_arguments, grants, place)
    CROSS JOIN moment
    LEFT JOIN LATERAL (
        SELECT x.* FROM placet.tenants x
        WHERE x.tenant = r.tenant
        LIMIT 1
    ) t ON true
    LEFT JOIN LATERAL (
        SELECT x.* FROM placet.sessions x
        WHERE x.tenant = r.tenant AND x.session_id = r.session_id
        LIMIT 1
    ) s ON true
    LEFT JOIN LATERAL (
        SELECT x.* FROM placet.tools x
        WHERE x.tenant = r.tenant AND x.name = r.tool
        LIMIT 1
    ) o ON true
    LEFT JOIN LATERAL (
        SELECT x.* FROM placet.decision_keys x
        WHERE x.tenant = r.tenant AND x.session_id = r.session_id AND x.caller = r.caller
            AND x.leaf_grant = r.leaf_grant AND x.tool_call_id = r.tool_call_id
            AND x.review_id IS NOT DISTINCT FROM r.review_id
        LIMIT 1
    ) k ON true
    LEFT JOIN LATERAL (
        SELECT x.* FROM placet.ledger x
        WHERE x.tenant = k.tenant AND x.decision_id = k.decision_id
        LIMIT 1
    ) l ON true
    LEFT JOIN LATERAL (
        SELECT x.* FROM placet.holds x
        WHERE x.tenant = k.tenant AND x.decision_id = k.decision_id
        LIMIT 1
    ) ho ON true
    LEFT JOIN LATERAL (
        SELECT x.* FROM placet.decision_details x
        WHERE x.tenant = k.tenant AND x.decision_id = k.decision_id
        LIMIT 1
    ) d ON true
    LEFT JOIN LATERAL (
        SELECT array_agg(x.agent) AS agents, array_agg(x.owner) AS owners, array_agg(x.trust) AS trusts,
               array_agg(x.trust_explanation) AS explanations, array_agg(x.model) AS models,
               array_agg(x.version) AS versions
        FROM placet.agents x
        WHERE x.tenant = r.tenant AND x.agent = ANY (r.agents::text[] || s.agent)
    ) a ON true
    LEFT JOIN LATERAL (
        SELECT array_agg(x.name) AS names, array_agg(x.value) AS contents
        FROM placet.signals x
        WHERE r.lead AND x.tenant = r.tenant AND (x.expires_at IS NULL OR x.expires_at > moment.now)
    ) g ON true
    LEFT JOIN LATERAL (
        SELECT x.* FROM placet.entity_clock x
        WHERE x.tenant = r.tenant
        LIMIT 1
    ) c ON true
    LEFT JOIN LATERAL (
        SELECT array_agg(q.place) AS places, array_agg(n.id) AS ids, array_agg(y.revision) AS revisions,
               array_agg(CASE WHEN NOT y.deleted THEN y.attributes END) AS attributes
        FROM unnest(r.types::text[], r.ids::text[], r.ofs::text[], r.vias::text[])
            WITH ORDINALITY AS q(type, id, of, via, place)
        LEFT JOIN LATERAL (
            SELECT x.attributes::json -> q.via AS value
            FROM placet.entities x
            WHERE q.via IS NOT NULL AND x.tenant = r.tenant AND x.type = q.of AND x.id = q.id
                AND NOT x.deleted
            LIMIT 1
        ) v ON true
        CROSS JOIN LATERAL (
            SELECT CASE WHEN q.via IS NULL THEN q.id
                        WHEN json_typeof(v.value) = 'string' THEN v.value #>> '{}' END AS id
        ) n
        LEFT JOIN LATERAL (
            SELECT x.revision, x.deleted, x.attributes
            FROM placet.entities x
            WHERE x.tenant = r.tenant AND x.type = q.type AND x.id = n.id
            LIMIT 1
        ) y ON true
    ) e ON true
    LEFT JOIN LATERAL (
        SELECT x.* FROM placet.business_keys x
        WHERE x.tenant = r.tenant AND x.key = r.key
        LIMIT 1
    ) b ON true
    LEFT JOIN LATERAL (
        SELECT array_agg(y.decision_id) AS decision_ids, array_agg(y.state) AS states,
               array_agg(y.given) AS givens
        FROM (
            SELECT x.decision_id, x.given,
                   -- Silence: it may have been executed, and nobody says so.
                   CASE WHEN x.state = 'reserved' AND x.expires_at <= moment.now
                        THEN 'unresolved' ELSE x.state END AS state
            FROM placet.holds x
            WHERE x.tenant = r.tenant AND x.key = r.key AND x.state <> 'released'
                -- What nobody redeemed in time can never be.
                AND NOT (x.redeem_required AND x.state = 'reserved' AND x.redeemed_at IS NULL
                         AND x.expires_at <= moment.now)
            LIMIT 64
        ) y
    ) h ON true
    LEFT JOIN LATERAL (
        SELECT array_agg(x.scope) AS scopes, array_agg(x.unit) AS units, array_agg(x.total) AS totals,
               array_agg(x.buckets) AS buckets
        FROM unnest(r.scopes::text[], r.units::text[]) AS q(scope, unit)
        CROSS JOIN LATERAL (
            SELECT y.scope, y.unit, y.total, y.buckets
            FROM placet.counters y
            WHERE y.tenant = r.tenant AND y.scope = q.scope AND y.unit = q.unit
            LIMIT 1
        ) x
    ) n ON true
    LEFT JOIN LATERAL (
        SELECT array_agg(x.tool) AS tools, array_agg(x.arguments) AS arguments,
               array_agg(x.effect) AS effects, array_agg(x.waited) AS waits, array_agg(x.minor) AS minors,
               array_agg(x.currency) AS currencies
        FROM unnest(r.step_tools::text[], r.step_arguments::text[]) AS q(tool, arguments)
        CROSS JOIN LATERAL (
            SELECT y.tool, y.arguments, y.effect, y.waited, y.minor, y.currency
            FROM placet.prerequisites y
            WHERE y.tenant = r.tenant AND y.session_id = r.session_id AND y.tool = q.tool
                AND y.arguments = q.arguments
            LIMIT 1
        ) x
    ) p ON true
    LEFT JOIN LATERAL (
        SELECT array_agg(array_to_json(x.same)::text) AS sames
        FROM placet.prerequisite_rules x
        WHERE x.tenant = r.tenant AND x.tool = r.tool
    ) w ON true
    LEFT JOIN LATERAL (
        SELECT z.*
        FROM (
            SELECT array_agg(x.grant_hash) AS grant_hashes, array_agg(x.session_id) AS session_ids,
                   array_agg(x.parent_hash) AS parent_hashes, array_agg(x.agent) AS agents,
                   array_agg(x.delegated_by) AS delegated_bys, array_agg(x.depth) AS depths,
                   array_agg(x.purpose) AS purposes, array_agg(x.issued_at) AS issued_ats,
                   array_agg(x.expires_at) AS expires_ats, array_agg(x.revoked_at) AS revoked_ats,
                   array_agg(x.revoked_by) AS revoked_bys, array_agg(x.revoke_reason) AS revoke_reasons
            FROM unnest(r.grants::text[]) AS q(grant_hash)
            CROSS JOIN LATERAL (
                SELECT y.grant_hash, y.session_id, y.parent_hash, y.agent, y.delegated_by, y.depth,
                       y.purpose, y.issued_at, y.expires_at, y.revoked_at, y.revoked_by, y.revoke_reason
                FROM placet.grants y
                WHERE y.tenant = r.tenant AND y.grant_hash = q.grant_hash
                LIMIT 1
            ) x
        ) z
        -- Mostly there are none, and looking for none has its price.
        WHERE r.grants <> '{}'
    ) gr ON true
    ORDER BY r.place
"""
_SESSION = 25
_TOOL = _SESSION + SESSION_WIDTH
_ENTITIES = _TOOL + TOOL_WIDTH
_CLOCK = _ENTITIES + 4
_HOLDS = _CLOCK + 1
_COUNTERS = _HOLDS + 4
_PREREQUISITES = _COUNTERS + 4
_RULES = _PREREQUISITES + 6
_GRANTS = _RULES + 1

_Ticket = Ticket[FactsRequest, Facts]


class PostgresInformationPoint:
    """`pdp.ports.InformationPoint`.

    Calls that come in together are read together, at most `batch` at once; a lone call is read at once.
    """

    def __init__(
        self, access: Access, *, capacity: int = 4096, readers: int = READERS, batch: int = BATCH
    ) -> None:
        self._access = access
        self._number = readers
        self._batch = batch
        self._inbox: Inbox[FactsRequest, Facts] = Inbox(
            capacity=capacity, overdue=_overdue, weigh=lambda request: len(request.listed)
        )
        self._readers: list[asyncio.Task[None]] = []

    def start(self) -> None:
        self._readers = [asyncio.create_task(self._read(), name=f"facts {n}") for n in range(self._number)]

    async def close(self) -> None:
        """Stop reading; whoever waits gets `StoreUnavailableError`."""
        for reader in self._readers:
            reader.cancel()
        await asyncio.gather(*self._readers, return_exceptions=True)
        self._inbox.fail_waiting(lambda: StoreUnavailableError("the store is closed"))

    def load(self) -> QueueStats:
        """What waits to be read."""
        return self._inbox.load()

    async def gather(self, request: FactsRequest) -> Facts:
        if not self._readers or any(reader.done() for reader in self._readers):
            raise StoreUnavailableError("the store is closed")
        key = request.key
        for field, text in (
            ("tenant", key.tenant),
            ("session_id", key.session_id),
            ("caller", key.caller),
            ("chain", key.leaf_grant),
            ("action.tool_call_id", key.tool_call_id),
            ("review_id", key.review_id or ""),
            ("action.tool", request.tool),
            *(("chain", agent) for agent in request.agents),
            *(("action.arguments", query.id) for query in request.entities),
            *(("boundary", name.id) for name in request.listed),
            *(("chain", counter.scope) for counter in request.counters),
        ):
            storable(field, text)
        return await self._inbox.ask(request, request.deadline)

    async def _read(self) -> None:
        """Serve batches over one connection for as long as we live."""
        connection: Connection | None = None
        backoff = FIRST_BACKOFF
        try:
            while True:
                await self._inbox.until_gathered(self._batch)
                if connection is None or stale(connection):
                    if connection is not None:
                        await connection.close()
                        connection = None
                    try:
                        connection = await connect(self._access, "pdp facts")
                    except StoreUnavailableError as exc:
                        self._fail_waiting(str(exc))
                        await asyncio.sleep(backoff)
                        backoff = min(LAST_BACKOFF, 2 * backoff)
                        continue
                    backoff = FIRST_BACKOFF
                batch = self._inbox.take(self._batch, LISTED)
                if batch:
                    try:
                        await self._serve(connection, batch)
                    finally:
                        for ticket in batch:
                            ticket.fail(StoreUnavailableError("the read was given up"))
        finally:
            if connection is not None:
                with contextlib.suppress(psycopg.Error):
                    await connection.close()

    def _fail_waiting(self, message: str) -> None:
        self._inbox.fail_waiting(lambda: StoreUnavailableError(message))

    async def _serve(self, connection: Connection, batch: list[_Ticket]) -> None:
        """Answer or fail every ticket. Does not raise, except when cancelled."""
        began = time.monotonic()
        error = await _answer(connection, batch)
        self._inbox.served(began)
        if error is None:
            return
        if lost(connection, error) or len(batch) == 1:
            for ticket in batch:
                ticket.fail(unavailable(error))
            return
        # One of them breaks the statement: ask for each alone.
        for ticket in batch:
            if ticket.done:
                continue
            error = await _answer(connection, [ticket])
            if error is not None:
                ticket.fail(unavailable(error))


def _overdue(ticket: _Ticket) -> PdpError:
    return DeadlineExceededError("the database did not answer in time")


async def _answer(connection: Connection, batch: list[_Ticket]) -> psycopg.Error | None:
    """Read for all of them and answer each; return the database's error if there was one."""
    requests = [ticket.value for ticket in batch]
    left = max(ticket.deadline for ticket in batch) - time.monotonic()
    try:
        rows = await bounded(connection, _query(connection, requests), left)
    except TimeoutError:
        for ticket in batch:
            ticket.fail(DeadlineExceededError("the database did not answer in time"))
        return None
    except psycopg.Error as exc:
        return exc
    tenants: dict[str, tuple[dict[str, JSON], dict[str, JSON]]] = {}
    for ticket, row in zip(batch, rows, strict=True):
        tenant = ticket.value.key.tenant
        if row[1] is None:
            ticket.fail(TenantUnknownError(f"there is no tenant {tenant}"))
            continue
        try:
            if tenant not in tenants:
                tenants[tenant] = (_settings(row[6]), _signals(row[7], row[8]))
            settings, signals = tenants[tenant]
            ticket.answer(_facts(row, ticket.value, settings, signals))
        except (ValueError, TypeError, KeyError) as exc:
            # What the tables hold cannot be understood: nobody may act on it.
            error = StoreUnavailableError("a stored fact cannot be read")
            error.__cause__ = exc
            ticket.fail(error)
    return None


async def _query(connection: Connection, requests: Sequence[FactsRequest]) -> list[tuple[Any, ...]]:
    keys = [request.key for request in requests]
    queries = [_queries(request) for request in requests]
    seen: set[str] = set()
    lead = []
    for key in keys:
        lead.append(key.tenant not in seen)
        seen.add(key.tenant)
    await connection.plan_anew()
    cursor = connection.cursor(binary=True)
    await cursor.execute(
        _GATHER,
        [
            texts([key.tenant for key in keys]),
            texts([key.session_id for key in keys]),
            texts([key.caller for key in keys]),
            texts([key.leaf_grant for key in keys]),
            texts([key.tool_call_id for key in keys]),
            texts([key.review_id for key in keys]),
            texts([request.tool for request in requests]),
            texts([_array(request.agents) for request in requests]),
            booleans(lead),
            texts([_array([query.type for query in asked]) for asked in queries]),
            texts([_array([query.id for query in asked]) for asked in queries]),
            texts([_array([query.of for query in asked]) for asked in queries]),
            texts([_array([query.via for query in asked]) for asked in queries]),
            texts([request.business_key for request in requests]),
            texts([_array([key.scope for key in request.counters]) for request in requests]),
            texts([_array([key.unit for key in request.counters]) for request in requests]),
            texts([_array([step.tool for step in request.prerequisites]) for request in requests]),
            texts([_array([step.arguments for step in request.prerequisites]) for request in requests]),
            texts([_array(request.grants) for request in requests]),
        ],
        prepare=True,
    )
    return await cursor.fetchall()


def _array(names: Sequence[str | None]) -> str:
    """Return an array literal (PostgreSQL manual, 8.15.6)."""
    return (
        "{"
        + ",".join(
            "NULL" if t is None else '"' + t.replace("\\", "\\\\").replace('"', '\\"') + '"' for t in names
        )
        + "}"
    )


@lru_cache(maxsize=256)
def _parsed(text: str) -> Any:
    return json_value(text)


def _settings(text: str) -> dict[str, JSON]:
    settings = _parsed(text)
    if not isinstance(settings, dict):
        raise TypeError("settings are not an object")
    return settings


def _signals(names: list[str] | None, contents: list[str] | None) -> dict[str, JSON]:
    if names is None or contents is None:
        return {}
    return {name: _parsed(content) for name, content in zip(names, contents, strict=True)}


@lru_cache(maxsize=4096)
def _attributes(text: str) -> dict[str, JSON]:
    """The cache is of the parsing alone: equal text, equal attributes."""
    attributes = json_value(text)
    if not isinstance(attributes, dict):
        raise TypeError("attributes are not an object")
    return attributes


def _rows(columns: Sequence[Any]) -> Iterable[tuple[Any, ...]]:
    """Return the rows of aggregated columns; there are none where they are NULL."""
    return () if columns[0] is None else zip(*columns, strict=True)


def _queries(request: FactsRequest) -> list[EntityQuery]:
    """The call's entities, then the listed ones."""
    listed = (EntityQuery(name="", type=name.type, id=name.id) for name in request.listed)
    return [*request.entities, *listed]


def _entities(
    row: Sequence[Any], request: FactsRequest
) -> tuple[dict[str, KnownEntity], dict[EntityName, KnownEntity]]:
    """Read places, ids, revisions and attributes: the call's entities, and the listed ones."""
    found: dict[str, KnownEntity] = {}
    listed: dict[EntityName, KnownEntity] = {}
    queries = _queries(request)
    for place, entity_id, revision, attributes in _rows(row):
        query = queries[place - 1]
        # What is no identifier is nobody's id.
        if entity_id is None or identifier(entity_id) is None:
            continue
        entity = KnownEntity(
            name=EntityName(type=query.type, id=entity_id),
            revision=revision or 0,
            attributes=None if attributes is None else _attributes(attributes),
        )
        if place <= len(request.entities):
            found[query.name] = entity
        else:
            listed[entity.name] = entity
    return found, listed


def _grants(columns: Sequence[Any]) -> dict[str, GrantRow]:
    return {row[0]: grant_from_row(row) for row in _rows(columns)}


def _facts(
    row: tuple[Any, ...],
    request: FactsRequest,
    settings: dict[str, JSON],
    signals: dict[str, JSON],
) -> Facts:
    agents = {}
    if row[9] is not None:
        for agent, owner, trust, explanation, model, version in zip(*row[9:15], strict=True):
            agents[agent] = Agent(
                agent=agent,
                owner=owner,
                trust=trust,
                trust_explanation=explanation,
                model=model,
                version=version,
            )
    prior = None
    if row[24] is not None:
        if row[15] is None:
            raise ValueError("a key points at a decision that is not in the ledger")
        prior = PriorDecision(
            decision_id=row[15],
            effect=Effect(row[16]),
            action_fingerprint=row[17],
            recorded_at=row[-1],
            expires_at=row[18],
            retryable=row[19],
            # Erased disclosures leave the signed part alone.
            token=row[20] + (row[21] if row[21] is not None else b"~"),
            position=Position(writer=row[22], seq=row[23]),
            has_outcome=row[-2] is not None,
        )
    entities, listed = _entities(row[_ENTITIES:_CLOCK], request)
    return Facts(
        now=row[0],
        epoch=row[1],
        settings=settings,
        data_revisions={
            "settings": row[2],
            "tools": row[3],
            "agents": row[4],
            "signals": row[5],
            "entities": row[_CLOCK],
        },
        session=session_from_row(row[_SESSION:_TOOL]) if row[_SESSION] is not None else None,
        tool=tool_from_row(row[_TOOL : _TOOL + TOOL_WIDTH]) if row[_TOOL] is not None else None,
        agents=agents,
        signals=signals,
        prior=prior,
        entities=entities,
        listed=listed,
        key_version=row[_HOLDS] or 0,
        holds=tuple(
            Hold(decision_id=decision_id, state=HoldState(state), given=given)
            for decision_id, state, given in _rows(row[_HOLDS + 1 : _COUNTERS])
        ),
        counters={
            CounterKey(scope, unit): Counter(total, buckets_from(buckets))
            for scope, unit, total, buckets in _rows(row[_COUNTERS:_PREREQUISITES])
        },
        prerequisites={
            PrerequisiteKey(tool=tool, arguments=arguments): PriorAnswer(
                effect=Effect(effect),
                waited=waited,
                amount=None if minor is None else Amount(minor=minor, currency=currency),
            )
            for tool, arguments, effect, waited, minor, currency in _rows(row[_PREREQUISITES:_RULES])
        },
        prerequisite_of=tuple(tuple(_parsed(same)) for same in row[_RULES] or ()),
        grants=_grants(row[_GRANTS : _GRANTS + GRANT_WIDTH]),
    )
