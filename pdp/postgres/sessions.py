"""Sessions: opened once a task, ended for good."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, LiteralString

import psycopg

from pdp.authority.settings import boundary_template
from pdp.errors import (
    InvalidFieldError,
    PermissionDeniedError,
    SessionMovedError,
    TaskExistsError,
    TenantUnknownError,
)
from pdp.model import (
    MAX_TOKENS,
    Attribution,
    ProofRevocation,
    Session,
    SessionSnapshot,
    StoredOpening,
    TokenIssue,
)
from pdp.postgres.access.connection import Connection, storable
from pdp.postgres.access.locks import control_lock
from pdp.postgres.access.pool import Pool
from pdp.postgres.rows import SESSION, boundary_text, json_value

_SELECT = f"""
    SELECT {SESSION.select("s")}, placet.now()
    FROM placet.sessions s
"""


class PostgresSessionStore:
    """`pdp.ports.SessionStore`."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def open(
        self, tenant: str, session: Session, *, epoch: int | None = None, token: TokenIssue | None = None
    ) -> StoredOpening:
        for field, text in (
            ("tenant", tenant),
            ("session.session_id", session.session_id),
            ("task.id", session.task.id),
            ("task.description", session.task.description),
            ("task.prompt", session.task.prompt),
            ("principal", session.principal),
            ("agent", session.agent),
            ("issuer", session.issuer),
        ):
            storable(field, text)

        async def work(connection: Connection) -> StoredOpening:
            if epoch is not None:
                # Until the commit nobody writes what the opening rests on.
                await connection.execute("SELECT pg_advisory_xact_lock_shared(%s)", [control_lock(tenant)])
            cursor = await connection.execute(
                "SELECT settings, epoch FROM placet.tenants WHERE tenant = %s", [tenant]
            )
            row = await cursor.fetchone()
            if row is None:
                raise TenantUnknownError(f"there is no tenant {tenant}")
            settings, now_at = row
            if epoch not in (None, now_at):
                raise SessionMovedError("the tenant's epoch moved")
            template = boundary_template(json_value(settings))
            stored = await _insert(connection, tenant, replace(session, template=template))
            if stored is None:
                stored = await _existing(connection, tenant, session)
            if token is None:
                return StoredOpening(stored)
            return await _issue_token(connection, tenant, stored, token)

        return await self._pool.run(work)

    async def get(self, tenant: str, session_id: str) -> SessionSnapshot | None:
        if "\0" in session_id:
            return None

        async def work(connection: Connection) -> SessionSnapshot | None:
            cursor = await connection.execute(
                _SELECT + "WHERE tenant = %s AND session_id = %s", [tenant, session_id]
            )
            row = await cursor.fetchone()
            return None if row is None else _snapshot(row)

        return await self._pool.run(work)

    async def complete(self, tenant: str, session_id: str, reason: str) -> Session | None:
        return await self._end(
            """
            UPDATE placet.sessions
            SET state = 'completed', version = version + 1, completed_at = placet.now(), complete_reason = %s
            WHERE tenant = %s AND session_id = %s AND state = 'open' AND expires_at > placet.now()
            """,
            tenant,
            session_id,
            reason,
        )

    async def close(self, tenant: str, session_id: str, reason: str) -> Session | None:
        return await self._end(
            """
            UPDATE placet.sessions
            SET state = 'closed', version = version + 1, closed_at = placet.now(), close_reason = %s
            WHERE tenant = %s AND session_id = %s AND state IN ('open', 'completed')
            """,
            tenant,
            session_id,
            reason,
        )

    async def revoke_proofs(self, tenant: str, session_id: str, *, by: Attribution) -> ProofRevocation | None:
        storable("reason", by.reason)
        if "\0" in session_id:
            return None

        async def work(connection: Connection) -> ProofRevocation | None:
            # Most grants end before the session is locked, so that its decisions wait for few.
            grants = await _revoke_grants(connection, tenant, session_id, by)
            cursor = await connection.execute(
                "SELECT 1 FROM placet.sessions WHERE tenant = %s AND session_id = %s FOR UPDATE",
                [tenant, session_id],
            )
            if await cursor.fetchone() is None:
                return None
            grants += await _revoke_grants(connection, tenant, session_id, by)
            cursor = await connection.execute(
                """
                UPDATE placet.session_tokens
                SET ended_at = placet.now(), ended_by = %s, end_reason = %s
                WHERE tenant = %s AND session_id = %s AND ended_at IS NULL
                """,
                [by.subject, by.reason, tenant, session_id],
            )
            tokens = cursor.rowcount
            # After the lock, so that whatever was recorded in the session before is older.
            cursor = await connection.execute(
                """
                UPDATE placet.sessions
                SET version = version + 1, token_required = true, proofs_ended = true,
                    proofs_revoked_at = placet.now()
                WHERE tenant = %s AND session_id = %s
                RETURNING proofs_revoked_at
                """,
                [tenant, session_id],
            )
            row = await cursor.fetchone()
            assert row is not None  # it is locked
            await _write_history(
                connection, tenant, session_id, "revoked", at=row[0], by=by, tokens=tokens, grants=grants
            )
            return ProofRevocation(revoked_at=row[0], tokens=tokens, grants=grants)

        return await self._pool.run(work)

    async def _end(self, update: LiteralString, tenant: str, session_id: str, reason: str) -> Session | None:
        """Run a guarded update, which may find nothing to change; return the session as it then is."""
        storable("reason", reason)
        if "\0" in session_id:
            return None

        async def work(connection: Connection) -> Session | None:
            await connection.execute(update, [reason, tenant, session_id])
            cursor = await connection.execute(
                _SELECT + "WHERE tenant = %s AND session_id = %s", [tenant, session_id]
            )
            row = await cursor.fetchone()
            return None if row is None else _snapshot(row).session

        return await self._pool.run(work)


def _snapshot(row: Sequence[Any]) -> SessionSnapshot:
    """Read a row of `_SELECT`."""
    *columns, now = row
    return SessionSnapshot(SESSION.read(columns), now)


async def _insert(connection: Connection, tenant: str, session: Session) -> Session | None:
    """Store a session; None if its task has one already, or if it would have expired already."""
    aggregates = session.aggregates
    if aggregates.allow or aggregates.block or aggregates.escalate or aggregates.pay:
        raise InvalidFieldError("session.aggregates", "a new session has no history")
    try:
        cursor = await connection.execute(
            f"""
            INSERT INTO placet.sessions AS s (
                tenant, session_id, task_id, task_description, task_prompt, principal, agent, issuer,
                boundary, template, state, version, opened_at, expires_at, token_required)
            SELECT %(tenant)s, %(session_id)s, %(task_id)s, %(description)s, %(prompt)s, %(principal)s,
                   %(agent)s, %(issuer)s, %(boundary)s, %(template)s, %(state)s, %(version)s,
                   %(opened_at)s, %(expires_at)s, %(token_required)s
            WHERE %(expires_at)s > placet.now()
            ON CONFLICT (tenant, task_id) DO NOTHING
            RETURNING {SESSION.select("s")}
            """,
            {
                "tenant": tenant,
                "session_id": session.session_id,
                "task_id": session.task.id,
                "description": session.task.description,
                "prompt": session.task.prompt,
                "principal": session.principal,
                "agent": session.agent,
                "issuer": session.issuer,
                "boundary": boundary_text(session.boundary),
                "template": None if session.template is None else boundary_text(session.template),
                "state": session.state.value,
                "version": session.version,
                "opened_at": session.opened_at,
                "expires_at": session.expires_at,
                "token_required": session.token_required,
            },
        )
    except psycopg.errors.UniqueViolation as exc:
        raise InvalidFieldError("session.session_id", "is another session's") from exc
    except psycopg.errors.ProgramLimitExceeded as exc:
        raise InvalidFieldError("task.id", "is too long") from exc
    row = await cursor.fetchone()
    return None if row is None else SESSION.read(row)


async def _existing(connection: Connection, tenant: str, session: Session) -> Session:
    """Return the session that the task has. Raises `TaskExistsError` if it was opened with something else."""
    # Openings of one task come one after the other, so that the tokens that live are counted right.
    cursor = await connection.execute(
        _SELECT + "WHERE tenant = %s AND task_id = %s FOR UPDATE", [tenant, session.task.id]
    )
    row = await cursor.fetchone()
    if row is None:
        raise InvalidFieldError("expires_at", "is in the past")
    existing = _snapshot(row).session
    if (existing.issuer, existing.principal, existing.agent, existing.boundary) != (
        session.issuer,
        session.principal,
        session.agent,
        session.boundary,
    ):
        raise TaskExistsError(f"the task {session.task.id} already has a session, opened with something else")
    return existing


async def _issue_token(
    connection: Connection, tenant: str, session: Session, token: TokenIssue
) -> StoredOpening:
    """Store a token of a session that was opened just now; of more than `MAX_TOKENS` the oldest end."""
    revoked_at, signed_at = session.proofs_revoked_at, token.task_issued_at
    if revoked_at is not None and signed_at is not None and signed_at <= revoked_at:
        raise PermissionDeniedError("the task token was issued before the session's proofs were revoked")
    if session.proofs_ended:
        await connection.execute(
            "UPDATE placet.sessions SET proofs_ended = false WHERE tenant = %s AND session_id = %s",
            [tenant, session.session_id],
        )
        session = replace(session, proofs_ended=False)
    await connection.execute(
        """
        INSERT INTO placet.session_tokens (tenant, session_id, token_hash, issued_at, issued_to)
        VALUES (%s, %s, %s, placet.now(), %s)
        """,
        [tenant, session.session_id, token.token_hash, token.by.subject],
    )
    cursor = await connection.execute(
        """
        UPDATE placet.session_tokens t
        SET ended_at = placet.now(), ended_by = %(by)s, end_reason = 'a later one took its place'
        WHERE t.tenant = %(tenant)s AND t.session_id = %(session)s AND t.token_hash IN (
            SELECT x.token_hash
            FROM placet.session_tokens x
            WHERE x.tenant = %(tenant)s AND x.session_id = %(session)s AND x.ended_at IS NULL
            ORDER BY x.issued_at DESC, x.token_hash
            OFFSET %(most)s
        )
        RETURNING t.ended_at
        """,
        {"tenant": tenant, "session": session.session_id, "most": MAX_TOKENS, "by": token.by.subject},
    )
    ended = await cursor.fetchall()
    if ended:
        at = ended[0][0]
        await _write_history(
            connection, tenant, session.session_id, "gave_way", at=at, by=token.by, tokens=len(ended)
        )
    return StoredOpening(session, ended_tokens=len(ended))


async def _revoke_grants(connection: Connection, tenant: str, session_id: str, by: Attribution) -> int:
    """Revoke every grant of the session that is not revoked yet; return how many there were."""
    cursor = await connection.execute(
        """
        UPDATE placet.grants
        SET revoked_at = placet.now(), revoked_by = %s, revoke_reason = %s
        WHERE tenant = %s AND session_id = %s AND revoked_at IS NULL
        """,
        [by.subject, by.reason, tenant, session_id],
    )
    return cursor.rowcount


async def _write_history(
    connection: Connection,
    tenant: str,
    session_id: str,
    what: LiteralString,
    *,
    at: datetime,
    by: Attribution,
    tokens: int,
    grants: int = 0,
) -> None:
    """Keep who ended proofs of a session, and how many lived until then."""
    await connection.execute(
        """
        INSERT INTO placet.session_proof_history (
            tenant, session_id, what, at, by_subject, by_issuer, reason, tokens, grants)
        VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)
        """,
        [tenant, session_id, what, at, by.subject, by.issuer or "", by.reason, tokens, grants],
    )
