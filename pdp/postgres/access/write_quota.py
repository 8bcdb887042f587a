"""How often operators may write, counted in the database: one count for all replicas."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import NamedTuple

from pdp.errors import QuotaExceededError
from pdp.postgres.access.connection import Connection

# So many seconds of writes may come at once.
BURST_SECONDS = 1.0
# The generic cell rate algorithm (ITU-T I.371, Annex A): `next_at` is when the next write would be due if all
# came evenly. The row stays locked until the write commits; a refused write is rolled back, and not counted.
_TAKE = """
    WITH moment AS MATERIALIZED (SELECT placet.now() AS now)
    INSERT INTO placet.write_quotas AS q (tenant, name, next_at)
    SELECT %(tenant)s, %(name)s, m.now + %(interval)s FROM moment m
    ON CONFLICT (tenant, name) DO UPDATE SET next_at = greatest(q.next_at, placet.now()) + %(interval)s
    RETURNING extract(epoch FROM next_at - placet.now())::float8
"""


class CountedWrites(NamedTuple):
    """What a quota counts: the setting that says how often, and the words for it."""

    setting: str
    what: str


CONTROL_WRITES = CountedWrites(
    "control_writes_per_second",
    "settings, agents, tools, signals and issuers, by all who write for one tenant",
)
ENTITY_WRITES = CountedWrites("entity_writes_per_second", "entities, by one credential")


@dataclass(frozen=True, slots=True)
class WriteQuota:
    """So many writes a second, for each name of a tenant. None: as many as come."""

    per_second: float | None = None

    async def take(self, connection: Connection, tenant: str, name: str, counted: CountedWrites) -> None:
        """Count a write in its own transaction, before it takes any other lock.

        Raises `QuotaExceededError` with a hint when the next one has room.
        """
        if self.per_second is None:
            return
        interval = timedelta(seconds=1 / self.per_second)
        cursor = await connection.execute(_TAKE, {"tenant": tenant, "name": name, "interval": interval})
        row = await cursor.fetchone()
        assert row is not None  # it writes one row
        excess = row[0] - max(BURST_SECONDS, interval.total_seconds())
        if excess > 0:
            raise QuotaExceededError(
                excess,
                quota=counted.setting,
                size=f"{self.per_second:g} writes a second of {counted.what}",
                advice="wait as long as the hint says, or put more into one write",
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class WriteQuotas:
    """How often operators may write."""

    # What moves a tenant's epoch, by all of its writers together.
    control: WriteQuota = WriteQuota()
    # A tenant's entities, by each credential.
    entities: WriteQuota = WriteQuota()
