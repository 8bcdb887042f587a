"""Entities: written under their own locks, one revision a write, every version kept."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal

from psycopg.types.numeric import Int8

from pdp.errors import TenantUnknownError
from pdp.model import JSON, Attribution, Difference, EntityName, EntityVersion, Posting
from pdp.ports import NOTHING_POSTED, EntityStore
from pdp.postgres.access.connection import Connection, storable
from pdp.postgres.access.locks import entity_lock
from pdp.postgres.access.undoing import Runner, Undoing, UndoneError
from pdp.postgres.access.write_quota import ENTITY_WRITES, WriteQuota
from pdp.postgres.columns import Columns
from pdp.postgres.postings import write_postings
from pdp.postgres.rows import ATTRIBUTION, json_text, json_value

# The row of the entity clock is written first, which makes writes of a tenant follow each other. It stays
# locked until the commit, so that no later revision can be seen before this one.
_TICK = """
    INSERT INTO placet.entity_clock AS c (tenant, revision)
    SELECT t.tenant, 1 FROM placet.tenants t WHERE t.tenant = %s
    ON CONFLICT (tenant) DO UPDATE SET revision = c.revision + 1
    RETURNING revision
"""
_LOCK = "SELECT pg_advisory_xact_lock(k.lock) FROM unnest(%s::bigint[]) AS k(lock)"
_WRITE = """
    INSERT INTO placet.entities (tenant, type, id, attributes, revision, deleted)
    SELECT %s, n.type, n.id, n.attributes, %s, %s
    FROM unnest(%s::text[], %s::text[], %s::text[]) AS n(type, id, attributes)
    ON CONFLICT (tenant, type, id) DO UPDATE
    SET attributes = EXCLUDED.attributes, revision = EXCLUDED.revision, deleted = EXCLUDED.deleted
"""
_REMEMBER = """
    INSERT INTO placet.entity_history (
        tenant, type, id, revision, attributes, deleted, written_by, written_by_issuer, reason, written_at,
        posted)
    SELECT %s, n.type, n.id, %s, n.attributes, %s, %s, %s, %s, placet.now(), n.posted
    FROM unnest(%s::text[], %s::text[], %s::text[], %s::text[]) AS n(type, id, attributes, posted)
"""


def _entity_version(
    type: str,
    id: str,
    revision: int,
    attributes: str,
    deleted: bool,
    written_at: datetime,
    written_by: str,
    written_by_issuer: str | None,
    reason: str | None,
    posted: str | None,
) -> EntityVersion:
    return EntityVersion(
        name=EntityName(type=type, id=id),
        revision=revision,
        attributes=None if deleted else json_value(attributes),
        by=ATTRIBUTION.make(written_by, written_by_issuer, reason),
        written_at=written_at,
        posted={} if posted is None else _posted_from(posted),
    )


def _posted_text(postings: Sequence[Posting]) -> str | None:
    """Return as JSON text what a write says that figures contain; None: nothing."""
    if not postings:
        return None
    return json_text({posting.decision_id: format(posting.amount, "f") for posting in postings})


def _posted_from(text: str) -> dict[str, Decimal]:
    return {decision_id: Decimal(amount) for decision_id, amount in json_value(text).items()}


ENTITY_VERSION = Columns(_entity_version)


class PostgresEntityStore:
    """`pdp.ports.EntityStore`."""

    def __init__(self, pool: Runner, *, quota: WriteQuota) -> None:
        """`quota` is that of each credential."""
        self._pool = pool
        self._quota = quota
        # One write at a time: each locks every entity that it names, out of room that the server shares
        # (max_locks_per_transaction).
        self._turn = asyncio.Lock()

    async def _take(self, connection: Connection, tenant: str, by: Attribution) -> None:
        """Count a write of the author's. Raises `OverloadedError`."""
        name = json_text(["entities", by.issuer, by.subject])
        await self._quota.take(connection, tenant, name, ENTITY_WRITES)

    async def put_entities(
        self,
        tenant: str,
        entities: Mapping[EntityName, Mapping[str, JSON]],
        *,
        by: Attribution,
        posted: Mapping[EntityName, Sequence[Posting]] = NOTHING_POSTED,
    ) -> int:
        _storable(entities)
        stated = {name: posted.get(name, ()) for name in entities}
        _storable_postings(stated)
        texts = {name: _text(attributes) for name, attributes in entities.items()}

        async def work(connection: Connection) -> int:
            await self._take(connection, tenant, by)
            revision = await _begin(connection, tenant, list(texts))
            await write_postings(connection, tenant, stated, revision, whole=True)
            await _write(connection, tenant, texts, revision, deleted=False, by=by, posted=stated)
            return revision

        async with self._turn:
            return await self._pool.run(work)

    async def patch_entity(
        self,
        tenant: str,
        name: EntityName,
        *,
        set_: Mapping[str, JSON],
        unset: Sequence[str],
        check: Callable[[Mapping[str, JSON]], None],
        by: Attribution,
        posted: Sequence[Posting] = (),
    ) -> EntityVersion | None:
        _storable([name])
        stated = {name: posted}
        _storable_postings(stated)

        async def work(connection: Connection) -> EntityVersion | None:
            # Nothing is begun for an entity that does not exist: a patch of nothing makes no revision.
            if await _read(connection, tenant, [name]) == {}:
                return None
            await self._take(connection, tenant, by)
            revision = await _begin(connection, tenant, [name])
            before = await _read(connection, tenant, [name])
            if name not in before:
                raise _GoneError
            kept = {key: value for key, value in before[name].items() if key not in unset}
            after = kept | dict(set_)
            check(after)
            await write_postings(connection, tenant, stated, revision, whole=False)
            await _write(
                connection, tenant, {name: _text(after)}, revision, deleted=False, by=by, posted=stated
            )
            return await _version(connection, tenant, name, revision)

        async with self._turn:
            try:
                return await self._pool.run(work)
            except _GoneError:
                return None

    async def delete_entities(self, tenant: str, names: Sequence[EntityName], *, by: Attribution) -> int:
        _storable(names)

        async def work(connection: Connection) -> int:
            await self._take(connection, tenant, by)
            revision = await _begin(connection, tenant, names)
            there = await _read(connection, tenant, names)
            await _write(connection, tenant, dict.fromkeys(there, "{}"), revision, deleted=True, by=by)
            return revision

        async with self._turn:
            return await self._pool.run(work)

    async def preview(
        self,
        tenant: str,
        names: Sequence[EntityName],
        write: Callable[[EntityStore], Awaitable[object]],
    ) -> Sequence[Difference]:
        _storable(names)
        storable("tenant", tenant)
        undoing = Undoing(self._pool, lambda connection: _read(connection, tenant, names))
        try:
            await write(PostgresEntityStore(undoing, quota=self._quota))
        except UndoneError as exc:
            return [
                Difference(
                    name=str(name),
                    before=_text(exc.before[name]) if name in exc.before else None,
                    after=_text(exc.after[name]) if name in exc.after else None,
                )
                for name in sorted({*exc.before, *exc.after}, key=str)
            ]
        # The write found nothing to write.
        return ()

    async def entity_at(
        self, tenant: str, name: EntityName, *, revision: int | None = None
    ) -> EntityVersion | None:
        _storable([name])
        return await self._pool.run(lambda connection: _version(connection, tenant, name, revision))

    async def entity_history(
        self, tenant: str, name: EntityName, *, before: int | None, limit: int
    ) -> Sequence[EntityVersion]:
        _storable([name])

        async def work(connection: Connection) -> Sequence[EntityVersion]:
            cursor = await connection.execute(
                f"""
                SELECT {ENTITY_VERSION.select("h")}
                FROM placet.entity_history h
                WHERE h.tenant = %s AND h.type = %s AND h.id = %s
                    AND (%s::bigint IS NULL OR h.revision < %s)
                ORDER BY h.revision DESC LIMIT %s
                """,
                [tenant, name.type, name.id, before, before, limit],
            )
            return [ENTITY_VERSION.read(row) for row in await cursor.fetchall()]

        return await self._pool.run(work)


class _GoneError(Exception):
    """The entity was deleted while its lock was waited for. Raised to undo the transaction and, with it, the
    revision that was taken."""


def _storable(names: Iterable[EntityName]) -> None:
    for name in names:
        storable("name.type", name.type)
        storable("name.id", name.id)


def _storable_postings(posted: Mapping[EntityName, Sequence[Posting]]) -> None:
    for postings in posted.values():
        for posting in postings:
            storable(f"{posting.field}.decision_id", posting.decision_id)


def _text(attributes: Mapping[str, JSON]) -> str:
    """Return attributes as JSON text in ASCII. SQL reads it too: `pdp.postgres.facts.statement`."""
    return json_text(attributes)


async def _begin(connection: Connection, tenant: str, names: Sequence[EntityName]) -> int:
    """Return the write's revision, with every entity locked."""
    cursor = await connection.execute(_TICK, [storable("tenant", tenant)])
    row = await cursor.fetchone()
    if row is None:
        raise TenantUnknownError(f"there is no tenant {tenant}")
    locks = sorted({entity_lock(tenant, name) for name in names})
    await connection.execute(_LOCK, [[Int8(lock) for lock in locks]])
    revision: int = row[0]
    return revision


async def _read(
    connection: Connection, tenant: str, names: Sequence[EntityName]
) -> dict[EntityName, dict[str, JSON]]:
    cursor = await connection.execute(
        """
        SELECT x.type, x.id, x.attributes
        FROM unnest(%s::text[], %s::text[]) AS r(type, id)
        CROSS JOIN LATERAL (
            SELECT y.type, y.id, y.attributes FROM placet.entities y
            WHERE y.tenant = %s AND y.type = r.type AND y.id = r.id AND NOT y.deleted
            LIMIT 1
        ) x
        """,
        [[name.type for name in names], [name.id for name in names], tenant],
    )
    return {
        EntityName(type=kind, id=entity_id): json_value(text)
        for kind, entity_id, text in await cursor.fetchall()
    }


async def _write(
    connection: Connection,
    tenant: str,
    texts: Mapping[EntityName, str],
    revision: int,
    *,
    deleted: bool,
    by: Attribution,
    posted: Mapping[EntityName, Sequence[Posting]] = NOTHING_POSTED,
) -> None:
    said = [_posted_text(posted.get(name, ())) for name in texts]
    columns = [[name.type for name in texts], [name.id for name in texts], list(texts.values())]
    await connection.execute(_WRITE, [tenant, revision, deleted, *columns])
    await connection.execute(
        _REMEMBER, [tenant, revision, deleted, by.subject, by.issuer, by.reason, *columns, said]
    )


async def _version(
    connection: Connection, tenant: str, name: EntityName, revision: int | None
) -> EntityVersion | None:
    cursor = await connection.execute(
        f"""
        SELECT {ENTITY_VERSION.select("h")}
        FROM placet.entity_history h
        WHERE h.tenant = %s AND h.type = %s AND h.id = %s AND (%s::bigint IS NULL OR h.revision <= %s)
        ORDER BY h.revision DESC LIMIT 1
        """,
        [tenant, name.type, name.id, revision, revision],
    )
    row = await cursor.fetchone()
    return None if row is None else ENTITY_VERSION.read(row)
