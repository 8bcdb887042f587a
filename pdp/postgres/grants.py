"""Grants: a row for each one that was issued, and whether it was revoked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import psycopg

from pdp.errors import SessionMovedError, StoreUnavailableError, TenantUnknownError
from pdp.model import Boundary, DecisionEffect, Effect, GrantRow, Session, StoredGrant
from pdp.postgres.access.connection import Connection, storable
from pdp.postgres.access.locks import control_lock
from pdp.postgres.access.pool import Pool
from pdp.postgres.columns import Columns, SelectList
from pdp.postgres.rows import GRANT, boundary_from, boundary_text


def _boundary(boundary: str | None) -> Boundary | None:
    return None if boundary is None else boundary_from(boundary)


# A grant names the hash of its parent, so there are no circles, and no path is longer than chains are.
_PATH_LIST = SelectList()
_GRANT_AT = _PATH_LIST.add(GRANT, "p")
_BOUNDARY_AT = _PATH_LIST.add(Columns(_boundary), "p")
_PATH = f"""
    WITH RECURSIVE path AS (
        SELECT x.* FROM placet.grants x WHERE x.tenant = %(tenant)s AND x.grant_hash = %(grant)s
        UNION ALL
        SELECT x.*
        FROM path p
        JOIN placet.grants x ON x.tenant = %(tenant)s AND x.grant_hash = p.parent_hash
    )
    SELECT {_PATH_LIST.sql}
    FROM path p
    ORDER BY p.depth
"""
_OF_SESSION = f"""
    SELECT {_PATH_LIST.sql}
    FROM placet.grants p
    WHERE p.tenant = %(tenant)s AND p.session_id = %(session)s AND p.revoked_at IS NULL
        AND p.expires_at > placet.now()
    ORDER BY p.depth, p.issued_at, p.grant_hash
    LIMIT %(limit)s
"""
# Keys of one session stand next to each other in their index, whatever grant the calls were made on. Calls
# without a grant may be a stranger's, and those move no session.
_DECISIONS = """
    SELECT q.grant_hash, x.decision_id, x.effect
    FROM unnest(%(grants)s::text[]) AS q(grant_hash)
    CROSS JOIN LATERAL (
        SELECT k.decision_id, l.effect
        FROM placet.decision_keys k
        JOIN placet.ledger l ON l.tenant = k.tenant AND l.decision_id = k.decision_id
        WHERE k.tenant = %(tenant)s AND k.session_id = %(session)s AND k.leaf_grant = q.grant_hash
            AND (q.grant_hash <> '' OR l.session_version > 0)
        ORDER BY k.decision_id DESC
        LIMIT %(limit)s
    ) x
    ORDER BY x.decision_id DESC
"""


class PostgresGrantStore:
    """`pdp.ports.GrantStore`."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def add_grant(
        self,
        tenant: str,
        row: GrantRow,
        *,
        boundary: Boundary | None = None,
        opened: Session | None = None,
    ) -> None:
        for field, text in (("to_agent", row.agent), ("purpose", row.purpose), ("caller", row.delegated_by)):
            storable(field, text)

        async def work(connection: Connection) -> None:
            if opened is not None:
                await _share_proofs(connection, tenant, opened)
            try:
                await connection.execute(
                    """
                    INSERT INTO placet.grants (
                        tenant, grant_hash, session_id, parent_hash, agent, delegated_by, depth, purpose,
                        issued_at, expires_at, boundary)
                    VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
                    """,
                    [
                        tenant,
                        row.grant_hash,
                        row.session_id,
                        row.parent_hash,
                        row.agent,
                        row.delegated_by,
                        row.depth,
                        row.purpose,
                        row.issued_at,
                        row.expires_at,
                        None if boundary is None else boundary_text(boundary),
                    ],
                )
            except psycopg.errors.ForeignKeyViolation as exc:
                raise TenantUnknownError(f"there is no tenant {tenant}") from exc
            except psycopg.errors.UniqueViolation as exc:
                raise StoreUnavailableError("the grant is stored already") from exc

        await self._pool.run(work)

    async def grant_path(self, tenant: str, grant_hash: str) -> Sequence[GrantRow]:
        if "\0" in grant_hash:
            return []
        return [row for row, _ in await self.stored_grants(tenant, grant_hash)]

    async def stored_grants(self, tenant: str, grant_hash: str) -> Sequence[StoredGrant]:
        if "\0" in grant_hash:
            return []
        return await self._pool.run(lambda connection: _path(connection, tenant, grant_hash))

    async def session_grants(self, tenant: str, session_id: str, *, limit: int) -> Sequence[StoredGrant]:
        if "\0" in session_id:
            return []

        async def work(connection: Connection) -> list[StoredGrant]:
            cursor = await connection.execute(
                _OF_SESSION, {"tenant": tenant, "session": session_id, "limit": limit}
            )
            rows = await cursor.fetchall()
            return [StoredGrant(_GRANT_AT.read(row), _BOUNDARY_AT.read(row)) for row in rows]

        return await self._pool.run(work)

    async def revoke_grant(self, tenant: str, grant_hash: str, *, by: str, reason: str) -> GrantRow | None:
        storable("reason", reason)
        if "\0" in grant_hash:
            return None

        async def work(connection: Connection) -> GrantRow | None:
            await connection.execute("SELECT pg_advisory_xact_lock(%s)", [control_lock(tenant)])
            cursor = await connection.execute(
                """
                UPDATE placet.grants
                SET revoked_at = placet.now(), revoked_by = %s, revoke_reason = %s
                WHERE tenant = %s AND grant_hash = %s AND revoked_at IS NULL
                """,
                [by, reason, tenant, grant_hash],
            )
            if cursor.rowcount:
                await connection.execute(
                    "UPDATE placet.tenants SET epoch = epoch + 1 WHERE tenant = %s", [tenant]
                )
            path = await _path(connection, tenant, grant_hash)
            return path[-1].row if path else None

        return await self._pool.run(work)

    async def grant_decisions(
        self, tenant: str, session_id: str, grant_hashes: Sequence[str], *, limit: int
    ) -> Mapping[str, Sequence[DecisionEffect]]:
        if any("\0" in text for text in (session_id, *grant_hashes)):
            return {}

        async def work(connection: Connection) -> list[tuple[Any, ...]]:
            cursor = await connection.execute(
                _DECISIONS,
                {"tenant": tenant, "session": session_id, "grants": list(grant_hashes), "limit": limit},
            )
            return await cursor.fetchall()

        found: dict[str, list[DecisionEffect]] = {}
        for grant_hash, decision_id, effect in await self._pool.run(work):
            found.setdefault(grant_hash, []).append(DecisionEffect(decision_id, Effect(effect)))
        return found


async def _share_proofs(connection: Connection, tenant: str, session: Session) -> None:
    """Keep the session's proofs from being revoked until the commit.

    Raises `SessionMovedError` if they were revoked since the session was read.
    """
    cursor = await connection.execute(
        """
        SELECT proofs_revoked_at FROM placet.sessions
        WHERE tenant = %s AND session_id = %s
        FOR SHARE
        """,
        [tenant, session.session_id],
    )
    if await cursor.fetchone() != (session.proofs_revoked_at,):
        raise SessionMovedError("the session's proofs were revoked")


async def _path(connection: Connection, tenant: str, grant_hash: str) -> list[StoredGrant]:
    cursor = await connection.execute(_PATH, {"tenant": tenant, "grant": grant_hash})
    return [StoredGrant(_GRANT_AT.read(row), _BOUNDARY_AT.read(row)) for row in await cursor.fetchall()]
