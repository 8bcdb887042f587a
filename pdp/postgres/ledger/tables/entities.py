"""Entities: read under their advisory locks, which recordings share."""

from __future__ import annotations

from pdp.model import EntityName
from pdp.postgres.access.arrays import texts
from pdp.postgres.columns import Columns, RowParameters
from pdp.postgres.ledger.tables.table import RowLock


def _found(tenant: str, type: str, id: str, revision: int) -> tuple[tuple[str, EntityName], int]:
    return (tenant, EntityName(type=type, id=id)), revision


_FOUND = Columns(_found)
_KEY = RowParameters(tenant=texts, type=texts, id=texts)
# Their advisory locks were taken before: an entity that does not exist is locked too.
READ = RowLock(
    wanted=lambda batch: [(tenant, name.type, name.id) for tenant, name in batch.entities],
    parameters=_KEY,
    statement=f"""
        SELECT {_FOUND.select("x")}
        FROM {_KEY.unnest("r")}
        CROSS JOIN LATERAL (
            SELECT {_FOUND.select("y")}
            FROM placet.entities y
            WHERE y.tenant = r.tenant AND y.type = r.type AND y.id = r.id
            LIMIT 1
        ) x
    """,
    make=_FOUND.make,
)
