"""The statement that gathers facts: one snapshot, for a whole batch of requests."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, NamedTuple

from pdp.authority.order_use import PAID, POSTED
from pdp.model import JSON, EntityQuery, FactsRequest
from pdp.postgres.access.arrays import booleans, texts
from pdp.postgres.access.connection import Connection
from pdp.postgres.columns import Columns, RowParameters, SelectList
from pdp.postgres.rows import (
    AGENT,
    COUNTER,
    GRANT,
    HOLD,
    KEPT_ALLOWS,
    MAX_USES,
    PRIOR_ANSWER,
    PRIOR_DECISION,
    SESSION,
    TOOL,
    json_value,
)


class Scalars(NamedTuple):
    """What a row has one of: the tenant's revisions, and what is known of the business key."""

    epoch: int
    now: datetime
    settings_revision: int
    tools_revision: int
    agents_revision: int
    signals_revision: int
    entities_revision: int
    # JSON text; None in all but the tenant's first row of a batch.
    settings: str | None
    # 0: the key was never held.
    key_version: int
    token_lives: bool


class EntityRow(NamedTuple):
    """An answer to one of the request's entity queries."""

    # Which query, counted from 1.
    place: int
    # None: the entity that the id is an attribute of does not have it, or it is no text.
    id: str | None
    # None: nothing was ever written of the entity.
    revision: int | None
    # JSON text; None: there is no such entity.
    attributes: str | None


@lru_cache(maxsize=256)
def parsed(text: str) -> Any:
    """Return JSON text as a value. Most texts are the same in every batch."""
    return json_value(text)


def _signal(name: str, value: str) -> tuple[str, JSON]:
    return name, parsed(value)


def _prerequisite_rule(same: str) -> tuple[str, ...]:
    """Return the names of the arguments that two calls must have equal."""
    return tuple(parsed(same))


SIGNAL = Columns(_signal)
PREREQUISITE_RULE = Columns(_prerequisite_rule)
ENTITY = Columns(EntityRow)
_ENTITY_EXPRESSIONS = {
    "place": "q.place",
    "id": "n.id",
    "attributes": "CASE WHEN NOT y.deleted THEN y.attributes END",
}

_LIST = SelectList()
SCALARS_AT = _LIST.add(
    Columns(Scalars),
    "t",
    now="moment.now",
    entities_revision="coalesce(c.revision, 0)",
    settings="CASE WHEN r.lead THEN t.settings END",
    key_version="coalesce(b.version, 0)",
    token_lives="st.lives IS NOT NULL",
)
SIGNALS_AT = _LIST.add(SIGNAL, "g")
AGENTS_AT = _LIST.add(AGENT, "a")
# The chain that is presented with a repeat is judged itself. A root grant, which is no part of the key,
# may be another one now than then.
_REVOKED = """CASE WHEN l.leaf_grant <> '' AND r.leaf_grant = '' THEN coalesce((
        SELECT x.revoked_at IS NOT NULL FROM placet.grants x
        WHERE x.tenant = l.tenant AND x.grant_hash = l.leaf_grant
        LIMIT 1
    ), false) ELSE false END"""
PRIOR_AT = _LIST.add(
    PRIOR_DECISION,
    "l",
    claimed_by="k.decision_id",
    disclosures="d.disclosures",
    outcome="ho.outcome",
    revoked=_REVOKED,
)
SESSION_AT = _LIST.add(SESSION, "s")
TOOL_AT = _LIST.add(TOOL, "o")
ENTITIES_AT = _LIST.add(ENTITY, "e")
HOLDS_AT = _LIST.add(HOLD, "h")
COUNTERS_AT = _LIST.add(COUNTER, "n")
MEASURED_AT = _LIST.add(COUNTER, "m")
# The allows of a prerequisite: of each what was done of it, and which allows consumed it. More than are read
# make it pass for consumed.
_ALLOWS = f"""(
                SELECT coalesce(json_agg(json_build_array(
                    a.kept, d.redeemed_at IS NOT NULL, d.outcome, d.believed, d.redeem_required,
                    d.conflicts <> '[]', c.uses
                ) ORDER BY a.place), '[]')::text
                FROM unnest({KEPT_ALLOWS}) WITH ORDINALITY AS a(kept, place)
                LEFT JOIN LATERAL (
                    SELECT x.* FROM placet.holds x
                    WHERE x.tenant = y.tenant AND x.decision_id = split_part(a.kept, ' ', 1)
                    LIMIT 1
                ) d ON true
                CROSS JOIN LATERAL (
                    SELECT json_agg(json_build_array(z.used_by, z.version, z.stands)) AS uses
                    FROM (
                        SELECT u.used_by, coalesce(h.version, 0) AS version,
                               -- What nobody redeemed in time can never be.
                               coalesce(h.state <> 'released' AND NOT (
                                   h.redeem_required AND h.state = 'reserved' AND h.redeemed_at IS NULL
                                   AND h.expires_at <= moment.now
                               ), true) AS stands
                        FROM placet.prerequisite_uses u
                        LEFT JOIN LATERAL (
                            SELECT x.* FROM placet.holds x
                            WHERE x.tenant = u.tenant AND x.decision_id = u.used_by
                            LIMIT 1
                        ) h ON true
                        WHERE u.tenant = y.tenant AND u.decision_id = split_part(a.kept, ' ', 1)
                        LIMIT {MAX_USES + 1}
                    ) z
                ) c
            )"""
PRIOR_ANSWERS_AT = _LIST.add(PRIOR_ANSWER, "p")
PREREQUISITE_RULES_AT = _LIST.add(PREREQUISITE_RULE, "w")
GRANTS_AT = _LIST.add(GRANT, "gr")

# `lead` marks the first request of each tenant: what is the same for all requests of a tenant is sent
# once. A plural names a column of array literals, since a request has any number of those: its agents, the
# members of its entity queries (type, id, of, via, measure), of its counters and of its prerequisites, its
# grants.
_REQUESTS = RowParameters(
    tenant=texts,
    session_id=texts,
    caller=texts,
    leaf_grant=texts,
    tool_call_id=texts,
    review_id=texts,
    tool=texts,
    agents=texts,
    lead=booleans,
    types=texts,
    ids=texts,
    ofs=texts,
    vias=texts,
    measures=texts,
    key=texts,
    scopes=texts,
    units=texts,
    step_tools=texts,
    step_arguments=texts,
    grants=texts,
    session_token=texts,
)
# LIMIT makes each join a look-up by key, whatever the planner believes of the table: one that was empty
# when it looked last would be read whole, each time.
GATHER = f"""
    WITH moment AS MATERIALIZED (SELECT placet.now() AS now)
    SELECT {_LIST.sql}
    FROM {_REQUESTS.unnest("r", ordinality="place")}
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
        SELECT {AGENT.aggregate("x")}
        FROM placet.agents x
        WHERE x.tenant = r.tenant AND x.agent = ANY (r.agents::text[] || s.agent)
    ) a ON true
    LEFT JOIN LATERAL (
        SELECT {SIGNAL.aggregate("x")}
        FROM placet.signals x
        WHERE r.lead AND x.tenant = r.tenant AND (x.expires_at IS NULL OR x.expires_at > moment.now)
    ) g ON true
    LEFT JOIN LATERAL (
        SELECT x.* FROM placet.entity_clock x
        WHERE x.tenant = r.tenant
        LIMIT 1
    ) c ON true
    LEFT JOIN LATERAL (
        SELECT {ENTITY.aggregate("y", **_ENTITY_EXPRESSIONS)}
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
                        WHEN json_typeof(v.value) = 'string' THEN v.value #>> '{{}}' END AS id
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
        SELECT {HOLD.aggregate("y")}
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
        SELECT {COUNTER.aggregate("x")}
        FROM unnest(r.scopes::text[], r.units::text[]) AS q(scope, unit)
        CROSS JOIN LATERAL (
            SELECT {COUNTER.select("y")}
            FROM placet.counters y
            WHERE y.tenant = r.tenant AND y.scope = q.scope AND y.unit = q.unit
            LIMIT 1
        ) x
    ) n ON true
    LEFT JOIN LATERAL (
        SELECT z.*
        FROM (
            SELECT {COUNTER.aggregate("y")}
            FROM unnest(e.place, e.id) AS q(place, id)
            CROSS JOIN LATERAL (
                SELECT (r.types::text[])[q.place] AS type, (r.measures::text[])[q.place] AS measure
            ) w
            CROSS JOIN LATERAL (
                SELECT {COUNTER.select("x")}
                FROM placet.counters x
                WHERE x.tenant = r.tenant
                    -- As `pdp.authority.order_use` names them.
                    AND x.scope = 'measured:' || w.type || ':' || q.id
                    AND x.unit IN ('{PAID}:' || w.measure, '{POSTED}:' || w.measure)
                LIMIT 2
            ) y
            WHERE w.measure IS NOT NULL
        ) z
        -- What is no payment reads none.
        WHERE r.measures <> '{{}}'
    ) m ON true
    LEFT JOIN LATERAL (
        SELECT {PRIOR_ANSWER.aggregate("x")}
        FROM unnest(r.step_tools::text[], r.step_arguments::text[]) AS q(tool, arguments)
        CROSS JOIN LATERAL (
            SELECT {PRIOR_ANSWER.select("y", allows=f"{_ALLOWS} AS allows")}
            FROM placet.prerequisites y
            WHERE y.tenant = r.tenant AND y.session_id = r.session_id AND y.tool = q.tool
                AND y.arguments = q.arguments
            LIMIT 1
        ) x
    ) p ON true
    LEFT JOIN LATERAL (
        SELECT {PREREQUISITE_RULE.aggregate("x", same="array_to_json(x.same)::text")}
        FROM placet.prerequisite_rules x
        WHERE x.tenant = r.tenant AND x.tool = r.tool
    ) w ON true
    LEFT JOIN LATERAL (
        SELECT z.*
        FROM (
            SELECT {GRANT.aggregate("x")}
            FROM unnest(r.grants::text[]) AS q(grant_hash)
            CROSS JOIN LATERAL (
                SELECT {GRANT.select("y")}
                FROM placet.grants y
                WHERE y.tenant = r.tenant AND y.grant_hash = q.grant_hash
                LIMIT 1
            ) x
        ) z
        -- Mostly there are none, and looking for none has its price.
        WHERE r.grants <> '{{}}'
    ) gr ON true
    LEFT JOIN LATERAL (
        SELECT true AS lives FROM placet.session_tokens x
        WHERE x.tenant = r.tenant AND x.session_id = r.session_id AND x.token_hash = r.session_token
            AND x.ended_at IS NULL
        LIMIT 1
    ) st ON true
    ORDER BY r.place
"""


async def query_facts(connection: Connection, requests: Sequence[FactsRequest]) -> list[tuple[Any, ...]]:
    """Return a row for each request, in order: the `…_AT` say what stands where."""
    await connection.plan_anew()
    cursor = connection.cursor(binary=True)
    await cursor.execute(GATHER, parameters(requests), prepare=True)
    return await cursor.fetchall()


def parameters(requests: Sequence[FactsRequest]) -> list[Any]:
    """Return the parameters of `GATHER`."""
    keys = [request.key for request in requests]
    queries = [entity_queries(request) for request in requests]
    seen: set[str] = set()
    lead = []
    for key in keys:
        lead.append(key.tenant not in seen)
        seen.add(key.tenant)
    return _REQUESTS.arrays(
        tenant=[key.tenant for key in keys],
        session_id=[key.session_id for key in keys],
        caller=[key.caller for key in keys],
        leaf_grant=[key.leaf_grant for key in keys],
        tool_call_id=[key.tool_call_id for key in keys],
        review_id=[key.review_id for key in keys],
        tool=[request.tool for request in requests],
        agents=[_array(request.agents) for request in requests],
        lead=lead,
        types=[_array([query.type for query in asked]) for asked in queries],
        ids=[_array([query.id for query in asked]) for asked in queries],
        ofs=[_array([query.of for query in asked]) for asked in queries],
        vias=[_array([query.via for query in asked]) for asked in queries],
        measures=[_array(_measures(asked)) for asked in queries],
        key=[request.business_key for request in requests],
        scopes=[_array([key.scope for key in request.counters]) for request in requests],
        units=[_array([key.unit for key in request.counters]) for request in requests],
        step_tools=[_array([step.tool for step in request.prerequisites]) for request in requests],
        step_arguments=[_array([step.arguments for step in request.prerequisites]) for request in requests],
        grants=[_array(request.grants) for request in requests],
        session_token=[request.session_token_hash or None for request in requests],
    )


def entity_queries(request: FactsRequest) -> list[EntityQuery]:
    """Return what to look up: the call's entities, then those that boundaries list."""
    listed = (EntityQuery(name="", type=name.type, id=name.id) for name in request.listed)
    return [*request.entities, *listed]


def _measures(queries: Sequence[EntityQuery]) -> Sequence[str | None]:
    """Return the measure of each query; none at all where nothing is paid from any of the entities."""
    measures = [query.measure for query in queries]
    return measures if any(measure is not None for measure in measures) else ()


def _array(names: Sequence[str | None]) -> str:
    """Return an array literal (PostgreSQL manual, 8.15.6)."""
    return (
        "{"
        + ",".join(
            "NULL" if t is None else '"' + t.replace("\\", "\\\\").replace('"', '\\"') + '"' for t in names
        )
        + "}"
    )
