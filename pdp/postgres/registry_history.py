"""What each revision of settings, agents, tools, signals and issuers said, and who wrote it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

from psycopg import sql

from pdp.errors import TenantUnknownError
from pdp.model import (
    Agent,
    Attribution,
    ControlKind,
    ControlRevision,
    Difference,
    SettingsVersion,
    Signal,
)
from pdp.postgres.access.connection import Connection
from pdp.postgres.rows import ATTRIBUTION, instant_text, json_text, json_value

# What the history says of something that was removed.
REMOVED = "null"


async def add_history(
    connection: Connection,
    tenant: str,
    kind: ControlKind,
    revision: int,
    said: Sequence[tuple[str, str]],
    *,
    by: Attribution,
) -> None:
    """Keep what a revision says: names, each with JSON text. `REMOVED` stands for what is no more."""
    cursor = connection.cursor()
    await cursor.executemany(
        """
        INSERT INTO placet.registry_history (
            tenant, kind, revision, name, content, written_by, written_by_issuer, reason)
        VALUES (%s, %s, %s, %s, %s, %s, %s, %s)
        """,
        [(tenant, kind, revision, name, content, by.subject, by.issuer, by.reason) for name, content in said],
    )


async def current_revision(connection: Connection, tenant: str, kind: ControlKind) -> int:
    """Return the latest revision of a kind. Raises `TenantUnknownError`."""
    cursor = await connection.execute(
        sql.SQL("SELECT t.{} FROM placet.tenants t WHERE t.tenant = %s").format(
            sql.Identifier(f"{kind}_revision")
        ),
        [tenant],
    )
    row = await cursor.fetchone()
    if row is None:
        raise TenantUnknownError(f"there is no tenant {tenant}")
    revision: int = row[0]
    return revision


async def contents_at(
    connection: Connection,
    tenant: str,
    kind: ControlKind,
    revision: int,
    *,
    after: str = "",
    limit: int | None = None,
) -> list[tuple[str, int]]:
    """Return the JSON texts that stood at `revision`, by name, each with the revision that wrote it."""
    cursor = await connection.execute(
        """
        SELECT l.content, l.revision
        FROM (
            SELECT DISTINCT ON (h.name) h.name, h.content, h.revision
            FROM placet.registry_history h
            WHERE h.tenant = %s AND h.kind = %s AND h.revision <= %s AND h.name COLLATE "C" > %s
            ORDER BY h.name, h.revision DESC
        ) l
        WHERE l.content <> %s
        ORDER BY l.name COLLATE "C" LIMIT %s
        """,
        [tenant, kind, revision, after, REMOVED, limit],
    )
    return [(content, of) for content, of in await cursor.fetchall()]


async def settings_at(connection: Connection, tenant: str, revision: int) -> SettingsVersion | None:
    """Return the settings that stood at `revision`."""
    cursor = await connection.execute(
        f"""
        SELECT h.revision, h.content, h.written_at, {ATTRIBUTION.select("h")}
        FROM placet.registry_history h
        WHERE h.tenant = %s AND h.kind = 'settings' AND h.revision <= %s
        ORDER BY h.revision DESC LIMIT 1
        """,
        [tenant, revision],
    )
    row = await cursor.fetchone()
    if row is None:
        return None
    of, content, written_at, *by = row
    return SettingsVersion(
        revision=of, settings=content.encode(), written_at=written_at, by=ATTRIBUTION.find(by)
    )


async def revisions_before(
    connection: Connection, tenant: str, kind: ControlKind, *, before: int | None, limit: int
) -> Sequence[ControlRevision]:
    """Return the changes of a kind before revision `before`, latest first."""
    cursor = await connection.execute(
        """
        SELECT h.revision, min(h.written_at),
               array_agg(h.name ORDER BY h.name COLLATE "C") FILTER (WHERE h.content <> %s AND h.name <> ''),
               array_agg(h.name ORDER BY h.name COLLATE "C") FILTER (WHERE h.content = %s),
               min(h.written_by), min(h.written_by_issuer), min(h.reason)
        FROM placet.registry_history h
        WHERE h.tenant = %s AND h.kind = %s AND (%s::bigint IS NULL OR h.revision < %s)
        GROUP BY h.revision ORDER BY h.revision DESC LIMIT %s
        """,
        [REMOVED, REMOVED, tenant, kind, before, before, limit],
    )
    return [
        ControlRevision(
            revision=revision,
            written_at=written_at,
            written=tuple(written or ()),
            removed=tuple(removed or ()),
            by=ATTRIBUTION.find(by),
        )
        for revision, written_at, written, removed, *by in await cursor.fetchall()
    ]


async def differences_of(
    connection: Connection, tenant: str, kind: ControlKind, revision: int, *, after: str, limit: int
) -> Sequence[Difference]:
    """Return what a revision said, by name, each with what had been said before."""
    cursor = await connection.execute(
        """
        SELECT h.name, h.content, (
            SELECT p.content FROM placet.registry_history p
            WHERE p.tenant = h.tenant AND p.kind = h.kind AND p.name = h.name AND p.revision < h.revision
            ORDER BY p.revision DESC LIMIT 1
        )
        FROM placet.registry_history h
        WHERE h.tenant = %s AND h.kind = %s AND h.revision = %s
            AND (h.name COLLATE "C" > %s OR h.name = '')
        ORDER BY h.name COLLATE "C" LIMIT %s
        """,
        [tenant, kind, revision, after, limit],
    )
    return [
        Difference(name=name, before=_standing(before), after=_standing(content))
        for name, content, before in await cursor.fetchall()
    ]


def _standing(content: str | None) -> str | None:
    return None if content == REMOVED else content


def agent_text(agent: Agent) -> str:
    """Return what the history says of an agent."""
    return json_text(
        {
            "agent": agent.agent,
            "owner": agent.owner,
            "trust": agent.trust,
            "trust_explanation": agent.trust_explanation,
            "model": agent.model,
            "version": agent.version,
        }
    )


def agent_from(text: str, *, revision: int) -> Agent:
    """Inverse of `agent_text`."""
    said: dict[str, Any] = json_value(text)
    trust = said["trust"]
    return Agent(**{**said, "trust": None if trust is None else Decimal(trust)}, revision=revision)


def signal_text(signal: Signal) -> str:
    """Return what the history says of a signal."""
    return json_text(
        {"name": signal.name, "value": signal.value, "expires_at": instant_text(signal.expires_at)}
    )


def signal_from(text: str) -> Signal:
    """Inverse of `signal_text`."""
    said: dict[str, Any] = json_value(text)
    ends = said["expires_at"]
    return Signal(
        name=said["name"],
        value=said["value"],
        expires_at=None if ends is None else datetime.fromisoformat(ends),
    )
