"""What operators write. Every write holds the tenant's control lock and moves its epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Literal

from psycopg import sql

from pdp.action.registration import details, read_registration
from pdp.errors import InvalidFieldError, TenantUnknownError
from pdp.model import (
    Agent,
    Attribution,
    IssuerKeys,
    IssuerKeysSnapshot,
    IssuerList,
    Signal,
    Tool,
    ToolPage,
    ToolRevision,
)
from pdp.postgres.access.connection import Connection, storable
from pdp.postgres.access.locks import control_lock
from pdp.postgres.access.pool import Pool
from pdp.postgres.columns import Columns
from pdp.postgres.rows import ATTRIBUTION, TOOL, instant_text, json_text, json_value, tool_text
from pdp.sessions.task_tokens import MAX_ISSUERS

# What the history says of a tool that a roll-back removed.
_REMOVED = "null"


def _issuer_keys(issuer: str, keys: str, revision: int, written_at: datetime) -> IssuerKeys:
    return IssuerKeys(issuer=issuer, keys=tuple(json_value(keys)), revision=revision, written_at=written_at)


ISSUER_KEYS = Columns(_issuer_keys)
_PUT_TOOL = f"""
    INSERT INTO placet.tools (tenant, {", ".join(TOOL.names)})
    VALUES (%(tenant)s, {", ".join(f"%({name})s" for name in TOOL.names)})
    ON CONFLICT (tenant, name) DO UPDATE
    SET {", ".join(f"{name} = EXCLUDED.{name}" for name in TOOL.names if name != "name")}
"""
_Kind = Literal["settings", "agents", "tools", "signals", "issuers"]


class PostgresControlPlane:
    """`pdp.ports.ControlPlane`."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def put_tenant(self, tenant: str, settings: bytes, *, by: Attribution) -> int:
        storable("tenant", tenant)
        try:
            text = storable("settings", settings.decode())
            if not isinstance(json_value(text), dict):
                raise InvalidFieldError("settings", "is not a JSON object")
        except ValueError as exc:
            raise InvalidFieldError("settings", "is not JSON") from exc

        async def work(connection: Connection) -> int:
            await _lock(connection, tenant)
            cursor = await connection.execute(
                """
                INSERT INTO placet.tenants AS t (tenant, settings) VALUES (%s, %s)
                ON CONFLICT (tenant) DO UPDATE
                SET settings = EXCLUDED.settings, settings_revision = t.settings_revision + 1,
                    epoch = t.epoch + 1
                RETURNING settings_revision
                """,
                [tenant, text],
            )
            revision = _one(await cursor.fetchone())
            await _add_history(connection, tenant, "settings", revision, [("", text)], by=by)
            return revision

        return await self._pool.run(work)

    async def put_agents(self, tenant: str, agents: Sequence[Agent], *, by: Attribution) -> int:
        for agent in agents:
            for text in (agent.agent, agent.owner, agent.trust_explanation, agent.model, agent.version):
                storable("agents", text)
            if agent.trust is not None and not (agent.trust.is_finite() and 0 <= agent.trust <= 1):
                raise InvalidFieldError("agents.trust", "is not between 0 and 1")

        async def work(connection: Connection) -> int:
            revision = await _new_revision(connection, tenant, "agents")
            cursor = connection.cursor()
            await cursor.executemany(
                """
                INSERT INTO placet.agents (
                    tenant, agent, owner, trust, trust_explanation, model, version, revision)
                VALUES (%s, %s, %s, %s, %s, %s, %s, %s)
                ON CONFLICT (tenant, agent) DO UPDATE
                SET owner = EXCLUDED.owner, trust = EXCLUDED.trust,
                    trust_explanation = EXCLUDED.trust_explanation,
                    model = EXCLUDED.model, version = EXCLUDED.version, revision = EXCLUDED.revision
                """,
                [
                    (tenant, a.agent, a.owner, a.trust, a.trust_explanation, a.model, a.version, revision)
                    for a in agents
                ],
            )
            said = {
                a.agent: json_text(
                    {
                        "agent": a.agent,
                        "owner": a.owner,
                        "trust": a.trust,
                        "trust_explanation": a.trust_explanation,
                        "model": a.model,
                        "version": a.version,
                    }
                )
                for a in agents
            }
            await _add_history(connection, tenant, "agents", revision, list(said.items()), by=by)
            return revision

        return await self._pool.run(work)

    async def put_tools(self, tenant: str, tools: Sequence[Tool], *, by: Attribution) -> int:
        for tool in tools:
            for text in (tool.name, tool.resource, tool.arguments_schema, tool.description):
                storable("tools", text)
            storable("tools", json_text(details(tool)))

        async def work(connection: Connection) -> int:
            revision = await _new_revision(connection, tenant, "tools")
            await _write_tools(connection, tenant, tools, revision, by=by)
            return revision

        return await self._pool.run(work)

    async def tools(
        self, tenant: str, *, revision: int | None = None, after: str = "", limit: int = 50
    ) -> ToolPage:
        for text in (tenant, after):
            storable("after", text)

        async def work(connection: Connection) -> ToolPage:
            of = await _tools_revision(connection, tenant)
            of = of if revision is None else min(of, revision)
            return ToolPage(of, await _tools_at(connection, tenant, of, after=after, limit=limit))

        return await self._pool.run(work)

    async def tool_history(self, tenant: str, *, before: int | None, limit: int) -> Sequence[ToolRevision]:
        storable("tenant", tenant)

        async def work(connection: Connection) -> Sequence[ToolRevision]:
            cursor = await connection.execute(
                """
                SELECT h.revision, min(h.written_at),
                       array_agg(h.name ORDER BY h.name COLLATE "C") FILTER (WHERE h.content <> %s),
                       array_agg(h.name ORDER BY h.name COLLATE "C") FILTER (WHERE h.content = %s),
                       min(h.written_by), min(h.written_by_issuer), min(h.reason)
                FROM placet.registry_history h
                WHERE h.tenant = %s AND h.kind = 'tools' AND (%s::bigint IS NULL OR h.revision < %s)
                GROUP BY h.revision ORDER BY h.revision DESC LIMIT %s
                """,
                [_REMOVED, _REMOVED, tenant, before, before, limit],
            )
            return [
                ToolRevision(
                    revision=revision,
                    written_at=written_at,
                    written=tuple(written or ()),
                    removed=tuple(removed or ()),
                    by=ATTRIBUTION.find(by),
                )
                for revision, written_at, written, removed, *by in await cursor.fetchall()
            ]

        return await self._pool.run(work)

    async def roll_back_tools(self, tenant: str, revision: int, *, by: Attribution) -> int | None:
        async def work(connection: Connection) -> int | None:
            await _lock(connection, storable("tenant", tenant))
            now = await _tools_revision(connection, tenant)
            if not 1 <= revision <= now:
                return None
            wanted = await _tools_at(connection, tenant, revision)
            there = await _tools_at(connection, tenant, now)
            removed = sorted({tool.name for tool in there} - {tool.name for tool in wanted})
            new = await _new_revision(connection, tenant, "tools")
            await _write_tools(connection, tenant, wanted, new, by=by)
            await connection.execute(
                "DELETE FROM placet.tools WHERE tenant = %s AND name = ANY (%s::text[])", [tenant, removed]
            )
            gone = [(name, _REMOVED) for name in removed]
            await _add_history(connection, tenant, "tools", new, gone, by=by)
            return new

        return await self._pool.run(work)

    async def put_signals(self, tenant: str, signals: Sequence[Signal], *, by: Attribution) -> int:
        try:
            values = [storable("signals.value", json_text(signal.value)) for signal in signals]
        except (TypeError, ValueError) as exc:
            raise InvalidFieldError("signals.value", "is not JSON") from exc
        for signal in signals:
            storable("signals.name", signal.name)

        async def work(connection: Connection) -> int:
            revision = await _new_revision(connection, tenant, "signals")
            cursor = connection.cursor()
            await cursor.executemany(
                """
                INSERT INTO placet.signals (tenant, name, value, expires_at, revision)
                VALUES (%s, %s, %s, %s, %s)
                ON CONFLICT (tenant, name) DO UPDATE
                SET value = EXCLUDED.value, expires_at = EXCLUDED.expires_at, revision = EXCLUDED.revision
                """,
                [
                    (tenant, s.name, value, s.expires_at, revision)
                    for s, value in zip(signals, values, strict=True)
                ],
            )
            said = {
                s.name: json_text(
                    {"name": s.name, "value": s.value, "expires_at": instant_text(s.expires_at)}
                )
                for s in signals
            }
            await _add_history(connection, tenant, "signals", revision, list(said.items()), by=by)
            return revision

        return await self._pool.run(work)

    async def put_issuer_keys(
        self, tenant: str, issuer: str, keys: Sequence[Mapping[str, str]], *, by: Attribution
    ) -> int:
        text = json_text(list(keys))
        for field, value in (("issuer", issuer), ("jwks", text)):
            storable(field, value)

        async def work(connection: Connection) -> int:
            revision = await _new_revision(connection, tenant, "issuers")
            await connection.execute(
                """
                INSERT INTO placet.issuer_keys (tenant, issuer, keys, revision, written_at)
                VALUES (%s, %s, %s, %s, placet.now())
                ON CONFLICT (tenant, issuer) DO UPDATE
                SET keys = EXCLUDED.keys, revision = EXCLUDED.revision, written_at = EXCLUDED.written_at
                """,
                [tenant, issuer, text, revision],
            )
            cursor = await connection.execute(
                "SELECT count(*) FROM placet.issuer_keys WHERE tenant = %s", [tenant]
            )
            if _one(await cursor.fetchone()) > MAX_ISSUERS:
                raise InvalidFieldError("issuer", f"would be more than {MAX_ISSUERS} issuers")
            await _add_history(connection, tenant, "issuers", revision, [(issuer, text)], by=by)
            return revision

        return await self._pool.run(work)

    async def issuer_keys(self, tenant: str) -> IssuerList:
        storable("tenant", tenant)

        async def work(connection: Connection) -> IssuerList:
            # One statement reads one snapshot.
            cursor = await connection.execute(
                f"""
                SELECT t.issuers_revision, {ATTRIBUTION.select("h")}, {ISSUER_KEYS.select("k")}
                FROM placet.tenants t
                LEFT JOIN placet.issuer_keys k ON k.tenant = t.tenant
                LEFT JOIN placet.registry_history h
                    ON h.tenant = k.tenant AND h.kind = 'issuers' AND h.revision = k.revision
                    AND h.name = k.issuer
                WHERE t.tenant = %s
                ORDER BY k.issuer COLLATE "C"
                """,
                [tenant],
            )
            rows = await cursor.fetchall()
            if not rows:
                raise TenantUnknownError(f"there is no tenant {tenant}")
            revision, *_ = rows[0]
            width = 1 + len(ATTRIBUTION.names)
            found = [(ISSUER_KEYS.find(row[width:]), ATTRIBUTION.find(row[1:width])) for row in rows]
            return IssuerList(revision, [replace(keys, by=by) for keys, by in found if keys is not None])

        return await self._pool.run(work)

    async def keys_of(self, tenant: str, issuer: str) -> IssuerKeysSnapshot:
        for field, value in (("tenant", tenant), ("issuer", issuer)):
            storable(field, value)

        async def work(connection: Connection) -> IssuerKeysSnapshot:
            cursor = await connection.execute(
                f"""
                SELECT t.epoch, {ISSUER_KEYS.select("k")}
                FROM placet.tenants t
                LEFT JOIN placet.issuer_keys k ON k.tenant = t.tenant AND k.issuer = %s
                WHERE t.tenant = %s
                """,
                [issuer, tenant],
            )
            row = await cursor.fetchone()
            if row is None:
                raise TenantUnknownError(f"there is no tenant {tenant}")
            epoch, *columns = row
            return IssuerKeysSnapshot(ISSUER_KEYS.find(columns), epoch)

        return await self._pool.run(work)


async def _write_tools(
    connection: Connection, tenant: str, tools: Sequence[Tool], revision: int, *, by: Attribution
) -> None:
    cursor = connection.cursor()
    await cursor.executemany(_PUT_TOOL, [_tool_row(tenant, tool, revision) for tool in tools])
    # Rules are never removed: one that no tool has any more costs a row, a missing one a prerequisite.
    rules = {(rule.tool, tuple(sorted(rule.same))) for tool in tools for rule in tool.prerequisites}
    await cursor.executemany(
        """
        INSERT INTO placet.prerequisite_rules (tenant, tool, same)
        VALUES (%s, %s, %s::text[])
        ON CONFLICT DO NOTHING
        """,
        [(tenant, name, list(same)) for name, same in sorted(rules)],
    )
    said = [(tool.name, tool_text(tool)) for tool in tools]
    await _add_history(connection, tenant, "tools", revision, said, by=by)


async def _tools_revision(connection: Connection, tenant: str) -> int:
    cursor = await connection.execute(
        "SELECT t.tools_revision FROM placet.tenants t WHERE t.tenant = %s", [tenant]
    )
    row = await cursor.fetchone()
    if row is None:
        raise TenantUnknownError(f"there is no tenant {tenant}")
    return _one(row)


async def _tools_at(
    connection: Connection, tenant: str, revision: int, *, after: str = "", limit: int | None = None
) -> list[Tool]:
    """Return the tools as they stood at `revision`, by name, each with the revision that wrote it."""
    cursor = await connection.execute(
        """
        SELECT l.content, l.revision
        FROM (
            SELECT DISTINCT ON (h.name) h.name, h.content, h.revision
            FROM placet.registry_history h
            WHERE h.tenant = %s AND h.kind = 'tools' AND h.revision <= %s AND h.name COLLATE "C" > %s
            ORDER BY h.name, h.revision DESC
        ) l
        WHERE l.content <> %s
        ORDER BY l.name COLLATE "C" LIMIT %s
        """,
        [tenant, revision, after, _REMOVED, limit],
    )
    return [read_registration(json_value(content), revision=of) for content, of in await cursor.fetchall()]


def _tool_row(tenant: str, tool: Tool, revision: int) -> dict[str, Any]:
    """Return the parameters of `_PUT_TOOL`."""
    amount = tool.amount
    return {
        "tenant": tenant,
        "name": tool.name,
        "effect": tool.effect.value,
        "resource": tool.resource,
        "arguments_schema": tool.arguments_schema,
        "amount_argument": amount.argument if amount else None,
        "amount_unit": amount.unit.value if amount and amount.unit else None,
        "amount_currency_argument": amount.currency_argument if amount else None,
        "amount_currency_code": amount.currency_code if amount else None,
        "secret_arguments": list(tool.secret_arguments),
        "description": tool.description,
        "revision": revision,
        "details": json_text(details(tool)),
    }


async def _lock(connection: Connection, tenant: str) -> None:
    """Wait for every recording of the tenant that is under way, and hold back new ones."""
    await connection.execute("SELECT pg_advisory_xact_lock(%s)", [control_lock(tenant)])


async def _new_revision(connection: Connection, tenant: str, kind: _Kind) -> int:
    """Lock the tenant, move its epoch and the revision of `kind`; return the new revision."""
    await _lock(connection, storable("tenant", tenant))
    column = sql.Identifier(f"{kind}_revision")
    cursor = await connection.execute(
        sql.SQL(
            "UPDATE placet.tenants SET epoch = epoch + 1, {0} = {0} + 1 WHERE tenant = %s RETURNING {0}"
        ).format(column),
        [tenant],
    )
    row = await cursor.fetchone()
    if row is None:
        raise TenantUnknownError(f"there is no tenant {tenant}")
    return _one(row)


async def _add_history(
    connection: Connection,
    tenant: str,
    kind: _Kind,
    revision: int,
    said: Sequence[tuple[str, str]],
    *,
    by: Attribution,
) -> None:
    """Keep what the revision said: names, each with its content as JSON text."""
    cursor = connection.cursor()
    await cursor.executemany(
        """
        INSERT INTO placet.registry_history (
            tenant, kind, revision, name, content, written_by, written_by_issuer, reason)
        VALUES (%s, %s, %s, %s, %s, %s, %s, %s)
        """,
        [(tenant, kind, revision, name, content, by.subject, by.issuer, by.reason) for name, content in said],
    )


def _one(row: tuple[Any, ...] | None) -> int:
    """Return the only column of a statement that returns one row."""
    assert row is not None  # the statement returns a row, or has raised
    value: int = row[0]
    return value
