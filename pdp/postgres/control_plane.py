"""What operators write. Every write holds the tenant's control lock and moves its epoch."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from itertools import islice
from typing import Any

from psycopg import sql

from pdp.action.registration import read_registration, stored_details
from pdp.errors import InvalidFieldError, TenantUnknownError
from pdp.model import (
    Agent,
    AgentPage,
    Attribution,
    ControlKind,
    ControlRevision,
    Difference,
    IssuerKeys,
    IssuerKeysSnapshot,
    IssuerList,
    RegistryOutline,
    SettingsVersion,
    Signal,
    SignalPage,
    Tool,
    ToolPage,
)
from pdp.ports import ControlPlane
from pdp.postgres.access.connection import Connection, storable
from pdp.postgres.access.locks import control_lock
from pdp.postgres.access.pool import Pool
from pdp.postgres.access.undoing import Runner, Undoing, UndoneError
from pdp.postgres.access.write_quota import CONTROL_WRITES, WriteQuota
from pdp.postgres.columns import Columns
from pdp.postgres.registry_history import (
    REMOVED,
    add_history,
    agent_from,
    agent_text,
    contents_at,
    current_revision,
    differences_of,
    revisions_before,
    settings_at,
    signal_from,
    signal_text,
)
from pdp.postgres.rows import ATTRIBUTION, TOOL, TOOL_OUTLINE, json_text, json_value, tool_text
from pdp.sessions.task_tokens import MAX_ISSUERS


def _issuer_keys(issuer: str, keys: str, revision: int, written_at: datetime) -> IssuerKeys:
    return IssuerKeys(issuer=issuer, keys=tuple(json_value(keys)), revision=revision, written_at=written_at)


ISSUER_KEYS = Columns(_issuer_keys)
# A roll-back names every tool that there was.
_MOST_DIFFERENCES = 10_000


_PUT_TOOL = f"""
    INSERT INTO placet.tools (tenant, {", ".join(TOOL.names)})
    VALUES (%(tenant)s, {", ".join(f"%({name})s" for name in TOOL.names)})
    ON CONFLICT (tenant, name) DO UPDATE
    SET {", ".join(f"{name} = EXCLUDED.{name}" for name in TOOL.names if name != "name")}
"""


class PostgresControlPlane:
    """`pdp.ports.ControlPlane`."""

    def __init__(self, pool: Pool, *, quota: WriteQuota, writing: Runner | None = None) -> None:
        """`quota` is each tenant's, for all that moves its epoch. `writing` runs writes; None: `pool`."""
        self._pool = pool
        self._writing: Runner = pool if writing is None else writing
        self._quota = quota

    async def _lock(self, connection: Connection, tenant: str) -> None:
        """Wait for every recording of the tenant that is under way, and hold back new ones.

        Writers beyond the tenant's quota do not come so far. Raises `OverloadedError`.
        """
        await self._quota.take(connection, tenant, "control", CONTROL_WRITES)
        await connection.execute("SELECT pg_advisory_xact_lock(%s)", [control_lock(tenant)])

    async def put_tenant(self, tenant: str, settings: bytes, *, by: Attribution) -> int:
        storable("tenant", tenant)
        try:
            text = storable("settings", settings.decode())
            if not isinstance(json_value(text), dict):
                raise InvalidFieldError("settings", "is not a JSON object")
        except ValueError as exc:
            raise InvalidFieldError("settings", "is not JSON") from exc

        async def work(connection: Connection) -> int:
            await self._lock(connection, tenant)
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
            await add_history(connection, tenant, ControlKind.SETTINGS, revision, [("", text)], by=by)
            return revision

        return await self._writing.run(work)

    async def patch_settings(
        self, tenant: str, patch: Callable[[bytes], bytes], *, by: Attribution
    ) -> SettingsVersion:
        storable("tenant", tenant)

        async def work(connection: Connection) -> SettingsVersion:
            revision = await _new_revision(connection, tenant, ControlKind.SETTINGS)
            cursor = await connection.execute(
                "SELECT t.settings FROM placet.tenants t WHERE t.tenant = %s", [tenant]
            )
            [before] = await cursor.fetchall()
            text = storable("settings", patch(before[0].encode()).decode())
            await connection.execute(
                "UPDATE placet.tenants SET settings = %s WHERE tenant = %s", [text, tenant]
            )
            await add_history(connection, tenant, ControlKind.SETTINGS, revision, [("", text)], by=by)
            found = await settings_at(connection, tenant, revision)
            assert found is not None  # it was written above
            return found

        return await self._writing.run(work)

    async def put_agents(self, tenant: str, agents: Sequence[Agent], *, by: Attribution) -> int:
        for agent in agents:
            for text in (agent.agent, agent.owner, agent.trust_explanation, agent.model, agent.version):
                storable("agents", text)
            if agent.trust is not None and not (agent.trust.is_finite() and 0 <= agent.trust <= 1):
                raise InvalidFieldError("agents.trust", "is not between 0 and 1")

        async def work(connection: Connection) -> int:
            await self._lock(connection, storable("tenant", tenant))
            revision = await _new_revision(connection, tenant, ControlKind.AGENTS)
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
            said = {a.agent: agent_text(a) for a in agents}
            await add_history(connection, tenant, ControlKind.AGENTS, revision, list(said.items()), by=by)
            return revision

        return await self._writing.run(work)

    async def put_tools(self, tenant: str, tools: Sequence[Tool], *, by: Attribution) -> int:
        for tool in tools:
            for text in (tool.name, tool.resource, tool.arguments_schema, tool.description):
                storable("tools", text)
            storable("tools", json_text(stored_details(tool)))

        async def work(connection: Connection) -> int:
            await self._lock(connection, storable("tenant", tenant))
            revision = await _new_revision(connection, tenant, ControlKind.TOOLS)
            await _write_tools(connection, tenant, tools, revision, by=by)
            return revision

        return await self._writing.run(work)

    async def tools(
        self, tenant: str, *, revision: int | None = None, after: str = "", limit: int = 50
    ) -> ToolPage:
        for text in (tenant, after):
            storable("after", text)

        async def work(connection: Connection) -> ToolPage:
            of = await current_revision(connection, tenant, ControlKind.TOOLS)
            of = of if revision is None else min(of, revision)
            return ToolPage(of, await _tools_at(connection, tenant, of, after=after, limit=limit))

        return await self._pool.run(work)

    async def preview(
        self, tenant: str, kind: ControlKind, write: Callable[[ControlPlane], Awaitable[object]]
    ) -> Sequence[Difference]:
        async def read(connection: Connection) -> Sequence[Difference]:
            """Return what the latest revision changed."""
            try:
                revision = await current_revision(connection, tenant, kind)
            except TenantUnknownError:
                return ()
            return await differences_of(connection, tenant, kind, revision, after="", limit=_MOST_DIFFERENCES)

        storable("tenant", tenant)
        try:
            await write(
                PostgresControlPlane(self._pool, quota=self._quota, writing=Undoing(self._pool, read))
            )
        except UndoneError as exc:
            found: Sequence[Difference] = exc.after
            return found
        # The write found nothing to write.
        return ()

    async def outline(self, tenant: str, agent: str) -> RegistryOutline:
        for text in (tenant, agent):
            storable("agent", text)

        async def work(connection: Connection) -> RegistryOutline:
            cursor = await connection.execute(
                "SELECT EXISTS (SELECT 1 FROM placet.agents a WHERE a.tenant = %s AND a.agent = %s)",
                [tenant, agent],
            )
            [[known]] = await cursor.fetchall()
            cursor = await connection.execute(
                f"SELECT {TOOL_OUTLINE.select('t')} FROM placet.tools t WHERE t.tenant = %s", [tenant]
            )
            tools = [TOOL_OUTLINE.read(row) for row in await cursor.fetchall()]
            return RegistryOutline(agent_known=known, tools=tools)

        return await self._pool.run(work)

    async def settings(self, tenant: str, *, revision: int | None = None) -> SettingsVersion | None:
        storable("tenant", tenant)

        async def work(connection: Connection) -> SettingsVersion | None:
            now = await current_revision(connection, tenant, ControlKind.SETTINGS)
            return await settings_at(connection, tenant, now if revision is None else min(now, revision))

        return await self._pool.run(work)

    async def agents(
        self, tenant: str, *, revision: int | None = None, after: str = "", limit: int = 100
    ) -> AgentPage:
        of, found = await self._contents(tenant, ControlKind.AGENTS, revision, after, limit)
        return AgentPage(of, [agent_from(text, revision=written) for text, written in found])

    async def signals(
        self, tenant: str, *, revision: int | None = None, after: str = "", limit: int = 100
    ) -> SignalPage:
        of, found = await self._contents(tenant, ControlKind.SIGNALS, revision, after, limit)
        return SignalPage(of, [signal_from(text) for text, _ in found])

    async def _contents(
        self, tenant: str, kind: ControlKind, revision: int | None, after: str, limit: int
    ) -> tuple[int, list[tuple[str, int]]]:
        """Return the revision that is shown, and what stood at it by name, as `contents_at` does."""
        for text in (tenant, after):
            storable("after", text)

        async def work(connection: Connection) -> tuple[int, list[tuple[str, int]]]:
            now = await current_revision(connection, tenant, kind)
            of = now if revision is None else min(now, revision)
            return of, await contents_at(connection, tenant, kind, of, after=after, limit=limit)

        return await self._pool.run(work)

    async def history(
        self, tenant: str, kind: ControlKind, *, before: int | None, limit: int
    ) -> Sequence[ControlRevision]:
        storable("tenant", tenant)
        return await self._pool.run(
            lambda connection: revisions_before(connection, tenant, kind, before=before, limit=limit)
        )

    async def differences(
        self, tenant: str, kind: ControlKind, revision: int, *, after: str = "", limit: int = 20
    ) -> Sequence[Difference]:
        for text in (tenant, after):
            storable("after", text)
        return await self._pool.run(
            lambda connection: differences_of(connection, tenant, kind, revision, after=after, limit=limit)
        )

    async def roll_back_tools(self, tenant: str, revision: int, *, by: Attribution) -> int | None:
        async def work(connection: Connection) -> int | None:
            await self._lock(connection, storable("tenant", tenant))
            now = await current_revision(connection, tenant, ControlKind.TOOLS)
            if not 1 <= revision <= now:
                return None
            wanted = await _tools_at(connection, tenant, revision)
            there = await _tools_at(connection, tenant, now)
            removed = sorted({tool.name for tool in there} - {tool.name for tool in wanted})
            new = await _new_revision(connection, tenant, ControlKind.TOOLS)
            await _write_tools(connection, tenant, wanted, new, by=by)
            await connection.execute(
                "DELETE FROM placet.tools WHERE tenant = %s AND name = ANY (%s::text[])", [tenant, removed]
            )
            gone = [(name, REMOVED) for name in removed]
            await add_history(connection, tenant, ControlKind.TOOLS, new, gone, by=by)
            return new

        return await self._writing.run(work)

    async def put_signals(self, tenant: str, signals: Sequence[Signal], *, by: Attribution) -> int:
        try:
            values = [storable("signals.value", json_text(signal.value)) for signal in signals]
        except (TypeError, ValueError) as exc:
            raise InvalidFieldError("signals.value", "is not JSON") from exc
        for signal in signals:
            storable("signals.name", signal.name)

        async def work(connection: Connection) -> int:
            await self._lock(connection, storable("tenant", tenant))
            revision = await _new_revision(connection, tenant, ControlKind.SIGNALS)
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
            said = {s.name: signal_text(s) for s in signals}
            await add_history(connection, tenant, ControlKind.SIGNALS, revision, list(said.items()), by=by)
            return revision

        return await self._writing.run(work)

    async def put_issuer_keys(
        self, tenant: str, issuer: str, keys: Sequence[Mapping[str, str]], *, by: Attribution
    ) -> int:
        text = json_text(list(keys))
        for field, value in (("issuer", issuer), ("jwks", text)):
            storable(field, value)

        async def work(connection: Connection) -> int:
            await self._lock(connection, storable("tenant", tenant))
            revision = await _new_revision(connection, tenant, ControlKind.ISSUERS)
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
            await add_history(connection, tenant, ControlKind.ISSUERS, revision, [(issuer, text)], by=by)
            return revision

        return await self._writing.run(work)

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
            issuers: list[IssuerKeys] = []
            for row in rows:
                revision, *columns = row
                written = iter(columns)
                by = ATTRIBUTION.find(tuple(islice(written, len(ATTRIBUTION.names))))
                keys = ISSUER_KEYS.find(tuple(written))
                if keys is not None:
                    issuers.append(replace(keys, by=by))
            return IssuerList(revision, issuers)

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
    await add_history(connection, tenant, ControlKind.TOOLS, revision, said, by=by)


async def _tools_at(
    connection: Connection, tenant: str, revision: int, *, after: str = "", limit: int | None = None
) -> list[Tool]:
    """Return the tools as they stood at `revision`, by name, each with the revision that wrote it."""
    found = await contents_at(connection, tenant, ControlKind.TOOLS, revision, after=after, limit=limit)
    return [read_registration(json_value(content), revision=of) for content, of in found]


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
        "details": json_text(stored_details(tool)),
    }


async def _new_revision(connection: Connection, tenant: str, kind: ControlKind) -> int:
    """Move the epoch of the tenant, which is locked, and the revision of `kind`; return the new revision."""
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


def _one(row: tuple[Any, ...] | None) -> int:
    """Return the only column of a statement that returns one row."""
    assert row is not None  # the statement returns a row, or has raised
    value: int = row[0]
    return value
